"""What is known of the copies of a validator's archives, for everyone to read (status.json)."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from validator_supervisor import document, durable, journal
from validator_supervisor.errors import SupervisorError
from validator_supervisor.kinds import NAME
from validator_supervisor.manifest import COUNT, TIME
from validator_supervisor.schema import Kind, record, setting, table, text
from validator_supervisor.store import ROOT, Store

FILE, MEMBER = "status.json", "copies"
# A message of another program ends up in one.
WORDS = text(r"[^\n]{0,500}", "a line")


@dataclass(frozen=True)
class Upload:
    """When a node had everything for the last time (Unix seconds), and what was wrong since."""

    time: int = setting(TIME, "Unix seconds; 0: never", 0)
    problem: str = setting(WORDS, "the last one's", "")


@dataclass(frozen=True)
class Restore:
    """The last time that a node's newest archive was proven to restore, and what was wrong since.

    ``created`` is that archive's: how much a restore would lose.
    """

    time: int = setting(TIME, "Unix seconds; 0: never", 0)
    sequence: int = setting(COUNT, "of the archive that was proven", 0)
    created: int = setting(TIME, "Unix seconds, of that archive", 0)
    problem: str = setting(WORDS, "the last one's", "")


@dataclass(frozen=True)
class Copies:
    """Times in Unix seconds; uploads and restores by node.

    systemd forgets a unit that is not loaded for another one: when the last backup was over, and
    well, is here.
    """

    last: int = setting(TIME, "of the newest archive", 0)
    last_clean: int = setting(TIME, "of the newest after a stop", 0)
    ended: int = setting(COUNT, "when the last backup while it ran was over, in microseconds", 0)
    uploads: dict[str, Upload] = setting(table(NAME, record(Upload)), "by node", {})
    restores: dict[str, Restore] = setting(table(NAME, record(Restore)), "by node", {})

    def archived(self, when: int, *, clean: bool) -> "Copies":
        """Return it with a new archive."""
        return replace(self, last=when, last_clean=when if clean else self.last_clean)

    def uploaded(self, problems: Mapping[str, str], when: int) -> "Copies":
        """Return it after an upload to some nodes."""
        none = Upload()
        found = {
            node: replace(self.uploads.get(node, none), problem=problem[:500])
            if problem
            else Upload(when)
            for node, problem in problems.items()
        }
        return replace(self, uploads={**self.uploads, **found})

    def only(self, nodes: Collection[str]) -> "Copies":
        """Return it without the nodes that take no backups any more."""
        uploads = {node: one for node, one in self.uploads.items() if node in nodes}
        restores = {node: one for node, one in self.restores.items() if node in nodes}
        return replace(self, uploads=uploads, restores=restores)


KIND: Kind[Copies] = record(Copies)


def read(validator: str, root: Path = ROOT) -> Copies:
    """Return what is known; nothing where the file is absent or damaged: jobs make it anew."""
    found = _members(root / validator / FILE)
    try:
        return KIND.read(document.from_plain(found.get(MEMBER, {}), FILE))
    except SupervisorError:
        return Copies()


def read_of(store: Store) -> Copies:
    """Return what is known of a store's validator."""
    return read(store.validator, store.directory.parent)


def change(store: Store, how: Callable[[Copies], Copies]) -> None:
    """Keep what has changed. The caller holds the store's lock.

    It is for people: where it cannot be written, nothing else ends.
    """
    try:
        write(store, how(read_of(store)))
    except OSError as failure:
        journal.log(journal.WARNING, f"{store.directory / FILE}: {failure.strerror}")


def write(store: Store, copies: Copies) -> None:
    """Keep it beside what other jobs have in the file. The caller holds the store's lock."""
    path = store.directory / FILE
    members = {**_members(path), MEMBER: asdict(copies)}
    durable.write(path, json.dumps(members, indent=1).encode() + b"\n", 0o644)


def _members(path: Path) -> dict[str, object]:
    try:
        found = document.read_json(path).plain() if path.exists() else {}
    except SupervisorError:
        return {}
    return found if isinstance(found, dict) else {}


def at(when: int) -> str:
    """Return a time for a line of text."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when)) if when else "never"
