"""Voluntary exits: whether one would count, what it means, and from when the key is out.

What counts is process_voluntary_exit of the consensus specification (Electra).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from validator_supervisor import eip55
from validator_supervisor.beacon import FAR_FUTURE_EPOCH, Record
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import Chain

# An exit takes effect this many epochs after the one that it is in at the earliest, with every
# preset: MAX_SEED_LOOKAHEAD and 1.
LOOKAHEAD = 5
# The last second that has a date of four digits.
TIME_MAX = 253402300799
# Of the withdrawal credentials, the first byte.
BLS, ADDRESS = "0x00", ("0x01", "0x02")


@dataclass(frozen=True)
class Seen:
    """What a beacon node says of one key: ``period`` is SHARD_COMMITTEE_PERIOD.

    ``partial`` are the epochs of the partial withdrawals that it waits for.
    """

    record: Record
    period: int
    partial: Sequence[int] = ()


def exiting(record: Record) -> bool:
    """Whether an exit is on its way already, or over."""
    return record.exit_epoch != FAR_FUTURE_EPOCH


def begin(chain: Chain, epoch: int) -> int | None:
    """Return when an epoch begins (Unix seconds), None where that is beyond every calendar."""
    seconds = chain.genesis_time + epoch * chain.slots_per_epoch * chain.seconds_per_slot
    return seconds if seconds <= TIME_MAX else None


def epoch_words(chain: Chain, epoch: int) -> str:
    """Return words for an epoch and its time."""
    seconds = begin(chain, epoch)
    if seconds is None:
        return f"epoch {epoch}"
    return f"epoch {epoch} ({time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(seconds))})"


def check(seen: Seen, chain: Chain, epoch: int) -> None:
    """Raise SupervisorError ``WouldNotCount`` where the chain would not take an exit in ``epoch``.

    It says from when it would, where that is a matter of time.
    """
    problem, hint = _problem(seen, chain, epoch)
    if problem:
        raise SupervisorError("WouldNotCount", f"an exit would not count: {problem}", hint)


def _problem(seen: Seen, chain: Chain, epoch: int) -> tuple[str, str]:
    record = seen.record
    first = record.activation_epoch + seen.period
    later = f"it counts from {epoch_words(chain, first)} on"
    if record.slashed:
        return "it is slashed, and leaves by itself", ""
    if record.activation_epoch == FAR_FUTURE_EPOCH:
        return f"it is not active yet ({record.status})", ""
    if record.activation_epoch > epoch:
        return f"it is not active yet ({record.status})", later
    if epoch < first:
        return f"it has not been active for {seen.period} epochs yet", later
    if not record.status.startswith("active"):
        return f"it is not active ({record.status})", ""
    if seen.partial:
        made = f"when they are made, not before {epoch_words(chain, max(seen.partial))}"
        return f"it waits for {len(seen.partial)} partial withdrawals", f"it counts {made}"
    return "", ""


def meaning(name: str, key: str, seen: Seen, chain: Chain, epoch: int) -> list[str]:
    """Return the lines that tell a person what an exit in ``epoch`` means."""
    record, soonest = seen.record, epoch_words(chain, epoch + LOOKAHEAD)
    return [
        f"An exit of {key} (validator {record.index} of the chain, {name} here) is final: nobody",
        "can undo it, and the key never signs again.",
        f"It must go on signing until its exit epoch, which is not before {soonest},",
        "and later where others wait to leave.",
        *_money(record.credentials),
    ]


def _money(credentials: str) -> list[str]:
    if credentials.startswith(ADDRESS):
        address = eip55.checksummed(f"0x{credentials[-40:]}")
        return [f"Its balance goes to {address} some time after that."]
    if credentials.startswith(BLS):
        return [
            "Its withdrawal credentials are a BLS key (0x00): THE BALANCE IS STUCK after the exit,",
            "until they are changed to an address, which needs that key (BLS to execution change).",
        ]
    return [f"Its balance goes where its withdrawal credentials say: {credentials}."]


def told(name: str, key: str, record: Record, chain: Chain, epoch: int) -> list[str]:
    """Return the lines about an exit that is on its way, or over, in ``epoch``."""
    if record.exit_epoch <= epoch:
        return [f"{key} is out since {epoch_words(chain, record.exit_epoch)}: {record.status}"]
    return [
        f"{key} leaves: {record.status}, out from {epoch_words(chain, record.exit_epoch)} on",
        f"{name} must go on running until then",
    ]


def as_json(key: str, record: Record, chain: Chain) -> dict[str, object]:
    """Return the same for a program; ``exit_time`` in Unix seconds, null beyond every calendar."""
    return {
        "key": key,
        "status": record.status,
        "exit_epoch": record.exit_epoch,
        "exit_time": begin(chain, record.exit_epoch),
    }
