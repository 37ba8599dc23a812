"""Halt is a latch: a file that keeps a validator down until a person has read why.

A job that halts writes its reason into its runtime directory and exits with ``errors.HALT``; its
unit has systemd run ``helpers/halt`` then, as root, which makes the latch and stops the validator.
validator-watch.service leaves a file for each validator that is to halt; validator-halt.service
has the same helper do the same for each.
Every directory here belongs to somebody else, and may hold whatever that somebody has put there.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import durable, journal
from validator_supervisor.errors import HALT, SupervisorError
from validator_supervisor.kinds import NAME_PATTERN

# The controller's, who clears latches when an operator says so.
HALTED = Path("/var/lib/validator-supervisor/halted")
# What the watch asks for, a file for each validator.
REQUESTS = Path("/run/validator-watch/halt")
FILE = "halt"
CODE = re.compile(r"[a-z]([a-z-]{0,30}[a-z])?")
# Of a file that a compromised client may have written.
SIZE_MAX = 4096
REASON_MAX = 500
# Of an exit with HALT, or a file, that tells no reason.
UNKNOWN = "unknown"
# The one reason that the watch has.
SLASHED = "slashed"
# What only another host's end puts right: `take-over` goes on, `resume` alone does not.
MOVED = ("moved", "foreign-claim")
# What only `take-over` and `adopt` put right: the keys may run on another host.
RETIRED = "retired"
RETIRED_HINT = "where no host has them: take-over NAME; where one has retired, too: adopt NAME FILE"
NAME = re.compile(NAME_PATTERN)
UNIT = re.compile(
    rf"(?:(validator|validator-state|validator-backup)@)?({NAME_PATTERN})(\.service)?"
)
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Halt:
    """Why a validator is down: ``code`` for programs, ``reason`` for people, one line."""

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


def parse(raw: bytes) -> Halt:
    """Return what a file says; whatever is in it, it is a halt."""
    lines = raw[:SIZE_MAX].decode(errors="replace").split("\n")
    code = lines[0] if CODE.fullmatch(lines[0]) else UNKNOWN
    words = lines[1] if len(lines) > 1 and code != UNKNOWN else " ".join(lines)
    return Halt(code, journal.printable(words.strip())[:REASON_MAX] or "no reason was given")


def text(code: str, reason: str) -> bytes:
    """Return the bytes of a latch, and of what a job writes to halt."""
    return f"{code}\n{journal.printable(reason)[:REASON_MAX]}\n".encode()


def retired(when: int) -> str:
    """Return the reason of a validator whose keys left at a time (Unix seconds)."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when))
    return f"its keys left this host at {at}, by `retire`, and may run on another"


def code_of(failure: SupervisorError) -> str:
    """Return the code of a halt: ``LostHistory`` is ``lost-history``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", failure.code).lower()


def request(directory: Path, code: str, reason: str) -> int:
    """Leave the reason in a job's runtime directory; returns the status to exit with."""
    # Where the disk of /run is full the status alone halts.
    with contextlib.suppress(OSError):
        durable.replace(directory / FILE, text(code, reason), 0o600)
    return HALT


def requested(directories: str, exited: str) -> Halt | None:
    """Return what a job has asked for, and forget it.

    ``directories`` is its $RUNTIME_DIRECTORY, ``exited`` its $EXIT_STATUS (systemd.exec(5)).
    """
    found = [_taken(Path(directory)) for directory in directories.split(":") if directory]
    asked = next((halt for halt in found if halt), None)
    if asked or exited != str(HALT):
        return asked
    return Halt(UNKNOWN, f"it exited with {HALT} and has not said why")


def _taken(directory: Path) -> Halt | None:
    try:
        with _opened(directory) as inside:
            asked = _read(FILE, inside)
            if asked:
                # A directory of this name stays, and halts the next time, too.
                with contextlib.suppress(OSError):
                    os.unlink(FILE, dir_fd=inside)
            return asked
    except OSError:
        return None  # there is no such directory


def content(directory: Path, name: str) -> bytes:
    """Return the beginning of a plain file of somebody else; nothing where there is none."""
    try:
        with _opened(directory) as inside:
            descriptor = os.open(name, READ, dir_fd=inside)
            try:
                plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
                return os.read(descriptor, SIZE_MAX) if plain else b""
            finally:
                os.close(descriptor)
    except OSError:
        return b""


