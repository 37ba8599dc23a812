import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.rounds import HELSINKI, KEYS, LIVENESS, LOCAL, ROOT, SLOT, Chains, Clock, Fake, Look
from validator_supervisor import networks, watch
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Syncing
from validator_supervisor.duties import Duties
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import NETWORKS, Chain
from validator_supervisor.watch import (
    HEALTHY_SECONDS,
    UNHEALTHY_SECONDS,
    Attesting,
    Reading,
)
from validator_supervisor.watcher import TOGETHER_SECONDS, Watcher

pytest_plugins = ("tests.unit.rounds",)


def test_looks_again_when_the_time_has_come(look: Look, world: Chains, clock: Clock) -> None:
    world.broken = {HELSINKI}
    assert not look().readings[HELSINKI].healthy
    assert look().readings[LOCAL].healthy
    assert len(world.questions("syncing")) == 2
    clock.now += UNHEALTHY_SECONDS
    look()
    assert [url for url, _ in world.questions("syncing")[2:]] == [HELSINKI]
    clock.now += HEALTHY_SECONDS - UNHEALTHY_SECONDS
    look()
    assert sorted(url for url, _ in world.questions("syncing")[3:]) == [HELSINKI, LOCAL]


def test_chain_is_asked_again_after_trouble_only(look: Look, world: Chains, clock: Clock) -> None:
    for _ in range(3):
        look()
        clock.now += HEALTHY_SECONDS
    assert [url for url, _ in world.questions("chain")].count(LOCAL) == 1
    world.broken = {LOCAL}
    for _ in range(3):
        look()
        clock.now += HEALTHY_SECONDS
    world.broken = set()
    world.chains[LOCAL] = Chain("dev", int(clock.now) - 12, 12, 32, ROOT)
    assert look().readings[LOCAL].problem == f"head is {SLOT - 1} slots ahead of the clock"


