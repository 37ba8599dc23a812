"""Which chain a validator is on, and what time it is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import lift, networks, watch
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.lift import Moment
from validator_supervisor.networks import Chain
from validator_supervisor.validators import Ethereum

# systemd-timesyncd(8) makes the first when it has set the clock, and touches the second while it
# is right, so that no later boot begins before it.
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
CLOCK = Path("/var/lib/systemd/timesync/clock")


def chain_of(applied: Applied, validator: Ethereum, pins: Path = networks.PINS) -> Chain:
    """Return the chain: a public one as it is known, another as its nodes have agreed.

    A development chain, each of which is another, is what a beacon node says. Raises
    SupervisorError ``NoChain`` (temporary).
    """
    network = validator.network
    known = watch.known_chain(network, networks.load_pins(pins))
    if known:
        return known
    if networks.NETWORKS.get(network) != networks.DEVELOPMENT:
        message = f"the nodes have not agreed yet which chain {network} is"
        raise SupervisorError("NoChain", message, exit_status=TEMPORARY)
    for url in applied.beacons(validator).values():
        try:
            return Beacon(url).chain()
        except SupervisorError:
            continue
    message = f"no beacon node says which chain {network} is"
    raise SupervisorError("NoChain", message, exit_status=TEMPORARY)


def heads(applied: Applied, validator: Ethereum, results: Path = watch.RESULTS) -> tuple[int, ...]:
    """Return the head slots of the validator's healthy nodes; without one, by those that are not.

    Healthy is who agrees with our clock: where nobody does, the clock may be what is wrong.
    """
    seen = watch.readings(results)
    urls = applied.beacons(validator).values()
    found = [seen[url] for url in urls if url in seen and seen[url].head_slot]
    healthy = [one for one in found if one.healthy]
    others = [one for one in found if one.problem.startswith(watch.HEAD)]
    return tuple(one.head_slot for one in healthy or others)


@dataclass(frozen=True)
class Time:
    """What time it is, in seconds since 1970: the latest that anything says it is at least.

    ``doubt`` says why it must not be used for a lift, ``verified`` that a time server was asked.
    """

    seconds: int
    verified: bool = False
    doubt: str = ""

    def moment(self, chain: Chain) -> Moment:
        """Return the slot and epoch of it."""
        return moment_at(chain, self.seconds)

    def for_lift(self) -> "Time":
        """Return itself, or raise SupervisorError ``ClockWrong``."""
        if self.doubt:
            hint = "set the clock, or say what time it is: --now SECONDS (since 1970)"
            raise SupervisorError("ClockWrong", self.doubt, hint, exit_status=TEMPORARY)
        return self


def moment_at(chain: Chain, seconds: int) -> Moment:
    """Return what a time is on a chain; before genesis it is slot 0."""
    seconds = max(seconds, chain.genesis_time)
    return lift.moment(chain.genesis_time, chain.seconds_per_slot, chain.slots_per_epoch, seconds)


def time_of(
    chain: Chain, clock: int, head_slots: Sequence[int], earliest: int, *, verified: bool
) -> Time:
    """Compare the clock with the nodes' heads and with what is certainly past (``earliest``).

    Where they differ by over an epoch somebody is wrong; a node that is, or lies, moves nothing.
    """
    epoch = chain.seconds_per_slot * chain.slots_per_epoch
    if verified and earliest - clock > lift.AHEAD_EPOCHS * epoch:
        earliest = clock  # it was written by a clock that was ahead
    by_heads = [chain.genesis_time + slot * chain.seconds_per_slot for slot in head_slots]
    near = [head for head in by_heads if head - max(clock, earliest) <= epoch]
    latest = max([clock, earliest, *near])
    doubt = ""
    if earliest - clock > epoch:
        doubt = f"the clock ({clock}) is {earliest - clock} s behind what was seen here before"
    for head in by_heads:
        if abs(head - clock) > epoch:
            side = "behind" if head > clock else "ahead of"
            doubt = f"the clock ({clock}) is {abs(head - clock)} s {side} a node's head"
    return Time(latest, verified and not doubt, doubt)


def past(path: Path = CLOCK) -> int:
    """Return a time that has certainly passed, as systemd keeps it over boots; 0: unknown."""
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0
