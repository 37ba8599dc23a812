import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import interchange
from validator_supervisor.errors import FormatError
from validator_supervisor.interchange import History, Interchange, parse, public_key, text

KEY = "0x" + "ab" * 48
ROOT = b"\x05" * 32
SIGNED = b"\x07" * 32
NUMBER = st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 2))
SIGNING_ROOT = st.sampled_from([b"", SIGNED, b"\x08" * 32])
HISTORY = st.builds(
    History,
    st.frozensets(st.tuples(NUMBER, SIGNING_ROOT), max_size=4),
    st.frozensets(st.tuples(NUMBER, NUMBER, SIGNING_ROOT), max_size=4),
)
KEYS = st.sampled_from([f"0x{digit * 96}" for digit in "0a9f"])
INTERCHANGE = st.builds(Interchange, st.just(ROOT), st.dictionaries(KEYS, HISTORY, max_size=3))
FULL = Interchange(
    ROOT,
    {
        KEY: History(
            frozenset({(4, SIGNED), (9, b"")}), frozenset({(2, 3, SIGNED), (0, 2**64 - 2, b"")})
        )
    },
)


def document(**changed: Any) -> dict[str, Any]:
    """Return a document in which one value, named by its last member, is another one."""
    read: dict[str, Any] = json.loads(text(FULL))
    entry = read["data"][0]
    vote = entry["signed_attestations"][1]
    places = (read, read["metadata"], entry, entry["signed_blocks"][0], vote)
    for name, value in changed.items():
        # The root stands in two places: in the attestation, then.
        place = next(one for one in reversed(places) if name in one or one is places[0])
        place[name] = value
    return read


def refusal(raw: bytes | object) -> str:
    with pytest.raises(FormatError) as caught:
        parse(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    assert caught.value.code == "InvalidInterchange"
    assert caught.value.message.isprintable()
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 300
    return caught.value.message


def test_text_is_canonical() -> None:
    assert text(FULL) == (
        "{\n"
        '  "metadata": {\n'
        '    "interchange_format_version": "5",\n'
        f'    "genesis_validators_root": "0x{"05" * 32}"\n'
        "  },\n"
        '  "data": [\n'
        "    {\n"
        f'      "pubkey": "{KEY}",\n'
        '      "signed_blocks": [\n'
        f'        {{"slot": "4", "signing_root": "0x{"07" * 32}"}},\n'
        '        {"slot": "9"}\n'
        "      ],\n"
        '      "signed_attestations": [\n'
        '        {"source_epoch": "0", "target_epoch": "18446744073709551614"},\n'
        '        {"source_epoch": "2", "target_epoch": "3", '
        f'"signing_root": "0x{"07" * 32}"}}\n'
        "      ]\n"
        "    }\n"
        "  ]\n"
        "}\n"
    )
    assert text(Interchange(ROOT, {})).endswith('  "data": []\n}\n')


@given(INTERCHANGE)
def test_what_is_written_is_read(written: Interchange) -> None:
    read = parse(text(written).encode())
    assert read.interchange == written
    assert read.remarks == ()
    assert text(read.interchange) == text(written)


def test_one_key_in_every_spelling() -> None:
    spellings = [KEY, KEY[2:], KEY.upper(), "0x" + KEY[2:].upper(), "AB" * 24 + "ab" * 24]
    entries = [
        {"pubkey": key, "signed_blocks": [{"slot": str(slot)}], "signed_attestations": []}
        for slot, key in enumerate(spellings)
    ]
    read = parse(json.dumps(document(data=entries)).encode()).interchange
    assert read.keys == {KEY: History(frozenset((slot, b"") for slot in range(5)))}
    assert {public_key(key) for key in spellings} == {KEY}


def test_entries_of_one_key_are_all_of_that_key() -> None:
    votes = [{"source_epoch": "5", "target_epoch": "6"}, {"source_epoch": "1", "target_epoch": "2"}]
    entries = [
        {"pubkey": key, "signed_blocks": [], "signed_attestations": [vote]}
        for key, vote in zip((KEY, KEY[2:].upper()), votes, strict=True)
    ]
    read = parse(json.dumps(document(data=entries)).encode()).interchange
    assert read.keys == {KEY: History(frozenset(), frozenset({(5, 6, b""), (1, 2, b"")}))}


def test_signing_roots_in_every_spelling() -> None:
    votes = [
        {"source_epoch": "1", "target_epoch": "2", "signing_root": root}
        for root in ("0x" + "ab" * 32, "0X" + "AB" * 32, "Ab" * 32, None)
    ]
    read = parse(json.dumps(document(signed_attestations=votes)).encode()).interchange
    assert read.keys[KEY].attestations == {(1, 2, b"\xab" * 32), (1, 2, b"")}


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "-1", "+1", " 1", "1 ", "1\n", "01", "00", "1.0", "1e3", "0x1", "1_0", "NaN",
        "Infinity", "\uff11\uff12", "\u0663", "\u00b2", "1\x00", "\ud800", "9" * 20, "9" * 5000,
        str(2**64 - 1), str(2**64), 5, 0, -1, 1.5, True, False, None, [], {}, ["1"], 10**30,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["slot", "source_epoch", "target_epoch"])
