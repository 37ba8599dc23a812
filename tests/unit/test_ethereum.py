"""The start of an Ethereum validator: who signs, and when its client looks for a twin itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from validator_supervisor import ethereum
from validator_supervisor.applied import Applied
from validator_supervisor.clients.client import Signer
from validator_supervisor.contents import Key, Remote
from validator_supervisor.errors import SupervisorError
from validator_supervisor.ethereum import LOOK_EPOCHS, look
from validator_supervisor.networks import Chain
from validator_supervisor.validators import Keys, Release

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


def test_who_signs(example: Applied) -> None:
    one, two = "0x" + "ab" * 48, "0x" + "cd" * 48
    local = example.config.ethereum[0]
    assert ethereum.signer_of(local, {one: Key(b"{}", b"")}) is None
    mine = replace(local, keys=Keys(web3signer="https://s:9000/", certificate="/c.pem"))
    found = ethereum.signer_of(mine, {two: Remote(), one: Remote()})
    assert found == Signer("https://s:9000", "/c.pem", (one, two))
    # A release that came after the configuration was read.
    teku = replace(mine, release=Release(client="teku", binary="/x"))
    with pytest.raises(SupervisorError, match="teku wants a truststore") as refused:
        ethereum.signer_of(teku, {one: Remote()})
    assert refused.value.code == "NotSupported"
    for other, key in ((local, Remote()), (mine, Key(b"{}", b""))):
        with pytest.raises(SupervisorError) as refused:
            ethereum.signer_of(other, {one: key})
        assert refused.value.code == "OtherKeys"
