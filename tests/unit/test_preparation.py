"""What is done to a database before its client starts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import preparation, slashing
from validator_supervisor.chain import Time
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.handover import Handover
from validator_supervisor.interchange import Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.slashing import Watermark

KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
ROOT = b"\1" * 32
GENESIS = 1_800_000_000
CHAIN = Chain("dev", GENESIS, 6, 8, f"0x{ROOT.hex()}")
# Slot 1000 of epoch 125.
NOW = GENESIS + 6000


def marks(slot: int, source: int, target: int, key: str = KEY) -> Interchange:
    return Interchange(ROOT, {key: slashing.minified(Watermark(slot, source, target))})


def given_(row: str, floor: Interchange, required: Interchange | None = None) -> Handover:
    return Handover(row, False, floor, required or floor, CHAIN, GENESIS)


def never() -> Time:
    raise AssertionError


def now() -> Time:
    return Time(NOW, verified=True)


LOW, HIGH = marks(900, 111, 112), marks(950, 118, 119)
LIFTED = marks(1001, 124, 125)


@pytest.mark.parametrize(
    ("handover", "said", "pending", "row", "wanted"),
    [
        # At or above: nothing is imported, whatever the row.
        (given_(CONTINUE, LOW), HIGH, None, CONTINUE, None),
        (given_(RESTORE, LOW, HIGH), HIGH, None, CONTINUE, None),
        # After a power cut nothing below the archives, and lifted only to where it was required.
        (given_(POWER_CUT, LOW, HIGH), LOW, None, POWER_CUT, HIGH),
        # Below an archive, lost, or for a restore: lifted to now.
        (given_(CONTINUE, HIGH), LOW, None, RESTORE, LIFTED),
        (given_(POWER_CUT, HIGH), LOW, None, RESTORE, LIFTED),
        (given_(CONTINUE, LOW), None, None, RESTORE, LIFTED),
        (given_(RESTORE, LOW, HIGH), LOW, None, RESTORE, LIFTED),
        # An import was interrupted: the same once more, also when the database says enough.
        (given_(CONTINUE, LOW), HIGH, HIGH, POWER_CUT, HIGH),
        (given_(CONTINUE, LOW), None, HIGH, POWER_CUT, HIGH),
        (given_(CONTINUE, HIGH), None, LOW, RESTORE, LIFTED),
        (given_(RESTORE, LOW), HIGH, HIGH, RESTORE, LIFTED),
    ],
)
def test_rows(
    handover: Handover,
    said: Interchange | None,
    pending: Interchange | None,
    row: str,
    wanted: Interchange | None,
) -> None:
    made = preparation.plan(handover, said, pending, "", now if row == RESTORE else never)
    assert (made.row, made.wanted) == (row, wanted)
    assert made.reason


def test_after_a_power_cut_it_is_lifted_to_the_begin_of_this_boot() -> None:
    # An hour ago, however long that is in slots; what was known stays where that is higher.
    assert preparation.of_boot(LOW, CHAIN, now(), 3600) == marks(900, 111, 112)
    assert preparation.of_boot(LOW, CHAIN, now(), 60) == marks(991, 122, 123)
    unsure = Time(NOW)
    assert preparation.of_boot(LOW, CHAIN, unsure, 60) == marks(1022, 123, 124)
    with pytest.raises(SupervisorError, match="it differs"):
        preparation.of_boot(LOW, CHAIN, Time(NOW, doubt="it differs"), 60)


def test_a_clock_that_is_right_now_lifts_again() -> None:
    early = given_(POWER_CUT, LOW, marks(901, 111, 112))
    assert preparation.again(early, now(), 60).required == marks(991, 122, 123)
    # A little ahead: it stays what the final backup is compared with.
    late = given_(POWER_CUT, LOW, marks(992, 122, 123))
    assert preparation.again(late, now(), 60).required == marks(992, 122, 123)
    wrong = given_(POWER_CUT, LOW, marks(9000, 1124, 1125))
    assert preparation.again(wrong, now(), 60).required == marks(991, 122, 123)


def test_a_new_key_lifts_as_another_hosts(  # its last signatures are nowhere here
) -> None:
    both = slashing.merge(LOW, Interchange(ROOT, {OTHER: slashing.minified(Watermark())}))
    made = preparation.plan(given_(CONTINUE, both), HIGH, None, "", now)
    assert (made.row, made.reason) == (RESTORE, f"the database does not know {OTHER}")
    assert made.wanted == slashing.merge(marks(1032, 125, 126), marks(1032, 125, 126, OTHER))


def test_what_halts_and_what_waits() -> None:
    elsewhere = Interchange(b"\2" * 32, {})
    for said, pending in ((elsewhere, None), (None, elsewhere)):
        with pytest.raises(SupervisorError) as caught:
            preparation.plan(given_(CONTINUE, LOW), said, pending, "", now)
        assert (caught.value.code, caught.value.exit_status) == ("OtherChain", HALT)
    with pytest.raises(SupervisorError) as caught:
        preparation.plan(given_(RESTORE, LOW, HIGH), marks(1, 1, 999), None, "", now)
    assert (caught.value.code, caught.value.exit_status) == ("Ahead", HALT)
    with pytest.raises(SupervisorError) as caught:
        preparation.plan(
            given_(RESTORE, LOW), None, None, "", lambda: Time(NOW, doubt="it is wrong")
        )
    assert (caught.value.code, caught.value.exit_status) == ("ClockWrong", TEMPORARY)


MARKS = st.none() | st.builds(marks, st.integers(0, 1030), st.integers(0, 126), st.integers(0, 127))


@given(st.sampled_from([CONTINUE, POWER_CUT, RESTORE]), MARKS, MARKS, MARKS, MARKS)
def test_nothing_is_lowered_and_everything_required_is_reached(
    row: str,
    floor: Interchange | None,
    required: Interchange | None,
    said: Interchange | None,
    pending: Interchange | None,
) -> None:
    floor = floor or Interchange(ROOT, {})
    handover = given_(row, floor, slashing.minify(slashing.merge(floor, required or floor)))
    made = preparation.plan(handover, said, pending, "", now)
    after = made.wanted or said
    assert after
    for one in (floor, handover.required, said):
        assert one is None or not slashing.compare(one, after)
    if made.wanted:
        assert pending is None or not slashing.compare(pending, made.wanted)
    if made.row == CONTINUE:
        assert pending is None
