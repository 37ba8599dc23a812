"""`--when-safe`: wait for a moment in which a stop misses no block and no sync committee.

Attestations are not waited for: there is one in every epoch, and it is worth little.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from validator_supervisor import copies
from validator_supervisor.bus import names
from validator_supervisor.cli import switch
from validator_supervisor.cli.client import Client
from validator_supervisor.errors import TEMPORARY, SupervisorError

# For which nothing may be due: a stop, its final backup, and a start.
CLEAR_SECONDS = 30.0
POLL_SECONDS = 1.0


class Duty(NamedTuple):
    """Why it is no good moment, and until when (Unix seconds)."""

    why: str
    until: float


def near(seen: Mapping[str, object], now: float) -> Duty | None:
    """Return the duty that is near by a validator's properties, None where nothing is."""
    if seen.get("ActiveState") != "active":
        return None  # it does nothing that could be missed
    proposal, committee, known = (
        int(str(seen[key])) / 1e6
        for key in ("NextProposalUSec", "SyncCommitteeUntilUSec", "DutiesKnownUntilUSec")
    )
    if committee > now:
        return Duty("it is in a sync committee", committee)
    if now - CLEAR_SECONDS < proposal < now + CLEAR_SECONDS:
        return Duty("it proposes a block", proposal + CLEAR_SECONDS)
    if known < now + CLEAR_SECONDS:
        return Duty("what it has to do is not known yet", now)
    return None


def wait(client: Client, name: str, seconds: float, clock: Callable[[], float] = time.time) -> None:
    """Wait at most ``seconds`` until nothing is near, and say what for and until when.

    Raises SupervisorError ``NotSafe`` (temporary), at once where it would take longer.
    """
    end = clock() + seconds
    said = ""
    while True:
        found = client.objects().get(names.validator_path(name), {}).get(names.VALIDATOR)
        if found is None:
            raise switch.unknown(client, name)
        now = clock()
        duty = near(found, now)
        if duty is None:
            return
        words = f"{name}: {duty.why}" + (f" until {_at(duty.until)}" if duty.until > now else "")
        if duty.until > end or now >= end:
            hint = f"without --when-safe it is done now; --within is {seconds:g} s"
            raise SupervisorError("NotSafe", f"{words}: not done", hint, exit_status=TEMPORARY)
        if words != said:
            print(f"{words}: waiting", file=sys.stderr)
            said = words
        time.sleep(POLL_SECONDS)


def _at(seconds: float) -> str:
    return copies.at(int(seconds))
