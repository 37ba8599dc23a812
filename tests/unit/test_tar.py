import io
import tarfile
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import tar
from validator_supervisor.errors import FormatError
from validator_supervisor.tar import BLOCK, RECORD, Reader

FILES = {"a": b"", "b/c": b"x" * 511, "d": b"y" * 512, "e/f/g": b"z" * 200_000}


def written(files: dict[str, bytes] = FILES) -> bytes:
    parts = [
        part for name, data in files.items() for part in tar.member(name, len(data), [data], 7)
    ]
    return b"".join([*parts, tar.trailer()])


def pieces(raw: bytes, size: int) -> Iterable[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def read(chunks: Iterable[bytes], files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    reader = Reader(chunks)
    found = {name: reader.content(name, 1 << 20) for name in files}
    reader.end()
    return found


def foreign(
    change: Callable[[tarfile.TarInfo], None], name: str = "a", data: bytes = b"x"
) -> bytes:
    """Return a tar as Python writes it, with one member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        change(info)
        archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def nothing(_: tarfile.TarInfo) -> None:
    pass


@pytest.mark.parametrize("size", [1, 511, 512, 513, 65536, 1 << 20])
def test_what_is_written_is_read_in_pieces_of_any_size(size: int) -> None:
    assert read(pieces(written(), size)) == FILES


def test_python_reads_what_is_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(written())) as archive:
        for info, (name, data) in zip(archive, FILES.items(), strict=True):
            assert (info.name, info.mode, info.mtime, info.uid) == (name, 0o600, 7, 0)
            content = archive.extractfile(info)
            assert content
            assert content.read() == data


def test_a_long_name_needs_a_folder() -> None:
    name = "validators/0x" + "ab" * 48 + "/keystore.json"
    assert read([written({name: b"1"})], {name: b""}) == {name: b"1"}
    with pytest.raises(ValueError, match="too long"):
        next(tar.member("a" * 101, 0, [], 0))


def kind(of: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type = of

    return change


@pytest.mark.parametrize("of", [
    tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
    tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"?",
])  # fmt: skip
def test_nothing_but_a_plain_file_is_taken(of: bytes) -> None:
    with pytest.raises(FormatError, match="something else stands in its place"):
        read([foreign(kind(of))], {"a": b""})


@pytest.mark.parametrize("name", ["b", "/a", "../a", "./a", "a/", "A", "a\n", "a" * 300, "\udcff"])
def test_no_other_name_is_taken(name: str) -> None:
    made = foreign(nothing, name)
    with pytest.raises(FormatError, match="a is missing"):
        read([made], {"a": b""})


def test_members_come_in_order_and_once() -> None:
    twice = b"".join(tar.member("a", 1, [b"x"], 0)) * 2 + tar.trailer()
    with pytest.raises(FormatError, match="more members"):
        read([twice], {"a": b""})
    with pytest.raises(FormatError, match="something else"):
        read([written()], dict(reversed(FILES.items())))
    with pytest.raises(FormatError, match="e is missing"):
        read([written()], {**FILES, "e": b""})


def test_sizes_are_those_that_are_expected() -> None:
    reader = Reader([written({"a": b"12345"})])
    with pytest.raises(FormatError, match="larger than 4 bytes"):
        reader.content("a", 4)
    reader = Reader([written({"a": b"12345"})])
    with pytest.raises(FormatError, match="another size"):
        reader.header("a", 4)


def header(**fields: object) -> bytes:
    """Return a header with other values, and the right checksum."""
    info = tarfile.TarInfo("a/b")
    info.size, info.mode = 5, 0o600
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT if "size" in fields else tarfile.USTAR_FORMAT)


def patched(at: int, raw: bytes) -> bytes:
    """Return the right header with bytes in another field, and the right checksum."""
    made = bytearray(header())
    made[at : at + len(raw)] = raw
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


OTHERS = {
    # What other programs take for another name, size or owner than Python does, or give away.
    "GNU magic": patched(257, b"ustar  \0"), "no magic": patched(257, bytes(8)),
    "no NUL": patched(124, b"00000000005 "), "a plus": patched(124, b"+5\0"),
    "base 64": patched(124, b"+000000000F\0"), "a space": patched(124, b"         5 \0"),
    "underscore": patched(124, b"0000000_005\0"), "more zeros": patched(124, b"000000000005"),
    "after the name": patched(4, b"x"), "a link": patched(157, b"x"),
    "a device": patched(329, b"0000001\0"), "padding": patched(500, b"x"),
    "a prefix": patched(345, b"x"), "in binary": header(size=1 << 40), "negative": header(size=-1),
    "setuid": header(mode=0o4600), "readable": header(mode=0o644), "an owner": header(uid=33),
    "a group": header(gid=33), "owner's name": header(uname="root"), "no type": patched(156, b"\0"),
}  # fmt: skip


@pytest.mark.parametrize("raw", OTHERS.values(), ids=OTHERS)
def test_no_other_header_is_taken(raw: bytes) -> None:
    assert Reader([header() + b"12345" + bytes(507)]).content("a/b", 5) == b"12345"
    with pytest.raises(FormatError, match="something else stands in its place"):
        Reader([raw + b"12345" + bytes(507)]).content("a/b", 1 << 20)


def test_a_time_is_in_the_header() -> None:
    for when in (0, 1_763_700_000, (1 << 33) - 1):
        raw = b"".join([*tar.member("a", 1, [b"x"], when), tar.trailer()])
        assert read([raw], {"a": b""}) == {"a": b"x"}


@pytest.mark.parametrize("rest", [b"x", bytes(RECORD) + b"x", bytes(RECORD + BLOCK), written()])
def test_nothing_comes_after_the_end(rest: bytes) -> None:
    assert read([written() + bytes(RECORD)]) == FILES
    with pytest.raises(FormatError, match="after its end"):
        read([written() + rest])


@given(st.integers(0, len(written()) - 1))
def test_truncated_anywhere(at: int) -> None:
    with pytest.raises(FormatError):
        read([written()[:at]])


@given(st.integers(0, len(written({"a": b"x"})) - 1), st.integers(1, 255))
def test_flipped_anywhere(at: int, bits: int) -> None:
    raw = bytearray(written({"a": b"x"}))
    raw[at] ^= bits
    try:
        found = read([bytes(raw)], {"a": b""})
    except FormatError:
        return
    # Only the content has no check of its own here: that of the manifest finds it.
    assert at == BLOCK
    assert found != {"a": b"x"}
