"""The releases of a validator's client that are on this host, and which of them is in effect.

`/var/lib/validator-release/NAME` belongs to validator-release, and is for everyone to read:
`releases/CLIENT-VERSION-DIGEST` is an unpacked release, whole if it has that name; `current` links
to the one that the next start runs; `history.json` says which ones were.
"""

import json
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import durable
from validator_supervisor.document import Value, read_json
from validator_supervisor.errors import ConfigError, SupervisorError

ROOT = Path("/var/lib/validator-release")
CURRENT, FOLDERS, HISTORY, RECORD = "current", "releases", "history.json", "release.json"
RECORD_MAX = 1 << 20
WORDS = ("client", "version", "sha256", "program", "signer")
# Of which history.json keeps the order; what is older is forgotten.
REMEMBERED = 100


@dataclass(frozen=True)
class Installed:
    """A release that is unpacked; ``program`` is an absolute path without links of ours.

    ``signer`` is the fingerprint of the primary key that has signed it; ``""``: nobody was asked.
    """

    client: str
    version: str
    sha256: str
    program: str
    signer: str

    @property
    def folder(self) -> str:
        """The name of its directory."""
        return folder_of(self.client, self.version, self.sha256)

    def __str__(self) -> str:
        return f"{self.client} {self.version}"


@dataclass(frozen=True)
class Listed:
    """A release, and what it is to the validator."""

    release: Installed
    current: bool
    previous: bool
    running: bool
    left: bool


@dataclass(frozen=True)
class History:
    """Folders in the order in which they came into effect, and those that a person went back from.

    What stands behind the current one in ``order`` was after it.
    """

    order: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def before(self, folder: str) -> str:
        """Return the folder that was in effect before another one; ``""``: none."""
        at = self.order.index(folder) if folder in self.order else len(self.order)
        return self.order[at - 1] if at else ""

    def then(self, now: str, folder: str) -> "History":
        """Return the history after the switch from ``now`` to ``folder``."""
        until = self.order[: self.order.index(now) + 1] if now in self.order else self.order
        kept = [one for one in until if one != folder]
        return History((*kept, folder)[-REMEMBERED:])


def folder_of(client: str, version: str, sha256: str) -> str:
    """Return the name of a release's directory."""
    return f"{client}-{version}-{sha256[:12]}"


def current(name: str, root: Path = ROOT) -> Installed | None:
    """Return the release that the next start of a validator runs; None where there is none."""
    return linked(root / name)


def linked(directory: Path) -> Installed | None:
    """Return the release that ``current`` in a validator's directory leads to, if it is whole."""
    try:
        target = (directory / CURRENT).readlink()
    except OSError:
        return None
    if target.parent != Path(FOLDERS) or target.name.startswith("."):
        return None
    return read(directory / FOLDERS / target.name)


def read(folder: Path) -> Installed | None:
    """Return the release in a directory; None where it is not there, or not all of it."""
    try:
        record = read_json(folder / RECORD, RECORD_MAX).mapping()
        words = [record[key].string() for key in WORDS]
        counts = [record[key].integer(0, 1 << 53, "a number") for key in ("files", "bytes")]
    except (ConfigError, KeyError):
        return None
    client, version, sha256, program, signer = words
    release = Installed(client, version, sha256, str(folder / program), signer)
    if release.folder != folder.name or os.path.normpath(f"/{program}") != f"/{program}":
        return None
    try:
        whole = counted(folder) == tuple(counts) and executable(folder / program)
    except OSError:
        return None
    return release if whole else None


def record(folder: Path, *words: str) -> None:
    """Write down what is in a directory, when all of it is there. Raises OSError.

    ``words`` are client, version, checksum, the program's path in it, and who has signed it.
    """
    files, size = counted(folder)
    told = {**dict(zip(WORDS, words, strict=True)), "files": files, "bytes": size}
    with (folder / RECORD).open("x") as file:
        file.write(json.dumps(told, indent=1) + "\n")
    (folder / RECORD).chmod(0o644)


def counted(folder: Path) -> tuple[int, int]:
    """Return how many files a release has, and how many bytes in them. Raises OSError."""
    sizes = [size for path, size in _files(folder) if path != str(folder / RECORD)]
    return len(sizes), sum(sizes)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry.path, entry.stat(follow_symlinks=False).st_size


