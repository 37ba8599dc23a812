"""What `take-over` and its like do as validator-state: look, leave orders, set archives aside."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from validator_supervisor import backup, gather, host, identity, marks, orders
from validator_supervisor.applied import Applied
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import REFUSED, SupervisorError
from validator_supervisor.marks import Own
from validator_supervisor.place import places, ssh_keys
from validator_supervisor.store import ARCHIVE, ROOT, Item, Store

SECONDS = 15.0


def main(argv: Sequence[str]) -> int:
    """Run VERB NAME [ARCHIVE]; returns the exit status."""
    verb, name, *rest = argv
    try:
        store = Store(name)
        if verb == "look":
            streams.write(json.dumps(look(Applied.load(), store)) + "\n")
        elif verb == "give":
            given = orders.parse(sys.stdin.buffer.read(orders.SIZE_MAX + 1))
            # In a container, on Debian 12, jobs and people's shells see different boots.
            given = replace(given, boot=host.boot_id())
            with store.locked():
                orders.give(store, given)
        else:
            quarantine(store, rest[0])
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    return 0


def look(applied: Applied, store: Store) -> dict[str, object]:
    """Return who has run the validator, the last one first, and what was not seen."""
    nodes = places(applied, ssh_keys())
    found = gather.gather(store, nodes, identity.load(), SECONDS)
    own, every = Own.of(store), marks.marks(found)
    theirs = marks.others(own, every)
    return {
        "marks": [
            {
                "sequence": mark.sequence,
                "host": mark.host,
                "ours": mark not in theirs,
                "clone": mark in theirs and mark.host == own.host,
                "name": mark.name,
                "time": mark.time,
                "where": list(mark.where),
            }
            for mark in every
        ],
        "unseen": found.unseen,
        "retired": store.retired(),
        "refused": [[one.where, one.name, one.reason] for one in found.refused],
    }


def quarantine(store: Store, name: str) -> None:
    """Set an archive aside for good. Raises SupervisorError ``UnknownArchive``."""
    item = Item.parse(name)
    if item is None or item.validator != store.validator or item.kind != ARCHIVE:
        message = f"{name} is no archive of {store.validator}"
        raise SupervisorError("UnknownArchive", message, "validator-supervisor backup list")
    with store.locked():
        if backup.last_clean(store) == item.name and not store.running():
            # It had all that was signed: with it goes what made up for a database that lost some.
            store.set_running(host.boot_id())
        store.quarantine(item)
