"""`validator-supervisor set-release`: another release, or another client, for a validator."""

import sys
import time
from collections.abc import Callable, Mapping

from validator_supervisor.bus import names
from validator_supervisor.cli import switch
from validator_supervisor.cli.client import Client
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.journal import printable

# A download may take nine minutes, and is tried again for a while.
SECONDS = 900.0
# In which a change that was applied reaches the unit that downloads.
SETTLE_SECONDS = 10.0
POLL_SECONDS = 0.2


def set_release(
    client: Client,
    name: str,
    wanted: tuple[str, str, str] | None,
    wait: Callable[[str], None] | None = None,
    *,
    now: bool,
) -> str:
    """Have a release downloaded and verified; it is run from the next start on, or ``now``.

    Without ``wanted`` it is the configuration's. What has to be waited for before the restart does
    ``wait``. Raises SupervisorError.
    """
    switch.call(client, name, "SetRelease", "sss", *(wanted or ("", "", "")))
    if wanted:
        switch.wait_until(client, name, "WantedRelease", f"{wanted[0]} {wanted[1]}")
    else:
        switch.wait_for(client, name, lambda seen: "release" not in _words(seen))
    release = _wait(client, name)
    seen = _seen(client, name)
    if seen.get("ActiveState") not in ("active", "activating"):
        return f"{name}: {release} is what its next start runs"
    if now:
        if wait:
            wait(name)
        switch.call(client, name, "Restart")
        return f"{name} is restarted with {release}"
    return f"{name}: {release} is in effect from the next start on: restart {name}"


def _words(seen: Mapping[str, object]) -> list[object]:
    found = seen.get("Overridden")
    return found if isinstance(found, list) else []


def _seen(client: Client, name: str) -> Mapping[str, object]:
    return client.objects().get(names.validator_path(name), {}).get(names.VALIDATOR, {})


def _wait(client: Client, name: str) -> str:
    """Wait until the release is there, and say how far that is; return its name."""
    began = time.monotonic()
    said = ""
    while True:
        seen = _seen(client, name)
        wanted, state = str(seen.get("WantedRelease")), seen.get("ReleaseState")
        if not wanted or (state == "active" and seen.get("Release") == wanted):
            return wanted or str(seen.get("Release"))
        status = printable(str(seen.get("ReleaseStatus")))
        if status != said:
            print(status, file=sys.stderr)
            said = status
        waited = time.monotonic() - began
        if waited > (SECONDS if state == "activating" else SETTLE_SECONDS):
            hint = f"journalctl -u validator-release@{name}"
            message = status or f"{wanted} is not downloaded: {state}"
            raise SupervisorError("NoRelease", message, hint, exit_status=TEMPORARY)
        time.sleep(POLL_SECONDS)
