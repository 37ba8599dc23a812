"""A new file of a command's, for root alone: whole or not there, and never over another one."""

import os
from pathlib import Path

from validator_supervisor import durable
from validator_supervisor.errors import SupervisorError


def free(out: Path) -> None:
    """Refuse what cannot become the file, before anything is done. Raises SupervisorError."""
    if os.path.lexists(out):
        raise SupervisorError("FileExists", f"{out} is there already: it is not overwritten")
    if not out.parent.is_dir():
        raise SupervisorError("NotWritten", f"{out.parent} is no directory")


def write(out: Path, raw: bytes) -> None:
    """Write it with mode 0600. Raises SupervisorError ``FileExists``, ``NotWritten``."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        free(out)
        durable.add(out, raw, temporary)
        if out.read_bytes() != raw:
            raise SupervisorError("FileExists", f"{out} is somebody else's: it was not overwritten")
    except OSError as failure:
        raise SupervisorError("NotWritten", f"{out}: {failure.strerror}") from None
