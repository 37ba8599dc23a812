"""Archives and claims on this host's disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.errors import SupervisorError
from validator_supervisor.store import ARCHIVE, CLAIM, CLAIMS_KEPT, Item, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    return Store("main", tmp_path)


def test_what_was_added_is_there_newest_first(store: Store) -> None:
    old, new = store.add(b"old", ARCHIVE, 9), store.add(b"new", ARCHIVE, 10)
    assert store.items() == [new, old]
    assert store.read(old) == b"old"
    assert old.fits(b"old")
    assert not old.fits(b"new")
    assert store.add(b"old", ARCHIVE, 9) == old


def test_other_files_are_none_of_ours(store: Store) -> None:
    item = store.add(b"x", ARCHIVE, 1)
    for name in ("main.1.age", item.name.replace("main", "other"), f".{item.name}.1.new", "a\nb"):
        (store.archives / name).write_bytes(b"")
    assert store.items() == [item]


@given(st.text(max_size=80))
def test_a_name_is_one_of_ours_or_none(name: str) -> None:
    found = Item.parse(name)
    assert found is None or found.name == name


@pytest.mark.parametrize("number", ["01", "9223372036854775808", "-1", "\u0661"])
def test_a_number_has_one_spelling(number: str) -> None:
    assert Item.parse(f"main.{number}.{'a' * 32}.age") is None


def test_pruning_keeps_the_newest(store: Store) -> None:
    for number in range(10):
        store.add(b"%d" % number, ARCHIVE, number)
        store.add(b"%d" % number, CLAIM, number)
    store.prune(2)
    kept = store.items()
    assert [item.sequence for item in kept if item.kind == ARCHIVE] == [9, 8]
    assert len([item for item in kept if item.kind == CLAIM]) == CLAIMS_KEPT


def test_marks_last(store: Store) -> None:
    assert store.running() == ""
    store.set_running("1" * 32)
    store.add_boot("1" * 32)
    store.add_boot("2" * 32)
    store.add_boot("1" * 32)
    again = Store("main", store.directory.parent)
    assert again.running() == "1" * 32
    assert again.boots() == {"1" * 32, "2" * 32}
    again.clear_running()
    assert store.running() == ""
    item = store.add(b"x", ARCHIVE, 1)
    store.quarantine(item)
    assert again.quarantined() == {item.digest}


def test_a_mark_that_cannot_be_read_is_not_taken_for_none(store: Store) -> None:
    (store.directory / "running").symlink_to("/nowhere")
    with pytest.raises(SupervisorError, match="cannot be read"):
        store.running()


def test_a_damaged_file_is_replaced_by_a_good_one(store: Store) -> None:
    item = store.add(b"good", ARCHIVE, 3)
    (store.archives / item.name).write_bytes(b"damaged")
    assert store.add(b"good", ARCHIVE, 3) == item
    assert store.read(item) == b"good"


def test_only_what_was_handed_over_is_forgotten(store: Store) -> None:
    store.add_imported(["0xa", "0xb"])
    store.clear_imported(["0xa"])
    assert store.imported() == {"0xb"}
