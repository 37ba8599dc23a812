"""validator-state@NAME.service: gather, decide and hand over before a start; back up after it."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from validator_supervisor import (
    age,
    backup,
    chain,
    exported,
    handover,
    host,
    journal,
    lift,
    marks,
    orders,
    preparation,
    slashing,
    web3signer,
)
from validator_supervisor.applied import Applied
from validator_supervisor.chain import Time
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Client
from validator_supervisor.clients.client import Place as Files
from validator_supervisor.contents import AnyKey
from validator_supervisor.decision import (
    CONTINUE,
    POWER_CUT,
    RESTORE,
    Decision,
    Situation,
    decide,
)
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.gather import Found, gather
from validator_supervisor.handover import Handover
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.marks import Own
from validator_supervisor.networks import Chain
from validator_supervisor.orders import Orders
from validator_supervisor.place import Place
from validator_supervisor.store import ARCHIVE, Item, Store
from validator_supervisor.validators import Ethereum
from validator_supervisor.web3signer import Chosen

# What clients write, below it a directory for each validator.
DATA = Path("/var/lib/validator")
# Nodes that do not answer in this time are gone on without, where that is safe.
GATHER_SECONDS = 15.0


@dataclass(frozen=True)
class Job:
    """What the job of one validator works with; ``data`` is the client's directory."""

    applied: Applied
    validator: Ethereum
    store: Store
    identity: age.X25519Identity
    places: Sequence[Place]
    data: Path

    @property
    def databases(self) -> list[Client]:
        """The clients whose databases are there; more than one after a change of client."""
        files = Files(self.data, self.data)
        return [client for client in CLIENTS.values() if client.database(files).exists()]


def job(
    applied: Applied,
    validator: Ethereum,
    identity: age.X25519Identity,
    places: Sequence[Place],
) -> Job:
    """Return the job of a validator with its directories."""
    name = validator.name
    return Job(applied, validator, Store(name), identity, places, DATA / name)


@dataclass(frozen=True)
class Prepared:
    """A decision that nothing has been done about yet; ``required`` is what it makes of it.

    ``chosen`` are the keys that will sign.
    """

    found: Found
    decision: Decision
    chain: Chain
    time: Time
    required: Interchange
    situation: Situation
    chosen: Chosen

    @property
    def earliest(self) -> int:
        """Return a time that has passed: something that was found was made then."""
        return max(mark.time for mark in marks.marks(self.found))


def ordered(store: Store) -> Orders:
    """Return what a person has ordered for the next start; nothing where there is nothing."""
    boot = host.boot_id()
    return orders.look(store, boot) or Orders.of(boot)


def considered(job: Job, order: Orders, found: Found, known: Chain) -> Prepared:
    """Decide about what was found. Raises as ``decide`` and ``web3signer.chosen`` do."""
    now = _time(job, known, found, order)
    own = Own.of(job.store)
    situation = Situation(
        host=own.host,
        boot=own.boot,
        boots=own.boots,
        accepted=own.accepted,
        began=own.began,
        running=job.store.running(),
        database=bool(job.databases),
        durable=all(client.durable for client in job.databases),
        root=bytes.fromhex(known.genesis_validators_root.removeprefix("0x")),
        take_over=order.sequence if order.take_over else -1,
        imported=frozenset(job.store.imported()),
        require_nodes=job.validator.require_nodes,
        retired=job.store.retired(),
    )
    decision = decide(situation, found, now.moment(known))
    # After what halts. Keys that a Web3Signer does not have now are none to lift and to watch for.
    chosen = web3signer.chosen(job.validator, decision.newest)
    here = situation.imported - {*chosen.absent}
    if here != situation.imported:
        situation = replace(situation, imported=here)
        decision = decide(situation, found, now.moment(known))
    required = _required(decision, now, known)
    return Prepared(found, decision, known, now, required, situation, chosen)


def _time(job: Job, known: Chain, found: Found, order: Orders) -> Time:
    if order.now:
        return Time(order.now + orders.uptime() - order.typed)
    seen = [mark.time for mark in marks.marks(found)]
    return chain.time_of(
        known,
        int(time.time()),
        chain.heads(job.applied, job.validator),
        max([chain.past(), *seen]),
        verified=chain.SYNCHRONISED.exists(),
    )


