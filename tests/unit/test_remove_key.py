"""`remove-key` as a person sees it: what it asks, in which order it acts, and what it refuses."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from validator_supervisor import durable, interchange, run
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.cli import client, job, main, remove_key
from validator_supervisor.errors import HALT, REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.validators import Keys

KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
PROTECTION = interchange.text(
    Interchange(b"\x05" * 32, {KEY: History(frozenset({(9, b"")}), frozenset({(1, 2, b"")}))})
)


@dataclass
class Fake:
    """systemd, the controller and the jobs, in one list of what was done."""

    done: list[str] = field(default_factory=list)
    active: dict[str, str] = field(default_factory=dict)
    present: list[str] = field(default_factory=lambda: [KEY])
    left: int = 1
    refuses: SupervisorError | None = None
    watched: int = 0
    stuck: bool = False
    remarks: list[str] = field(default_factory=list)
    before_watch: Callable[[], object] = lambda: None

    def call(
        self, path: str, interface: str, method: str, signature: str = "", *body: object
    ) -> tuple[object, ...]:
        assert (interface, signature, body) == (names.VALIDATOR, "", ())
        assert path == names.validator_path("main")
        self.done.append(method)
        if not self.stuck:
            state = "active" if method == "Start" else "inactive"
            for unit in ("validator@main.service", "validator-state@main.service"):
                self.active[unit] = state
        return (True,)

    def state(self, unit: str) -> str:
        return self.active.get(unit, "inactive")

    def answer(self, _: Applied, helper: str, words: list[str], seconds: float) -> bytes:
        assert helper == "remove-key"
        assert seconds > 60
        verb, name, *keys = words
        assert name == "main"
        self.done.append(verb)
        if verb == "look":
            removed = [key for key in keys if key not in self.present]
            return json.dumps({"present": self.present, "removed": removed, "left": self.left,
                               "unseen": {"far": "away"}}).encode()  # fmt: skip
        if self.refuses:
            raise self.refuses
        return json.dumps({"archive": "main.7.age", "keys": keys, "left": self.left,
                           "protection": PROTECTION, "remarks": self.remarks}).encode()  # fmt: skip

    def attended(self, argv: list[str]) -> subprocess.CompletedProcess[bytes]:
        at = argv.index("/usr/lib/validator-supervisor/remove-key")
        assert argv[at + 1 :] == ["watch", "main", KEY]
        self.done.append("watch")
        self.before_watch()
        return subprocess.CompletedProcess(argv, self.watched, b"", None)


@pytest.fixture
def fake(example: Applied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Have main run, unlocked, as root."""
    made = Fake()
    for unit in ("validator@main.service", "validator-state@main.service"):
        made.active[unit] = "active"
    put = monkeypatch.setattr
    put(Applied, "load", lambda: example)
    put(client, "Client", lambda: made)
    put(job, "check", lambda: None)
    put(job, "answer", made.answer)
    put(run, "attended", made.attended)
    put(remove_key, "Systemd", lambda: type("Systemd", (), {"active": staticmethod(made.state)}))
    put(remove_key, "STOP_SECONDS", 0.01)
    put(remove_key, "START_SECONDS", 0.01)
    put(remove_key, "PAUSE_SECONDS", 0.01)
    places = (tmp_path / "state", tmp_path / "run")
    put(remove_key.refuse_laid_out, "__defaults__", places)
    return made


def given(tmp_path: Path, *words: str, keys: tuple[str, ...] = (KEY,)) -> list[str]:
    return ["remove-key", "main", *keys, "--out", str(tmp_path / "out"), *words]


Captured = pytest.CaptureFixture[str]


