"""Hostile archives: nothing lands outside, and nothing but files, directories and inner links."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import unpack
from validator_supervisor.errors import FormatError, SupervisorError

Member = tuple[str, bytes | str | None]
FILES: list[Member] = [
    ("top", None), ("top/bin", None), ("top/bin/run", b"#!/bin/sh\n"),
    ("top/lib/a.jar", b"x" * 70_000),
    ("top/empty", b""),
]  # fmt: skip


def info(name: str, content: bytes | str | None) -> tarfile.TarInfo:
    """Return a header: bytes are a file, a string is a link, None is a directory."""
    made = tarfile.TarInfo(name)
    made.mode = 0o755 if name.endswith("run") else 0o640
    if isinstance(content, bytes):
        made.size = len(content)
    elif content is None:
        made.type = tarfile.DIRTYPE
    else:
        made.type, made.linkname = tarfile.SYMTYPE, content
    return made


def tar(
    members: Iterable[Member],
    change: Callable[[tarfile.TarInfo], None] = lambda _: None,
    format: int = tarfile.GNU_FORMAT,  # noqa: A002
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape") as archive:
        for name, content in members:
            header = info(name, content)
            change(header)
            archive.addfile(header, io.BytesIO(content if isinstance(content, bytes) else b""))
    return out.getvalue()


class Place:
    """A directory to unpack into, in another one that must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder
        self.number = 0

    def unpack(self, raw: bytes, *, packed: bool = False) -> Path:
        self.number += 1
        archive = self.outside / "archive"
        archive.write_bytes(raw if packed else gzip.compress(raw, 1))
        target = self.outside / f"into{self.number}"
        target.mkdir()
        try:
            unpack.unpack(archive, target, lambda _: None)
        finally:
            others = {path.name for path in self.outside.iterdir()} - {"archive"}
            assert others == {f"into{n + 1}" for n in range(self.number)}
            self.check(target)
        return target

    def check(self, target: Path) -> None:
        """Whatever an archive was, this is all that it can have left."""
        for path in target.rglob("*"):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                # Also of a link that leads nowhere, or to itself.
                assert Path(os.path.realpath(path)).is_relative_to(target), path
                continue
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), path
            assert stat.S_IMODE(mode) in ((0o755,) if path.is_dir() else (0o644, 0o755)), path
            assert path.is_dir() or path.stat().st_nlink == 1

    def refusal(self, raw: bytes, *, packed: bool = False) -> str:
        with pytest.raises(FormatError) as caught:
            self.unpack(raw, packed=packed)
        assert caught.value.message.isprintable()
        return caught.value.message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_what_is_packed_is_unpacked(place: Place, format: int) -> None:  # noqa: A002
    target = place.unpack(tar([*FILES, ("top/bin/again", "run"), ("l", "top/bin")], format=format))
    for name, content in FILES:
        if content is not None:
            assert (target / name).read_bytes() == content
    assert (target / "top/bin/run").stat().st_mode & 0o777 == 0o755
    assert (target / "top/empty").stat().st_mode & 0o777 == 0o644
    assert (target / "l/again").resolve() == target / "top/bin/run"


def test_what_tar_writes_of_a_directory(place: Place) -> None:
    target = place.unpack(tar([(".", None), ("./a", b"1"), ("./b/", None), ("./b/c", b"2")]))
    assert (target / "a").read_bytes() + (target / "b/c").read_bytes() == b"12"


def test_modes_owners_and_times_are_not_theirs(place: Place) -> None:
    def change(header: tarfile.TarInfo) -> None:
        header.mode, header.uid, header.gid, header.mtime = 0o7777, 12345, 12345, 1

    target = place.unpack(tar([("a", b"1"), ("d", None)], change))
    for name in ("a", "d"):
        found = (target / name).stat()
        assert found.st_mode & 0o7777 == 0o755
        assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


