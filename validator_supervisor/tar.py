"""Plain files in a tar stream (POSIX.1-1988 ustar), and nothing else that a tar can be."""

import re
import tarfile
from collections.abc import Iterable, Iterator

from validator_supervisor.errors import FormatError

BLOCK = 512
# A number in a header (POSIX.1-1988, section 10.1.1).
NUMBER = re.compile(rb"[0-7]{11}\0")
CHUNK = 1 << 16
# After the two empty blocks of the end there may be more, up to what tapes wrote at once.
RECORD = 20 * BLOCK


def member(name: str, size: int, chunks: Iterable[bytes], when: int) -> Iterator[bytes]:
    """Yield a file's header and its content, which must have ``size`` bytes, padded.

    ``when`` is its time of change in Unix seconds. Raises ValueError for a name too long for the
    format.
    """
    yield _header(name, size, when)
    yield from chunks
    yield bytes(-size % BLOCK)


def _header(name: str, size: int, when: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, when, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT)


def trailer() -> bytes:
    """Return the end of a tar."""
    return bytes(2 * BLOCK)


class Reader:
    """Reads the members of a tar in turn, as the caller expects them. Raises FormatError."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        # The piece that is being read, and how far it has been.
        self._chunk, self._read = b"", 0

    def content(self, name: str, longest: int) -> bytes:
        """Return the next member, which must be ``name`` and have at most ``longest`` bytes."""
        size = self.header(name)
        if size > longest:
            raise _bad(f"{name} is larger than {longest} bytes")
        return b"".join(self.chunks(size))

    def header(self, name: str, size: int | None = None) -> int:
        """Read the header of ``name``, whose size must be ``size``; return its size.

        It must be the one that ``member`` writes, for some size and time: no program can see in it
        another name, size, type, owner or mode than we do.
        """
        header = self._exactly(BLOCK)
        told, when = header[124:136], header[136:148]
        numbers = NUMBER.fullmatch(told) and NUMBER.fullmatch(when)
        if not numbers or header != _header(name, int(told[:-1], 8), int(when[:-1], 8)):
            raise _bad(f"{name} is missing: something else stands in its place")
        found = int(told[:-1], 8)
        if size not in (None, found):
            raise _bad(f"{name} has another size than it should have")
        return found

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next ``size`` bytes in pieces, and skip their padding."""
        left = size
        while left:
            chunk = self._needed(left)
            left -= len(chunk)
            yield chunk
        if any(self._exactly(-size % BLOCK)):
            raise _bad("there is something between its members")

    def end(self) -> None:
        """Read to the end of everything: empty blocks, few of them."""
        if any(self._exactly(2 * BLOCK)):
            raise _bad("there are more members than there should be")
        left = RECORD
        while chunk := self._some(CHUNK):
            left -= len(chunk)
            if left < 0 or any(chunk):
                raise _bad("there is something after its end")

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += self._needed(size - len(found))
        return found

    def _needed(self, longest: int) -> bytes:
        found = self._some(longest)
        if not found:
            raise _bad("it is cut off")
        return found

    def _some(self, longest: int) -> bytes:
        """Return what can be had without copying twice, at most ``longest`` bytes."""
        if self._read == len(self._chunk):
            self._chunk, self._read = next(self._chunks, b""), 0
        found = self._chunk[self._read : self._read + longest]
        self._read += len(found)
        return found


def _bad(what: str) -> FormatError:
    return FormatError("Archive", what)