def test_numbers(name: str, value: object) -> None:
    member = "signed_blocks[0]" if name == "slot" else "signed_attestations[1]"
    message = refusal(document(**{name: value}))
    assert message.startswith(f"data[0].{member}.{name}: expected a decimal number")


@pytest.mark.parametrize(
    "value",
    [
        "", "0x", "ab", "0x" + "ab" * 31, "0x" + "ab" * 33, "0x" + "ab" * 47, "0x" + "ab" * 49,
        "0x" + "ag" * 32, "0x" + "ab" * 31 + "a", " " * 64, "ab " * 32, "ab" * 31 + "  ",
        "\uff41\uff42" * 32, "0x0x" + "ab" * 31, "\ud800" * 64, "x" * 10000,
        5, 1.5, True, [], {}, ["ab" * 32],
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["pubkey", "signing_root", "genesis_validators_root"])
def test_hexadecimal(name: str, value: object) -> None:
    assert f"{name}: expected " in refusal(document(**{name: value}))


@pytest.mark.parametrize("name", ["data", "signed_blocks", "signed_attestations"])
@pytest.mark.parametrize("value", [None, {}, "", "[]", 1, True, {"0": {}}])
def test_lists(name: str, value: object) -> None:
    assert f"{name}: expected a list, found " in refusal(document(**{name: value}))


@pytest.mark.parametrize("value", [None, [], "", 1, 1.5, True, ["slot"], "slot"])
def test_objects(value: object) -> None:
    assert refusal([value] if value is None else value)
    assert refusal(document(metadata=value)).startswith("metadata: expected an object")
    assert refusal(document(data=[value])).startswith("data[0]: expected an object")
    for name in ("signed_blocks", "signed_attestations"):
        message = refusal(document(**{name: [value]}))
        assert message.startswith(f"data[0].{name}[0]: expected an object")


PLACES = [
    (), ("metadata",), ("data", 0), ("data", 0, "signed_blocks", 0),
    ("data", 0, "signed_attestations", 1),
]  # fmt: skip


def at(read: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        read = read[step]
    return read


@pytest.mark.parametrize("place", PLACES)
def test_members_are_exact(place: tuple[str | int, ...]) -> None:
    if place:
        read = document()
        at(read, place).clear()
        assert "has no " in refusal(read)
    assert "has no " in refusal({})
    for name in at(document(), place):
        read = document()
        del at(read, place)[name]
        if name != "signing_root":
            assert f"has no {name}" in refusal(read)
        else:
            assert parse(json.dumps(read).encode())
    for name in ("extra", "", "Slot", "\ud800", "x" * 10000, "interchange_format"):
        read = document()
        at(read, place)[name] = "1"
        assert "has an unknown member" in refusal(read)


@pytest.mark.parametrize("place", PLACES)
def test_no_member_stands_there_twice(place: tuple[str | int, ...]) -> None:
    for name, value in at(document(), place).items():
        read = document()
        at(read, place)["TWICE"] = value
        raw = json.dumps(read).replace("TWICE", name).encode()
        assert f'"{name}" twice' in refusal(raw)
    # Also where it is spelled in another way.
    raw = text(FULL).replace('"slot": "9"', '"slot": "9", "sl\\u006ft": "1"').encode()
    message = refusal(raw)
    assert message.startswith("data[0].signed_blocks[1]: expected an object, found one with")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf" + text(FULL).encode(), "BOM"),
        (text(FULL).encode("utf-16"), "is not UTF-8"),
        (text(FULL).encode() + b"{}", "Extra data"),
        (text(FULL).encode() + b"\0", "Extra data"),
        (b"\0" * 100, "is not JSON"),
        (text(FULL).encode().replace(b"ab", b"\xff", 1), "is not UTF-8, at byte"),
        (text(FULL).encode().replace(b"ab", b"\0", 1), "is not JSON, at line 8, column"),
        (b"[" * 100_000, "nested too deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"data":' * 100_000, "nested too deep"),
        (b"9" * 100_000, "expected an object, found 999"),
        (b"-1e999", "expected an object, found -1e999"),
        (b"NaN", "expected an object, found NaN"),
        (b"-Infinity", "expected an object"),
        (b'"\\ud800"', "expected an object"),
    ],
    ids=range(17),
)
def test_what_is_no_document(raw: bytes, message: str) -> None:
    assert message in refusal(raw)


def test_size_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interchange.SIZE_MAX == 128 << 20
    monkeypatch.setattr(interchange, "SIZE_MAX", 1 << 20)
    raw = text(FULL).encode()
    assert parse(raw + b" " * ((1 << 20) - len(raw))).interchange == FULL
    assert "is larger than 1 MiB" in refusal(raw + b" " * ((1 << 20) - len(raw) + 1))


@pytest.mark.parametrize("version", ["3", "6", "05", "", "5 ", 5, 4, None, True, [], {}, "\ud800"])
def test_other_versions(version: object) -> None:
    assert "metadata" in refusal(document(interchange_format_version=version))


def old(entry: dict[str, Any], **metadata: object) -> dict[str, Any]:
    read = document(interchange_format_version="4")
    read["metadata"] |= {"interchange_format": "complete"} | metadata
    read["data"].append(entry)
    return read


def test_version_4_is_upgraded() -> None:
    bogus = {"pubkey": "0x4745\n", "signed_blocks": [], "signed_attestations": []}
    read = parse(json.dumps(old(bogus)).encode())
    assert read.interchange == FULL
    assert len(read.remarks) == 2
    assert '"0x4745\\n"' in read.remarks[1]
    assert all(remark.isprintable() for remark in read.remarks)


def test_version_4_hides_nothing() -> None:
    bogus = {"pubkey": "0x4745", "signed_blocks": [{"slot": "1"}], "signed_attestations": []}
    assert refusal(old(bogus)).startswith("data[1].pubkey: expected 48 bytes")
    attested = [{"source_epoch": "1", "target_epoch": "2"}]
    attesting = bogus | {"signed_blocks": [], "signed_attestations": attested}
    assert refusal(old(attesting)).startswith("data[1].pubkey: expected 48 bytes")
    assert "data[1].pubkey" in refusal(old(bogus | {"signed_blocks": [], "pubkey": 5}))
    empty = {"pubkey": KEY, "signed_blocks": [], "signed_attestations": []}
    assert "interchange_format" in refusal(old(empty, interchange_format="minimal"))
    read = old(empty)
    del read["metadata"]["interchange_format"]
    assert refusal(read) == "metadata: has no interchange_format"
    # Version 5 has no such entries.
    assert "data[0].pubkey" in refusal(document(data=[bogus | {"signed_blocks": []}]))


RAW = text(FULL).encode()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255), st.booleans())
def test_damaged_documents(place: int, flipped: int, cut: bool) -> None:
    damaged = RAW[:place] if cut else RAW[:place] + bytes([RAW[place] ^ flipped]) + RAW[place + 1 :]
    try:
        read = parse(damaged).interchange
    except FormatError as failure:
        assert failure.message.isprintable()
    else:
        # Cut off is only white space; another digit is another number, another letter of a key
        # or a root another key or root, or the same in upper case.
        if cut:
            assert damaged.strip() == RAW.strip()
        else:
            assert damaged.lower().split() == RAW.split() or read != FULL


@given(st.binary())
def test_any_bytes(raw: bytes) -> None:
    refusal(raw)


@given(
    JSON, st.sampled_from(["data", "metadata", "pubkey", "slot", "signed_blocks", "target_epoch"])
)
def test_any_value(value: object, name: str) -> None:
    raw = json.dumps(document(**{name: value})).encode()
    try:
        parse(raw)
    except FormatError as failure:
        assert failure.message.isprintable()
