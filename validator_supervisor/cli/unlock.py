"""`validator-supervisor unlock` and `lock`."""

import contextlib
import os
import sys
import time
from collections.abc import Callable

from validator_supervisor.bus import names
from validator_supervisor.cli import secret
from validator_supervisor.cli.client import Client
from validator_supervisor.errors import TEMPORARY, SupervisorError

# The longest delay after wrong passphrases, and the work of one.
UNLOCK_SECONDS = 400.0
# Jobs that need the identity stop first: each has a minute and a half.
LOCK_SECONDS = 180.0
# A passphrase takes a second; after these it is something else that we wait for.
PATIENCE_SECONDS = 5.0
WAITING = "still waiting: after wrong passphrases each attempt takes longer"


def unlock(descriptor: int | None) -> int:
    """Unlock the identity; returns the exit status. Raises SupervisorError."""
    client = Client(enable_fds=True)
    if not _manager(client)["Locked"]:
        print("unlocked already")
        return 0
    secret.guard()
    _send(client, secret.given(descriptor, "Passphrase of the validators"))
    _wait(client, UNLOCK_SECONDS, lambda manager: not manager["Locked"], "unlocking")
    print("unlocked")
    return 0


def lock() -> int:
    """Lock the identity, after what needs it has stopped. Raises SupervisorError."""
    client = Client()
    _call(client, "Lock")
    _wait(client, LOCK_SECONDS, lambda manager: bool(manager["Locked"]), "locking")
    print("locked")
    return 0


def _send(client: Client, passphrase: bytes) -> None:
    """Hand it over in a pipe, which holds all of it before the controller has the other end."""
    reading, writing = os.pipe()
    try:
        os.write(writing, passphrase)
        os.close(writing)
        _call(client, "UnlockFd", "h", reading)
    finally:
        os.close(reading)


def _call(client: Client, method: str, signature: str = "", *body: object) -> None:
    client.call(names.ROOT, names.MANAGER, method, signature, *body)


def _manager(client: Client) -> dict[str, object]:
    return client.objects()[names.ROOT][names.MANAGER]


def _wait(
    client: Client, seconds: float, done: Callable[[dict[str, object]], bool], what: str
) -> None:
    begun, said = time.monotonic(), False
    while True:
        manager = _manager(client)
        if done(manager):
            return
        problem = str(manager["UnlockProblem"])
        if problem and what == "unlocking":
            raise SupervisorError("NotUnlocked", problem)
        passed = time.monotonic() - begun
        if passed > seconds:
            hint = "systemctl status validator-identity"
            message = f"{what} takes more than {seconds:g} s"
            raise SupervisorError("NotYet", message, hint, exit_status=TEMPORARY)
        if passed > PATIENCE_SECONDS and not said and what == "unlocking":
            said = True
            with contextlib.suppress(OSError):
                print(WAITING, file=sys.stderr, flush=True)
        time.sleep(0.1)
