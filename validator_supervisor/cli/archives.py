"""What `backup list`, `verify` and `restore` do as validator-state: look, compare, fetch."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from validator_supervisor import claim, contents, copies, identity, interchange
from validator_supervisor.age import X25519Identity
from validator_supervisor.applied import Applied
from validator_supervisor.backup import each
from validator_supervisor.cli import failure, streams
from validator_supervisor.cli.status import ago, columns
from validator_supervisor.errors import REFUSED, SupervisorError
from validator_supervisor.gather import HERE, Found, gather
from validator_supervisor.journal import printable
from validator_supervisor.place import Place, places, ssh_keys
from validator_supervisor.store import ARCHIVE, CLAIM, ROOT, Item, Store

SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """An archive or a claim somewhere; ``problem`` is empty where it verifies.

    ``verified``: the content was looked at; of older ones only the name is known.
    """

    validator: str
    where: str
    name: str
    kind: str
    sequence: int
    created: int
    clean: bool
    size: int
    keys: int
    problem: str


@dataclass(frozen=True)
class Lack:
    """A node has no copy that verifies of the newest archive of a validator."""

    validator: str
    where: str
    sequence: int


def main(argv: Sequence[str]) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="archives", allow_abbrev=False)
    parser.add_argument("command", choices=("list", "verify", "restore", "unpack"))
    parser.add_argument("name", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--from", dest="source", default="")
    given = parser.parse_args(argv)
    try:
        return _run(given)
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except OSError as broken:
        message = f"{broken.filename or ROOT}: {broken.strerror}"
        failure.show(SupervisorError("NotWritten", message))
        return REFUSED


def _run(given: argparse.Namespace) -> int:
    applied, secret = Applied.load(), identity.load()
    nodes = places(applied, ssh_keys())
    names = given.name or [validator.name for validator in applied.config.ethereum]
    if given.command == "restore":
        return restore(Store(names[0]), nodes, secret, given.source)
    if given.command == "unpack":
        return unpack(Store(names[0]), nodes, secret, given.source)
    rows: list[Row] = []
    unseen: dict[str, str] = {}
    for name in names:
        found, away = look(Store(name), nodes, secret)
        rows += found
        unseen |= away
    behind = lacking(rows, [place.name for place in nodes if place.name not in unseen])
    streams.write(shown(rows, unseen, behind, time.time(), as_json=given.json))
    bad = any(row.problem for row in _newest(rows)) or bool(unseen or behind)
    without = [name for name in names if not any(row.validator == name for row in rows)]
    for name in without:
        failure.show(SupervisorError("NoArchive", f"there is no archive of {name} anywhere"))
    return REFUSED if given.command == "verify" and (bad or without) else 0


class Apart(Store):
    """A store that gives nothing: what a node has is fetched, also what this host has as well."""

    def items(self) -> list[Item]:
        """Return nothing."""
        return []


def look(
    store: Store, nodes: Sequence[Place], secret: X25519Identity
) -> tuple[list[Row], dict[str, str]]:
    """Return the newest of each kind of this host and each node, verified, and who is away.

    Every place is looked at by itself: of two copies under one name only one may be damaged.
    """
    rows = _rows(store, HERE, gather(store, [], secret))
    apart = Apart(store.validator, store.directory.parent)
    found: dict[str, Found] = {}

    def ask(node: Place) -> None:
        found[node.name] = gather(apart, [node], secret, SECONDS)

    unseen = {node: problem for node, problem in each(nodes, ask, 2 * SECONDS).items() if problem}
    for node, one in dict(found).items():
        rows += _rows(store, node, one)
        unseen |= one.unseen
    return rows, unseen


def _rows(store: Store, where: str, found: Found) -> list[Row]:
    """Return what one place has, the newest first."""
    rows = [
        Row(store.validator, where, one.item.name, ARCHIVE, one.item.sequence,
            one.contents.manifest.created, one.contents.manifest.clean, len(one.raw),
            len(one.contents.keys), "")
        for one in found.archives
    ]  # fmt: skip
    rows += [
        Row(store.validator, where, one.item.name, CLAIM, one.item.sequence, one.claim.time,
            False, 0, 0, "")
        for one in found.claims
    ]  # fmt: skip
    for one in found.refused:
        item = Item.parse(one.name)
        kind, sequence = (item.kind, item.sequence) if item else ("", 0)
        rows.append(
            Row(store.validator, where, one.name, kind, sequence, 0, False, 0, 0, one.reason)
        )
    return sorted(rows, key=lambda row: -row.sequence)


def _newest(rows: Sequence[Row]) -> list[Row]:
    """Return the newest archive of each validator in each place."""
    newest: dict[tuple[str, str], Row] = {}
    for row in rows:
        before = newest.get((row.validator, row.where))
        if row.kind == ARCHIVE and (before is None or row.sequence > before.sequence):
            newest[row.validator, row.where] = row
    return list(newest.values())


def lacking(rows: Sequence[Row], nodes: Sequence[str]) -> list[Lack]:
    """Return which nodes do not have the newest archive that verifies anywhere."""
    good = [row for row in rows if row.kind == ARCHIVE and not row.problem]
    newest = {row.validator: row for row in sorted(good, key=lambda row: row.sequence)}
    there = {(row.validator, row.sequence, row.where) for row in good}
    return [
        Lack(row.validator, node, row.sequence)
        for row in newest.values()
        for node in nodes
        if (row.validator, row.sequence, node) not in there
    ]


def shown(
    rows: Sequence[Row],
    unseen: dict[str, str],
    behind: Sequence[Lack],
    now: float,
    *,
    as_json: bool,
) -> str:
    """Return the table, or JSON."""
    if as_json:
        found = {
            "archives": [asdict(row) for row in rows],
            "unreachable": unseen,
            "lacking": [asdict(lack) for lack in behind],
        }
        return f"{json.dumps(found, indent=1)}\n"
    head = ["VALIDATOR", "WHERE", "SEQUENCE", "MADE", "KIND", "KEYS", "SIZE", "STATE"]
    table = columns([head, *(_cells(row, now) for row in rows)])
    lines = [line[2:] for line in table] if rows else ["no archives"]
    lines += [f"{node} was not reached: {problem}" for node, problem in sorted(unseen.items())]
    lines += [
        f"{lack.where} has no good copy of the newest archive of {lack.validator}, {lack.sequence}"
        for lack in behind
    ]
    # Nodes have a say in it, and a terminal obeys what it is shown.
    return "".join(f"{printable(line)}\n" for line in lines)


def _cells(row: Row, now: float) -> list[str]:
    kind = "claim" if row.kind == CLAIM else "clean" if row.clean else "running"
    made = f"{ago(now - row.created)} ago" if row.created else ""
    archive = row.kind == ARCHIVE and not row.problem
    keys, size = (str(row.keys), str(row.size)) if archive else ("", "")
    state = row.problem or "verified"
    if row.problem:
        kind = row.kind if row.kind == CLAIM else "archive"
    return [row.validator, row.where, str(row.sequence), made, kind, keys, size, state]


def restore(store: Store, nodes: Sequence[Place], secret: X25519Identity, source: str) -> int:
    """Bring what verifies on the nodes, or an archive on standard input, to this host.

    Raises SupervisorError: ``Running``, ``UnknownNode``, ``Unreachable``, ``NoArchive``.
    """
    if store.running():
        message = f"{store.validator} may have signed since its last final backup on this host"
        hint = "its own database and archives count; to copy an archive: --to DIRECTORY"
        raise SupervisorError("Running", message, hint)
    if not store.directory.is_dir():
        store.directory.mkdir(0o711)
    with store.locked():
        if source == streams.STDIN:
            restored = [_from_stdin(store, secret)]
        else:
            restored = _from_nodes(store, _chosen(nodes, source), secret)
    streams.write("".join(f"{line}\n" for line in restored))
    return 0


def _chosen(nodes: Sequence[Place], source: str) -> Sequence[Place]:
    chosen = [node for node in nodes if source in ("", node.name)]
    if not chosen:
        there = ", ".join(node.name for node in nodes) or "none"
        message = f"{source} is no node that takes backups" if source else "no node takes backups"
        raise SupervisorError("UnknownNode", message, f"those that do: {there}")
    return chosen


def _from_stdin(store: Store, secret: X25519Identity) -> str:
    with streams.opened(streams.STDIN) as stream:
        raw = stream.read()
    found = contents.unseal(raw, secret, store.validator)
    store.add(raw, ARCHIVE, found.manifest.sequence)
    return _told(found, "the file")


def _from_nodes(store: Store, nodes: Sequence[Place], secret: X25519Identity) -> list[str]:
    found = gather(store, nodes, secret, SECONDS)
    for refused in found.refused:
        message = f"{refused.where}: {refused.name}: {refused.reason}"
        failure.show(SupervisorError("Refused", message))
    for node, problem in found.unseen.items():
        failure.show(SupervisorError("Unreachable", f"{node} was not reached: {problem}"))
    if not found.archives:
        _no_archive(store, found)
    # The oldest first: a crash leaves none that the next start would take for the newest.
    for one in reversed(found.archives):
        store.add(one.raw, ARCHIVE, one.item.sequence)
    for seen in found.claims:
        store.add(claim.seal(seen.claim, secret), CLAIM, seen.item.sequence)
    newest = found.archives[0]
    return [_told(newest.contents, ", ".join(newest.where))]


def _no_archive(store: Store, found: Found) -> None:
    message = f"no archive of {store.validator} that verifies was found"
    hint = (
        f"not reached: {', '.join(found.unseen)}" if found.unseen else "is it another identity's?"
    )
    raise SupervisorError("NoArchive", message, hint)


def _told(found: contents.Contents, where: str) -> str:
    manifest = found.manifest
    name, made = manifest.validator, copies.at(manifest.created)
    return (
        f"restored archive {manifest.sequence} of {name} with {len(found.keys)} keys, made {made}, "
        f"from {where}\nwhen no other host runs it: validator-supervisor take-over {name}"
    )


def unpack(store: Store, nodes: Sequence[Place], secret: X25519Identity, source: str) -> int:
    """Print the files of the newest archive, or of one on standard input, as JSON: secrets.

    Nothing is changed on this host. Raises SupervisorError as ``restore`` does.
    """
    if source == streams.STDIN:
        with streams.opened(streams.STDIN) as stream:
            found = contents.unseal(stream.read(), secret, store.validator)
    else:
        every = gather(store, _chosen(nodes, source) if source else nodes, secret, SECONDS)
        usable = [one for one in every.archives if source in ("", *one.where)]
        if not usable:
            _no_archive(store, every)
        found = usable[0].contents
    files = {"": _told(found, "the archive").splitlines()[0]}
    if found.protection is not None:
        files[contents.PROTECTION] = interchange.text(found.protection)
    for key, one in contents.local(found.keys).items():
        files[f"validators/{key}/keystore.json"] = one.keystore.decode("latin-1")
        files[f"validators/{key}/password.txt"] = one.password.decode("latin-1")
    streams.write(json.dumps(files))
    return 0
