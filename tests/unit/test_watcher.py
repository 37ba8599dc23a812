import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from validator_supervisor import watcher
from validator_supervisor.beacon import Chain, Syncing
from validator_supervisor.config import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.watch import HEALTHY_SECONDS, UNHEALTHY_SECONDS, Attesting
from validator_supervisor.watcher import Watcher

KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]
HELSINKI, LOCAL = "http://127.0.0.1:13000", "http://127.0.0.1:5052"
SLOT = 10_000


@dataclass
class Chains:
    """The beacon nodes by URL: what they would answer, and what they were asked."""

    chains: dict[str, Chain]
    head: int = SLOT
    broken: set[str] = field(default_factory=set)
    live: dict[int, int] = field(default_factory=dict)
    asked: list[tuple[str, str, object]] = field(default_factory=list)

    def beacon(self, url: str) -> "Fake":
        return Fake(self, url)

    def note(self, url: str, what: str, value: object = None) -> None:
        self.asked.append((url, what, value))
        if url in self.broken:
            raise SupervisorError("BeaconFailed", "is away")

    def questions(self, what: str) -> list[tuple[str, object]]:
        return [(url, value) for url, name, value in self.asked if name == what]


@dataclass
class Fake:
    """One of them, in the place of ``beacon.Beacon``."""

    world: Chains
    url: str

    def chain(self) -> Chain:
        self.world.note(self.url, "chain")
        return self.world.chains[self.url]

    def syncing(self) -> Syncing:
        self.world.note(self.url, "syncing")
        return Syncing(self.world.head, False, False)

    def indices(self, keys: Sequence[str]) -> list[int]:
        self.world.note(self.url, "indices", list(keys))
        return list(range(len(keys)))

    def live(self, epoch: int, indices: Sequence[int]) -> int:
        self.world.note(self.url, "live", epoch)
        assert list(indices) == [0, 1]
        return self.world.live.get(epoch, 0)


@dataclass
class Clock:
    """In the place of ``time``: stands still until it is moved."""

    now: float

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.time())
    monkeypatch.setattr(watcher, "time", clock)
    return clock


@pytest.fixture
def world(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Chains:
    chain = Chain("dev", int(clock.now) - SLOT * 12, 12, 32)
    chains = Chains({HELSINKI: chain, LOCAL: chain})
    monkeypatch.setattr(watcher, "Beacon", chains.beacon)
    return chains


@pytest.fixture
def run_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(watcher, "RUNTIME", tmp_path)
    (tmp_path / "main").mkdir()
    path = tmp_path / "main/run.json"
    path.write_text(json.dumps({"node": "local", "public_keys": KEYS}))
    return path


@pytest.fixture
def look(example: Applied, world: Chains, run_json: Path) -> Callable[[], Watcher]:
    del world, run_json
    made = Watcher(example)

    def look() -> Watcher:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):  # the validators, once their nodes are known to be healthy
                made.look(pool)
                made.settle(None)
        return made

    return look


Look = Callable[[], Watcher]


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
    world.chains[LOCAL] = Chain("dev", int(clock.now) - 12, 12, 32)
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
    # The preferred node answers, about the last epoch and this one.
    assert world.questions("live") == [(HELSINKI, epoch - 1), (HELSINKI, epoch)]
    assert found.status() == (
        f"2 of 2 beacon nodes healthy; main: 2 of 2 keys live in epoch {epoch - 1}"
    )
    world.live = {epoch: 1}
    clock.now += HEALTHY_SECONDS
    assert look().attesting["main"] == Attesting(epoch, 1, 2)
    clock.now += HEALTHY_SECONDS
    world.asked.clear()
    look()
    assert world.questions("live") == [(HELSINKI, epoch)]
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
    world.chains = {HELSINKI: Chain("dev", int(clock.now) - SLOT, 1, 1), LOCAL: true}
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
    clock.now += HEALTHY_SECONDS
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
            clock.now += HEALTHY_SECONDS
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
                made.settle(None)
            clock.now += HEALTHY_SECONDS
    lines = capsys.readouterr().err.splitlines()
    # They are looked at at the same time: in any order.
    assert sorted(line for line in lines if "liveness" in line) == [
        "liveness of main: HTTP status 501",
        "liveness of second: HTTP status 501",
    ]
    assert world.questions("indices")
