"""Orders: typed by a person, for one start."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import orders
from validator_supervisor.errors import FormatError
from validator_supervisor.orders import FILE, LASTS_SECONDS, Orders
from validator_supervisor.store import Store

BOOT, OTHER = "1" * 32, "2" * 32
TAKE_OVER = Orders(version=1, boot=BOOT, typed=100, take_over=True, sequence=7)


def clock() -> int:
    return 160


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    return Store("main", tmp_path)


@given(st.booleans(), st.booleans(), st.none() | st.integers(0, 1 << 33), st.integers(0, 1 << 63))
def test_orders_are_what_was_written(over: bool, watch: bool, now: int | None, seq: int) -> None:
    given = replace(TAKE_OVER, take_over=over, no_watch=watch, now=now, sequence=seq)
    try:
        assert orders.parse(orders.text(given)) == given
    except FormatError:
        assert (now or 0) >= 1 << 33 or seq >= 1 << 63


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        orders.parse(raw)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(FormatError):
        orders.parse(orders.text(TAKE_OVER).replace(b"take_over", b"take_under"))


def test_an_order_counts_once(store: Store) -> None:
    orders.give(store, TAKE_OVER)
    assert orders.look(store, BOOT, clock) == TAKE_OVER
    assert orders.take(store, BOOT, clock) == TAKE_OVER
    assert orders.take(store, BOOT, clock) is None
    assert not (store.directory / FILE).exists()


def test_the_last_word_counts(store: Store) -> None:
    orders.give(store, TAKE_OVER)
    orders.give(store, replace(TAKE_OVER, take_over=False))
    found = orders.take(store, BOOT, clock)
    assert found
    assert not found.take_over


def test_another_boot_and_an_old_order_do_not_count(store: Store) -> None:
    for boot, now in ((OTHER, 160), (BOOT, 99), (BOOT, 101 + LASTS_SECONDS)):
        orders.give(store, TAKE_OVER)
        assert orders.take(store, boot, lambda now=now: now) is None  # type: ignore[misc]
        assert not (store.directory / FILE).exists()


def test_what_cannot_be_read_is_no_order(store: Store) -> None:
    (store.directory / FILE).write_bytes(b"{" * 5000)
    assert orders.take(store, BOOT, clock) is None
    (store.directory / FILE).symlink_to("/dev/zero")
    assert orders.take(store, BOOT, clock) is None


def test_only_what_was_shown_is_taken_over() -> None:
    assert TAKE_OVER.may_take_over(7)
    assert not TAKE_OVER.may_take_over(8)
    assert not replace(TAKE_OVER, take_over=False).may_take_over(1)
