"""Before a client starts: its database is at or above everything that is known, or made so."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from validator_supervisor import lift, slashing
from validator_supervisor.chain import Time
from validator_supervisor.database import Database, readable
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import HALT, SupervisorError
from validator_supervisor.handover import Handover
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.networks import Chain

# Instead of a row of the table: nothing was lost, but another client is to know it.
CHANGE = "change"


@dataclass(frozen=True)
class Plan:
    """What to do: a row of the table, why, and what to import (None: nothing)."""

    row: str
    reason: str
    wanted: Interchange | None = None


def plan(
    handover: Handover,
    said: Interchange | None,
    pending: Interchange | None,
    problem: str,
    time: Callable[[], Time],
    inherited: Interchange | None = None,
) -> Plan:
    """Compare what a database says (``said``; None with a ``problem``) with what it must say.

    ``pending`` is what an interrupted import was about, ``inherited`` what another client has left;
    ``time`` is asked only for a lift. Raises SupervisorError: ``OtherChain`` and ``Ahead``, which
    halt, and ``ClockWrong``.
    """
    try:
        if inherited and not pending and not slashing.compare(handover.required, inherited):
            reason = "another client was here, and has stopped"
            return Plan(CHANGE, reason, slashing.minify(inherited))
        pending = pending or inherited
        if said and not pending and not slashing.compare(handover.required, said):
            return Plan(CONTINUE, "the database is at or above everything that is known")
        known = [one for one in (said, pending) if one]
        both = slashing.merge(handover.required, handover.floor, *known)
        whole = bool(known) and not slashing.compare(
            handover.floor, slashing.merge(known[0], *known)
        )
        if whole and handover.row != RESTORE:
            reason = "an import was interrupted" if pending else "after a power cut"
            return Plan(POWER_CUT, reason, slashing.minify(both))
        return _restored(handover, both, known, problem, time().for_lift())
    except SupervisorError as failure:
        if failure.code in ("OtherChain", "Ahead"):
            failure.exit_status = HALT
        raise


def _restored(
    handover: Handover, both: Interchange, known: list[Interchange], problem: str, now: Time
) -> Plan:
    have = {key for one in known for key in one.keys}
    missing = [key for key in handover.floor.keys if key not in have]
    # What has come from elsewhere was signed with by another clock.
    elsewhere = handover.other_host or not now.verified or bool(known and missing)
    lifted = lift.lift(both, now.moment(handover.chain), other_host=elsewhere)
    reason = problem or (
        f"the database does not know {missing[0]}"
        if missing
        else "the database is behind an archive"
    )
    return Plan(RESTORE, reason, lifted)


def of_boot(floor: Interchange, chain: Chain, now: Time, age: int) -> Interchange:
    """Return ``floor`` lifted to the begin of this boot, ``age`` seconds ago.

    Nothing has been signed in this boot yet: what is not known is from before it. What is known may
    be far above that. Raises SupervisorError ``ClockWrong``.
    """
    began = replace(now.for_lift(), seconds=now.seconds - age).moment(chain)
    empty = replace(floor, keys={key: History() for key in floor.keys})
    marks = lift.lift(empty, began, other_host=not now.verified)
    return slashing.minify(slashing.merge(floor, marks))


def again(handover: Handover, now: Time, age: int) -> Handover:
    """Return what a power cut requires by a clock that is right now, this boot being ``age`` old.

    What was required before stays so, for the final backup is compared with it, but where it is too
    far ahead: then the clock was, too. Raises SupervisorError ``ClockWrong``.
    """
    required = of_boot(handover.floor, handover.chain, now, age)
    if not lift.ahead(handover.required, now.moment(handover.chain)):
        required = slashing.minify(slashing.merge(required, handover.required))
    return replace(handover, required=required)


def carry_out(planned: Plan, database: Database) -> None:
    """Import what is wanted. Raises SupervisorError."""
    if planned.wanted is not None:
        database.replace(planned.wanted)


def look(handover: Handover, database: Database, time: Callable[[], Time]) -> Plan:
    """Read the database, and say what is to be done. Raises as ``plan`` does."""
    said, problem = readable(database)
    return plan(handover, said, database.pending(), problem, time, database.inherited())
