"""The slashing protection that a validator has exported: a file of its user, and so not trusted."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import interchange
from validator_supervisor.errors import FormatError
from validator_supervisor.interchange import Interchange

DIRECTORY, FILE = "export", "slashing-protection.json"
# Of 20000 keys: of each there is one block and one attestation.
SIZE_MAX = 8 << 20
# Beside it while the client runs, and until it has been asked again: the file is older.
STALE = "stale"


@dataclass(frozen=True)
class Exported:
    """What was exported, and when by the clock (Unix seconds).

    ``stale``: the client has run since, and has signed more.
    """

    protection: Interchange
    time: int
    remarks: tuple[str, ...] = ()
    stale: bool = False


def read(directory: Path) -> Exported | None:
    """Return the export below a validator's directory; None where there is none.

    No link is followed, nothing is waited for. Raises FormatError for what is no interchange
    document.
    """
    try:
        stale = os.path.lexists(directory / DIRECTORY / STALE)
        raw, when = _content(directory)
    except FileNotFoundError:
        return None
    except OSError as failure:
        raise FormatError("Export", f"{DIRECTORY}/{FILE}: {failure.strerror}") from None
    parsed = interchange.parse(raw)
    return Exported(parsed.interchange, when, parsed.remarks, stale)


def _content(directory: Path) -> tuple[bytes, int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    parent = os.open(directory / DIRECTORY, flags | os.O_DIRECTORY)
    try:
        descriptor = os.open(FILE, flags, dir_fd=parent)
    finally:
        os.close(parent)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError("Export", "is not a file")
        raw = file.read(SIZE_MAX + 1)
    if len(raw) > SIZE_MAX:
        raise FormatError("Export", f"is larger than {SIZE_MAX} bytes")
    return raw, int(status.st_mtime)
