"""What commands read, and what they print: all of it, or an error that names the file."""

import contextlib
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from validator_supervisor.errors import SupervisorError

STDIN = "-"


@contextlib.contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file, or a pipe that a shell makes of ``<(...)``, or standard input (``-``).

    Raises SupervisorError ``NotReadable``, which names the file, also for what happens inside.
    """
    try:
        if file == STDIN:
            if sys.stdin is None:
                raise SupervisorError("NotReadable", "standard input is closed")
            yield sys.stdin.buffer
            return
        # A device may never end, and some do something when they are opened.
        mode = Path(file).stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise SupervisorError("NotReadable", f"{file}: is neither a file nor a pipe")
        with Path(file).open("rb") as stream:
            yield stream
    except OSError as failure:
        message = f"{file}: cannot be read: {failure.strerror}"
        raise SupervisorError("NotReadable", message) from None


def read(file: str, limit: int) -> bytes:
    """Return what is in a file; of one that is longer than ``limit``, one byte more than that."""
    with opened(file) as stream:
        return stream.read(limit + 1)


def write(text: str) -> None:
    """Print ``text`` as it is. Raises SupervisorError ``NoOutput``, and BrokenPipeError."""
    if sys.stdout is None:
        raise SupervisorError("NoOutput", "standard output is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except UnicodeEncodeError:
        write(text.encode("ascii", "backslashreplace").decode())
    except BrokenPipeError:
        raise
    except OSError as failure:
        # Python would try once more at its end, and say so in its own words.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        message = f"standard output cannot be written: {failure.strerror}"
        raise SupervisorError("NoOutput", message) from None
