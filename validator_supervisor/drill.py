"""validator-drill.service: proof that each node's newest archive can be restored, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from validator_supervisor import age, backup, contents, copies, journal
from validator_supervisor.applied import Applied
from validator_supervisor.contents import Contents
from validator_supervisor.copies import Restore, Upload
from validator_supervisor.errors import SupervisorError
from validator_supervisor.place import Place
from validator_supervisor.store import ARCHIVE, ROOT, Item, Store


@dataclass(frozen=True)
class Given:
    """The newest archive that a place once had, by its sequence (-1: none), and our keys."""

    sequence: int
    keys: frozenset[str]


def run(
    applied: Applied,
    places: Sequence[Place],
    identity: age.X25519Identity,
    now: int,
    root: Path = ROOT,
) -> list[str]:
    """Try every validator's newest archive of each place; returns the problems, a line each."""
    problems = []
    for validator in applied.config.ethereum:
        store = Store(validator.name, root)
        if not store.directory.is_dir():  # never unlocked, or never started
            continue
        here = list(backup.archives(store, identity))
        known = copies.read_of(store)
        found = {
            place.name: prove(store.validator, place, identity,
                              _given(here, known.uploads.get(place.name, Upload())), now,
                              known.restores.get(place.name, Restore()))
            for place in places
        }  # fmt: skip
        with store.locked():
            copies.change(store, partial(replace, restores=found))
        for node, one in found.items():
            journal.log(journal.WARNING if one.problem else journal.INFO, told(store, node, one))
        problems += [f"{node}: {one.problem}" for node, one in found.items() if one.problem]
    return problems


def _given(here: Sequence[tuple[Item, Contents]], upload: Upload) -> Given:
    """Return what a place must at least have, by the archives of this host, newest first."""
    given = (found.manifest.sequence for _, found in here if found.manifest.created <= upload.time)
    return Given(next(given, -1), frozenset(here[0][1].keys) if here else frozenset())


def prove(
    validator: str,
    place: Place,
    identity: age.X25519Identity,
    given: Given,
    now: int,
    before: Restore,
) -> Restore:
    """Fetch the newest archive and verify all of it; ``before`` is what was proven last."""
    try:
        item = newest(place.names(), validator)
        raw = place.fetch([item.name]).get(item.name, b"")
        if not item.fits(raw):
            raise SupervisorError("Damaged", f"{item.name} is not what its name says")
        found = contents.unseal(raw, identity, validator)
        _compare(item, found, given)
    except SupervisorError as failure:
        return replace(before, problem=journal.printable(failure.message)[:500])
    return Restore(now, item.sequence, found.manifest.created)


def newest(names: Sequence[str], validator: str) -> Item:
    """Return the newest archive of a validator. Raises SupervisorError ``NoArchive``."""
    items = [item for item in map(Item.parse, names) if item]
    mine = [item for item in items if item.validator == validator and item.kind == ARCHIVE]
    if not mine:
        raise SupervisorError("NoArchive", f"there is no archive of {validator}")
    return max(mine)


def _compare(item: Item, found: Contents, given: Given) -> None:
    """Raise SupervisorError where a restore would bring back less than there is here."""
    if found.manifest.sequence != item.sequence:
        message = f"its name says {item.sequence}, and it says {found.manifest.sequence}"
        raise SupervisorError("Renamed", f"{item.name}: {message}")
    if item.sequence < given.sequence:
        message = f"its newest archive is {item.sequence}, and it was given {given.sequence}"
        raise SupervisorError("Older", message)
    lost = given.keys - found.keys.keys()
    if lost:
        message = f"its newest archive lacks {len(lost)} of our keys, {min(lost)} among them"
        raise SupervisorError("KeysMissing", message)


def told(store: Store, node: str, one: Restore) -> str:
    """Return the line for the journal."""
    if one.problem:
        return f"{store.validator}: a restore from {node} is not proven: {one.problem}"
    made = copies.at(one.created)
    return f"{store.validator}: {node}: archive {one.sequence} of {made} can be restored"
