"""Watching for a twin: whether somebody else signs with keys that are silent here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from validator_supervisor import journal
from validator_supervisor.beacon import Beacon
from validator_supervisor.errors import HALT, SupervisorError
from validator_supervisor.networks import Chain
from validator_supervisor.nodes import ANY
from validator_supervisor.watch import UNKNOWN, Target, problem_of

# Whole epochs that have to pass without a sign of life.
EPOCHS = 2
# Looks at each epoch while it lasts; attestations of its last slot come in the next one's first.
LOOKS = 4


@dataclass(frozen=True)
class Clock:
    """Time and waiting, in seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def watch(
    beacons: Sequence[Beacon],
    chain: Chain,
    keys: Sequence[str],
    clock: Clock,
    tell: Callable[[str], None],
) -> None:
    """Return when EPOCHS epochs in a row, from the next one on, have passed without these keys.

    An epoch in which no node has answered does not count. Nor does the first one if a key was live
    in it: what was signed at the end of the epoch before, as by us, is in a block of this one, and
    there are nodes that go by the block (Lodestar). Raises SupervisorError ``Doppelganger``, which
    halts.
    """
    length = chain.seconds_per_slot * chain.slots_per_epoch
    first = epoch = _epoch(chain, clock.now()) + 1
    silent = 0
    while silent < EPOCHS:
        tell(f"watching for a twin in epoch {epoch}, {EPOCHS - silent} to go")
        answered, sign = False, ""
        for look in range(1, LOOKS + 1):
            # The last one a slot after its end, when its last attestations are in.
            extra = chain.seconds_per_slot if look == LOOKS else 0
            due = chain.genesis_time + epoch * length + look * length / LOOKS + extra
            clock.sleep(max(0.0, due - clock.now()))
            answered, seen = _look(beacons, chain, epoch, keys, clock.now())
            sign = sign or seen
            if sign and epoch > first:
                hint = "find it and switch it off before anything else"
                raise SupervisorError("Doppelganger", sign, hint, exit_status=HALT)
        if sign:
            journal.log(journal.NOTICE, f"{sign}, or has until epoch {first}: watching longer")
        silent = silent + 1 if answered and not sign else 0
        epoch += 1


def _epoch(chain: Chain, now: float) -> int:
    return chain.slot(now) // chain.slots_per_epoch


def behind(beacon: Beacon, chain: Chain, now: float) -> str:
    """Return why a node would not know what is on the chain now, or ``""``."""
    target = Target(beacon.url, ANY)
    # How many peers it has does not matter: its head moves, or it does not.
    return problem_of(target, beacon.chain(), chain, beacon.syncing(), UNKNOWN, now)


def _look(
    beacons: Sequence[Beacon], chain: Chain, epoch: int, keys: Sequence[str], now: float
) -> tuple[bool, str]:
    """Return whether any node has answered that would know, and who says that a key was live."""
    answered, sign = False, ""
    for beacon in beacons:
        try:
            indices = beacon.indices(keys)
            live = beacon.live(epoch, indices) if indices else 0
            # One that is late has not seen who is silent; what it has seen, it has.
            late = not live and behind(beacon, chain, now)
        except SupervisorError as failure:
            journal.log(journal.NOTICE, f"{beacon.url}: {failure.message}")
            continue
        answered = answered or not late
        if live:
            sign = f"somebody else signs with {live} of {len(keys)} keys, says {beacon.url}"
    return answered, sign
