"""A validator host and its nodes, installed and configured the way README.md tells an operator."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import images
from lab.client import PARAMETERS, PORT, PRESET, Chain, lodestar
from lab.host import LabError
from lab.keystores import PASSWORD, keystores
from lab.machine import Machine
from lab.network import Network

FEE_RECIPIENT = "0x00000000000000000000000000000000000000fe"
IDENTITY = "/etc/credstore/validator-tunnel"
CONFIG = "/etc/validator-supervisor/config.yaml"


class World:
    """One network with one validator host, ``host``, and any number of nodes."""

    def __init__(self, network: Network, host: Machine, nodes: dict[str, Machine]) -> None:
        self.network = network
        self.host = host
        self.nodes = nodes
        self.config: dict[str, object] = {"version": 1, "nodes": {}, "validators": {}}

    @classmethod
    @contextlib.contextmanager
    def booted(
        cls,
        suite: str,
        nodes: Sequence[str] = (),
        prefix: str = "",
        *,
        client: bool = False,
        peers: Sequence[str] = (),
    ) -> Iterator["World"]:
        """Boot the machines with our packages installed; ``client`` brings Lodestar.

        ``peers`` are packages of Debian that the host has installed, too.
        """
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(Network.made(prefix))
            spaces = {name: network.add(name) for name in ("host", *nodes)}
            network.add("chain")
            binds = [f"{lodestar()}:/opt/lodestar"] if client else []
            machines = {
                name: stack.enter_context(
                    Machine.boot(
                        f"{name}-{network.prefix}",
                        images.installed(suite, "host", peers)
                        if name == "host"
                        else images.installed(suite, "node"),
                        namespace=space,
                        binds=binds if name == "host" else [],
                    )
                )
                for name, space in spaces.items()
            }
            for machine in machines.values():
                machine.write("/etc/hosts", network.hosts())
            yield cls(network, machines.pop("host"), machines)

    @property
    def chain_address(self) -> str:
        """Return the chain's address as seen from the nodes."""
        return f"{self.network.addresses['chain']}:{PORT}"

    def chain(self, folder: Path) -> contextlib.AbstractContextManager[Chain]:
        """Start the development chain on this network."""
        space = Path("/run/netns") / f"{self.network.prefix}-chain"
        return Chain.started(space, self.network.addresses["chain"], folder)

    def host_key(self, node: str) -> str:
        """Return a node's host key, as its operator reads it there."""
        text = self.nodes[node].output("cat", "/etc/ssh/ssh_host_ed25519_key.pub")
        return " ".join(text.split()[:2])

    def node(self, name: str, **keys: object) -> None:
        """Add a node to the configuration, with a new ssh key for it."""
        path = f"{IDENTITY}.{name}"
        self.host.run("mkdir", "-p", "-m", "0700", "/etc/credstore")
        self.host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path)
        nodes = self.config["nodes"]
        assert isinstance(nodes, dict)
        nodes[name] = {"host": f"{name}.example", "host_key": self.host_key(name), **keys}

    def validator(self, name: str, **keys: object) -> None:
        """Add a validator to the configuration."""
        validators = self.config["validators"]
        assert isinstance(validators, dict)
        validators[name] = keys

    def lodestar_validator(self, name: str) -> None:
        """Add a validator that runs Lodestar on the development chain."""
        self.host.write("/etc/validator-supervisor/lodestar.env", environment_file())
        self.validator(
            name,
            kind="ethereum",
            network="dev",
            fee_recipient=FEE_RECIPIENT,
            release={"client": "lodestar", "binary": "/opt/lodestar/lodestar"},
            args=PARAMETERS,
            environment_file="/etc/validator-supervisor/lodestar.env",
        )

    def write_config(self) -> None:
        """Write the configuration file."""
        # JSON is YAML.
        self.host.write(CONFIG, json.dumps(self.config, indent=2) + "\n")

    def apply(self) -> None:
        """Write and apply the configuration."""
        self.write_config()
        unit = "validator-apply.service"
        if self.host.run("systemctl", "start", unit, check=False).returncode:
            raise LabError(f"{unit} failed\n{self.host.journal(f'--unit={unit}', '--boot')}")

    def authorize(self, name: str) -> None:
        """Let the host into a node: what it prints, run there."""
        line = self.host.output("validator-supervisor", "authorize", name)
        self.nodes[name].run("sh", "-c", line)

    def import_keys(self, name: str) -> None:
        """Give a Lodestar validator its keystores, as its own user."""
        machine, state = self.host, f"/var/lib/validator/{name}"
        machine.systemctl("stop", f"validator@{name}.service")
        user = f"validator_{name}"
        for file, text in keystores().items():
            machine.write(f"/root/keys/{file}", text)
        machine.write("/root/password.txt", PASSWORD)
        machine.run("install", "-d", "-m", "0700", "-o", user, "-g", user, state)
        machine.run("env", *[f"{k}={v}" for k, v in PRESET.items()], "/opt/lodestar/lodestar",
                    "validator", "import", "--network", "dev", "--dataDir", state,
                    "--importKeystores", "/root/keys", "--importKeystoresPassword",
                    "/root/password.txt", seconds=180)  # fmt: skip
        machine.run("chown", "-R", f"{user}:{user}", state)
        machine.run("rm", "-r", "/root/keys", "/root/password.txt")

    def status(self) -> dict[str, object]:
        """Return what `validator-supervisor status --json` prints."""
        found = json.loads(self.host.output("validator-supervisor", "status", "--json"))
        assert isinstance(found, dict)
        return found

    def wait_for_attestation(self, name: str, after: int = 0, seconds: float = 120) -> int:
        """Wait until the beacon node has seen every key in an epoch later than ``after``."""

        def seen() -> int:
            (mine,) = [v for v in self.status()["validators"] if v["Name"] == name]  # type: ignore[attr-defined]
            complete = mine["AttestingKeys"] == len(mine["PublicKeys"]) > 0
            return int(mine["AttestedEpoch"]) if complete and mine["AttestedEpoch"] > after else 0

        return self.host.wait(f"attestation of {name} after epoch {after}", seen, seconds)


def environment_file() -> str:
    """Return the environment of the supervised client."""
    return "".join(f"{name}={value}\n" for name, value in PRESET.items())
