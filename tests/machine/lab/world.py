"""A validator host and its nodes, installed and configured the way README.md tells an operator."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import images, standin
from lab.client import PARAMETERS, PORT, PRESET, Chain, lodestar
from lab.host import LabError
from lab.keystores import PASSWORD, keystores
from lab.machine import Machine
from lab.network import Network

FEE_RECIPIENT = "0x00000000000000000000000000000000000000fe"
IDENTITY = "/etc/credstore/validator-tunnel"
CONFIG = "/etc/validator-supervisor/config.yaml"
PASSPHRASE = "correct horse battery staple"


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
        urgent: bool = False,
    ) -> Iterator["World"]:
        """Boot the machines with our packages installed; ``client`` brings Lodestar.

        ``peers`` are packages of Debian that the host has installed, too; ``urgent`` is for what
        measures time.
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
                        urgent=urgent,
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

    def chain(
        self, folder: Path, *words: str, **others: Any
    ) -> contextlib.AbstractContextManager[Chain]:
        """Start the development chain on this network, with what ``Chain.started`` takes."""
        space = Path("/run/netns") / f"{self.network.prefix}-chain"
        return Chain.started(space, self.network.addresses["chain"], folder, *words, **others)

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

    def lodestar_validator(self, name: str, *words: str) -> None:
        """Add a validator that runs Lodestar on the development chain; ``words`` as for that."""
        self.host.write("/etc/validator-supervisor/lodestar.env", environment_file())
        self.validator(
            name,
            kind="ethereum",
            network="dev",
            fee_recipient=FEE_RECIPIENT,
            release={"client": "lodestar", "binary": "/opt/lodestar/lodestar"},
            args=[*PARAMETERS, *words],
            environment_file="/etc/validator-supervisor/lodestar.env",
        )

    def standin_beacon(
        self, folder: Path, *words: str
    ) -> contextlib.AbstractContextManager[standin.Beacon]:
        """Start the stand-in beacon node where ``chain`` would be; ``words`` are its options."""
        space = Path("/run/netns") / f"{self.network.prefix}-chain"
        return standin.Beacon.started(space, self.network.addresses["chain"], folder, *words)

    def standin_validator(
        self, name: str, environment: Mapping[str, str] | None = None, **keys: object
    ) -> None:
        """Add a validator that runs the stand-in client, and put the client there.

        ``environment`` is what the client's docstring names; ``keys`` are of the configuration.
        """
        standin.install(self.host)
        path = f"/etc/validator-supervisor/{name}.env"
        variables = {"STANDIN_EAGER": "1", **(environment or {})}
        self.host.write(path, "".join(f"{k}={v}\n" for k, v in variables.items()))
        release = {"client": "lodestar", "binary": standin.CLIENT}
        self.validator(
            name,
            **{
                "kind": "ethereum",
                "network": "dev",
                "fee_recipient": FEE_RECIPIENT,
                "release": release,
                "environment_file": path,
                **keys,
            },
        )

    def init_identity(self, passphrase: str = PASSPHRASE) -> str:
        """Make the identity, sealed with a passphrase; return what is printed: the recovery kit."""
        return self.typed(passphrase, "init-identity", "--passphrase-fd", "0")

    def unlock(self, passphrase: str = PASSPHRASE) -> None:
        """Open the identity."""
        self.typed(passphrase, "unlock", "--passphrase-fd", "0")

    def import_keystores(
        self, name: str, keystores: Mapping[str, str], protection: str = "", *words: str
    ) -> str:
        """Import keystores (text by public key) and their slashing protection, as typed."""
        folder = "/root/import"
        for key, text in keystores.items():
            self.host.write(f"{folder}/{key}.json", text, 0o600)
        argv = ["import-keystore", name, *[f"{folder}/{key}.json" for key in keystores]]
        if protection:
            self.host.write(f"{folder}/slashing-protection", protection, 0o600)
            argv += ["--slashing-protection", f"{folder}/slashing-protection"]
        try:
            return self.typed(PASSWORD, *argv, "--password-fd", "0", *words)
        finally:
            self.host.run("rm", "-r", folder)

    def typed(self, secret: str, *argv: str, seconds: float = 120) -> str:
        """Run the command line with a secret on its standard input; return what it prints."""
        program = "validator-supervisor"
        return self.host.run(program, *argv, stdin=f"{secret}\n", seconds=seconds).stdout

    def refused(self, secret: str, *argv: str, seconds: float = 120) -> str:
        """Do the same where it must fail; return why it did."""
        program = "validator-supervisor"
        done = self.host.run(program, *argv, stdin=f"{secret}\n", seconds=seconds, check=False)
        assert done.returncode, done.stdout
        return done.stderr

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

    def import_interop(self, name: str) -> None:
        """Make an identity, open it, and give a Lodestar validator the chain's four keys."""
        self.init_identity()
        self.unlock()
        self.import_keystores(name, keystores())

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
