"""How a passphrase gets from whoever has it to the job that opens the identity.

The job connects to validator-passphrase.socket. What answers there is root's: it passes on a
descriptor that the controller was given, or a credential, or asks on every terminal.
"""

import array
import contextlib
import os
import select
import socket
import stat
import time
from pathlib import Path

from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.identity import PASSPHRASE_MAX

SOCKET = Path("/run/validator-passphrase")
# Where the controller offers what UnlockFd has brought.
OFFER = Path("/run/validator-supervisor/unlock")
# The controller looks at its sockets all the time.
OFFER_SECONDS = 5.0
# Whoever passes a descriptor on has the passphrase at hand.
RELAY_SECONDS = 20.0
# As long as validator-passphrase@.service may run.
ANSWER_SECONDS = 95.0
QUESTION = [
    "/usr/bin/systemd-ask-password",
    # Not here: an agent on a terminal asks (systemd-ask-password(1)).
    "--no-tty",
    "--timeout=60",
    "--id=validator-identity",
    "Passphrase of the validators:",
]


def typed(raw: bytes) -> bytes:
    """Return a passphrase without the end of the line that it was typed on."""
    return raw.removesuffix(b"\n")


def answer(path: Path = SOCKET, limit_seconds: float = ANSWER_SECONDS) -> bytes:
    """Ask for the passphrase and wait for it; empty where nobody has given one."""
    end = time.monotonic() + limit_seconds
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(str(path))
            return typed(read(asked.fileno(), end))
        except TimeoutError:
            return b""
        except OSError as failure:
            message = f"nobody can be asked: {path}: {failure.strerror}"
            raise SupervisorError("NoPassphrase", message, exit_status=TEMPORARY) from None


def offered(path: Path = OFFER, limit_seconds: float = OFFER_SECONDS) -> int | None:
    """Return the descriptor that the controller has for us, None where there is none."""
    fds = array.array("i")
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(limit_seconds)
        # No controller, or one that does not answer: a person is asked.
        with contextlib.suppress(OSError):
            asked.connect(str(path))
            _, found, _, _ = asked.recvmsg(1, socket.CMSG_SPACE(fds.itemsize))
            for level, kind, data in found:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds[0] if fds else None


def relayed(descriptor: int, limit_seconds: float = RELAY_SECONDS) -> bytes:
    """Return what somebody's descriptor holds. Raises SupervisorError ``NoPassphrase``."""
    try:
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or stat.S_ISREG(kind)):
            raise SupervisorError("NoPassphrase", "the descriptor is no pipe, socket or file")
        return read(descriptor, time.monotonic() + limit_seconds)
    except TimeoutError:
        message = f"the descriptor did not end within {limit_seconds:g} s"
        raise SupervisorError("NoPassphrase", message) from None
    except OSError as failure:
        message = f"the descriptor cannot be read: {failure.strerror}"
        raise SupervisorError("NoPassphrase", message) from None


def read(descriptor: int, end: float) -> bytes:
    """Return all of a stream that a passphrase fits in, until ``end`` of the monotonic clock.

    Raises TimeoutError, OSError, and SupervisorError ``NoPassphrase`` for one that is too long.
    """
    # Another process may read between our look and our reading.
    os.set_blocking(descriptor, False)
    found = b""
    while len(found) <= PASSPHRASE_MAX + 1:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError
        try:
            piece = os.read(descriptor, PASSPHRASE_MAX + 2)
        except BlockingIOError:
            continue
        if not piece:
            return found
        found += piece
    message = f"a passphrase has at most {PASSPHRASE_MAX} bytes"
    raise SupervisorError("NoPassphrase", message)
