import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor.applied import Applied
from validator_supervisor.cli import authorize
from validator_supervisor.errors import SupervisorError


@pytest.fixture
def addressed(example: Applied) -> Applied:
    """The example without its forwards to paths, which no node of ours permits."""
    node = example.config.nodes["helsinki"]
    kept = tuple(item for item in node.forwards if not item.remote.startswith("/"))
    nodes = {**example.config.nodes, "helsinki": replace(node, forwards=kept)}
    return replace(example, configured=replace(example.configured, nodes=nodes))


def test_a_path_is_refused_rather_than_left_out(example: Applied, host_key: str) -> None:
    with pytest.raises(SupervisorError) as caught:
        authorize.command(example.config.nodes["helsinki"], example, host_key)
    assert caught.value.code == "NotPermitted"


def test_exactly_the_forwards_of_the_node(addressed: Applied, host_key: str) -> None:
    node = addressed.config.nodes["helsinki"]
    assert authorize.command(node, addressed, host_key) == [
        "validator-supervisor-node",
        "add-validator",
        host_key,
        "--permit-open=lighthouse:5052",
        "--permit-open=proxy:5064",
        "--permit-listen=0.0.0.0:9000",
    ]


def test_what_is_shown_is_what_a_shell_reads(
    addressed: Applied, host_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorize, "public_key", lambda identity: f"{host_key} it's {identity}")
    words = shlex.split(authorize.line(addressed, "helsinki"))
    assert words[:3] == ["validator-supervisor-node", "add-validator", f"{host_key} it's key-1"]


@pytest.mark.parametrize("name", ["local", "unknown", ""])
def test_node_without_a_host(example: Applied, name: str) -> None:
    with pytest.raises(SupervisorError) as caught:
        authorize.line(example, name)
    assert caught.value.code == "UnknownNode"


def test_missing_key_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorize, "STORE", tmp_path)
    with pytest.raises(SupervisorError) as caught:
        authorize.public_key("key-1")
    assert caught.value.code == "NoIdentity"
    assert f"ssh-keygen -t ed25519 -N '' -C '' -f {tmp_path}/validator-tunnel.key-1" in (
        caught.value.hint
    )


def test_printed_command_is_accepted_by_the_node(
    addressed: Applied,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    helper: Callable[[str], ModuleType],
) -> None:
    monkeypatch.setattr(authorize, "STORE", tmp_path)
    path = tmp_path / "validator-tunnel.key-1"
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    try:
        subprocess.run(made, check=True)
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not here: apt install openssh-client")
    module = helper("validator-supervisor-node")
    monkeypatch.setattr(module, "KEYS", tmp_path / "authorized_keys")
    assert module.main(shlex.split(authorize.line(addressed, "helsinki"))[1:]) == 0
    (line,) = (tmp_path / "authorized_keys").read_text().splitlines()
    assert 'permitopen="lighthouse:5052",permitopen="proxy:5064"' in line
    assert 'permitlisten="0.0.0.0:9000"' in line
    assert path.with_suffix(".key-1.pub").read_text().split()[1] in line


def test_damaged_key_is_an_expected_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorize, "STORE", tmp_path)
    path = tmp_path / "validator-tunnel.bad"
    path.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n\xff\n")
    path.chmod(0o600)
    with pytest.raises(SupervisorError) as caught:
        authorize.public_key("bad")
    assert caught.value.code == "ProcessFailed"
