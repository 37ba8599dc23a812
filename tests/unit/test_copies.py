"""What is known of copies: status.json, which others read and other jobs write to as well."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import copies
from validator_supervisor.copies import Copies, Restore, Upload
from validator_supervisor.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    return Store("main", tmp_path)


def test_what_was_kept_comes_back(store: Store) -> None:
    known = Copies(5, 4, 3, {"a": Upload(1, "x")}, {"b": Restore(2, 3, 4, "y")})
    assert copies.read_of(store) == Copies()
    copies.change(store, lambda before: known if before == Copies() else before)
    assert copies.read_of(store) == known
    assert (store.directory / "status.json").stat().st_mode & 0o777 == 0o644


def test_the_rest_of_the_file_is_another_job_s(store: Store) -> None:
    file = store.directory / "status.json"
    file.write_text('{"halted": "why"}')
    copies.write(store, Copies(last=1))
    assert json.loads(file.read_text())["halted"] == "why"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"copies": 5}', '{"copies": {"last": "x"}}'])
def test_a_damaged_file_is_made_anew(store: Store, text: str) -> None:
    (store.directory / "status.json").write_text(text)
    assert copies.read_of(store) == Copies()
    copies.change(store, lambda known: known.archived(7, clean=True))
    assert copies.read_of(store) == Copies(7, 7)


def test_a_full_disk_ends_nothing(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.directory / "status.json").mkdir()
    copies.change(store, lambda known: known.archived(7, clean=True))
    assert "status.json" in capsys.readouterr().err


def test_an_archive_that_is_not_clean_keeps_the_time_of_the_last_that_was() -> None:
    assert Copies().archived(3, clean=True).archived(4, clean=False) == Copies(4, 3)


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "away"])))
def test_an_upload_that_fails_keeps_the_time_of_the_last_that_did_not(
    problems: dict[str, str],
) -> None:
    before = Copies(uploads={"a": Upload(1), "z": Upload(2)}, restores={"a": Restore(1)})
    after = before.uploaded(problems, 9)
    for node, problem in problems.items():
        time = 9 if not problem else before.uploads.get(node, Upload()).time
        assert after.uploads[node] == Upload(time, problem)
    assert after.uploads["z"] == Upload(2)
    assert after.only(["b"]).restores == {}
