"""validator-backup@NAME.service: a backup while the validator runs, and its upload."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from validator_supervisor import age, backup, chain, copies, exported, host, journal, marks
from validator_supervisor import claim as claims
from validator_supervisor.applied import Applied
from validator_supervisor.copies import Copies
from validator_supervisor.errors import HALT, SupervisorError
from validator_supervisor.gather import Found, gather
from validator_supervisor.marks import Mark, Own
from validator_supervisor.networks import Chain
from validator_supervisor.place import Place
from validator_supervisor.store import CLAIM, Store
from validator_supervisor.validators import Ethereum

# The directories of the clients (StateDirectory= of validator@NAME.service).
CLIENTS = Path("/var/lib/validator")
# A node that flaps gets no claim at each return; the last one still says the same.
CLAIM_SECONDS = 300
LOOK_SECONDS = 15
# An archive of a thousand keys over an uplink of 1 Mbit/s.
UPLOAD_SECONDS = 90


def run(
    applied: Applied,
    validator: Ethereum,
    store: Store,
    places: Sequence[Place],
    identity: age.X25519Identity,
    now: int,
    clients: Path = CLIENTS,
) -> Copies:
    """Make an archive or a claim if the validator runs, upload, and say how it went.

    Raises SupervisorError: ``ForeignClaim`` with ``HALT`` as its status where another host runs the
    validator, others where this host has a problem; and OSError. A node that is away is none.
    """
    found = gather(store, places, identity, LOOK_SECONDS)
    for one in found.refused:
        journal.log(journal.WARNING, f"{one.where}: {one.name}: {one.reason}")
    with store.locked():
        backup.tidy(store)
        copies.change(store, lambda known: known.only([place.name for place in places]))
        if _runs(store):
            _refuse_foreign(store, identity, found)
            _make(applied, validator, store, identity, found, now, clients)
            store.prune(applied.config.backup.keep)
    backup.upload(store, places, UPLOAD_SECONDS)
    with store.locked():
        ended = time.time_ns() // 1000
        copies.change(store, lambda known: replace(known, ended=ended))
    return copies.read_of(store)


def _runs(store: Store) -> bool:
    """Whether this boot has started the validator, and no final backup was made since.

    Otherwise there is nothing to add, and nothing to claim.
    """
    return bool(store.running()) and host.boot_id() in store.boots()


def _refuse_foreign(store: Store, identity: age.X25519Identity, found: Found) -> None:
    foreign = marks.foreign(Own.of(store), found)
    if foreign:
        marks.remember(store, identity, foreign)
        hint = f"validator-supervisor take-over {store.validator}, when the other one is down"
        raise SupervisorError("ForeignClaim", told(store, foreign), hint, exit_status=HALT)


def told(store: Store, foreign: Mark) -> str:
    """Say who runs the validator."""
    who = f"host {foreign.host}"
    if foreign.host == host.host_id():
        who = f"a clone of this host (boot {foreign.boot})"
    return f"{who} has run {store.validator} since {copies.at(foreign.time)}"


def _make(
    applied: Applied,
    validator: Ethereum,
    store: Store,
    identity: age.X25519Identity,
    found: Found,
    now: int,
    clients: Path,
) -> None:
    """Make an archive, or a claim where nothing has changed."""
    # No client that we know lets another process read its database while it runs.
    client = validator.release.client
    remarks = [f"{client}: what it has signed since its last exit cannot be read while it runs"]
    protection = None
    try:
        export = exported.read(clients / store.validator)
        protection = export.protection if export else None
    except SupervisorError as failure:
        remarks.append(f"its export cannot be read: {failure.message}")
        journal.log(journal.WARNING, remarks[-1])
    known = _chain(applied, validator)
    if known is None and protection is not None:
        # Nothing would tell a watermark that silences a key for ever from an honest one.
        protection = None
        remarks.append("its export is left out: which chain it is on is not known now")
    made = backup.make(
        store, validator, identity, protection=protection, clean=False, remarks=remarks, now=now,
        chain=known, seen=found.sequence,
    )  # fmt: skip
    # A clock that was set back must not keep a host from its claim.
    if made is None and not 0 <= now - _claimed(store, identity) < CLAIM_SECONDS:
        backup.claim(store, store.validator, identity, now, found.sequence)


def _chain(applied: Applied, validator: Ethereum) -> Chain | None:
    try:
        return chain.chain_of(applied, validator)
    except SupervisorError as failure:
        journal.log(journal.NOTICE, failure.message)
        return None


def _claimed(store: Store, identity: age.X25519Identity) -> int:
    """Return when the newest claim of this host was made, in Unix seconds; 0: never."""
    for item in store.items():
        if item.kind == CLAIM:
            with contextlib.suppress(SupervisorError):
                return claims.unseal(store.read(item), identity).time
    return 0


def status(done: Copies) -> str:
    """Return the StatusText after a backup."""
    away = [f"{node}: {one.problem}" for node, one in done.uploads.items() if one.problem]
    clear = [node for node, one in done.uploads.items() if not one.problem]
    where = f"on this host and {', '.join(clear)}" if clear else "on this host only"
    lines = [f"newest archive of {copies.at(done.last)}, {where}"] if done.last else []
    return "; ".join([*lines, *away]) or "nothing to back up yet"
