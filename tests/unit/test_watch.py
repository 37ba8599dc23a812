import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import watch
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Syncing
from validator_supervisor.networks import DEVELOPMENT, NETWORKS, Chain
from validator_supervisor.watch import FAILURES, SLOTS_BEHIND, Attesting, Reading, Target

ROOT = "0x" + "ab" * 32
CHAIN = Chain("dev", 1_000_000, 12, 32, ROOT)
URL = "http://127.0.0.1:5052"
# A network that is not known beforehand, but pinned.
PINS = {"mine": Chain("testnet", 1_000_000, 12, 32, "0x" + "cd" * 32, ("0x10000000", "0x20000000"))}


def at(slot: int, chain: Chain = CHAIN) -> float:
    return chain.genesis_time + slot * chain.seconds_per_slot + 0.5


def said(network: str, chain: Chain, syncing: Syncing, now: float, peers: int = 50) -> str:
    known = watch.known_chain(network, PINS)
    return watch.problem_of(Target(URL, network), chain, known, syncing, peers, now)


def fresh(head: int = 1000) -> Syncing:
    return Syncing(head, False, False, False)


def of(network: str) -> Chain:
    """Return what an honest node of a public network says."""
    return replace(NETWORKS[network]) if network in NETWORKS else replace(PINS[network])


PUBLIC = [name for name, network in NETWORKS.items() if network != DEVELOPMENT]
KNOWN = [*PUBLIC, "mine"]


def test_every_beacon_node_is_looked_at_once(example: Applied) -> None:
    assert watch.targets(example) == [
        # Where the configuration names no network, the validator that uses the node does.
        Target("http://127.0.0.1:5052", "dev"),
        Target("http://127.0.0.1:13000", "dev"),
    ]


def test_a_node_of_nobody_may_be_on_any_network(make: Callable[[str], Applied]) -> None:
    applied = make("version: 1\nnodes: {a: {beacon: 'x:1'}, b: {beacon: 'x:1'}, c: {}}\n")
    assert watch.targets(applied) == [Target("http://x:1", "")]


def test_a_url_has_the_network_that_any_node_says(make: Callable[[str], Applied]) -> None:
    named, unnamed = "{beacon: {hoodi: 'x:1'}}", "{beacon: 'x:1'}"
    for first, second in ((named, unnamed), (unnamed, named)):
        applied = make(f"version: 1\nnodes: {{a: {first}, b: {second}}}\n")
        assert watch.targets(applied) == [Target("http://x:1", "hoodi")]


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
    assert said("dev", CHAIN, fresh(head), at(1000)) == problem
    for network in PUBLIC:
        chain = of(network)
        assert said(network, chain, fresh(head), at(1000, chain)) == problem


def test_a_development_chain_may_be_any() -> None:
    for network in ("", "dev"):
        other = replace(CHAIN, network="minimal", genesis_validators_root="0x" + "00" * 32)
        assert said(network, other, fresh(), at(1000)) == ""


@pytest.mark.parametrize("network", KNOWN)
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("CONFIG_NAME", {"network": "other"}),
        ("genesis_time", {"genesis_time": 5}),
        ("SECONDS_PER_SLOT", {"seconds_per_slot": 7}),
        ("SLOTS_PER_EPOCH", {"slots_per_epoch": 7}),
        ("genesis_validators_root", {"genesis_validators_root": ROOT}),
    ],
)
def test_another_chain_is_said_with_both_values(
    network: str, name: str, changed: dict[str, object]
) -> None:
    true = of(network)
    assert said(network, true, fresh(), at(1000, true)) == ""
    lie = replace(true, **changed)  # type: ignore[arg-type]
    (key,) = changed
    # Its head fits its own clock.
    assert said(network, lie, fresh(), at(1000, lie)) == (
        f"is on another chain: {name} is {changed[key]}, not {getattr(true, key)}"
    )


def test_what_is_known_of_a_network() -> None:
    assert watch.known_chain("dev", PINS) is None
    assert watch.known_chain("mine", PINS) == PINS["mine"]
    assert watch.known_chain("other", PINS) is None
    for network in PUBLIC:
        assert watch.known_chain(network, {network: CHAIN}) == NETWORKS[network]


@pytest.mark.parametrize("network", KNOWN)
def test_forks_have_the_versions_of_the_chain(network: str) -> None:
    true = of(network)
    now = at(1000, true)
    # One side may know more forks than the other.
    for versions in (true.fork_versions[:1], (*true.fork_versions, "0xffffffff"), ()):
        assert said(network, replace(true, fork_versions=versions), fresh(), now) == ""
    lie = replace(true, fork_versions=(true.fork_versions[0], "0xffffffff"))
    assert said(network, lie, fresh(), now) == (
        f"is on another chain: ALTAIR_FORK_VERSION is 0xffffffff, not {true.fork_versions[1]}"
    )


