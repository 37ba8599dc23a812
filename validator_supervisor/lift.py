"""Watermarks from the clock, for keys whose last signatures may not be in any document.

At slot S of epoch E nothing above source E - 1, target E and a block at slot S + 1 (prepared ahead)
can have been signed honestly: E's own attestations have at best the source E - 1. Lifted to these,
a key is silent until the next epoch, and safe.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import NUMBER_END, Interchange
from validator_supervisor.slashing import Difference, Watermark, minified, watermark

# Another host's clock may have been ahead of ours, by less than both of these.
OTHER_HOST_EPOCHS = 1
OTHER_HOST_SLOTS = 32
# Clocks that differ explain so many epochs, and nothing explains more.
AHEAD_EPOCHS = 2


@dataclass(frozen=True)
class Moment:
    """A time on a chain: a slot, and how many of them are an epoch."""

    slot: int
    slots_per_epoch: int

    @property
    def epoch(self) -> int:
        """The epoch that the slot is in."""
        return self.slot // self.slots_per_epoch


def moment(genesis_time: int, seconds_per_slot: int, slots_per_epoch: int, now: int) -> Moment:
    """Return what ``now`` is on a chain; both times are seconds since 1970.

    Raises SupervisorError before genesis, and for lengths below 1.
    """
    if seconds_per_slot < 1 or slots_per_epoch < 1:
        raise SupervisorError(
            "InvalidChain", "a slot has seconds and an epoch has slots: 1 or more"
        )
    if now < genesis_time:
        message = f"now ({now}) is before the chain's genesis ({genesis_time})"
        raise SupervisorError("BeforeGenesis", message, "is the clock right, and the genesis time?")
    slot = (now - genesis_time) // seconds_per_slot
    if slot + OTHER_HOST_SLOTS >= NUMBER_END:
        raise SupervisorError("InvalidChain", f"slot {slot} is above what a document can hold")
    return Moment(slot, slots_per_epoch)


def ahead(interchange: Interchange, now: Moment) -> tuple[Difference, ...]:
    """Return the watermarks (``found``) that are over two epochs above now (``expected``).

    Merging never lowers, and so one such document would silence a key for ever. What a lift for
    another host has made is never ahead, however short the epochs are.
    """
    return tuple(_ahead(interchange, now))


def _ahead(interchange: Interchange, now: Moment) -> Iterator[Difference]:
    slot = now.slot + max(AHEAD_EPOCHS * now.slots_per_epoch, OTHER_HOST_SLOTS)
    epoch = now.epoch + AHEAD_EPOCHS
    for key, history in sorted(interchange.keys.items()):
        mark = watermark(history)
        if mark.slot is not None and mark.slot > slot:
            yield Difference(key, "slot", now.slot, mark.slot)
        if mark.source is not None and mark.source > epoch:
            yield Difference(key, "source_epoch", now.epoch, mark.source)
        if mark.target is not None and mark.target > epoch:
            yield Difference(key, "target_epoch", now.epoch, mark.target)


def lift(
    interchange: Interchange, now: Moment, *, source: int | None = None, other_host: bool = False
) -> Interchange:
    """Return the minified document with every key, also one without entries, at or above now.

    ``other_host``: its clock may have been ahead; (E, E + 1) and slot + 32 instead of (E - 1, E)
    and slot + 1. ``source`` replaces the lift's source: on a chain that does not finalise, a
    person may know that a lower one is safe. Nothing is lowered; slot, source and target are taken
    independently. In epoch 0 the source is 0.

    Raises SupervisorError: ``Ahead`` for a watermark that is (see ``ahead``), ``InvalidSource`` for
    a source above E.
    """
    for found in ahead(interchange, now):
        message = (
            f"{found.key}: {found.field} {found.found} is over 2 epochs above {found.expected}"
        )
        raise SupervisorError("Ahead", message, "is the clock right? otherwise leave this file out")
    if source is not None and source > now.epoch:
        message = f"source {source} is above the epoch now, {now.epoch}"
        raise SupervisorError("InvalidSource", message)
    floor = _floor(now, source, other_host)
    keys = {
        key: minified(_raised(watermark(history), floor))
        for key, history in interchange.keys.items()
    }
    return Interchange(interchange.genesis_validators_root, keys)


def _floor(now: Moment, source: int | None, other_host: bool) -> Watermark:
    target = now.epoch + (OTHER_HOST_EPOCHS if other_host else 0)
    slot = now.slot + (OTHER_HOST_SLOTS if other_host else 1)
    return Watermark(slot, max(target - 1, 0) if source is None else source, target)


def _raised(mark: Watermark, floor: Watermark) -> Watermark:
    return Watermark(
        _higher(mark.slot, floor.slot),
        _higher(mark.source, floor.source),
        _higher(mark.target, floor.target),
    )


def _higher(one: int | None, other: int | None) -> int | None:
    return max((number for number in (one, other) if number is not None), default=None)
