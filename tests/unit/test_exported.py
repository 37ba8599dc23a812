"""The client's export: a file of another user."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import exported, interchange
from validator_supervisor.errors import FormatError
from validator_supervisor.interchange import History, Interchange

KEY = "0x" + "ab" * 48
KNOWN = Interchange(b"\1" * 32, {KEY: History(frozenset({(5, b"")}), frozenset({(1, 2, b"")}))})
TEXT = interchange.text(KNOWN).encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    return tmp_path / "export/slashing-protection.json"


def test_what_was_exported_is_read(tmp_path: Path, file: Path) -> None:
    assert exported.read(tmp_path) is None
    file.write_bytes(TEXT)
    os.utime(file, (7, 7))
    found = exported.read(tmp_path)
    assert found == exported.Exported(KNOWN, 7)
    (file.parent / exported.STALE).symlink_to("/nowhere")
    again = exported.read(tmp_path)
    assert again
    assert again.stale


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert exported.read(tmp_path) is None
    assert exported.read(tmp_path / "nowhere") is None


def test_what_is_no_file_is_refused_at_once(tmp_path: Path, file: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(TEXT)
    for kind, target in {"link": secret, "loop": file, "fifo": None, "directory": None}.items():
        if target:
            file.symlink_to(target)
        elif kind == "fifo":
            os.mkfifo(file)
        else:
            file.mkdir()
        with pytest.raises(FormatError):
            exported.read(tmp_path)
        if file.is_dir():
            file.rmdir()
        else:
            file.unlink()


def test_a_link_instead_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/slashing-protection.json").write_bytes(TEXT)
    (tmp_path / "export").symlink_to("other")
    with pytest.raises(FormatError):
        exported.read(tmp_path)


def test_a_huge_file_is_refused(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "SIZE_MAX", len(TEXT))
    file.write_bytes(TEXT)
    assert exported.read(tmp_path)
    file.write_bytes(TEXT + b" ")
    with pytest.raises(FormatError, match="larger than"):
        exported.read(tmp_path)


@given(raw=st.binary(max_size=60) | st.integers(0, len(TEXT) - 2).map(lambda end: TEXT[:end]))
def test_other_bytes_are_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("client")
    (directory / "export").mkdir()
    (directory / "export/slashing-protection.json").write_bytes(raw)
    with pytest.raises(FormatError):
        exported.read(directory)
