"""A release's archive, unpacked: tar in gzip, of which no header is believed."""

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from validator_supervisor.errors import FormatError

# Ten times the largest that is known, Teku's.
SIZE_MAX = 4 << 30
MEMBERS_MAX = 50_000
NAME_MAX = 1000
NO_NAMES = ("", ".", "..")
# What may stand between the contents of two files: headers, names, padding.
HEADERS_MAX = 1 << 20
CHUNK = 1 << 18
FILE, DIRECTORY = "file", "directory"
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def unpack(archive: Path, directory: Path, room: Callable[[int], None]) -> None:
    """Unpack into an empty directory: files, directories, and links that stay within it.

    Their owner is us, and their mode says no more than whether a file is a program. ``room`` is
    asked before each file for its bytes, and raises where there is none. Raises FormatError for
    anything else than such an archive, and OSError; then some of it may be there.
    """
    try:
        with gzip.open(archive) as packed:
            stream = _Stream(packed.read)
            with tarfile.open(fileobj=stream, mode="r|") as members:  # type: ignore[call-overload]  # all it needs is read()
                _Tree(directory, room).add_all(members, stream)
            stream.limit = stream.position + HEADERS_MAX
            # To its end, where its checksum is.
            while stream.read(CHUNK):
                pass
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as failure:
        raise _bad(str(failure) or type(failure).__name__) from None
    # Numbers that are none, and headers for headers without end.
    except (ValueError, OverflowError, RecursionError) as failure:
        raise _bad(f"has a header that cannot be read: {type(failure).__name__}") from None


class _Stream:
    """What is packed, no further than ``limit``: a header can announce any number of bytes."""

    def __init__(self, packed: Callable[[int], bytes]) -> None:
        self._packed = packed
        self.position = 0
        self.limit = HEADERS_MAX

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._packed(min(size, CHUNK))
        self.position += len(found)
        if self.position > self.limit:
            raise _bad("has a header that is too large")
        return found


class _Tree:
    """What has been unpacked: of each path what it is, so that none is there twice."""

    def __init__(self, directory: Path, room: Callable[[int], None]) -> None:
        self._directory = directory
        self._room = room
        self._kinds: dict[str, str] = {}
        self._size = 0

    def add_all(self, members: tarfile.TarFile, stream: _Stream) -> None:
        for number, member in enumerate(members):
            # Also of the directories that names bring with them.
            if max(number, len(self._kinds)) >= MEMBERS_MAX:
                raise _bad(f"has more than {MEMBERS_MAX} members")
            self._size += member.size
            if member.size < 0 or self._size > SIZE_MAX:
                raise _bad(f"has more than {SIZE_MAX} bytes")
            stream.limit = stream.position + member.size + 2 * HEADERS_MAX
            self._add(members, member)

    def _add(self, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.isdir() and member.name == ".":
            return
        parts = _parts(member.name)
        for count in range(1, len(parts)):
            self._make(parts[:count])
        if member.isdir():
            self._make(parts)
            return
        name = "/".join(parts)
        if name in self._kinds:
            raise _bad(f"has {name} twice")
        self._kinds[name] = FILE
        path = self._directory / name
        if member.type == tarfile.SYMTYPE:
            path.symlink_to(_inside(member, len(parts) - 1))
        elif member.type not in PLAIN or member.issparse():
            raise _bad(f"has {name}, which is neither a file nor a directory")
        else:
            self._room(member.size)
            content = members.extractfile(member)
            _write(content or io.BytesIO(), path, member.mode)

    def _make(self, parts: list[str]) -> None:
        name = "/".join(parts)
        if name not in self._kinds:
            (self._directory / name).mkdir()
            (self._directory / name).chmod(0o755)
        if self._kinds.setdefault(name, DIRECTORY) != DIRECTORY:
            raise _bad(f"has {name} twice")


def _write(content: IO[bytes], path: Path, mode: int) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, CHUNK)
    path.chmod(0o755 if mode & 0o100 else 0o644)


def _parts(name: str) -> list[str]:
    parts = name.removeprefix("./").split("/")
    long = len(name) > NAME_MAX or any(len(part.encode(errors="replace")) > 255 for part in parts)
    # What is not UTF-8 is not printable here.
    if long or any(part in NO_NAMES for part in parts) or not name.isprintable():
        raise _bad(f"has a member with the name {name[:100]!a}")
    return parts


def _inside(member: tarfile.TarInfo, depth: int) -> str:
    """Return where a link leads; ``depth`` is the number of directories that it is in.

    Only at its beginning may it go up: there its way is through directories, not through links.
    """
    parts = member.linkname.split("/")
    up = 0
    while up < len(parts) and parts[up] == "..":
        up += 1
    down = parts[up:]
    plain = member.linkname.isprintable() and len(member.linkname) <= NAME_MAX
    if up > depth or not down or any(part in NO_NAMES for part in down) or not plain:
        raise _bad(f"has {member.name}, a link that leads elsewhere")
    return member.linkname


def _bad(what: str) -> FormatError:
    return FormatError("Release", f"the archive {what}")
