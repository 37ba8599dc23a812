"""Commands that need the identity: run as validator-state, in a transient unit of systemd's."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from validator_supervisor import host, run
from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.generator import group_of
from validator_supervisor.place import credentials, writable
from validator_supervisor.validators import Validator

HELPERS = Path("/usr/lib/validator-supervisor")
UNLOCKED = Path("/run/validator-identity/identity")
USER = "validator-state"
# As in validator-backup@.service, where the reasons are.
SANDBOX = (
    "CapabilityBoundingSet=",
    "DevicePolicy=closed",
    "KeyringMode=private",
    "LimitCORE=0",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "MemoryMax=2G",
    "MemorySwapMax=0",
    "NoNewPrivileges=yes",
    "PartOf=validator-identity.service",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "Slice=validator.slice",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallFilter=@setuid prlimit64",
    "UMask=0077",
)


def command(
    applied: Applied, helper: str, words: Sequence[str], extra: Sequence[str] = ()
) -> list[str]:
    """Return the arguments of systemd-run(1); ``extra`` are more lines of [Service].

    Standard input, output and error, and the exit status, are the job's. It may write what
    validator-state keeps of validators, and to places on this host.
    """
    lines = [*SANDBOX, f"User={USER}", "ReadWritePaths=-/var/lib/validator-state"]
    lines += [f"ReadWritePaths={path}" for path in writable(applied)]
    lines += [f"Environment={host.BOOT}={host.boot_id()}", *credentials(applied), *extra]
    return transient(helper, words, lines)


def transient(helper: str, words: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return the arguments of systemd-run(1) for a helper; ``lines`` are all of [Service]."""
    argv = ["/usr/bin/systemd-run", "--quiet", "--collect", "--pipe", "--wait"]
    for line in lines:
        argv += ["-p", line]
    return [*argv, "--", str(HELPERS / helper), *words]


def of_validator(validator: Validator) -> list[str]:
    """Return the lines of [Service] for a job with one validator's directories."""
    return [
        f"Group={group_of(validator.user)}",
        f"StateDirectory=validator-state/{validator.name}",
        "StateDirectoryMode=0711",
    ]


def answer(
    applied: Applied, helper: str, words: Sequence[str], seconds: float, stdin: bytes = b""
) -> bytes:
    """Run the job of one validator, ``VERB NAME ...``, and return what it prints.

    Raises SupervisorError ``JobFailed`` with what the job itself says is wrong.
    """
    argv = command(applied, helper, words, of_validator(applied.config.validators[words[1]]))
    done = run.run(argv, seconds=seconds, stdin=stdin, check=False)
    if done.returncode:
        # Before it there may be what it has logged.
        said = done.stderr.decode(errors="replace").strip().rpartition("validator-supervisor: ")[2]
        lines = said.splitlines() or [f"the job ended with {done.returncode}"]
        hint = lines[1].strip(" →") if len(lines) > 1 else ""
        raise SupervisorError("JobFailed", lines[0], hint, exit_status=done.returncode)
    return done.stdout


def become(
    applied: Applied,
    helper: str,
    words: Sequence[str],
    extra: Sequence[str] = (),
    *,
    stdin: bool = False,
) -> NoReturn:
    """Replace this process by the job, which does not get root's terminal but with ``stdin``.

    Raises SupervisorError ``NotRoot`` and ``Locked``.
    """
    check()
    if not stdin:
        os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    run.become(command(applied, helper, words, extra))


def check() -> None:
    """Raise SupervisorError where a job could not be started, or could open nothing."""
    if os.geteuid() != 0:
        raise SupervisorError("NotRoot", "this opens archives: only root may", "use sudo")
    if not UNLOCKED.exists():
        raise SupervisorError("Locked", "the identity is locked", "validator-supervisor unlock")
