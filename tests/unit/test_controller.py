import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jeepney.fds import FileDescriptor

from validator_supervisor import durable, duties, halt, identity, overrides, watch
from validator_supervisor.applied import Applied
from validator_supervisor.bus import controller
from validator_supervisor.bus.controller import Controller
from validator_supervisor.bus.interface import MANAGER, NODE, VALIDATOR
from validator_supervisor.bus.model import APPLY, IDENTITY, OVERRIDE, UnitState
from validator_supervisor.bus.offer import Offer
from validator_supervisor.duties import Duties
from validator_supervisor.errors import SupervisorError
from validator_supervisor.overrides import Override
from validator_supervisor.validators import Release
from validator_supervisor.watch import Reading

ROOT = "/org/validatorsupervisor1"
MAIN, HELSINKI = f"{ROOT}/validator/main", f"{ROOT}/node/helsinki"
BACKUP = "validator-backup@main.service"
TUNNEL, UNIT = "validator-tunnel@helsinki.service", "validator@main.service"


class Systemd:
    """systemd as far as the controller knows it."""

    def __init__(self) -> None:
        self.states: dict[str, UnitState] = {}
        self.jobs: dict[str, str] = {}
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

    def job(self, unit: str) -> str:
        return self.jobs.get(unit, "")

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
def offer(tmp_path: Path) -> Offer:
    return Offer(tmp_path / "unlock")


