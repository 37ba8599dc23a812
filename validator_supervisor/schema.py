"""What a value of the configuration may be, said once: read from YAML, shown as JSON Schema.

The schema is of JSON Schema's draft 2020-12 (https://json-schema.org/draft/2020-12). It says less
than the reader does: what depends on other keys is checked by the reader alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from validator_supervisor.document import Value

T = TypeVar("T")
U = TypeVar("U")
Schema = Mapping[str, object]


@dataclass(frozen=True)
class Kind(Generic[T]):
    """``read`` makes something of a value or raises ConfigError; ``schema`` is what it takes."""

    read: Callable[[Value], T]
    schema: Schema

    def then(self, change: Callable[[Value, T], U]) -> "Kind[U]":
        """Return the kind that has ``change`` look at what was read; it may raise ConfigError."""
        return Kind(lambda value: change(value, self.read(value)), self.schema)


@dataclass(frozen=True)
class Setting:
    """A key of a mapping; one that is ``idle`` is understood, but no job uses it yet."""

    kind: Kind[Any]
    text: str
    idle: bool


def setting(
    kind: Kind[T], text: str, default: object = dataclasses.MISSING, *, idle: bool = False
) -> Any:  # the type of dataclasses.field
    """Return the dataclass field of a key; without ``default`` the key is needed."""
    metadata = {"setting": Setting(kind, text, idle)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def settings(record: type) -> dict[str, Setting]:
    """Return the keys of a dataclass by name."""
    fields = dataclasses.fields(record)
    return {
        field.name: field.metadata["setting"] for field in fields if "setting" in field.metadata
    }


def text(pattern: str = r".*", expected: str = "a string") -> Kind[str]:
    """A string that matches ``pattern`` in full."""
    schema = {"type": "string", "pattern": f"^({pattern})$", "description": expected}
    return Kind(lambda value: value.string(pattern, expected), schema)


def integer(low: int, high: int, expected: str) -> Kind[int]:
    """An integer, ``low`` <= value <= ``high``."""
    schema = {"type": "integer", "minimum": low, "maximum": high, "description": expected}
    return Kind(lambda value: value.integer(low, high, expected), schema)


def boolean() -> Kind[bool]:
    """True or false."""
    return Kind(Value.boolean, {"type": "boolean"})


def choice(*words: str) -> Kind[str]:
    """One of ``words``."""
    return Kind(lambda value: value.choice(*words), {"enum": list(words)})


def sequence(item: Kind[T], least: int = 0) -> Kind[tuple[T, ...]]:
    """A list of at least ``least`` items."""

    def read(value: Value) -> tuple[T, ...]:
        found = tuple(item.read(member) for member in value.items())
        if len(found) < least:
            raise value.error(f"expected at least {least} item(s)")
        return found

    return Kind(read, {"type": "array", "items": item.schema, "minItems": least})


def table(name: Kind[str], item: Kind[T]) -> Kind[dict[str, T]]:
    """A mapping from names to items; nothing at all is an empty one."""

    def read(value: Value) -> dict[str, T]:
        if value.data is None:
            return {}
        found = {}
        for word, member in value.mapping().items():
            name.read(dataclasses.replace(member, data=word))
            found[word] = item.read(member)
        return found

    schema = {
        "type": ["object", "null"],
        "propertyNames": name.schema,
        "additionalProperties": item.schema,
    }
    return Kind(read, schema)


def either(scalar: Kind[Any], mapping: Kind[Any]) -> Kind[Any]:
    """A mapping of one kind, or another value."""

    def read(value: Value) -> object:
        return mapping.read(value) if isinstance(value.data, dict) else scalar.read(value)

    return Kind(read, {"anyOf": [scalar.schema, mapping.schema]})


def record(cls: type[T]) -> Kind[T]:
    """A mapping that has the keys of a dataclass, which is what it is read as."""
    known = settings(cls)

    def read(value: Value) -> T:
        members = value.section(*known).members
        for name in _needed(cls):
            if name not in members:
                raise value.error(f"key {name} is missing")
        return cls(**{name: known[name].kind.read(member) for name, member in members.items()})

    return Kind(read, _schema(cls))


def union(word: str, records: Mapping[str, type[T]]) -> Kind[T]:
    """A mapping that has the keys of one of several dataclasses; its key ``word`` says which."""
    every = tuple({name: None for cls in records.values() for name in settings(cls)})
    kinds = {name: record(cls) for name, cls in records.items()}

    def read(value: Value) -> T:
        section = value.section(*every)
        chosen = section.need(word, lambda v: v.choice(*records))
        for name, member in section.members.items():
            if name not in settings(records[chosen]):
                raise member.error(f"means nothing for {word} {chosen}")
        return kinds[chosen].read(value)

    schema = {
        "type": "object",
        "properties": {word: {"enum": list(records)}},
        "required": [word],
        "allOf": [
            {
                "if": {"properties": {word: {"const": name}}, "required": [word]},
                "then": kind.schema,
            }
            for name, kind in kinds.items()
        ],
    }
    return Kind(read, schema)


def idle(cls: type, value: Value) -> list[Value]:
    """Return the members of a mapping that say something which no job heeds yet."""
    members = value.mapping()
    return [
        members[field.name]
        for field in dataclasses.fields(cls)
        if field.name in members
        and field.metadata["setting"].idle
        and field.metadata["setting"].kind.read(members[field.name]) != field.default
    ]


def _needed(cls: type) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(cls)
        if "setting" in field.metadata
        and field.default is missing
        and field.default_factory is missing
    ]


def _shows(schema: Schema, default: object) -> bool:
    """Whether a default is one that could be written: others stand for the key's absence."""
    if isinstance(default, bool):
        return schema.get("type") == "boolean"
    if isinstance(default, int):
        low = schema.get("minimum")
        return isinstance(low, int) and default >= low
    return isinstance(default, str | tuple) and bool(default)


def _schema(cls: type) -> Schema:
    properties = {}
    for field in dataclasses.fields(cls):
        if "setting" in field.metadata:
            known = field.metadata["setting"]
            note = "; no job uses it yet" if known.idle else ""
            properties[field.name] = {**known.kind.schema, "description": known.text + note}
            if _shows(known.kind.schema, field.default):
                properties[field.name]["default"] = field.default
    return {
        "type": "object",
        "properties": properties,
        "required": _needed(cls),
        "additionalProperties": False,
    }