def _required(decision: Decision, now: Time, known: Chain) -> Interchange:
    """Return what the database must be at or above before the client starts."""
    if decision.row == CONTINUE:
        return decision.floor
    if decision.row == POWER_CUT:
        return preparation.of_boot(decision.floor, known, now, host.boot_age())
    now = now.for_lift()
    elsewhere = decision.other_host or not now.verified
    # What is known may be far above the begin of this boot; decide() has looked whether it is too
    # far above now.
    empty = {key: History() for key in decision.floor.keys}
    marks = lift.lift(replace(decision.floor, keys=empty), now.moment(known), other_host=elsewhere)
    return slashing.minify(slashing.merge(decision.floor, marks))


def start(job: Job, runtime: Path) -> str:
    """Prepare a start, make it known that this host runs the validator, and hand over.

    Returns a line for a person. Raises SupervisorError, and OSError where a disk is full; what was
    written by then is safe to find at the next attempt.
    """
    order, archives = ordered(job.store), _archives(job.store)
    found = gather(job.store, job.places, job.identity, GATHER_SECONDS)
    _remember(job, found)
    prepared = considered(job, order, found, chain.chain_of(job.applied, job.validator))
    for one in prepared.found.refused:
        journal.log(journal.WARNING, f"not used: {one.name} on {one.where} {one.reason}")
    for node, problem in prepared.found.unseen.items():
        journal.log(journal.NOTICE, f"{node} is not reached: {problem}")
    for line in web3signer.remarks(job.validator, prepared.chosen):
        journal.log(journal.WARNING, line)
    with job.store.locked():
        if orders.look(job.store, host.boot_id()) not in (None, order):
            message = "somebody has given another order meanwhile"
            raise SupervisorError("OrdersChanged", message, exit_status=TEMPORARY)
        if _archives(job.store) - archives:
            # One that came after we looked may be without a key that we would hand over.
            message = "there is a newer archive meanwhile"
            raise SupervisorError("ArchivesChanged", message, exit_status=TEMPORARY)
        if job.store.retired() != prepared.situation.retired:
            message = "it was retired, or adopted, meanwhile"
            raise SupervisorError("Retired", message, exit_status=TEMPORARY)
        orders.take(job.store, host.boot_id())
        _keep(job, prepared)
    # The same question again: another host may have asked at the same time as we.
    _alone(job, prepared)
    if prepared.situation.take_over >= 0:
        # What was seen before this, and nothing that has come since.
        with job.store.locked():
            job.store.accept(max(found.sequence, prepared.situation.take_over))
            job.store.clear_retired()
    keys = _keys(prepared)
    handover.write(runtime, _handover(prepared, order), keys)
    row = prepared.decision.row
    return f"{len(keys)} keys handed over: {row}, {prepared.decision.reason}"


def _archives(store: Store) -> set[Item]:
    return {item for item in store.items() if item.kind == ARCHIVE}


def _remember(job: Job, found: Found) -> None:
    theirs = marks.foreign(Own.of(job.store), found)
    if theirs:
        with job.store.locked():
            marks.remember(job.store, job.identity, theirs)


def _keep(job: Job, prepared: Prepared) -> None:
    """Put on disk, in this order, what makes the next start safe if this one is cut off."""
    store, found, now = job.store, prepared.found, prepared.time.seconds
    # Before anything that says that it is of this boot: else that would be a clone's.
    store.add_boot(host.boot_id())
    # What a backup adds to: it may be here damaged, or not at all.
    newest = found.archives[0]
    store.add(newest.raw, ARCHIVE, newest.item.sequence)
    if prepared.decision.row == RESTORE:
        # The lift itself is in an archive: whatever happens now, no start is below it.
        backup.make(
            store, job.validator, job.identity, protection=prepared.required, clean=False,
            now=now, seen=found.sequence,
        )  # fmt: skip
        # Of those only that it has: what an older archive has is as new as before.
        store.clear_imported(prepared.situation.imported & newest.contents.keys.keys())
    if prepared.chosen.absent:
        # Whoever has them meanwhile may sign: when they come back they are as if from elsewhere.
        store.add_imported(prepared.chosen.absent)
    if not store.running():
        store.set_running(host.boot_id())
    backup.claim(store, store.validator, job.identity, now, found.sequence)
    store.prune(job.applied.config.backup.keep)


def _alone(job: Job, before: Prepared) -> None:
    """Put archive and claim on every node that was reached, and look whether we are alone.

    Raises SupervisorError ``Moved``.
    """
    reached = [place for place in job.places if place.name in before.found.seen]
    if not reached:
        return
    problems = backup.upload(job.store, reached, GATHER_SECONDS)
    for node, problem in problems.items():
        if problem:
            journal.log(journal.WARNING, f"nothing was put on {node}: {problem}")
    again = gather(job.store, reached, job.identity, GATHER_SECONDS)
    theirs = marks.foreign(before.situation.own, again)
    if theirs and theirs.sequence > before.situation.take_over:
        _remember(job, again)
        message = f"host {theirs.host} starts it at the same time"
        hint = "start it on one of the two: validator-supervisor take-over NAME"
        raise SupervisorError("Moved", message, hint, exit_status=HALT)


