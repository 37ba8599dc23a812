"""What a changed configuration means for what runs, and how it is put into effect."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from validator_supervisor import config, durable, hands, journal, overrides, run
from validator_supervisor.applied import FILE, PREVIOUS, Applied, assign_ports
from validator_supervisor.errors import ConfigError, SupervisorError
from validator_supervisor.units import release_unit, state_unit, tunnel_unit, validator_unit
from validator_supervisor.validators import Ethereum, Release, Validator, in_the_clear

WATCH = "validator-watch.service"
# A validator, what it has signed, and its final backup; TimeoutStartSec= leaves time for the rest.
STOP_SECONDS = 100.0
STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """Units to stop before systemd reads the new configuration, and to start and restart after."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    restart: tuple[str, ...]

    def __str__(self) -> str:
        return f"{len(self.start)} new, {len(self.restart)} changed, {len(self.stop)} removed"


class Systemd(Protocol):
    """What is asked of systemd; each raises SupervisorError."""

    def active(self, unit: str) -> str:
        """Return the ActiveState of a unit."""

    def job(self, unit: str) -> str:
        """Return the type of the job that is queued or runs for a unit, or ``""``."""

    def start(self, unit: str) -> None:
        """Queue the start of a unit."""

    def stop(self, unit: str) -> None:
        """Queue the stop of a unit."""

    def restart(self, unit: str) -> None:
        """Queue the restart of a unit."""

    def reload(self) -> None:
        """Run the generators and read every unit again."""


def put_into_effect(systemd: Systemd, *, only_overrides: bool) -> str:
    """Check the configuration and the overrides, and make what runs follow them.

    With ``only_overrides`` the configuration stays the one in effect, however its file has been
    edited since. Returns what was done; raises SupervisorError, or OSError where a disk is full.
    """
    with durable.locked(FILE.parent):
        before = Applied()
        if only_overrides:
            before = Applied.load()
        else:
            with contextlib.suppress(SupervisorError):  # a damaged one is replaced
                before = Applied.load()
        after = _overridden(before) if only_overrides else _wanted(before)
        # There only if the last run was interrupted; what it left undone is done now.
        earlier = before
        with contextlib.suppress(SupervisorError):
            earlier = Applied.load(PREVIOUS) if PREVIOUS.exists() else before
        run.run(["/usr/bin/systemd-sysusers", "-"], seconds=30, stdin=users(after).encode())
        if not PREVIOUS.exists():
            durable.write(PREVIOUS, before.text(), 0o644)
        planned = merged(plan(before, after), plan(earlier, after))
        _carry_out(systemd, planned, after)
        PREVIOUS.unlink(missing_ok=True)
    there = after.config
    return f"{len(there.nodes)} nodes, {len(there.validators)} validators; {planned}"


def _wanted(before: Applied) -> Applied:
    document = config.load()
    if document.data == {} and before.configured != config.EMPTY:
        raise ConfigError(str(config.FILE), "is empty", "for nothing at all, write: version: 1")
    wanted = config.read(document)
    config.check_addresses(document, wanted)
    hands.check(document, wanted)
    idle = config.idle(document, wanted)
    if idle:
        journal.log(journal.NOTICE, f"understood, but no job uses it yet: {', '.join(idle)}")
    for one in wanted.ethereum:
        if in_the_clear(one.keys):
            message = f"{one.name}: its Web3Signer is asked without TLS"
            journal.log(journal.WARNING, f"{message}: who is on the way can have anything signed")
    try:
        found = overrides.current()
    except ConfigError as failure:
        # They are the controller's, who has no veto over the operator's own file.
        journal.error(failure)
        found = before.overrides
    kept = overrides.meaningful(wanted, found)
    for name, override in kept.items():
        journal.log(journal.NOTICE, f"{name}: overridden are {', '.join(override.names())}")
    return Applied(wanted, assign_ports(wanted, before.ports), kept, document)


def _overridden(before: Applied) -> Applied:
    return replace(before, overrides=overrides.meaningful(before.configured, overrides.current()))