def test_the_order_is_what_keeps_it_from_two_places(
    fake: Fake, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    fake.before_watch = lambda: fake.done.append(f"file {out.exists()}")
    # As somebody pastes it.
    assert main.main(given(tmp_path, "--confirm", "main", keys=(KEY[2:].upper(), KEY))) == 0
    assert fake.done == ["look", "Stop", "remove", "Start", "watch", "file False"]
    assert out.read_text() == PROTECTION
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    said, told = capsys.readouterr()
    assert f"removed {KEY}\n" in said
    assert f"--slashing-protection {out}\n" in said
    assert "main is stopped, and starts again with 1 other keys.\n" in told
    assert "not reached: far: away\n" in told
    assert "two epochs" in told


def test_as_json_the_rest_is_beside_it(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    fake.remarks = ["it is not on far yet:\x1b away"]
    words = ["--confirm", "main", "--json", "--no-watch"]
    assert main.main(given(tmp_path, *words)) == 0
    assert "watch" not in fake.done
    said, told = capsys.readouterr()
    assert json.loads(said) == {"archive": "main.7.age", "keys": [KEY], "watched": False,
                                "file": str(tmp_path / "out")}  # fmt: skip
    assert remove_key.UNWATCHED in told
    assert "note: it is not on far yet:? away\n" in told


@pytest.mark.parametrize(
    ("stopped", "present", "left", "done"),
    [
        (True, [KEY], 1, ["look", "remove", "watch"]),
        # Nothing is left to start.
        (False, [KEY], 0, ["look", "Stop", "remove", "watch"]),
        # Removed before: an interrupted command goes on, and what runs does, too.
        (False, [], 1, ["look", "remove", "watch"]),
    ],
)
def test_it_starts_what_ran(
    fake: Fake, tmp_path: Path, stopped: bool, present: list[str], left: int, done: list[str]
) -> None:
    if stopped:
        fake.active.clear()
    fake.present, fake.left = present, left
    assert main.main(given(tmp_path, "--confirm", "main")) == 0
    assert fake.done == done
    assert (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["main", "0x1234"], "expected 48 bytes"),
        (["main", KEY + "\n"], "expected 48 bytes"),
        (["main", "\x1b[2J"], "expected 48 bytes"),
        (["main", ""], "expected 48 bytes"),
        (["mian", KEY], "there is no validator mian"),
        (["hub", KEY], "hub takes no keystores"),
    ],
)
def test_what_is_wrong_is_refused_before_anything(
    fake: Fake, tmp_path: Path, capsys: Captured, words: list[str], message: str
) -> None:
    argv = ["remove-key", *words, "--out", str(tmp_path / "out"), "--confirm", "main"]
    assert main.main(argv) == REFUSED
    err = capsys.readouterr().err
    assert message in err
    assert "\x1b" not in err
    assert fake.done == []
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_overwritten(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "nowhere")
    assert main.main(given(tmp_path, "--confirm", "main")) == REFUSED
    assert "is there already" in capsys.readouterr().err
    assert fake.done == []
    out.unlink()
    # Nor one that comes while the chain is watched.
    fake.before_watch = lambda: out.write_text("mine")
    assert main.main(given(tmp_path, "--confirm", "main")) == REFUSED
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main.main([*given(tmp_path)[:-1], "/nowhere/out", "--confirm", "main"]) == REFUSED
    assert "/nowhere is no directory" in capsys.readouterr().err


def test_somebody_who_is_quicker_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", durable.add

    def add(path: Path, data: bytes, temporary: Path) -> None:
        out.write_text("mine")
        real(path, data, temporary)

    monkeypatch.setattr(durable, "add", add)
    with pytest.raises(SupervisorError, match="somebody else's") as refused:
        remove_key.write(out, PROTECTION)
    assert refused.value.code == "FileExists"
    assert out.read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def broken(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SupervisorError) as refused:
        remove_key.write(tmp_path / "out", PROTECTION)
    assert refused.value.code == "NotWritten"
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_web3signer_stay_there(
    fake: Fake,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    example: Applied,
) -> None:
    mine = replace(example.config.ethereum[0], keys=Keys(web3signer="https://s"))
    changed = replace(example.configured, validators={"main": mine})
    monkeypatch.setattr(Applied, "load", lambda: replace(example, configured=changed))
    assert main.main(given(tmp_path, "--confirm", "main")) == 0
    assert fake.done == ["look", "Stop", "remove", "Start", "watch"]
    said, told = capsys.readouterr()
    assert "The Web3Signer still has them" in told
    assert "keystores" not in told
    assert "import-keystore NAME --web3signer PUBKEY... --slashing-protection " in said


