"""A stream of bytes that arrives in blocks of any size, read in the sizes that a format has."""

from collections.abc import Iterable, Iterator

# What is copied at once of a larger block, so that a caller who has all in one keeps it once.
AT_ONCE = 1 << 18


def cut(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield pieces of ``size`` bytes; the last is 1 to ``size`` long, and nothing gives none."""
    kept = bytearray()
    for block in blocks:
        start = 0
        view = memoryview(block)
        if kept:
            start = size - len(kept)
            kept += view[:start]
            if len(kept) < size:
                continue
            yield bytes(kept)
            kept.clear()
        elif len(block) == size:
            # The usual case, and the one that costs no copy.
            yield bytes(block)
            continue
        for at in range(start, len(view) - size + 1, size):
            yield bytes(view[at : at + size])
            start = at + size
        kept += view[start:]
    if kept:
        yield bytes(kept)


def ending(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each piece and whether it is the last; nothing at all is one last, empty piece."""
    held = next(pieces, b"")
    for piece in pieces:
        yield held, False
        held = piece
    yield held, True


class Blocks:
    """Reads the beginning of a stream by lines and lengths, and gives the rest as it comes."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = _short(blocks)
        self._block = b""
        self._at = 0

    def _more(self) -> bool:
        """Take the next block behind what is not read yet, or return False."""
        block = next(self._blocks, None)
        if block is None:
            return False
        self._block = self._block[self._at :] + block
        self._at = 0
        return True

    def peek(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or fewer at the end, without reading them."""
        while len(self._block) - self._at < size and self._more():
            pass
        return self._block[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the end."""
        taken = self.peek(size)
        self._at += len(taken)
        return taken

    def line(self, limit: int) -> bytes:
        """Read a line with its LF; without one it is the end, or more than ``limit`` bytes."""
        looked = 0
        while (end := self._block.find(b"\n", self._at + looked, self._at + limit)) < 0:
            looked = len(self._block) - self._at
            if looked >= limit or not self._more():
                return self.take(limit)
        return self.take(end + 1 - self._at)

    def rest(self) -> Iterator[bytes]:
        """Yield all that is not read yet."""
        block, self._block = self._block[self._at :], b""
        if block:
            yield block
        yield from self._blocks


def _short(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if len(block) <= AT_ONCE:
            yield block
            continue
        for at in range(0, len(block), AT_ONCE):
            yield block[at : at + AT_ONCE]
