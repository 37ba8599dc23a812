"""What `adopt` does as validator-state: open the file, look everywhere, refuse, or keep it."""

import json
import sys
import time
from dataclasses import asdict, replace

from validator_supervisor import adoption, contents, imports, interchange, transfer, web3signer
from validator_supervisor.adoption import Here
from validator_supervisor.applied import Applied
from validator_supervisor.cli import failure, import_job, remove_job, retire_job, streams
from validator_supervisor.cli.remove_job import GATHER_SECONDS, Job
from validator_supervisor.contents import Key
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.gather import Found, gather
from validator_supervisor.imports import Given, Imported
from validator_supervisor.marks import Own
from validator_supervisor.networks import Chain
from validator_supervisor.store import ROOT
from validator_supervisor.transfer import Request, Transfer

# A manifest has no room for many more.
KEYS_MAX = 10_000
NOT_IN_FILE = "is not in the file, and is removed from this validator: it left with another one"


def main(name: str) -> int:
    """Adopt what comes from standard input; returns the exit status."""
    try:
        piped = sys.stdin.buffer.read(transfer.FILE_MAX + transfer.LINE_MAX)
        done = adopt(retire_job.job(Applied.load(), name), transfer.parse(piped))
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:  # a full disk
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    streams.write(json.dumps(asdict(done)) + "\n")
    return 0


def adopt(job: Job, request: Request, known: Chain | None = None) -> Imported:
    """Open, compare with everything that is known, and keep.

    Raises SupervisorError, and OSError: then nothing has changed but for what a repetition, or the
    next start, finds as it is.
    """
    given = transfer.unseal(request.raw, request.code)
    keys = _opened(given)
    remove_job.refuse_up(job)
    others, unseen = import_job.elsewhere(job.store, job.nodes, job.secret)
    found = gather(job.store, job.nodes, job.secret, GATHER_SECONDS)
    known = known or remove_job.chain_of(job)
    now = int(time.time())
    with job.store.locked():
        here = _here(job, found)
        beside = adoption.check(given, job.validator, here)
        web3signer.check(job.validator, beside)
        # Those of this validator are looked at already.
        removed = here.newest and replace(here.newest, keys={})
        imports.check(keys, removed, others, returned=request.returned)
        root = imports.root_of(known, here.newest)
        raw = interchange.text(given.protection).encode()
        protection, remarks = imports.protected(keys, raw, root, known, now)
        gone = adoption.left_out(given, beside, here)
        remarks = (*remarks, *(f"{key} {NOT_IN_FILE}" for key in gone), *unseen)
        # An older archive has them: a start that falls back on it lifts and watches.
        if gone:
            job.store.add_imported(gone)
        item = imports.add(
            job.store, job.validator, job.secret, here.found, keys, protection, now,
            beside=beside, seen=given.retired.sequence, remark="adopted",
            removed_keys={**given.contents.manifest.removed_keys, **dict.fromkeys(gone, now)},
        )  # fmt: skip
        # After it: a file that cannot be kept has changed nothing. Cut off in between, a start
        # halts as moved, and the same command goes on.
        job.store.accept(given.retired.sequence)
        job.store.clear_retired()
    return Imported(item.name, tuple(sorted(keys)), remarks)


def _opened(given: Transfer) -> dict[str, Key]:
    """Open every keystore: each must hold the key that the file names. Raises SupervisorError."""
    named = contents.local(given.contents.keys)
    files = [Given(key, one.keystore, one.password) for key, one in sorted(named.items())]
    keys = imports.opened(files, KEYS_MAX)
    if keys.keys() != named.keys():
        (wrong, *_) = sorted(keys.keys() ^ named.keys())
        raise SupervisorError("InvalidKeystore", f"{wrong}: the file has another key in its place")
    return keys


def _here(job: Job, found: Found) -> Here:
    archives = imports.every(job.store, job.secret, found)
    if found.unseen:
        # The file speaks for the host that has retired, and for nobody whom a node has seen.
        away = "; ".join(f"{node}: {problem}" for node, problem in found.unseen.items())
        message = f"nodes that may know of another host are not reached ({away})"
        hint = "a node that is gone for good: take it out of the configuration"
        raise SupervisorError("NodesUnseen", message, hint, exit_status=TEMPORARY)
    imported, retired = frozenset(job.store.imported()), bool(job.store.retired())
    return Here(Own.of(job.store), found, archives, imported, retired)