def _read(name: str, inside: int) -> Halt | None:
    """Return what a file of somebody else says, None where there is nothing of that name."""
    odd = Halt(UNKNOWN, "what says why is no plain file")
    try:
        descriptor = os.open(name, READ, dir_fd=inside)
    except FileNotFoundError:
        return None
    except OSError:
        return odd
    try:
        found = os.fstat(descriptor)
        # A second name could be that of a file which its owner may not read.
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return odd
        return parse(os.read(descriptor, SIZE_MAX))
    except OSError:
        return odd
    finally:
        os.close(descriptor)


def requests(directory: Path = REQUESTS) -> list[tuple[str, Halt | None]]:
    """Return by name what lies among the watch's requests; None: it is no request.

    What begins with a dot is being written.
    """
    try:
        with _opened(directory) as inside:
            with os.scandir(inside) as found:
                names = sorted(one.name for one in found if not one.name.startswith("."))
            return [(name, _slashed(name, inside)) for name in names]
    except OSError:
        return []


def _slashed(name: str, inside: int) -> Halt | None:
    # The watch has no say in the others: `moved` would have a person take the keys over.
    asked = _read(name, inside) if NAME.fullmatch(name) else None
    return asked if asked and asked.code == SLASHED else None


def remove(name: str, directory: Path = REQUESTS) -> bool:
    """Remove a request, or what lies in the place of one; False where that is impossible."""
    try:
        with _opened(directory) as inside:
            if stat.S_ISDIR(os.lstat(name, dir_fd=inside).st_mode):
                os.rmdir(name, dir_fd=inside)
            else:
                os.unlink(name, dir_fd=inside)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open a directory and follow no symbolic link on the way. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open("/", flags)
    try:
        for part in directory.parts[1:]:
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def latch(name: str, code: str, reason: str, halted: Path = HALTED) -> bool:
    """Make a validator's latch so that it survives a crash; False where there is one already.

    The first reason counts. Raises OSError.
    """
    with _latches(halted) as inside:
        with contextlib.suppress(FileNotFoundError):
            # Of a link it is what the link leads to that keeps a unit down (access(2)): it goes.
            if not stat.S_ISLNK(os.lstat(name, dir_fd=inside).st_mode):
                return False
        try:
            durable.write_at(inside, name, text(code, reason), 0o644)
        except OSError:
            _empty(name, inside)
    return True


def _empty(name: str, inside: int) -> None:
    """Make a latch on a disk with no room for its reason. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=inside)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o644, dir_fd=inside)
    os.fchmod(descriptor, 0o644)  # whatever the unit's UMask= is
    os.close(descriptor)
    os.fsync(inside)


@contextlib.contextmanager
def _latches(halted: Path) -> Iterator[int]:
    """Open the directory of latches, whatever the controller has put in its place."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    parent = os.open(halted.parent, flags)
    try:
        try:
            inside = os.open(halted.name, flags | os.O_NOFOLLOW, dir_fd=parent)
        except OSError:
            inside = _made(halted.name, parent)
        try:
            yield inside
        finally:
            os.close(inside)
    finally:
        os.close(parent)


def _made(name: str, parent: int) -> int:
    # systemd makes it for the controller (StateDirectory=); a halt does not depend on that.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
    os.mkdir(name, 0o755, dir_fd=parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inside = os.open(name, flags, dir_fd=parent)
    owner = os.fstat(parent)
    os.fchown(inside, owner.st_uid, owner.st_gid)
    os.fchmod(inside, 0o755)
    os.fsync(parent)
    return inside


def current(name: str, halted: Path = HALTED) -> Halt | None:
    """Return why a validator is halted, None where it is not."""
    try:
        with _opened(halted) as inside:
            return _read(name, inside)
    except OSError:
        return None


def reason(name: str, halted: Path = HALTED) -> str:
    """Return code and reason of a halt in one line, or ``""``."""
    return str(current(name, halted) or "")


def clear(name: str, halted: Path = HALTED) -> None:
    """Remove a latch: the validator can be started. Raises SupervisorError ``NotHalted``."""
    try:
        (halted / name).unlink()
        durable.sync_directory(halted)
    except FileNotFoundError:
        raise SupervisorError("NotHalted", f"{name} is not halted") from None
    except OSError as failure:
        raise SupervisorError("NotWritten", f"{halted / name}: {failure.strerror}") from None
