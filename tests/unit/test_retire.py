"""`retire` and `adopt` as a person sees them: what is on the disk before anything leaves."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from validator_supervisor import halt, host, run, transfer
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.cli import (
    client,
    confirm,
    import_keystore,
    job,
    main,
    remove_key,
    retire,
    secret,
)
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError

KEY = "0x" + "ab" * 48
CODE = b"abcd-efgh-ijkm-npqr-stuv-2345"
RAW = b"age-encryption.org/v1\nnobody opens it here"
UNITS = ("validator@main.service", "validator-state@main.service")
WHEN = 1_763_700_000


@dataclass
class Fake:
    """systemd, the controller and the jobs, in one list of what was done."""

    latches: Path
    done: list[str] = field(default_factory=list)
    active: dict[str, str] = field(default_factory=lambda: dict.fromkeys(UNITS, "active"))
    halted: str = ""
    refuses: dict[str, SupervisorError] = field(default_factory=dict)
    adopts: int = 0
    piped: bytes = b""
    before: Callable[[str], object] = lambda _: None
    retired: int = 0

    def call(
        self, path: str, interface: str, method: str, signature: str = "", *body: object
    ) -> tuple[object, ...]:
        assert (path, interface) == (names.validator_path("main"), names.VALIDATOR)
        assert (signature, body) == ("", ())
        self.done.append(method)
        state = "active" if method == "Start" else "inactive"
        self.active = dict.fromkeys(UNITS, state)
        return (True,)

    def active_of(self, unit: str) -> str:
        return self.active[unit]

    def objects(self) -> dict[str, dict[str, dict[str, object]]]:
        seen = {"Name": "main", "HaltReason": self.halted, "ActiveState": "inactive"}
        return {names.validator_path("main"): {names.VALIDATOR: {**seen}}}

    def answer(
        self, _: Applied, helper: str, words: list[str], seconds: float, stdin: bytes = b""
    ) -> bytes:
        assert seconds >= 60
        verb, name = words
        assert name == "main"
        self.before(verb)
        self.done.append(verb)
        if verb in self.refuses:
            raise self.refuses[verb]
        if helper == "orders":
            return json.dumps({"marks": [], "unseen": {}, "refused": [],
                               "retired": self.retired}).encode()  # fmt: skip
        assert helper == "retire"
        if verb == "look":
            seen = {"keys": [KEY], "retired": self.retired, "unseen": {"far": "away\x1b"}}
            return json.dumps(seen).encode()
        if verb == "mark":
            return json.dumps({"keys": [KEY], "retired": WHEN}).encode()
        assert transfer.parse_code(stdin) == stdin
        self.piped = stdin
        # Before anything leaves: nothing starts any more.
        assert halt.current("main", self.latches) == halt.Halt("retired", halt.retired(WHEN))
        return RAW

    def run(self, argv: list[str], **named: object) -> subprocess.CompletedProcess[bytes]:
        assert argv[-2:] == ["/usr/lib/validator-supervisor/adopt", "main"]
        self.done.append("adopt")
        stdin = named["stdin"]
        assert isinstance(stdin, bytes)
        self.piped = stdin
        assert not any(CODE.decode() in word for word in argv)
        done = {"archive": "main.7.age", "keys": [KEY], "remarks": ["a\x1bb"]}
        return subprocess.CompletedProcess(argv, self.adopts, json.dumps(done).encode(), b"said\n")


@pytest.fixture
def fake(example: Applied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Have main run, unlocked, as root."""
    (tmp_path / "own").mkdir()
    made = Fake(tmp_path / "own" / "halted")
    put = monkeypatch.setattr
    put(Applied, "load", lambda: example)
    put(client, "Client", lambda: made)
    put(job, "check", lambda: None)
    put(job, "answer", made.answer)
    put(run, "run", made.run)
    put(secret, "guard", lambda: None)
    put(import_keystore, "upload", lambda name: made.done.append(f"upload {name}"))
    put(retire, "Systemd", lambda: type("S", (), {"active": staticmethod(made.active_of)}))
    for name in ("STOP_SECONDS", "PAUSE_SECONDS"):
        put(remove_key, name, 0.01)
    real = halt.latch

    def latch(name: str, code: str, why: str) -> bool:
        made.done.append("latch")
        return real(name, code, why, made.latches)

    put(halt, "latch", latch)
    return made


