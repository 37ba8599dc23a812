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
    """Records what is asked of systemd; its target is up unless told otherwise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.target = "active"

    def active(self, unit: str) -> str:
        assert unit == "validator.target"
        return self.target

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")

    def try_restart(self, unit: str) -> None:
        self.asked.append(f"try-restart {unit}")

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
    monkeypatch.setattr(config, "applied", lambda: read(applied))
    monkeypatch.setattr(config, "APPLIED", applied)
    monkeypatch.setattr(module, "Systemd", lambda: systemd)

    def run(argv: list[str], *, seconds: float, stdin: bytes) -> None:
        del seconds
        systemd.asked.append(f"{argv} {len(stdin.splitlines())} users")

    monkeypatch.setattr(processes, "run", run)

    def put(text: str) -> int:
        systemd.asked.clear()
        file.write_text(text)
        status: int = module.main()
        return status

    return put


SYSUSERS = "['/usr/bin/systemd-sysusers', '-'] 1 users"


def test_users_come_first_and_stops_before_the_reload(
    put: Callable[[str], int], systemd: Systemd, tmp_path: Path
) -> None:
    assert put(text()) == 0
    watch = "try-restart validator-watch.service"
    assert systemd.asked == [
        SYSUSERS, "reload", f"start {TUNNEL}", f"start {VALIDATOR}", watch,
    ]  # fmt: skip
    assert (tmp_path / ".applied").stat().st_mode & 0o777 == 0o644
    assert put(text(enabled="false", host="i")) == 0
    assert systemd.asked == [
        SYSUSERS, f"stop {VALIDATOR}", "reload", f"try-restart {TUNNEL}", watch,
    ]  # fmt: skip


def test_nothing_starts_while_the_target_is_down(
    put: Callable[[str], int], systemd: Systemd
) -> None:
    systemd.target = "inactive"
    assert put(text()) == 0
    assert not [line for line in systemd.asked if line.startswith("start")]


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
