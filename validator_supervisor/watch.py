"""Whether beacon nodes are healthy and validators attest: decisions, and the file of results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from validator_supervisor import networks
from validator_supervisor.applied import Applied
from validator_supervisor.document import Value, read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import DEVELOPMENT, NETWORKS, Chain
from validator_supervisor.nodes import ANY

if TYPE_CHECKING:  # the controller reads results, and needs no HTTP for it
    from validator_supervisor.beacon import Syncing
    from validator_supervisor.duties import Duties

RESULTS = Path("/run/validator-watch/results.json")
# Seconds between two looks at a healthy node, and at one whose return somebody waits for.
HEALTHY_SECONDS, UNHEALTHY_SECONDS = 10.0, 2.0
# Seconds between two questions about what hardly ever changes: the chain and the peers.
RARE_SECONDS = 60.0
# A node that fails this often in a row is no longer healthy.
FAILURES = 3
# A head this many slots behind the clock is too old to attest on: one slot is normal (the block
# of this slot is on its way), a second is a missed proposal.
SLOTS_BEHIND = 8
# A validator is looked at this often in an epoch, within these seconds: it attests once in each.
LIVENESS_LOOKS = 8
LIVENESS_SECONDS = (5.0, 60.0)
# A problem may quote the node.
PROBLEM_MAX = 300
# The number of peers where a server does not say it.
UNKNOWN = -1
# D-Bus gives the number of peers, and of keys, 32 bits.
PEERS_MAX = KEYS_MAX = (1 << 32) - 1
# As many slashed keys of a validator are named in the results.
SHOWN = 20
NONE: Mapping[str, Any] = MappingProxyType({})


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
    peers: int = 0


@dataclass(frozen=True)
class Attesting:
    """How many of a validator's keys were seen to sign in the last epoch, or else in this one."""

    epoch: int = 0
    live: int = 0
    keys: int = 0


@dataclass(frozen=True)
class Target:
    """A beacon node to look at: its URL, and the network it must be on (``""``: not known)."""

    url: str
    network: str


def targets(applied: Applied) -> list[Target]:
    """Return every configured beacon node once.

    A URL that is configured without a network has that of the validators that use it.
    """
    found: dict[str, str] = {}
    for node in applied.config.nodes.values():
        for network in node.beacon:
            url = applied.beacon_url(node, network)
            found[url] = found.get(url) or network
    for validator in applied.config.ethereum:
        for url in applied.beacons(validator).values():
            if found.get(url) == ANY:
                found[url] = validator.network
    return [Target(url, network) for url, network in found.items()]


def known_chain(network: str, pins: Mapping[str, Chain]) -> Chain | None:
    """Return the chain that a network is; None for a development chain, or one not agreed on."""
    known = NETWORKS.get(network, pins.get(network))
    return None if known == DEVELOPMENT else known


def liveness_seconds(chain: Chain) -> float:
    """Return the seconds between two looks at a validator."""
    low, high = LIVENESS_SECONDS
    # Whole numbers, which a node may say of any size, until they are small.
    epoch = min(chain.seconds_per_slot * chain.slots_per_epoch, int(high) * LIVENESS_LOOKS)
    return max(low, epoch / LIVENESS_LOOKS)


# So begins the problem of a node that has all there is, by another clock than ours.
HEAD = "head is"
# So does that of one which is on another chain, as far as is known.
ELSEWHERE, UNBELIEVED = "is on another chain", "is not believed yet"


