"""The one door for processes."""

import atexit
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from validator_supervisor.errors import SupervisorError

if TYPE_CHECKING:  # who becomes another process starts none, and should lose no time
    import subprocess

T = TypeVar("T")
# A size is looked at this often; a fast node sends 10 MB meanwhile.
POLL_SECONDS = 0.02
# The code of an error: a program has written more than it may.
TOO_MUCH = "TooMuch"
# What a program we start may see of our environment; a secret never travels in it.
KEPT = ("PATH", "LANG", "NOTIFY_SOCKET", "RUNTIME_DIRECTORY", "STATE_DIRECTORY")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a clean environment, in English so that messages can be recognised."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    stdin: bytes = b"",
    check: bool = True,
    extra: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run ``argv`` to its end, at most ``seconds``; ``extra`` is set in its environment, too.

    Raises SupervisorError ``ProcessFailed`` when it cannot be started, does not end in time or,
    with ``check``, ends with another status than 0; the message names the program, its status or
    signal, and the last line it wrote to standard error.
    """
    import subprocess

    name = os.path.basename(argv[0])  # noqa: PTH119
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            env=environment(extra),
            timeout=seconds,
            check=False,
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


def attended(argv: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
    """Run ``argv`` to its end, however long that takes, with our standard error.

    Its standard input is a pipe that has nothing, and ends when we do. Raises SupervisorError
    ``ProcessFailed`` when it cannot be started.
    """
    import subprocess

    reading, writing = os.pipe()
    try:
        return subprocess.run(
            argv, stdin=reading, stdout=subprocess.PIPE, env=environment(), check=False
        )
    except OSError as failure:
        raise SupervisorError("ProcessFailed", f"{argv[0]}: {failure.strerror}") from None
    finally:
        os.close(reading)
        os.close(writing)


def bounded(
    argv: Sequence[str], *, seconds: float, directory: Path, size: int
) -> "subprocess.CompletedProcess[bytes]":
    """Run ``argv`` for somebody who is not trusted; nothing that it has started is left.

    Its output goes to files in ``directory``. Raises SupervisorError ``ProcessFailed`` when it
    cannot be started or runs longer than ``seconds``, and ``TooMuch`` when all files there have
    more than ``size`` bytes together; not for its exit status.
    """
    import signal
    import subprocess

    name = os.path.basename(argv[0])  # noqa: PTH119
    with (directory / "stdout").open("w+b") as output, (directory / "stderr").open("w+b") as errors:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment(),
                process_group=0,
            )
        except OSError as failure:
            raise SupervisorError("ProcessFailed", f"{name}: {failure.strerror}") from None
        # What somebody else's server keeps busy does not outlive us, in whatever thread this is.
        end = partial(_end, process.pid)
        atexit.register(end)
        try:
            _watch(process.pid, seconds, directory, size)
        finally:
            # Before it is waited for: until then the number is that of this group.
            os.killpg(process.pid, signal.SIGKILL)
            atexit.unregister(end)
            status = process.wait()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(argv, status, output.read(), errors.read())


def _end(group: int) -> None:
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _watch(pid: int, seconds: float, directory: Path, size: int) -> None:
    import time

    end = time.monotonic() + seconds
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while not os.waitid(os.P_PID, pid, flags):
        if sum(path.lstat().st_size for path in directory.iterdir()) > size:
            raise SupervisorError(TOO_MUCH, f"more than {size} bytes", exit_status=75)
        if time.monotonic() > end:
            raise SupervisorError("ProcessFailed", f"no end within {seconds:.3g} s", exit_status=75)
        time.sleep(POLL_SECONDS)


def unless(argv: Sequence[str], instead: Callable[[], T | None], *, pause: float) -> bytes | T:
    """Run ``argv`` and return its output; or end it, and return what ``instead`` has meanwhile.

    ``instead`` is asked every ``pause`` seconds. Raises what it raises, and SupervisorError
    ``ProcessFailed`` when the program cannot be started.
    """
    import subprocess

    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment()
        )
    except OSError as failure:
        raise SupervisorError("ProcessFailed", f"{argv[0]}: {failure.strerror}") from None
    with process:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.communicate(timeout=pause)[0]
                found = instead()
                if found is not None:
                    return found
        finally:
            process.terminate()


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
