"""`validator-supervisor status`: one screen of what there is and what is wrong."""

import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from validator_supervisor.bus import names
from validator_supervisor.journal import printable
from validator_supervisor.units import state_unit, tunnel_unit, validator_unit

Properties = Mapping[str, object]
# Halts that another host has caused (halt.py, whose import would take long).
MOVED = ("moved", "foreign-claim")
# The halt of a validator whose keys have left for another host.
RETIRED = "retired"
# What the controller says of a validator whose keys cannot be had (bus/model.py).
LOCKED = "the identity is locked"
# How a status line begins that liveness.py has told.
WATCHING = "watching for a twin"
# validator-drill.timer is weekly: two have not succeeded since.
STALE_SECONDS = 14 * 86400
# What ssh, the helpers and beacon nodes say, and what an operator can do about it.
ADVICE = (
    ("Permission denied", "the node does not accept the key: `validator-supervisor authorize {0}`"),
    ("Could not resolve hostname", "is the name right, and does this host have a name server?"),
    ("Connection refused", "is sshd running on the node, on this port?"),
    ("timed out", "is the node up, and does its firewall let this host in?"),
    ("not responding", "the connection was cut; is the node up?"),
    ("No route to host", "is the network up?"),
    ("Network is unreachable", "is the network up?"),
    ("refuses the reverse forward", "permit it: `validator-supervisor authorize {0}`"),
    ("administratively prohibited", "permit it: `validator-supervisor authorize {0}`"),
    ("cannot listen to port", "another program has the port: `ss -ltnp`"),
    ("Address already in use", "another program has the port: `ss -ltnp`"),
    ("there is no ssh key", "ssh-keygen -t ed25519 makes one: journalctl -u validator-tunnel@{0}"),
    ("Host key verification failed", "compare the node's host key with host_key:"),
)


# Named tuples, because importing dataclasses is a fifth of the time that `status` takes.
class Problem(NamedTuple):
    """Something that needs a person: what, the last thing it said, and what to do."""

    subject: str
    problem: str
    advice: str


class Report(NamedTuple):
    """Everything that is shown; ``nodes`` and ``validators`` are the D-Bus properties."""

    version: str
    healthy: bool
    nodes: list[Properties]
    validators: list[Properties]
    problems: list[Problem]


def report(objects: Mapping[str, Mapping[str, Properties]], said: Callable[[str], str]) -> Report:
    """Make the report; ``said`` returns the last warning in the journal of a unit."""

    def of(interface: str) -> list[Properties]:
        found = [i[interface] for i in objects.values() if interface in i]
        return sorted(found, key=lambda properties: str(properties.get("Name", "")))

    (manager,) = of(names.MANAGER)
    nodes, validators = of(names.NODE), of(names.VALIDATOR)
    found = [_apply_problem(manager)]
    found += [_node_problem(node, said) for node in nodes]
    found += [_validator_problem(validator, said) for validator in validators]
    problems = [problem for problem in found if problem]
    return Report(str(manager["Version"]), not problems, nodes, validators, problems)


def _apply_problem(manager: Properties) -> Problem | None:
    if not manager["ApplyProblem"]:
        return None
    advice = (
        "journalctl -u validator-apply; edit, then `systemctl reload validator-supervisor`; "
        "until then the configuration before it counts"
    )
    return Problem("the changed configuration", str(manager["ApplyProblem"]), advice)


