"""What a changed configuration means for what runs."""

from collections.abc import Iterable
from dataclasses import dataclass

from validator_supervisor.config import Applied
from validator_supervisor.generator import tunnel_unit, validator_unit


@dataclass(frozen=True)
class Plan:
    """Units to stop before systemd reads the new configuration, and to start and restart after."""

    stop: tuple[str, ...]
    start: tuple[str, ...]
    restart: tuple[str, ...]


def plan(before: Applied, after: Applied) -> Plan:
    """Compare two configurations: what is in both unchanged is not in the plan."""
    old, new = _definitions(before), _definitions(after)
    was, now = _enabled(before, old), _enabled(after, new)
    # One that is disabled may run all the same, if somebody has started it by hand.
    stop = tuple(unit for unit in old if unit not in new or (unit in was and unit not in now))
    start = tuple(unit for unit in new if unit in now and unit not in was)
    changed = (unit for unit in new if unit in old and old[unit] != new[unit])
    return Plan(stop, start, tuple(unit for unit in changed if unit not in stop + start))


def merged(*plans: Plan) -> Plan:
    """Return the plan that does what each of them does; what starts need not restart."""
    stop = {unit for plan in plans for unit in plan.stop}
    start = {unit for plan in plans for unit in plan.start}
    restart = {unit for plan in plans for unit in plan.restart}
    return Plan(tuple(sorted(stop)), tuple(sorted(start)), tuple(sorted(restart - start)))


def _definitions(applied: Applied) -> dict[str, object]:
    config = applied.config
    found: dict[str, object] = {}
    for node in config.nodes.values():
        if node.host:
            ports = [applied.beacon_url(node, network) for network in node.beacon]
            found[tunnel_unit(node.name)] = (node, ports)
    for validator in config.validators.values():
        found[validator_unit(validator.name)] = (validator, applied.beacons(validator))
    return found


def _enabled(applied: Applied, units: Iterable[str]) -> set[str]:
    validators = applied.config.validators.values()
    return set(units) - {validator_unit(v.name) for v in validators if not v.enabled}


def users(applied: Applied) -> str:
    """Return the sysusers.d(5) lines of the validators' own users."""
    lines = []
    for validator in applied.config.validators.values():
        # A user that the operator names is the operator's to make.
        if validator.user == f"validator_{validator.name}":
            home = f"/var/lib/validator/{validator.name}"
            lines.append(f'u {validator.user} - "Validator {validator.name}" {home}\n')
    return "".join(lines)