def executable(program: Path) -> bool:
    """Whether a path is a program, and no link. Raises OSError where nothing is there."""
    mode = program.lstat().st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def history(directory: Path) -> History:
    """Return what was in effect before. Raises SupervisorError where that cannot be read."""
    if not (directory / HISTORY).exists():
        return History()
    try:
        found = read_json(directory / HISTORY, RECORD_MAX).mapping()
        return History(_names(found["order"]), _names(found["left"]))
    except (ConfigError, KeyError) as failure:
        message = f"{directory / HISTORY} is damaged: {failure}"
        raise SupervisorError("NoHistory", message, "remove it") from None


def _names(value: Value) -> tuple[str, ...]:
    return tuple(item.string(r"[a-z][A-Za-z0-9.+-]{1,100}") for item in value.items())


def remember(directory: Path, known: History) -> None:
    """Write the history. Raises OSError."""
    told = {"order": known.order, "left": known.left}
    durable.write(directory / HISTORY, json.dumps(told, indent=1).encode() + b"\n", 0o644)


def switch(directory: Path, folder: str) -> None:
    """Let the next start run the release in a folder that is whole. Raises OSError.

    The history is first: cut off between the two, the same switch does no more than once.
    """
    now = linked(directory)
    remember(directory, history(directory).then(now.folder if now else "", folder))
    durable.link(directory / CURRENT, f"{FOLDERS}/{folder}")


def rollback(directory: Path) -> Installed:
    """Let the next start run the release that was before the current one, and return it.

    What is gone back from is not switched to again, until another release is wanted. Raises
    SupervisorError ``NoEarlierRelease`` and OSError.
    """
    now, known = linked(directory), history(directory)
    target = known.before(now.folder) if now else ""
    earlier = read(directory / FOLDERS / target) if target else None
    if now is None or earlier is None:
        raise SupervisorError("NoEarlierRelease", "there is no earlier release to go back to")
    left = [one for one in known.left if one != now.folder]
    remember(directory, History(known.order, (*left, now.folder)))
    durable.link(directory / CURRENT, f"{FOLDERS}/{target}")
    return earlier


def forward(directory: Path) -> bool:
    """Forget that a person has gone back; returns whether one had. Raises OSError."""
    known = history(directory)
    if known.left:
        remember(directory, History(known.order))
    return bool(known.left)


def listed(directory: Path, running: Collection[str] = ()) -> list[Listed]:
    """Return every release that is whole, the newest first; ``running`` are folders in use."""
    now, known = linked(directory), history(directory)
    mine = now.folder if now else ""
    previous = known.before(mine) if mine else ""
    folders = directory / FOLDERS
    names = os.listdir(folders) if folders.is_dir() else []  # noqa: PTH208
    ranks = {name: rank for rank, name in enumerate(known.order)}
    names.sort(key=lambda name: (ranks.get(name, -1), name), reverse=True)
    found = [read(folders / name) for name in names if not name.startswith(".")]
    return [
        Listed(one, one.folder == mine, one.folder == previous,
               one.folder in running, one.folder in known.left)
        for one in found if one
    ]  # fmt: skip


def tidy(directory: Path, part: Path) -> None:
    """Remove what was cut off, but for one download that goes on. Raises OSError."""
    import shutil

    for path in [*directory.glob(".*.part"), *directory.glob(".*.new")]:
        if path != part:
            path.unlink()
    for ending in ("new", "old"):
        for path in (directory / FOLDERS).glob(f".*.{ending}"):
            shutil.rmtree(path)


def prune(directory: Path, keep: int, running: Collection[str]) -> list[Installed]:
    """Remove all releases but the newest ``keep``, and return them. Raises OSError.

    Never the current one, the one before it, or one in use.
    """
    import shutil

    every = listed(directory, running)
    needed = [one for one in every if one.current or one.previous or one.running]
    rest = [one for one in every if one not in needed]
    removed = rest[max(0, keep - len(needed)) :]
    for one in removed:
        # Under this name it is none that is whole.
        doomed = directory / FOLDERS / f".{one.release.folder}.old"
        shutil.rmtree(doomed, ignore_errors=True)
        (directory / FOLDERS / one.release.folder).rename(doomed)
        durable.sync_directory(doomed.parent)
        shutil.rmtree(doomed)
    return [one.release for one in removed]
