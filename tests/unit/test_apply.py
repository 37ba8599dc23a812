import errno
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor import apply, config, durable, overrides
from validator_supervisor import run as processes
from validator_supervisor.applied import Applied
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
    assert apply.plan(nothing, make(text())) == apply.Plan((), (TUNNEL, VALIDATOR), (WATCH,))
    assert apply.plan(make(text()), nothing) == apply.Plan((TUNNEL, VALIDATOR), (), (WATCH,))


def test_what_has_changed_is_restarted_and_nothing_else(make: Make) -> None:
    before = make(text())
    assert apply.plan(before, make(text(host="i"))).restart == (WATCH, TUNNEL)
    assert apply.plan(before, make(text(word="y"))) == apply.Plan((), (), (VALIDATOR,))


def test_what_a_slashing_halts_is_for_the_watch_alone_to_know(
    make: Make, example: Applied, text: str
) -> None:
    after = make(text.replace("on_slashed: network", "on_slashed: alert"))
    assert apply.plan(example, after) == apply.Plan((), (), (WATCH,))


def test_where_keys_are_is_what_they_are_unpacked_for(make: Make, text: str) -> None:
    units = ("validator@main.service", "validator-state@main.service")
    signer = "keys: {web3signer: 'https://s', public_keys: %s}"
    words = ("keys: local", signer % "all", signer % f"['0x{'ab' * 48}']")
    every = [text.replace("keys: local", word) for word in words]
    for before, after in itertools.pairwise(every):
        assert apply.plan(make(before), make(after)) == apply.Plan((), (), units)


def test_a_node_that_needs_no_tunnel_any_more(make: Make) -> None:
    local = text().replace("host: h, host_key: first-use, ", "")
    assert apply.plan(make(text()), make(local)).stop == (TUNNEL,)


