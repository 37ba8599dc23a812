"""A validator's name, typed on a terminal."""

import os
import pty
from pathlib import Path

import pytest

from validator_supervisor.cli import confirm
from validator_supervisor.errors import SupervisorError


def answered(words: bytes) -> None:
    here, there = pty.openpty()
    try:
        os.write(here, words)
        confirm.typed("main", "--yes", Path(os.ttyname(there)))
    finally:
        os.close(here)
        os.close(there)


def test_the_name_goes_on() -> None:
    answered(b"main\n")
    answered(b" main \n")


@pytest.mark.parametrize("words", [b"y\n", b"\n", b"MAIN\n", b"other\n", b"\xff\n", b"\x04"])
def test_everything_else_changes_nothing(words: bytes) -> None:
    with pytest.raises(SupervisorError, match="main was not typed"):
        answered(words)


def test_without_a_terminal_a_script_says_so(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="no terminal") as refused:
        confirm.typed("main", "--yes", tmp_path / "tty")
    assert refused.value.hint == "in a script: --yes"


def test_what_is_to_be_typed_is_said() -> None:
    here, there = pty.openpty()
    try:
        os.write(here, b"0x12345678\n")
        terminal = Path(os.ttyname(there))
        confirm.typed("0x12345678", "--confirm KEY", terminal, what="the beginning of the key")
        assert b"Type the beginning of the key (0x12345678) to go on: " in os.read(here, 1000)
    finally:
        os.close(here)
        os.close(there)
