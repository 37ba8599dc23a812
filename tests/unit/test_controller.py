import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import config, watch
from validator_supervisor.bus import controller
from validator_supervisor.bus.controller import Controller
from validator_supervisor.bus.interface import NODE, VALIDATOR
from validator_supervisor.bus.model import UnitState
from validator_supervisor.config import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.watch import Reading

ROOT = "/org/validatorsupervisor1"
MAIN, HELSINKI = f"{ROOT}/validator/main", f"{ROOT}/node/helsinki"
TUNNEL, UNIT = "validator-tunnel@helsinki.service", "validator@main.service"


class Systemd:
    """systemd as far as the controller knows it."""

    def __init__(self) -> None:
        self.states: dict[str, UnitState] = {}
        self.asked: list[str] = []
        self.watched: list[str] = []
        self.changed: Callable[[str], None] = print
        self.reloaded: Callable[[], None] = print

    def subscribe(self, changed: Callable[[str], None], reloaded: Callable[[], None]) -> None:
        self.changed, self.reloaded = changed, reloaded

    def watch(self, unit: str) -> None:
        self.watched.append(unit)

    def state(self, unit: str) -> UnitState:
        return self.states.get(unit, UnitState())

    def active(self, unit: str) -> str:
        return self.state(unit).active

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")

    def restart(self, unit: str) -> None:
        self.asked.append(f"restart {unit}")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def made(
    systemd: Systemd, example: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Controller:
    monkeypatch.setattr(config, "applied", lambda: example)
    monkeypatch.setattr(controller, "RUNTIME", tmp_path)
    results = tmp_path / "results.json"
    monkeypatch.setattr(watch, "RESULTS", results)
    readings, attesting = watch.readings, watch.attesting
    monkeypatch.setattr(watch, "readings", lambda: readings(results))
    monkeypatch.setattr(watch, "attesting", lambda: attesting(results))
    return Controller(systemd)  # type: ignore[arg-type]


def test_every_unit_is_watched(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    assert sorted(systemd.watched) == [
        TUNNEL, "validator-watch.service", UNIT, "validator@other.service",
    ]  # fmt: skip


def test_a_changed_unit_is_read_again(made: Controller, systemd: Systemd) -> None:
    assert made.stale
    assert made.refresh()[MAIN][VALIDATOR.name]["ActiveState"] == "inactive"
    assert not made.stale
    systemd.states[UNIT] = UnitState("active", "running", "up", 5)
    assert made.refresh()[MAIN][VALIDATOR.name]["ActiveState"] == "inactive"
    systemd.changed(UNIT)
    assert made.stale
    assert made.refresh()[MAIN][VALIDATOR.name]["ActiveState"] == "active"
    assert not made.stale


def test_files_of_the_jobs_are_read(made: Controller, systemd: Systemd, tmp_path: Path) -> None:
    systemd.states[UNIT] = UnitState("active", "running")
    url = "http://127.0.0.1:13000"
    (tmp_path / "results.json").write_bytes(watch.dump({url: Reading(url, True, "")}, {}))
    (tmp_path / "main").mkdir()
    run = {"node": "helsinki", "public_keys": ["0x" + "ab" * 48]}
    (tmp_path / "main/run.json").write_text(json.dumps(run))
    found = made.refresh()
    assert found[MAIN][VALIDATOR.name]["ConnectedNode"] == "helsinki"
    assert found[HELSINKI][NODE.name]["BeaconHealthy"] is True


def test_changed_results_are_read_again(made: Controller, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    url = "http://127.0.0.1:13000"

    def write(reading: Reading, mtime: int) -> None:
        results.write_bytes(watch.dump({url: reading}, {}))
        os.utime(results, ns=(mtime, mtime))

    assert made.refresh()[HELSINKI][NODE.name]["BeaconHealthy"] is False
    assert not made.stale
    write(Reading(url, True, ""), 1_000)
    assert made.stale
    assert made.refresh()[HELSINKI][NODE.name]["BeaconHealthy"] is True
    assert not made.stale
    write(Reading(url, False, "is away"), 2_000)
    assert made.stale
    assert made.refresh()[HELSINKI][NODE.name]["BeaconProblem"] == "is away"
    assert not made.stale
    results.unlink()
    assert made.stale
    assert made.refresh()[HELSINKI][NODE.name]["BeaconProblem"] == "not looked at yet"
    assert not made.stale


def test_results_that_change_while_they_are_read_are_read_again(
    made: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results.json"
    read = watch.readings

    def meanwhile() -> dict[str, Reading]:
        found = read()
        results.write_bytes(watch.dump({}, {}))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(watch, "readings", meanwhile)
        made.refresh()
    assert made.stale
    made.refresh()
    assert not made.stale


def test_hostile_files_stop_nothing(made: Controller, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b'{"beacons": [{"url": 5}], "validators": [')
    (tmp_path / "main").mkdir()
    (tmp_path / "main/run.json").write_bytes(b"\xff")
    found = made.refresh()
    assert found[MAIN][VALIDATOR.name]["PublicKeys"] == []
    assert found[HELSINKI][NODE.name]["BeaconProblem"] == "not looked at yet"


def test_a_reload_brings_another_configuration(
    made: Controller,
    systemd: Systemd,
    make: Callable[[str], Applied],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made.refresh()
    monkeypatch.setattr(config, "applied", lambda: make("version: 1\nnodes: {a: {}}"))
    assert MAIN in made.refresh()
    systemd.reloaded()
    assert list(made.refresh()) == [ROOT, f"{ROOT}/node/a"]


def test_a_damaged_configuration_keeps_the_last(
    made: Controller,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = made.refresh()

    def damaged() -> Applied:
        raise SupervisorError("NotApplied", "is damaged")

    monkeypatch.setattr(config, "applied", damaged)
    systemd.reloaded()
    assert made.refresh() == before
    assert not made.stale
    assert capsys.readouterr().err == "is damaged\n"


@pytest.mark.parametrize(
    ("method", "active", "accepted", "asked"),
    [
        ("Start", "inactive", True, [f"start {UNIT}"]),
        ("Start", "failed", True, [f"start {UNIT}"]),
        ("Start", "active", False, []),
        ("Stop", "active", True, [f"stop {UNIT}"]),
        ("Stop", "activating", True, [f"stop {UNIT}"]),
        ("Stop", "inactive", False, []),
        ("Stop", "failed", False, []),
    ],
)
def test_start_and_stop(
    made: Controller, systemd: Systemd, method: str, active: str, accepted: bool, asked: list[str]
) -> None:
    made.refresh()
    # What counts is what systemd says now, not when it was last asked.
    systemd.states[UNIT] = UnitState(active)
    assert made.act(MAIN, method, ()) == (accepted,)
    assert systemd.asked == asked


def test_reconnect_and_reload(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    assert made.act(HELSINKI, "Reconnect", ()) == ()
    assert made.act(ROOT, "Reload", ()) == ()
    assert systemd.asked == [f"restart {TUNNEL}", "start validator-apply.service"]
    with pytest.raises(SupervisorError, match="node local is this host"):
        made.act(f"{ROOT}/node/local", "Reconnect", ())
