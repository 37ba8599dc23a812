"""What `import-keystore` does as validator-state: look everywhere, refuse, or keep an archive."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from validator_supervisor import age, chain, contents, halt, identity, imports, marks, web3signer
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon
from validator_supervisor.cli import failure, streams
from validator_supervisor.contents import AnyKey, Contents, Remote
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.gather import HERE, gather
from validator_supervisor.imports import Imported
from validator_supervisor.marks import Own
from validator_supervisor.networks import Chain
from validator_supervisor.place import Place, places, readable, ssh_keys
from validator_supervisor.store import ARCHIVE, ROOT, Item, Store
from validator_supervisor.validator import beacons
from validator_supervisor.validators import Ethereum, Keys

# For the nodes; the keystores have what they need.
SECONDS = 15.0
# Of archives of others on a node: it may have as many names as it likes.
OTHERS_MAX = 50


def main(name: str) -> int:
    """Import what comes from standard input; returns the exit status."""
    try:
        done = run(Applied.load(), name, sys.stdin.buffer.read())
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:  # a full disk
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED
    streams.write(json.dumps(asdict(done)) + "\n")
    return 0


def run(applied: Applied, name: str, raw: bytes) -> Imported:
    """Do it. Raises SupervisorError and OSError; then nothing has changed."""
    mine = {one.name: one for one in applied.config.ethereum}[name]
    secret = identity.load()
    nodes = places(applied, ssh_keys())
    asked = _beacons(applied, mine)
    return do(applied, mine, Store(name), secret, nodes, imports.parse(raw), asked)


def _beacons(applied: Applied, validator: Ethereum) -> dict[str, Beacon]:
    urls = applied.beacons(validator)
    try:
        return {name: Beacon(urls[name]) for name in beacons(applied, validator)}
    except SupervisorError:
        return {}  # none is healthy


def do(
    applied: Applied,
    validator: Ethereum,
    store: Store,
    secret: age.X25519Identity,
    nodes: Sequence[Place],
    request: imports.Request,
    asked: Mapping[str, Beacon],
    chain_: Chain | None = None,
) -> Imported:
    """Open, compare with everything that is known, and keep. Raises as ``run``."""
    refuse_retired(store)
    opened = imports.opened(request.given)
    there = listed(validator, request)
    found = gather(store, nodes, secret, SECONDS)
    newest = imports.latest(store, secret, found)
    if newest is None and found.unseen:
        away = "; ".join(f"{node}: {problem}" for node, problem in found.unseen.items())
        message = f"there is no archive here, and nodes that may have one are not reached ({away})"
        raise SupervisorError("NodesUnseen", message, exit_status=TEMPORARY)
    imports.moved(marks.foreign(Own.of(store), found), store.validator)
    keys, missing = wanted(validator, request, opened, there, newest)
    keys, gone = on_chain(keys, asked)
    others, unseen = elsewhere(store, nodes, secret)
    imports.check(keys, newest, others, returned=request.returned)
    now = int(time.time())
    known = chain_ or _chain(applied, validator)
    root = imports.root_of(known, newest)
    protection, remarks = imports.protected(keys, request.protection, root, known, now)
    with store.locked():
        # Once more: another import, or a retirement, may have been here meanwhile.
        refuse_retired(store)
        latest = imports.latest(store, secret, found)
        imports.check(keys, latest, {}, returned=request.returned)
        item = imports.add(store, validator, secret, found, keys, protection, now)
    return Imported(item.name, tuple(sorted(keys)), (*missing, *gone, *remarks, *unseen))


def refuse_retired(store: Store) -> None:
    """Raise SupervisorError ``Retired``: what is made now would be newer than what has left."""
    if store.retired():
        message = f"{store.validator} is retired: {halt.retired(store.retired())}"
        raise SupervisorError("Retired", message, halt.RETIRED_HINT)


def listed(validator: Ethereum, request: imports.Request) -> tuple[str, ...]:
    """Return the keys of the Web3Signer, where it is them that are asked for.

    Raises SupervisorError, ``OtherKeys`` where the configuration has keys elsewhere.
    """
    remote = isinstance(validator.keys, Keys)
    if request.web3signer != remote or (remote and request.given):
        message = f"keys: of {validator.name} names {'a' if remote else 'no'} Web3Signer"
        raise SupervisorError("OtherKeys", message)
    return web3signer.listed(validator.keys) if isinstance(validator.keys, Keys) else ()


def wanted(
    validator: Ethereum,
    request: imports.Request,
    opened: Mapping[str, AnyKey],
    there: Sequence[str],
    newest: Contents | None,
) -> tuple[dict[str, AnyKey], tuple[str, ...]]:
    """Return the keys to import, and remarks. Raises SupervisorError."""
    have = newest.keys if newest else {}
    web3signer.check(validator, have)
    if not isinstance(validator.keys, Keys):
        return dict(opened), ()
    removed = newest.manifest.removed_keys if newest else {}
    names, missing = web3signer.adopt(validator.keys, request.named, there, have, removed)
    return dict.fromkeys(names, Remote()), missing


def on_chain(
    keys: Mapping[str, AnyKey], nodes: Mapping[str, Beacon]
) -> tuple[dict[str, AnyKey], tuple[str, ...]]:
    """Return the keys that may still sign, as the first node says that answers, and remarks.

    Raises SupervisorError ``KeysGone``.
    """
    for name, beacon in nodes.items():
        try:
            records = beacon.records(list(keys))
        except SupervisorError:
            continue
        return imports.without_gone(keys, records, name)
    return dict(keys), ("no beacon node was asked whether a key is slashed or out",)


def _chain(applied: Applied, validator: Ethereum) -> Chain | None:
    try:
        return chain.chain_of(applied, validator)
    except SupervisorError:
        return None  # what the newest archive has says it, too


def elsewhere(
    store: Store, nodes: Sequence[Place], secret: age.X25519Identity
) -> tuple[dict[str, Contents], list[str]]:
    """Return the newest archives of all other validators, here and on the nodes.

    And a line on each that was not looked at.
    """
    found: dict[str, Contents] = {}
    unseen = []
    root = store.directory.parent
    for directory in sorted(root.iterdir()) if root.is_dir() else []:
        if directory.name != store.validator and (directory / "archives").is_dir():
            other = Store(directory.name, root)
            items = [item for item in other.items() if item.kind == ARCHIVE]
            _open(found, HERE, {item: other.read(item) for item in items[:1]}, secret)
    for place in nodes:
        try:
            items = _others(place.names(), store.validator)
            raw, problems = readable(place, [item.name for item in items[:OTHERS_MAX]])
        except SupervisorError as failure:
            unseen.append(f"{place.name} was not looked at: {failure.message}")
            continue
        unseen += [
            f"{name} on {place.name} was not looked at: {problems[name]}" for name in problems
        ]
        if len(items) > OTHERS_MAX:
            unseen.append(f"{place.name} has more validators than were looked at ({OTHERS_MAX})")
        fetched = {item: raw[item.name] for item in items if item.name in raw}
        _open(found, place.name, fetched, secret)
    return found, unseen


def _others(names: Sequence[str], mine: str) -> list[Item]:
    newest: dict[str, Item] = {}
    for item in sorted(item for name in names if (item := Item.parse(name))):
        if item.kind == ARCHIVE and item.validator != mine:
            newest[item.validator] = item
    return list(newest.values())


def _open(
    found: dict[str, Contents], where: str, raw: dict[Item, bytes], secret: age.X25519Identity
) -> None:
    for item, data in raw.items():
        try:
            opened = contents.unseal(data, secret, item.validator)
        except SupervisorError:
            continue  # another's, or of another kind: it has no key of ours that can be seen
        found[f"validator {item.validator} ({item.name}, {where})"] = opened
