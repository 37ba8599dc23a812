import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from validator_supervisor.document import (
    DEPTH_MAX,
    SIZE_MAX,
    Value,
    from_plain,
    load,
    parse,
    read_json,
)
from validator_supervisor.errors import ConfigError


def parsed(text: str | bytes) -> object:
    return parse(text if isinstance(text, bytes) else text.encode(), "f.yaml").plain()


def refusal(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert caught.value.code == "InvalidConfiguration"
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("999999999999999999", 999999999999999999),
        # YAML 1.1 and floating point would make numbers and truth values of these.
        ("0xab", "0xab"),
        ("0o17", "0o17"),
        ("017", "017"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", "1.5"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("off", "off"),
        ("yes", "yes"),
        ("True", "True"),
        ("2024-01-01", "2024-01-01"),
        ("9999999999999999999", "9999999999999999999"),
        ('"true"', "true"),
        ("'0'", "0"),
        ('""', ""),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = parsed(f"key: {text}\n")
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~", "---\n...\n", "\ufeff"])
def test_nothing_is_an_empty_mapping(text: str) -> None:
    assert parsed(text) == {}


def test_values_know_their_place() -> None:
    members = parse(b"a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml").mapping()
    item = members["b"].items()[1].mapping()["c"]
    assert (item.line, item.column, item.key) == (4, 6, "b[1].c")
    assert item.error("no", "hint").message == "f.yaml:4:6: b[1].c: no"
    assert item.error("no", "hint").hint == "hint"


def test_error_of_a_value_stands_at_its_key() -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml:2:1: b: expected true or false, found 1"):
        parse(b"a: 1\nb:\n   1\n", "f.yaml").mapping()["b"].boolean()


def test_duplicate_key_names_both_places() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("a:\n  b: 1\n  c: 2\n  b: 3\n")
    assert caught.value.message == "f.yaml:4:3: a.b: this key stands here a second time"
    assert caught.value.hint == "first in line 2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1\n", "1:4: a: anchors and aliases"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases"),
        ("a: *x\n", "anchors and aliases"),
        ("&x a: 1\n", "expected a key"),
        ("a: !!str 1\n", "tags are not used"),
        ("a: !!python/object/apply:os.system [id]\n", "tags are not used"),
        ("!!map {}\n", "tags are not used"),
        ("!x a: 1\n", "expected a key"),
        ("? [a]\n: 1\n", "expected a key"),
        ("{a: 1}: 1\n", "expected a key"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document"),
        ("a: [1\n", "is not YAML"),
        ("a: '\n", "is not YAML"),
        ("a:\n\t- 1\n", "is not YAML"),
        ("a: 1\n b: 2\n", "is not YAML"),
        ("@\n", "is not YAML"),
        ("a: \0\n", "is not YAML"),
        ("a: \x1b[2J\n", "is not YAML"),
        ('a: "\\UFFFFFFFF"\n', "is not YAML"),
        ('a: "\\U00110000"\n', "is not YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\n", "is not YAML"),
        ("%TAG ! x\n", "is not YAML"),
    ],
)
def test_refused_documents(text: str, words: str) -> None:
    assert words in refusal(text)


def test_truncation_anywhere_is_refused_or_a_prefix(text: str) -> None:
    raw = text.encode()
    for end in range(0, len(raw), 7):
        try:
            found = parsed(raw[:end])
        except ConfigError:
            continue
        assert found is None or isinstance(found, dict | str)


def test_no_utf8_names_the_line() -> None:
    assert refusal(b"a: 1\nb: \xff\n") == "f.yaml:2: is not UTF-8"
    assert "not UTF-8" in refusal("a: 1".encode("utf-16"))
    assert "not UTF-8" in refusal(b"a: \xed\xa0\x80")  # a surrogate, encoded


def test_size_limit_is_exact() -> None:
    assert parsed(b"#" * SIZE_MAX) == {}
    assert f"larger than {SIZE_MAX}" in refusal(b"#" * (SIZE_MAX + 1))


def test_depth_limit_is_exact() -> None:
    assert parsed("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1))
    assert "nested more than" in refusal("[" * (DEPTH_MAX + 2) + "]" * (DEPTH_MAX + 2))
    assert "nested more than" in refusal("{a: " * (DEPTH_MAX + 2))


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a:\n "])
def test_very_deep_nesting_ends_early(opening: str) -> None:
    assert refusal(opening * (SIZE_MAX // len(opening) // 2))


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        parse(raw, "f.yaml")
    except ConfigError as failure:
        assert failure.message.startswith("f.yaml")


@given(st.text(alphabet="ab01 \n\t:-?,[]{}#&*!|>'\"%@`\\xuU~.<=\0\x85\u2028\ufeff", max_size=80))
@example('"\\x')
@example("? ? -")
def test_any_text_that_looks_like_yaml_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text.encode(), "f.yaml")
    except ConfigError as failure:
        assert failure.message.startswith("f.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(PLAIN)
def test_plain_data_survives_the_way_there_and_back(data: object) -> None:
    back = from_plain(data, "f").plain()
    assert back == data
    assert json.dumps(back) == json.dumps(data)  # 1 == True, but not here


@pytest.mark.parametrize("number", [1.5, float("nan"), float("inf")])
def test_fractions_are_refused_with_their_key(number: float) -> None:
    with pytest.raises(ConfigError, match=r"unexpected float at a\.b\[0\]"):
        from_plain({"a": {"b": [number]}}, "f")


@pytest.mark.parametrize(
    "text", ["a\nb", "a\0", "\x1b[0m", "\x7f", "\u2028", "\u202e", "\ud800", "\t", "\ufeff"]
)
def test_strings_hold_no_control_characters(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a string") as caught:
        Value(text, "f").string()
    assert caught.value.message.isprintable()


def test_pattern_must_match_in_full() -> None:
    assert Value("ab", "f").string("a.") == "ab"
    for text in ("abc", "xab", "a", "", "ab\n"):
        with pytest.raises(ConfigError, match="expected two letters"):
            Value(text, "f").string("a.", "two letters")


@pytest.mark.parametrize("data", [None, True, 1, (), {}])
def test_only_strings_are_strings(data: bool | int | None) -> None:
    with pytest.raises(ConfigError, match="expected a string, found"):
        Value(data, "f").string()


@pytest.mark.parametrize("data", [True, False, "5", None, 0, 11, -1, (), {}, 10**30])
def test_integers_are_within_bounds_and_no_truth_values(
    data: "bool | str | int | tuple[Value, ...] | dict[str, Value] | None",
) -> None:
    with pytest.raises(ConfigError, match=r"expected a number \(1 to 10\)"):
        Value(data, "f").integer(1, 10, "a number")
    assert Value(1, "f").integer(1, 10, "a number") == 1
    assert Value(10, "f").integer(1, 10, "a number") == 10


def test_choice_offers_the_nearest_word() -> None:
    with pytest.raises(ConfigError) as caught:
        Value("lodstar", "f").choice("lodestar", "lighthouse")
    assert caught.value.hint == "did you mean lodestar?"
    for data in (None, True, 1):
        with pytest.raises(ConfigError, match="expected one of"):
            Value(data, "f").choice("None", "True", "1")


def test_unknown_key_is_an_error_at_its_own_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(b"kind: x\nnodse: 1\n", "f.yaml").section("kind", "nodes")
    assert caught.value.message == "f.yaml:2:1: nodse: unknown key"
    assert caught.value.hint == "did you mean nodes?"


def test_missing_and_absent_keys() -> None:
    section = parse(b"a: 1\n", "f.yaml").section("a", "b")
    assert section.get("b", Value.boolean, True) is True
    with pytest.raises(ConfigError, match="key b is missing"):
        section.need("b", Value.boolean)


def test_lists_and_mappings_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="expected a list, found a mapping"):
        Value({}, "f").items()
    with pytest.raises(ConfigError, match="expected a mapping, found a list"):
        Value((), "f").mapping()
    with pytest.raises(ConfigError, match="expected a mapping, found nothing"):
        Value(None, "f").section("a")


def test_what_an_error_shows_is_short_and_on_one_line() -> None:
    shown = Value("\n" * 500, "f").shown()
    assert len(shown) <= 80
    assert shown.isprintable()


def test_json_of_another_job_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text('{"a": [1, "x"]}')
    assert read_json(path).plain() == {"a": [1, "x"]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1e400}',
        b'{"a": 0.5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 5000,
        b" " * (SIZE_MAX + 1),
        b"{}\0",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "c": 2, "b": 3}}',
        b"#" * (10 << 20),
    ],
)
def test_unexpected_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(raw)
    with pytest.raises(ConfigError):
        read_json(path)


