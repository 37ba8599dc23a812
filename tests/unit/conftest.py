"""What the unit tests share: an example configuration, and helpers as modules."""

import base64
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from validator_supervisor import config
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.config import Config
from validator_supervisor.document import parse
from validator_supervisor.errors import ConfigError

# Asserts, and fixtures for those who name it in ``pytest_plugins``.
pytest.register_assert_rewrite("tests.unit.rounds")
TREE = Path(__file__).resolve().parents[2]
# A change that touches nothing must not fail, and nothing is left behind in the tree. What a
# fixture gives is a constant or a function here, so that examples may share it.
settings.register_profile(
    "unit",
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("unit")
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "validator-supervisor-hypothesis")

EXAMPLE = """\
version: 1
nodes:
  local:
    beacon: http://127.0.0.1:5052
    loki: http://127.0.0.1:3100
    backups: /mnt/usb/backups
  helsinki:
    host: hel.example.net
    port: 2222
    user: somebody
    identity: key-1
    host_key: {key}
    beacon: {{dev: "lighthouse:5052"}}
    loki: 127.0.0.1:3100
    backups: supervisor-backups
    control_port: 8001
    forwards:
      - {{local: 5064, remote: "proxy:5064"}}
      - {{local: metrics.sock, remote: /run/metrics}}
      - {{local: 8000, remote: "0.0.0.0:9000", reverse: true}}
      - {{local: /run/control, remote: /run/remote, reverse: true}}
port_range: [13000, 14000]
backup: {{interval: 30min, keep: 12, stop_timeout: 10s, identity_on_nodes: false}}
validators:
  main:
    kind: ethereum
    enabled: true
    network: dev
    fee_recipient: "0x00000000219ab540356cBB839Cbe05303d7705Fa"
    release: {{client: lodestar, binary: /usr/bin/lodestar}}
    nodes: [helsinki, local]
    graffiti: hello
    args: [--metrics]
    environment_file: /etc/main.env
    keys: local
    gas_limit: 60000000
    builder: true
    distributed: false
    doppelganger: off
    on_slashed: network
    require_nodes: 1
  other:
    kind: command
    enabled: false
    user: somebody
    command: [/usr/bin/foo, --bar]
    home: /home/somebody/foo
  hub:
    kind: cosmos
    enabled: false
    home: /data/hub
    daemon: gaiad
    args: [--trace]
    rpc: [http://127.0.0.1:26657, "https://rpc.example.net/hub"]
    key: {{source: ssm, region: eu-west-1, parameter: /hub/key, mode: fifo, active: false}}
"""


def public_key(kind: str = "ssh-ed25519", seed: int = 7) -> str:
    words = [kind.encode(), bytes([seed]) * 32]
    blob = b"".join(len(word).to_bytes(4, "big") + word for word in words)
    return f"{kind} {base64.b64encode(blob).decode()}"


@pytest.fixture(scope="session")
def key() -> Callable[..., str]:
    return public_key


@pytest.fixture(scope="session")
def host_key() -> str:
    return public_key()


@pytest.fixture(scope="session")
def text() -> str:
    return EXAMPLE.format(key=public_key())


@pytest.fixture(scope="session")
def make() -> Callable[[str], Applied]:
    def applied(yaml: str) -> Applied:
        read = config.read(parse(yaml.encode(), "config.yaml"))
        return Applied(read, assign_ports(read, {}))

    return applied


@pytest.fixture(scope="session")
def read() -> Callable[[str], Config]:
    def read(yaml: str) -> Config:
        return config.read(parse(f"version: 1\n{yaml}".encode(), "config.yaml"))

    return read


@pytest.fixture(scope="session")
def refusal(read: Callable[[str], Config]) -> Callable[[str], str]:
    """Gives the message for what is refused, and the hint if there is one."""

    def refusal(yaml: str) -> str:
        with pytest.raises(ConfigError) as caught:
            read(yaml)
        assert caught.value.message.startswith("config.yaml:")
        assert caught.value.message.isprintable()
        return str(caught.value)

    return refusal


@pytest.fixture(scope="session")
def example(make: Callable[[str], Applied], text: str) -> Applied:
    return make(text)


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        # Compiled code would land beside the helper, which is shipped as it is.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader = SourceFileLoader(name.replace("-", "_"), str(TREE / "helpers" / name))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module

    return load
