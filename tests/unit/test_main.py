import sys
import tempfile

import pytest

from validator_supervisor import __version__
from validator_supervisor.applied import Applied
from validator_supervisor.cli import authorize, client, main
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError


def test_failure_is_shown_with_its_hint_and_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise SupervisorError("NoBus", "no \x1b[2Jbus\n", "wait", exit_status=TEMPORARY)

    monkeypatch.setattr(client, "Client", away)
    assert main.main(["status"]) == 75
    assert capsys.readouterr() == ("", "validator-supervisor: no ?[2Jbus?\n  → wait\n")


def test_authorize_prints_one_line(
    example: Applied, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(authorize, "line", lambda _, name: f"command for {name}")
    assert main.main(["authorize", "helsinki"]) == 0
    assert capsys.readouterr().out == "command for helsinki\n"
    monkeypatch.undo()
    monkeypatch.setattr(Applied, "load", lambda: example)
    assert main.main(["authorize", "none"]) == 1
    assert "no node none" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["start", "a"]])
def test_end_of_the_reader_is_quiet(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(client, "Client", gone)
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as printed:
        monkeypatch.setattr(sys, "stderr", said)
        monkeypatch.setattr(sys, "stdout", printed)
        assert main.main(words) == 1
        assert said.closed
        assert printed.closed


def test_help_is_as_wide_as_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    widest = {}
    for columns in (50, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit, match="0"):
            main.main(["logs", "--help"])
        widest[columns] = max(map(len, capsys.readouterr().out.splitlines()))
    assert widest[50] < 50 < widest[200]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [], ["start"], ["start", "a", ""], ["stop", "\udcff"], ["unknown"], ["--x"],
        ["connect"], ["connect", "a"], ["connect", "a", ""], ["connect", "a", "b", "--clear"],
        ["authorize"], ["exit", "a"], ["exit", "a", ""], ["logs", "--lines"], ["status", "a"],
    ],
)  # fmt: skip
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == REFUSED == 1
    out, err = capsys.readouterr()
    usage, *_, message = err.splitlines()
    assert out == ""
    assert usage.startswith("usage: validator-supervisor ")
    assert message.startswith("validator-supervisor")
