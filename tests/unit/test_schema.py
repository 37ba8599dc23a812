"""schema.py: kinds of values, and the JSON Schema that the configuration has of them."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config, schema
from validator_supervisor.document import Value, from_plain, parse
from validator_supervisor.errors import ConfigError
from validator_supervisor.schema import (
    Kind,
    boolean,
    choice,
    either,
    integer,
    record,
    sequence,
    setting,
    table,
    union,
)

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "config.schema.json"
REGENERATE = (
    "python3 -c 'import json; from validator_supervisor import config; "
    "print(json.dumps(config.json_schema(), indent=1))' > docs/config.schema.json"
)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mapping of the tests."""

    name: str = ""
    kind: str = setting(choice("point", "circle"), "what it is")
    x: int = setting(integer(0, 9, "a digit"), "how far")
    label: str = setting(schema.text("[a-z]+", "letters"), "what it is called", "none")
    marks: dict[str, bool] = setting(table(schema.text("[a-z]"), boolean()), "marks", {})
    old: bool = setting(boolean(), "whether it was", False, idle=True)


@dataclass(frozen=True, kw_only=True)
class Circle:
    """Another."""

    kind: str = setting(choice("point", "circle"), "what it is")
    radius: int = setting(integer(1, 9, "a digit"), "how large")


POINT = record(Point)
SHAPE: Kind[Point | Circle] = union("kind", {"point": Point, "circle": Circle})


def read(kind: Kind[Any], data: object) -> object:
    return kind.read(from_plain(data, "f"))


