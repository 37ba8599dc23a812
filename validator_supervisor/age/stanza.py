"""The header of an age file (C2SP age, "Header"): who can open it, as text."""

import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from validator_supervisor.age.blocks import Blocks
from validator_supervisor.errors import FormatError

VERSION = b"age-encryption.org/v1\n"
MARK = b"---"
COLUMNS = 64
MAC_SIZE = 32
# An X25519 stanza has 100 bytes and one with ML-KEM 1.6 KB: room for every recipient below, and
# no more memory than four chunks of the payload.
MAX_HEADER = 1 << 18
# Each is tried with each identity, which takes half a millisecond.
MAX_STANZAS = 256
ARGUMENTS = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)\n")


@dataclass(frozen=True)
class Stanza:
    """The file key, wrapped for one recipient."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes

    def argument(self, count: int, size: int) -> bytes:
        """Return the first argument, ``size`` bytes, of ``count``; raise ``FormatError``."""
        if len(self.arguments) != count:
            raise FormatError("AgeFile", f"{self.kind} has too few arguments, or too many")
        value = base64_bytes(self.arguments[0], f"the first argument of {self.kind}")
        if len(value) != size:
            raise FormatError("AgeFile", f"the first argument of {self.kind} is not {size} bytes")
        return value


@dataclass(frozen=True)
class Header:
    """What a header says; ``text`` is what ``mac`` is of, to the three dashes."""

    stanzas: tuple[Stanza, ...]
    text: bytes
    mac: bytes


def base64_text(data: bytes) -> str:
    """Return base64 without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode()


def base64_bytes(text: str, what: str) -> bytes:
    """Return the bytes of canonical base64 without padding (RFC 4648, section 3.5)."""
    try:
        data = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    # An Error of binascii is one, and so is a character beyond ASCII.
    except ValueError:
        data = b""
    # What is written again in the only way there is tells every other way.
    if base64_text(data) != text:
        raise FormatError("AgeFile", f"{what} is not canonical base64")
    return data


def write(stanzas: Iterable[Stanza]) -> bytes:
    """Return the text of a header, to the three dashes."""
    return VERSION + b"".join(map(_text, stanzas)) + MARK


def _text(stanza: Stanza) -> bytes:
    body = base64_text(stanza.body)
    # One line more than is full, so that the last is always short: it may be empty.
    lines = [body[at : at + COLUMNS] for at in range(0, len(body) + 1, COLUMNS)]
    return "\n".join([" ".join(["->", stanza.kind, *stanza.arguments]), *lines, ""]).encode()


def read(source: Blocks) -> Header:
    """Read a header and no more; raise ``FormatError`` (AgeFile)."""
    lines = [_line(source, MAX_HEADER)]
    if lines[0] != VERSION:
        raise FormatError("AgeFile", "it does not begin as an age file of version 1 does")
    stanzas: list[Stanza] = []
    room = MAX_HEADER
    while not (line := _line(source, room)).startswith(MARK):
        if len(stanzas) == MAX_STANZAS:
            raise FormatError("AgeFile", f"it is for more than {MAX_STANZAS} recipients")
        read = [line, *_body(source, room)]
        stanzas.append(_stanza(read))
        lines += read
        room -= sum(map(len, read))
    if not stanzas:
        raise FormatError("AgeFile", "it is for nobody")
    return Header(tuple(stanzas), b"".join(lines) + MARK, _mac(line))


def _line(source: Blocks, limit: int) -> bytes:
    line = source.line(max(limit, 0))
    if not line.endswith(b"\n"):
        raise FormatError("AgeFile", f"the header is cut short, or over {MAX_HEADER} bytes")
    return line


def _body(source: Blocks, room: int) -> list[bytes]:
    """Read lines to the first that is not full."""
    lines = [_line(source, COLUMNS + 1)]
    while len(lines[-1]) == COLUMNS + 1:
        if len(lines) * COLUMNS > room:
            raise FormatError("AgeFile", f"the header is over {MAX_HEADER} bytes")
        lines.append(_line(source, COLUMNS + 1))
    return lines


def _stanza(lines: list[bytes]) -> Stanza:
    matched = ARGUMENTS.fullmatch(lines[0])
    if not matched:
        raise FormatError("AgeFile", "a line of the header is not a recipient's")
    kind, *arguments = matched[1].decode().split(" ")
    body = b"".join(line[:-1] for line in lines[1:]).decode("latin-1")
    return Stanza(kind, tuple(arguments), base64_bytes(body, "what a recipient is given"))


def _mac(line: bytes) -> bytes:
    text = line.decode("latin-1")
    mac = base64_bytes(text[4:-1], "the MAC of the header")
    if text[3] != " " or len(mac) != MAC_SIZE:
        raise FormatError("AgeFile", "the header's last line is not a MAC")
    return mac
