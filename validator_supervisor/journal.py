"""Logging: one line per event to standard error, where systemd keeps it in the journal.

Lines carry the priority prefix of sd-daemon(3) when standard error is the journal, and none on
a terminal. Structured entries (an audit trail) go to journald's own socket.
"""

import os
import sys

from validator_supervisor.errors import SupervisorError

# syslog(3) priorities
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

# A line of journald's default LineMax= (journald.conf(5)) is cut there anyway.
MESSAGE_MAX = 4096


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for what could forge a line or command a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def log(priority: int, message: str) -> None:
    """Write one entry; control characters become ``?``."""
    prefix = f"<{priority}>" if "JOURNAL_STREAM" in os.environ else ""
    sys.stderr.write(f"{prefix}{printable(message[:MESSAGE_MAX])}\n")
    sys.stderr.flush()


def error(failure: SupervisorError) -> None:
    """Log an expected failure and what to do about it."""
    log(ERROR, failure.message)
    if failure.hint:
        log(ERROR, f"hint: {failure.hint}")


class Once:
    """Logs what goes on being so once, and again after something else."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def log(self, subject: str, message: str) -> None:
        """Write a warning, unless it was the last about the subject."""
        if self._said.get(subject) != message:
            self._said[subject] = message
            log(WARNING, f"{subject}: {message}")

    def forget(self, subject: str) -> None:
        """Note that there is nothing to warn of any more."""
        self._said.pop(subject, None)


def audit(message: str, **fields: str) -> None:
    """Write one entry with fields of its own (systemd.journal-fields(7)), priority notice."""
    from pystemd.journal import sendv  # imported here: most helpers never audit

    sendv(MESSAGE=message, PRIORITY=str(NOTICE), SYSLOG_IDENTIFIER="validator-supervisor", **fields)
