"""What a validator has to do that a restart would miss: blocks, and a sync committee's messages.

Attestations are not among it: there is one in every epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor import watch
from validator_supervisor.document import Value, read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import Chain

if TYPE_CHECKING:  # the controller reads results, and needs no HTTP for it
    from validator_supervisor.beacon import Beacon, Committees

# D-Bus gives times 64 bits.
MAX = (1 << 64) - 1
# Every slot of two epochs of the public networks; the file of results has a limit.
PROPOSALS_MAX = 64


@dataclass(frozen=True)
class Duties:
    """The duties known through an epoch, at some time; times in microseconds since 1970.

    ``proposals`` are slots to come, ``sync_until`` is the first epoch after membership in a sync
    committee, ``known_until_usec`` the end of ``epoch``. 0: none, or nothing is known.
    """

    epoch: int = 0
    proposals: tuple[int, ...] = ()
    sync_until: int = 0
    next_proposal_usec: int = 0
    sync_until_usec: int = 0
    known_until_usec: int = 0

    def __str__(self) -> str:
        words = [f"proposes in slot {self.proposals[0]}"] if self.proposals else []
        if self.sync_until:
            words.append(f"in the sync committee until epoch {self.sync_until}")
        return ", ".join(words)


@dataclass(frozen=True)
class Known:
    """What a beacon node has said of the epochs through ``epoch``."""

    chain: Chain
    epoch: int
    proposals: frozenset[int]
    sync_until: int

    def at(self, now: float) -> Duties | None:
        """Return what is left of it at ``now`` (Unix seconds); None where its time is over."""
        slot = self.chain.slot(now)
        if slot >= (self.epoch + 1) * self.chain.slots_per_epoch:
            return None
        # The block of the slot that has begun is on its way.
        left = tuple(sorted(one for one in self.proposals if one >= slot)[:PROPOSALS_MAX])
        sync_until = self.sync_until if self.sync_until > slot // self.chain.slots_per_epoch else 0
        return Duties(
            self.epoch,
            left,
            sync_until,
            self._usec(left[0]) if left else 0,
            self._usec(sync_until * self.chain.slots_per_epoch) if sync_until else 0,
            self._usec((self.epoch + 1) * self.chain.slots_per_epoch),
        )

    def _usec(self, slot: int) -> int:
        seconds = self.chain.genesis_time + slot * self.chain.seconds_per_slot
        return min(seconds * 1_000_000, MAX)


def ask(
    beacon: "Beacon",
    chain: Chain,
    epoch: int,
    committees: "Committees",
    keys: Sequence[str],
    indices: Sequence[int],
) -> Known:
    """Ask a beacon node about this epoch, and about the next one where it says that already.

    Raises SupervisorError.
    """
    found, through = beacon.proposals(epoch, _slots(chain, epoch), keys), epoch
    try:
        found |= beacon.proposals(epoch + 1, _slots(chain, epoch + 1), keys)
        through = epoch + 1
    except SupervisorError:
        pass  # there are servers that know one epoch alone
    until = _sync_until(beacon, epoch, through, committees, indices)
    return Known(chain, through, frozenset(found), until)


def _slots(chain: Chain, epoch: int) -> range:
    return range(epoch * chain.slots_per_epoch, (epoch + 1) * chain.slots_per_epoch)


def _sync_until(
    beacon: "Beacon", epoch: int, through: int, committees: "Committees", indices: Sequence[int]
) -> int:
    period, until = committees.epochs, 0
    # Two questions where a new committee begins in the time that is known.
    for asked in {through // period: through, epoch // period: epoch}.values():
        # Of the time before there are any, servers fail to say so.
        there = indices and asked >= committees.since
        if there and beacon.in_sync_committee(asked, indices):
            until = max(until, (asked // period + 1) * period)
    return until


def read(path: Path = watch.RESULTS) -> dict[str, Duties]:
    """Return what is known of each validator by name; empty as ``watch.readings`` is."""
    try:
        stored = read_json(path).mapping()["duties"].mapping()
        return {name: _duties(item.mapping()) for name, item in stored.items()}
    except (KeyError, SupervisorError):
        return {}


def _duties(item: Mapping[str, Value]) -> Duties:
    return Duties(
        watch.count(item["epoch"]),
        tuple(watch.count(slot) for slot in item["proposals"].items()),
        watch.count(item["sync_until"]),
        watch.count(item["next_proposal_usec"]),
        watch.count(item["sync_until_usec"]),
        watch.count(item["known_until_usec"]),
    )
