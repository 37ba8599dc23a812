"""What `rotate-identity` does with a validator's archives, as validator-state."""

import sys
import time
from collections.abc import Sequence

from validator_supervisor import age, backup, imports, marks
from validator_supervisor.applied import Applied
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.gather import gather
from validator_supervisor.marks import Own
from validator_supervisor.place import Place, places, ssh_keys
from validator_supervisor.store import ROOT, Item, Store

SIZE_MAX = 1024
GATHER_SECONDS = 15.0
UPLOAD_SECONDS = 60.0


def main(name: str) -> int:
    """Encrypt what is in the archives to the second identity of standard input; upload it."""
    store = Store(name)
    try:
        old, new = age.identities(sys.stdin.buffer.read(SIZE_MAX))
        nodes = places(Applied.load(), ssh_keys())
        made = reencrypt(store, nodes, old, new, int(time.time()))
        if made is None:
            streams.write(f"{name}: no archive\n")
            return 0
        problems = backup.upload(store, nodes, UPLOAD_SECONDS)
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    streams.write(f"{name}: {made.name}\n")
    for node, problem in problems.items():
        if problem:
            streams.write(f"{name}: not on {node} yet: {problem}\n")
    return 0


def reencrypt(
    store: Store,
    nodes: Sequence[Place],
    old: age.X25519Identity,
    new: age.X25519Identity,
    now: int,
) -> Item | None:
    """Keep an archive for ``new`` with all that is here and on the nodes; None where nothing is.

    What an interrupted attempt has made for ``new`` is in it, too. Nothing of the old identity is
    understood afterwards: raises SupervisorError ``Moved`` where another host has run the validator
    since, and ``NodesUnseen`` where a node might say so.
    """
    found = [gather(store, nodes, one, GATHER_SECONDS) for one in (old, new)]
    if unseen := found[0].unseen:
        away = "; ".join(f"{node}: {why}" for node, why in unseen.items())
        message = f"{store.validator}: nodes are not reached ({away})"
        hint = "try it again, or take the node out of config.yaml"
        raise SupervisorError("NodesUnseen", message, hint, exit_status=TEMPORARY)
    for one in found:
        imports.moved(marks.foreign(Own.of(store), one), store.validator)
    every = [archive.contents for one in found for archive in one.archives]
    seen = max(one.sequence for one in found)
    with store.locked():
        made = backup.reencrypt(store, every, new, now, seen)
        if made and store.running():
            backup.claim(store, store.validator, new, now, seen)
    return made
