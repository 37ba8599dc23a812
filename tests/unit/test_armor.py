import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.age import armor
from validator_supervisor.errors import FormatError

BEGIN, END = armor.BEGIN.decode(), armor.END.decode()
LINE = "YWdl" * 16


def read(*blocks: bytes) -> bytes:
    return b"".join(armor.opened(blocks).rest())


def text(*lines: str, eol: str = "\n") -> bytes:
    return eol.join([BEGIN, *lines, END, ""]).encode()


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_round_trip_in_any_blocks(data: bytes, size: int) -> None:
    written = b"".join(armor.encode([data]))
    assert read(written) == data
    assert read(*(written[at : at + size] for at in range(0, len(written), size))) == data
    assert read(b"", written.replace(b"\n", b"\r\n"), b"") == data


def test_what_is_written() -> None:
    assert b"".join(armor.encode([b"age" * 16, b"age"])) == text(LINE, "YWdl")
    assert b"".join(armor.encode([b"age" * 15, b"agea", b"g"])) == text(LINE[:60] + "YWdl", "YWc=")
    big = bytes(200_000)
    lines = b"".join(armor.encode([big])).splitlines()
    assert {len(line) for line in lines[1:-2]} == {64}
    assert read(b"\n".join(lines)) == big


def test_what_is_not_armor_is_left_as_it_is() -> None:
    for data in (b"", b"age-encryption.org/v1\n", b" \n age", b"x" * 5000):
        assert read(data) == data
        assert read(*(bytes([byte]) for byte in data)) == data


@pytest.mark.parametrize(
    "data",
    [
        text("YWdl"),
        text("YWdl")[:-1],
        text("YWdl", eol="\r\n"),
        text(LINE, LINE),
        text(LINE, "YQ=="),
        b"\n \t\r\n" + text("YWdl") + b"\n\t \v\f\r\n",
        b"\n" * armor.MAX_SPACE + text("YWdl"),
    ],
)
def test_accepted(data: bytes) -> None:
    assert read(data).startswith(b"a")


@pytest.mark.parametrize(
    "data",
    [
        text(),
        text(""),
        text("", "YWdl"),
        text("YWdl", ""),
        text(LINE, ""),
        text("YWdl", "YWdl"),
        text(LINE[:60], LINE),
        text(LINE + "YWdl"),
        text(LINE + "YWdl", LINE),
        text("YWd"),
        text("YQ"),
        text("YQ="),
        text("YR=="),
        text("YWe="),
        text("YQ==YWdl"),
        text("YQ=", "="),
        text(" YWdl"),
        text("YWdl "),
        text("YW dl"),
        text("YWdl\r\r"),
        text("YW-_"),
        text("=aB3"),
        text("Version: 1", "", "YWdl"),
        text("YWdl", "=aB3d"),
        text("YWdl", eol="\r"),
        text("YWdl").lower(),
        text("YWdl").replace(b"AGE ENCRYPTED", b"PGP"),
        text("YWdl").replace(b"-----END", b"----END"),
        text("YWdl").replace(b"FILE-----\n", b"FILE----- \n", 1),
        text("YWdl")[:-1] + b" \n",
        text("YWdl") + b"x",
        text("YWdl") + b"\n" * 300_000 + text("YWdl"),
        text("YWdl").removesuffix(END.encode() + b"\n"),
        text("YWdl").removesuffix(END.encode() + b"\n") + b"-----END",
        BEGIN.encode(),
        BEGIN.encode() + b"\n",
        b" " + text("YWdl"),
        b"\n " + text("YWdl"),
        b"-",
    ],
)
def test_refused(data: bytes) -> None:
    for blocks in ([data], [bytes([byte]) for byte in data[:3000]] + [data[3000:]]):
        with pytest.raises(FormatError) as caught:
            read(*blocks)
        assert caught.value.code == "InvalidAgeFile"


def test_something_before_it_makes_it_no_armor() -> None:
    for data in (b"x" + text("YWdl"), b"\n" * (armor.MAX_SPACE + 100) + text("YWdl")):
        assert read(data) == data


def test_an_endless_line_ends() -> None:
    with pytest.raises(FormatError):
        for _ in armor.opened(itertools.chain([text()[:35]], itertools.repeat(b"A" * 999))).rest():
            pass
