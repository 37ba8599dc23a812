"""What a start would do, for a person: the decision, and everything that it is made of."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from validator_supervisor import chain, exported, gather, halt, marks, slashing, state, web3signer
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.interchange import Interchange
from validator_supervisor.liveness import EPOCHS
from validator_supervisor.marks import Own
from validator_supervisor.networks import Chain
from validator_supervisor.orders import Orders
from validator_supervisor.slashing import Watermark
from validator_supervisor.state import Job, Prepared

REFUSED = "refused"
# How many archives and claims are named, the newest first.
SHOWN = 12


@dataclass(frozen=True)
class Explanation:
    """The decision, and the latch that keeps it from being asked for; times in Unix seconds.

    ``first_epoch`` may be the first with an attestation; before it ``epochs_lost`` epochs are lost
    that a plain restart would not lose. ``signer`` is what a person should know of a Web3Signer.
    """

    validator: str
    row: str
    reason: str
    hint: str = ""
    halted: str = ""
    seen: list[dict[str, object]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    unreached: dict[str, str] = field(default_factory=dict)
    keys: int = 0
    watermark: Watermark | None = None
    lift: Watermark | None = None
    epoch_now: int = 0
    first_epoch: int = 0
    first_time: int = 0
    epochs_lost: int = 0
    signer: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """Return the members as JSON has them."""
        return asdict(self)


def explain(job: Job) -> Explanation:
    """Look at everything, decide, and change nothing. Raises SupervisorError ``NoChain``."""
    found = gather.gather(job.store, job.places, job.identity, state.GATHER_SECONDS)
    known = chain.chain_of(job.applied, job.validator)
    order = state.ordered(job.store)
    common = {
        "halted": halt.reason(job.validator.name),
        "seen": list(_seen(job, found)),
        "refused": [asdict(one) for one in found.refused],
        "unreached": found.unseen,
    }
    try:
        prepared = state.considered(job, order, found, known)
    except SupervisorError as failure:
        return Explanation(
            job.validator.name,
            REFUSED,
            failure.message,
            failure.hint,
            **common,  # type: ignore[arg-type]
        )
    row, reason = _row(job, prepared)
    first = _first_epoch(prepared, row, order)
    now = prepared.time.moment(known).epoch
    return Explanation(
        validator=job.validator.name,
        row=row,
        reason=reason,
        keys=len(prepared.chosen.keys),
        watermark=highest(prepared.decision.floor),
        lift=highest(prepared.required) if prepared.required != prepared.decision.floor else None,
        epoch_now=now,
        first_epoch=first,
        first_time=_begin(known, first),
        epochs_lost=first - now,
        signer=list(web3signer.remarks(job.validator, prepared.chosen)),
        **common,  # type: ignore[arg-type]
    )


def _row(job: Job, prepared: Prepared) -> tuple[str, str]:
    """Return the row that it will be when the validator's own start has seen its database."""
    row, reason = prepared.decision.row, prepared.decision.reason
    if row == RESTORE:
        return row, reason
    try:
        last = exported.read(job.data)
    except SupervisorError as failure:
        return RESTORE, f"what the client has exported cannot be read: {failure.message}"
    if last is None:
        return row, f"{reason}; the client has not exported yet what it says"
    below = slashing.compare(prepared.decision.floor, last.protection)
    if below:
        one = below[0]
        return RESTORE, f"the database is behind an archive: {one.field} of {one.key}"
    if row == POWER_CUT and not slashing.compare(prepared.required, last.protection):
        return CONTINUE, "the database has been lifted since this boot began"
    return row, reason


def _first_epoch(prepared: Prepared, row: str, order: Orders) -> int:
    now = prepared.time.moment(prepared.chain).epoch
    silent = highest(prepared.required).target
    after = now if silent is None else max(now, silent + 1)
    if row == CONTINUE:
        return now
    return max(after, now + 1 + EPOCHS) if row == RESTORE and not order.no_watch else after


def _begin(known: Chain, epoch: int) -> int:
    return known.genesis_time + epoch * known.slots_per_epoch * known.seconds_per_slot


def highest(interchange: Interchange) -> Watermark:
    """Return the highest of each over all keys."""
    every = [slashing.watermark(history) for history in interchange.keys.values()]
    return Watermark(
        max((mark.slot for mark in every if mark.slot is not None), default=None),
        max((mark.source for mark in every if mark.source is not None), default=None),
        max((mark.target for mark in every if mark.target is not None), default=None),
    )


def _seen(job: Job, found: Found) -> Iterator[dict[str, object]]:
    own, every = Own.of(job.store), marks.marks(found)
    theirs = marks.others(own, every)
    clean = {one.item.name: one.contents.manifest.clean for one in found.archives}
    for mark in every[:SHOWN]:
        who = "a copy of this host" if mark in theirs else "this host"
        yield {
            "name": mark.name,
            "kind": "archive" if mark.name in clean else "claim",
            "clean": clean.get(mark.name, False),
            "time": mark.time,
            "host": who if mark.host == own.host else mark.host,
            "where": list(mark.where),
        }


def as_text(shown: Explanation) -> Iterator[str]:
    """Yield the lines for a person."""
    yield f"{shown.validator}: {shown.row}: {shown.reason}"
    if shown.hint:
        yield f"hint: {shown.hint}"
    if shown.halted:
        yield f"halted: {shown.halted}"
        yield f"hint: when that is settled: validator-supervisor resume {shown.validator}"
    for one in shown.seen:
        clean = " (clean)" if one["clean"] else ""
        where = ", ".join(str(place) for place in one["where"])  # type: ignore[attr-defined]
        when = _when(int(str(one["time"])))
        yield f"  {when}  {one['name']}{clean}  by {one['host']}  on {where}"
    for refused in shown.refused:
        yield f"  not used: {refused['name']} on {refused['where']}: {refused['reason']}"
    for node, problem in shown.unreached.items():
        yield f"  not reached: {node}: {problem}"
    if shown.row == REFUSED:
        return
    yield from (f"note: {line}" for line in shown.signer)
    yield f"watermark of {shown.keys} keys: {_mark(shown.watermark)}"
    yield f"lift: {_mark(shown.lift) if shown.lift else 'none'}"
    when = "now" if shown.row == CONTINUE else _when(shown.first_time)
    yield (
        f"first possible attestation: in epoch {shown.first_epoch}, {when}; "
        f"{shown.epochs_lost} epochs lost"
    )


def _mark(mark: Watermark | None) -> str:
    if mark is None or (mark.slot is None and mark.target is None):
        return "nothing was signed"
    return f"slot {mark.slot}, source {mark.source}, target {mark.target}"


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
