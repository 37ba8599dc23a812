"""A person's word for what cannot be undone: a name or a key, typed on the terminal."""

from pathlib import Path

from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable

TERMINAL = Path("/dev/tty")
# Of what is typed: a name has 20.
LINE_MAX = 100


def typed(
    name: str, option: str, terminal: Path = TERMINAL, what: str = "the validator's name"
) -> None:
    """Ask for the name, which is ``what``; ``option`` is what a script gives instead.

    Raises SupervisorError ``NotConfirmed``.
    """
    try:
        # Standard input may be anything; this is where a person is.
        with terminal.open("r+b", buffering=0) as opened:
            opened.write(f"Type {what} ({printable(name)}) to go on: ".encode())
            answer = opened.readline(LINE_MAX)
    except OSError:
        raise SupervisorError(
            "NotConfirmed", "there is no terminal to ask on", f"in a script: {option}"
        ) from None
    given(name, answer.decode(errors="replace").strip())


def given(name: str, answer: str) -> None:
    """Compare what was typed with the name. Raises SupervisorError ``NotConfirmed``."""
    if answer != name:
        raise SupervisorError("NotConfirmed", f"{name} was not typed: nothing is changed")
