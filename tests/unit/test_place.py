"""Places that are directories of this host, and what jobs are told about places."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import durable, place
from validator_supervisor.applied import Applied
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.place import Directory
from validator_supervisor.sftp import Sftp

A = "main.1." + "a" * 32 + ".age"
B = "main.2." + "b" * 32 + ".claim"


@pytest.fixture
def disk(tmp_path: Path) -> Directory:
    path = tmp_path / "disk"
    path.mkdir()
    return Directory("disk", path)


def code(call: Callable[[], object], expected: str = "Unreachable") -> str:
    with pytest.raises(SupervisorError) as caught:
        call()
    assert (caught.value.code, caught.value.exit_status) == (expected, TEMPORARY)
    return caught.value.message


def test_what_was_put_is_there(disk: Directory) -> None:
    disk.put({A: b"a", B: b"b"})
    assert sorted(disk.names()) == [A, B]
    assert disk.fetch([A, "main.3." + "c" * 32 + ".age", B]) == {A: b"a", B: b"b"}
    assert (disk.path / A).stat().st_mode & 0o777 == 0o600


def test_nothing_is_replaced(disk: Directory) -> None:
    disk.put({A: b"a"})
    disk.put({A: b"x"})
    assert disk.fetch([A]) == {A: b"a"}
    assert os.listdir(disk.path) == [A]  # noqa: PTH208


def test_what_an_interruption_left_is_replaced(disk: Directory) -> None:
    (disk.path / f".{A}.part").write_bytes(b"half")
    disk.put({A: b"whole"})
    assert os.listdir(disk.path) == [A]  # noqa: PTH208
    assert disk.fetch([A]) == {A: b"whole"}


def test_order_of_a_write(disk: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(f"fsync {path.name}")
        fsync(descriptor)

    def linked(source: Path, target: Path) -> None:
        seen.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    disk.put({A: b"a"})
    assert seen == [f"fsync .{A}.part", "link", "fsync disk"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_links(
    disk: Directory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*words: object) -> None:
        del words
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    disk.put({A: b"a"})
    disk.put({A: b"x", B: b"b"})
    assert disk.fetch([A, B]) == {A: b"a", B: b"b"}
    assert sorted(disk.names()) == [A, B]


def test_somebody_was_quicker(disk: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def raced(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", raced)
    disk.put({A: b"mine"})
    assert disk.fetch([A]) == {A: b"theirs"}
    assert os.listdir(disk.path) == [A]  # noqa: PTH208


def test_full_disk(disk: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in code(lambda: disk.put({A: b"a"}))
    assert disk.names() == []
    assert os.listdir(disk.path) == []  # noqa: PTH208


def test_not_mounted(tmp_path: Path) -> None:
    away = Directory("disk", tmp_path / "away")
    for call in (away.names, lambda: away.fetch([A]), lambda: away.put({A: b""})):
        assert "No such file or directory" in code(call)
    assert not away.path.exists()


def test_only_plain_files_of_our_names(disk: Directory, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (disk.path / A).symlink_to(tmp_path / "secret")
    os.mkfifo(disk.path / B)
    (disk.path / "notes.txt").touch()
    (disk.path / f".{A}.part").touch()
    assert disk.names() == []
    code(lambda: disk.fetch([A]), place.UNREADABLE)
    assert "is no file" in code(lambda: disk.fetch([B]), place.UNREADABLE)
    with pytest.raises(ValueError, match="not the name"):
        disk.fetch(["../secret"])
    with pytest.raises(ValueError, match="not the name"):
        disk.put({"notes.txt": b""})


def test_sizes_and_numbers(disk: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.put({A: b"123", B: b"456"})
    monkeypatch.setattr(place, "TOTAL_MAX", 5)
    assert "more than 2 bytes" in code(lambda: disk.fetch([A, B]), place.UNREADABLE)
    assert place.readable(disk, [A, B]) == ({A: b"123", B: b"456"}, {})
    monkeypatch.setattr(place, "FILE_MAX", 2)
    assert "more than 2 bytes" in code(lambda: disk.fetch([A]), place.UNREADABLE)
    monkeypatch.setattr(place, "NAMES_MAX", 1)
    assert "more than 1 files" in code(disk.names)


def test_what_cannot_be_read_does_not_hide_the_rest(disk: Directory) -> None:
    disk.put({A: b"a"})
    (disk.path / B).symlink_to("/etc/passwd")
    found, problems = place.readable(disk, [B, A])
    assert found == {A: b"a"}
    assert list(problems) == [B]
    assert "symbolic links" in problems[B]
    disk.path.rename(disk.path.with_name("away"))
    assert "No such file" in code(lambda: place.readable(disk, [B, A]))


def test_places_of_the_example(example: Applied, tmp_path: Path) -> None:
    disk, node = place.places(example, tmp_path, seconds=5)
    assert disk == Directory("local", Path("/mnt/usb/backups"))
    assert isinstance(node, Sftp)
    assert (node.name, node.identity, node.seconds) == ("helsinki", tmp_path / "ssh.helsinki", 5)


def test_a_node_without_backups_is_no_place(make: Callable[[str], Applied], tmp_path: Path) -> None:
    applied = make("version: 1\nnodes: {local: {beacon: 'a:1'}}\n")
    assert place.places(applied, tmp_path) == []
    assert place.credentials(applied) == place.writable(applied) == []


def test_lines_of_units(example: Applied, tmp_path: Path) -> None:
    plain = [
        "LoadCredential=ssh.helsinki:validator-tunnel.key-1",
        "SetCredential=ssh.helsinki:none",
    ]
    assert place.credentials(example, tmp_path) == plain
    (tmp_path / "validator-tunnel.key-1").touch()
    assert place.credentials(example, tmp_path) == [
        "LoadCredentialEncrypted=ssh.helsinki:validator-tunnel.key-1", plain[1],
    ]  # fmt: skip
    assert place.writable(example) == ["-/mnt/usb/backups"]


def test_add_leaves_the_rest_alone(tmp_path: Path) -> None:
    durable.add(tmp_path / "a", b"a", tmp_path / ".part")
    with pytest.raises(FileNotFoundError):
        durable.add(tmp_path / "x" / "a", b"a", tmp_path / "x" / ".part")
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_a_job_without_credentials_has_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert not place.ssh_keys().exists()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    assert place.ssh_keys() == Path("/run/credentials/x")
