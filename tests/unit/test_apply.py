import errno
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor import apply, config, durable
from validator_supervisor import run as processes
from validator_supervisor.config import Applied
from validator_supervisor.errors import SupervisorError

Make = Callable[[str], Applied]
NODE = "nodes: {{a: {{host: {host}, host_key: first-use, beacon: 'x:1'}}, l: {{beacon: 'y:1'}}}}\n"
COMMAND = "validators: {{v: {{kind: command, command: [/bin/{word}], enabled: {enabled}}}}}\n"
TUNNEL, VALIDATOR = "validator-tunnel@a.service", "validator@v.service"
WATCH = "validator-watch.service"


def text(host: str = "h", word: str = "x", enabled: str = "true") -> str:
    head = "version: 1\nport_range: [2000, 2010]\n"
    return head + NODE.format(host=host) + COMMAND.format(word=word, enabled=enabled)


def test_the_same_again_changes_nothing(make: Make) -> None:
    assert apply.plan(make(text()), make(text())) == apply.Plan((), (), ())


def test_new_units_are_started_and_removed_ones_stopped(make: Make) -> None:
    nothing = make("")
    assert apply.plan(nothing, make(text())) == apply.Plan((), (TUNNEL, VALIDATOR), ())
    assert apply.plan(make(text()), nothing) == apply.Plan((TUNNEL, VALIDATOR), (), ())


def test_what_has_changed_is_restarted_and_nothing_else(make: Make) -> None:
    before = make(text())
    assert apply.plan(before, make(text(host="i"))).restart == (TUNNEL,)
    assert apply.plan(before, make(text(word="y"))) == apply.Plan((), (), (VALIDATOR,))


def test_a_node_that_needs_no_tunnel_any_more(make: Make) -> None:
    local = text().replace("host: h, host_key: first-use, ", "")
    assert apply.plan(make(text()), make(local)).stop == (TUNNEL,)


def test_a_moved_port_restarts_those_who_use_it(make: Make, text: str) -> None:
    before = make(text)
    after = Applied(before.config, {key: port + 1 for key, port in before.ports.items()})
    assert apply.plan(before, after).restart == (
        "validator-tunnel@helsinki.service",
        "validator@main.service",
    )


def test_disabled_is_stopped_and_enabled_is_started(make: Make) -> None:
    on, off = make(text()), make(text(enabled="false"))
    assert apply.plan(on, off) == apply.Plan((VALIDATOR,), (), ())
    assert apply.plan(off, on) == apply.Plan((), (VALIDATOR,), ())
    assert apply.plan(make(""), off).start == (TUNNEL,)


def test_one_that_is_disabled_may_have_been_started_by_hand(make: Make) -> None:
    off = make(text(enabled="false"))
    assert apply.plan(off, make("")).stop == (TUNNEL, VALIDATOR)
    assert apply.plan(off, make(text(word="y", enabled="false"))).restart == (VALIDATOR,)


def test_users_are_those_that_nobody_named(example: Applied) -> None:
    assert apply.users(example) == ('u validator_main - "Validator main" /var/lib/validator/main\n')


