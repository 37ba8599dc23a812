"""Whether a validator may start on this host, and what has to be done first.

A value in, a value out: the table is in validator-state@.service(8). What must not start is a
SupervisorError; with ``HALT`` as its exit status it is latched.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from validator_supervisor import halt, lift, slashing
from validator_supervisor.contents import Contents
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.gather import Archive, Found
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.lift import Moment
from validator_supervisor.marks import Mark, Own, foreign

# The rows of the table that lead to a start.
CONTINUE, POWER_CUT, RESTORE = "continue", "power-cut", "restore"


@dataclass(frozen=True)
class Situation:
    """What this host knows by itself.

    ``boots`` are those in which this disk has run the validator; ``running`` is the one in which it
    was started and not stopped well, or ``""``; ``database``: the client has one;
    ``durable``: it survives a power cut; ``root`` is the chain's genesis_validators_root.
    """

    host: str
    boot: str
    boots: frozenset[str]
    running: str
    database: bool
    durable: bool
    root: bytes
    # The newest archive or claim of another host after which a person goes on; -1: none.
    take_over: int = -1
    # Up to where that was so before.
    accepted: int = -1
    # Keys that have come since the last start, from who knows where.
    imported: frozenset[str] = frozenset()
    require_nodes: int = 0
    # When this boot began, in Unix seconds; 0: not known for certain.
    began: int = 0
    # When the keys left for another host, in Unix seconds; 0: they have not.
    retired: int = 0

    @property
    def own(self) -> Own:
        """What tells our marks from those of others."""
        return Own(self.host, self.boot, self.boots, self.accepted, self.began)


@dataclass(frozen=True)
class Decision:
    """How to start. ``floor`` has every key, and of each the highest that is known."""

    row: str
    reason: str
    newest: Contents
    floor: Interchange
    other_host: bool


def decide(situation: Situation, found: Found, now: Moment) -> Decision:
    """Return how to start, ``now`` being the latest that it can be.

    Raises SupervisorError: ``Retired``, ``Moved``, ``LostHistory``, ``OtherChain`` and ``Ahead``
    halt, ``NoKeys`` refuses, ``NodesUnseen`` is temporary.
    """
    if situation.retired and situation.take_over < 0:
        message, hint = halt.retired(situation.retired), halt.RETIRED_HINT
        raise SupervisorError("Retired", message, hint, exit_status=HALT)
    if len(found.seen) < situation.require_nodes:
        words = f"{situation.require_nodes} nodes must be seen first"
        raise _unseen(found, words, "set require_nodes: lower")
    if not found.archives:
        raise _nothing(situation, found)
    theirs = foreign(situation.own, found)
    if theirs and theirs.sequence > situation.take_over:
        raise _moved(situation, theirs)
    for archive in found.archives:
        _check(archive, situation.root, now)
    newest = found.archives[0].contents
    floor = _floor(found, situation.root)
    row, reason, other_host = _row(situation, newest, floor)
    if not situation.database and situation.take_over < 0 and found.unseen:
        raise _unseen(found, reason)
    return Decision(row, reason, newest, floor, other_host)


def _row(situation: Situation, newest: Contents, floor: Interchange) -> tuple[str, str, bool]:
    unknown = [
        key for key, history in floor.keys.items() if not (history.blocks or history.attestations)
    ]
    fresh = bool(situation.imported & newest.keys.keys())
    elsewhere = newest.manifest.host != situation.host or bool(unknown) or fresh
    if situation.take_over >= 0:
        return RESTORE, "taken over", True
    if not situation.database:
        return RESTORE, "there is no database of the client", elsewhere
    if fresh:
        return RESTORE, "keys were imported", True
    if situation.running not in ("", situation.boot) and not situation.durable:
        return (
            POWER_CUT,
            "it was not stopped before this boot, and its database may lack the last",
            elsewhere,
        )
    return CONTINUE, "the database is here", elsewhere


def _floor(found: Found, root: bytes) -> Interchange:
    known = [one.contents.protection for one in found.archives if one.contents.protection]
    empty = {key: History() for key in found.archives[0].contents.keys}
    return slashing.minify(slashing.merge(Interchange(root, empty), *known))


def _check(archive: Archive, root: bytes, now: Moment) -> None:
    protection = archive.contents.protection
    if protection is None:
        return
    aside = (
        f"leave it out for good: validator-supervisor slashing quarantine NAME {archive.item.name}"
    )
    if protection.genesis_validators_root != root:
        found, expected = protection.genesis_validators_root.hex(), root.hex()
        message = f"{archive.item.name} is of another chain: root 0x{found}, not 0x{expected}"
        raise SupervisorError("OtherChain", message, aside, exit_status=HALT)
    for one in lift.ahead(protection, now):
        message = (
            f"{archive.item.name}: {one.field} {one.found} of {one.key} is over 2 epochs above"
            f" {one.expected}"
        )
        raise SupervisorError("Ahead", message, aside, exit_status=HALT)


def _moved(situation: Situation, theirs: Mark) -> SupervisorError:
    clone = theirs.host == situation.host
    who = "a copy of this host" if clone else f"host {theirs.host}"
    where = ", ".join(theirs.where)
    message = f"{who} has run it since: {theirs.name} on {where}"
    hint = "if that one is off and stays off: validator-supervisor take-over NAME"
    return SupervisorError("Moved", message, hint, exit_status=HALT)


def _nothing(situation: Situation, found: Found) -> SupervisorError:
    if found.unseen:
        return _unseen(found, "there is no archive here")
    if situation.boots or situation.database:
        message = "it has run here, and no archive is left that opens"
        return SupervisorError("LostHistory", message, _reasons(found), exit_status=HALT)
    return SupervisorError(
        "NoKeys", "it has no keys", _reasons(found) or "validator-supervisor import-keystore"
    )


WITHOUT = "to go on without them: validator-supervisor take-over NAME"


def _unseen(found: Found, reason: str, way: str = WITHOUT) -> SupervisorError:
    nodes = "; ".join(f"{node}: {problem}" for node, problem in found.unseen.items())
    message = f"{reason}, and nodes are not reached ({nodes or 'none is configured'})"
    hint = f"it is tried again; {way}"
    return SupervisorError("NodesUnseen", message, hint, exit_status=TEMPORARY)


def _reasons(found: Found) -> str:
    return "; ".join(_lines(found))


def _lines(found: Found) -> Iterator[str]:
    for one in found.refused:
        yield f"{one.name} on {one.where} {one.reason}"
