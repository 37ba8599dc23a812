"""helpers/validator-supervisor-node-keep: which uploads stay, and that hosts cannot touch them."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000.0
HOUR, DAY = 3600, 86400


@pytest.fixture
def keep(helper: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Any:
    module = helper("validator-supervisor-node-keep")
    monkeypatch.setattr(module, "PACE_SECONDS", 0)
    return module


def named(data: bytes, sequence: int = 1, kind: str = "age", validator: str = "main") -> str:
    return f"{validator}.{sequence}.{hashlib.sha256(data).hexdigest()[:32]}.{kind}"


def files(keep: Any, ages: Sequence[float], kind: str = "age", size: int = 1000) -> list[Any]:
    return [
        keep.File(named(b"%d" % i, i, kind), size, NOW - age, kept=True)
        for i, age in enumerate(ages)
    ]


def left(keep: Any, every: list[Any], number: int = 48) -> list[float]:
    gone = keep.surplus(every, number, NOW)
    return sorted(NOW - file.time for file in every if file not in gone)


def test_the_newest_stay(keep: Any) -> None:
    every = files(keep, [40 * DAY + i * HOUR for i in range(100)])
    assert left(keep, every) == [40 * DAY + i * HOUR for i in range(48)]
    claims = files(keep, [2 * DAY + i * HOUR for i in range(100)], "claim")
    assert left(keep, claims, 8) == [2 * DAY + i * HOUR for i in range(8)]


def test_what_came_within_a_day_stays(keep: Any) -> None:
    every = files(keep, [i * 60 for i in range(600)])
    assert len(left(keep, every)) == 600
    assert len(left(keep, files(keep, [i * 60 for i in range(600)], "claim"), 8)) == 600


def test_the_first_of_each_day_stays(keep: Any) -> None:
    # Hourly for 60 days.
    ages = [i * HOUR for i in range(60 * 24)]
    stays = left(keep, files(keep, ages))
    assert stays[:48] == ages[:48]
    days: dict[int, float] = {}
    for age in ages:
        days[int((NOW - age) // DAY)] = age
    assert stays[48:] == [age for age in days.values() if 48 * HOUR <= age < 30 * DAY]


def test_a_flood_does_not_push_out_what_was_there(keep: Any) -> None:
    good = [5 * HOUR, 29 * HOUR, 53 * HOUR]
    flood = [float(i) for i in range(1, 1400)]
    assert left(keep, files(keep, good + flood)) == sorted(good + flood)
    # And a day later the first of each day are left.
    later = [age + DAY + HOUR for age in good + flood]
    stays = left(keep, files(keep, later))
    assert {age + DAY + HOUR for age in good} <= set(stays)
    assert len(stays) < 60


def test_too_much_goes_oldest_first_and_never_the_newest(keep: Any) -> None:
    size = 100 << 20  # ten of them are a GiB
    ages = [2 * DAY + i * HOUR for i in range(40)]
    stays = left(keep, files(keep, ages, size=size))
    assert len(stays) == 10
    # The first of a day outlives those beside it.
    assert stays[:-1] == ages[: len(stays) - 1] or stays[0] == ages[0]
    assert left(keep, files(keep, [90 * DAY, 91 * DAY], size=2 << 30), 1) == [90 * DAY]


@given(
    st.lists(
        st.tuples(st.floats(-DAY, 100 * DAY), st.integers(0, 2 << 30)), min_size=1, max_size=50
    ),
    st.integers(1, 60),
)
def test_what_always_holds(keep: Any, given: list[tuple[float, int]], number: int) -> None:
    every = [
        keep.File(named(b"%d" % i, i), size, NOW - age, kept=True)
        for i, (age, size) in enumerate(given)
    ]
    gone = keep.surplus(every, number, NOW)
    assert keep.newest_first(every)[0] not in gone
    assert not [file for file in gone if NOW - file.time < DAY]
    assert len(set(gone)) == len(gone)
    assert set(gone) <= set(every)
    if sum(file.size for file in every) <= 1 << 30:
        assert not set(keep.newest_first(every)[:number]) & set(gone)


def test_admission(keep: Any) -> None:
    recent = files(keep, [60.0] * 1499)
    new = keep.File(named(b"new"), 1000, NOW, kept=False)
    assert keep.admitted(new, recent, NOW)
    assert not keep.admitted(new, files(keep, [60.0] * 1500), NOW)
    assert keep.admitted(new, files(keep, [2.0 * DAY] * 1500), NOW)
    assert not keep.admitted(keep.File(named(b"new"), 65 << 20, NOW, kept=False), [], NOW)
    assert not keep.admitted(keep.File(named(b"n", 1, "claim"), 65 << 10, NOW, kept=False), [], NOW)
    assert not keep.admitted(new, files(keep, [60.0] * 32, size=32 << 20), NOW)
    # Validators that are known are let in when no new one is.
    others = [keep.File(named(b"", 1, "age", f"v{i}"), 1, NOW, kept=True) for i in range(32)]
    assert not keep.admitted(new, others, NOW)
    assert keep.admitted(new, [*others[1:], recent[0]], NOW)


def test_validators_of_long_ago_are_in_nobodys_way(keep: Any) -> None:
    new = keep.File(named(b"new"), 1000, NOW, kept=False)
    others = [
        keep.File(named(b"", 1, "age", f"v{i}"), 1, NOW - 31 * DAY, kept=True) for i in range(32)
    ]
    assert keep.admitted(new, others, NOW)


def test_litter(keep: Any) -> None:
    old, young = (keep.File(n, 1, NOW - a, kept=False) for n, a in (("o", DAY + 1), ("y", DAY - 1)))
    assert keep.litter([old, young], NOW) == [old]
    many = [keep.File(f"{i}", 1, NOW - i, kept=False) for i in range(1003)]
    assert keep.litter(many, NOW) == many[1000:]
    large = [keep.File(f"{i}", 400 << 20, NOW - i, kept=False) for i in range(4)]
    assert keep.litter(large, NOW) == large[2:]


# From here on the directory is real. Tests need not be root: `kept` is then said by hand.


@pytest.fixture
def place(keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "backups"
    path.mkdir()
    monkeypatch.setattr(keep, "BACKUPS", path)
    monkeypatch.setattr(keep, "SETTING", tmp_path / "keep")
    # Everything with mode 0440 is root's.
    real = os.stat

    def stat(name: Any, **words: Any) -> Any:
        about = real(name, **words)
        if "dir_fd" in words:
            values = list(about)
            values[4] = os.geteuid() if about.st_mode & 0o777 == 0o440 else os.geteuid() + 1
            return os.stat_result(values, {"st_blocks": about.st_blocks})
        return about

    monkeypatch.setattr(keep.os, "stat", stat)
    return keep.Directory(path)


def upload(keep: Any, data: bytes, name: str = "") -> Path:
    path: Path = keep.BACKUPS / (name or named(data))
    path.write_bytes(data)
    return path


def test_a_hole_takes_no_upload_with_it(keep: Any, place: Any) -> None:
    good = upload(keep, b"good")
    hole = upload(keep, b"", "x")
    os.truncate(hole, 1 << 30)
    count, wrong = keep.round_of(place, 48, time.time())
    assert (count, wrong) == (1, [])
    assert good.read_bytes() == b"good"
    # It takes nothing of the disk, and goes in a day.
    assert hole.exists()


@pytest.mark.usefixtures("place")
def test_what_is_what_its_name_says_is_kept(keep: Any) -> None:
    good = upload(keep, b"good")
    wrong = upload(keep, b"bad", named(b"other", 2))
    part = upload(keep, b"good", f".{named(b'good')}.part")
    inode = good.stat().st_ino
    with wrong.open("ab"):
        assert keep.main() == 0
    assert good.read_bytes() == b"good"
    assert good.stat().st_mode & 0o777 == 0o440
    # A copy: who has the upload open writes into nothing.
    assert good.stat().st_ino != inode
    assert wrong.stat().st_mode & 0o777 != 0o440
    assert part.exists()
    assert not list(keep.BACKUPS.glob(".keep*"))


def test_a_file_that_changes_while_it_is_read(
    keep: Any, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = upload(keep, b"good")
    real, calls = place.matches, []

    def matches(name: str, target: int = -1) -> bool:
        calls.append(target)
        if target >= 0:
            path.write_bytes(b"evil")
        return bool(real(name, target))

    monkeypatch.setattr(place, "matches", matches)
    assert place.keep(path.name) is False
    assert calls[0] == -1
    assert path.stat().st_mode & 0o777 != 0o440
    assert not list(keep.BACKUPS.glob(".keep*"))


@pytest.mark.usefixtures("place")
def test_links_and_pipes(keep: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (keep.BACKUPS / named(b"secret")).symlink_to(secret)
    os.mkfifo(keep.BACKUPS / named(b"", 2))
    (keep.BACKUPS / named(b"", 3)).mkdir()
    (keep.BACKUPS / ".keep.1").symlink_to(secret)
    good = upload(keep, b"good")
    assert keep.main() == 0
    assert secret.read_bytes() == b"secret"
    assert good.stat().st_mode & 0o777 == 0o440
    assert (keep.BACKUPS / named(b"secret")).is_symlink()


def test_order_of_a_write(keep: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        seen.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def renamed(*names: str, **words: Any) -> None:
        seen.append("rename")
        rename(*names, **words)

    monkeypatch.setattr(keep.os, "fsync", synced)
    monkeypatch.setattr(keep.os, "rename", renamed)
    place.keep(upload(keep, b"good").name)
    assert [word.split(".keep.")[0] for word in seen] == ["fsync ", "rename", "fsync backups"]


@pytest.mark.usefixtures("place")
def test_full_disk(
    keep: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = upload(keep, b"good")

    def full(descriptor: int, data: bytes) -> int:
        del descriptor, data
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keep.os, "write", full)
        assert keep.main() == 1
    assert "is not kept: No space left on device" in capsys.readouterr().err
    assert path.read_bytes() == b"good"
    assert not list(keep.BACKUPS.glob(".keep*"))
    assert keep.main() == 0
    assert path.stat().st_mode & 0o777 == 0o440


def test_the_newest_that_is_whole_never_goes(keep: Any, place: Any) -> None:
    old = 100 * DAY
    for number in range(3):
        path = upload(keep, b"%d" % number, named(b"%d" % number, number))
        path.chmod(0o440)
        os.utime(path, (NOW - old - number * HOUR,) * 2)
    assert keep.prune(place, place.files(), 2, NOW) == 1
    names = sorted(path.name for path in keep.BACKUPS.iterdir())
    assert names == sorted([named(b"0", 0), named(b"1", 1)])
    # The newest is damaged: the older one is all there is.
    newest = keep.BACKUPS / named(b"0", 0)
    newest.chmod(0o600)
    newest.write_bytes(b"damaged")
    newest.chmod(0o440)
    os.utime(newest, (NOW - old,) * 2)
    assert keep.prune(place, place.files(), 1, NOW) == 0
    assert len(list(keep.BACKUPS.iterdir())) == 2


@pytest.mark.usefixtures("place")
def test_what_a_run_has_left_goes(keep: Any) -> None:
    path = upload(keep, b"half", ".keep.0123")
    path.chmod(0o440)
    theirs = upload(keep, b"half", ".keep.4567")
    assert keep.main() == 0
    assert not path.exists()
    assert theirs.exists()


@pytest.mark.usefixtures("place")
def test_setting(keep: Any, tmp_path: Path) -> None:
    assert keep.setting() == 48
    for text, number in (
        ("7\n", 7),
        ("0", 48),
        ("-1", 48),
        ("x", 48),
        ("\0", 48),
        ("99999", 99999),
    ):
        (tmp_path / "keep").write_text(text)
        assert keep.setting() == number


def test_without_its_directory(
    keep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(keep, "BACKUPS", tmp_path / "away")
    assert keep.main() == 1
    assert "No such file or directory" in capsys.readouterr().err


@given(st.binary(max_size=50), st.text(max_size=60))
def test_any_name(keep: Any, content: bytes, name: str) -> None:
    file = keep.File(name, len(content), NOW, kept=False)
    assert file.group == ("", "") or keep.FORM.fullmatch(name)