@pytest.fixture
def made(
    systemd: Systemd,
    offer: Offer,
    example: Applied,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Controller:
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(controller, "RUNTIME", tmp_path)
    monkeypatch.setattr(halt, "HALTED", tmp_path / "halted")
    current = overrides.current
    monkeypatch.setattr(overrides, "FILE", tmp_path / "overrides.yaml")
    monkeypatch.setattr(overrides, "current", lambda: current(tmp_path / "overrides.yaml"))
    results = tmp_path / "results.json"
    monkeypatch.setattr(watch, "RESULTS", results)
    readings, attesting = watch.readings, watch.attesting
    monkeypatch.setattr(watch, "readings", lambda: readings(results))
    monkeypatch.setattr(watch, "attesting", lambda: attesting(results))
    read = duties.read
    monkeypatch.setattr(duties, "read", lambda: read(results))
    return Controller(systemd, offer)  # type: ignore[arg-type]


def test_a_backup_is_started_where_it_can_do_something(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    with pytest.raises(SupervisorError, match="the identity is locked"):
        made.act(MAIN, "Backup", ())
    systemd.states[IDENTITY] = UnitState("active")
    systemd.asked.clear()
    assert made.act(MAIN, "Backup", ()) == (BACKUP,)
    assert systemd.asked == [f"start {BACKUP}"]
    with pytest.raises(SupervisorError, match="has no archives"):
        made.act(f"{ROOT}/validator/hub", "Backup", ())


def test_every_unit_is_watched(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    assert sorted(systemd.watched) == [
        "validator-apply.service", BACKUP, "validator-drill.service", IDENTITY,
        "validator-override.service", "validator-state@main.service", TUNNEL,
        "validator-watch.service", "validator@hub.service", UNIT, "validator@other.service",
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
    due = {"main": Duties(1, (5,), 0, 5_000_000, 0, 9_000_000)}
    (tmp_path / "results.json").write_bytes(watch.dump({url: Reading(url, True, "")}, {}, due))
    (tmp_path / "main").mkdir()
    run = {"node": "helsinki", "public_keys": ["0x" + "ab" * 48]}
    (tmp_path / "main/run.json").write_text(json.dumps(run))
    found = made.refresh()
    assert found[MAIN][VALIDATOR.name]["ConnectedNode"] == "helsinki"
    assert found[MAIN][VALIDATOR.name]["NextProposalUSec"] == 5_000_000
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
    monkeypatch.setattr(Applied, "load", lambda: make("version: 1\nnodes: {a: {}}"))
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

    monkeypatch.setattr(Applied, "load", damaged)
    systemd.reloaded()
    after = made.refresh()
    manager = after[ROOT].pop(MANAGER.name)
    assert manager["ApplyProblem"] == "is damaged"
    assert manager["Healthy"] is False
    before[ROOT].pop(MANAGER.name)
    assert after == before
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


def test_a_start_that_waits_is_stopped(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    systemd.states[UNIT] = UnitState("inactive")
    systemd.jobs[UNIT] = "start"
    assert made.act(MAIN, "Stop", ()) == (True,)
    assert systemd.asked == [f"stop {UNIT}"]


def test_reconnect_and_reload(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    assert made.act(HELSINKI, "Reconnect", ()) == ()
    assert made.act(ROOT, "Reload", ()) == ()
    assert systemd.asked == [f"restart {TUNNEL}", "start validator-apply.service"]
    with pytest.raises(SupervisorError, match="node local is this host"):
        made.act(f"{ROOT}/node/local", "Reconnect", ())


def test_restart(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    for state in ("active", "inactive", "failed"):
        systemd.states[UNIT] = UnitState(state)
        assert made.act(MAIN, "Restart", ()) == ()
    assert systemd.asked == [f"restart {UNIT}"] * 3


def test_a_preferred_node_is_written_down_and_put_into_effect(
    made: Controller, systemd: Systemd, tmp_path: Path
) -> None:
    made.refresh()
    path = tmp_path / "overrides.yaml"
    assert made.act(MAIN, "Prefer", ("local",)) == ()
    assert overrides.current() == {"main": Override(prefer="local")}
    assert path.stat().st_mode & 0o777 == 0o644
    assert systemd.asked == [f"start {OVERRIDE}"]
    assert made.act(MAIN, "Prefer", ("",)) == ()
    assert overrides.current() == {}
    # The file says so, rather than being gone.
    assert json.loads(path.read_text()) == {"version": 1, "validators": {}}
    assert systemd.asked == [f"start {OVERRIDE}"] * 2


@pytest.mark.parametrize(
    ("path", "node", "hint"),
    [
        (MAIN, "none", "its nodes: helsinki, local"),
        (MAIN, "../x", "its nodes: helsinki, local"),
        (MAIN, "LOCAL", "its nodes: helsinki, local"),
        (f"{ROOT}/validator/other", "local", "its nodes: none"),
        (f"{ROOT}/validator/hub", "local", "its nodes: none"),
    ],
)
def test_an_unknown_node_is_not_preferred(
    made: Controller, systemd: Systemd, tmp_path: Path, path: str, node: str, hint: str
) -> None:
    made.refresh()
    with pytest.raises(SupervisorError) as caught:
        made.act(path, "Prefer", (node,))
    assert (caught.value.code, caught.value.hint) == ("UnknownNode", hint)
    assert systemd.asked == []
    assert not (tmp_path / "overrides.yaml").exists()


def test_enabled_as_configured_is_no_override(made: Controller) -> None:
    made.refresh()
    other = f"{ROOT}/validator/other"
    for path, configured in ((MAIN, True), (other, False)):
        name = path.rpartition("/")[2]
        assert made.act(path, "SetEnabled", (not configured,)) == ()
        assert overrides.current() == {name: Override(enabled=not configured)}
        assert made.act(path, "SetEnabled", (configured,)) == ()
        assert overrides.current() == {}
        assert made.act(path, "SetEnabled", (configured,)) == ()
        assert overrides.current() == {}


def test_what_counts_is_what_is_configured_not_what_is_in_effect(
    made: Controller,
    systemd: Systemd,
    example: Applied,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disabled = replace(example, overrides={"main": Override(enabled=False)})
    monkeypatch.setattr(Applied, "load", lambda: disabled)
    systemd.reloaded()
    made.refresh()
    made.act(MAIN, "SetEnabled", (False,))
    assert overrides.current() == {"main": Override(enabled=False)}
    made.act(MAIN, "SetEnabled", (True,))
    assert overrides.current() == {}


def test_one_override_leaves_the_others(made: Controller) -> None:
    made.refresh()
    made.act(MAIN, "Prefer", ("local",))
    made.act(f"{ROOT}/validator/other", "SetEnabled", (True,))
    made.act(MAIN, "SetEnabled", (False,))
    assert overrides.current() == {
        "main": Override(enabled=False, prefer="local"),
        "other": Override(enabled=True),
    }
    made.act(MAIN, "Prefer", ("",))
    assert overrides.current()["main"] == Override(enabled=False)


@pytest.mark.parametrize(("method", "value"), [("SetEnabled", False), ("Prefer", "local")])
@pytest.mark.parametrize(
    "raw", [b"{", b"\xff", b"[]", b'{"version": 2}', b'{"version": 1, "validators": {"x": 5}}']
)
def test_damaged_overrides_are_replaced_by_those_in_effect(
    made: Controller, systemd: Systemd, tmp_path: Path, raw: bytes, method: str, value: object
) -> None:
    made.refresh()
    (tmp_path / "overrides.yaml").write_bytes(raw)
    made.act(MAIN, method, (value,))
    assert list(overrides.current()) == ["main"]
    assert systemd.asked == [f"start {OVERRIDE}"]


def test_what_a_crash_has_left_is_put_into_effect(
    made: Controller, systemd: Systemd, tmp_path: Path
) -> None:
    left = {"main": Override(enabled=False), "gone": Override(enabled=True)}
    (tmp_path / "overrides.yaml").write_bytes(overrides.text(left))
    made.refresh()
    assert systemd.asked == [f"start {OVERRIDE}"]
    made.act(f"{ROOT}/validator/other", "SetEnabled", (True,))
    # What fits nothing is forgotten, so that it does not come back with a validator of its name.
    assert overrides.current() == {"main": left["main"], "other": Override(enabled=True)}


def test_overrides_are_written_durably(
    made: Controller, systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.refresh()
    wrote: list[tuple[Path, int]] = []
    monkeypatch.setattr(durable, "write", lambda path, _, mode: wrote.append((path, mode)))
    made.act(MAIN, "Prefer", ("local",))
    assert wrote == [(tmp_path / "overrides.yaml", 0o644)]

    def full(path: Path, data: bytes, mode: int) -> None:
        del path, data, mode
        raise OSError(errno.ENOSPC, "No space left on device")

    systemd.asked.clear()
    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(SupervisorError, match=r"overrides\.yaml: No space left") as caught:
        made.act(MAIN, "Prefer", ("local",))
    assert caught.value.code == "NotWritten"
    assert systemd.asked == []


@pytest.mark.parametrize(
    ("path", "method", "arguments", "unit"),
    [
        (ROOT, "Reload", (), APPLY),
        (MAIN, "Prefer", ("local",), OVERRIDE),
        (MAIN, "SetEnabled", (False,), OVERRIDE),
    ],
)
def test_what_is_at_work_already_runs_once_more_and_exactly_once(
    made: Controller,
    systemd: Systemd,
    path: str,
    method: str,
    arguments: tuple[object, ...],
    unit: str,
) -> None:
    made.refresh()
    systemd.states[unit] = UnitState("activating", "start")
    systemd.changed(unit)
    made.refresh()
    # A start of a unit that is starting does nothing: it may have read the file already.
    for _ in range(3):
        made.act(path, method, arguments)
    assert systemd.asked == []
    systemd.changed(unit)
    made.refresh()
    assert systemd.asked == []
    for state in ("inactive", "failed"):
        systemd.states[unit] = UnitState(state, "dead")
        systemd.changed(unit)
        made.refresh()
        assert systemd.asked == [f"start {unit}"]
    made.refresh()
    # The next request is a new one.
    made.act(path, method, arguments)
    assert systemd.asked == [f"start {unit}"] * 2


def test_each_of_the_two_has_its_own_turn(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    systemd.states[APPLY] = systemd.states[OVERRIDE] = UnitState("activating", "start")
    made.act(ROOT, "Reload", ())
    made.act(MAIN, "Prefer", ("local",))
    systemd.states[APPLY] = UnitState()
    systemd.changed(APPLY)
    systemd.changed(OVERRIDE)
    made.refresh()
    assert systemd.asked == [f"start {APPLY}"]
    systemd.states[OVERRIDE] = UnitState("failed", "failed")
    systemd.changed(OVERRIDE)
    made.refresh()
    assert systemd.asked == [f"start {APPLY}", f"start {OVERRIDE}"]


def test_an_end_that_comes_with_a_reload_is_an_end_too(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    systemd.states[OVERRIDE] = UnitState("activating", "start")
    made.act(MAIN, "Prefer", ("local",))
    # It has run the generators, and ended.
    systemd.states[OVERRIDE] = UnitState()
    systemd.reloaded()
    systemd.changed(OVERRIDE)
    made.refresh()
    made.refresh()
    assert systemd.asked == [f"start {OVERRIDE}"]


@pytest.mark.parametrize("unit", [APPLY, OVERRIDE])
def test_a_change_that_failed_is_told(made: Controller, systemd: Systemd, unit: str) -> None:
    made.refresh()
    systemd.states[unit] = UnitState("failed", "failed", "config.yaml:4:1: x: unknown key")
    systemd.changed(unit)
    found = made.refresh()[ROOT][MANAGER.name]
    assert (found["ApplyProblem"], found["Healthy"]) == ("config.yaml:4:1: x: unknown key", False)
    systemd.states[unit] = UnitState("failed", "failed")
    systemd.changed(unit)
    assert made.refresh()[ROOT][MANAGER.name]["ApplyProblem"] == f"{unit} has failed"
    systemd.states[unit] = UnitState()
    systemd.changed(unit)
    assert made.refresh()[ROOT][MANAGER.name]["ApplyProblem"] == ""


def test_a_unit_that_waits_for_its_restart_is_looked_at_again_once(
    made: Controller, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made.refresh()
    assert made.pause is None
    systemd.states[TUNNEL] = UnitState("activating", "auto-restart")
    systemd.changed(TUNNEL)
    made.refresh()
    assert made.pause == pytest.approx(controller.LOOK_AGAIN_SECONDS)
    assert not made.stale
    now += controller.LOOK_AGAIN_SECONDS
    assert made.pause == 0
    assert made.stale
    made.refresh()
    assert made.pause is None, "however long it waits"
    assert not made.stale


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "identity.age"
    path.touch()
    monkeypatch.setattr(identity, "SEALED", path)
    return path


def descriptor() -> tuple[FileDescriptor, int]:
    """Return the end of a pipe as a message has it, and the other end."""
    reading, writing = os.pipe()
    return FileDescriptor(reading), writing


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def manager(made: Controller) -> dict[str, object]:
    return made.refresh()[ROOT][MANAGER.name]


def test_a_descriptor_is_offered_and_the_job_started(
    made: Controller, systemd: Systemd, offer: Offer, sealed: Path
) -> None:
    assert sealed.exists()
    made.refresh()
    given, _ = descriptor()
    number = given.fileno()
    assert made.act(ROOT, "UnlockFd", (given,)) == ()
    assert systemd.asked == [f"start {IDENTITY}"]
    assert offer.pending
    again, _ = descriptor()
    with pytest.raises(SupervisorError, match="another unlock"):
        made.act(ROOT, "UnlockFd", (again,))
    assert again.fileno() >= 0, "taken, although it was refused"
    systemd.states[IDENTITY] = UnitState("activating")
    systemd.changed(IDENTITY)
    assert (manager(made)["Locked"], offer.pending) == (True, True)
    systemd.states[IDENTITY] = UnitState("deactivating")
    systemd.changed(IDENTITY)
    assert manager(made)["Locked"] is True
    systemd.states[IDENTITY] = UnitState("failed", status="wrong")
    systemd.changed(IDENTITY)
    assert manager(made)["UnlockProblem"] == "wrong"
    assert not offer.pending
    assert not is_open(number)


@pytest.mark.parametrize("seen", [True, False])
def test_a_question_is_answered_and_a_person_may_be_quicker(
    made: Controller, systemd: Systemd, offer: Offer, sealed: Path, seen: bool
) -> None:
    assert sealed.exists()
    systemd.states[IDENTITY] = UnitState("activating")
    if seen:
        systemd.changed(IDENTITY)
    made.refresh()
    given, _ = descriptor()
    number = given.fileno()
    made.act(ROOT, "UnlockFd", (given,))
    made.refresh()
    assert offer.pending
    with pytest.raises(SupervisorError, match="another unlock"):
        made.act(ROOT, "UnlockFd", descriptor()[:1])
    # What nobody has taken is not kept for the next unlock.
    systemd.states[IDENTITY] = UnitState("active")
    systemd.changed(IDENTITY)
    assert manager(made)["Locked"] is False
    assert (offer.pending, is_open(number), made.pause) == (False, False, None)
    assert manager(made)["UnlockProblem"] == ""


def test_what_is_unlocked_stays_so_until_it_is_gone(
    made: Controller, systemd: Systemd, sealed: Path
) -> None:
    assert sealed.exists()
    for active, locked in (("active", False), ("deactivating", False), ("inactive", True)):
        systemd.states[IDENTITY] = UnitState(active)
        systemd.changed(IDENTITY)
        assert manager(made)["Locked"] is locked
    systemd.states[IDENTITY] = UnitState("active")
    with pytest.raises(SupervisorError, match="unlocked already"):
        made.act(ROOT, "UnlockFd", descriptor()[:1])


def test_a_job_that_does_not_begin_is_told(
    made: Controller, offer: Offer, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sealed.exists()
    made.refresh()
    made.act(ROOT, "UnlockFd", descriptor()[:1])
    assert made.pause
    later = time.monotonic() + 16
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert made.stale
    assert "does not start" in str(manager(made)["UnlockProblem"])
    assert not offer.pending
    assert made.pause is None


def test_an_offer_ends_with_its_time_and_with_lock(
    made: Controller, systemd: Systemd, offer: Offer, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.refresh()
    made.act(ROOT, "UnlockFd", descriptor()[:1])
    made.act(ROOT, "Lock", ())
    assert systemd.asked == [f"start {IDENTITY}", f"stop {IDENTITY}"]
    assert not offer.pending
    made.act(ROOT, "UnlockFd", descriptor()[:1])
    systemd.states[IDENTITY] = UnitState("activating")
    systemd.changed(IDENTITY)
    made.refresh()
    later = time.monotonic() + 331
    monkeypatch.setattr(time, "monotonic", lambda: later)
    manager(made)
    assert not offer.pending
    sealed.unlink()
    systemd.states[IDENTITY] = UnitState()
    with pytest.raises(SupervisorError) as refused:
        made.act(ROOT, "UnlockFd", descriptor()[:1])
    assert refused.value.code == "NoIdentity"


@pytest.mark.parametrize(
    ("code", "way"),
    [("retired", halt.RETIRED_HINT), ("slashed", "validator-supervisor resume main")],
)
def test_a_halt_says_what_goes_on(made: Controller, tmp_path: Path, code: str, way: str) -> None:
    made.refresh()
    halt.latch("main", code, "a reason", tmp_path / "halted")
    with pytest.raises(SupervisorError, match=f"main is halted: {code}") as refused:
        made.act(MAIN, "Start", ())
    assert refused.value.hint.endswith(way)


def test_a_halt_refuses_starts_until_it_is_cleared(
    made: Controller, systemd: Systemd, tmp_path: Path
) -> None:
    made.refresh()
    halt.latch("main", "moved", "to another host", tmp_path / "halted")
    assert made.stale
    found = made.refresh()
    assert found[MAIN][VALIDATOR.name]["HaltReason"] == "moved: to another host"
    for method in ("Start", "Restart"):
        with pytest.raises(SupervisorError, match="main is halted: moved: to another") as refused:
            made.act(MAIN, method, ())
        assert refused.value.code == "Halted"
    assert made.act(MAIN, "Resume", ()) == ()
    assert made.stale
    assert made.refresh()[MAIN][VALIDATOR.name]["HaltReason"] == ""
    with pytest.raises(SupervisorError, match="main is not halted"):
        made.act(MAIN, "Resume", ())
    assert systemd.asked == []
    assert made.act(MAIN, "Start", ()) == (True,)


def test_a_release_that_cannot_go_by_the_certificate_is_refused(
    made: Controller,
    systemd: Systemd,
    offer: Offer,
    make: Callable[[str], Applied],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = "keys: {web3signer: https://signer, certificate: /etc/ca.pem}"
    monkeypatch.setattr(Applied, "load", lambda: make(text.replace("keys: local", keys)))
    made = Controller(systemd, offer)  # type: ignore[arg-type]
    made.refresh()
    with pytest.raises(SupervisorError, match="certificate") as refused:
        made.act(MAIN, "SetRelease", ("teku", "26.10.0", "ab" * 32))
    assert refused.value.code == "InvalidRelease"
    assert overrides.current() == {}


def test_a_release_is_an_override(made: Controller, systemd: Systemd) -> None:
    made.refresh()
    systemd.asked.clear()
    digest = "ab" * 32
    assert made.act(MAIN, "SetRelease", ("teku", "26.10.0", digest)) == ()
    wanted = Release(client="teku", version="26.10.0", sha256=digest)
    assert overrides.current() == {"main": Override(release=wanted)}
    assert systemd.asked == [f"start {OVERRIDE}"]
    made.act(MAIN, "SetRelease", ("", "", ""))
    assert overrides.current() == {}


@pytest.mark.parametrize(
    "words",
    [
        ("geth", "v1", "ab" * 32), ("teku", "", "ab" * 32), ("teku", "26", ""), ("", "26", "x"),
        ("teku", "26", "AB" * 32), ("teku", "26/..", "ab" * 32), ("teku", "26", "ab" * 33),
        ("nimbus", "v26.6.0", "ab" * 32), ("teku\n", "26", "ab" * 32),
    ],
)  # fmt: skip
def test_releases_that_are_none_are_refused(made: Controller, words: tuple[str, ...]) -> None:
    made.refresh()
    with pytest.raises(SupervisorError) as caught:
        made.act(MAIN, "SetRelease", words)
    assert caught.value.code == "InvalidRelease"
    assert overrides.current() == {}
    with pytest.raises(SupervisorError, match="has no releases"):
        made.act(f"{ROOT}/validator/hub", "SetRelease", ("teku", "26", "ab" * 32))
