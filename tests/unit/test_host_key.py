"""helpers/host-key: what ssh's KnownHostsCommand is told."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor import durable

Main = Callable[..., int]
PLACE = "[hel.example.net]:2222"


@pytest.fixture
def ask(
    helper: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Main:
    module = helper("host-key")
    monkeypatch.setattr("pathlib.Path", lambda path: tmp_path / path.removeprefix("/"))
    for kind in ("run", "var/lib"):
        (tmp_path / kind / "validator-tunnel" / "node").mkdir(parents=True)
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
        assert ask("node", PLACE, *offered.split(), *host_key.split()) == 0
        assert capsys.readouterr().out == f"{PLACE} {host_key}\n"
    note = tmp_path / "run/validator-tunnel/node/host-key-changed"
    assert note.read_text() == key("ssh-rsa")


def test_question_for_preferred_types_pins_nothing(
    ask: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path, host_key: str
) -> None:
    assert ask("node", PLACE, "NONE", "NONE") == 0
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "var/lib/validator-tunnel/node").iterdir())
    assert ask("node", PLACE, "NONE", "NONE", *host_key.split()) == 0
    assert capsys.readouterr().out == f"{PLACE} {host_key}\n"


def test_first_contact_is_pinned_and_the_second_key_refused(
    ask: Main,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    host_key: str,
    key: Callable[..., str],
) -> None:
    assert ask("node", PLACE, *host_key.split()) == 0
    pin = (tmp_path / "var/lib/validator-tunnel/node/host-key").read_text().split()
    assert ask("node", PLACE, *key(seed=9).split(), *pin) == 0
    assert capsys.readouterr().out == f"{PLACE} {host_key}\n" * 2


def test_nothing_is_accepted_after_a_failure(
    ask: Main,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    host_key: str,
) -> None:
    def full(*written: object) -> None:
        del written
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    assert ask("node", PLACE, *host_key.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No space left on device" in err