def test_without_the_name_nothing_is_done(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    assert main.main(given(tmp_path, "--confirm", "mian")) == REFUSED
    assert "nothing is changed" in capsys.readouterr().err
    assert fake.done == ["look"]


def test_what_does_not_stop_loses_nothing(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    fake.stuck = True
    assert main.main(given(tmp_path, "--confirm", "main")) == TEMPORARY
    assert fake.done == ["look", "Stop"]
    err = capsys.readouterr().err
    assert "nothing is removed" in err
    assert "journalctl -b -u validator@main.service -u validator-state@main.service" in err


def test_what_is_refused_leaves_it_running(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    fake.refuses = SupervisorError("JobFailed", "main was not stopped well")
    assert main.main(given(tmp_path, "--confirm", "main")) == REFUSED
    assert fake.done == ["look", "Stop", "remove", "Start"]
    assert "was not stopped well" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_does_not_start_again_is_said(fake: Fake, tmp_path: Path, capsys: Captured) -> None:
    real = fake.call

    def call(*words: str) -> tuple[object, ...]:
        fake.stuck = words[2] == "Start"
        return real(*words)

    fake.call = call  # type: ignore[method-assign, assignment]
    assert main.main(given(tmp_path, "--confirm", "main")) == TEMPORARY
    err = capsys.readouterr().err
    assert "the keys are removed, but main has not started" in err
    assert "journalctl" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place",
    [f"state/main/keys/{KEY}", f"state/main/client/secrets/{KEY.upper()}", "run/main/run.json"],
)
def test_what_is_still_laid_out_is_not_handed_out(
    fake: Fake, tmp_path: Path, capsys: Captured, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    known = {"node": "local", "public_keys": [OTHER, KEY], "silent_until": 0}
    path.write_text(json.dumps(known))
    assert main.main(given(tmp_path, "--confirm", "main")) == REFUSED
    assert f"{KEY} is still laid out" in capsys.readouterr().err
    assert "watch" not in fake.done
    assert not (tmp_path / "out").exists()
    path.unlink()
    assert main.main(given(tmp_path, "--confirm", "main")) == 0


@pytest.mark.parametrize(
    ("status", "ends", "message"),
    [
        (HALT, REFUSED, "SOMEBODY STILL SIGNS WITH A REMOVED KEY"),
        (TEMPORARY, TEMPORARY, "not watched to the end"),
        (REFUSED, REFUSED, "not watched to the end"),
    ],
)
def test_without_two_silent_epochs_there_is_no_file(
    fake: Fake, tmp_path: Path, capsys: Captured, status: int, ends: int, message: str
) -> None:
    fake.watched = status
    assert main.main(given(tmp_path, "--confirm", "main")) == ends
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        ("a.age: is damaged\nvalidator-supervisor: no\n  → do it\n", "no", "do it"),
        ("validator-supervisor: no\n", "no", ""),
        ("", "the job ended with 75", ""),
    ],
)
def test_what_a_job_says_is_what_is_said(
    example: Applied, monkeypatch: pytest.MonkeyPatch, stderr: str, message: str, hint: str
) -> None:
    def ended(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(argv, TEMPORARY, b"", stderr.encode())

    monkeypatch.setattr(run, "run", ended)
    with pytest.raises(SupervisorError) as failed:
        job.answer(example, "remove-key", ["look", "main", KEY], 5)
    assert (failed.value.message, failed.value.hint) == (message, hint)
    assert failed.value.exit_status == TEMPORARY


def test_many_keys_are_not_all_shown() -> None:
    keys = [f"0x{number:096x}" for number in range(12)]
    seen = {"present": keys, "removed": [], "left": 0, "unseen": {}}
    lines = remove_key.shown(
        "main", seen, runs=True, given=remove_key.Given("f", None, False, False)
    )
    assert f"  {keys[9]}" in lines
    assert f"  {keys[10]}" not in lines
    assert "  and 2 more" in lines
    assert any("no key is left" in line for line in lines)
