"""What the objects on the bus say: configuration, units and watch results to property values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from validator_supervisor import __version__
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.bus.interface import MANAGER, NODE, VALIDATOR
from validator_supervisor.document import read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.nodes import Node
from validator_supervisor.overrides import Override
from validator_supervisor.tunnel import HOST_KEY_CHANGED
from validator_supervisor.units import tunnel_unit, validator_unit
from validator_supervisor.validators import Ethereum, Validator
from validator_supervisor.watch import Attesting, Reading

# What puts a changed file, and what was changed at run time, into effect.
APPLY, OVERRIDE = "validator-apply.service", "validator-override.service"

Values = dict[str, object]
# Object path → interface → property → value.
Objects = dict[str, dict[str, Values]]


@dataclass(frozen=True)
class UnitState:
    """The properties of a systemd unit that we pass on; ``since_usec`` since the epoch."""

    active: str = "inactive"
    sub: str = "dead"
    status: str = ""
    since_usec: int = 0
    restarts: int = 0
    exit_status: int = 0


@dataclass(frozen=True)
class Run:
    """What a running validator has published; not trusted."""

    node: str = ""
    public_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Everything the objects are made of."""

    applied: Applied
    units: Mapping[str, UnitState] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    attesting: Mapping[str, Attesting] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    # Why ``applied`` is not what validator-apply.service has written.
    problem: str = ""

    def unit(self, name: str) -> UnitState:
        """Return the state of a unit."""
        return self.units.get(name, UnitState())


def read_run(path: Path) -> Run:
    """Return what a validator has published, and nothing of it where any of it is unexpected."""
    try:
        stored = read_json(path).mapping()
        keys = stored["public_keys"].items()
        return Run(
            stored["node"].string(r"[a-z0-9_-]{0,20}"),
            tuple(key.string(r"0x[0-9a-f]{96}", "a public key") for key in keys),
        )
    except (KeyError, SupervisorError):
        return Run()


def objects(world: World) -> Objects:
    """Return every object with its properties."""
    found: Objects = {names.ROOT: {MANAGER.name: _manager(world)}}
    for node in world.applied.config.nodes.values():
        found[names.node_path(node.name)] = {NODE.name: _node(world, node)}
    for validator in world.applied.config.validators.values():
        found[names.validator_path(validator.name)] = {VALIDATOR.name: _validator(world, validator)}
    return found


def tunnel_state(node: Node, unit: UnitState) -> str:
    """Return one word: none, connected, connecting, host-key-changed, failed or stopped."""
    if not node.host:
        return "none"
    if unit.exit_status == HOST_KEY_CHANGED and unit.active == "failed":
        return "host-key-changed"
    words = {"active": "connected", "activating": "connecting", "failed": "failed"}
    return words.get(unit.active, "stopped")


def _manager(world: World) -> Values:
    config = world.applied.config
    tunnels = [tunnel_state(n, world.unit(tunnel_unit(n.name))) for n in config.nodes.values()]
    running = [
        world.unit(validator_unit(v.name)).active == "active"
        for v in config.validators.values()
        if v.enabled
    ]
    connected = all(state in ("none", "connected") for state in tunnels)
    problem = _apply_problem(world)
    healthy = all(running) and connected and not problem
    return {"Version": __version__, "Healthy": healthy, "ApplyProblem": problem}


def _apply_problem(world: World) -> str:
    apply, override = world.unit(APPLY), world.unit(OVERRIDE)
    if world.problem:
        return world.problem
    if apply.active == "failed":
        return apply.status or f"{APPLY} has failed"
    # One that has ended well has put the overrides into effect, too.
    if override.active == "failed" and override.since_usec >= apply.since_usec:
        return override.status or f"{OVERRIDE} has failed"
    return ""


def _node(world: World, node: Node) -> Values:
    unit = world.unit(tunnel_unit(node.name))
    urls = [world.applied.beacon_url(node, network) for network in node.beacon]
    seen = [world.readings.get(url, Reading(url)) for url in urls]
    bad = [reading for reading in seen if not reading.healthy]
    return {
        "Name": node.name,
        "Host": node.host,
        "TunnelState": tunnel_state(node, unit),
        "StatusText": unit.status if node.host else "",
        "TunnelSinceUSec": unit.since_usec if node.host else 0,
        "BeaconHealthy": bool(seen) and not bad,
        "BeaconProblem": bad[0].problem if bad else "",
        "BeaconLatencyUSec": max((reading.latency_usec for reading in seen), default=0),
        "BeaconPeers": min((reading.peers for reading in seen), default=0),
    }


def _validator(world: World, validator: Validator) -> Values:
    unit = world.unit(validator_unit(validator.name))
    run = world.runs.get(validator.name, Run())
    seen = world.attesting.get(validator.name, Attesting())
    override = world.applied.overrides.get(validator.name, Override())
    ethereum = validator if isinstance(validator, Ethereum) else None
    return {
        "Name": validator.name,
        "Kind": validator.kind,
        "Network": ethereum.network if ethereum else "",
        "Enabled": validator.enabled,
        "ActiveState": unit.active,
        "SubState": unit.sub,
        "StatusText": unit.status,
        "SinceUSec": unit.since_usec,
        "ConnectedNode": run.node if unit.active == "active" else "",
        "PreferredNode": override.prefer,
        "Overridden": override.names(),
        "Release": ethereum.release.client if ethereum else "",
        "PublicKeys": list(run.public_keys),
        "Restarts": unit.restarts,
        "LastExitStatus": unit.exit_status,
        "AttestedEpoch": seen.epoch,
        "AttestingKeys": seen.live,
    }