Captured = pytest.CaptureFixture[str]


def asked(tmp_path: Path, *words: str) -> tuple[int, bytes]:
    """Retire as a script does; return the status, and what has come as the code."""
    reading, writing = os.pipe()
    argv = ["retire", "main", "--output", str(tmp_path / "out"), "--code-fd", str(writing)]
    try:
        status = main.main([*argv, *words])
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as piped:
        return status, piped.read()


def test_the_order_is_what_keeps_it_from_two_hosts(
    fake: Fake, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    fake.before = lambda verb: fake.done.append(f"file {out.exists()}") if verb == "seal" else 0
    status, code = asked(tmp_path, "--confirm", "main")
    assert status == 0
    assert fake.done == ["look", "Stop", "mark", "latch", "file False", "seal"]
    assert code == fake.piped + b"\n"
    assert out.read_bytes() == RAW
    assert out.stat().st_mode & 0o777 == 0o600
    said, told = capsys.readouterr()
    assert code.decode().strip() not in said + told
    assert f"adopt NAME {out}" in said
    assert "main is stopped, and never starts here again" in told
    assert "not reached: far: away?" in told
    assert "on one host only" in told


def test_as_json(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    assert asked(tmp_path, "--confirm", "main", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out) == {
        "keys": [KEY], "file": str(tmp_path / "out"), "retired": WHEN,
    }  # fmt: skip
    assert fake.done[-1] == "seal"


def test_what_is_refused_leaves_it_running(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    fake.refuses["mark"] = SupervisorError("JobFailed", "main was not stopped well")
    assert asked(tmp_path, "--confirm", "main") == (REFUSED, b"")
    assert fake.done == ["look", "Stop", "mark", "Start"]
    assert not fake.latches.exists()
    assert "was not stopped well" in capsys.readouterr().err


def test_what_fails_later_is_completed_by_the_same_again(fake: Fake, tmp_path: Path) -> None:
    fake.refuses["seal"] = SupervisorError("JobFailed", "no", exit_status=TEMPORARY)
    assert asked(tmp_path, "--confirm", "main") == (TEMPORARY, b"")
    assert fake.done == ["look", "Stop", "mark", "latch", "seal"]
    assert not (tmp_path / "out").exists()
    fake.refuses.clear()
    fake.done.clear()
    fake.halted = halt.reason("main", fake.latches)
    fake.retired = WHEN
    assert asked(tmp_path, "--confirm", "main")[0] == 0
    assert fake.done == ["look", "mark", "latch", "seal"]
    assert (tmp_path / "out").read_bytes() == RAW


def test_what_cannot_be_latched_leaves_nothing(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: str) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(halt, "latch", full)
    assert asked(tmp_path, "--confirm", "main") == (REFUSED, b"")
    assert fake.done == ["look", "Stop", "mark"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--confirm", "mian"], []])
def test_without_the_name_nothing_is_done(
    fake: Fake, tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm.typed, "__defaults__", (tmp_path / "none", "the name"))
    assert asked(tmp_path, *words) == (REFUSED, b"")
    assert fake.done == ["look"]


def test_another_halt_is_put_right_first(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    fake.halted = "slashed: 0xab"
    assert asked(tmp_path, "--confirm", "main") == (REFUSED, b"")
    assert fake.done == []
    assert "main is halted: slashed" in capsys.readouterr().err


def test_a_code_that_nobody_would_see_is_refused_first(
    fake: Fake, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["retire", "main", "--output", str(tmp_path / "out"), "--confirm", "main"]
    (tmp_path / "own" / "read").touch()
    with (tmp_path / "own" / "read").open("rb") as only:
        assert main.main([*argv, "--code-fd", str(only.fileno())]) == REFUSED
    assert main.main([*argv, "--code-fd", "987"]) == REFUSED
    monkeypatch.setattr(retire._shown_on, "__defaults__", (tmp_path / "none" / "tty",))
    assert main.main(argv) == REFUSED
    err = capsys.readouterr().err
    for words in ("cannot be written to", "descriptor 987: Bad file", "--code-fd N"):
        assert words in err
    (tmp_path / "out").write_text("mine")
    assert main.main(argv) == REFUSED
    assert fake.done == []


def test_a_person_sees_it_once(
    fake: Fake, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = tmp_path / "own" / "tty"
    terminal.touch()
    monkeypatch.setattr(retire._shown_on, "__defaults__", (terminal,))
    argv = ["retire", "main", "--output", str(tmp_path / "out"), "--confirm", "main"]
    assert main.main(argv) == 0
    assert terminal.read_text().count(fake.piped.decode()) == 1
    assert fake.piped.decode() not in "".join(capsys.readouterr())


def given(tmp_path: Path, code: bytes, *words: str, raw: bytes = RAW) -> int:
    (tmp_path / "in").write_bytes(raw)
    reading, writing = os.pipe()
    os.write(writing, code)
    os.close(writing)
    argv = ["adopt", "main", str(tmp_path / "in"), "--code-fd", str(reading), *words]
    try:
        return main.main(argv)
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("halted", "resumed"),
    [("", False), ("retired: x", True), ("moved: x", True), ("slashed: x", False)],
)
def test_the_file_and_the_code_go_through_the_pipe(
    fake: Fake, tmp_path: Path, capsys: Captured, halted: str, *, resumed: bool
) -> None:
    fake.halted = halted
    assert given(tmp_path, CODE.upper() + b"\n", "--returned") == 0
    assert fake.done == ["adopt", *(["Resume"] if resumed else []), "upload main"]
    assert transfer.parse(fake.piped) == transfer.Request(CODE, RAW, True)
    out, err = capsys.readouterr()
    assert f"adopted {KEY}\n" in out
    assert "note: a?b\n" in out
    assert "said\n" in err
    assert CODE.decode() not in out + err


def test_what_is_not_adopted_changes_no_halt(fake: Fake, tmp_path: Path) -> None:
    fake.adopts, fake.halted = TEMPORARY, "retired: x"
    assert given(tmp_path, CODE) == TEMPORARY
    assert fake.done == ["adopt"]


@pytest.mark.parametrize(
    ("code", "raw", "said"),
    [
        (b"hunter2", RAW, "no transfer code"),
        (b"", RAW, "no transfer code"),
        (CODE, b"", "no file of `retire`"),
        (CODE, b"{}", "no file of `retire`"),
    ],
)
def test_what_is_none_is_refused_before_any_job(
    fake: Fake, tmp_path: Path, capsys: Captured, code: bytes, raw: bytes, said: str
) -> None:
    assert given(tmp_path, code, raw=raw) == REFUSED
    assert said in capsys.readouterr().err
    assert fake.done == []


def test_a_file_without_end_is_refused(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FILE_MAX", len(RAW) - 1)
    assert given(tmp_path, CODE) == REFUSED
    assert fake.done == []


def test_resume_and_orders_do_not_clear_it(fake: Fake, capsys: Captured) -> None:
    fake.halted = f"retired: {halt.retired(WHEN)}"
    assert main.main(["resume", "main", "--yes"]) == REFUSED
    assert main.main(["start", "main", "--no-watch", "--confirm", "main"]) == REFUSED
    assert fake.done == []
    err = capsys.readouterr().err
    assert "main is retired: its keys left this host at 2025-11-21 04:40:00 UTC" in err
    assert err.count("take-over") == 2


def test_a_take_over_does(fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.halted, fake.retired = f"retired: {halt.retired(WHEN)}", WHEN
    monkeypatch.setattr(host, "boot_id", lambda: "ab" * 16)
    assert main.main(["take-over", "main", "--confirm", "main"]) == 0
    assert fake.done == ["look", "give", "Resume", "Start"]
    assert "its keys left this host" in capsys.readouterr().out


def test_the_keys_of_a_web3signer_are_not_this_hosts_to_move(
    make: Callable[[str], Applied], text: str
) -> None:
    mine = make(text.replace("keys: local", "keys: {web3signer: https://signer}"))
    with pytest.raises(SupervisorError, match="in a Web3Signer") as refused:
        import_keystore.check_local(mine, "main")
    assert "import-keystore --web3signer" in refused.value.hint
    import_keystore.check_local(make(text), "main")
