"""Duties: what is due, until when that is known, and that nobody's lie becomes more than that."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import duties, watch
from validator_supervisor.beacon import Beacon, Committees
from validator_supervisor.duties import MAX, PROPOSALS_MAX, Duties, Known
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import Chain

CHAIN = Chain("dev", 1_000_000, 12, 32, "0x" + "ab" * 32)
KEYS = ["0x" + "ab" * 48]


def at(slot: int) -> float:
    return CHAIN.genesis_time + slot * CHAIN.seconds_per_slot + 0.5


def usec(slot: int) -> int:
    return 1_000_000 * (CHAIN.genesis_time + slot * CHAIN.seconds_per_slot)


@dataclass
class Fake(Beacon):
    """A beacon node that says what it is given, and nothing of other epochs."""

    slots: dict[int, set[int]] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)

    def proposals(self, epoch: int, slots: range, public_keys: Sequence[str]) -> set[int]:
        del public_keys
        assert slots == range(32 * epoch, 32 * (epoch + 1))
        if epoch not in self.slots:
            raise SupervisorError("BeaconFailed", "HTTP status 400")
        return set(self.slots[epoch])

    def in_sync_committee(self, epoch: int, indices: Sequence[int]) -> bool:
        assert indices
        self.asked.append(epoch)
        return epoch in self.members


def ask(fake: Fake, epoch: int = 10, period: int = 256, since: int = 0) -> Known:
    return duties.ask(fake, CHAIN, epoch, Committees(since, period), KEYS, [7])


def test_this_epoch_and_the_next_one_where_it_is_said() -> None:
    both = ask(Fake({10: {325, 321}, 11: {352}}))
    assert (both.epoch, both.proposals) == (11, frozenset({321, 325, 352}))
    assert ask(Fake({10: {321}})).epoch == 10
    with pytest.raises(SupervisorError):
        ask(Fake({11: {352}}))


def test_before_altair_nobody_is_asked_for_a_sync_committee() -> None:
    fake = Fake({10: set(), 11: set()}, {10, 11})
    assert ask(fake, period=1, since=12).sync_until == 0
    assert fake.asked == []
    assert ask(fake, period=1, since=11).sync_until == 12
    assert fake.asked == [11]


def test_what_is_left_of_it() -> None:
    known = ask(Fake({10: {325, 321}, 11: {352}}))
    first = known.at(at(320))
    assert first == Duties(11, (321, 325, 352), 0, usec(321), 0, usec(384))
    assert str(first) == "proposes in slot 321"
    # The block of a slot that has begun is on its way.
    assert known.at(at(321)) == first
    assert known.at(at(322)) == replace(first, proposals=(325, 352), next_proposal_usec=usec(325))
    last = known.at(at(383))
    assert last == Duties(11, (), 0, 0, 0, usec(384))
    assert str(last) == ""
    assert known.at(at(384)) is None


def test_membership_ends_with_the_period() -> None:
    fake = Fake({10: set(), 11: set()}, {10})
    found = ask(fake, period=8).at(at(320))
    assert found == Duties(11, (), 16, 0, usec(16 * 32), usec(384))
    assert str(found) == "in the sync committee until epoch 16"
    # One question, where one committee lasts.
    assert fake.asked == [10]
    assert ask(Fake({10: set()}), period=8).sync_until == 0
    assert replace(ask(fake, period=8), epoch=99, sync_until=16).at(at(16 * 32)) == Duties(
        99, (), 0, 0, 0, usec(100 * 32)
    )


@pytest.mark.parametrize(("members", "until"), [(set(), 0), ({15}, 16), ({16}, 24), ({15, 16}, 24)])
def test_the_next_committee_in_the_time_that_is_known(members: set[int], until: int) -> None:
    fake = Fake({15: set(), 16: set()}, members)
    assert ask(fake, 15, 8).sync_until == until
    assert sorted(fake.asked) == [15, 16]
    # Not where that epoch is not known.
    assert ask(Fake({15: set()}, {16}), 15, 8).sync_until == 0


def test_keys_that_the_chain_does_not_know_are_in_no_committee() -> None:
    assert (
        duties.ask(Fake({10: set()}, {10}), CHAIN, 10, Committees(0, 256), KEYS, []).sync_until == 0
    )


NUMBERS = st.integers(0, MAX)


@given(
    NUMBERS, st.integers(1, MAX), st.integers(1, MAX), NUMBERS, st.sets(NUMBERS, max_size=100),
    NUMBERS, st.floats(0, 1e11),
)  # fmt: skip
def test_any_chain_and_any_duties_come_back_from_the_results(
    tmp_path: Path, genesis: int, slot: int, slots: int, epoch: int, proposals: set[int],
    until: int, now: float,
) -> None:  # fmt: skip
    chain = Chain("dev", genesis, slot, slots, CHAIN.genesis_validators_root)
    left = Known(chain, epoch, frozenset(proposals), until).at(now)
    if left:
        assert len(left.proposals) <= PROPOSALS_MAX
        path = tmp_path / "results.json"
        path.write_bytes(watch.dump({}, {}, {"main": left}))
        assert duties.read(path) == {"main": left}


def test_as_many_proposals_are_shown_as_fit() -> None:
    many = ask(Fake({10: set(range(320, 352))})).proposals
    chain = replace(CHAIN, slots_per_epoch=1000)
    left = Known(chain, 0, many | frozenset(range(400, 500)), 0).at(at(0))
    assert left
    assert left.proposals == tuple(sorted(many | set(range(400, 500))))[:PROPOSALS_MAX]


def test_a_period_without_end_is_a_number_that_can_be_read() -> None:
    assert ask(Fake({10: set()}, {10}), period=MAX).sync_until == MAX


@pytest.mark.parametrize(
    "change",
    [{"epoch": -1}, {"epoch": "1"}, {"proposals": 5}, {"proposals": [-1]}, {"proposals": ["1"]},
     {"sync_until": None}, {"next_proposal_usec": 2**64}, {"known_until_usec": True}],
)  # fmt: skip
def test_one_unexpected_value_and_nothing_is_known(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "results.json"
    good = asdict(Duties(1, (5,), 2, 3, 4, 5))
    path.write_text(json.dumps({"duties": {"main": good | change}}))
    assert duties.read(path) == {}
    path.write_text(json.dumps({"duties": {"main": good}}))
    assert duties.read(path) == {"main": Duties(1, (5,), 2, 3, 4, 5)}


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"[]", b'{"duties": []}', b'{"duties": {"a": 1}}', b"\xff"]
)
def test_results_without_duties(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "results.json").write_bytes(raw)
    assert duties.read(tmp_path / "results.json") == {}
    assert duties.read(tmp_path / "none") == {}


def test_seconds_to_the_second_slot_of_the_next_epoch() -> None:
    assert watch.seconds_to_next_epoch(CHAIN, at(320)) == 33 * 12 - 0.5
    assert watch.seconds_to_next_epoch(CHAIN, at(351)) == 24 - 0.5
    low, high = watch.LIVENESS_SECONDS
    assert watch.seconds_to_next_epoch(replace(CHAIN, slots_per_epoch=MAX), at(5)) == high * 8
    fast = replace(CHAIN, seconds_per_slot=1, slots_per_epoch=1)
    assert watch.seconds_to_next_epoch(fast, at(5)) == low
