"""YAML in which every value knows where it stands, so that an error can say so.

Scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema) without
octal, hexadecimal and floating-point numbers: ``0xab…`` is an address and ``off`` is a word.
Anchors, aliases, tags, duplicate keys and several documents are refused.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from validator_supervisor import nearest
from validator_supervisor.errors import ConfigError
from validator_supervisor.journal import printable

SIZE_MAX = 1 << 20  # a thousand validators fit in a tenth of it
# Of the path of a key, as errors show it; each value has one.
KEY_MAX = 200
DEPTH_MAX = 20  # the format needs six
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")

T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """A scalar, list or mapping, its key path and its place (1-based; 0 where there is none)."""

    data: "bool | int | str | tuple[Value, ...] | dict[str, Value] | None"
    file: str
    line: int = 0
    column: int = 0
    key: str = ""

    def error(self, message: str, hint: str = "") -> ConfigError:
        """Return the error that names this value's file, line, column and key."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        # Keys are as outside as values: one line, of what can be shown.
        key = printable(self.key[:200])
        return ConfigError(f"{place}: {key}" if key else place, message, hint)

    def string(self, pattern: str = r".*", expected: str = "a string") -> str:
        """Return the string; it must match ``pattern`` in full and hold no control character."""
        if not isinstance(self.data, str) or not self.data.isprintable():
            raise self.error(f"expected {expected}, found {self.shown()}")
        if not re.fullmatch(pattern, self.data):
            raise self.error(f"expected {expected}, found {self.shown()}")
        return self.data

    def integer(self, low: int, high: int, expected: str) -> int:
        """Return the integer; ``low`` <= value <= ``high``."""
        if type(self.data) is not int or not low <= self.data <= high:
            raise self.error(f"expected {expected} ({low} to {high}), found {self.shown()}")
        return self.data

    def boolean(self) -> bool:
        """Return the truth value."""
        if not isinstance(self.data, bool):
            raise self.error(f"expected true or false, found {self.shown()}")
        return self.data

    def choice(self, *words: str) -> str:
        """Return the value, which must be one of ``words``."""
        if not isinstance(self.data, str) or self.data not in words:
            # Of a list, str() would be as deep as it is.
            typed = "" if isinstance(self.data, dict | tuple) else str(self.data)
            hint = nearest.question(typed, words)
            raise self.error(f"expected one of {', '.join(words)}, found {self.shown()}", hint)
        return self.data

    def items(self) -> "tuple[Value, ...]":
        """Return the members of a list."""
        if not isinstance(self.data, tuple):
            raise self.error(f"expected a list, found {self.shown()}")
        return self.data

    def mapping(self) -> "dict[str, Value]":
        """Return the members of a mapping."""
        if not isinstance(self.data, dict):
            raise self.error(f"expected a mapping, found {self.shown()}")
        return self.data

    def section(self, *known: str) -> "Section":
        """Return the mapping as a section that has no other keys than ``known``."""
        members = self.mapping()
        for name, member in members.items():
            if name not in known:
                hint = nearest.hint(name, known)
                raise member.error("unknown key", hint)
        return Section(self, members)

    def shown(self) -> str:
        """Return the value as an error message names it."""
        if isinstance(self.data, dict):
            return "a mapping"
        if isinstance(self.data, tuple):
            return "a list"
        if self.data is None:
            return "nothing"
        return json.dumps(self.data)[:80]

    def plain(self) -> object:
        """Return the value as JSON has it."""
        if isinstance(self.data, dict):
            return {name: member.plain() for name, member in self.data.items()}
        if isinstance(self.data, tuple):
            return [member.plain() for member in self.data]
        return self.data


@dataclass(frozen=True)
class Section:
    """A mapping whose keys are known."""

    value: Value
    members: dict[str, Value]

    def get(self, name: str, read: Callable[[Value], T], default: T) -> T:
        """Return member ``name`` as ``read`` understands it, or ``default`` where it is absent."""
        return read(self.members[name]) if name in self.members else default

    def need(self, name: str, read: Callable[[Value], T]) -> T:
        """Return member ``name``; a ConfigError where it is absent."""
        if name not in self.members:
            raise self.value.error(f"key {name} is missing")
        return read(self.members[name])


def from_plain(data: object, file: str, key: str = "") -> Value:
    """Turn what ``json`` has read into a Value. Raises ConfigError on a number with a fraction."""
    key = key[:KEY_MAX]
    value: bool | int | str | tuple[Value, ...] | dict[str, Value] | None
    if isinstance(data, dict):
        value = {name: from_plain(member, file, join(key, name)) for name, member in data.items()}
    elif isinstance(data, list):
        value = tuple(from_plain(m, file, f"{key}[{i}]") for i, m in enumerate(data))
    elif data is None or isinstance(data, bool | int | str):
        value = data
    else:
        raise ConfigError(file, f"unexpected {type(data).__name__} at {printable(key)}")
    return Value(value, file, key=key)


