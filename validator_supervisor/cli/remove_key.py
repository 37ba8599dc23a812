"""`validator-supervisor remove-key`: keys leave a validator; what they have signed is handed out.

No client's word that it has deleted a key is trusted: it is stopped, starts without the key, is
looked at, and the chain is watched, before anybody gets what a client elsewhere would go by.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from validator_supervisor import handover, interchange, removal, run
from validator_supervisor.applied import Applied
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.bus.model import read_run
from validator_supervisor.cli import confirm, import_keystore, job, new_file, streams, switch
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.remove_job import DOWN
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.units import state_unit, validator_unit
from validator_supervisor.validators import Keys

HELPER = "remove-key"
RUNTIME = Path("/run/validator")
# The jobs look at the nodes for 15 s, and upload for a minute.
JOB_SECONDS = 120
# A client has a minute, its export another, and the final backup what is configured.
STOP_SECONDS = 300.0
# Nothing is lifted or watched before it: the nodes are asked, twice.
START_SECONDS = 180.0
PAUSE_SECONDS = 0.5
UP = ("active", "activating", "reloading")
# Of a list that a person reads.
SHOWN = 10
KEYSTORES = ["Their keystores you need to have yourself."]
REMOTE = ["The Web3Signer still has them, and signs for whoever asks: take them out there as well."]
UNWATCHED = """\
Without the watch nothing but what you know stands between these keys and slashing, once they are
loaded elsewhere: nobody signs with them any more, no client that was told to delete them either."""


class Given(NamedTuple):
    """The options; ``confirm`` is what a script types."""

    out: str
    confirm: str | None
    no_watch: bool
    as_json: bool


def remove_key(client: Client, name: str, words: Sequence[str], given: Given) -> int:
    """Remove keys, and write the file about them. Raises SupervisorError."""
    applied = Applied.load()
    remote = isinstance(import_keystore.check(applied, name).keys, Keys)
    keys, out = removal.parse(words), Path(given.out)
    job.check()
    new_file.free(out)
    seen: dict[str, Any] = json.loads(_job(applied, "look", name, keys))
    systemd = Systemd()
    runs = running(systemd, name)
    say(*shown(name, seen, runs=runs, given=given), *(REMOTE if remote else KEYSTORES))
    if given.confirm is None:
        confirm.typed(name, f"--confirm {name}")
    else:
        confirm.given(name, given.confirm)
    done = _removed(client, systemd, applied, name, keys, up=runs and bool(seen["present"]))
    refuse_laid_out(name, keys)
    if not given.no_watch:
        _watch(applied, name, keys, out)
    write(out, done["protection"])
    _tell(name, done, given, remote=remote)
    return 0


def shown(name: str, seen: dict[str, Any], *, runs: bool, given: Given) -> list[str]:
    """Return the lines that say what will happen."""
    lines = [f"To be removed from {name} for good:", *listed(seen["present"])]
    if not seen["present"]:
        lines = [f"Nothing is to be removed from {name}."]
    if seen["removed"]:
        lines += ["Removed before:", *listed(seen["removed"])]
    if runs and seen["present"]:
        left = seen["left"]
        again = f"starts again with {left} other keys" if left else "stays stopped: no key is left"
        lines.append(f"{name} is stopped, and {again}.")
    lines += [f"not reached: {node}: {problem}" for node, problem in seen["unseen"].items()]
    lines += [] if given.no_watch else ["The chain is watched for two epochs for these keys."]
    lines.append(f"What they have signed is written to {given.out}. Here they load no more but by")
    lines.append("import-keystore --returned.")
    return lines + (UNWATCHED.splitlines() if given.no_watch else [])


def listed(keys: Sequence[str]) -> Iterator[str]:
    yield from (f"  {key}" for key in keys[:SHOWN])
    if len(keys) > SHOWN:
        yield f"  and {len(keys) - SHOWN} more"


def _removed(
    client: Client,
    systemd: Systemd,
    applied: Applied,
    name: str,
    keys: Sequence[str],
    *,
    up: bool,
) -> dict[str, Any]:
    """Have the archive without the keys, with the validator stopped meanwhile."""
    if not up:
        done: dict[str, Any] = json.loads(_job(applied, "remove", name, keys))
        return done
    stop(client, systemd, name)
    try:
        done = json.loads(_job(applied, "remove", name, keys))
    except SupervisorError:
        say(f"{name} starts again, as it was before")
        switch.call(client, name, "Start")
        raise
    if done["left"]:
        _start(client, systemd, name)
    else:
        say(f"{name} has no keys left: it stays stopped")
    return done


def stop(client: Client, systemd: Systemd, name: str, undone: str = "nothing is removed") -> None:
    """Stop the validator, and wait for its final backup. Raises SupervisorError ``NotStopped``."""
    say(f"{name} stops")
    switch.call(client, name, "Stop")
    units = (validator_unit(name), state_unit(name))
    if not _wait(STOP_SECONDS, lambda: all(systemd.active(unit) in DOWN for unit in units)):
        message = f"{name} has not stopped within {STOP_SECONDS:g} s: {undone}"
        raise SupervisorError("NotStopped", message, _journal(name), exit_status=TEMPORARY)


def _start(client: Client, systemd: Systemd, name: str) -> None:
    """Start the validator, and wait until it runs."""
    say(f"{name} starts without them")
    switch.call(client, name, "Start")
    if not _wait(START_SECONDS, lambda: systemd.active(validator_unit(name)) == "active"):
        message = f"the keys are removed, but {name} has not started within {START_SECONDS:g} s"
        hint = f"{_journal(name)}; then the same command again"
        raise SupervisorError("NotStarted", message, hint, exit_status=TEMPORARY)


def running(systemd: Systemd, name: str) -> bool:
    """Whether the validator is up, or its keys are in memory."""
    return any(systemd.active(unit) in UP for unit in (validator_unit(name), state_unit(name)))


def _wait(seconds: float, done: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _journal(name: str) -> str:
    return f"journalctl -b -u {validator_unit(name)} -u {state_unit(name)}"


def refuse_laid_out(
    name: str, keys: Sequence[str], given: Path = handover.ROOT, runtime: Path = RUNTIME
) -> None:
    """Refuse to go on while a client here has one of the keys. Raises SupervisorError."""
    known = read_run(runtime / name / "run.json").public_keys
    there = [key for key in keys if key in known or _in_memory(key, given / name)]
    if there:
        message = f"{there[0]} is still laid out for the client of {name}"
        hint = f"validator-supervisor stop {name}, and then the same command again"
        raise SupervisorError("StillThere", message, hint)


def _in_memory(key: str, directory: Path) -> bool:
    """Whether a file or directory there has the key's name, as every client's layout gives it."""
    digits = key.removeprefix("0x")
    return any(
        digits in name.lower()
        for _, folders, files in os.walk(directory)
        for name in (*folders, *files)
    )


def _watch(applied: Applied, name: str, keys: Sequence[str], out: Path) -> None:
    """Watch the chain. Raises SupervisorError ``Doppelganger``, and others."""
    own = job.of_validator(applied.config.validators[name])
    status = run.attended(job.command(applied, HELPER, ["watch", name, *keys], own)).returncode
    if status == HALT:
        message = f"SOMEBODY STILL SIGNS WITH A REMOVED KEY: {out} is not written"
        hint = "find the client that has it, and end it; then the same command again"
        raise SupervisorError("Doppelganger", message, hint)
    if status:
        message = f"the keys are removed, but not watched to the end: {out} is not written"
        raise SupervisorError("NotWatched", message, "the same command again", exit_status=status)


def write(out: Path, protection: str) -> None:
    """Write the file, for root alone. Raises SupervisorError ``FileExists``, ``NotWritten``."""
    raw = protection.encode()
    interchange.parse(raw)
    new_file.write(out, raw)


def _tell(name: str, done: dict[str, Any], given: Given, *, remote: bool) -> None:
    for remark in done["remarks"]:
        say(f"note: {remark}")
    if given.as_json:
        told = {"archive": done["archive"], "keys": done["keys"], "file": given.out,
                "watched": not given.no_watch}  # fmt: skip
        streams.write(json.dumps(told) + "\n")
    else:
        streams.write(
            "".join(f"{printable(line)}\n" for line in said(name, done, given, remote=remote))
        )


def said(name: str, done: dict[str, Any], given: Given, *, remote: bool) -> list[str]:
    """Return what is told of a removal."""
    lines = [f"removed {key}" for key in done["keys"]]
    lines.append(f"{done['archive']} is without them: no start of {name} loads them any more")
    lines.append(f"{given.out} has what they have signed. Where they go on:")
    what = "--web3signer PUBKEY..." if remote else "KEYSTORE..."
    way = f"import-keystore NAME {what} --slashing-protection {given.out}"
    return [*lines, f"  validator-supervisor {way}"]


def say(*lines: str) -> None:
    """Tell a person what goes on; standard output is for the result."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def _job(applied: Applied, verb: str, name: str, keys: Sequence[str]) -> bytes:
    return job.answer(applied, HELPER, [verb, name, *keys], JOB_SECONDS)
