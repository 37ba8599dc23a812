"""`validator-supervisor retire`: end a validator here, and write what another host adopts.

What keeps it from both hosts is on the disk before anything leaves: the word in its state, by which
no start goes on, and the latch, by which none is tried.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from validator_supervisor import halt, transfer
from validator_supervisor.applied import Applied
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.cli import (
    confirm,
    import_keystore,
    job,
    new_file,
    remove_key,
    secret,
    streams,
    switch,
)
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.remove_key import JOB_SECONDS, say
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable

HELPER = "retire"
WARNING = """\
Whoever has the file and its transfer code has the keys. Adopt it on one host only: two hosts that
sign with the same keys get them slashed."""


class Given(NamedTuple):
    """The options; ``confirm`` is what a script types, ``code_fd`` where it gets the code."""

    output: str
    confirm: str | None
    code_fd: int | None
    as_json: bool


def retire(client: Client, name: str, given: Given) -> int:
    """End a validator here, and write the file with its keys. Raises SupervisorError."""
    secret.guard()
    applied, out = Applied.load(), Path(given.output)
    import_keystore.check_local(applied, name)
    job.check()
    new_file.free(out)
    with _shown_on(given.code_fd) as terminal:
        _refuse_halted(client, name)
        seen: dict[str, Any] = json.loads(_job(applied, ["look", name]))
        systemd = Systemd()
        runs = remove_key.running(systemd, name)
        say(*shown(name, seen, given, runs=runs))
        if given.confirm is None:
            confirm.typed(name, f"--confirm {name}")
        else:
            confirm.given(name, given.confirm)
        done = _ended(client, systemd, applied, name, runs=runs)
        code = transfer.make_code()
        raw = _job(applied, ["seal", name], code)
        _show(terminal, code, person=given.code_fd is None)
    new_file.write(out, raw)
    _tell(name, done, given)
    return 0


def _shown_on(descriptor: int | None, terminal: Path = confirm.TERMINAL) -> BinaryIO:
    """Return what takes the code, before anything is done. Raises SupervisorError ``NoCode``."""
    try:
        if descriptor is None:
            return terminal.open("wb", buffering=0)
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise SupervisorError("NoCode", f"descriptor {descriptor} cannot be written to")
        return open(descriptor, "wb", buffering=0, closefd=False)
    except OSError as failure:
        if descriptor is not None:
            message = f"descriptor {descriptor}: {failure.strerror}"
            raise SupervisorError("NoCode", message) from None
        hint = "in a script: --code-fd N"
        message = "there is no terminal to show the code on"
        raise SupervisorError("NoCode", message, hint) from None


def _show(terminal: BinaryIO, code: bytes, *, person: bool) -> None:
    around = b"The transfer code, which is shown only now:\n\n    %s\n\n" if person else b"%s\n"
    try:
        terminal.write(around % code)
    except OSError as failure:
        message = f"the code could not be shown: {failure.strerror}"
        raise SupervisorError("NoCode", message, "the same command again") from None


def _refuse_halted(client: Client, name: str) -> None:
    reason = switch.halted(client, name)
    if reason and reason.partition(":")[0] != halt.RETIRED:
        hint = f"when that is put right: validator-supervisor resume {name}, and start nothing"
        raise SupervisorError("Halted", f"{name} is halted: {reason}", hint)


def shown(name: str, seen: dict[str, Any], given: Given, *, runs: bool) -> list[str]:
    """Return the lines that say what will happen."""
    lines = [f"The {len(seen['keys'])} keys of {name} leave this host for another one:"]
    lines += remove_key.listed(seen["keys"])
    if seen["retired"]:
        lines.append(f"{name} is retired already: {halt.retired(seen['retired'])}.")
    stops = "is stopped, and " if runs else ""
    lines.append(f"{name} {stops}never starts here again but by take-over or adopt.")
    lines += [f"not reached: {node}: {problem}" for node, problem in seen["unseen"].items()]
    return [*lines, f"They are written to {given.output}.", *WARNING.splitlines()]


def _ended(
    client: Client, systemd: Systemd, applied: Applied, name: str, *, runs: bool
) -> dict[str, Any]:
    """End it for good: stopped well, remembered, latched, in this order."""
    if runs:
        remove_key.stop(client, systemd, name, "nothing has left")
    try:
        done: dict[str, Any] = json.loads(_job(applied, ["mark", name]))
    except SupervisorError:
        if runs:
            say(f"{name} starts again, as it was before")
            switch.call(client, name, "Start")
        raise
    try:
        halt.latch(name, halt.RETIRED, halt.retired(done["retired"]))
    except OSError as failure:
        message = f"{halt.HALTED / name}: {failure.strerror}"
        raise SupervisorError("NotWritten", message, "the same command again") from None
    return done


def _tell(name: str, done: dict[str, Any], given: Given) -> None:
    if given.as_json:
        told = {"keys": done["keys"], "file": given.output, "retired": done["retired"]}
        streams.write(json.dumps(told) + "\n")
    else:
        streams.write("".join(f"{printable(line)}\n" for line in said(name, done, given)))


def said(name: str, done: dict[str, Any], given: Given) -> list[str]:
    """Return what is told of a retirement."""
    return [
        f"{name} is retired, and {given.output} has its {len(done['keys'])} keys, with what they"
        " have signed. On the other host:",
        f"  validator-supervisor adopt NAME {given.output}",
        "Lost, the file or its code: the same command again makes another one.",
    ]


def _job(applied: Applied, words: Sequence[str], stdin: bytes = b"") -> bytes:
    return job.answer(applied, HELPER, words, JOB_SECONDS, stdin)
