"""`validator-supervisor logs`: journalctl(1) with the names of our units."""

import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from validator_supervisor import nearest
from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.units import tunnel_unit, validator_unit

JOURNALCTL = "/usr/bin/journalctl"
# Where journald keeps what is persistent, and what is not (systemd-journald.service(8)).
JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
# Everything of ours that has ever said anything, also what is no longer configured.
EVERY = "validator*"
# What the pager and journalctl itself look at.
TERMINAL = (
    "TERM", "TZ", "HOME", "COLUMNS", "LINES", "NO_COLOR", "PAGER", "LESS", "SYSTEMD_PAGER",
    "SYSTEMD_LESS", "SYSTEMD_LESSCHARSET", "SYSTEMD_PAGERSECURE", "SYSTEMD_COLORS",
)  # fmt: skip


def units(applied: Applied, names: Sequence[str]) -> list[str]:
    """Return the units of the named validators and nodes, or of all. Raises SupervisorError."""
    validators = applied.config.validators
    tunnels = [node.name for node in applied.config.nodes.values() if node.host]
    found = []
    for name in names or [*validators, *tunnels]:
        if name not in validators and name not in applied.config.nodes:
            raise SupervisorError(
                "UnknownName",
                f"there is no validator or node {name}",
                nearest.hint(name, {*validators, *applied.config.nodes}),
            )
        if name not in validators and name not in tunnels:
            raise SupervisorError("NoTunnel", f"node {name} is this host: it has no tunnel")
        found += [validator_unit(name)] if name in validators else []
        found += [tunnel_unit(name)] if name in tunnels else []
    # Units are followed by name, because a pattern stands for what is in the journal already.
    return list(dict.fromkeys(found)) if names else [EVERY, *found]


def command(units: Iterable[str], given: Namespace) -> list[str]:
    """Return the arguments of journalctl; ``given`` has its options as our own parser read them."""
    argv = [JOURNALCTL, *(f"--unit={unit}" for unit in units)]
    argv += ["--follow"] if given.follow else []
    for option in ("lines", "since", "priority"):
        value = getattr(given, option)
        argv += [] if value is None else [f"--{option}={value}"]
    return argv


def environment() -> dict[str, str]:
    """Return what journalctl needs to know of the caller's terminal."""
    return {name: os.environ[name] for name in TERMINAL if name in os.environ}


def check_readable(journals: Iterable[Path] = JOURNALS) -> None:
    """Raise SupervisorError where there is a journal and none of it may be read by us."""
    files = [file for journal in journals for file in journal.glob("*/system.journal")]
    if files and not any(os.access(file, os.R_OK) for file in files):
        raise SupervisorError(
            "AccessDenied",
            "the journal cannot be read",
            "be root or a member of systemd-journal or adm",
        )