def problem_of(
    target: Target, chain: Chain, known: Chain | None, syncing: "Syncing", peers: int, now: float
) -> str:
    """Return why a node that answers cannot be used at ``now`` (Unix seconds), or ``""``.

    ``chain`` is what the node says of its own, ``known`` what it must be. The cause comes before
    what follows of it.
    """
    elsewhere = networks.difference(known, chain) if known else _public(target, chain)
    if elsewhere:
        return f"{ELSEWHERE}: {elsewhere}"
    if not known and target.network not in (ANY, *NETWORKS):
        return f"{UNBELIEVED}: its nodes have to agree what the chain {target.network} is"
    slot = (known or chain).slot(now)
    # A development chain may be one node alone.
    if peers == 0 and known:
        return "has no peers"
    if syncing.el_offline:
        return "its execution client is offline"
    if syncing.is_syncing:
        return f"is synchronising, at slot {syncing.head_slot} of {slot}"
    if syncing.is_optimistic:
        return "is optimistic: its execution client has not verified the head"
    behind = slot - syncing.head_slot
    if behind > SLOTS_BEHIND:
        return f"{HEAD} {behind} slots behind the clock"
    if behind < -1:
        return f"{HEAD} {-behind} slots ahead of the clock"
    return ""


def _public(target: Target, chain: Chain) -> str:
    """Return which public network it is that a node of another one is on, or ``""``."""
    names = [name for name, public in NETWORKS.items()
             if public.genesis_validators_root == chain.genesis_validators_root]  # fmt: skip
    return f"it is {', '.join(names)}" if names and target.network != ANY else ""


def advance(
    before: Reading, problem: str, latency: float, head_slot: int, now: float, peers: int = UNKNOWN
) -> Reading:
    """Return what is known after one more look, which took ``latency`` seconds."""
    usec = int(now * 1_000_000)
    problem = problem[:PROBLEM_MAX]
    if not problem:
        since = before.since_usec if before.healthy else usec
        count = min(max(0, peers), PEERS_MAX)
        return Reading(before.url, True, "", since, int(latency * 1e6), head_slot, 0, count)
    failures = before.failures + 1
    if before.healthy and failures < FAILURES:
        return replace(before, failures=failures, problem=problem)
    since = usec if before.healthy or not before.since_usec else before.since_usec
    return Reading(before.url, False, problem, since, 0, head_slot or before.head_slot, failures)


def seconds_to_next_epoch(chain: Chain, now: float) -> float:
    """Return the seconds until the second slot of the next epoch: nodes have followed by then."""
    epoch = chain.slot(now) // chain.slots_per_epoch + 1
    slot = epoch * chain.slots_per_epoch + 1
    due = chain.genesis_time + slot * chain.seconds_per_slot
    low, high = LIVENESS_SECONDS
    return max(low, min(due - now, high * LIVENESS_LOOKS))


def dump(
    found: Mapping[str, Reading],
    attesting: Mapping[str, Attesting],
    duties: "Mapping[str, Duties]" = NONE,
    slashed: Mapping[str, Sequence[str]] = NONE,
) -> bytes:
    """Return the bytes of the results; ``slashed`` has the keys by validator."""
    stored = {
        "beacons": [asdict(reading) for reading in found.values()],
        "validators": {name: asdict(value) for name, value in attesting.items()},
        "duties": {name: asdict(value) for name, value in duties.items()},
        # Its readers have a limit, which no number of keys must exceed.
        "slashed": {name: {"count": len(keys), "keys": keys[:SHOWN]}
                    for name, keys in slashed.items()},
    }  # fmt: skip
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
        count(item["since_usec"]),
        count(item["latency_usec"]),
        count(item["head_slot"]),
        count(item["failures"]),
        count(item["peers"], PEERS_MAX),
    )


def count(value: Value, high: int = (1 << 64) - 1) -> int:
    """Return a number of the results. Raises ConfigError."""
    return value.integer(0, high, "a number")


def attesting(path: Path = RESULTS) -> dict[str, Attesting]:
    """Return what is known of each validator by name; empty as ``readings`` is."""
    try:
        stored = read_json(path).mapping()["validators"].mapping()
        return {name: _attesting(item.mapping()) for name, item in stored.items()}
    except (KeyError, SupervisorError):
        return {}


def _attesting(item: Mapping[str, Value]) -> Attesting:
    live, keys = count(item["live"], KEYS_MAX), count(item["keys"], KEYS_MAX)
    return Attesting(count(item["epoch"]), live, keys)
