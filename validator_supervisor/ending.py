"""What the end of a client means: its exit status, and the last lines of its log.

Clients say in neither by themselves that they are not to be restarted: four of five exit with 0, 1
or 2 when they have found a twin. The words that do are in each client's module.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from validator_supervisor import halt, journal, run
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import HALTING, Client
from validator_supervisor.errors import SupervisorError
from validator_supervisor.halt import Halt

# In the runtime directory: the name of the client that runs, or has run, and its program.
CLIENT = "client"
# What a client says when it gives up is among its last words.
LINES = 200
LINE_MAX = 2000
# journald(8) answers at once, or is in trouble; a validator is waited for.
SECONDS = 2.0


def client_of(directories: str) -> Client | None:
    """Return the client that has run, None where there was none.

    ``directories`` is $RUNTIME_DIRECTORY, whose owner may have put anything there.
    """
    raw = b"".join(halt.content(Path(one), CLIENT) for one in directories.split(":") if one)
    return CLIENTS.get(raw.decode(errors="replace").partition("\n")[0])


def last_lines(unit: str, invocation: str) -> list[str]:
    """Return what a run of a unit (systemd.exec(5): $INVOCATION_ID) has logged at its end.

    Nothing where journald(8) does not answer, which is said.
    """
    matches = [f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    read = ["/usr/bin/journalctl", "--quiet", "--output=cat", f"--lines={LINES}", *matches]
    try:
        # What the client has written before its end is still on its way into the journal.
        run.run(["/usr/bin/journalctl", "--sync"], seconds=SECONDS)
        found = run.run(read, seconds=SECONDS).stdout
    except SupervisorError as failure:
        journal.log(journal.ERROR, f"what {unit} has said at its end is not known: {failure}")
        return []
    return [line[:LINE_MAX].decode(errors="replace") for line in found.splitlines()]


def meaning(client: Client, status: str, lines: Sequence[str]) -> Halt | None:
    """Return what an end means, None for nothing: ``halts`` says whether it halts.

    ``status`` is $EXIT_STATUS: a number, or a signal's name.
    """
    for sign in client.signs:
        words = re.compile(sign.words)
        said = next((line for line in lines if words.search(line)), None)
        if said:
            return Halt(sign.meaning, f"its client says: {said}")
    known = {str(number): code for number, code in client.statuses.items()}.get(status)
    return Halt(known, f"its client has exited with {status}") if known else None


def halts(end: Halt) -> bool:
    """Return whether a client that has ended so must not be started again."""
    return end.code in HALTING
