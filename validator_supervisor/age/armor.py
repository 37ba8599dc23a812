"""The text form of an age file (C2SP age, "ASCII armor"): RFC 7468, section 3, figure 3, strictly.

Lines have 64 columns and only the last is shorter, base64 is canonical and padded, nothing but
blank lines stands before and nothing but white space after. Lines may end in CRLF.
"""

import binascii
from collections.abc import Iterable, Iterator

from validator_supervisor.age.blocks import Blocks, cut
from validator_supervisor.errors import FormatError

BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
END = b"-----END AGE ENCRYPTED FILE-----"
COLUMNS = 64
BYTES = COLUMNS // 4 * 3
# W of RFC 7468.
SPACE = b" \t\n\v\f\r"
# age skips as much; more is hardly a file of ours with something before it.
MAX_SPACE = 1024
# A kit is printed at once; a larger file goes out in pieces of about the size of its chunks.
LINES_AT_ONCE = 1024


def encode(ciphertext: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of an age file."""
    yield BEGIN + b"\n"
    for piece in cut(ciphertext, BYTES * LINES_AT_ONCE):
        parts = (piece[at : at + BYTES] for at in range(0, len(piece), BYTES))
        yield b"".join(map(binascii.b2a_base64, parts))
    yield END + b"\n"


def opened(blocks: Iterable[bytes]) -> Blocks:
    """Return what is inside of armor, or the same where there is none.

    Reading the result raises ``FormatError`` (AgeFile). What is damaged farther on is only
    noticed when it is read.
    """
    source = Blocks(blocks)
    head = source.peek(MAX_SPACE + len(BEGIN))
    begin = head.lstrip(SPACE)
    # No age file begins with a dash, so that what does is bad armor rather than a bad header.
    if not begin.startswith(BEGIN[:1]):
        return source
    before = source.take(len(head) - len(begin))
    # Only whole lines of it: age does not write indented blocks.
    if before and not before.endswith(b"\n"):
        raise FormatError("AgeFile", "white space begins the first line of the armor")
    return Blocks(_decoded(source))


def _decoded(source: Blocks) -> Iterator[bytes]:
    if _line(source) != BEGIN:
        raise FormatError("AgeFile", "the first line of the armor is not an age file's")
    # At least one line is between, and only the last may be short.
    yield (decoded := _bytes(_line(source)))
    while (line := _line(source)) != END:
        if len(decoded) < BYTES:
            raise FormatError("AgeFile", "the armor has a short line that is not the last")
        yield (decoded := _bytes(line))
    if any(block.strip(SPACE) for block in source.rest()):
        raise FormatError("AgeFile", "something follows the armor")


def _line(source: Blocks) -> bytes:
    line = source.line(COLUMNS + len(b"\r\n"))
    if line.endswith(b"\n"):
        return line[:-1].removesuffix(b"\r")
    # Whether the file's last line ends in a newline is editors' choice.
    if line == END:
        return line
    raise FormatError("AgeFile", "the armor is cut short" if not line else "a line of the armor "
                      f"is longer than {COLUMNS} columns, or the last is incomplete")  # fmt: skip


def _bytes(line: bytes) -> bytes:
    try:
        decoded = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        decoded = b""
    # What is written again in the only way there is tells every other way; no line is empty.
    if not decoded or len(line) > COLUMNS or binascii.b2a_base64(decoded, newline=False) != line:
        raise FormatError("AgeFile", "a line of the armor is not canonical base64")
    return decoded
