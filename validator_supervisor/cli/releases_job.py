"""What `releases rollback` and `releases prune` do as validator-release."""

from collections.abc import Sequence
from pathlib import Path

from validator_supervisor import durable, releases
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import REFUSED, SupervisorError
from validator_supervisor.releases import ROOT


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    """Run rollback NAME, forward NAME or prune NAME KEEP FOLDER...; returns the exit status."""
    verb, name, *rest = argv
    directory = root / name
    try:
        with durable.locked(directory):
            if verb == "rollback":
                told = _rollback(name, directory)
            elif verb == "forward":
                told = _forward(name, directory)
            else:
                told = _prune(directory, int(rest[0]), rest[1:])
    except SupervisorError as refusal:
        failure.show(refusal, f"{name}: ")
        return refusal.exit_status
    except OSError as broken:
        message = f"{broken.filename or directory}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    streams.write(told)
    return 0


def _rollback(name: str, directory: Path) -> str:
    before = releases.linked(directory)
    after = releases.rollback(directory)
    return (
        f"{name}: {after} instead of {before}, from its next start on\n"
        f"  now: validator-supervisor restart {name}\n"
        f"  until another version is configured, or: validator-supervisor releases rollback"
        f" {name} --clear\n"
    )


def _forward(name: str, directory: Path) -> str:
    if not releases.forward(directory):
        return f"{name}: nobody has gone back\n"
    return f"{name}: as configured again, after: systemctl restart validator-release@{name}\n"


def _prune(directory: Path, keep: int, running: Sequence[str]) -> str:
    removed = releases.prune(directory, keep, running)
    return "".join(f"removed {one}\n" for one in removed) or "nothing to remove\n"