def _handover(prepared: Prepared, order: Orders) -> Handover:
    return Handover(
        row=prepared.decision.row,
        other_host=prepared.decision.other_host,
        floor=prepared.decision.floor,
        required=prepared.required,
        chain=prepared.chain,
        earliest=prepared.earliest,
        began=orders.uptime() - host.boot_age(),
        now=order.now or 0,
        typed=order.typed,
        no_watch=order.no_watch,
    )


def _keys(prepared: Prepared) -> dict[str, AnyKey]:
    newest, chosen = prepared.decision.newest, {*prepared.chosen.keys}
    chosen -= {*newest.manifest.removed_keys}
    return {name: key for name, key in newest.keys.items() if name in chosen}


def stop(job: Job, given: Path, seconds: float) -> str:
    """Make the final backup and put it on every node, at most ``seconds``.

    Returns a line for a person. Raises SupervisorError and OSError where there is no new archive:
    the database stays the truth, and the next start knows that it was not stopped well.
    """
    asked = _given(given)
    known = asked.chain if asked else None
    protection, doubt = _exported(job, asked)
    with job.store.locked():
        now = int(time.time())
        if known:
            now = _time(job, known, Found(), Orders.of(host.boot_id())).seconds
        made = backup.make(
            job.store, job.validator, job.identity, protection=protection,
            clean=not doubt, remarks=[doubt] if doubt else (), now=now, chain=known,
        )  # fmt: skip
        clean = made is not None and backup.last_clean(job.store) == made.name
        if clean:
            job.store.clear_running()
        backup.claim(job.store, job.store.validator, job.identity, now)
    problems = backup.upload(job.store, job.places, seconds)
    late = [f"{node}: {problem}" for node, problem in problems.items() if problem]
    for line in late:
        journal.log(journal.WARNING, f"the final backup is not on {line}")
    word = "clean" if clean else "not clean"
    return f"final backup ({word}) on {len(problems) - len(late)} of {len(problems)} nodes"


def _given(directory: Path) -> Handover | None:
    try:
        return handover.read(directory)[0]
    except SupervisorError as failure:
        journal.error(failure)
        return None


def _exported(job: Job, asked: Handover | None) -> tuple[Interchange | None, str]:
    """Return what the client has exported, and why that may not be all it has signed, or ``""``.

    An export below what was required of the database is of one that nobody has prepared: after a
    power cut it may lack the last.
    """
    try:
        found = exported.read(job.data)
        if found is None:
            return None, "the client has not exported what it has signed"
        if found.stale:
            return found.protection, "the client has not exported what it has signed at last"
        if asked is None:
            return found.protection, "what was handed over is gone: nothing to compare with"
        below = slashing.compare(asked.required, found.protection)
    except SupervisorError as failure:
        return None, f"the client's export is not used: {failure.message}"
    if below:
        one = below[0]
        return found.protection, f"{one.field} of {one.key} is {one.found}, below {one.expected}"
    return found.protection, ""


def wait(
    attempt: Callable[[], str],
    tell: Callable[[str], None],
    pause: int,
    wanted: Callable[[], bool] = lambda: True,
) -> str:
    """Attempt again what fails for a while, every ``pause`` seconds, as long as it is ``wanted``.

    systemd would not: Restart= tries this unit again, but not those that wait for it. Nor does it
    end a start when the validator is stopped, which was not running yet: a claim that it runs must
    not follow hours after that, nor keys be in memory for nobody. Raises SupervisorError
    ``NotWanted``.
    """
    while True:
        try:
            done = attempt()
        except SupervisorError as failure:
            if failure.exit_status != TEMPORARY:
                raise
            tell(failure.message)
        except OSError as failure:
            tell(f"{failure.filename or ''}: {os.strerror(failure.errno or 0)}")
        else:
            _refuse_unwanted(wanted)
            return done
        for _ in range(pause):
            _refuse_unwanted(wanted)
            time.sleep(1)


def _refuse_unwanted(wanted: Callable[[], bool]) -> None:
    if not wanted():
        message = "it was stopped while it waited for its start"
        raise SupervisorError("NotWanted", message, exit_status=TEMPORARY)