def test_an_unknown_network_is_not_believed_before_it_is_pinned() -> None:
    assert said("other", CHAIN, fresh(), at(1000)) == (
        "is not believed yet: its nodes have to agree what the chain other is"
    )
    # Nor is a public one under another name.
    for network in ("other", "dev"):
        assert said(network, of("hoodi"), fresh(), at(1000, of("hoodi"))) == (
            "is on another chain: it is hoodi"
        )


def test_synchronising() -> None:
    assert said("dev", CHAIN, Syncing(5, True, False, False), at(1000)) == (
        "is synchronising, at slot 5 of 1000"
    )


def test_an_optimistic_head_is_a_problem() -> None:
    assert said("dev", CHAIN, Syncing(1000, False, True, False), at(1000)) == (
        "is optimistic: its execution client has not verified the head"
    )
    # Both, as while it catches up: the slot says more.
    both = said("dev", CHAIN, Syncing(5, True, True, False), at(1000))
    assert both == "is synchronising, at slot 5 of 1000"


def test_an_execution_client_that_is_offline_is_the_cause_of_the_rest() -> None:
    for syncing in (Syncing(1000, False, False, True), Syncing(5, True, True, True)):
        assert said("dev", CHAIN, syncing, at(1000)) == "its execution client is offline"


@pytest.mark.parametrize("network", PUBLIC)
def test_a_node_without_peers_on_a_public_network(network: str) -> None:
    chain = of(network)
    for syncing in (fresh(), Syncing(5, True, True, True)):
        assert said(network, chain, syncing, at(1000, chain), peers=0) == "has no peers"
    assert said(network, chain, fresh(), at(1000, chain), peers=1) == ""
    # A server that does not offer the number.
    assert said(network, chain, fresh(), at(1000, chain), peers=watch.UNKNOWN) == ""


def test_a_development_chain_may_be_one_node_alone() -> None:
    for network in ("", "dev"):
        assert said(network, CHAIN, fresh(), at(1000), peers=0) == ""


@pytest.mark.parametrize(
    ("slot", "epoch", "seconds"),
    [(12, 32, 48), (5, 16, 10), (2, 8, 5), (1, 1, 5), (12, 64, 60), (2**64, 2**64, 60)],
)
def test_validators_are_looked_at_some_times_in_an_epoch(
    slot: int, epoch: int, seconds: float
) -> None:
    chain = replace(CHAIN, seconds_per_slot=slot, slots_per_epoch=epoch)
    assert watch.liveness_seconds(chain) == seconds


def test_a_chain_that_has_not_begun_is_at_slot_0() -> None:
    assert CHAIN.slot(CHAIN.genesis_time - 500) == 0
    assert said("dev", CHAIN, fresh(0), 5.0) == ""


def test_first_good_answer_is_healthy() -> None:
    reading = watch.advance(Reading(URL), "", 0.25, 70, 100.0, 55)
    assert reading == Reading(URL, True, "", 100_000_000, 250_000, 70, 0, 55)
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


def test_peers_are_shown_as_a_number_that_d_bus_can_hold() -> None:
    def shown(peers: int) -> int:
        return watch.advance(Reading(URL), "", 0.1, 1, 1.0, peers).peers

    assert [shown(n) for n in (watch.UNKNOWN, 0, 7, 2**64 - 1)] == [0, 0, 7, 2**32 - 1]


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
    readings = {
        url: replace(Reading(url, True, ""), head_slot=2**64 - 1, peers=7) for url in ("a", "b")
    }
    attesting = {"main": Attesting(7, 1, 2)}
    path = tmp_path / "results.json"
    path.write_bytes(watch.dump(readings, attesting))
    assert watch.readings(path) == readings
    assert watch.attesting(path) == attesting


def test_results_are_read_however_many_keys_are_slashed(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    slashed = {name: [f"0x{number:096x}" for number in range(5000)] for name in ("main", "other")}
    path.write_bytes(watch.dump({"a": Reading("a")}, {"main": Attesting(7, 1, 2)}, {}, slashed))
    assert watch.readings(path) == {"a": Reading("a")}
    shown = json.loads(path.read_bytes())["slashed"]["main"]
    assert shown == {"count": 5000, "keys": slashed["main"][: watch.SHOWN]}


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
        {"peers": 2**32},
        {"peers": None},
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


def test_a_development_chain_is_no_public_one() -> None:
    chain = NETWORKS["mainnet"]
    fresh = Syncing(chain.slot(at(1000)), False, False, False)
    problem = watch.problem_of(Target(URL, "dev"), chain, None, fresh, 5, at(1000))
    assert problem == "is on another chain: it is mainnet"
