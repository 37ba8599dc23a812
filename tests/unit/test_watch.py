import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import watch
from validator_supervisor.beacon import Chain, Syncing
from validator_supervisor.config import Applied
from validator_supervisor.networks import NETWORKS
from validator_supervisor.watch import FAILURES, SLOTS_BEHIND, Attesting, Reading, Target

CHAIN = Chain("dev", 1_000_000, 12, 32)
URL = "http://127.0.0.1:5052"


def at(slot: int) -> float:
    return CHAIN.genesis_time + slot * CHAIN.seconds_per_slot + 0.5


def test_every_beacon_node_is_looked_at_once(example: Applied) -> None:
    assert watch.targets(example) == [
        # Where the configuration names no network, the validator that uses the node does.
        Target("http://127.0.0.1:5052", "dev"),
        Target("http://127.0.0.1:13000", "dev"),
    ]


def test_a_node_of_nobody_may_be_on_any_network(make: Callable[[str], Applied]) -> None:
    applied = make("version: 1\nnodes: {a: {beacon: 'x:1'}, b: {beacon: 'x:1'}, c: {}}\n")
    assert watch.targets(applied) == [Target("http://x:1", "")]


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (1000, ""),
        (999, ""),
        (1000 - SLOTS_BEHIND, ""),
        (999 - SLOTS_BEHIND, f"head is {SLOTS_BEHIND + 1} slots behind the clock"),
        (1001, ""),
        (1002, "head is 2 slots ahead of the clock"),
        (2**64 - 1, f"head is {2**64 - 1 - 1000} slots ahead of the clock"),
    ],
)
def test_head_and_clock(head: int, problem: str) -> None:
    syncing = Syncing(head, False, False)
    assert watch.problem_of(Target(URL, "dev"), CHAIN, syncing, at(1000)) == problem


def test_other_network_and_synchronising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "hoodi", "hoodi")
    fresh = Syncing(1000, False, False)
    assert watch.problem_of(Target(URL, "hoodi"), CHAIN, fresh, at(1000)) == (
        "is on network dev, not hoodi"
    )
    for network in ("", "dev"):  # which may have any name
        other = replace(CHAIN, network="minimal")
        assert watch.problem_of(Target(URL, network), other, fresh, at(1000)) == ""
    syncing = Syncing(5, True, False)
    assert watch.problem_of(Target(URL, "dev"), CHAIN, syncing, at(1000)) == (
        "is synchronising, at slot 5 of 1000"
    )


def test_an_optimistic_head_is_a_problem() -> None:
    optimistic = Syncing(1000, False, True)
    assert watch.problem_of(Target(URL, "dev"), CHAIN, optimistic, at(1000)) == (
        "is optimistic: its execution client has not verified the head"
    )
    # Both, as while it catches up: the slot says more.
    both = watch.problem_of(Target(URL, "dev"), CHAIN, Syncing(5, True, True), at(1000))
    assert both == "is synchronising, at slot 5 of 1000"


def test_a_chain_that_has_not_begun_is_at_slot_0() -> None:
    assert CHAIN.slot(CHAIN.genesis_time - 500) == 0
    assert watch.problem_of(Target(URL, "dev"), CHAIN, Syncing(0, False, False), 5.0) == ""


def test_first_good_answer_is_healthy() -> None:
    reading = watch.advance(Reading(URL), "", 0.25, 70, 100.0)
    assert reading == Reading(URL, True, "", 100_000_000, 250_000, 70, 0)
    assert watch.advance(reading, "", 0.5, 71, 110.0).since_usec == 100_000_000


def test_healthy_node_may_fail_twice() -> None:
    reading = watch.advance(Reading(URL), "", 0.25, 70, 100.0)
    for failure in range(1, FAILURES):
        reading = watch.advance(reading, "is away", 0, 0, 100.0 + failure)
        assert (reading.healthy, reading.failures, reading.problem) == (True, failure, "is away")
        assert reading.head_slot == 70
    # One good answer in between and it may fail twice again.
    assert watch.advance(reading, "", 0.1, 71, 105.0).failures == 0
    reading = watch.advance(reading, "is away", 0, 0, 200.0)
    assert reading == Reading(URL, False, "is away", 200_000_000, 0, 70, FAILURES)
    assert watch.advance(reading, "is away still", 0, 0, 300.0).since_usec == 200_000_000


def test_node_that_never_answered_is_unhealthy_at_once() -> None:
    reading = watch.advance(Reading(URL), "refused", 0, 0, 50.0)
    assert (reading.healthy, reading.failures, reading.since_usec) == (False, 1, 50_000_000)


@given(st.lists(st.booleans(), max_size=20))
def test_health_is_lost_by_failures_in_a_row_alone(answers: list[bool]) -> None:
    reading = Reading(URL)
    for now, good in enumerate(answers, 1):
        reading = watch.advance(reading, "" if good else "bad", 0.1, now, float(now))
        tail = answers[max(0, now - FAILURES) : now]
        assert reading.healthy == (any(tail) and any(answers[:now]))
        if reading.healthy and reading.failures == 0:
            assert reading.problem == ""


def test_results_survive_the_way_there_and_back(tmp_path: Path) -> None:
    readings = {url: replace(Reading(url, True, ""), head_slot=2**64 - 1) for url in ("a", "b")}
    attesting = {"main": Attesting(7, 1, 2)}
    path = tmp_path / "results.json"
    path.write_bytes(watch.dump(readings, attesting))
    assert watch.readings(path) == readings
    assert watch.attesting(path) == attesting


def test_before_the_first_look_nothing_is_known(tmp_path: Path) -> None:
    assert watch.readings(tmp_path / "none") == {}
    assert watch.attesting(tmp_path / "none") == {}


READING = asdict(Reading(URL, True, ""))


@pytest.mark.parametrize(
    "change",
    [
        {"healthy": "true"},
        {"healthy": 1},
        {"problem": "a\nb"},
        {"problem": "\0"},  # it would end the connection of the controller to the bus
        {"problem": "\ud800"},
        {"problem": None},
        {"url": 5},
        {"since_usec": -1},
        {"since_usec": 2**64},
        {"latency_usec": 0.5},
        {"head_slot": "1"},
        {"failures": True},
    ],
)
def test_one_unexpected_value_and_no_reading_counts(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"beacons": [READING, READING | change], "validators": {}}))
    assert watch.readings(path) == {}
    path.write_text(json.dumps({"beacons": [READING], "validators": {}}))
    assert watch.readings(path) == {URL: Reading(**READING)}


@pytest.mark.parametrize(
    "item",
    [{}, [], {"epoch": -1, "live": 0, "keys": 0}, {"epoch": 0, "live": 2**32, "keys": 0},
     {"epoch": 2**64, "live": 0, "keys": 0}, {"epoch": 0, "live": 0, "keys": True}],
)  # fmt: skip
def test_one_unexpected_value_and_no_validator_counts(tmp_path: Path, item: object) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"beacons": [], "validators": {"main": item}}))
    assert watch.attesting(path) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.binary(max_size=100) | st.fixed_dictionaries({"beacons": JSON, "validators": JSON}))
def test_any_results_are_read_or_ignored(tmp_path: Path, stored: bytes | dict[str, object]) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(stored if isinstance(stored, bytes) else json.dumps(stored).encode())
    watch.readings(path)
    watch.attesting(path)
