"""The one door for processes."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from validator_supervisor.errors import SupervisorError

if TYPE_CHECKING:  # who becomes another process starts none, and should lose no time
    import subprocess

# What a program we start may see of our environment; a secret never travels in it.
KEPT = ("PATH", "LANG", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a clean environment, in English so that messages can be recognised."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str], *, seconds: float, stdin: bytes = b"", check: bool = True
) -> "subprocess.CompletedProcess[bytes]":
    """Run ``argv`` to its end, at most ``seconds``.

    Raises SupervisorError ``ProcessFailed`` when it cannot be started, does not end in time or,
    with ``check``, ends with another status than 0; the message names the program, its status or
    signal, and the last line it wrote to standard error.
    """
    import subprocess

    name = os.path.basename(argv[0])  # noqa: PTH119
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, env=environment(), timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise SupervisorError(
            "ProcessFailed", f"{name} did not end within {seconds:g} s", exit_status=75
        ) from None
    except OSError as failure:
        raise SupervisorError("ProcessFailed", f"{name}: {failure.strerror}") from None
    if check and done.returncode:
        raise SupervisorError("ProcessFailed", f"{name} {ending(done)}")
    return done


def ending(done: "subprocess.CompletedProcess[bytes]") -> str:
    """Say how a process ended: its status or signal, and its last words."""
    code = done.returncode
    how = f"was killed by {_signal(-code)}" if code < 0 else f"exited with {code}"
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return f"{how}: {words[-1]}" if words else how


def _signal(number: int) -> str:
    import signal

    # Of the real-time signals only the first and the last have a name.
    known = [s.name for s in signal.Signals if s == number]
    return known[0] if known else f"signal {number}"


def become(argv: Sequence[str], extra: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by ``argv``. Raises SupervisorError when that cannot be done."""
    try:
        os.execve(argv[0], list(argv), environment(extra))  # noqa: S606
    except OSError as failure:
        raise SupervisorError("ProcessFailed", f"{argv[0]}: {failure.strerror}") from None
