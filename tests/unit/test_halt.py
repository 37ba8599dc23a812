"""The latch: whatever has been planted in directories of others, it is made there or nowhere."""

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import durable, halt, journal, stopped
from validator_supervisor.applied import Applied
from validator_supervisor.bus import manager
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.halt import REASON_MAX, SIZE_MAX, Halt
from validator_supervisor.units import IDENTITY_UNIT, TARGET, state_unit, validator_unit

UNIT, STATE = validator_unit("main"), state_unit("main")

MOVED = Halt("moved", "the newest archive is another host's")


@pytest.fixture
def halted(tmp_path: Path) -> Path:
    (tmp_path / "controller" / "halted").mkdir(parents=True)
    return tmp_path / "controller" / "halted"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@given(st.binary(max_size=SIZE_MAX + 100))
def test_whatever_is_in_a_file_it_is_a_halt(raw: bytes) -> None:
    found = halt.parse(raw)
    assert halt.CODE.fullmatch(found.code)
    assert 0 < len(found.reason) <= REASON_MAX
    assert journal.printable(found.reason) == found.reason


@given(st.text(max_size=2 * REASON_MAX))
def test_a_reason_is_one_line(reason: str) -> None:
    assert halt.text("moved", reason).count(b"\n") == 2
    assert halt.parse(halt.text("moved", reason)).code == "moved"


def test_what_a_job_asks_for_is_taken_once(runtime: Path) -> None:
    assert halt.request(runtime, *vars(MOVED).values()) == HALT
    assert halt.requested(str(runtime), "78") == MOVED
    assert halt.requested(str(runtime), "0") is None


def test_the_status_alone_halts_and_so_does_the_file(runtime: Path) -> None:
    found = halt.requested(str(runtime), "78")
    assert found
    assert found.code == "unknown"
    assert halt.requested(str(runtime), "1") is None
    assert halt.requested("", "KILL") is None
    assert halt.requested(f"{runtime}/gone:{runtime}", "") is None
    halt.request(runtime, "chain", "another genesis")
    assert halt.requested(f"{runtime}/gone:{runtime}", "KILL") == Halt("chain", "another genesis")


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "socket", "hard"])
def test_what_is_no_plain_file_halts_and_is_not_read(runtime: Path, kind: str) -> None:
    secret, file = runtime.parent / "secret", runtime / "halt"
    secret.write_text("moved\nsecret")
    if kind == "link":
        file.symlink_to(secret)
    elif kind == "dangling":
        file.symlink_to("/nowhere")
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind == "hard":
        file.hardlink_to(secret)
    else:
        socket.socket(socket.AF_UNIX).bind(str(file))
    found = halt.requested(str(runtime), "0")
    assert found == Halt("unknown", "what says why is no plain file")
    assert secret.read_text() == "moved\nsecret"


def test_a_huge_file_is_cut(runtime: Path) -> None:
    with (runtime / "halt").open("wb") as file:
        file.write(b"moved\n")
        file.truncate(1 << 40)
    found = halt.requested(str(runtime), "0")
    assert found
    assert found.code == "moved"
    assert len(found.reason) <= REASON_MAX


def test_a_link_on_the_way_is_not_followed(runtime: Path) -> None:
    (runtime / "real").mkdir()
    halt.request(runtime / "real", "moved", "x")
    (runtime / "link").symlink_to("real")
    assert halt.requested(str(runtime / "link"), "0") is None
    assert (runtime / "real" / "halt").exists()


def test_the_first_reason_counts(halted: Path) -> None:
    assert halt.latch("main", MOVED.code, MOVED.reason, halted)
    assert not halt.latch("main", "chain", "other", halted)
    assert halt.current("main", halted) == MOVED
    assert halt.reason("main", halted) == "moved: the newest archive is another host's"
    assert (halted / "main").stat().st_mode & 0o777 == 0o644
    halt.clear("main", halted)
    assert halt.current("main", halted) is None
    assert halt.reason("main", halted) == ""
    with pytest.raises(SupervisorError, match="main is not halted"):
        halt.clear("main", halted)


def test_the_directory_is_made_where_it_is_missing(halted: Path) -> None:
    halted.rmdir()
    assert halt.latch("main", "moved", "x", halted)
    assert halt.current("main", halted)
    assert halted.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("planted", ["directory", "file", "latch", "temporary"])
