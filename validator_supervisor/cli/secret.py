"""Passphrases on the command line: from a terminal without echo, or from a descriptor."""

import ctypes
import getpass
import os
import resource
import time

import prctl

from validator_supervisor import identity, journal, passphrase
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable

MCL_CURRENT, MCL_FUTURE = 1, 2  # mlockall(2)
# Whoever writes to the descriptor may be a person, too.
SECONDS = 120.0


def guard() -> None:
    """Keep this process out of swap, core dumps and debuggers, as far as its user may."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl.set_dumpable(0)
    # Others have a small limit, and what they need later must not fail because of it.
    wanted = MCL_CURRENT | MCL_FUTURE if os.geteuid() == 0 else MCL_CURRENT
    if ctypes.CDLL(None).mlockall(wanted):
        journal.log(journal.WARNING, "what is typed here may be swapped out: mlockall(2) failed")


def given(descriptor: int | None, question: str) -> bytes:
    """Return the passphrase of a descriptor, or of a person. Raises SupervisorError."""
    typed = ask(question) if descriptor is None else from_descriptor(descriptor)
    identity.check(typed)
    return typed


def chosen(descriptor: int | None) -> bytes:
    """Return a new passphrase, which a person types twice. Raises SupervisorError."""
    typed = given(descriptor, "New passphrase")
    if descriptor is None and ask("The same again") != typed:
        raise SupervisorError("NoPassphrase", "these were two different passphrases")
    return typed


def ask(question: str, option: str = "--passphrase-fd") -> bytes:
    """Ask on the terminal, whatever standard input is; ``option`` is what a script has for it.

    Raises SupervisorError.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
        return getpass.getpass(f"{printable(question)}: ").encode()
    except OSError:
        reason = "there is no terminal to ask on"
    except (EOFError, UnicodeError):
        reason = "what was typed is no passphrase"
    raise SupervisorError("NoPassphrase", reason, f"{option} N reads it from a descriptor")


def from_descriptor(descriptor: int) -> bytes:
    """Return what a descriptor that we were started with holds. Raises SupervisorError."""
    reason = ""
    try:
        return passphrase.typed(passphrase.read(descriptor, time.monotonic() + SECONDS))
    except TimeoutError:
        reason = f"did not end within {SECONDS:g} s"
    except OSError as failure:
        reason = str(failure.strerror)
    raise SupervisorError("NoPassphrase", f"descriptor {descriptor}: {reason}")