def test_changes_are_logged_once(
    look: Look, world: Chains, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        look()
        clock.now += HEALTHY_SECONDS
    world.broken = {LOCAL}
    for _ in range(6):
        look()
        clock.now += HEALTHY_SECONDS
    lines = capsys.readouterr().err.splitlines()
    assert lines.count(f"{LOCAL} is healthy") == 1
    assert lines.count(f"{LOCAL}: is away") == 1


def test_liveness_of_a_running_validator(look: Look, world: Chains, clock: Clock) -> None:
    epoch = SLOT // 32
    world.live = {epoch - 1: 2}
    found = look()
    assert found.attesting == {"main": Attesting(epoch - 1, 2, 2)}
    # The preferred node answers, about the last epoch, which is complete.
    assert world.questions("live") == [(HELSINKI, epoch - 1)]
    assert found.status() == (
        f"2 of 2 beacon nodes healthy; main: 2 of 2 keys live in epoch {epoch - 1}"
    )
    world.live = {epoch - 1: 1, epoch: 2}
    clock.now += LIVENESS
    assert look().attesting["main"] == Attesting(epoch - 1, 1, 2)
    # A client that has just begun has been seen in this one alone.
    world.live = {epoch: 1}
    clock.now += LIVENESS
    assert look().attesting["main"] == Attesting(epoch, 1, 2)
    clock.now += LIVENESS
    world.asked.clear()
    look()
    assert world.questions("live") == [(HELSINKI, epoch - 1), (HELSINKI, epoch)]
    assert world.questions("indices") == []


def test_another_healthy_node_is_asked_when_the_first_is_away(look: Look, world: Chains) -> None:
    world.broken = {HELSINKI}
    look()
    assert {url for url, _ in world.questions("live")} == {LOCAL}


def test_no_liveness_without_a_healthy_node(look: Look, world: Chains) -> None:
    world.broken = {HELSINKI, LOCAL}
    found = look()
    assert found.attesting == {}
    away = f"{LOCAL}: is away; {HELSINKI}: is away"
    assert found.status() == f"0 of 2 beacon nodes healthy; {away}"


def test_status_says_what_is_wrong_with_the_unhealthy_alone(look: Look, world: Chains) -> None:
    epoch = SLOT // 32
    world.live = {epoch: 1}
    world.broken = {HELSINKI}
    assert look().status() == (
        f"1 of 2 beacon nodes healthy; main: 1 of 2 keys live in epoch {epoch}; {HELSINKI}: is away"
    )


def test_status_is_silent_about_a_healthy_node_that_failed_once(
    look: Look, world: Chains, clock: Clock, run_json: Path
) -> None:
    run_json.unlink()
    look()
    world.broken = {HELSINKI}
    clock.now += HEALTHY_SECONDS
    found = look()
    assert found.readings[HELSINKI].problem == "is away"
    assert found.status() == "2 of 2 beacon nodes healthy"


def test_a_clock_ahead_is_forgotten_with_its_node(look: Look, world: Chains, clock: Clock) -> None:
    # A node whose slots last a second is far ahead of the others, and says it is synchronised.
    true = world.chains[LOCAL]
    world.chains = {HELSINKI: Chain("dev", int(clock.now) - SLOT, 1, 1, ROOT), LOCAL: true}
    world.live = {SLOT: 2, SLOT // 32: 1}
    assert look().attesting["main"].epoch == SLOT
    world.broken = {HELSINKI}
    for _ in range(4):
        clock.now += HEALTHY_SECONDS
        world.head = true.slot(clock.now)
        found = look()
    assert found.attesting["main"] == Attesting(true.slot(clock.now) // 32, 1, 2)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"public_keys": "0x"}',
        b'{"public_keys": ["0xzz"]}',
        b'{"public_keys": [5]}',
        json.dumps({"public_keys": [KEYS[0] + "&id=1"]}).encode(),
        json.dumps({"public_keys": [KEYS[0] + "\n"]}).encode(),
        b'{"public_keys": []}',
        b"[" * 100_000,
    ],
)
def test_hostile_run_is_no_run(look: Look, world: Chains, run_json: Path, raw: bytes) -> None:
    run_json.write_bytes(raw)
    assert look().attesting == {}
    assert world.questions("indices") == []


def test_a_validator_cannot_hold_the_watch_up(look: Look, run_json: Path) -> None:
    run_json.unlink()
    os.mkfifo(run_json)
    assert look().attesting == {}
    run_json.unlink()
    run_json.symlink_to("/dev/zero")
    assert look().attesting == {}


def test_failed_liveness_keeps_what_was_seen(
    look: Look, world: Chains, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = SLOT // 32
    world.live = {epoch: 2}
    look()

    def fail(beacon: Fake, epoch: int, indices: Sequence[int]) -> int:
        del beacon, epoch, indices
        raise SupervisorError("BeaconFailed", "HTTP status 501")

    monkeypatch.setattr(Fake, "live", fail)
    clock.now += LIVENESS
    assert look().attesting == {"main": Attesting(epoch, 2, 2)}


def test_failed_liveness_is_logged_once_for_each_change(
    look: Look,
    world: Chains,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = ""

    def live(beacon: Fake, epoch: int, indices: Sequence[int]) -> int:
        del beacon, epoch, indices
        if said:
            raise SupervisorError("BeaconFailed", said)
        return 0

    monkeypatch.setattr(Fake, "live", live)

    def logged(words: str) -> list[str]:
        nonlocal said
        said = words
        for _ in range(3):
            world.head = world.chains[LOCAL].slot(clock.now)
            look()
            clock.now += LIVENESS
        lines = capsys.readouterr().err.splitlines()
        return [line for line in lines if line.startswith("liveness")]

    assert logged("one") == ["liveness of main: one"]
    assert logged("two") == ["liveness of main: two"]
    assert logged("one") == ["liveness of main: one"]
    assert logged("one") == []
    assert logged("") == []
    assert logged("one") == ["liveness of main: one"]


def test_each_validator_has_its_own_last_words(
    make: Callable[[str], Applied],
    text: str,
    world: Chains,
    run_json: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = text[text.index("  main:") : text.index("  other:")]
    made = Watcher(make(text + entry.replace("  main:", "  second:")))
    second = run_json.parents[1] / "second/run.json"
    second.parent.mkdir()
    second.write_bytes(run_json.read_bytes())

    def fail(beacon: Fake, epoch: int, indices: Sequence[int]) -> int:
        del beacon, epoch, indices
        raise SupervisorError("BeaconFailed", "HTTP status 501")

    monkeypatch.setattr(Fake, "live", fail)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            for _ in range(2):  # the validators, once their nodes are known to be healthy
                made.look(pool)
                made.settle(60)
            clock.now += HEALTHY_SECONDS
    lines = capsys.readouterr().err.splitlines()
    # They are looked at at the same time: in any order.
    assert sorted(line for line in lines if "liveness" in line) == [
        "liveness of main: HTTP status 501",
        "liveness of second: HTTP status 501",
    ]
    assert world.questions("indices")


def test_sleeps_until_something_is_due(
    look: Look, world: Chains, clock: Clock, run_json: Path
) -> None:
    run_json.unlink()
    made = look()
    clock.slept.clear()
    made.settle(60)
    assert clock.slept == [HEALTHY_SECONDS]
    made.settle(3)
    assert clock.slept[1:] == [3]
    world.broken = {HELSINKI}
    for _ in range(3):
        clock.now += HEALTHY_SECONDS
        made = look()
    clock.slept.clear()
    made.settle(60)
    assert clock.slept == [UNHEALTHY_SECONDS]


def test_with_nothing_to_look_at_it_sleeps(make: Callable[[str], Applied], clock: Clock) -> None:
    made = Watcher(make("version: 1\n"))
    with ThreadPoolExecutor(1) as pool:
        made.look(pool)
        made.settle(7)
    assert clock.slept == [7]
    assert made.complete


def test_wakes_as_soon_as_something_is_seen(
    example: Applied, world: Chains, monkeypatch: pytest.MonkeyPatch
) -> None:
    del world
    hang = threading.Event()
    syncing = Fake.syncing

    def slow(beacon: Fake) -> Syncing:
        if beacon.url == HELSINKI:
            hang.wait(5)
        return syncing(beacon)

    monkeypatch.setattr(Fake, "syncing", slow)
    made = Watcher(example)
    with ThreadPoolExecutor(2) as pool:
        started = time.monotonic()
        made.look(pool)
        made.settle(4)
        assert made.readings[LOCAL].healthy
        assert not made.complete
        assert time.monotonic() - started < 1
        hang.set()
        for _ in range(2):  # the validator was due too
            made.look(pool)
            made.settle(4)
    assert made.complete


def test_what_is_due_soon_is_looked_at_together(look: Look, world: Chains, clock: Clock) -> None:
    look()
    clock.now += HEALTHY_SECONDS - TOGETHER_SECONDS - 0.1
    world.asked.clear()
    look()
    assert world.questions("syncing") == []
    clock.now += 0.1
    look()
    assert len(world.questions("syncing")) == 2


def test_peers_and_chain_are_asked_rarely(look: Look, world: Chains, clock: Clock) -> None:
    assert look().readings[LOCAL].peers == 50
    world.peers = 40
    for _ in range(7):
        clock.now += HEALTHY_SECONDS
        world.head = world.chains[LOCAL].slot(clock.now)
        look()
    assert look().readings[LOCAL].peers == 40
    for what in ("peers", "chain"):
        assert [url for url, _ in world.questions(what)].count(LOCAL) == 2
    assert [url for url, _ in world.questions("syncing")].count(LOCAL) == 8


def test_a_chain_that_changes_in_silence_is_noticed(
    look: Look, world: Chains, clock: Clock
) -> None:
    look()
    world.chains[LOCAL] = Chain("dev", int(clock.now) - 12, 12, 32, ROOT)
    for _ in range(9):
        clock.now += HEALTHY_SECONDS
        world.head = world.chains[HELSINKI].slot(clock.now)
        look()
    assert "ahead of the clock" in look().readings[LOCAL].problem
    assert look().readings[HELSINKI].healthy


def test_a_public_node_that_loses_its_peers(
    make: Callable[[str], Applied], world: Chains, clock: Clock
) -> None:
    known = NETWORKS["hoodi"]
    clock.now = known.genesis_time + SLOT * known.seconds_per_slot
    world.chains[LOCAL] = Chain(
        known.network, known.genesis_time, known.seconds_per_slot, known.slots_per_epoch,
        known.genesis_validators_root,
    )  # fmt: skip
    made = Watcher(make(f"version: 1\nnodes: {{a: {{beacon: {{hoodi: '{LOCAL[7:]}'}}}}}}\n"))

    def looks(times: int) -> list[tuple[bool, str]]:
        found = []
        for _ in range(times):
            with ThreadPoolExecutor(1) as pool:
                made.look(pool)
                made.settle(60)
            found.append((made.readings[LOCAL].healthy, made.readings[LOCAL].problem))
            clock.now += HEALTHY_SECONDS
            world.head = world.chains[LOCAL].slot(clock.now)
        return found

    assert looks(1) == [(True, "")]
    world.peers = 0
    gone = "has no peers"
    assert looks(8) == [(True, "")] * 5 + [(True, gone), (True, gone), (False, gone)]
    world.peers = 3
    assert looks(1) == [(True, "")]
    assert made.readings[LOCAL].peers == 3
    # A server that does not offer the number.
    world.peers = -1
    assert looks(9) == [(True, "")] * 9
    assert made.readings[LOCAL].peers == 0


def test_liveness_is_not_asked_for_at_each_look(look: Look, world: Chains, clock: Clock) -> None:
    world.live = {SLOT // 32: 2}
    for _ in range(5):
        look()
        clock.now += HEALTHY_SECONDS
        world.head = world.chains[LOCAL].slot(clock.now)
    # At 0 s about two epochs, at 48 s (rounded to looks) about one.
    assert len(world.questions("live")) == 2
    look()
    assert len(world.questions("live")) == 4


def test_a_validator_whose_nodes_come_back_is_asked_at_once(
    look: Look, world: Chains, clock: Clock
) -> None:
    world.live = {SLOT // 32: 2, SLOT // 32 + 1: 1}
    assert look().attesting
    world.broken = {LOCAL, HELSINKI}
    for _ in range(3):
        clock.now += HEALTHY_SECONDS
        found = look()
    assert found.attesting == {}
    world.broken = set()
    world.asked.clear()
    clock.now += UNHEALTHY_SECONDS
    world.head = world.chains[LOCAL].slot(clock.now)
    assert look().attesting
    assert world.questions("live")


def test_another_node_than_before_is_asked_at_once(look: Look, world: Chains, clock: Clock) -> None:
    world.live = {SLOT // 32: 2}
    look()
    assert {url for url, _ in world.questions("live")} == {HELSINKI}
    world.asked.clear()
    world.broken = {HELSINKI}
    for _ in range(3):
        clock.now += HEALTHY_SECONDS
        world.head = world.chains[LOCAL].slot(clock.now)
        look()
    assert 3 * HEALTHY_SECONDS < LIVENESS
    assert {url for url, _ in world.questions("live")} == {LOCAL}


def test_the_watch_writes_and_says_only_what_has_changed(
    helper: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [Reading("a"), Reading("a", True, ""), Reading("a", True, ""), Reading("a", True, "x")]
    written: list[tuple[Path, bytes]] = []
    said: list[str] = []
    waited: list[float] = []

    class Rounds:
        """In the place of Watcher: one round after the other, then the end."""

        readings: dict[str, Reading]

        def __init__(self, applied: Applied) -> None:
            del applied
            self.attesting: dict[str, Attesting] = {}
            self.duties: dict[str, Duties] = {}
            self.slashed: dict[str, list[str]] = {}

        @property
        def halting(self) -> bool:
            return len(rounds) == 1

        def look(self, pool: object) -> None:
            del pool

        def settle(self, longest: float) -> None:
            waited.append(longest)
            if not rounds:
                raise KeyboardInterrupt
            self.readings = {"a": rounds.pop(0)}

        @property
        def complete(self) -> bool:
            return self.readings["a"].healthy

        def status(self) -> str:
            return str(self.readings["a"].healthy)

    class Notifier:
        def notify(self, words: str) -> None:
            said.append(words)

    watch_helper = helper("watch")
    monkeypatch.setattr(watch_helper, "Watcher", Rounds)
    monkeypatch.setattr(watch_helper, "SystemdNotifier", Notifier)
    monkeypatch.setattr(watch_helper.Applied, "load", lambda: None)
    monkeypatch.setattr(
        watch_helper.durable, "replace", lambda path, data: written.append((path, data))
    )
    with pytest.raises(KeyboardInterrupt):
        watch_helper.main()
    assert [path for path, _ in written] == [watch.RESULTS] * 3
    assert len({data for _, data in written}) == 3
    alive = "WATCHDOG=1"
    assert said == [alive, "STATUS=False", "READY=1", alive, "STATUS=True", alive, alive]
    assert waited[0] <= 1
    assert 3 * waited[2] <= 30
    # It sees soon that somebody has halted.
    assert [seconds for seconds in waited if seconds > 1] == [waited[2], waited[4]]


MINE = """\
version: 1
nodes:
  a: {beacon: {mine: "127.0.0.1:1"}}
  b: {beacon: {mine: "127.0.0.1:2"}}
"""
A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "chains.json"
    monkeypatch.setattr(networks, "PINS", path)
    monkeypatch.setattr(networks.load_pins, "__defaults__", (path,))
    return path


@pytest.fixture
def watch_mine(
    make: Callable[[str], Applied], world: Chains, clock: Clock, pins: Path
) -> Callable[[str], dict[str, str]]:
    """Has a new watcher look at the nodes a few times; returns their problems."""
    del pins
    mine = Chain("testnet", int(clock.now) - SLOT * 12, 12, 32, ROOT, ("0x10000001",))
    world.chains = {A: mine, B: mine}

    def problems(yaml: str = MINE, change: Callable[[], None] = lambda: None) -> dict[str, str]:
        made = Watcher(make(yaml))
        for number in range(6):
            with ThreadPoolExecutor(2) as pool:
                made.look(pool)
                made.settle(60)
            clock.now += UNHEALTHY_SECONDS
            if number == 2:
                change()
        return {reading.url: reading.problem for reading in made.readings.values()}

    return problems


def test_a_chain_is_pinned_when_two_nodes_agree(
    watch_mine: Callable[..., dict[str, str]], world: Chains, pins: Path
) -> None:
    world.broken = {B}
    assert "have to agree what the chain mine is" in watch_mine()[A]
    assert not pins.exists()
    world.broken = set()
    assert watch_mine() == {A: "", B: ""}
    assert networks.load_pins(pins) == {"mine": world.chains[A]}
    # From now on each is believed, or not, by itself.
    world.chains[B] = Chain("testnet", 5, 12, 32, ROOT, ("0x10000001",))
    problems = watch_mine()
    assert problems[A] == ""
    assert problems[B].startswith("is on another chain: genesis_time is 5, not ")
    assert networks.load_pins(pins) == {"mine": world.chains[A]}


def test_nodes_that_disagree_are_not_believed(
    watch_mine: Callable[..., dict[str, str]], world: Chains, pins: Path
) -> None:
    world.chains[B] = Chain("testnet", 5, 12, 32, ROOT, ("0x10000001",))
    assert all("have to agree" in problem for problem in watch_mine().values())
    assert not pins.exists()


def test_the_only_node_of_a_network_is_believed(
    watch_mine: Callable[..., dict[str, str]], pins: Path
) -> None:
    assert watch_mine(MINE[: MINE.index("  b:")]) == {A: ""}
    assert pins.stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_pinned_is_not_believed(
    watch_mine: Callable[..., dict[str, str]],
    pins: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(networks, "PINS", pins / "none" / "chains.json")
    assert all("have to agree" in problem for problem in watch_mine().values())
    # What is wrong here is no fault of a node, and said once.
    assert capsys.readouterr().err.count("chains.json: No such file") == 1


def test_damaged_pins_are_not_made_anew(
    watch_mine: Callable[..., dict[str, str]], pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins.write_bytes(b"{")
    assert all("have to agree" in problem for problem in watch_mine().values())
    said = capsys.readouterr().err
    assert "cannot be read" in said
    assert "remove it" in said
    assert pins.read_bytes() == b"{"
    pins.unlink()
    assert watch_mine() == {A: "", B: ""}


def test_a_public_network_under_another_name_is_not_pinned(
    watch_mine: Callable[..., dict[str, str]], world: Chains, pins: Path
) -> None:
    world.chains = {A: NETWORKS["mainnet"], B: NETWORKS["mainnet"]}
    assert set(watch_mine().values()) == {"is on another chain: it is mainnet"}
    assert not pins.exists()


def test_what_a_node_said_before_it_died_does_not_count(
    watch_mine: Callable[..., dict[str, str]], world: Chains, pins: Path
) -> None:
    three = MINE + '  c: {beacon: {mine: "127.0.0.1:3"}}\n'
    other = "http://127.0.0.1:3"
    world.chains[other] = Chain("testnet", 5, 12, 32, ROOT, ("0x10000001",))
    world.broken = {A}

    def change() -> None:
        assert not pins.exists()  # B and the other do not agree
        world.broken = {other}

    assert watch_mine(three, change) == {A: "", B: "", other: "is away"}
