"""The start of a validator: which beacon nodes, whose directory, what to run."""

import fcntl
import os
from dataclasses import replace
from pathlib import Path

from validator_supervisor import releases
from validator_supervisor.applied import Applied
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.validators import Command, Cosmos, Ethereum, Release, Validator
from validator_supervisor.watch import ELSEWHERE, RESULTS, UNBELIEVED, Reading, readings


def lock(state: Path) -> None:
    """Hold an exclusive flock(2) on the state directory until this process and its successor end.

    The descriptor is inherited through exec, so the client holds it for its whole life.
    Raises SupervisorError ``AlreadyRunning``.
    """
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SupervisorError(
            "AlreadyRunning", f"another process holds {state}", f"fuser -v {state}"
        ) from None
    os.set_inheritable(descriptor, True)


def users_of(directory: Path, proc: Path = Path("/proc")) -> list[int]:
    """Return the processes that we can see and that have a file below ``directory`` open."""
    found = []
    for process in proc.iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            links = [path.readlink() for path in (process / "fd").iterdir()]
        except OSError:
            continue  # it has ended, or is another user's
        if any(link.is_relative_to(directory) for link in links):
            found.append(int(process.name))
    return found


def remove_stale_locks(stale: list[Path], directory: Path) -> list[Path]:
    """Remove the locks that a killed client has left; call with ``lock`` held.

    Raises SupervisorError ``AlreadyRunning`` while a process has ``directory`` open.
    """
    if stale:
        holders = users_of(directory)
        if holders:
            raise SupervisorError("AlreadyRunning", f"process {holders[0]} uses {directory}")
        for path in stale:
            # Newer releases of Lodestar lock with a directory.
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
    return stale


def beacons(applied: Applied, validator: Ethereum, path: Path = RESULTS) -> list[str]:
    """Return the nodes for a validator's client: the healthy ones, preferred first, then others.

    The client has those as well for when they are healthy again, and another one no longer is; but
    none that is on another chain. Raises SupervisorError ``NoBeacon`` (temporary) when none is
    healthy, with each one's problem.
    """
    found = readings(path)
    urls = applied.beacons(validator)
    seen = {name: found.get(url, Reading(url)) for name, url in urls.items()}
    healthy = [name for name, reading in seen.items() if reading.healthy]
    if not healthy:
        problems = "; ".join(f"{name}: {reading.problem}" for name, reading in seen.items())
        raise SupervisorError(
            "NoBeacon", f"no healthy beacon node ({problems})", exit_status=TEMPORARY
        )
    later = [
        name
        for name, reading in seen.items()
        if not reading.healthy and not reading.problem.startswith((ELSEWHERE, UNBELIEVED))
    ]
    return healthy + later


def released(validator: Ethereum) -> Ethereum:
    """Return the validator with the client and the program that its next start runs.

    Raises SupervisorError ``NoRelease`` (temporary) where none was downloaded yet.
    """
    wanted = validator.release
    if not wanted.version:
        return validator
    found = releases.current(validator.name)
    if not found:
        message = f"{wanted.client} {wanted.version} is not on this host yet"
        hint = f"systemctl status validator-release@{validator.name}"
        raise SupervisorError("NoRelease", message, hint, exit_status=TEMPORARY)
    return replace(validator, release=Release(client=found.client, binary=found.program))


def argv(validator: Cosmos | Command) -> list[str]:
    """Return the arguments of the process to become."""
    if isinstance(validator, Cosmos):
        program = f"{validator.home}/cosmovisor/current/bin/{validator.daemon}"
        return [program, "start", "--home", validator.home, *validator.args]
    return list(validator.command)


def check_program(path: str) -> None:
    """Raise SupervisorError ``NoProgram`` where a program cannot be executed."""
    if not os.access(path, os.X_OK):
        raise SupervisorError("NoProgram", f"{path} cannot be executed")


def environment(validator: Validator) -> dict[str, str]:
    """Return what is set for the process to become (cosmovisor's variables)."""
    if isinstance(validator, Cosmos):
        return {"DAEMON_HOME": validator.home, "DAEMON_NAME": validator.daemon}
    return {}


def refuse_what_is_not_safe_yet(validator: Validator) -> None:
    """Raise SupervisorError ``NotSupported`` for what this release cannot start safely.

    The configuration knows more than the jobs that exist.
    """
    reason = ""
    if isinstance(validator, Cosmos) and validator.key.active:
        reason = (
            "the consensus key is not handed over yet: key: {active: false} uses the one on disk"
        )
    if reason:
        raise SupervisorError("NotSupported", f"{validator.name}: {reason}")
