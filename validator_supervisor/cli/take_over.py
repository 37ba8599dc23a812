"""What a start does only when a person has typed it: `take-over`, `start --no-watch`."""

import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from validator_supervisor import halt, host, orders
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.cli import confirm, import_keystore, job, switch
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.status import MOVED, RETIRED
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.orders import Orders

SECONDS = 60
# Of what was seen: the last ones tell who runs it.
SHOWN = 6
WARNING = """\
Two hosts that sign with the same keys get them slashed: part of the stake is burnt, and the keys
leave the network for good. Go on only where the other host is off and stays off: powered off, its
disk wiped, or its validator disabled. That it does not answer is no reason. Nor where `retire` has
let the keys go from there: a third host may have adopted them, and no node of yours knows."""
UNWATCHED = """\
For two epochs the chain is watched for these keys before a lifted validator signs, because only
that shows another one with the same keys. Without it nothing stands between you and slashing but
what you know: nobody else signs with these keys."""


class Given(NamedTuple):
    """The options; ``confirm`` is what a script types."""

    no_watch: bool
    now: int | None
    confirm: str | None


def take_over(client: Client, name: str, given: Given) -> int:
    """Go on where another host was the last. Raises SupervisorError."""
    applied = _ready(client, name, (*MOVED, RETIRED))
    seen: dict[str, Any] = json.loads(_job(applied, ["look", name]))
    print("\n".join(shown(seen)))
    theirs = [mark for mark in seen["marks"] if not mark["ours"]]
    sequence = max((mark["sequence"] for mark in seen["marks"]), default=0)
    if not theirs and not seen["unseen"] and not seen["retired"]:
        hint = f"validator-supervisor start {name}"
        raise SupervisorError("NothingToTakeOver", f"no other host has run {name}", hint)
    _begin(client, applied, name, given, WARNING, {"take_over": True, "sequence": sequence})
    return 0


def explain(name: str, *, as_json: bool) -> NoReturn:
    """Become the job that says what a start would do. Raises SupervisorError."""
    applied = Applied.load()
    import_keystore.check(applied, name)
    own = job.of_validator(applied.config.validators[name])
    job.become(applied, "explain", [name, "json" if as_json else "text"], own)


def start(client: Client, name: str, given: Given) -> int:
    """Start with orders of a person. Raises SupervisorError."""
    applied = _ready(client, name, MOVED)
    _begin(client, applied, name, given, UNWATCHED if given.no_watch else "", {})
    return 0


def quarantine(name: str, archive: str, typed: str | None) -> int:
    """Leave an archive out from now on. Raises SupervisorError."""
    applied = Applied.load()
    import_keystore.check(applied, name)
    job.check()
    print(f"What {archive} says has been signed is forgotten on this host. Where another archive\n"
          f"has it too, that one counts; if none has, {name} may sign it again.")  # fmt: skip
    _confirm(name, typed)
    _job(applied, ["quarantine", name, archive])
    print(f"{archive} is set aside")
    return 0


def shown(seen: dict[str, Any]) -> list[str]:
    """Return the lines that show who has run a validator."""
    lines = [halt.retired(seen["retired"])] if seen["retired"] else []
    for mark in seen["marks"][:SHOWN]:
        who = "this host" if mark["ours"] else f"host {mark['host']}"
        if mark["clone"]:
            who = "a copy of this host"
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(mark["time"]))
        lines.append(f"{who}: {when}, sequence {mark['sequence']}, on {', '.join(mark['where'])}")
    lines += [f"not reached: {node}: {problem}" for node, problem in seen["unseen"].items()]
    lines += [f"not used: {where}: {file}: {why}" for where, file, why in seen["refused"]]
    return [printable(line) for line in lines]


def _ready(client: Client, name: str, ours: Sequence[str]) -> Applied:
    applied = Applied.load()
    import_keystore.check(applied, name)
    job.check()
    found = client.objects().get(names.validator_path(name), {}).get(names.VALIDATOR, {})
    if found.get("ActiveState") == "active":
        raise SupervisorError("AlreadyRunning", f"{name} is running")
    if found.get("ActiveState") == "activating":
        # Its state has been decided about; an order would wait for another start.
        hint = f"first: validator-supervisor stop {name}"
        raise SupervisorError("AlreadyStarting", f"{name} is starting already", hint)
    reason = str(found.get("HaltReason", ""))
    code = reason.partition(":")[0]
    if reason and code not in ours:
        resume = f"first: validator-supervisor resume {name}"
        hint = halt.RETIRED_HINT if code == RETIRED else resume
        raise SupervisorError("Halted", f"{name} is halted: {reason}", hint)
    return applied


def _begin(
    client: Client,
    applied: Applied,
    name: str,
    given: Given,
    warning: str,
    order: dict[str, object],
) -> None:
    if warning:
        print(warning)
        _confirm(name, given.confirm)
    typed = Orders.of(host.boot_id(), no_watch=given.no_watch, now=given.now, **order)
    _job(applied, ["give", name], orders.text(typed))
    if switch.halted(client, name):
        switch.call(client, name, "Resume")
    switch.call(client, name, "Start")
    print(f"{name} starts: journalctl -fu validator-state@{name} tells how")


def _confirm(name: str, typed: str | None) -> None:
    if typed is None:
        confirm.typed(name, f"--confirm {name}")
    else:
        confirm.given(name, typed)


def _job(applied: Applied, words: Sequence[str], stdin: bytes = b"") -> bytes:
    return job.answer(applied, "orders", words, SECONDS, stdin)
