from pathlib import Path

import pytest

from validator_supervisor import durable
from validator_supervisor.attempts import Attempts, seconds
from validator_supervisor.errors import SupervisorError


class Clock:
    """A clock that sleeping moves, a little less than it was asked to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        step = max(0.001, seconds * 0.9)
        self.now += step
        self.slept += step


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "unlock.json"


def made(path: Path, clock: Clock, boot: str = "b") -> Attempts:
    return Attempts(path, boot, clock, clock.sleep)


def waited(path: Path, clock: Clock, boot: str = "b") -> float:
    clock.slept = 0.0
    made(path, clock, boot).wait(lambda *_: None)
    return round(clock.slept)


def test_delays_double_up_to_five_minutes() -> None:
    assert [seconds(n) for n in range(12)] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert seconds(1 << 50) == 300


def test_each_attempt_costs_more_whoever_makes_it(path: Path) -> None:
    clock = Clock()
    for expected in (0, 1, 2, 4, 8):
        # Another process each time.
        assert waited(path, clock) == expected
        made(path, clock).begin()
    made(path, clock).succeed()
    assert waited(path, clock) == 0
    assert not path.exists()


def test_it_is_on_the_disk_before_the_passphrase_is_tried(path: Path) -> None:
    clock = Clock()
    assert made(path, clock).begin() == 1
    assert path.exists()
    # Killed now, it counts.
    assert waited(path, clock) == 1


def test_a_wait_that_is_interrupted_goes_on(path: Path) -> None:
    clock = Clock()
    for _ in range(5):
        made(path, clock).begin()
    clock.now += 10
    assert waited(path, clock) == 6
    assert waited(path, clock) == 0


def test_time_in_another_boot_does_not_count(path: Path) -> None:
    clock = Clock()
    for _ in range(4):
        made(path, clock).begin()
    assert waited(path, Clock(5000), "another") == 8
    assert waited(path, Clock(1), "b") == 8, "a clock that went back"


@pytest.mark.parametrize(
    "stored",
    [b"", b"{", b"[]", b"{}", b'{"attempts": 0, "boot": "b", "at_msec": 0}', b"\xff" * 9,
     b'{"attempts": 1, "boot": "b", "at_msec": -1}', b'{"attempts": "1"}',
     b'{"attempts": 1, "boot": "b", "at_msec": 1e400}'],
)  # fmt: skip
def test_a_damaged_file_costs_the_most(path: Path, stored: bytes) -> None:
    path.write_bytes(stored)
    assert waited(path, Clock()) == 300
    made(path, Clock()).begin()
    assert waited(path, Clock()) == 300


def test_one_who_waits_says_so(path: Path) -> None:
    clock = Clock()
    said: list[tuple[float, int]] = []
    made(path, clock).wait(lambda seconds, failed: said.append((seconds, failed)))
    assert said == []
    made(path, clock).begin()
    made(path, clock).wait(lambda seconds, failed: said.append((seconds, failed)))
    assert said == [(1, 1)]


def test_what_cannot_be_counted_is_not_tried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(SupervisorError) as refused:
        made(path, Clock()).begin()
    assert (refused.value.code, refused.value.exit_status) == ("NotWritten", 75)
