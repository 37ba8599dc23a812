"""Whether beacon nodes are healthy and validators attest: decisions, and the file of results."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from validator_supervisor.beacon import Chain, Syncing
from validator_supervisor.config import ANY, Applied
from validator_supervisor.document import Value, read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import NETWORKS

RESULTS = Path("/run/validator-watch/results.json")
# Seconds between two looks at a healthy node, and at one whose return somebody waits for.
HEALTHY_SECONDS, UNHEALTHY_SECONDS = 10.0, 2.0
# A node that fails this often in a row is no longer healthy.
FAILURES = 3
# A head this many slots behind the clock is too old to attest on: one slot is normal (the block
# of this slot is on its way), a second is a missed proposal.
SLOTS_BEHIND = 8


@dataclass(frozen=True)
class Reading:
    """What is known of one beacon node; times in microseconds, ``since`` since the epoch."""

    url: str
    healthy: bool = False
    problem: str = "not looked at yet"
    since_usec: int = 0
    latency_usec: int = 0
    head_slot: int = 0
    failures: int = 0


@dataclass(frozen=True)
class Attesting:
    """In the newest epoch in which any did, how many of a validator's keys were seen to sign."""

    epoch: int = 0
    live: int = 0
    keys: int = 0


@dataclass(frozen=True)
class Target:
    """A beacon node to look at: its URL, and the network it must be on (``""``: not known)."""

    url: str
    network: str


def targets(applied: Applied) -> list[Target]:
    """Return every configured beacon node once."""
    found: dict[str, str] = {}
    for node in applied.config.nodes.values():
        for network in node.beacon:
            found.setdefault(applied.beacon_url(node, network), network)
    for validator in applied.config.validators.values():
        for url in applied.beacons(validator).values():
            if found.get(url) == ANY:
                found[url] = validator.network
    return [Target(url, network) for url, network in found.items()]


def problem_of(target: Target, chain: Chain, syncing: Syncing, now: float) -> str:
    """Return why a node that answers cannot be used at ``now`` (Unix seconds), or ``""``."""
    expected = NETWORKS.get(target.network)
    if expected and chain.network != expected:
        return f"is on network {chain.network}, not {expected}"
    if syncing.is_syncing:
        return f"is synchronising, at slot {syncing.head_slot} of {chain.slot(now)}"
    if syncing.is_optimistic:
        return "is optimistic: its execution client has not verified the head"
    behind = chain.slot(now) - syncing.head_slot
    if behind > SLOTS_BEHIND:
        return f"head is {behind} slots behind the clock"
    if behind < -1:
        return f"head is {-behind} slots ahead of the clock"
    return ""


def advance(before: Reading, problem: str, latency: float, head_slot: int, now: float) -> Reading:
    """Return what is known after one more look, which took ``latency`` seconds."""
    usec = int(now * 1_000_000)
    if not problem:
        since = before.since_usec if before.healthy else usec
        return Reading(before.url, True, "", since, int(latency * 1e6), head_slot)
    failures = before.failures + 1
    if before.healthy and failures < FAILURES:
        return replace(before, failures=failures, problem=problem)
    since = usec if before.healthy or not before.since_usec else before.since_usec
    return Reading(before.url, False, problem, since, 0, before.head_slot, failures)


def dump(found: Mapping[str, Reading], attesting: Mapping[str, Attesting]) -> bytes:
    """Return the bytes of the results."""
    stored = {
        "beacons": [asdict(reading) for reading in found.values()],
        "validators": {name: asdict(value) for name, value in attesting.items()},
    }
    return json.dumps(stored).encode()


def readings(path: Path = RESULTS) -> dict[str, Reading]:
    """Return what is known of each beacon node by URL.

    Empty before the first look, and where anything in the file, which is another job's, is
    unexpected.
    """
    try:
        found = [_reading(item.mapping()) for item in read_json(path).mapping()["beacons"].items()]
    except (KeyError, SupervisorError):
        return {}
    return {reading.url: reading for reading in found}


def _reading(item: Mapping[str, Value]) -> Reading:
    return Reading(
        item["url"].string(),
        item["healthy"].boolean(),
        item["problem"].string(),
        _count(item["since_usec"]),
        _count(item["latency_usec"]),
        _count(item["head_slot"]),
        _count(item["failures"]),
    )


def _count(value: Value, high: int = (1 << 64) - 1) -> int:
    return value.integer(0, high, "a number")


def attesting(path: Path = RESULTS) -> dict[str, Attesting]:
    """Return what is known of each validator by name; empty as ``readings`` is."""
    try:
        stored = read_json(path).mapping()["validators"].mapping()
        return {name: _attesting(item.mapping()) for name, item in stored.items()}
    except (KeyError, SupervisorError):
        return {}


def _attesting(item: Mapping[str, Value]) -> Attesting:
    # D-Bus gives the number of keys 32 bits.
    keys = (1 << 32) - 1
    return Attesting(_count(item["epoch"]), _count(item["live"], keys), _count(item["keys"], keys))