def test_no_link_of_the_controllers_is_followed(halted: Path, planted: str) -> None:
    outside = halted.parent.parent / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    if planted == "directory":
        halted.rmdir()
        halted.symlink_to(outside)
    elif planted == "file":
        halted.rmdir()
        halted.symlink_to(outside / "victim")
    elif planted == "latch":
        (halted / "main").symlink_to(outside / "victim")
    else:
        (halted / f".main.{os.getpid()}.new").symlink_to(outside / "victim")
    assert halt.latch("main", "moved", "x", halted)
    assert halt.current("main", halted) == Halt("moved", "x")
    assert not (halted / "main").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


def test_a_directory_in_its_place_keeps_the_unit_down_and_says_so(halted: Path) -> None:
    (halted / "main").mkdir()
    assert not halt.latch("main", "moved", "x", halted)
    assert halt.reason("main", halted) == "unknown: what says why is no plain file"


def test_without_room_for_the_reason_there_is_a_latch(
    halted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        del given
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_at", full)
    assert halt.latch("main", "moved", "x", halted)
    assert halt.current("main", halted) == Halt("unknown", "no reason was given")


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    (tmp_path / "requests").mkdir()
    return tmp_path / "requests"


def test_requests_of_the_watch_are_plain_files_that_say_slashed(requests: Path) -> None:
    outside = requests.parent / "outside"
    outside.write_bytes(halt.text("slashed", "x"))
    for name, raw in {
        "main": halt.text("slashed", "key 0xab"), "huge": halt.text("slashed", "x") + bytes(10_000),
        "moved": halt.text("moved", "x"), "empty": b"", "odd": b"\xff\xfe", "bare": b"slashed",
        "Upper": halt.text("slashed", "x"), "a b": halt.text("slashed", "x"),
        "a" * 21: halt.text("slashed", "x"), "main\n": halt.text("slashed", "x"),
        ".main.new": halt.text("slashed", "x"),
    }.items():  # fmt: skip
        (requests / name).write_bytes(raw)
    (requests / "link").symlink_to(outside)
    (requests / "hard").hardlink_to(outside)
    (requests / "directory").mkdir()
    os.mkfifo(requests / "fifo")
    Path(os.fsdecode(bytes(requests) + b"/\xff")).write_bytes(halt.text("slashed", "x"))
    found = dict(halt.requests(requests))
    assert ".main.new" not in found
    assert found.keys() == {path.name for path in requests.iterdir()} - {".main.new"}
    assert {name: asked for name, asked in found.items() if asked} == {
        "main": Halt("slashed", "key 0xab"),
        "huge": Halt("slashed", "x"),
        "bare": Halt("slashed", "slashed"),
    }
    for name in found:
        assert halt.remove(name, requests)
        assert halt.remove(name, requests)
    assert [path.name for path in requests.iterdir()] == [".main.new"]
    assert outside.read_bytes() == halt.text("slashed", "x")


def test_what_cannot_be_removed_is_said(requests: Path) -> None:
    (requests / "main" / "in").mkdir(parents=True)
    assert not halt.remove("main", requests)
    assert halt.requests(requests) == [("main", None)]


def test_no_link_leads_to_requests(requests: Path) -> None:
    (requests / "main").write_bytes(halt.text("slashed", "x"))
    (requests.parent / "link").symlink_to(requests)
    assert halt.requests(requests.parent / "link") == []
    assert halt.requests(requests.parent / "none") == []
    assert not halt.remove("main", requests.parent / "link")
    assert (requests / "main").exists()


@given(st.binary(max_size=60))
def test_any_request_halts_as_slashed_or_not_at_all(requests: Path, raw: bytes) -> None:
    (requests / "main").write_bytes(raw)
    ((_, asked),) = halt.requests(requests)
    assert asked is None or (asked.code == "slashed" and asked.reason.isprintable())
    assert bool(asked) == (raw.split(b"\n")[0] == b"slashed")


Helper = Callable[[str], ModuleType]


class Systemd:
    """systemd as far as a halt knows it."""

    def __init__(self) -> None:
        self.states = {TARGET: "active", UNIT: "deactivating"}
        self.jobs = {UNIT: "stop"}
        self.asked: list[str] = []

    def active(self, unit: str) -> str:
        return self.states.get(unit, "inactive")

    def job(self, unit: str) -> str:
        return self.jobs.get(unit, "")

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")


@pytest.mark.parametrize("unit", ["validator@a/b.service", "x@main.service", "", "validator@.."])
def test_the_helper_leaves_other_units_alone(helper: Helper, unit: str) -> None:
    assert helper("halt").main(unit) == 0


@pytest.fixture
def ended(
    helper: Helper, runtime: Path, halted: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Systemd]:
    def end(unit: str = UNIT, status: str = "0", result: str = "success", **s: object) -> Systemd:
        systemd = Systemd()
        vars(systemd).update(s)
        monkeypatch.setattr(manager, "Systemd", lambda: systemd)
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
        monkeypatch.setenv("EXIT_STATUS", status)
        monkeypatch.setenv("SERVICE_RESULT", result)
        assert helper("halt").main(unit) == 0
        return systemd

    for function in ("latch", "current"):
        monkeypatch.setattr(halt, function, partial(getattr(halt, function), halted=halted))
    remember = partial(stopped.remember, directory=halted.parent / "s")
    monkeypatch.setattr(stopped, "remember", remember)
    return end


def test_a_halt_latches_and_stops_validator_and_keys(
    ended: Callable[..., Systemd], runtime: Path, halted: Path
) -> None:
    for unit in (UNIT, STATE, "validator-backup@main.service"):
        halt.request(runtime, "moved", "x")
        assert ended(unit, "78", "exit-code").asked == [f"stop {UNIT}", f"stop {STATE}"]
    assert (halted / "main").read_text() == "moved\nx\n"


def test_units_are_stopped_where_no_latch_can_be_made(
    ended: Callable[..., Systemd], halted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halted.rmdir()
    halted.parent.rmdir()
    halted.parent.write_text("")
    assert ended(status="78").asked == [f"stop {UNIT}", f"stop {STATE}"]
    assert "cannot be latched" in capsys.readouterr().err


@pytest.fixture
def carry_out(
    helper: Helper, requests: Path, halted: Path, make: Callable[[str], Applied],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], tuple[int, Systemd]]:  # fmt: skip
    """Runs the helper as validator-halt.service does, with the validators main and second."""
    monkeypatch.setattr(halt.requests, "__defaults__", (requests,))
    monkeypatch.setattr(halt.remove, "__defaults__", (requests,))
    monkeypatch.setattr(halt.latch, "__defaults__", (halted,))
    words = "{kind: command, command: [/usr/bin/foo]}"
    applied = make(f"version: 1\nvalidators: {{main: {words}, second: {words}}}\n")
    monkeypatch.setattr(Applied, "load", lambda: applied)

    def run() -> tuple[int, Systemd]:
        systemd = Systemd()
        monkeypatch.setattr(manager, "Systemd", lambda: systemd)
        return helper("halt").requested(), systemd

    return run


CarryOut = Callable[[], tuple[int, Systemd]]


def ask(requests: Path, *names: str) -> None:
    for name in names:
        (requests / name).write_bytes(halt.text("slashed", f"key of {name}"))


def test_what_the_watch_asks_for_is_done(carry_out: CarryOut, requests: Path, halted: Path) -> None:
    ask(requests, "main", "second")
    status, systemd = carry_out()
    assert status == 0
    assert systemd.asked == [
        f"stop {unit(name)}" for name in ("main", "second") for unit in (validator_unit, state_unit)
    ]
    assert (halted / "main").read_text() == "slashed\nkey of main\n"
    assert (halted / "second").read_text() == "slashed\nkey of second\n"
    assert list(requests.iterdir()) == []
    # Once more, of one that is halted already: it stops, and keeps its reason.
    (requests / "main").write_bytes(halt.text("slashed", "other"))
    status, systemd = carry_out()
    assert (status, len(systemd.asked)) == (0, 2)
    assert (halted / "main").read_text() == "slashed\nkey of main\n"
    assert carry_out()[0] == 0


def test_a_latch_is_there_before_a_request_is_gone(
    carry_out: CarryOut, requests: Path, halted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []

    def remove(name: str) -> bool:
        assert (halted / name).exists()
        removed.append(name)
        return True

    monkeypatch.setattr(halt, "remove", remove)
    ask(requests, "main")
    assert carry_out()[0] == 0
    assert removed == ["main"]


def test_who_is_not_configured_is_not_latched(
    carry_out: CarryOut, requests: Path, halted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(requests, "nobody", "main")
    (requests / "odd").symlink_to("/etc/passwd")
    status, systemd = carry_out()
    assert (status, len(systemd.asked)) == (0, 2)
    assert [path.name for path in halted.iterdir()] == ["main"]
    assert list(requests.iterdir()) == []
    assert "2 things in" in capsys.readouterr().err


def test_a_damaged_configuration_is_no_reason_to_go_on(
    carry_out: CarryOut, requests: Path, halted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> Applied:
        raise SupervisorError("NotApplied", "is damaged")

    monkeypatch.setattr(Applied, "load", damaged)
    ask(requests, "main", "Odd")
    assert carry_out()[0] == 0
    assert [path.name for path in halted.iterdir()] == ["main"]


def test_what_is_left_is_for_another_run(
    carry_out: CarryOut, requests: Path, halted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (requests / "a" / "in").mkdir(parents=True)
    ask(requests, "main", "second")

    def refuses(systemd: Systemd, unit: str) -> None:
        if unit == UNIT:
            raise SupervisorError("SystemdRefused", "no bus")
        systemd.asked.append(unit)

    with monkeypatch.context() as patched:
        patched.setattr(Systemd, "stop", refuses)
        status, systemd = carry_out()
    # One that fails keeps none of the others waiting.
    assert status == TEMPORARY
    assert systemd.asked == [validator_unit("second"), state_unit("second")]
    assert sorted(path.name for path in halted.iterdir()) == ["main", "second"]
    assert sorted(path.name for path in requests.iterdir()) == ["a", "main"]
    assert carry_out()[0] == TEMPORARY
    (requests / "a" / "in").rmdir()
    assert carry_out()[0] == 0
    assert list(requests.iterdir()) == []


def test_what_cannot_be_latched_is_stopped_and_asked_for_again(
    carry_out: CarryOut, requests: Path, halted: Path
) -> None:
    halted.rmdir()
    halted.parent.rmdir()
    halted.parent.write_text("")
    ask(requests, "main")
    status, systemd = carry_out()
    assert (status, len(systemd.asked)) == (TEMPORARY, 2)
    assert (requests / "main").exists()


DOWN = {TARGET: "active", UNIT: "inactive"}


@pytest.mark.parametrize(
    ("unit", "result", "states", "jobs", "person"),
    [
        (UNIT, "success", None, {UNIT: "stop"}, True),
        (UNIT, "success", None, {UNIT: "restart"}, False),
        # It has ended by itself, or crashed: Restart= follows.
        (UNIT, "success", None, {}, False),
        (UNIT, "signal", None, {}, False),
        # Locked.
        (UNIT, "success", None, {UNIT: "stop", IDENTITY_UNIT: "stop"}, False),
        (UNIT, "success", None, {UNIT: "stop", IDENTITY_UNIT: "restart"}, False),
        # The target, or the machine.
        (UNIT, "success", None, {UNIT: "stop", TARGET: "stop"}, False),
        (UNIT, "success", {UNIT: "deactivating"}, {UNIT: "stop"}, False),
        # Stopped while it was waiting for its restart: only its state has an end to tell of.
        (STATE, "success", DOWN, {STATE: "stop"}, True),
        (STATE, "success", DOWN, {STATE: "stop", IDENTITY_UNIT: "stop"}, False),
        (STATE, "exit-code", DOWN, {}, False),
        (STATE, "success", DOWN, {UNIT: "start"}, False),
    ],
)
def test_who_has_stopped_it(
    ended: Callable[..., Systemd],
    halted: Path,
    unit: str,
    result: str,
    states: dict[str, str] | None,
    jobs: dict[str, str],
    person: bool,
) -> None:
    flag = halted.parent / "s" / "main"
    for before in (True, False):
        stopped.remember("main", stopped=before)
        ended(unit, "0", result, jobs=jobs, **({"states": states} if states else {}))
        # Of its state, which ends later, nothing takes back that a person has stopped it.
        assert flag.exists() is (person or (unit == STATE and before))


def test_a_client_that_fails_as_it_is_stopped_was_stopped_all_the_same(
    ended: Callable[..., Systemd], halted: Path
) -> None:
    ended(UNIT, "1", "exit-code", jobs={UNIT: "stop"})
    assert (halted.parent / "s" / "main").exists()


def test_a_backup_does_not_say_who_has_stopped_the_validator(
    ended: Callable[..., Systemd], halted: Path
) -> None:
    stopped.remember("main", stopped=True)
    ended("validator-backup@main.service", "1", "exit-code")
    assert stopped.stopped("main", halted.parent / "s")


def test_a_halt_is_no_stop_by_a_person(ended: Callable[..., Systemd], halted: Path) -> None:
    halt.latch("main", "moved", "x")
    ended(STATE, states=DOWN, jobs={})
    assert not (halted.parent / "s" / "main").exists()