NAMES = [
    "/etc/passwd", "../a", "a/../../b", "a/..", "..", "a//b", "./../a", "a/./b", "/", "", "a\nb",
    "a\x1b[2J", "x\udcff", "a" * 300 + "/" + "b" * 800, "\u202ea", "a/", ".//a", "a" * 256,
    "é" * 128,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_refused(place: Place, name: str) -> None:
    assert "has a member with the name" in place.refusal(tar([(name, b"x")]))


LINKS = [
    "/etc", "..", "../..", "../x", "a/../..", "a/../b", ".", "./a", "a/.", "a//b", "", "/", "a/",
    "x\ny", "x\udcff",
]  # fmt: skip


@pytest.mark.parametrize("target", LINKS)
def test_links_that_are_refused(place: Place, target: str) -> None:
    assert "a link that leads elsewhere" in place.refusal(tar([("a", None), ("l", target)]))


@pytest.mark.parametrize("target", ["b", "../x", "../d/e", "../../x", "../../d/d/d"])
def test_links_that_stay_within(place: Place, target: str) -> None:
    place.unpack(tar([("d/d/l", target)]))
    if target.startswith("../.."):
        assert "elsewhere" in place.refusal(tar([("d/l", target)]))


def test_links_to_links_stay_within(place: Place) -> None:
    # The first leads up by one; what goes on behind it cannot go up again.
    members: list[Member] = [("a/b/c", None), ("a/up", "../a"), ("a/b/l", "../up/b/c")]
    place.unpack(tar(members))
    assert "elsewhere" in place.refusal(tar([*members, ("a/m", "up/../..")]))


@pytest.mark.parametrize(
    "members",
    [
        [("a", b"1"), ("a", b"2")], [("a", b"1"), ("./a", b"2")], [("a", None), ("a", b"2")],
        [("a", b"1"), ("a", None)], [("a", b"1"), ("a/b", b"2")], [("l", "x"), ("l", b"2")],
        [("l", "x"), ("l/b", b"2")], [("x", None), ("l", "x"), ("l/b", b"2")],
        [("l", "x"), ("l", "y")], [("x", None), ("l", "x"), ("l", None)],
        [("a/b", b"1"), ("a", b"2")],
    ],
)  # fmt: skip
def test_no_path_is_there_twice_or_behind_a_link(place: Place, members: list[Member]) -> None:
    assert "twice" in place.refusal(tar(members))


KINDS = [
    tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE, b"?",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_made(place: Place, kind: bytes) -> None:
    def change(header: tarfile.TarInfo) -> None:
        header.type, header.linkname = kind, "b"

    assert "archive" in place.refusal(tar([("a", b"")], change))


def test_sizes_and_numbers_have_limits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SIZE_MAX", 1000)
    place.unpack(tar([("a", bytes(500)), ("b", bytes(500))]))
    assert "more than 1000 bytes" in place.refusal(tar([("a", bytes(500)), ("b", bytes(501))]))
    monkeypatch.setattr(unpack, "MEMBERS_MAX", 3)
    place.unpack(tar([(f"f{n}", b"") for n in range(3)]))
    assert "more than 3 members" in place.refusal(tar([(f"f{n}", b"") for n in range(4)]))
    assert "more than 3 members" in place.refusal(tar([("a/b/c/d", b""), ("e", b"")]))


def test_a_size_below_nothing_is_refused(place: Place) -> None:
    header = info("a", b"")
    header.size = -1
    raw = header.tobuf(tarfile.GNU_FORMAT)
    assert "archive" in place.refusal(raw + bytes(10_240))
    assert "archive" in place.refusal(tar([("b", b"1")])[:1024] + raw + bytes(10_240))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_may_not_fill_the_memory(place: Place, kind: bytes) -> None:
    """It announces 16 MiB for itself, which pack well."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 16 << 20
    raw = header.tobuf(tarfile.GNU_FORMAT) + bytes(16 << 20) + tar([("a", b"1")])
    assert "header that is too large" in place.refusal(raw)


def test_headers_for_headers_without_end(place: Place) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = b"L", 2
    one = header.tobuf(tarfile.GNU_FORMAT) + b"a\0" + bytes(510)
    assert "archive" in place.refusal(one * 5000 + tar([("a", b"1")]))


def test_what_follows_the_end_is_not_without_end(place: Place) -> None:
    place.unpack(tar(FILES) + bytes(10_240))
    assert "too large" in place.refusal(tar(FILES) + bytes(4 << 20))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x" * 2000,
        b"\x1f\x8b",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"x" * 2000, mtime=0),
    ],
)
def test_what_is_no_archive(place: Place, raw: bytes) -> None:
    place.refusal(raw, packed=True)


def test_no_room_ends_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(gzip.compress(tar(FILES)))
    asked = []

    def room(size: int) -> None:
        asked.append(size)
        if size > 1000:
            raise SupervisorError("DiskFull", "no")

    (tmp_path / "into").mkdir()
    with pytest.raises(SupervisorError, match="no"):
        unpack.unpack(tmp_path / "archive", tmp_path / "into", room)
    assert asked == [10, 70_000]
    assert not (tmp_path / "into/top/lib/a.jar").exists()


PACKED = gzip.compress(tar(FILES), 1, mtime=0)
PLAIN = tar([*FILES, ("l", "top"), ("m", b"1" * 600)], format=tarfile.PAX_FORMAT)


@given(st.integers(0, len(PACKED) - 1))
def test_cut_off_anywhere(tmp_path: Path, at: int) -> None:
    folder = tmp_path / f"{at}"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            return  # this example was there before
    Place(folder).refusal(PACKED[:at], packed=True)


@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(1, 255)), min_size=1, max_size=8)
)
def test_flipped_anywhere(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    raw = bytearray(PLAIN)
    for at, bits in flips:
        raw[at] ^= bits
    place = Place(tmp_path_factory.mktemp("flipped"))
    try:
        place.unpack(bytes(raw))
    except FormatError as refusal:
        assert refusal.message.isprintable()


PARTS = st.sampled_from(["a", "b", "..", ".", "", "c\n", "é", "\udcff"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
CONTENTS = st.one_of(st.none(), st.binary(max_size=4), PATHS)


@given(st.lists(st.tuples(PATHS, CONTENTS), max_size=8))
def test_any_members(tmp_path_factory: pytest.TempPathFactory, members: list[Member]) -> None:
    place = Place(tmp_path_factory.mktemp("any"))
    try:
        place.unpack(tar(members))
    except FormatError as refusal:
        assert refusal.message.isprintable()
