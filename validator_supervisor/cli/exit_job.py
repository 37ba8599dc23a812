"""What `exit` does as the validator's own user: ask beacon nodes, have its client sign, look again.

Beacon nodes and the client are not trusted: what the chain has decides, no exit status.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import ethereum, exits, handover, liveness, run, validator
from validator_supervisor.applied import started_with
from validator_supervisor.beacon import Beacon, Record
from validator_supervisor.cli import failure, streams
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Place, Setup
from validator_supervisor.contents import AnyKey, Key
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.exits import Seen
from validator_supervisor.handover import CLIENT, ROOT
from validator_supervisor.journal import printable
from validator_supervisor.liveness import Clock
from validator_supervisor.networks import Chain
from validator_supervisor.validators import Ethereum

LOOK, EXIT = "look", "exit"
JSON, TEXT = "json", "text"
# A client that opens one keystore and asks a few questions.
TOOL_SECONDS = 120
# An exit is in the next blocks, later where many leave. One that its client has failed with is
# there soon, or not at all.
SLOTS, SLOTS_FAILED, WAIT_SECONDS_MAX = 64, 8, 900
# Of what the client has said.
LINES, LINE_MAX = 3, 300
# What the validator says of its run, below it a directory for each.
RUNTIME = Path("/run/validator")


@dataclass(frozen=True)
class Task:
    """One key of a validator; ``place`` is where the keys of its client are.

    ``beacons`` are its healthy nodes, by name, preferred first.
    """

    validator: Ethereum
    key: str
    secret: AnyKey
    chain: Chain
    beacons: Mapping[str, Beacon]
    place: Path

    def epoch(self, now: float) -> int:
        """Return the epoch at a time (Unix seconds)."""
        return self.chain.slot(now) // self.chain.slots_per_epoch


def main(command: str, name: str, key: str, form: str) -> int:
    """LOOK or EXIT; returns the exit status. A result is printed where an exit is on its way."""
    try:
        task = prepared(name, key)
        if command == LOOK:
            record = look(task, time.time(), _tell)
        else:
            record = leave(task, Clock(time.time, time.sleep), tool, _tell)
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    if record:
        streams.write(result(task, record, form))
    return 0


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def result(task: Task, record: Record, form: str) -> str:
    """Return what is printed of an exit that is on its way."""
    if form == JSON:
        return json.dumps(exits.as_json(task.key, record, task.chain)) + "\n"
    epoch = task.epoch(time.time())
    lines = exits.told(task.validator.name, task.key, record, task.chain, epoch)
    return "".join(f"{line}\n" for line in lines)


def prepared(name: str, key: str, given: Path = ROOT, runtime: Path = RUNTIME) -> Task:
    """Return the task, of what the validator was started with. Raises SupervisorError."""
    applied = started_with(name)
    mine = {one.name: one for one in applied.config.ethereum}[name]
    mine = ethereum.that_ran(mine, runtime / name)
    handed, keys = handover.read(given / name)
    if key not in keys:
        raise SupervisorError("UnknownKey", f"{name} does not run with {key}")
    urls = applied.beacons(mine)
    beacons = {node: Beacon(urls[node]) for node in validator.beacons(applied, mine)}
    return Task(mine, key, keys[key], handed.chain, beacons, given / name / CLIENT)


def look(task: Task, now: float, tell: Callable[[str], None]) -> Record | None:
    """Tell what an exit means, or return it if it is on its way. Raises SupervisorError."""
    _, seen = asked(task, now)
    if seen.record.slashed or not exits.exiting(seen.record):
        exits.check(seen, task.chain, task.epoch(now))
        epoch = task.epoch(now)
        for line in exits.meaning(task.validator.name, task.key, seen, task.chain, epoch):
            tell(line)
        return None
    return seen.record


def asked(task: Task, now: float) -> tuple[str, Seen]:
    """Return what the first node says that can be believed, and its name.

    Raises SupervisorError ``NoBeacon`` (temporary), and ``WouldNotCount`` for a key that the chain
    does not have.
    """
    problems = []
    for node, beacon in task.beacons.items():
        try:
            problem = liveness.behind(beacon, task.chain, now)
            record = None if problem else beacon.record(task.key)
            if record:
                partial = beacon.partial_withdrawals(record.index)
                return node, Seen(record, beacon.exit_age(), partial)
        except SupervisorError as failed:
            problem = failed.message
        if not problem:
            message = f"an exit would not count: the chain has no such validator, says {node}"
            raise SupervisorError("WouldNotCount", message)
        problems.append(f"{node}: {problem}")
    message = f"no healthy beacon node ({'; '.join(problems)})"
    raise SupervisorError("NoBeacon", message, exit_status=TEMPORARY)


def leave(
    task: Task,
    clock: Clock,
    tool: Callable[[Task, str], tuple[bool, str]],
    tell: Callable[[str], None],
) -> Record:
    """Have the client sign and publish an exit; return what the chain makes of it.

    Raises SupervisorError, ``NoExit`` (temporary) where the chain shows none.
    """
    now = clock.now()
    node, seen = asked(task, now)
    if exits.exiting(seen.record) and not seen.record.slashed:
        return seen.record
    exits.check(seen, task.chain, task.epoch(now))
    tell(f"{task.validator.release.client} signs the exit")
    well, words = tool(task, node)
    slots = SLOTS if well else SLOTS_FAILED
    seconds = min(slots * task.chain.seconds_per_slot, WAIT_SECONDS_MAX)
    tell(f"waiting until it is in a block, at most {seconds} s")
    record = waited(task, clock, seconds)
    if record:
        return record
    message = f"no beacon node shows an exit after {seconds} s; its client has said: {words}"
    hint = "if it still comes the same command says so; to repeat it does no harm"
    raise SupervisorError("NoExit", message, hint, exit_status=TEMPORARY)


def waited(task: Task, clock: Clock, seconds: float) -> Record | None:
    """Return what a node says when it shows the exit; None where none does in time."""
    end = clock.now() + seconds
    while True:
        for beacon in task.beacons.values():
            try:
                record = beacon.record(task.key)
            except SupervisorError:
                continue
            if record and exits.exiting(record):
                return record
        if clock.now() >= end:
            return None
        clock.sleep(min(task.chain.seconds_per_slot, seconds))


def tool(task: Task, node: str) -> tuple[bool, str]:
    """Run the client's own command; return whether it says that it went well, and its last words.

    It is given the one key, in a place of its own, or its name for the Web3Signer that has it: no
    other can come of it.
    """
    client = CLIENTS[task.validator.release.client]
    if not client.exit or (client.no_remote_exit and not isinstance(task.secret, Key)):
        raise SupervisorError("NotSupported", client.no_exit or client.no_remote_exit)
    validator.check_program(task.validator.release.binary)
    urls = [task.beacons[node].url]
    urls += [beacon.url for name, beacon in task.beacons.items() if name != node]
    # Among the client's keys, in memory that is never swapped; the next start empties it.
    with tempfile.TemporaryDirectory(prefix="exit-", dir=task.place) as folder:
        place = Place(Path(folder) / "state", Path(folder) / "keys")
        for directory in (place.state, place.keys):
            directory.mkdir()
        signer = None
        if isinstance(task.secret, Key):
            client.install(place, {task.key: task.secret})
        else:
            signer = ethereum.signer_of(task.validator, {task.key: task.secret})
        argv = client.exit(Setup(task.validator, place, urls, signer=signer), task.key)
        try:
            done = run.run(argv, seconds=TOOL_SECONDS, check=False, extra=os.environ)
        except SupervisorError as failed:
            return False, failed.message
    return done.returncode == 0, last_words(done.stdout + b"\n" + done.stderr)


def last_words(said: bytes) -> str:
    """Return the last of what a client has said, on one line."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    last = [line[:LINE_MAX] for line in lines if line][-LINES:]
    return printable(" | ".join(last)) or "nothing"