def _carry_out(systemd: Systemd, planned: Plan, after: Applied) -> None:
    # First: whatever happens now, the next run sees from PREVIOUS what is left to do.
    durable.write(FILE, after.text(), 0o644)
    for unit in planned.stop:
        systemd.stop(unit)
    # What is left of them after the reload is not what they are stopped with.
    _wait_for_end(systemd, planned.stop)
    systemd.reload()
    # Until validator.target is started nothing else is either. What an operator has stopped stays
    # so; what has failed may be mended by the change.
    up = systemd.active("validator.target") == "active"
    for unit in planned.start if up else ():
        systemd.start(unit)
    for unit in planned.restart:
        state = systemd.active(unit)
        if state not in ("inactive", "deactivating", "failed") or (up and state == "failed"):
            systemd.restart(unit)


def _wait_for_end(systemd: Systemd, units: Iterable[str]) -> None:
    """Wait until units have stopped, but not for ever: each has a limit of its own."""
    end = time.monotonic() + STOP_SECONDS
    for unit in units:
        while systemd.job(unit) == "stop" and time.monotonic() < end:
            time.sleep(STOP_POLL_SECONDS)


def plan(before: Applied, after: Applied) -> Plan:
    """Compare two configurations: what is in both unchanged is not in the plan."""
    old, new = _definitions(before, after), _definitions(after, before)
    # They start with their validators. What is downloaded should be there before.
    pulled = {state_unit(name) for name in after.config.validators}
    was, now = _enabled(before, old), _enabled(after, new)
    # One that is disabled may run all the same, if somebody has started it by hand.
    stop = tuple(unit for unit in old if unit not in new or (unit in was and unit not in now))
    start = tuple(unit for unit in new if unit in now and unit not in was and unit not in pulled)
    changed = (unit for unit in new if unit in old and old[unit] != new[unit])
    return Plan(stop, start, tuple(unit for unit in changed if unit not in stop + start))


def merged(*plans: Plan) -> Plan:
    """Return the plan that does what each of them does; what starts or stops need not restart."""
    stop = {unit for plan in plans for unit in plan.stop}
    start = {unit for plan in plans for unit in plan.start}
    restart = {unit for plan in plans for unit in plan.restart}
    return Plan(tuple(sorted(stop)), tuple(sorted(start)), tuple(sorted(restart - start - stop)))


def _definitions(applied: Applied, other: Applied) -> dict[str, object]:
    there = applied.config
    watched = [(v.name, v.network, v.on_slashed, set(applied.beacons(v).items()))
               for v in there.ethereum]  # fmt: skip
    backups = [(node, node.backups) for node in there.nodes.values() if node.backups]
    found: dict[str, object] = {WATCH: (there.nodes, watched)}
    for node in there.nodes.values():
        if node.host:
            ports = [applied.beacon_url(node, network) for network in node.beacon]
            found[tunnel_unit(node.name)] = (node, ports)
    for validator in there.validators.values():
        mine = _started(validator, other.config.validators.get(validator.name))
        found[validator_unit(validator.name)] = (mine, applied.beacons(validator))
        if isinstance(validator, Ethereum):
            # What its keys were unpacked for, and where its backups go.
            known = (validator.user, validator.network, validator.keys, backups)
            found[state_unit(validator.name)] = known
            if validator.release.version:
                found[release_unit(validator.name)] = (validator.release, there.key_server)
    return found


def _started(validator: Validator, other: Validator | None) -> Validator:
    """Return what of a validator its process has to be started again for; ``other`` is the same.

    What the watch alone reads is no reason. A release that is downloaded is so while the one before
    runs, and takes effect at the next start.
    """
    if not isinstance(validator, Ethereum):
        return validator
    both = [one.release for one in (validator, other) if isinstance(one, Ethereum)]
    downloaded = any(release.version for release in both)
    release = Release(client="") if downloaded else validator.release
    return replace(validator, on_slashed="", release=release)


def _enabled(applied: Applied, units: Iterable[str]) -> set[str]:
    validators = applied.config.validators.values()
    off = [v.name for v in validators if not v.enabled]
    return set(units) - {unit(name) for name in off for unit in (validator_unit, release_unit)}


def users(applied: Applied) -> str:
    """Return the sysusers.d(5) lines of the validators' own users."""
    lines = []
    for validator in applied.config.validators.values():
        # A user that the operator names is the operator's to make.
        if validator.user == f"validator_{validator.name}":
            home = f"/var/lib/validator/{validator.name}"
            lines.append(f'u {validator.user} - "Validator {validator.name}" {home}\n')
    return "".join(lines)