def test_a_moved_port_restarts_those_who_use_it(make: Make, text: str) -> None:
    before = make(text)
    after = Applied(before.config, {key: port + 1 for key, port in before.ports.items()})
    assert apply.plan(before, after).restart == (
        WATCH,
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
    assert apply.users(example) == (
        'u validator_main - "Validator main" /var/lib/validator/main\n'
        'u validator_hub - "Validator hub" /var/lib/validator/hub\n'
    )


class Systemd:
    """Records what is asked of systemd; every unit is up unless told otherwise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.states: dict[str, str] = {}

    def active(self, unit: str) -> str:
        return self.states.get(unit, "active")

    def job(self, unit: str) -> str:
        del unit
        return ""

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")

    def restart(self, unit: str) -> None:
        self.asked.append(f"restart {unit}")

    def reload(self) -> None:
        self.asked.append("reload")


class Notifier:
    """systemd's notify socket."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notify(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def systemd() -> Systemd:
    return Systemd()


@pytest.fixture
def notifier() -> Notifier:
    return Notifier()


Put = Callable[[str | None], int]


@pytest.fixture
def put(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    systemd: Systemd,
    notifier: Notifier,
) -> Put:
    """Puts a configuration, or with None only the overrides, into effect, below ``tmp_path``."""
    module = helper("apply")
    file, applied = tmp_path / "config.yaml", tmp_path / ".applied"
    load, read, current = config.load, Applied.load, overrides.current
    monkeypatch.setattr(config, "load", lambda: load(file))
    monkeypatch.setattr(Applied, "load", lambda path=applied: read(path))
    monkeypatch.setattr(overrides, "current", lambda: current(tmp_path / "overrides.yaml"))
    monkeypatch.setattr(apply, "FILE", applied)
    monkeypatch.setattr(apply, "PREVIOUS", tmp_path / ".applied.before")
    monkeypatch.setattr(module, "Systemd", lambda: systemd)
    monkeypatch.setattr(module, "SystemdNotifier", lambda: notifier)

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

    def put(text: str | None) -> int:
        systemd.asked.clear()
        if text is not None:
            file.write_text(text)
        status: int = module.main(text is None)
        return status

    return put


SYSUSERS = "['/usr/bin/systemd-sysusers', '-'] 1 users"


def test_users_come_first_and_the_file_before_what_follows_from_it(
    put: Put, systemd: Systemd, tmp_path: Path
) -> None:
    assert put(text()) == 0
    watch = "restart validator-watch.service"
    assert systemd.asked == [
        SYSUSERS, "write .applied", "reload", f"start {TUNNEL}", f"start {VALIDATOR}", watch,
    ]  # fmt: skip
    assert (tmp_path / ".applied").stat().st_mode & 0o777 == 0o644
    assert put(text(enabled="false", host="i")) == 0
    assert systemd.asked == [
        SYSUSERS, "write .applied", f"stop {VALIDATOR}", "reload", f"restart {TUNNEL}", watch,
    ]  # fmt: skip


def test_what_an_interrupted_run_has_left_undone_is_done_by_the_next(
    put: Put,
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
    put: Put,
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
    put: Put, systemd: Systemd, state: str, restarted: bool
) -> None:
    assert put(text()) == 0
    systemd.states = dict.fromkeys((TUNNEL, VALIDATOR, WATCH), state)
    assert put(text(host="i", word="y")) == 0
    changed = [f"restart {unit}" for unit in (TUNNEL, WATCH, VALIDATOR)] if restarted else []
    assert systemd.asked == [SYSUSERS, "write .applied", "reload", *changed]


def test_each_changed_unit_is_asked_for_itself(put: Put, systemd: Systemd) -> None:
    assert put(text()) == 0
    systemd.states = {TUNNEL: "inactive", WATCH: "deactivating"}
    assert put(text(host="i", word="y")) == 0
    assert systemd.asked[3:] == [f"restart {VALIDATOR}"]


def test_an_unchanged_unit_is_left_alone(put: Put, systemd: Systemd) -> None:
    assert put(text()) == 0
    systemd.states = {TUNNEL: "failed", VALIDATOR: "failed"}
    assert put(text()) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload"]


def test_an_interrupted_stop_is_done_by_the_next_run(
    put: Put,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert put(text()) == 0

    def refuse(unit: str) -> None:
        raise SupervisorError("SystemdRefused", f"{unit} is refused")

    with monkeypatch.context() as broken:
        broken.setattr(systemd, "stop", refuse)
        assert put(text(enabled="false")) == 1
    assert systemd.asked == [SYSUSERS, "write .applied"]
    assert put(text(enabled="false")) == 0
    assert systemd.asked[2] == f"stop {VALIDATOR}"


def test_what_was_stopped_before_a_crash_starts_when_the_change_is_taken_back(
    put: Put, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(text()) == 0

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(systemd, "reload", killed)
        put(text(enabled="false"))
    assert f"stop {VALIDATOR}" in systemd.asked
    assert put(text()) == 0
    assert f"start {VALIDATOR}" in systemd.asked


def test_nothing_starts_while_the_target_is_down(put: Put, systemd: Systemd) -> None:
    systemd.states = dict.fromkeys(("validator.target", TUNNEL, VALIDATOR, WATCH), "inactive")
    assert put(text()) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload"]


def test_a_wrong_file_changes_nothing(
    put: Put,
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


def test_a_damaged_copy_is_replaced(put: Put, tmp_path: Path) -> None:
    (tmp_path / ".applied").write_text("{")
    assert put(text()) == 0
    assert Applied.load().ports == {"a/": 2000}


def test_ports_stay_where_they_were(put: Put) -> None:
    assert put(text()) == 0
    assert (
        put(text().replace("{a: {", "{b: {host: k, host_key: first-use, beacon: 'z:1'}, a: {")) == 0
    )
    assert Applied.load().ports == {"a/": 2000, "b/": 2001}


def test_nothing_is_written_when_a_user_cannot_be_made(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(argv: list[str], *, seconds: float, stdin: bytes) -> None:
        del argv, seconds, stdin
        raise SupervisorError("ProcessFailed", "systemd-sysusers exited with 1")

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(durable, "write", lambda *given: pytest.fail(f"wrote {given}"))
    assert put(text()) == 1
    assert not (tmp_path / ".applied").exists()


def test_the_helper_says_what_is_wrong_until_it_is_right(
    put: Put, notifier: Notifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(text().replace("kind", "kindd")) == 1
    (said,) = notifier.said
    assert said.startswith(f"STATUS={tmp_path}/config.yaml:4:")
    assert said.endswith(": validators.v.kindd: unknown key")
    assert put(text()) == 0
    assert notifier.said[1:] == ["STATUS="]

    def full(path: Path, data: bytes, mode: int) -> None:
        del data, mode
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(durable, "write", full)
    assert put(text(host="i")) == 1
    assert notifier.said[2:] == [f"STATUS={tmp_path}/.applied.before: No space left on device"]


def test_no_value_says_more_than_a_status(put: Put, notifier: Notifier, tmp_path: Path) -> None:
    assert put('"a\\nREADY=1\\nMAINPID=1": 1\n') == 1
    # The controller writes this file, and root reads it.
    for key in ("a\\nMAINPID=1", "\\ud800", "x" * 100_000):
        (tmp_path / "overrides.yaml").write_text(
            f'{{"version": 1, "validators": {{"{key}": {{}}}}}}'
        )
        assert put(None) == 1
    for said in notifier.said:
        assert said.isprintable()
        # A datagram of sd_notify(3) that is too long is lost.
        assert len(said) < 4096


def override(path: Path, **given: overrides.Override) -> None:
    (path / "overrides.yaml").write_bytes(overrides.text(given))


@pytest.mark.parametrize("edited", ["nonsense: [", "version: 1\n", "", None])
def test_overrides_alone_leave_an_edited_file_alone(
    put: Put, systemd: Systemd, tmp_path: Path, edited: str | None
) -> None:
    assert put(text()) == 0
    if edited is None:
        (tmp_path / "config.yaml").unlink()
    else:
        (tmp_path / "config.yaml").write_text(edited)
    override(tmp_path, v=overrides.Override(enabled=False))
    assert put(None) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", f"stop {VALIDATOR}", "reload"]
    found = Applied.load()
    assert found.configured.validators["v"].enabled is True
    assert found.config.validators["v"].enabled is False
    assert list(found.config.nodes) == ["a", "l"]
    override(tmp_path)
    assert put(None) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload", f"start {VALIDATOR}"]


def test_overrides_alone_do_not_make_up_a_configuration(put: Put, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text())
    (tmp_path / ".applied").write_text("{")
    override(tmp_path, v=overrides.Override(enabled=False))
    assert put(None) == 1
    assert (tmp_path / ".applied").read_text() == "{"


def test_overrides_win_over_a_changed_file_too(put: Put, systemd: Systemd, tmp_path: Path) -> None:
    override(tmp_path, v=overrides.Override(enabled=False))
    assert put(text()) == 0
    assert f"start {VALIDATOR}" not in systemd.asked
    assert put(text(word="y")) == 0
    assert Applied.load().config.validators["v"].enabled is False


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", b"\xff", b'{"version": 2}', b'{"version": 1, "validators": {"v": {"x": 1}}}'],
)
def test_bad_overrides_change_nothing(
    put: Put, systemd: Systemd, notifier: Notifier, tmp_path: Path, raw: bytes
) -> None:
    assert put(text()) == 0
    kept = (tmp_path / ".applied").read_bytes()
    (tmp_path / "overrides.yaml").write_bytes(raw)
    assert put(None) == 1
    assert systemd.asked == []
    assert (tmp_path / ".applied").read_bytes() == kept
    assert not (tmp_path / ".applied.before").exists()
    assert notifier.said[-1].startswith(f"STATUS={tmp_path}/overrides.yaml")
    # They are no veto over the operator's own file.
    assert put(text(enabled="false")) == 0
    assert f"stop {VALIDATOR}" in systemd.asked


def test_an_empty_file_is_an_accident(put: Put, systemd: Systemd, notifier: Notifier) -> None:
    assert put("") == 0, "nothing was configured"
    assert put(text()) == 0
    assert put("# all gone\n") == 1
    assert systemd.asked == []
    assert "is empty" in notifier.said[-1]
    assert put("version: 1\n") == 0
    assert f"stop {VALIDATOR}" in systemd.asked


def test_an_override_that_the_file_has_caught_up_with_is_none(put: Put, tmp_path: Path) -> None:
    assert put(text(enabled="false")) == 0
    override(tmp_path, v=overrides.Override(enabled=True), gone=overrides.Override(enabled=True))
    assert put(None) == 0
    assert Applied.load().overrides == {"v": overrides.Override(enabled=True)}
    assert put(text()) == 0
    assert Applied.load().overrides == {}


def test_a_preferred_node_restarts_the_validator_and_nothing_else(
    put: Put, systemd: Systemd, tmp_path: Path
) -> None:
    ethereum = (
        "validators: {v: {kind: ethereum, network: dev, fee_recipient: '0x" + "0" * 40 + "', "
        "release: {client: lodestar, binary: /x}, nodes: [a, l]}}\n"
    )
    whole = "version: 1\nport_range: [2000, 2010]\n" + NODE.format(host="h") + ethereum
    assert put(whole) == 0
    override(tmp_path, v=overrides.Override(prefer="l"))
    assert put(None) == 0
    assert systemd.asked == [SYSUSERS, "write .applied", "reload", f"restart {VALIDATOR}"]


@pytest.mark.parametrize(("url", "told"), [("http://s:9000", True), ("http://[::1]:1", False)])
def test_a_web3signer_in_the_clear_is_warned_of(
    put: Put, capsys: pytest.CaptureFixture[str], url: str, told: bool
) -> None:
    ethereum = (
        "validators: {v: {kind: ethereum, network: dev, fee_recipient: '0x" + "0" * 40 + "', "
        f"release: {{client: lodestar, binary: /x}}, keys: {{web3signer: '{url}'}}}}}}\n"
    )
    assert put("version: 1\nport_range: [2000, 2010]\n" + NODE.format(host="h") + ethereum) == 0
    said = capsys.readouterr().err
    assert ("v: its Web3Signer is asked without TLS: " in said) == told


class KilledError(BaseException):
    """Stands for SIGKILL."""


class Mortal:
    """Dies before or after the call that is due, of all that reach systemd or the disk."""

    def __init__(self) -> None:
        self.left = -1
        self.after = False

    def __call__(self, call: Callable[..., object]) -> Callable[..., object]:
        def called(*words: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise KilledError
            found = call(*words, **named)
            if self.left == 0:
                raise KilledError
            return found

        return called


class Machine(Systemd):
    """Units that are up or down, as what is applied and what is asked has it."""

    def __init__(self, read: Callable[[], Applied]) -> None:
        super().__init__()
        self.read = read
        self.loaded: dict[str, str] = {}
        # What each unit that is up was started with.
        self.up: dict[str, str] = {"validator.target": "", WATCH: ""}

    def active(self, unit: str) -> str:
        return "active" if unit in self.up else "inactive"

    def stop(self, unit: str) -> None:
        self.up.pop(unit, None)

    def start(self, unit: str) -> None:
        # Without a reload it would start with what systemd knew before.
        self.up.setdefault(unit, self.definition(unit))

    def restart(self, unit: str) -> None:
        self.up[unit] = self.definition(unit)

    def definition(self, unit: str) -> str:
        return self.loaded.get(unit, "never loaded")

    def reload(self) -> None:
        applied = self.read()
        self.loaded = {WATCH: repr(applied.config.nodes)}
        for node in applied.config.nodes.values():
            if node.host:
                self.loaded[f"validator-tunnel@{node.name}.service"] = repr(node)
        for validator in applied.config.validators.values():
            if validator.enabled:
                self.loaded[f"validator@{validator.name}.service"] = repr(validator)


FIRST = text()
CHANGED = text(host="i", word="y").replace(
    "validators: {", "validators: {w: {kind: command, command: [/w]}, "
)
WITHOUT = "version: 1\nnodes: {b: {host: j, host_key: first-use}}\n"
DISABLED = text(enabled="false", host="k")


@pytest.mark.usefixtures("put")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (None, FIRST),
        ("damaged", FIRST),
        (FIRST, CHANGED),
        (FIRST, WITHOUT),
        (FIRST, DISABLED),
        (DISABLED, FIRST),
        (CHANGED, "version: 1\n"),
    ],
    ids=["first", "damaged", "changed", "without", "disabled", "enabled", "nothing"],
)
def test_a_crash_at_any_step_is_made_good_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    before: str | None,
    wanted: str,
    after: bool,
) -> None:
    file, applied = tmp_path / "config.yaml", tmp_path / ".applied"

    def begin() -> Machine:
        machine = Machine(Applied.load)
        for path in (applied, tmp_path / ".applied.before"):
            path.unlink(missing_ok=True)
        if before == "damaged":
            applied.write_text("{")
        elif before is not None:
            file.write_text(before)
            apply.put_into_effect(machine, only_overrides=False)
        file.write_text(wanted)
        return machine

    uninterrupted = begin()
    apply.put_into_effect(uninterrupted, only_overrides=False)
    assert "never loaded" not in uninterrupted.up.values()

    step = 0
    while True:
        step += 1
        machine, mortal = begin(), Mortal()
        mortal.left, mortal.after = step, after
        with monkeypatch.context() as patched:
            for name in ("stop", "start", "restart", "reload"):
                patched.setattr(machine, name, mortal(getattr(machine, name)))
            patched.setattr(durable, "write", mortal(durable.write))
            patched.setattr(processes, "run", mortal(processes.run))
            try:
                apply.put_into_effect(machine, only_overrides=False)
            except KilledError:
                pass
            else:
                break
        apply.put_into_effect(machine, only_overrides=False)
        assert machine.up == uninterrupted.up, f"step {step}"
        assert machine.loaded == uninterrupted.loaded
        assert not (tmp_path / ".applied.before").exists()
    # sysusers, what was before, what is now, the reload, and what there was to do.
    assert step > 4


def test_one_that_is_to_stop_is_not_restarted() -> None:
    one = apply.Plan((VALIDATOR,), (), ())
    other = apply.Plan((), (), (VALIDATOR, TUNNEL))
    assert apply.merged(one, other) == apply.Plan((VALIDATOR,), (), (TUNNEL,))
    assert apply.merged(apply.Plan((), (TUNNEL,), ()), other).restart == (VALIDATOR,)


def test_runs_come_one_after_the_other(
    put: Put, systemd: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert put(text()) == 0
    inside, most = 0, 0
    begun, go_on = threading.Event(), threading.Event()

    def reload() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        begun.set()
        go_on.wait(5)
        inside -= 1

    monkeypatch.setattr(systemd, "reload", reload)
    both = [
        threading.Thread(
            target=apply.put_into_effect, args=(systemd,), kwargs={"only_overrides": o}
        )
        for o in (False, True)
    ]
    for thread in both:
        thread.start()
    assert begun.wait(5)
    # The second one waits for the lock, not for a moment to slip through.
    both[1].join(0.2)
    assert all(thread.is_alive() for thread in both)
    go_on.set()
    for thread in both:
        thread.join(5)
        assert not thread.is_alive()
    assert most == 1
    assert systemd.asked.count("write .applied") == 3
    assert not (tmp_path / ".applied.before").exists()
