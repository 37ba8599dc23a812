"""Archives and claims of one validator on this host, and what its jobs remember of it."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import durable
from validator_supervisor.errors import SupervisorError
from validator_supervisor.kinds import NAME_PATTERN

ROOT = Path("/var/lib/validator-state")
ARCHIVE, CLAIM = "age", "claim"
ITEM = re.compile(rf"({NAME_PATTERN})\.([0-9]{{1,19}})\.([0-9a-f]{{32}})\.({ARCHIVE}|{CLAIM})")
# Claims that are kept: a claim is of interest until there is a newer one.
CLAIMS_KEPT = 3


@dataclass(frozen=True, order=True)
class Item:
    """An archive or a claim, as its name says: the name is a hint until it has been verified."""

    sequence: int
    validator: str
    digest: str
    kind: str

    @property
    def name(self) -> str:
        """Return the file's name, here and on nodes."""
        return f"{self.validator}.{self.sequence}.{self.digest}.{self.kind}"

    @classmethod
    def parse(cls, name: str) -> "Item | None":
        """Return what a name says; None where it is no name of ours."""
        found = ITEM.fullmatch(name)
        # One spelling of a number, and only those that a manifest can have.
        if not found or str(int(found[2])) != found[2] or int(found[2]) >= 1 << 63:
            return None
        return cls(int(found[2]), found[1], found[3], found[4])

    @classmethod
    def of(cls, raw: bytes, kind: str, validator: str, sequence: int) -> "Item":
        """Return the item that ``raw`` is."""
        return cls(sequence, validator, digest(raw), kind)

    def fits(self, raw: bytes) -> bool:
        """Whether ``raw`` is what was named so."""
        return digest(raw) == self.digest


def digest(raw: bytes) -> str:
    """Return what a name has of a file: the first half of its SHA-256 in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()[:32]


class Store:
    """The directory of one validator; only validator-state writes it."""

    def __init__(self, validator: str, root: Path = ROOT) -> None:
        self.validator = validator
        self.directory = root / validator
        self.archives = self.directory / "archives"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the validator's other jobs of this user out; waits for them."""
        with durable.locked(self.directory):
            yield

    def items(self) -> list[Item]:
        """Return what there is, the newest first."""
        if not self.archives.is_dir():
            return []
        found = [Item.parse(path.name) for path in self.archives.iterdir()]
        mine = [item for item in found if item and item.validator == self.validator]
        return sorted(mine, reverse=True)

    def read(self, item: Item) -> bytes:
        """Return the bytes of an item. Raises OSError."""
        return (self.archives / item.name).read_bytes()

    def add(self, raw: bytes, kind: str, sequence: int) -> Item:
        """Keep an archive or a claim so that it survives a crash. Raises OSError."""
        if not self.archives.is_dir():
            self.archives.mkdir(mode=0o700)
            durable.sync_directory(self.directory)
        item = Item.of(raw, kind, self.validator, sequence)
        if not self._has(item):
            durable.write(self.archives / item.name, raw)
        return item

    def _has(self, item: Item) -> bool:
        # One that the disk has damaged is replaced.
        try:
            return item.fits(self.read(item))
        except OSError:
            return False

    def prune(self, keep: int) -> None:
        """Remove all but the newest ``keep`` archives and a few claims."""
        for kind, number in ((ARCHIVE, keep), (CLAIM, CLAIMS_KEPT)):
            for item in [item for item in self.items() if item.kind == kind][number:]:
                (self.archives / item.name).unlink(missing_ok=True)

    def boots(self) -> set[str]:
        """Return the boots in which this disk has run the validator."""
        return set(self._lines("boots"))

    def add_boot(self, boot: str) -> None:
        """Remember a boot for ever: a claim of ours with another one is a clone's."""
        lines = self._lines("boots")
        if boot not in lines:
            self._write("boots", [*lines, boot])

    def running(self) -> str:
        """Return the boot in which the validator was started and not stopped well, or ``""``."""
        return next(iter(self._lines("running")), "")

    def set_running(self, boot: str) -> None:
        """Remember, before the validator starts, that it may sign from now on."""
        self._write("running", [boot])

    def clear_running(self) -> None:
        """Forget it: what was signed is in an archive."""
        (self.directory / "running").unlink(missing_ok=True)
        durable.sync_directory(self.directory)

    def imported(self) -> set[str]:
        """Return the keys that were imported and have not been handed over since."""
        return set(self._lines("imported"))

    def add_imported(self, keys: Iterable[str]) -> None:
        """Remember, before they are in an archive, that the next start lifts and watches them."""
        self._write("imported", sorted(self.imported() | set(keys)))

    def clear_imported(self, keys: Iterable[str]) -> None:
        """Forget these: they are lifted in an archive."""
        self._write("imported", sorted(self.imported() - set(keys)))

    def accepted(self) -> int:
        """Return up to which sequence a person has accepted that others ran it; -1: none."""
        return max((int(word) for word in self._lines("accepted")), default=-1)

    def accept(self, sequence: int) -> None:
        """Remember that what others have said up to here is over: a person has promised it."""
        self._write("accepted", [str(max(sequence, self.accepted()))])

    def retired(self) -> int:
        """Return when the keys left for another host, in Unix seconds; 0: they have not."""
        lines = self._lines("retired")
        if len(lines) > 1 or not all(line.isdecimal() and int(line) for line in lines):
            path = self.directory / "retired"
            raise SupervisorError("InvalidState", f"{path} does not say when it was retired")
        return int(lines[0]) if lines else 0

    def set_retired(self, time: int) -> None:
        """Remember, before anything leaves, that no start goes on without a person's word."""
        self._write("retired", [str(time)])

    def clear_retired(self) -> None:
        """Forget it: the keys have come back, or a person has taken them over."""
        (self.directory / "retired").unlink(missing_ok=True)
        durable.sync_directory(self.directory)

    def quarantined(self) -> set[str]:
        """Return the digests of archives that a person has set aside."""
        return set(self._lines("quarantine"))

    def quarantine(self, item: Item) -> None:
        """Leave an archive out from now on."""
        self._write("quarantine", sorted(self.quarantined() | {item.digest}))

    def _lines(self, name: str) -> list[str]:
        path = self.directory / name
        if not os.path.lexists(path):
            return []
        try:
            return path.read_text("ascii").split()
        except (OSError, ValueError) as failure:
            raise SupervisorError("InvalidState", f"{path} cannot be read: {failure}") from None

    def _write(self, name: str, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        durable.write(self.directory / name, text.encode())
