"""What the objects on the bus say: configuration, units and watch results to property values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from validator_supervisor import __version__
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.bus.interface import MANAGER, NODE, VALIDATOR
from validator_supervisor.copies import Copies, Restore, Upload
from validator_supervisor.document import read_json
from validator_supervisor.duties import Duties
from validator_supervisor.errors import SupervisorError
from validator_supervisor.nodes import Node
from validator_supervisor.overrides import Override
from validator_supervisor.tunnel import HOST_KEY_CHANGED
from validator_supervisor.units import (
    backup_unit,
    release_unit,
    state_unit,
    tunnel_unit,
    validator_unit,
)
from validator_supervisor.validators import Ethereum, Validator
from validator_supervisor.watch import Attesting, Reading

# What puts a changed file, and what was changed at run time, into effect.
APPLY, OVERRIDE = "validator-apply.service", "validator-override.service"
IDENTITY = "validator-identity.service"

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
    # When everything may be signed again after a lift, in Unix seconds; 0: it may.
    silent_until: int = 0


@dataclass(frozen=True)
class World:
    """Everything the objects are made of."""

    applied: Applied
    units: Mapping[str, UnitState] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    attesting: Mapping[str, Attesting] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)
    duties: Mapping[str, Duties] = field(default_factory=dict)
    # The identity is in memory; its unit may be stopping.
    unlocked: bool = False
    copies: Mapping[str, Copies] = field(default_factory=dict)
    # A passphrase waits to be tried, or why it was not.
    offered: bool = False
    offer_problem: str = ""
    # The downloaded release that the next start runs, by validator.
    releases: Mapping[str, str] = field(default_factory=dict)
    # Why validators are halted; "" or none: they are not.
    halts: Mapping[str, str] = field(default_factory=dict)
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
            # One that runs since before an upgrade has not published it.
            stored["silent_until"].integer(0, 1 << 40, "a time") if "silent_until" in stored else 0,
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
    return {
        "Version": __version__,
        "Locked": not world.unlocked,
        "UnlockProblem": _unlock_problem(world),
        "Healthy": healthy,
        "ApplyProblem": problem,
    }


def _unlock_problem(world: World) -> str:
    identity = world.unit(IDENTITY)
    if world.offered:
        return ""
    if identity.active == "failed":
        return identity.status or f"{IDENTITY} has failed"
    return world.offer_problem if identity.active == "inactive" else ""


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
        "TakesBackups": bool(node.backups),
        **_copies(world, node.name),
    }


def _copies(world: World, node: str) -> Values:
    """Return what is known of the copies on a node: the worst that is known of any validator."""
    every = [world.copies.get(one.name, Copies()) for one in world.applied.config.ethereum]
    # None at all is no news: a validator may be new here.
    uploads = [copies.uploads[node] for copies in every if node in copies.uploads] or [Upload()]
    restores = [copies.restores[node] for copies in every if node in copies.restores]
    restores = restores or [Restore()]
    return {
        "LastUploadUSec": 1_000_000 * min(one.time for one in uploads),
        "UploadProblem": next((one.problem for one in uploads if one.problem), ""),
        "LastProvenRestoreUSec": 1_000_000 * min(one.time for one in restores),
        "RestoreProblem": next((one.problem for one in restores if one.problem), ""),
    }


def _start_problem(world: World, validator: Validator) -> str:
    """Return what the validator waits for, or why its start was refused, or ``""``."""
    state = world.unit(state_unit(validator.name))
    if not isinstance(validator, Ethereum):
        return ""
    if state.active in ("activating", "failed"):
        return state.status
    return "" if world.unlocked else "the identity is locked"


def _release(world: World, validator: Ethereum | None) -> Values:
    """Return what the next start runs, what is to be there, and how far that has come."""
    if not validator or not validator.release.version:
        client = validator.release.client if validator else ""
        return {"Release": client, "WantedRelease": "", "ReleaseState": "none", "ReleaseStatus": ""}
    unit = world.unit(release_unit(validator.name))
    return {
        "Release": world.releases.get(validator.name, ""),
        "WantedRelease": f"{validator.release.client} {validator.release.version}",
        "ReleaseState": unit.active,
        "ReleaseStatus": unit.status,
    }


def _validator(world: World, validator: Validator) -> Values:
    unit = world.unit(validator_unit(validator.name))
    run = world.runs.get(validator.name, Run())
    seen = world.attesting.get(validator.name, Attesting())
    duties = world.duties.get(validator.name, Duties())
    override = world.applied.overrides.get(validator.name, Override())
    ethereum = validator if isinstance(validator, Ethereum) else None
    backup = world.unit(backup_unit(validator.name))
    copies = world.copies.get(validator.name, Copies())
    return {
        "Name": validator.name,
        "Kind": validator.kind,
        "Network": ethereum.network if ethereum else "",
        "Enabled": validator.enabled,
        "ActiveState": unit.active,
        "SubState": unit.sub,
        "StatusText": unit.status,
        "StartProblem": _start_problem(world, validator) if unit.active != "active" else "",
        "SilentUntil": run.silent_until if unit.active == "active" else 0,
        "HaltReason": world.halts.get(validator.name, ""),
        "SinceUSec": unit.since_usec,
        "ConnectedNode": run.node if unit.active == "active" else "",
        "PreferredNode": override.prefer,
        "Overridden": override.names(),
        **_release(world, ethereum),
        "PublicKeys": list(run.public_keys),
        "Restarts": unit.restarts,
        "LastExitStatus": unit.exit_status,
        "AttestedEpoch": seen.epoch,
        "AttestingKeys": seen.live,
        "NextProposalUSec": duties.next_proposal_usec,
        "SyncCommitteeUntilUSec": duties.sync_until_usec,
        "DutiesKnownUntilUSec": duties.known_until_usec,
        "BackupState": backup.active if ethereum else "none",
        "BackupEndedUSec": backup.since_usec if backup.active == "failed" else copies.ended,
        "BackupProblem": backup.status if backup.active == "failed" else "",
        "LastBackupUSec": 1_000_000 * copies.last,
        "LastCleanBackupUSec": 1_000_000 * copies.last_clean,
    }