def read_json(path: Path, limit: int = SIZE_MAX) -> Value:
    """Read JSON that another job has written, at most ``limit`` bytes. Raises ConfigError."""
    return parse_json(read_bytes(path, limit), str(path))


def load(path: Path) -> Value:
    """Read YAML that another job has written. Raises ConfigError."""
    raw = read_bytes(path, SIZE_MAX)
    # JSON is YAML, and read without PyYAML.
    with contextlib.suppress(ConfigError):
        return parse_json(raw, str(path))
    return parse(raw, str(path))


def parse_json(raw: bytes, name: str) -> Value:
    """Parse JSON as RFC 8259 has it: UTF-8, no byte order mark. Raises ConfigError."""
    try:
        return from_plain(json.loads(raw.decode(), object_pairs_hook=_unique), name)
    except UnicodeDecodeError:
        raise ConfigError(name, "is not UTF-8") from None
    except (ValueError, RecursionError) as failure:
        raise ConfigError(name, f"cannot be read: {failure}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def read_bytes(path: Path, limit: int, *, follow: bool = False) -> bytes:
    """Read a regular file; a FIFO or a device there would hold its reader up for ever."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(str(path), "is not a regular file")
            raw = file.read(limit + 1)
    except OSError as failure:
        raise ConfigError(str(path), f"cannot be read: {failure.strerror}") from None
    if len(raw) > limit:
        raise ConfigError(str(path), f"is larger than {limit} bytes")
    return raw


def parse(raw: bytes, file: str) -> Value:
    """Parse one YAML document. Raises ConfigError that names ``file``, line and column."""
    import yaml  # imported here: what reads the checked copy, which is JSON, never needs it

    if len(raw) > SIZE_MAX:
        raise ConfigError(file, f"is larger than {SIZE_MAX} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as failure:
        line = raw[: failure.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}", "is not UTF-8") from None
    try:
        return _Composer(yaml.parse(text, Loader=yaml.SafeLoader), file).document()
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise ConfigError(place, f"is not YAML: {failure.problem}") from None
    # ValueError, OverflowError: PyYAML converts the numbers in escapes and directives as they are.
    except (yaml.YAMLError, ValueError, OverflowError) as failure:
        raise ConfigError(file, f"is not YAML: {str(failure).splitlines()[0]}") from None


def join(key: str, name: str) -> str:
    """Return the path of member ``name`` of ``key``."""
    return f"{key}.{name}" if key else name


class _Composer:
    """Builds Values from PyYAML's events."""

    def __init__(self, events: Iterator[object], file: str) -> None:
        self.events = events
        self.file = file

    def document(self) -> Value:
        import yaml

        next(self.events)  # the start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return Value({}, self.file, 1, 1)
        root = self.value(next(self.events), "", 0)
        next(self.events)  # the end of the document
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.at(event, "").error("a second document")
        return Value({}, self.file, 1, 1) if root.data is None else root

    def at(self, event: object, key: str, data: object = None) -> Value:
        mark = event.start_mark  # type: ignore[attr-defined]  # every PyYAML event has one
        return Value(data, self.file, mark.line + 1, mark.column + 1, key)  # type: ignore[arg-type]

    def value(self, event: object, key: str, depth: int) -> Value:
        import yaml

        key = key[:KEY_MAX]
        here = self.at(event, key)
        if depth > DEPTH_MAX:
            raise here.error(f"is nested more than {DEPTH_MAX} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise here.error("anchors and aliases are not used here")
        if getattr(event, "tag", None):
            raise here.error("tags are not used here")
        if isinstance(event, yaml.SequenceStartEvent):
            return self.at(event, key, tuple(self.members(key, depth)))
        if isinstance(event, yaml.MappingStartEvent):
            return self.at(event, key, self.pairs(key, depth))
        if isinstance(event, yaml.ScalarEvent):
            return self.at(event, key, _scalar(event.value, plain=event.style is None))
        raise here.error("expected a value")

    def members(self, key: str, depth: int) -> Iterator[Value]:
        import yaml

        for index, event in enumerate(self.events):
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self.value(event, f"{key}[{index}]", depth + 1)

    def pairs(self, key: str, depth: int) -> dict[str, Value]:
        import yaml

        found: dict[str, Value] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                return found
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                raise self.at(event, key).error("expected a key")
            here = self.at(event, join(key, event.value))
            if event.value in found:
                first = found[event.value].line
                raise here.error("this key stands here a second time", f"first in line {first}")
            inner = self.value(next(self.events), here.key, depth + 1)
            # An error about the value is easiest to find at its key.
            found[event.value] = Value(inner.data, self.file, here.line, here.column, here.key)
        raise AssertionError("PyYAML ends every mapping it starts")


def _scalar(text: str, *, plain: bool) -> bool | int | str | None:
    if not plain:
        return text
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    return int(text) if INTEGER.fullmatch(text) else text
