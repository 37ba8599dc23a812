import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from validator_supervisor import run
from validator_supervisor.applied import Applied
from validator_supervisor.cli import logs, main
from validator_supervisor.errors import SupervisorError

BOTH = """\
version: 1
nodes:
  main: {{host: h, host_key: {key}}}
  local: {{beacon: "127.0.0.1:5052"}}
validators:
  main: {{kind: command, command: [/bin/x]}}
"""


class BecameError(Exception):
    """Instead of execve, which does not return."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch, example: Applied) -> list[Sequence[str]]:
    seen: list[Sequence[str]] = []

    def become(argv: Sequence[str], extra: object) -> None:
        seen.append(argv)
        assert extra == logs.environment()
        raise BecameError

    monkeypatch.setattr(run, "become", become)
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(logs, "check_readable", lambda: None)
    return seen


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        ("main", ["--unit=validator@main.service"]),
        ("helsinki", ["--unit=validator-tunnel@helsinki.service"]),
        (
            "main other main -f",
            ["--unit=validator@main.service", "--unit=validator@other.service", "--follow"],
        ),
        (
            "-n 5 --since=-1h -p err main",
            ["--unit=validator@main.service", "--lines=5", "--since=-1h", "--priority=err"],
        ),
        (
            "--follow --lines=+3 --priority warning..err main",
            ["--unit=validator@main.service", "--follow", "--lines=+3", "--priority=warning..err"],
        ),
        (
            "",
            ["--unit=validator*", "--unit=validator@main.service",
             "--unit=validator@other.service", "--unit=validator@hub.service",
             "--unit=validator-tunnel@helsinki.service"],
        ),
    ],
)  # fmt: skip
def test_command(became: list[Sequence[str]], words: str, argv: list[str]) -> None:
    with pytest.raises(BecameError):
        main.main(["logs", *words.split()])
    assert became == [["/usr/bin/journalctl", *argv]]


def test_a_name_may_be_a_validators_and_a_nodes(make: object, host_key: str) -> None:
    assert callable(make)
    both = make(BOTH.format(key=host_key))
    assert logs.units(both, ["main"]) == [
        "validator@main.service", "validator-tunnel@main.service",
    ]  # fmt: skip
    with pytest.raises(SupervisorError, match="node local is this host"):
        logs.units(both, ["local"])
    assert logs.units(make("version: 1\n"), []) == ["validator*"]


@pytest.mark.parametrize("name", ["mian", "*", "", "../x", "main.service", "-"])
def test_a_typo_is_an_error(
    became: list[Sequence[str]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main.main(["logs", "main", name]) == 1
    assert became == []
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"validator-supervisor: there is no validator or node {name}\n  → ")


def test_the_environment_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TERM": "xterm", "SECRET": "x", "PAGER": "less"})
    assert logs.environment() == {"TERM": "xterm", "PAGER": "less"}


def test_a_journal_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.check_readable([tmp_path, tmp_path / "none"])
    file = tmp_path / "0123" / "system.journal"
    file.parent.mkdir()
    file.write_text("")
    logs.check_readable([tmp_path])
    file.chmod(0)

    def access(path: Path, mode: int) -> bool:
        # Root may read everything.
        assert mode == os.R_OK
        return bool(path.stat().st_mode & stat.S_IRUSR)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(SupervisorError) as caught:
        logs.check_readable([tmp_path])
    assert "systemd-journal or adm" in caught.value.hint
    (tmp_path / "4567").mkdir()
    (tmp_path / "4567/system.journal").write_text("")
    logs.check_readable([tmp_path])
