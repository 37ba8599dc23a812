"""Marks: who has run a validator, by the archives and claims that were found."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from validator_supervisor import age, chain, claim, host
from validator_supervisor.claim import Claim
from validator_supervisor.gather import Found
from validator_supervisor.store import CLAIM, Store

# Between two clocks that were both set by a time server.
CLOCKS_SECONDS = 60


@dataclass(frozen=True)
class Mark:
    """That a host has run the validator: from an archive or a claim; ``time`` in Unix seconds."""

    sequence: int
    host: str
    boot: str
    time: int
    name: str
    where: tuple[str, ...]


@dataclass(frozen=True)
class Own:
    """What tells our marks from those of others.

    ``boots`` are those in which this disk has run the validator, ``accepted`` is up to where a
    person has said that others are off, and ``began`` is when this boot did (Unix seconds; 0: not
    known for certain).
    """

    host: str
    boot: str
    boots: frozenset[str]
    accepted: int = -1
    began: int = 0

    @classmethod
    def of(cls, store: Store) -> "Own":
        """Return what it is on this host. Raises SupervisorError."""
        boots = frozenset(store.boots())
        began = int(time.time()) - host.boot_age() if chain.SYNCHRONISED.exists() else 0
        return cls(host.host_id(), host.boot_id(), boots, store.accepted(), began)


def marks(found: Found) -> list[Mark]:
    """Return who has run the validator, the last one first."""
    return sorted(_marks(found), key=lambda mark: mark.sequence, reverse=True)


def _marks(found: Found) -> Iterator[Mark]:
    for one in found.archives:
        by = one.contents.manifest
        yield Mark(one.item.sequence, by.host, by.boot, by.created, one.item.name, one.where)
    for seen in found.claims:
        made = seen.claim
        yield Mark(seen.item.sequence, made.host, made.boot, made.time, seen.item.name, seen.where)


def others(own: Own, every: Sequence[Mark]) -> list[Mark]:
    """Return those of somebody else, in the same order: another host, or a copy of our disk.

    An earlier boot of ours is over; what it does after this one began, a copy does.
    """
    known = own.boots | {own.boot}
    first = min((one.sequence for one in every if _now(own, one)), default=None)

    def ours(one: Mark) -> bool:
        if one.host != own.host or one.boot not in known:
            return False
        late = bool(own.began) and one.time > own.began + CLOCKS_SECONDS
        late = late or (first is not None and one.sequence > first)
        return _now(own, one) or not late

    return [one for one in every if not ours(one)]


def _now(own: Own, one: Mark) -> bool:
    return one.host == own.host and one.boot == own.boot


def foreign(own: Own, found: Found) -> Mark | None:
    """Return the newest mark of somebody else that no person has accepted.

    That ours is newer proves nothing: our clock may have been ahead, and a start that was cut off,
    or a stop, has left a mark that is newer than that of the host which runs it.
    """
    every = marks(found)
    theirs = others(own, every)
    last = max((one.sequence for one in every if one not in theirs), default=-1)
    if theirs and (theirs[0].sequence > own.accepted or theirs[0].sequence >= last):
        return theirs[0]
    return None


def remember(store: Store, identity: age.X25519Identity, mark: Mark) -> None:
    """Keep somebody else's mark here, too: the node that has shown it may be away next time.

    The caller holds the store's lock. Raises OSError.
    """
    kept = Claim(claim.VERSION, store.validator, mark.host, mark.boot, mark.sequence, mark.time)
    store.add(claim.seal(kept, identity), CLAIM, mark.sequence)
