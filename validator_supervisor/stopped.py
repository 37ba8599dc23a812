"""Who has stopped a validator: what a person has stopped, unlocking does not start.

A flag in /run, so that it lasts until the next boot, as a stop does.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from validator_supervisor.errors import SupervisorError
from validator_supervisor.units import IDENTITY_UNIT, TARGET, validator_unit

STOPPED = Path("/run/validator-stopped")


class Systemd(Protocol):
    """What is asked of systemd; each raises SupervisorError."""

    def active(self, unit: str) -> str:
        """Return the ActiveState of a unit."""

    def job(self, unit: str) -> str:
        """Return the type of the job that is queued or runs for a unit, or ``""``."""


def by_person(systemd: Systemd, name: str, *, well: bool) -> bool:
    """Whether a validator, of whose units one has just ended, was stopped for itself.

    ``well``: it has not failed.

    Locking, and the stop of the target, have jobs of their own or leave the target inactive: it
    does not wait for what stops with it. Raises SupervisorError.
    """
    if systemd.active(TARGET) != "active" or systemd.job(TARGET) or systemd.job(IDENTITY_UNIT):
        return False
    unit = validator_unit(name)
    job = systemd.job(unit)
    # Without a job: it was waiting for its restart, and its state is what stops after it.
    return job == "stop" or (well and not job and systemd.active(unit) in ("inactive", "failed"))


def wanted(systemd: Callable[[], Systemd], name: str) -> bool:
    """Whether a validator still waits for its state; also where systemd does not say."""
    try:
        return systemd().job(validator_unit(name)) not in ("", "stop")
    except SupervisorError:
        return True


def remember(name: str, *, stopped: bool, directory: Path = STOPPED) -> None:
    """Set or remove a validator's flag. Raises OSError."""
    if stopped:
        directory.mkdir(mode=0o755, exist_ok=True)
        (directory / name).touch()
    else:
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()


def stopped(name: str, directory: Path = STOPPED) -> bool:
    """Whether a person has stopped the validator since the last boot."""
    return (directory / name).exists()
