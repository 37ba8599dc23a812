"""What `retire` does as validator-state: look, remember that it has ended, make the file."""

import json
import sys
import time
from collections.abc import Sequence

from validator_supervisor import identity, imports, marks, retirement, transfer
from validator_supervisor.applied import Applied
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.cli import failure, remove_job, streams
from validator_supervisor.cli.remove_job import DOWN, GATHER_SECONDS, Job
from validator_supervisor.errors import REFUSED, SupervisorError
from validator_supervisor.gather import Found, gather
from validator_supervisor.marks import Own
from validator_supervisor.place import places, ssh_keys
from validator_supervisor.store import ROOT, Store
from validator_supervisor.units import state_unit, validator_unit


def main(argv: Sequence[str]) -> int:
    """Run VERB NAME; returns the exit status."""
    verb, name = argv
    try:
        work = job(Applied.load(), name)
        if verb == "seal":
            code = transfer.parse_code(sys.stdin.buffer.read(transfer.LINE_MAX))
            sys.stdout.buffer.write(seal(work, code))
            sys.stdout.buffer.flush()
        else:
            done = look(work) if verb == "look" else mark(work, int(time.time()))
            streams.write(json.dumps(done) + "\n")
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:  # a full disk
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    return 0


def job(applied: Applied, name: str) -> Job:
    """Return what the job of a validator works with. Raises SupervisorError ``Locked``."""
    validator = {one.name: one for one in applied.config.ethereum}[name]

    def down() -> bool:
        systemd = Systemd()
        return all(systemd.active(unit(name)) in DOWN for unit in (validator_unit, state_unit))

    return Job(applied, validator, Store(name), identity.load(), places(applied, ssh_keys()), down)


def look(job: Job) -> dict[str, object]:
    """Return which keys would leave, and which nodes are not seen. Raises SupervisorError."""
    found = _found(job)
    newest = imports.latest(job.store, job.secret, found)
    if newest is None or not newest.keys:
        raise SupervisorError("NoKeys", f"{job.store.validator} has no keys")
    retirement.refuse_remote(newest, job.store.validator)
    imports.moved(marks.foreign(Own.of(job.store), found), job.store.validator)
    return {
        "keys": sorted(newest.keys),
        "retired": job.store.retired(),
        "unseen": found.unseen,
    }


def mark(job: Job, now: int) -> dict[str, object]:
    """Remember, so that it survives a crash, that no start here goes on; nothing has left yet.

    ``now`` in Unix seconds. Raises SupervisorError, ``NotStopped`` and ``NotClean`` among them, and
    OSError: then nothing has changed.
    """
    found = _found(job)
    with job.store.locked():
        remove_job.refuse_running(job)
        newest = retirement.last(job.store, job.secret, found, Own.of(job.store))
        if not job.store.retired():
            job.store.set_retired(now)
    return {"retired": job.store.retired(), "keys": sorted(newest.keys)}


def seal(job: Job, code: bytes) -> bytes:
    """Return the file. Raises SupervisorError, ``NotRetired`` where ``mark`` was not before it."""
    found, own = _found(job), Own.of(job.store)
    with job.store.locked():
        if not job.store.retired():
            raise SupervisorError("NotRetired", f"{job.store.validator} may start here")
        newest = retirement.last(job.store, job.secret, found, own)
        signed = retirement.protection(job.store, job.secret, found, newest)
        record = retirement.record(job.store, found, own, signed)
    return transfer.seal(code, newest, signed, record)


def _found(job: Job) -> Found:
    return gather(job.store, job.nodes, job.secret, GATHER_SECONDS)
