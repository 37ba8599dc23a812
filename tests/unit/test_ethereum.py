"""The start of an Ethereum validator: when its client looks for a twin itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import ethereum
from validator_supervisor.ethereum import LOOK_EPOCHS, look
from validator_supervisor.networks import Chain

CHAIN = Chain("dev", 1_700_000_000, 12, 32, "0x" + "01" * 32)
EPOCH = 384
At = Callable[[int], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """Set the time, which begins in epoch 10."""
    now = [0.0]
    monkeypatch.setattr(ethereum.time, "time", lambda: now[0])  # type: ignore[attr-defined]

    def move(epoch: int) -> None:
        now[0] = CHAIN.genesis_time + (epoch + 0.5) * EPOCH

    move(10)
    return move


def end(epoch: int) -> int:
    return CHAIN.genesis_time + (epoch + LOOK_EPOCHS) * EPOCH


def test_it_looks_once_after_a_watch(tmp_path: Path, at: At) -> None:
    path = tmp_path / "look"
    assert look("auto", path, CHAIN, 8, watched=False) == 0
    assert not path.exists()
    assert look("auto", path, CHAIN, 8, watched=True) == end(10)
    at(10 + LOOK_EPOCHS)
    assert look("auto", path, CHAIN, 8, watched=False) == 0
    assert not path.exists()


def test_it_looks_again_where_it_has_ended_before_it_signed(tmp_path: Path, at: At) -> None:
    path = tmp_path / "look"
    look("auto", path, CHAIN, 8, watched=True)
    # As often as it ends so.
    for epoch in (10, 12, 12 + LOOK_EPOCHS - 1):
        at(epoch)
        assert look("auto", path, CHAIN, 8, watched=False) == end(epoch)


@pytest.mark.parametrize("signed", [10, 11, 99])
def test_one_that_has_signed_has_found_nobody(tmp_path: Path, at: At, signed: int) -> None:
    path = tmp_path / "look"
    look("auto", path, CHAIN, 8, watched=True)
    at(12)
    assert look("auto", path, CHAIN, signed, watched=False) == 0
    assert not path.exists()


@pytest.mark.parametrize("raw", [b"", b"x", b"-2", b"9" * 4000, b"\xff", b"1.5"])
def test_of_a_damaged_epoch_nobody_knows_whether_it_is_over(
    tmp_path: Path, at: At, raw: bytes
) -> None:
    del at
    path = tmp_path / "look"
    path.write_bytes(raw)
    assert look("auto", path, CHAIN, 8, watched=False) == end(10)
    assert path.read_bytes() == b"10"


def test_always_and_never(tmp_path: Path, at: At) -> None:
    del at
    path = tmp_path / "look"
    assert look("always", path, CHAIN, 99, watched=False) == end(10)
    assert look("off", path, CHAIN, 8, watched=True) == 0
    assert not path.exists()