@given(st.binary(max_size=200))
def test_any_json_is_read_or_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(raw)
    try:
        read_json(path)
    except ConfigError as failure:
        assert str(path) in failure.message


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    # Each of these would keep a reader for ever, or let it read in somebody else's place.
    fifo, link, folder = tmp_path / "fifo", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(fifo)
    (tmp_path / "real").write_text("{}")
    link.symlink_to(tmp_path / "real")
    folder.mkdir()
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(ConfigError, match=f"{path}: is not a regular file"):
            read_json(path)
    for path in (link, folder, tmp_path / "none"):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read"):
            read_json(path)


@pytest.mark.parametrize("raw", [b'{"a": [1, "x"]}', b' \n{"a": [1, "x"]}', b"a:\n- 1\n- x\n"])
def test_json_or_yaml_of_another_job_is_read(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    assert load(path).plain() == {"a": [1, "x"]}


def test_json_of_another_job_is_read_without_pyyaml(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": 1}')
    program = (
        "import sys; from pathlib import Path; from validator_supervisor.document import load;"
        " load(Path(sys.argv[1])); assert 'yaml' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"a: \xff",
        b'{"a": "\xff"}',
        b"{a: 1",
        b"a: &x [1, 1]\nb: *x\n",
        # A billion laughs, of which not one is heard.
        b"a: &a [l, l]\n"
        + b"".join(b"%c: &%c [*%c, *%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 122)),
        b"a: 1\na: 2\n",
        b'{"a": 1, "a": 2}',
        b"#" * (SIZE_MAX + 1),
        b"#" * (10 << 20),
        b"{" + b" " * (10 << 20),
        b"[" * (SIZE_MAX // 2),
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_unexpected_json_or_yaml_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 1000


def test_an_error_shows_no_more_of_a_key_than_can_be_shown() -> None:
    message = Value(1, "f", key="a\nSTATUS=x\x1b[2J\ud800" + "b" * 1000).error("no").message
    assert message.startswith("f: a?STATUS=x?[2J?bbb")
    assert message.isprintable()
    assert len(message) < 300


def test_a_long_key_above_a_long_list_takes_no_more_than_its_size() -> None:
    long, many = "k" * 60_000, 60_000
    found = from_plain({long: [0] * many}, "f").mapping()[long].items()
    assert len(found) == many
    assert sum(len(item.key) for item in found) < 300 * many
    # Anywhere in an error it would be cut all the same.
    assert found[-1].key.startswith("kkk")
