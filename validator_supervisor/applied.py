"""What is in effect: the accepted configuration, its overrides and ports, in one file of JSON.

validator-apply.service writes it; every job and the generator read it and nothing else.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from validator_supervisor import config, overrides
from validator_supervisor.config import EMPTY, Config
from validator_supervisor.document import Value, read_json
from validator_supervisor.errors import ConfigError, SupervisorError
from validator_supervisor.kinds import PORT
from validator_supervisor.nodes import ANY, Node
from validator_supervisor.overrides import Overrides
from validator_supervisor.validators import Ethereum, Validator

FILE = Path("/etc/validator-supervisor/.applied")
# Beside it: what was in effect before, while validator-apply.service is at work.
PREVIOUS = Path("/etc/validator-supervisor/.applied.before")
# What an Ethereum validator was started with (handover.keep), as long as its keys are in memory.
STARTED = "/run/validator-state/{}/applied.json"
# As JSON it is larger than the file that it was made from.
SIZE_MAX = 16 << 20


@dataclass(frozen=True)
class Applied:
    """The configuration as it was accepted, from ``document``, and with its overrides.

    ``ports`` has the loopback port of each beacon forward, by NODE/NETWORK.
    """

    configured: Config = EMPTY
    ports: dict[str, int] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=dict)
    document: Value = field(default=Value({}, ""), repr=False)
    config: Config = field(init=False)

    def __post_init__(self) -> None:
        """Apply the overrides."""
        effective = overrides.effective(self.configured, self.overrides)
        object.__setattr__(self, "config", effective)

    @classmethod
    def load(cls, path: Path = FILE) -> "Applied":
        """Return what is in effect; nothing where nothing was ever applied.

        Raises SupervisorError ``NotApplied`` when the file is damaged.
        """
        if not path.exists() and not path.is_symlink():
            return cls()
        try:
            stored = read_json(path, SIZE_MAX).mapping()
            document = replace(stored["config"], key="")
            wanted = config.read(document)
            ports = {key: PORT.read(port) for key, port in stored["ports"].mapping().items()}
            return cls(
                wanted,
                {key: ports[key] for key in _forwards(wanted)},
                overrides.read(stored["overrides"]) if "overrides" in stored else {},
                document,
            )
        except (KeyError, SupervisorError) as failure:
            raise SupervisorError(
                "NotApplied", f"{path} is damaged: {failure}", "systemctl start validator-apply"
            ) from None

    def text(self) -> bytes:
        """Return the bytes of the file."""
        stored = {
            "config": self.document.plain(),
            "overrides": overrides.plain(self.overrides),
            "ports": self.ports,
        }
        # In the order of the file: that of the nodes is the default order of preference.
        return json.dumps(stored, indent=1).encode() + b"\n"

    def beacon_url(self, node: Node, network: str) -> str:
        """Return the URL at which this host reaches the node's beacon node, or ``""``."""
        address = node.beacon_for(network)
        if address and node.host:
            key = network if network in node.beacon else ANY
            return f"http://127.0.0.1:{self.ports[f'{node.name}/{key}']}"
        return address if not address or "://" in address else f"http://{address}"

    def beacons(self, validator: Validator) -> dict[str, str]:
        """Return the URL of each beacon node of ``validator`` by node, preferred first."""
        if not isinstance(validator, Ethereum):
            return {}
        return {
            name: self.beacon_url(self.config.nodes[name], validator.network)
            for name in validator.nodes
        }


def started_with(name: str, started: str = STARTED) -> Applied:
    """Return what was in effect when a validator was started: it may have changed since.

    Of one that has no state it is what is in effect now. Raises SupervisorError ``NotApplied``.
    """
    path = Path(started.format(name))
    return Applied.load(path) if path.exists() else Applied.load()


def _forwards(wanted: Config) -> list[str]:
    tunnels = [node for node in wanted.nodes.values() if node.host]
    return [f"{node.name}/{network}" for node in tunnels for network in node.beacon]


def assign_ports(wanted: Config, before: dict[str, int]) -> dict[str, int]:
    """Give each beacon forward a port, and keep every port that was given before.

    Raises ConfigError when ``port_range`` is too small.
    """
    low, high = wanted.port_range
    forwards = _forwards(wanted)
    every = [forward for node in wanted.nodes.values() for forward in node.forwards]
    taken = {forward.local for forward in every if isinstance(forward.local, int)}
    ports: dict[str, int] = {}
    for key in forwards:
        port = before.get(key, 0)
        if low <= port <= high and port not in taken:
            ports[key] = port
            taken.add(port)
    free = (port for port in range(low, high + 1) if port not in taken)
    for key in forwards:
        if key not in ports:
            new = next(free, None)
            if new is None:
                raise ConfigError(str(config.FILE), f"port_range {low} to {high} is too small")
            ports[key] = new
    return ports