def _node_problem(node: Properties, said: Callable[[str], str]) -> Problem | None:
    name, state = str(node["Name"]), str(node["TunnelState"])
    if state == "host-key-changed":
        advice = "ask the node's operator; journalctl -u " + tunnel_unit(name)
        return Problem(f"node {name}", str(node["StatusText"]), advice)
    if state not in ("connected", "none", "stopped"):
        words = telling(said(tunnel_unit(name))) or str(node["StatusText"]) or state
        return Problem(f"node {name}", words, advise(words, name, tunnel_unit(name)))
    if state == "stopped":
        unit = tunnel_unit(name)
        return Problem(f"node {name}", "its tunnel is stopped", f"systemctl start {unit}")
    if node["BeaconProblem"]:
        words = str(node["BeaconProblem"])
        heard = telling(said(tunnel_unit(name))) if state == "connected" else ""
        if "administratively prohibited" in heard:
            return Problem(f"node {name}", f"beacon node: {heard}", advise(heard, name, ""))
        advice = "does it run, at the address that beacon: names, as seen from the node?"
        if words.startswith(("is synchronising", "is optimistic", "head is")):
            advice = "it needs time, or its own operator; another node can take its place"
        return Problem(f"node {name}", f"beacon node: {words}", advice)
    return _copies_problem(node, time.time())


def _copies_problem(node: Properties, now: float) -> Problem | None:
    """Return what is wrong with the archives on a node that can be reached."""
    name, proven = str(node["Name"]), int(str(node.get("LastProvenRestoreUSec", 0))) / 1e6
    if node.get("UploadProblem"):
        words = f"backups: {node['UploadProblem']}"
        return Problem(f"node {name}", words, "validator-supervisor backup now NAME")
    if node.get("RestoreProblem"):
        words = f"a restore is not proven: {node['RestoreProblem']}"
        return Problem(f"node {name}", words, "validator-supervisor backup verify")
    if proven and now - proven > STALE_SECONDS:
        words = f"no restore was proven for {ago(now - proven)}"
        return Problem(f"node {name}", words, "systemctl start validator-drill")
    return None


def _validator_problem(validator: Properties, said: Callable[[str], str]) -> Problem | None:
    name, state = str(validator["Name"]), validator["ActiveState"]
    unit = validator_unit(name)
    if validator["HaltReason"]:
        words = str(validator["HaltReason"])
        return Problem(f"validator {name}", f"halted: {words}", _after_halt(name, words))
    if state == "active" or not validator["Enabled"]:
        return None
    if validator["StartProblem"]:
        words = str(validator["StartProblem"])
        locked = words == LOCKED
        advice = "validator-supervisor unlock" if locked else f"journalctl -u {state_unit(name)}"
        return Problem(f"validator {name}", words, advice)
    if state == "inactive" and validator["SubState"] == "dead":
        return Problem(f"validator {name}", "is stopped", f"systemctl start {unit}")
    status = str(validator["StatusText"])
    if status.startswith(WATCHING):
        advice = "nothing to do: it signs once these epochs have passed without its keys"
        return Problem(f"validator {name}", status, advice)
    words = telling(said(unit)) or status or str(state)
    exited = f"exited with {validator['LastExitStatus']} {validator['Restarts']} times"
    shown = f"{words} ({exited})" if validator["LastExitStatus"] else words
    return Problem(f"validator {name}", shown, f"journalctl -u {unit}")


def _after_halt(name: str, words: str) -> str:
    if words.partition(":")[0] in MOVED:
        return f"where the other host is off for good: `validator-supervisor take-over {name}`"
    if words.partition(":")[0] == RETIRED:
        return f"nothing, while they run elsewhere; else `take-over {name}` or `adopt {name} FILE`"
    return f"when what it says is put right: `validator-supervisor resume {name}`"


def telling(lines: str) -> str:
    """Return the newest line that there is advice for, else the newest."""
    newest = lines.splitlines()[::-1]
    known = [line for line in newest if any(pattern in line for pattern, _ in ADVICE)]
    return (known or newest or [""])[0]


def advise(words: str, name: str, unit: str) -> str:
    """Return what to do about a message."""
    for pattern, advice in ADVICE:
        if pattern in words:
            return advice.format(name)
    return f"journalctl -u {unit}" if unit else "ask the node's operator"


def as_json(shown: Report) -> dict[str, object]:
    """Return the report for ``--json``."""
    return {**shown._asdict(), "problems": [problem._asdict() for problem in shown.problems]}


