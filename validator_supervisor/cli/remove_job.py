"""What `remove-key` does as validator-state: look, make the archive without the keys, watch."""

import json
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from validator_supervisor import (
    age,
    backup,
    chain,
    identity,
    imports,
    interchange,
    liveness,
    marks,
    removal,
)
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.cli import failure, import_job, streams
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.gather import Found, gather
from validator_supervisor.liveness import Clock
from validator_supervisor.marks import Own
from validator_supervisor.networks import Chain
from validator_supervisor.place import Place, places, ssh_keys
from validator_supervisor.store import ROOT, Store
from validator_supervisor.units import state_unit
from validator_supervisor.validators import Ethereum

GATHER_SECONDS, UPLOAD_SECONDS = 15.0, 60.0
DOWN = ("inactive", "failed")


@dataclass(frozen=True)
class Removed:
    """What is so afterwards; ``protection`` is the document of these keys (EIP-3076)."""

    archive: str
    keys: tuple[str, ...]
    left: int
    protection: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What the job of one validator works with; ``down``: its keys are in nobody's memory."""

    applied: Applied
    validator: Ethereum
    store: Store
    secret: age.X25519Identity
    nodes: Sequence[Place]
    down: Callable[[], bool]


def main(argv: Sequence[str]) -> int:
    """Run VERB NAME KEY...; returns the exit status."""
    verb, name, *words = argv
    try:
        keys, applied = removal.parse(words), Applied.load()
        validator = {one.name: one for one in applied.config.ethereum}[name]
        if verb == "watch":
            watch(applied, validator, keys)
            return 0
        job = Job(applied, validator, Store(name), identity.load(), places(applied, ssh_keys()),
                  lambda: Systemd().active(state_unit(name)) in DOWN)  # fmt: skip
        done = look(job, keys) if verb == "look" else remove(job, keys)
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:  # a full disk
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    streams.write(json.dumps(done) + "\n")
    return 0


def look(job: Job, keys: Sequence[str]) -> dict[str, object]:
    """Return where the keys are, and which nodes were not seen. Raises SupervisorError."""
    found = _found(job)
    newest = imports.latest(job.store, job.secret, found)
    return {**asdict(removal.look(keys, newest, job.store.validator)), "unseen": found.unseen}


def remove(job: Job, keys: Sequence[str], known: Chain | None = None) -> dict[str, object]:
    """Have an archive without the keys, here and on the nodes that are reached.

    Keys that were removed before are no failure, and nothing is made where all were. Raises
    SupervisorError, ``NotStopped`` among them, and OSError.
    """
    found = _found(job)
    with job.store.locked():
        import_job.refuse_retired(job.store)
        asked = removal.look(
            keys, imports.latest(job.store, job.secret, found), job.store.validator
        )
        if asked.present:
            refuse_running(job)
            now = int(time.time())
            removal.remove(job.store, job.validator, job.secret, found, asked.present, now)
    problems = backup.upload(job.store, job.nodes, UPLOAD_SECONDS)
    every = imports.every(job.store, job.secret, found)
    protection, remarks = removal.protection(keys, every, known or chain_of(job))
    away = [f"it is not on {node} yet: {why}" for node, why in problems.items() if why]
    text = interchange.text(protection)
    return asdict(Removed(_newest(job, found), tuple(keys), asked.left, text, (*remarks, *away)))


def _found(job: Job) -> Found:
    """Return what is known of the validator. Raises SupervisorError ``NodesUnseen``, ``Moved``."""
    found = gather(job.store, job.nodes, job.secret, GATHER_SECONDS)
    if found.unseen and imports.latest(job.store, job.secret, found) is None:
        away = "; ".join(f"{node}: {problem}" for node, problem in found.unseen.items())
        message = f"there is no archive here, and nodes that may have one are not reached ({away})"
        raise SupervisorError("NodesUnseen", message, exit_status=TEMPORARY)
    imports.moved(marks.foreign(Own.of(job.store), found), job.store.validator)
    return found


def refuse_running(job: Job) -> None:
    """Refuse where something may be signed, or was, that is in no archive."""
    refuse_up(job)
    name = job.store.validator
    if job.store.running():
        message = f"{name} was not stopped well: what it has signed at last may be in no archive"
        hint = f"validator-supervisor start {name}; when it runs, remove the keys"
        raise SupervisorError("NotStopped", message, hint)


def refuse_up(job: Job) -> None:
    """Refuse where keys are in memory. Raises SupervisorError ``NotStopped``."""
    name = job.store.validator
    if not job.down():
        message = f"{name} is not stopped: its keys are in memory"
        raise SupervisorError("NotStopped", message, f"validator-supervisor stop {name}")


def _newest(job: Job, found: Found) -> str:
    here = [item for item, _ in backup.archives(job.store, job.secret)]
    return max([*here, *(one.item for one in found.archives)]).name


def chain_of(job: Job) -> Chain | None:
    """Return the validator's chain, None where it is not known now."""
    try:
        return chain.chain_of(job.applied, job.validator)
    except SupervisorError:
        return None  # what the archives have says it, too


def watch(applied: Applied, validator: Ethereum, keys: Sequence[str]) -> None:
    """Return when nobody has signed with the keys for two epochs. Raises SupervisorError."""
    known = chain.chain_of(applied, validator)
    beacons = [Beacon(url) for url in applied.beacons(validator).values()]
    liveness.watch(beacons, known, keys, Clock(time.time, _sleep), _tell)


def _sleep(seconds: float) -> None:
    """Wait, or end with whoever has asked, who then lets go of our standard input."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        raise SupervisorError("NobodyWaits", "nobody waits for it any more", exit_status=TEMPORARY)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