def refusal(kind: Kind[Any], data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(kind, data)
    return str(caught.value)


def test_a_record_is_read_as_its_dataclass() -> None:
    assert read(POINT, {"kind": "point", "x": 1}) == Point(kind="point", x=1)
    assert read(POINT, {"kind": "point", "x": 1, "label": "a", "marks": {"a": True}}) == Point(
        kind="point", x=1, label="a", marks={"a": True}
    )
    assert refusal(POINT, {"kind": "point"}) == "f: key x is missing"
    assert refusal(POINT, {"kind": "point", "x": 10}) == "f: x: expected a digit (0 to 9), found 10"
    # A field that is no setting is no key.
    assert "f: name: unknown key" in refusal(POINT, {"kind": "point", "x": 1, "name": "a"})
    assert "f: lable: unknown key (did you mean label?)" in refusal(POINT, {"lable": "a"})
    assert "found nothing" in refusal(POINT, None)


def test_two_records_share_no_default() -> None:
    one, other = (Point(kind="point", x=1) for _ in range(2))
    assert one.marks == other.marks == {}
    assert one.marks is not other.marks


def test_a_union_is_read_as_its_word_says() -> None:
    assert read(SHAPE, {"kind": "point", "x": 1}) == Point(kind="point", x=1)
    assert read(SHAPE, {"kind": "circle", "radius": 1}) == Circle(kind="circle", radius=1)
    assert refusal(SHAPE, {"radius": 1}) == "f: key kind is missing"
    assert "f: kind: expected one of point, circle" in refusal(SHAPE, {"kind": "line"})
    assert "f: x: means nothing for kind circle" in refusal(SHAPE, {"kind": "circle", "x": 1})
    assert "f: key radius is missing" in refusal(SHAPE, {"kind": "circle"})
    # The nearest key of any of them.
    assert "did you mean radius?" in refusal(SHAPE, {"kind": "point", "radus": 1})
    # One word that is not a string breaks nothing.
    words: list[object] = [None, 1, True, [], {}]
    for word in words:
        assert "f: kind: expected one of" in refusal(SHAPE, {"kind": word})


def test_a_table_has_checked_names_and_may_be_empty() -> None:
    kind = table(schema.text("[a-z]", "a letter"), integer(0, 9, "a digit"))
    assert read(kind, {"b": 1, "a": 2}) == {"b": 1, "a": 2}
    assert read(kind, {}) == read(kind, None) == {}
    assert refusal(kind, {"ab": 1}) == 'f: ab: expected a letter, found "ab"'
    assert "f: a: expected a digit" in refusal(kind, {"a": "1"})
    assert "expected a mapping" in refusal(kind, [])


def test_a_sequence_has_a_least_number_of_items() -> None:
    kind = sequence(integer(0, 9, "a digit"), 2)
    assert read(kind, [1, 2]) == (1, 2)
    assert refusal(kind, [1]) == "f: expected at least 2 item(s)"
    assert refusal(kind, [1, "a"]) == 'f: [1]: expected a digit (0 to 9), found "a"'
    assert "expected a list" in refusal(kind, None)
    assert read(sequence(boolean()), []) == ()


def test_a_mapping_or_another_value() -> None:
    kind = either(choice("none"), POINT)
    assert read(kind, "none") == "none"
    assert read(kind, {"kind": "point", "x": 1}) == Point(kind="point", x=1)
    assert "expected one of none" in refusal(kind, "some")
    assert "expected one of none" in refusal(kind, None)
    assert "key kind is missing" in refusal(kind, {})


def test_then_looks_at_what_was_read() -> None:
    def even(value: Value, number: int) -> str:
        if number % 2:
            raise value.error("expected an even digit")
        return str(number)

    kind = integer(0, 9, "a digit").then(even)
    assert read(kind, 4) == "4"
    assert refusal(kind, 5) == "f: expected an even digit"
    assert "expected a digit" in refusal(kind, 10)
    assert kind.schema == integer(0, 9, "a digit").schema


def test_what_no_job_uses_is_found() -> None:
    value = from_plain({"old": True, "x": 1, "z": 1}, "f")
    assert [member.key for member in schema.idle(Point, value)] == ["old"]


def test_schema_of_a_record() -> None:
    shown = POINT.schema
    assert (shown["type"], shown["additionalProperties"]) == ("object", False)
    assert shown["required"] == ["kind", "x"]
    properties = shown["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == ["kind", "x", "label", "marks", "old"]
    assert properties["x"] == {
        "type": "integer", "minimum": 0, "maximum": 9, "description": "how far",
    }  # fmt: skip
    assert properties["label"]["default"] == "none"
    assert properties["old"]["description"] == "whether it was; no job uses it yet"


def mistakes(data: object, of: Mapping[str, object] | None = None) -> list[str]:
    found = jsonschema.Draft202012Validator(of or config.json_schema()).iter_errors(data)
    return [error.message for error in found]


def test_the_published_schema_is_that_of_the_code() -> None:
    wanted = json.dumps(config.json_schema(), indent=1) + "\n"
    assert PUBLISHED.read_text() == wanted, f"it is not what the code says; do: {REGENERATE}"


def test_it_is_a_schema() -> None:
    published = json.loads(PUBLISHED.read_text())
    assert published["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(published)


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Return every schema in a schema."""
    if isinstance(node, dict):
        yield node
        inner = [
            *node.get("properties", {}).values(),
            *node.get("allOf", []),
            *node.get("anyOf", []),
        ]
        inner += [node[name] for name in ("items", "propertyNames", "then", "if") if name in node]
        inner.append(node.get("additionalProperties"))
        for member in inner:
            yield from walk(member)


def test_every_key_says_what_it_is() -> None:
    count = 0
    for node in walk(json.loads(PUBLISHED.read_text())):
        if node.get("additionalProperties") is False:
            for name, member in node["properties"].items():
                assert len(member["description"]) > 5, name
                count += 1
    assert count > 50


def test_defaults_are_values_that_could_be_written() -> None:
    count = 0
    for node in walk(config.json_schema()):
        if "default" in node:
            assert not mistakes(json.loads(json.dumps(node["default"])), node), node
            count += 1
    assert count > 10


def test_editors_understand_it() -> None:
    """Patterns are of ECMA-262 with the flag u, which has no other escapes than these."""
    count = 0
    for node in walk(config.json_schema()):
        assert not {"$ref", "$defs", "$dynamicRef", "definitions", "format"} & set(node)
        pattern = node.get("pattern")
        if pattern is not None:
            count += 1
            assert re.fullmatch(r"\^\(.*\)\$", pattern)
            assert set(re.findall(r"\\(.)", pattern)) <= set("[].s")
            outside = re.sub(r"\\.|\[[^\]]*\]", "_", pattern)
            # No groups with a meaning, no possessive or lazy ones, no brace but that of a count.
            assert not re.search(r"\(\?(?!:)|[*+?}][+?]", outside), pattern
            assert not set("{}[]") & set(re.sub(r"\{\d+(,\d*)?\}", "", outside)), pattern
    assert count > 20


def test_examples_are_valid(text: str) -> None:
    assert mistakes(parse(text.encode(), "f").plain()) == []


@pytest.mark.parametrize("text", ["version: 1", "version: 1\nnodes:\nvalidators:\n"])
def test_little_is_needed(text: str) -> None:
    assert mistakes(parse(text.encode(), "f").plain()) == []
    config.read(parse(text.encode(), "f"))


# Values that are good at one place or another.
WORDS = [
    "", "a", "/a", "/home/x/y", "a:1", "[::1]:65535", "http://a:1", "https://b/c", "1h", "30min",
    "off", "auto", "alert", "all", "local", "cosmos", "command", "first-use", "x.sock", "hoodi",
    "dev", "teku", "v1.2.3", "0" * 64, "0x" + "aB" * 20, "credential", "fifo", "ä ö", "-x --y=$z",
]  # fmt: skip
OTHERS: list[object] = [
    None, True, False, 0, 1, 100, 1024, 65535, 65536, 21_000, 1 << 40, [], {}, ["a"], ["/a"],
    ["local"], ["https://b/c"], [2000, 3000], {"dev": "a:1"}, {"a": {}},
    [{"local": 1, "remote": "a:1"}],
    [{"local": "/a", "remote": "/b", "reverse": True}], [{"local": "a.sock", "remote": "/b"}],
    {"web3signer": "http://a", "public_keys": "all"}, {"client": "teku", "binary": "/a"},
    {"web3signer": "http://a", "public_keys": ["0x" + "0" * 96], "certificate": "/a"},
    {"client": "nimbus", "version": "1", "sha256": "0" * 64}, {"interval": "1d"},
    {"source": "credential", "credential": "a"}, {"kind": "command", "command": ["/a"]},
]  # fmt: skip


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Return every mapping and list with each of its keys."""
    for key in sorted(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def test_whatever_is_read_in_place_of_a_value_is_valid(text: str) -> None:
    document: Any = parse(text.encode(), "f").plain()
    validator = jsonschema.Draft202012Validator(config.json_schema())
    count = 0
    for place, key in list(places(document)):
        before = place[key]
        for value in [*WORDS, *OTHERS]:
            place[key] = value
            with contextlib.suppress(ConfigError):
                config.read(from_plain(document, "f"))
                assert not list(validator.iter_errors(document)), (key, value)
                count += 1
        place[key] = before
    assert count > 400


LEAF: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.integers(-1, 70000)
    | st.sampled_from(WORDS)
    | st.text(max_size=20)
    | st.sampled_from([[], {}, ["a"], [1, 2], [2000, 3000], {"a": {}}, {"dev": "a:1"}])
)


def alike(value: object) -> st.SearchStrategy[object]:
    """Return values of the same type: more of them are read."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.integers(-1, 100) | st.sampled_from([1024, 13000, 65535, 65536, 21_000, 1 << 40])
    if isinstance(value, str):
        return st.sampled_from(WORDS) | st.text(max_size=5)
    if isinstance(value, list):
        return st.sampled_from([value[:1], value + value, [*reversed(value)], []])
    return st.none() | st.just({})


@given(data=st.data())
def test_whatever_is_read_is_valid(text: str, data: st.DataObject) -> None:
    document: Any = parse(text.encode(), "f").plain()
    for _ in range(data.draw(st.integers(1, 2))):
        place = document
        while place:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or data.draw(st.integers(0, 5)) == 0:
                break
            place = place[key]
        if not place:
            continue
        if isinstance(place, dict) and data.draw(st.integers(0, 3)) == 0:
            del place[key]
        else:
            place[key] = data.draw(alike(place[key]) | LEAF)
    try:
        config.read(from_plain(document, "f"))
    except ConfigError:
        return
    # An empty file is a configuration too, of nothing.
    assert document == {} or mistakes(document) == []


def changed(text: str, *path: str, **to: object) -> object:
    document: Any = parse(text.encode(), "f").plain()
    place = document
    for name in path:
        place = place[name]
    place.update(to)
    return document


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ((), {"version": 2}),
        ((), {"version": "1"}),
        ((), {"nodse": {}}),
        ((), {"port_range": [1]}),
        ((), {"port_range": [1, 2, 3]}),
        ((), {"port_range": "2000"}),
        ((), {"nodes": []}),
        ((), {"nodes": {"A": {}}}),
        ((), {"nodes": {"a": None}}),
        ((), {"backup": None}),
        (("backup",), {"interval": 1}),
        (("backup",), {"interval": "1w"}),
        (("backup",), {"keep": "48"}),
        (("backup",), {"every": "1h"}),
        (("nodes", "helsinki"), {"hots": "a"}),
        (("nodes", "helsinki"), {"port": "22"}),
        (("nodes", "helsinki"), {"port": 0}),
        (("nodes", "helsinki"), {"host": "-oProxyCommand=id"}),
        (("nodes", "helsinki"), {"beacon": {"Mainnet": "a:1"}}),
        (("nodes", "helsinki"), {"beacon": "a"}),
        (("nodes", "helsinki"), {"loki": 5}),
        (("nodes", "helsinki"), {"control_port": 65536}),
        (("nodes", "helsinki"), {"forwards": [{"local": 1}]}),
        (("nodes", "helsinki"), {"forwards": [{"local": 1, "remote": "a:1", "x": 1}]}),
        (("nodes", "helsinki"), {"forwards": {}}),
        (("validators", "main"), {"kind": "bitcoin"}),
        (("validators", "main"), {"kind": "cosmos"}),
        (("validators", "main"), {"network": "main_"}),
        (("validators", "main"), {"fee_recipient": "0x00"}),
        (("validators", "main"), {"release": {}}),
        (("validators", "main"), {"release": {"client": "geth", "binary": "/x"}}),
        (("validators", "main"), {"release": {"client": "teku", "binary": "x"}}),
        (("validators", "main"), {"nodes": []}),
        (("validators", "main"), {"nodes": "local"}),
        (("validators", "main"), {"keys": "remote"}),
        (("validators", "main"), {"keys": {}}),
        (("validators", "main"), {"keys": {"web3signer": "a:1"}}),
        (("validators", "main"), {"gas_limit": 0}),
        (("validators", "main"), {"doppelganger": False}),
        (("validators", "main"), {"enabled": "yes"}),
        (("validators", "main"), {"command": ["/bin/x"]}),
        (("validators", "main"), {"user": "Root"}),
        (("validators", "other"), {"command": []}),
        (("validators", "other"), {"command": "/bin/x"}),
        (("validators", "other"), {"network": "dev"}),
        (("validators", "hub"), {"home": "data"}),
        (("validators", "hub"), {"key": {"source": "disk"}}),
        (("validators", "hub"), {"key": {}}),
        (("validators", "hub"), {"rpc": ["a:1"]}),
        (("validators",), {"a": {"command": ["/x"]}}),
        (("validators",), {"a": {"kind": "command"}}),
        (("validators",), {"a": {"kind": "ethereum"}}),
    ],
)
def test_plain_mistakes_are_refused_by_both(
    text: str, path: tuple[str, ...], to: dict[str, object]
) -> None:
    document = changed(text, *path, **to)
    assert mistakes(document)
    with pytest.raises(ConfigError):
        config.read(from_plain(document, "f"))


@pytest.mark.parametrize(
    "remove", ["version", "nodes.helsinki.forwards.0.local", "validators.main.kind",
               "validators.main.release", "validators.other.command", "validators.hub.key"],
)  # fmt: skip
def test_missing_keys_are_refused_by_both(text: str, remove: str) -> None:
    document: Any = parse(text.encode(), "f").plain()
    *path, name = remove.split(".")
    place = document
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    del place[name]
    assert mistakes(document)
    with pytest.raises(ConfigError):
        config.read(from_plain(document, "f"))
