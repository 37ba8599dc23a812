"""Watching for a twin, with nodes and a clock that are made up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from validator_supervisor import liveness
from validator_supervisor.beacon import Beacon, Syncing
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.liveness import Clock
from validator_supervisor.networks import Chain

CHAIN = Chain("dev", 1000, 6, 8, "0x" + "01" * 32)
KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]
EPOCH = 48


class Time:
    """Time that passes when somebody sleeps."""

    def __init__(self, now: float) -> None:
        self.now = now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Node:
    """A node that has seen keys in some epochs; ``fails`` where it does not answer at a time."""

    time: Time
    live_in: frozenset[int] = frozenset()
    away_in: frozenset[int] = frozenset()
    behind_in: frozenset[int] = frozenset()
    known: int = 2
    url: str = "http://node"
    on: Chain = CHAIN
    optimistic: bool = False
    late: int = 0
    asked: list[int] = field(default_factory=list)

    def indices(self, keys: Sequence[str]) -> list[int]:
        assert keys == KEYS
        return list(range(self.known))

    def live(self, epoch: int, indices: Sequence[int]) -> int:
        # A node knows of the epoch now and of the one before.
        assert self.epoch - epoch in (0, 1)
        self.asked.append(epoch)
        if epoch in self.away_in:
            raise SupervisorError("BeaconFailed", "away", exit_status=TEMPORARY)
        return len(indices) if epoch in self.live_in else 0

    def syncing(self) -> Syncing:
        slot = CHAIN.slot(self.time.now) - self.late
        return Syncing(slot, (self.epoch - 1) in self.behind_in, self.optimistic, False)

    def chain(self) -> Chain:
        return self.on

    @property
    def epoch(self) -> int:
        return int(self.time.now - 1000) // EPOCH


def watched(
    time: Time, *nodes: Node, then: tuple[int, Callable[[], None]] = (0, lambda: None)
) -> list[str]:
    told: list[str] = []
    beacons = cast("list[Beacon]", list(nodes))
    epoch, change = then

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if time.now >= 1000 + epoch * EPOCH:
            change()

    clock = Clock(lambda: time.now, sleep)
    liveness.watch(beacons, CHAIN, KEYS, clock, told.append)
    return told


def test_two_epochs_of_silence_are_enough() -> None:
    time = Time(1000 + 10 * EPOCH + 5)
    node = Node(time)
    told = watched(time, node)
    assert set(node.asked) == {11, 12}
    assert 1000 + 13 * EPOCH <= time.now <= 1000 + 13 * EPOCH + 6
    assert told == [
        "watching for a twin in epoch 11, 2 to go",
        "watching for a twin in epoch 12, 1 to go",
    ]


@pytest.mark.parametrize("live_in", [{11, 12}, {12}, {11, 13}])
def test_a_sign_of_life_halts(live_in: set[int], capsys: pytest.CaptureFixture[str]) -> None:
    time = Time(1000 + 10 * EPOCH)
    with pytest.raises(SupervisorError) as caught:
        watched(time, Node(time, away_in=frozenset(range(99))), Node(time, frozenset(live_in)))
    assert (caught.value.code, caught.value.exit_status) == ("Doppelganger", HALT)
    assert "http://node" in caught.value.message
    capsys.readouterr()


def test_what_is_seen_in_the_first_epoch_may_be_of_the_one_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Lodestar counts the epoch of the block that an attestation is in."""
    time = Time(1000 + 10 * EPOCH)
    watched(time, Node(time, frozenset({11})))
    assert 1000 + 14 * EPOCH <= time.now <= 1000 + 14 * EPOCH + 6
    assert "watching longer" in capsys.readouterr().err


def test_what_was_signed_before_the_watch_is_ours() -> None:
    time = Time(1000 + 10 * EPOCH)
    watched(time, Node(time, frozenset({9, 10})))


def test_epochs_without_an_answer_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    time = Time(1000 + 10 * EPOCH)
    watched(time, Node(time, away_in=frozenset({11, 13})))
    # 12 alone, and then 14 and 15 in a row.
    assert time.now >= 1000 + 16 * EPOCH
    capsys.readouterr()


def test_one_answer_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    time = Time(1000 + 10 * EPOCH)
    always = frozenset(range(99))
    watched(time, Node(time), Node(time, away_in=always), Node(time, behind_in=always))
    assert time.now <= 1000 + 13 * EPOCH + 6
    capsys.readouterr()


def test_a_node_that_is_behind_has_watched_nothing() -> None:
    time = Time(1000 + 10 * EPOCH)
    watched(time, Node(time, behind_in=frozenset({11, 12})))
    assert time.now >= 1000 + 15 * EPOCH
    with pytest.raises(SupervisorError, match="somebody else signs"):
        watched(time, Node(time, frozenset(range(99)), behind_in=frozenset(range(99))))


@pytest.mark.parametrize(
    "blind",
    [{"on": replace(CHAIN, genesis_validators_root="0x" + "02" * 32), "known": 0},
     {"optimistic": True}, {"late": 9}],
    ids=["elsewhere", "optimistic", "late"],
)  # fmt: skip
def test_a_node_that_would_not_know_has_watched_nothing(
    blind: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    time = Time(1000 + 10 * EPOCH)
    node = Node(time, **blind)

    def back() -> None:
        node.on, node.optimistic, node.late = CHAIN, False, 0

    watched(time, node, Node(time, away_in=frozenset({11, 12, 13})), then=(14, back))
    assert time.now >= 1000 + 15 * EPOCH
    capsys.readouterr()


def test_keys_that_the_chain_does_not_know_are_silent() -> None:
    time = Time(1000 + 10 * EPOCH)
    node = Node(time, known=0)
    watched(time, node)
    assert node.asked == []
