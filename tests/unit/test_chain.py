"""What time it is: a clock, heads, and what has certainly passed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import chain, watch
from validator_supervisor.applied import Applied
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.networks import Chain
from validator_supervisor.watch import Reading

GENESIS = 1_800_000_000
CHAIN = Chain("dev", GENESIS, 6, 8, "0x" + "01" * 32)
NOW, HOUR = GENESIS + 60_000, 3600
HEAD = 10_000


@pytest.mark.parametrize(
    ("clock", "heads", "earliest", "seconds", "doubt"),
    [
        (NOW, (), 0, NOW, False),
        (NOW, (HEAD,), 0, NOW, False),
        (NOW - 40, (HEAD, HEAD - 1), 0, NOW, False),  # the latest, within an epoch
        (NOW, (HEAD - 8,), NOW - 1, NOW, False),
        (NOW + HOUR, (HEAD,), 0, NOW + HOUR, True),
        (NOW - HOUR, (HEAD,), 0, NOW - HOUR, True),
        (NOW - HOUR, (), NOW, NOW, True),
        (0, (), NOW, NOW, True),
        # A hostile node far ahead moves nothing.
        (NOW, (HEAD, 1 << 60), 0, NOW, True),
        (NOW, (HEAD, 1), 0, NOW, True),
    ],
)
def test_the_latest_that_is_agreed(
    clock: int, heads: tuple[int, ...], earliest: int, seconds: int, doubt: bool
) -> None:
    verified = earliest <= clock
    found = chain.time_of(CHAIN, clock, heads, earliest, verified=verified)
    assert (found.seconds, bool(found.doubt)) == (seconds, doubt)
    assert found.verified == (verified and not doubt)
    if doubt:
        with pytest.raises(SupervisorError) as caught:
            found.for_lift()
        assert (caught.value.code, caught.value.exit_status) == ("ClockWrong", TEMPORARY)
        assert "--now" in caught.value.hint
    else:
        assert found.for_lift() is found


@given(st.integers(0, 1 << 33), st.lists(st.integers(0, 1 << 63)), st.integers(0, 1 << 33))
def test_time_is_never_before_what_has_passed(clock: int, heads: list[int], earliest: int) -> None:
    found = chain.time_of(CHAIN, clock, heads, earliest, verified=False)
    epoch = CHAIN.seconds_per_slot * CHAIN.slots_per_epoch
    assert max(clock, earliest) <= found.seconds <= max(clock, earliest) + epoch


def test_a_time_in_the_future_is_believed_only_by_a_clock_that_may_be_wrong() -> None:
    future = NOW + HOUR
    found = chain.time_of(CHAIN, NOW, (HEAD,), future, verified=True)
    assert (found.seconds, found.doubt, found.verified) == (NOW, "", True)
    found = chain.time_of(CHAIN, NOW, (HEAD,), future, verified=False)
    assert found.seconds == future
    assert found.doubt


def test_heads_are_those_of_healthy_nodes_or_else_of_those_with_another_clock(
    example: Applied, tmp_path: Path
) -> None:
    main = example.config.ethereum[0]
    urls = list(example.beacons(main).values())
    results = tmp_path / "results.json"

    def heads(*problems: str) -> tuple[int, ...]:
        found = {
            url: Reading(url, healthy=not problem, problem=problem, head_slot=100 + at)
            for at, (url, problem) in enumerate(zip(urls, problems, strict=False))
        }
        results.write_bytes(watch.dump(found, {}))
        return chain.heads(example, main, results)

    assert heads("", "head is 300 slots behind the clock") == (100,)
    assert heads("is synchronising, at slot 3 of 9", "head is 300 slots behind the clock") == (101,)
    assert heads("connection refused", "is optimistic") == ()


def test_before_genesis_it_is_the_first_slot() -> None:
    assert chain.moment_at(CHAIN, 0).slot == 0
    assert chain.moment_at(CHAIN, GENESIS + 13).slot == 2


def test_systemds_clock_file_says_what_has_passed(tmp_path: Path) -> None:
    assert chain.past(tmp_path / "clock") == 0
    (tmp_path / "clock").touch()
    os.utime(tmp_path / "clock", (77, 77))
    assert chain.past(tmp_path / "clock") == 77
