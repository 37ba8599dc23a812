"""JSON (RFC 8259) of which nothing is skipped: for documents where a mistake costs money.

Standing there twice, a member would be read by one program as the first and by another as the last.
A number outside quotes loses digits in many programs. Both are left in the document as objects of
their own types, so that whoever walks through it can say where they are. Only ``str``, ``list``,
``dict``, ``bool`` and ``None`` are what they seem; look with ``type(...) is``.
"""

import contextlib
import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
# Of a value, in an error.
SHOWN_MAX = 80


class JsonError(Exception):
    """What is wrong in a document; whoever knows a part of the place adds it on the way out."""

    def __init__(self, message: str, hint: str = "", *, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def inside(self, name: str) -> "JsonError":
        """Return the same, seen from outside of member ``name``."""
        place = f"{name}.{self.place}" if self.place else name
        return JsonError(self.message, self.hint, place=place)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A number outside quotes, as it stood there."""

    literal: str


@dataclass(frozen=True, slots=True)
class Twice:
    """An object that has a member more than once."""

    name: str


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic garbage collector from going through millions of values, again and again.

    There are no cycles in JSON.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def load(raw: bytes) -> object:
    """Read UTF-8 without a byte order mark. Raises JsonError."""
    if not raw.strip(b" \t\r\n"):
        raise JsonError("is empty")
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=_unique,
            # int() refuses thousands of digits, and 1e999 would be infinite.
            parse_int=Unquoted,
            parse_float=Unquoted,
            parse_constant=Unquoted,
        )
    except UnicodeDecodeError as failure:
        raise JsonError(f"is not UTF-8, at byte {failure.start}") from None
    except json.JSONDecodeError as failure:
        at = f"line {failure.lineno}, column {failure.colno}"
        raise JsonError(f"is not JSON, at {at}: {shown(failure.msg)[1:-1]}") from None
    except RecursionError:
        raise JsonError("is nested too deep") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object] | Twice:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    counts = Counter(name for name, _ in pairs)
    return Twice(next(name for name, count in counts.items() if count > 1))


def members(
    value: object, required: frozenset[str], known: frozenset[str] | None = None
) -> dict[str, object]:
    """Return an object that has each ``required`` member and none that is not ``known``.

    ``known`` has the required ones as well. Raises JsonError.
    """
    if type(value) is not dict:
        raise JsonError(f"expected an object, found {shown(value)}")
    names = value.keys()
    known = known or required
    # What nearly all of a million objects are comes first.
    if names in (known, required):
        return value
    for name in sorted(required - names):
        raise JsonError(f"has no {name}")
    for name in sorted(names - known):
        raise JsonError(f"has an unknown member {shown(name)}")
    return value


def each(value: object, name: str, read: Callable[[object], T]) -> list[T]:
    """Return what ``read`` makes of each member of the list ``name``. Raises JsonError."""
    if type(value) is not list:
        raise JsonError(f"expected a list, found {shown(value)}", place=name)
    found: list[T] = []  # its length is the place
    try:
        for member in value:
            found.append(read(member))
    except JsonError as wrong:
        raise wrong.inside(f"{name}[{len(found)}]") from None
    return found


def shown(value: object) -> str:
    """Return a value for an error message: one line of ASCII, not long."""
    if isinstance(value, Unquoted):
        return f"{value.literal[:SHOWN_MAX]} without quotes"
    if isinstance(value, Twice):
        return f"one with {shown(value.name)} twice"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # Half a surrogate pair cannot be printed, but as an escape it can.
    return json.dumps(value[:SHOWN_MAX] if isinstance(value, str) else value)[:SHOWN_MAX]
