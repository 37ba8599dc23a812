"""helpers/host-key: what ssh's KnownHostsCommand is told."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor import config
from validator_supervisor.config import Applied
from validator_supervisor.errors import SupervisorError

Main = Callable[[str, str, str, str], int]
PLACE = "[hel.example.net]:2222"


@pytest.fixture
def ask(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make: Callable[[str], Applied],
    host_key: str,
) -> Main:
    module = helper("host-key")
    monkeypatch.setattr(module, "Path", lambda path: tmp_path / path.removeprefix("/"))
    for name in ("pinned", "new"):
        for kind in ("run", "var/lib"):
            (tmp_path / kind / "validator-tunnel" / name).mkdir(parents=True)
    text = "version: 1\nnodes:\n"
    text += (
        f"  pinned: {{host: h, host_key: {host_key}}}\n  new: {{host: h, host_key: first-use}}\n"
    )
    monkeypatch.setattr(config, "applied", lambda: make(text))
    main: Main = module.main
    return main


def test_pinned_key_is_the_only_answer(
    ask: Main,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    host_key: str,
    key: Callable[..., str],
) -> None:
    other = key(seed=9)
    for offered in (host_key, other, key("ssh-rsa")):
        assert ask("pinned", PLACE, *offered.split()) == 0
        assert capsys.readouterr().out == f"{PLACE} {host_key}\n"
    note = tmp_path / "run/validator-tunnel/pinned/host-key-changed"
    assert note.read_text() == key("ssh-rsa")


def test_question_for_preferred_types_pins_nothing(
    ask: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path, host_key: str
) -> None:
    assert ask("new", PLACE, "NONE", "NONE") == 0
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "var/lib/validator-tunnel/new").iterdir())
    assert ask("pinned", PLACE, "NONE", "NONE") == 0
    assert capsys.readouterr().out == f"{PLACE} {host_key}\n"


def test_first_contact_is_pinned_and_the_second_key_refused(
    ask: Main, capsys: pytest.CaptureFixture[str], host_key: str, key: Callable[..., str]
) -> None:
    assert ask("new", PLACE, *host_key.split()) == 0
    assert ask("new", PLACE, *key(seed=9).split()) == 0
    assert capsys.readouterr().out == f"{PLACE} {host_key}\n" * 2


def test_nothing_is_accepted_after_a_failure(
    ask: Main,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    host_key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ask("unknown", PLACE, *host_key.split()) == 1
    (tmp_path / "var/lib/validator-tunnel/new/host-key").write_bytes(b"\xff")
    assert ask("new", PLACE, *host_key.split()) == 1

    def damaged() -> Applied:
        raise SupervisorError("NotApplied", "is damaged")

    monkeypatch.setattr(config, "applied", damaged)
    assert ask("pinned", PLACE, *host_key.split()) == 1
    assert capsys.readouterr().out == ""
