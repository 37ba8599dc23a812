"""Which host this is, and which of its boots."""

import hmac
import os
from pathlib import Path

from validator_supervisor.errors import SupervisorError

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc")
BOOT = "VALIDATOR_BOOT_ID"


def host_id(path: Path = MACHINE_ID) -> str:
    """Return this host's id, 32 hexadecimal digits that do not tell its machine id.

    machine-id(5) asks programs to derive their own. Raises SupervisorError ``NoHostId``.
    """
    try:
        machine = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        machine = b""
    if len(machine) != 16:
        raise SupervisorError("NoHostId", f"{path} holds no machine id", "see machine-id(5)")
    return hmac.digest(machine, b"validator-supervisor host", "sha256")[:16].hex()


def boot_id(path: Path = BOOT_ID) -> str:
    """Return the id of this boot, 32 hexadecimal digits.

    Units say it (``%b``): confined in a container, a job may see that of the kernel, which stays.
    """
    return (os.environ.get(BOOT) or path.read_text().strip()).replace("-", "")


def boot_age(proc: Path = PROC) -> int:
    """Return for how many seconds this boot has lasted: since systemd was started.

    In a container the kernel is older than the boot.
    """
    uptime = float((proc / "uptime").read_text().split()[0])
    # The name in parentheses may hold anything; starttime is the 20th field after it (proc(5)).
    ticks = int((proc / "1/stat").read_text().rpartition(")")[2].split()[19])
    return max(0, int(uptime - ticks / os.sysconf("SC_CLK_TCK")))
