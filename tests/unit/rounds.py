"""Beacon nodes that answer at once and a clock that stands still, for the rounds of the watch."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from validator_supervisor import epochs, halt, slashed, watcher
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import NOT_OFFERED, Committees, Syncing
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import Chain
from validator_supervisor.watch import HEALTHY_SECONDS, LIVENESS_LOOKS
from validator_supervisor.watcher import Watcher

KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]
HELSINKI, LOCAL = "http://127.0.0.1:13000", "http://127.0.0.1:5052"
SLOT = 10_000
EPOCH = SLOT // 32
ROOT = "0x" + "ab" * 32
LIVENESS = 12 * 32 / LIVENESS_LOOKS


@dataclass
class Chains:
    """The beacon nodes by URL: what they would answer, and what they were asked."""

    chains: dict[str, Chain]
    head: int = SLOT
    broken: set[str] = field(default_factory=set)
    peers: int = 50
    live: dict[int, int] = field(default_factory=dict)
    # By URL, or "" for all: the keys that are slashed.
    slashed: dict[str, set[str]] = field(default_factory=dict)
    # By epoch; a node offers none of the questions while there is nothing.
    proposals: dict[int, set[int]] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
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
        return Syncing(self.world.head, False, False, False)

    def peers(self) -> int:
        self.world.note(self.url, "peers")
        if self.world.peers < 0:
            raise SupervisorError(NOT_OFFERED, "HTTP status 404")
        return self.world.peers

    def indices(self, keys: Sequence[str]) -> list[int]:
        self.world.note(self.url, "indices", list(keys))
        return list(range(len(keys)))

    def live(self, epoch: int, indices: Sequence[int]) -> int:
        self.world.note(self.url, "live", epoch)
        assert list(indices) == [0, 1]
        return self.world.live.get(epoch, 0)

    def slashed(self, keys: Sequence[str]) -> dict[str, bool]:
        self.world.note(self.url, "slashed", list(keys))
        said = self.world.slashed.get(self.url, self.world.slashed.get("", set()))
        return {key: key in said for key in keys}

    def committees(self) -> Committees:
        if not self.world.proposals:
            raise SupervisorError(NOT_OFFERED, "HTTP status 404")
        self.world.note(self.url, "period")
        return Committees(0, 8)

    def proposals(self, epoch: int, slots: range, keys: Sequence[str]) -> set[int]:
        self.world.note(self.url, "proposals", epoch)
        assert slots == range(32 * epoch, 32 * (epoch + 1))
        assert list(keys) == KEYS
        if epoch not in self.world.proposals:
            raise SupervisorError("BeaconFailed", "HTTP status 400")
        return set(self.world.proposals[epoch])

    def in_sync_committee(self, epoch: int, indices: Sequence[int]) -> bool:
        self.world.note(self.url, "sync", epoch)
        assert list(indices) == [0, 1]
        return epoch in self.world.members


@dataclass
class Clock:
    """In the place of ``time``: stands still until it is moved."""

    now: float
    slept: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(time.time())
    monkeypatch.setattr(watcher, "time", clock)
    monkeypatch.setattr(epochs, "time", clock)
    return clock


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(slashed, "RECORD", tmp_path / "slashed.json")
    monkeypatch.setattr(halt, "REQUESTS", tmp_path / "halt")
    (tmp_path / "halt").mkdir()
    return tmp_path


@pytest.fixture
def world(clock: Clock, places: Path, monkeypatch: pytest.MonkeyPatch) -> Chains:
    del places
    chain = Chain("dev", int(clock.now) - SLOT * 12, 12, 32, ROOT)
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
                made.settle(60)
        return made

    return look


Look = Callable[[], Watcher]


@pytest.fixture
def pass_by(look: Look, world: Chains, clock: Clock) -> Callable[[float], Watcher]:
    """Looks as often as the watch does while some seconds pass."""

    def pass_by(seconds: float) -> Watcher:
        end = clock.now + seconds
        found = look()
        while clock.now < end:
            clock.now += HEALTHY_SECONDS
            world.head = world.chains[LOCAL].slot(clock.now)
            found = look()
        return found

    return pass_by


Pass = Callable[[float], Watcher]
