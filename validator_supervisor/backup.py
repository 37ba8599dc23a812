"""Backups of a validator: archives and claims on this host's disk, and copies on the nodes.

A new archive is never below any that is here: what a client hands out is merged into what is known.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from validator_supervisor import age, contents, copies, durable, host, journal, lift, slashing
from validator_supervisor import claim as claims
from validator_supervisor.chain import moment_at
from validator_supervisor.claim import Claim
from validator_supervisor.contents import Contents
from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.lift import Moment
from validator_supervisor.networks import Chain
from validator_supervisor.place import Place
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store
from validator_supervisor.validators import Ethereum

SEQUENCE_MAX = (1 << 63) - 1
# The name of the last archive that was made after the validator had stopped.
CLEAN = "clean"
# A client can make up as many keys as it likes.
REMARKS_MAX = 20


def archives(store: Store, identity: age.X25519Identity) -> Iterator[tuple[Item, Contents]]:
    """Yield the archives of this host that open, the newest first, without the quarantined."""
    apart = store.quarantined()
    for item in store.items():
        if item.kind == ARCHIVE and item.digest not in apart:
            try:
                found = contents.unseal(store.read(item), identity, store.validator)
            except (OSError, SupervisorError) as failure:
                journal.log(journal.WARNING, f"{item.name}: {failure}")
                continue
            if found.manifest.sequence == item.sequence:
                yield item, found


def newest(store: Store, identity: age.X25519Identity) -> Contents | None:
    """Return the newest archive of this host that opens."""
    return next((found for _, found in archives(store, identity)), None)


def next_sequence(store: Store, now: int, seen: int = 0) -> int:
    """Return a sequence above every one of this host and ``seen``; ``now`` in Unix seconds.

    Raises SupervisorError ``NoSequence`` where there is none above.
    """
    last = max([seen, *(item.sequence for item in store.items())])
    if last >= SEQUENCE_MAX:
        raise SupervisorError("NoSequence", f"no sequence is above {last}", "quarantine it")
    return max(last + 1, now)


def make(
    store: Store,
    validator: Ethereum,
    identity: age.X25519Identity,
    *,
    protection: Interchange | None,
    clean: bool,
    remarks: Sequence[str] = (),
    now: int,
    chain: Chain | None = None,
    seen: int = 0,
) -> Item | None:
    """Keep an archive: the newest one's keys, and ``protection`` merged with every archive's.

    ``now`` in Unix seconds; ``seen`` is the highest sequence on the nodes. Of ``protection``, which
    a client wrote, nothing is taken that is of another chain or, with ``chain``, too far ahead; an
    archive that leaves something out is never ``clean``. Returns None where nothing has changed and
    it would not be clean. The caller holds the store's lock.

    Raises SupervisorError ``NoArchive`` where no archive of this host opens, and OSError.
    """
    opened = list(archives(store, identity))
    if not opened:
        message = f"no archive of {store.validator} on this host opens"
        raise SupervisorError("NoArchive", message, "validator-supervisor backup list")
    last = opened[0][1]
    known = _merged([found.protection for _, found in opened])
    mine = {*last.keys, *last.manifest.removed_keys}
    taken, left_out = _taken(protection, mine, known, chain, now)
    merged = _merged([known, taken])
    said = _few([*remarks, *left_out])
    clean = clean and not left_out
    if not clean and merged == last.protection and said == last.manifest.remarks:
        return None
    sequence = next_sequence(store, now, seen)
    # Before what names it: of a boot that this disk does not know, it would be a clone's.
    store.add_boot(host.boot_id())
    raw = contents.seal(
        identity,
        validator=store.validator,
        network=validator.network,
        host=host.host_id(),
        boot=host.boot_id(),
        sequence=sequence,
        created=now,
        clean=clean,
        keys=last.keys,
        removed_keys=last.manifest.removed_keys,
        protection=merged,
        remarks=said,
    )
    item = keep(store, identity, raw, sequence)
    if clean:
        durable.write(store.directory / CLEAN, f"{item.name}\n".encode())
    copies.change(store, lambda known: known.archived(now, clean=clean))
    return item


def reencrypt(
    store: Store, every: Sequence[Contents], new: age.X25519Identity, now: int, seen: int
) -> Item | None:
    """Keep an archive for ``new`` with all that is in ``every``; None where there is nothing.

    ``seen`` is the highest sequence on the nodes. The caller holds the store's lock. Raises
    OSError.
    """
    last = max(every, key=lambda one: one.manifest.sequence, default=None)
    if last is None:
        return None
    manifest = last.manifest
    sequence = next_sequence(store, now, seen)
    raw = contents.seal(
        new,
        validator=store.validator,
        network=manifest.network,
        host=manifest.host,
        boot=manifest.boot,
        sequence=sequence,
        created=now,
        clean=manifest.clean,
        keys=last.keys,
        removed_keys=manifest.removed_keys,
        protection=_merged([found.protection for found in every]),
        remarks=manifest.remarks,
    )
    return keep(store, new, raw, sequence)


def keep(store: Store, identity: age.X25519Identity, raw: bytes, sequence: int) -> Item:
    """Keep an archive that opens: for one that does not, those before it would be pruned.

    The caller holds the store's lock. Raises SupervisorError and OSError; then there is none.
    """
    contents.unseal(raw, identity, store.validator)
    return store.add(raw, ARCHIVE, sequence)


def _merged(every: Iterable[Interchange | None]) -> Interchange | None:
    """Return the watermarks of all of them: a document that no client reads less into."""
    there = [one for one in every if one is not None]
    return slashing.minify(slashing.merge(*there)) if there else None


def _taken(
    protection: Interchange | None,
    mine: set[str],
    known: Interchange | None,
    chain: Chain | None,
    now: int,
) -> tuple[Interchange | None, list[str]]:
    """Return what can be believed of a client's document, and a remark on all of the rest.

    It may name any number of keys; those that are not ``mine`` are nothing to remark on.
    """
    if protection is None:
        return None, []
    roots = {f"0x{one.genesis_validators_root.hex()}" for one in (protection, known) if one}
    if chain and chain.genesis_validators_root:
        roots.add(chain.genesis_validators_root)
    if len(roots) > 1:
        return None, [_warned("left out: what the client says it has signed is of another chain")]
    keys = {key: history for key, history in protection.keys.items() if key in mine}
    protection = replace(protection, keys=keys)
    if chain is None:
        return protection, []
    return _believed(protection, moment_at(chain, now))


def _believed(protection: Interchange, moment: Moment) -> tuple[Interchange, list[str]]:
    """Leave out what is too far ahead to have been signed."""
    keys, remarks = dict(protection.keys), []
    for found in lift.ahead(protection, moment):
        one = f"{found.key}: {found.field} {found.found} is over 2 epochs above {found.expected}"
        remarks.append(_warned(f"left out: {one}"))
        keys[found.key] = _possible(found.key, protection, moment)
    return replace(protection, keys=keys), remarks


def _possible(key: str, protection: Interchange, moment: Moment) -> History:
    def fits(history: History) -> bool:
        return not lift.ahead(replace(protection, keys={key: history}), moment)

    whole = protection.keys[key]
    return History(
        frozenset(b for b in whole.blocks if fits(History(frozenset({b})))),
        frozenset(a for a in whole.attestations if fits(History(frozenset(), frozenset({a})))),
    )


def _warned(remark: str) -> str:
    journal.log(journal.WARNING, remark)
    return remark


def _few(remarks: list[str]) -> tuple[str, ...]:
    rest = len(remarks) - REMARKS_MAX
    return (*remarks[:REMARKS_MAX], *([f"and {rest} more"] if rest > 0 else []))


def claim(
    store: Store, validator_name: str, identity: age.X25519Identity, now: int, seen: int = 0
) -> Item:
    """Keep a claim that this host runs the validator; ``now`` and ``seen`` as for ``make``."""
    sequence = next_sequence(store, now, seen)
    store.add_boot(host.boot_id())
    made = Claim(claims.VERSION, validator_name, host.host_id(), host.boot_id(), sequence, now)
    return store.add(claims.seal(made, identity), CLAIM, sequence)


def upload(store: Store, places: Sequence[Place], seconds: float) -> dict[str, str]:
    """Put what they lack on all places, in parallel, within ``seconds``.

    That is the newest archive, the newest clean one and the newest claim. Returns the problem of
    each place by its name; ``""`` where everything is there. Takes the store's lock. Raises
    OSError.
    """
    files = _wanted(store)
    problems = each(places, lambda place: _complete(place, files), seconds)
    with store.locked():
        copies.change(store, lambda known: known.uploaded(problems, int(time.time())))
    return problems


def last_clean(store: Store) -> str:
    """Return the name of the last archive that was made after a stop, or ``""``."""
    path = store.directory / CLEAN
    return path.read_text("ascii").strip() if path.exists() else ""


def _wanted(store: Store) -> dict[str, bytes]:
    last = last_clean(store)
    wanted: dict[str, bytes] = {}
    missing = {ARCHIVE, CLAIM}
    apart = store.quarantined()
    for item in store.items():
        if item.digest not in apart and (item.kind in missing or item.name == last):
            raw = store.read(item)
            # A copy of what the disk has damaged would help nobody; the one before it may.
            if item.fits(raw):
                wanted[item.name] = raw
                missing.discard(item.kind)
    return wanted


def _complete(place: Place, files: dict[str, bytes]) -> None:
    # It looks itself what is there already: asking before would be another connection.
    if files:
        place.put(files)
    else:
        place.names()


def each(places: Sequence[Place], do: Callable[[Place], None], seconds: float) -> dict[str, str]:
    """Do something with every place in parallel; return the problem of each, ``""`` for none.

    A place that takes longer than ``seconds`` is left behind in its thread.
    """
    problems = {place.name: f"no answer within {seconds:g} s" for place in places}

    def work(place: Place) -> None:
        try:
            do(place)
        except SupervisorError as failure:
            problems[place.name] = failure.message
        else:
            problems[place.name] = ""

    # Not those of a pool: Python waits for them when it ends.
    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in places]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(problems)


def tidy(store: Store) -> None:
    """Remove what a crash has left half written. The caller holds the store's lock."""
    for directory in (store.directory, store.archives):
        for path in directory.glob(".*.new"):
            path.unlink(missing_ok=True)