class Systemd:
    """Records what is asked of systemd; every unit is up unless told otherwise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.states: dict[str, str] = {}

    def active(self, unit: str) -> str:
        return self.states.get(unit, "active")

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")

    def restart(self, unit: str) -> None:
        self.asked.append(f"restart {unit}")

    def reload(self) -> None:
        self.asked.append("reload")


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def put(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    systemd: Systemd,
) -> Callable[[str], int]:
    """Puts a configuration into effect, below ``tmp_path``."""
    module = helper("apply")
    file, applied = tmp_path / "config.yaml", tmp_path / ".applied"
    load, read = config.load, config.applied
    monkeypatch.setattr(config, "load", lambda: load(file))
    monkeypatch.setattr(config, "applied", lambda path=applied: read(path))
    monkeypatch.setattr(config, "APPLIED", applied)
    monkeypatch.setattr(module, "Systemd", lambda: systemd)

    def run(argv: list[str], *, seconds: float, stdin: bytes) -> None:
        del seconds
        systemd.asked.append(f"{argv} {len(stdin.splitlines())} users")

    monkeypatch.setattr(processes, "run", run)
    write = durable.write

    def noted(path: Path, data: bytes, mode: int) -> None:
        write(path, data, mode)
        if path == applied:
            systemd.asked.append(f"write {path.name}")

    monkeypatch.setattr(durable, "write", noted)

    def put(text: str) -> int:
        systemd.asked.clear()
        file.write_text(text)
        status: int = module.main()
        return status

    return put


SYSUSERS = "['/usr/bin/systemd-sysusers', '-'] 1 users"


def test_users_come_first_and_stops_before_the_file_and_the_reload(
    put: Callable[[str], int], systemd: Systemd, tmp_path: Path
) -> None:
    assert put(text()) == 0
    watch = "restart validator-watch.service"
    assert systemd.asked == [
        SYSUSERS, "write .applied", "reload", f"start {TUNNEL}", f"start {VALIDATOR}", watch,
    ]  # fmt: skip
    assert (tmp_path / ".applied").stat().st_mode & 0o777 == 0o644
    assert put(text(enabled="false", host="i")) == 0
    assert systemd.asked == [
        SYSUSERS, f"stop {VALIDATOR}", "write .applied", "reload", f"restart {TUNNEL}", watch,
    ]  # fmt: skip


def test_what_an_interrupted_run_has_left_undone_is_done_by_the_next(
    put: Callable[[str], int],
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    assert put(text(enabled="false")) == 0
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(systemd, "reload", killed)
        put(text(host="i"))
    # Nothing has changed since what was written, but what was written never took effect.
    assert put(text(host="i")) == 0
    assert f"restart {TUNNEL}" in systemd.asked
    assert f"start {VALIDATOR}" in systemd.asked
    assert [path.name for path in tmp_path.glob(".applied*")] == [".applied"]


def test_a_full_disk_is_said_and_changes_nothing(
    put: Callable[[str], int],
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        del data, mode
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    assert put(text()) == 0
    before = (tmp_path / ".applied").read_bytes()
    monkeypatch.setattr(durable, "write", full)
    assert put(text(host="i")) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert "reload" not in systemd.asked
    assert (tmp_path / ".applied").read_bytes() == before


@pytest.mark.parametrize(
    ("state", "restarted"),
    [
        ("active", True),
        ("activating", True),
        ("reloading", True),
        ("failed", True),  # the change may mend it
        ("inactive", False),  # somebody has stopped it
        ("deactivating", False),
    ],
)
def test_a_changed_unit_is_restarted_unless_it_is_stopped(
    put: Callable[[str], int], systemd: Systemd, state: str, restarted: bool
) -> None:
    assert put(text()) == 0
    systemd.states = dict.fromkeys((TUNNEL, VALIDATOR, WATCH), state)
    assert put(text(host="i", word="y")) == 0
    changed = [f"restart {unit}" for unit in (TUNNEL, VALIDATOR, WATCH)] if restarted else []
    assert systemd.asked == [SYSUSERS, "write .applied", "reload", *changed]


def test_each_changed_unit_is_asked_for_itself(put: Callable[[str], int], systemd: Systemd) -> None:
    assert put(text()) == 0
    systemd.states = {TUNNEL: "inactive", WATCH: "deactivating"}
    assert put(text(host="i", word="y")) == 0
    assert systemd.asked[3:] == [f"restart {VALIDATOR}"]


def test_an_unchanged_unit_is_left_alone(put: Callable[[str], int], systemd: Systemd) -> None:
    assert put(text()) == 0
    systemd.states = {TUNNEL: "failed", VALIDATOR: "failed"}
    assert put(text()) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload", f"restart {WATCH}"]


def test_an_interrupted_stop_is_done_by_the_next_run(
    put: Callable[[str], int],
    systemd: Systemd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert put(text()) == 0
    kept = (tmp_path / ".applied").read_bytes()

    def refuse(unit: str) -> None:
        raise SupervisorError("SystemdRefused", f"{unit} is refused")

    with monkeypatch.context() as broken:
        broken.setattr(systemd, "stop", refuse)
        assert put(text(enabled="false")) == 1
    assert systemd.asked == [SYSUSERS]
    assert (tmp_path / ".applied").read_bytes() == kept
    assert put(text(enabled="false")) == 0
    assert systemd.asked[1] == f"stop {VALIDATOR}"


def test_nothing_starts_while_the_target_is_down(
    put: Callable[[str], int], systemd: Systemd
) -> None:
    systemd.states = dict.fromkeys(("validator.target", TUNNEL, VALIDATOR, WATCH), "inactive")
    assert put(text()) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload"]


def test_a_wrong_file_changes_nothing(
    put: Callable[[str], int],
    systemd: Systemd,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert put(text()) == 0
    kept = (tmp_path / ".applied").read_bytes()
    assert put(text().replace("kind", "kindd")) == 1
    assert systemd.asked == []
    assert (tmp_path / ".applied").read_bytes() == kept
    error = capsys.readouterr().err.splitlines()
    assert "config.yaml:4:" in error[-2]
    assert error[-1] == "hint: did you mean kind?"


def test_a_damaged_copy_is_replaced(put: Callable[[str], int], tmp_path: Path) -> None:
    (tmp_path / ".applied").write_text("{")
    assert put(text()) == 0
    assert config.applied().ports == {"a/": 2000}


def test_ports_stay_where_they_were(put: Callable[[str], int]) -> None:
    assert put(text()) == 0
    assert (
        put(text().replace("{a: {", "{b: {host: k, host_key: first-use, beacon: 'z:1'}, a: {")) == 0
    )
    assert config.applied().ports == {"a/": 2000, "b/": 2001}


def test_nothing_is_written_when_a_user_cannot_be_made(
    put: Callable[[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], *, seconds: float, stdin: bytes) -> None:
        del argv, seconds, stdin
        raise SupervisorError("ProcessFailed", "systemd-sysusers exited with 1")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(durable, "write", lambda *given: pytest.fail(f"wrote {given}"))
    assert put(text()) == 1
    assert not (tmp_path / ".applied").exists()
