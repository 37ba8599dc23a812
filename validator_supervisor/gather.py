"""What is known of a validator: its archives and claims on this host and on every node."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from validator_supervisor import age, backup, claim, contents
from validator_supervisor.claim import Claim
from validator_supervisor.contents import Contents
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.place import Place, readable, unreachable
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store

# Of each kind and place: an older one may know of what is not in a newer.
NEWEST = 3
# How far down a place is searched, a part at a time, below files that do not verify: whoever may
# add to it chooses the names. Where even that is not enough, the place counts as not seen.
DEPTHS = (NEWEST, 20, 40)
HERE = "this host"
WORDS = {ARCHIVE: "archives", CLAIM: "claims"}


@dataclass(frozen=True)
class Archive:
    """An archive that opens and verifies, and where it is."""

    item: Item
    contents: Contents
    raw: bytes = field(repr=False)
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A claim that verifies, and where it is."""

    item: Item
    claim: Claim
    where: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Something that is not used, and why."""

    where: str
    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """Everything, the newest first; ``unseen`` are the nodes that were not reached, and why."""

    archives: tuple[Archive, ...] = ()
    claims: tuple[Seen, ...] = ()
    refused: tuple[Refused, ...] = ()
    seen: tuple[str, ...] = ()
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def sequence(self) -> int:
        """Return the highest number that is in use; -1 where none is."""
        items = [one.item for one in self.archives] + [one.item for one in self.claims]
        return max((item.sequence for item in items), default=-1)


# Returns what is in items, and why others cannot be read.
Read = Callable[[list[Item]], tuple[dict[Item, bytes], dict[Item, str]]]


def gather(
    store: Store, places: Sequence[Place], identity: age.X25519Identity, seconds: float = 15
) -> Found:
    """Look at this host and, at most ``seconds``, at every place; verify what is there."""
    search = _Search(store, identity)
    mine = store.items()
    looks = {HERE: search.look(HERE, mine, partial(_local, store), (NEWEST, len(mine)))}

    def look(place: Place) -> None:
        looks[place.name] = search.place(place)

    problems = backup.each(places, look, seconds)
    unseen = {name: problem for name, problem in problems.items() if problem}
    # A copy: one that answers too late must not come in between.
    names = (HERE, *(place.name for place in places))
    answers = {name: looks[name] for name in names if name in looks and name not in unseen}
    return search.found(answers, unseen)


@dataclass
class Look:
    """What was seen at one place."""

    items: list[Item] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """Return how many of a kind have verified."""
        return sum(item.kind == kind for item in self.items)

    def wants(self, kind: str, *, first: bool) -> bool:
        """Whether more of a kind are looked at. Claims cost nothing; of archives one may do."""
        return self.count(kind) < (NEWEST if first or kind == CLAIM else 1)


class _Search:
    """One gathering: what has verified at one place is not fetched from another."""

    def __init__(self, store: Store, identity: age.X25519Identity) -> None:
        self.store, self.identity = store, identity
        self.aside = store.quarantined()
        self.opened: dict[Item, Archive | Seen] = {}

    def place(self, place: Place) -> Look:
        """Look at a place. Raises SupervisorError ``Unreachable``."""

        def read(items: list[Item]) -> tuple[dict[Item, bytes], dict[Item, str]]:
            named = {item.name: item for item in items}
            raw, problems = readable(place, named)
            return (
                {named[name]: data for name, data in raw.items()},
                {named[name]: why for name, why in problems.items()},
            )

        items = [item for name in place.names() if (item := Item.parse(name))]
        mine = [item for item in items if item.validator == self.store.validator]
        return self.look(place.name, mine, read, DEPTHS)

    def look(self, where: str, items: Sequence[Item], read: Read, depths: Sequence[int]) -> Look:
        """Search the newest that verify. Raises SupervisorError ``Unreachable`` if none does."""
        found = Look()
        left = {kind: self._left(where, items, kind, found) for kind in (ARCHIVE, CLAIM)}
        for depth in depths:
            batch = []
            for kind, of_kind in left.items():
                if found.wants(kind, first=depth == depths[0]):
                    batch += of_kind[:depth]
                    del of_kind[:depth]
            if batch:
                self._verify(where, batch, read, found)
        for kind, of_kind in left.items():
            if of_kind and not found.count(kind):
                raise unreachable(where, f"its {sum(depths)} newest {WORDS[kind]} are not ours")
        return found

    def _left(self, where: str, items: Sequence[Item], kind: str, found: Look) -> list[Item]:
        """Return what to look at, the newest first; name what was set aside and is as new."""
        ordered = sorted((item for item in items if item.kind == kind), reverse=True)
        for item in ordered[:NEWEST]:
            if item.digest in self.aside:
                found.refused.append(Refused(where, item.name, "was set aside by a person"))
        return [item for item in ordered if item.digest not in self.aside]

    def _verify(self, where: str, batch: list[Item], read: Read, found: Look) -> None:
        raw, problems = read([item for item in batch if item not in self.opened])
        for item in batch:
            try:
                if item not in self.opened and item in raw:
                    self.opened[item] = self._open(item, raw[item])
            except SupervisorError as failure:
                problems[item] = failure.message
            if item in self.opened:
                found.items.append(item)
            elif item in problems:
                found.refused.append(Refused(where, item.name, printable(problems[item])))

    def _open(self, item: Item, raw: bytes) -> Archive | Seen:
        if not item.fits(raw):
            raise SupervisorError("Damaged", "is not what its name says: damaged, or changed")
        if item.kind == ARCHIVE:
            opened = contents.unseal(raw, self.identity, self.store.validator)
            _same_number(item, opened.manifest.sequence)
            return Archive(item, opened, raw)
        claimed = claim.unseal(raw, self.identity)
        _same_validator(self.store, claimed.validator)
        _same_number(item, claimed.sequence)
        return Seen(item, claimed)

    def found(self, looks: dict[str, Look], unseen: dict[str, str]) -> Found:
        """Put together what was seen at all places."""
        where: dict[Item, list[str]] = {}
        for name, look in looks.items():
            for item in look.items:
                where.setdefault(item, []).append(name)
        every = [
            replace(self.opened[item], where=tuple(places))
            for item, places in sorted(where.items(), reverse=True)
        ]
        return Found(
            tuple(one for one in every if isinstance(one, Archive)),
            tuple(one for one in every if isinstance(one, Seen)),
            tuple(_together(refused for look in looks.values() for refused in look.refused)),
            tuple(name for name in looks if name != HERE),
            unseen,
        )


def _local(store: Store, items: list[Item]) -> tuple[dict[Item, bytes], dict[Item, str]]:
    found: dict[Item, bytes] = {}
    problems: dict[Item, str] = {}
    for item in items:
        try:
            found[item] = store.read(item)
        except OSError as failure:
            problems[item] = f"cannot be read: {failure.strerror}"
    return found, problems


def _together(every: Iterable[Refused]) -> list[Refused]:
    """Name each file and reason once, with all the places where it is."""
    where: dict[tuple[str, str], list[str]] = {}
    for one in every:
        where.setdefault((one.name, one.reason), []).append(one.where)
    return [Refused(", ".join(places), *key) for key, places in where.items()]


def _same_validator(store: Store, validator: str) -> None:
    # With the claims of another validator of this host one could make ours seem the newest.
    if validator != store.validator:
        raise SupervisorError("OtherValidator", f"is of {validator}")


def _same_number(item: Item, sequence: int) -> None:
    if item.sequence != sequence:
        message = f"its name says {item.sequence}, and it says {sequence}"
        raise SupervisorError("Renamed", message)
