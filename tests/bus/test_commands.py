"""The command line, at a controller that does as it is told."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus import served as bus
from tests.bus.served import Served
from validator_supervisor.bus.model import UnitState
from validator_supervisor.cli import confirm, live, main
from validator_supervisor.copies import Copies
from validator_supervisor.errors import SupervisorError

TREE = Path(__file__).resolve().parents[2]
ROOT = "/org/validatorsupervisor1"
MAIN = f"{ROOT}/validator/main"


@pytest.fixture
def cli(served: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
    return served


@pytest.mark.parametrize(
    ("words", "did"),
    [
        ("start main 0a_b", [(MAIN, "Start", ()), (f"{ROOT}/validator/_30a_5fb", "Start", ())]),
        ("stop main", [(MAIN, "Stop", ())]),
        ("restart main", [(MAIN, "Restart", ())]),
        ("enable main", [(MAIN, "SetEnabled", (True,))]),
        ("disable main", [(MAIN, "SetEnabled", (False,))]),
        ("connect main far-away", [(MAIN, "Prefer", ("far-away",))]),
        ("connect main --clear", [(MAIN, "Prefer", ("",))]),
    ],
)
def test_commands_arrive(cli: Served, words: str, did: list[object]) -> None:
    assert main.main(words.split()) == 0
    assert cli.did == did


@pytest.mark.parametrize("words", ["stop main", "restart main"])
def test_a_stop_waits_for_its_moment(
    cli: Served, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    validator = cli.objects[MAIN]["org.validatorsupervisor1.Validator"]
    validator["ActiveState"] = "active"
    validator["SyncCommitteeUntilUSec"] = 4_000_000_000_000_000
    assert main.main([*words.split(), "--when-safe", "--within", "5min"]) == 75
    assert "it is in a sync committee until 2096-" in capsys.readouterr().err
    assert cli.did == []
    validator["SyncCommitteeUntilUSec"] = 0
    validator["DutiesKnownUntilUSec"] = 4_000_000_000_000_000
    assert main.main([*words.split(), "--when-safe"]) == 0
    assert [method for _, method, _ in cli.did] == [words.split()[0].title()]


@pytest.mark.parametrize("within", ["", "5", "x", "0s", "-1s", "1y"])
def test_a_duration_is_one(cli: Served, within: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["stop", "main", "--when-safe", f"--within={within}"])
    assert caught.value.code == 1
    assert cli.did == []


class Backing(threading.Thread):
    """Ends a backup once it was asked for."""

    def __init__(self, cli: Served, state: UnitState, copies: Copies) -> None:
        super().__init__()
        self._cli, self._state, self._copies = cli, state, copies
        self.start()

    def run(self) -> None:
        end = time.monotonic() + 10
        while not self._cli.did and time.monotonic() < end:
            time.sleep(0.01)
        self._cli.become(bus.objects(backup=UnitState("activating", "start")))
        time.sleep(0.3)
        self._cli.become(bus.objects(backup=self._state, copies=self._copies))


def test_a_backup_is_waited_for(cli: Served, capsys: pytest.CaptureFixture[str]) -> None:
    ending = Backing(cli, UnitState(), Copies(last=1_800_000_000, ended=5))
    assert main.main(["backup", "now", "main"]) == 0
    ending.join()
    assert cli.did == [(MAIN, "Backup", ())]
    assert capsys.readouterr().out == "main: newest archive is of 2027-01-15 08:00:00 UTC\n"


def test_a_backup_that_fails_says_why(cli: Served, capsys: pytest.CaptureFixture[str]) -> None:
    ending = Backing(cli, UnitState("failed", "failed", "no space left", 5), Copies())
    assert main.main(["backup", "now", "main"]) == 1
    ending.join()
    said = capsys.readouterr().err
    assert "main: no space left" in said
    assert "journalctl -u validator-backup@main.service" in said


def test_a_typo_leads_to_the_nearest(cli: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["start", "mian", "main"]) == 1
    assert capsys.readouterr() == (
        "",
        "validator-supervisor: there is no validator mian\n  → did you mean main?\n",
    )
    assert cli.did == [(MAIN, "Start", ())]


def halted(cli: Served, reason: str) -> None:
    cli.objects[MAIN]["org.validatorsupervisor1.Validator"]["HaltReason"] = reason


def test_resume_shows_why_and_clears(cli: Served, capsys: pytest.CaptureFixture[str]) -> None:
    halted(cli, "doppelganger: seen in epoch 7")
    assert main.main(["resume", "main", "--yes"]) == 0
    assert cli.did == [(MAIN, "Resume", ())]
    assert capsys.readouterr().out == (
        "main is halted: doppelganger: seen in epoch 7\n"
        "main is halted no longer: `validator-supervisor start main` starts it\n"
    )


def test_resume_after_a_move_says_what_goes_on(
    cli: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    halted(cli, "moved: to another host")
    asked = []

    def typed(name: str, option: str) -> None:
        asked.append((name, option))
        raise SupervisorError("NotConfirmed", "main was not typed: nothing is changed")

    monkeypatch.setattr(confirm, "typed", typed)
    assert main.main(["resume", "main"]) == 1
    assert "`validator-supervisor take-over main` goes on" in capsys.readouterr().out
    assert asked == [("main", "--yes")]
    assert cli.did == []


@pytest.mark.parametrize(
    ("name", "words"), [("main", "main is not halted"), ("mian", "there is no validator mian")]
)
def test_only_what_is_halted_resumes(
    cli: Served, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    assert main.main(["resume", name, "--yes"]) == 1
    assert words in capsys.readouterr().err
    assert cli.did == []


class Watching:
    """`status --watch` in a process of its own, with its lines as they come."""

    def __init__(self, *options: str) -> None:
        argv = [sys.executable, "-m", "validator_supervisor", "status", "--watch", *options]
        self.process = subprocess.Popen(
            argv, cwd=TREE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        return self._lines.get(timeout=10)

    def state(self, name: str = "main") -> object:
        (mine,) = [v for v in json.loads(self.line())["validators"] if v["Name"] == name]
        return mine["ActiveState"]

    def quiet(self, seconds: float = 1) -> bool:
        with contextlib.suppress(queue.Empty):
            self._lines.get(timeout=seconds)
            return False
        return True

    def said(self, words: str) -> None:
        assert self.process.stderr
        assert self.process.stderr.readline() == f"validator-supervisor: {words}\n"

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def watching(cli: Served) -> Iterator[Watching]:
    del cli
    made = Watching("--json")
    yield made
    made.process.kill()
    made.process.communicate()


def test_a_change_is_one_line(cli: Served, watching: Watching) -> None:
    assert watching.state() == "inactive"
    started = time.monotonic()
    cli.become(bus.objects(main=UnitState("active", "running")))
    assert watching.state() == "active"
    assert time.monotonic() - started < 1
    # Nothing is asked or said while nothing changes.
    assert watching.quiet()
    assert watching.end(signal.SIGINT) == 0
    assert watching.process.stderr
    assert watching.process.stderr.read() == ""


def test_many_changes_are_few_lines_and_the_last_counts(cli: Served, watching: Watching) -> None:
    assert watching.state() == "inactive"
    started = time.monotonic()
    for number in range(200):
        cli.become(bus.objects(main=UnitState("activating", str(number))))
    cli.become(bus.objects(main=UnitState("active", "running")))
    count = 1
    while watching.state() != "active":
        count += 1
    assert count <= 2 + (time.monotonic() - started) / live.PAUSE
    assert watching.end(signal.SIGTERM) == -signal.SIGTERM


def test_another_controller_is_waited_for(cli: Served, watching: Watching) -> None:
    assert watching.state() == "inactive"
    cli.stop()
    watching.said(live.WAITING)
    assert watching.quiet(0.3)
    again = Served(cli.address)
    try:
        # It has the same to say, and then something else.
        again.become(bus.objects(main=UnitState("active", "running")))
        assert watching.state() == "active"
        assert watching.end(signal.SIGINT) == 0
    finally:
        again.stop()


def test_the_end_of_the_reader_is_its_end(cli: Served) -> None:
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "validator_supervisor", "status", "--watch"]
    with subprocess.Popen(argv, cwd=TREE, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        assert os.read(reading, 4096).startswith(b"validator-supervisor ")
        os.close(reading)
        # Nothing changes: it is not a write that tells.
        assert process.wait(10) == 1
        assert process.stderr
        assert process.stderr.read() == b""
    assert cli.did == []