def as_text(shown: Report, now: float) -> list[str]:
    """Return the lines of the screen; ``now`` in Unix seconds."""
    state = "healthy" if shown.healthy else f"{len(shown.problems)} problem(s)"
    lines = [f"validator-supervisor {shown.version}: {state}", "", "NODES"]
    lines += columns([_node_row(node, now) for node in shown.nodes]) or ["  none"]
    lines += ["", "VALIDATORS"]
    lines += columns([_validator_row(v, now) for v in shown.validators]) or ["  none"]
    if shown.problems:
        lines += ["", "PROBLEMS"]
        for problem in shown.problems:
            lines += [f"  {problem.subject}: {problem.problem}", f"    → {problem.advice}"]
    # Beacon nodes and validators have a say in it, and a terminal obeys what it is shown.
    return [printable(line) for line in lines]


def _node_row(node: Properties, now: float) -> list[str]:
    tunnel = str(node["TunnelState"])
    if tunnel == "connected":
        tunnel += since(node["TunnelSinceUSec"], now)
    beacon = "no beacon node"
    if node["BeaconHealthy"]:
        latency = int(str(node["BeaconLatencyUSec"])) // 1000
        peers = "1 peer" if node["BeaconPeers"] == 1 else f"{node['BeaconPeers']} peers"
        beacon = f"beacon node healthy, {latency} ms, {peers}"
    elif node["BeaconProblem"]:
        beacon = f"beacon node: {node['BeaconProblem']}"
    where = str(node["Host"]) or "this host"
    copies = ""
    if node.get("TakesBackups"):
        proven = int(str(node["LastProvenRestoreUSec"])) // 1_000_000
        copies = f"restore proven {ago(now - proven)} ago" if proven else "no restore proven yet"
    return [str(node["Name"]), where, "no tunnel" if tunnel == "none" else tunnel, beacon, copies]


def _validator_row(validator: Properties, now: float) -> list[str]:
    overrides = _overrides(validator)
    state = "halted" if validator["HaltReason"] else str(validator["SubState"])
    if validator["ActiveState"] == "active":
        state = "running" + since(validator["SinceUSec"], now)
    elif not validator["Enabled"]:
        state = overrides.pop("enabled", "disabled")
    what = f"{validator['Kind']} {validator['Network']}".strip()
    through = f"through {validator['ConnectedNode']}" if validator["ConnectedNode"] else ""
    keys = validator["PublicKeys"]
    duty = ""
    silent = int(str(validator["SilentUntil"]))
    if silent > now:
        duty = f"silent for {ago(silent - now)} more, after a lift"
    elif validator["AttestedEpoch"] and keys and isinstance(keys, list):
        live, epoch = validator["AttestingKeys"], validator["AttestedEpoch"]
        duty = f"{live} of {len(keys)} keys attested in epoch {epoch}"
    elif keys and validator["ActiveState"] == "active":
        duty = "not attested yet"
    return [str(validator["Name"]), what, state, through, duty, ", ".join(overrides.values())]


def _overrides(validator: Properties) -> dict[str, str]:
    """Return what is not as the configuration file has it, in words, by its key."""
    keys = validator["Overridden"]
    words = {str(key): str(key) for key in keys} if isinstance(keys, list) else {}
    if "enabled" in words:
        words["enabled"] = "enabled" if validator["Enabled"] else "disabled"
    if validator["PreferredNode"]:
        words["prefer"] = f"prefers {validator['PreferredNode']}"
    return {key: f"{word} (override)" for key, word in words.items()}


def since(usec: object, now: float) -> str:
    """Return how long ago, as an operator says it."""
    started = int(str(usec)) / 1e6
    seconds = max(0, int(now - started))
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    return f" since {clock} ({ago(seconds)})"


def ago(seconds: float) -> str:
    """Return a time in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def columns(rows: list[list[str]]) -> list[str]:
    """Return the rows with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    joined = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        for row in rows
    )
    return [re.sub(r"\s+$", "", f"  {line}") for line in joined]
