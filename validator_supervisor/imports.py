"""`import-keystore`: keys into a new archive, all of them or none.

What comes in is a person's: keystores, their passwords, and what their keys have signed. It is
refused where the same key might sign in two places.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from validator_supervisor import (
    age,
    backup,
    contents,
    document,
    host,
    interchange,
    keystore,
    lift,
    slashing,
)
from validator_supervisor.beacon import Record
from validator_supervisor.chain import moment_at
from validator_supervisor.contents import AnyKey, Contents, Key
from validator_supervisor.errors import ConfigError, FormatError, SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.journal import printable
from validator_supervisor.marks import Mark
from validator_supervisor.networks import Chain
from validator_supervisor.store import Item, Store
from validator_supervisor.validators import Ethereum

# At once; each takes about a second to open. A validator may have more.
KEYS_MAX = 1000
PASSWORD_MAX = 1024


@dataclass(frozen=True)
class Given:
    """A keystore file and its password."""

    file: str
    keystore: bytes = field(repr=False)
    password: bytes = field(repr=False)


@dataclass(frozen=True)
class Request:
    """What a person gives; ``protection`` is an EIP-3076 file; ``returned``: removed keys, too.

    ``web3signer``: keys of the Web3Signer, those that are ``named`` or all that are wanted.
    """

    given: tuple[Given, ...]
    protection: bytes | None = field(repr=False, default=None)
    returned: bool = False
    web3signer: bool = False
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What was done."""

    archive: str
    keys: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def text(request: Request) -> bytes:
    """Return a request as it goes through the pipe to the job: a secret."""
    known = request.protection
    return json.dumps(
        {
            "keystores": [
                [printable(one.file), _coded(one.keystore), _coded(one.password)]
                for one in request.given
            ],
            "protection": None if known is None else _coded(known),
            "returned": request.returned,
            "web3signer": request.web3signer,
            "named": request.named,
        }
    ).encode()


def parse(raw: bytes) -> Request:
    """Return the request that came through the pipe. Raises FormatError (``InvalidRequest``)."""
    try:
        top = document.parse_json(raw, "request").mapping()
        given = []
        for member in top["keystores"].items():
            file, stored, password = (item.string() for item in member.items())
            given.append(Given(file, base64.b64decode(stored), base64.b64decode(password)))
        known = top["protection"]
        protection = None if known.data is None else base64.b64decode(known.string())
        named = tuple(interchange.public_key(item.string()) for item in top["named"].items())
        flags = top["returned"].boolean(), top["web3signer"].boolean()
        return Request(tuple(given), protection, *flags, named)
    except (ConfigError, KeyError, ValueError) as failure:
        raise FormatError("Request", printable(str(failure))) from None


def _coded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def passwords(raw: bytes, number: int) -> list[bytes]:
    """Return a password for each of ``number`` keystores: a line for each, or one for all.

    Only ends of lines are taken off: clients keep everything else. Raises SupervisorError
    ``WrongPassword``.
    """
    lines = [line.removesuffix(b"\r") for line in raw.removesuffix(b"\n").split(b"\n")]
    if len(lines) not in (1, number):
        message = f"there are {len(lines)} passwords for {number} keystores"
        raise SupervisorError("WrongPassword", message, "a line for each, in order, or one for all")
    if any(not 0 < len(line) <= PASSWORD_MAX for line in lines):
        message = f"a password has 1 to {PASSWORD_MAX} bytes"
        raise SupervisorError("WrongPassword", message)
    return lines * number if len(lines) == 1 else lines


def opened(given: Sequence[Given], most: int = KEYS_MAX) -> dict[str, Key]:
    """Open every keystore; the public key is the one that is computed from the secret.

    Raises SupervisorError with the file's name: ``WrongPassword``, ``InvalidKeystore``,
    ``DuplicateKey``, ``TooManyKeys``.
    """
    if len(given) > most:
        raise SupervisorError("TooManyKeys", f"more than {most} keystores at once")
    keys: dict[str, Key] = {}
    files: dict[str, str] = {}
    for one in given:
        try:
            found = keystore.decrypt(keystore.parse(one.keystore), one.password)
        except SupervisorError as failure:
            message = f"{one.file}: {failure.message}"
            raise SupervisorError(failure.code, message, failure.hint) from None
        name = f"0x{found.public_key.hex()}"
        if name in files:
            message = f"{files[name]} and {one.file} hold the same key, {name}"
            raise SupervisorError("DuplicateKey", message)
        keys[name], files[name] = Key(one.keystore, one.password), one.file
    return keys


def check(
    keys: Iterable[str],
    newest: Contents | None,
    others: Mapping[str, Contents],
    *,
    returned: bool,
) -> None:
    """Refuse keys that are, or were, somewhere.

    ``others`` are archives of other validators, by what a person knows them as. Raises
    SupervisorError ``DuplicateKey``, ``RemovedKey``.
    """
    for key in keys:
        if newest and key in newest.keys:
            raise SupervisorError("DuplicateKey", f"{key} is in this validator already")
        for name, other in others.items():
            if key in other.keys:
                message = f"{key} is in {name}: two validators with one key get it slashed"
                raise SupervisorError("DuplicateKey", message, "remove it there first")
        if newest and key in newest.manifest.removed_keys and not returned:
            message = f"{key} was removed from this validator for good"
            hint = "where it signs nowhere else and is to come back: --returned"
            raise SupervisorError("RemovedKey", message, hint)


def without_gone(
    keys: Mapping[str, AnyKey], records: Mapping[str, Record], node: str
) -> tuple[dict[str, AnyKey], tuple[str, ...]]:
    """Return the keys that may still sign, and a remark on each that is slashed or out.

    ``records`` are what ``node`` says; it may know fewer. Raises SupervisorError ``KeysGone`` where
    none is left.
    """
    gone = {key: record for key, record in records.items() if key in keys and _gone(record)}
    remarks = tuple(
        f"skipped {key}: {'slashed' if record.slashed else 'out'} ({record.status}), says {node}"
        for key, record in gone.items()
    )
    left = {key: value for key, value in keys.items() if key not in gone}
    if not left:
        raise SupervisorError("KeysGone", f"no key is left: {'; '.join(remarks[:3])}")
    return left, remarks


def _gone(record: Record) -> bool:
    # One that leaves must sign until it is out.
    return record.slashed or record.status.startswith(("exited", "withdrawal"))


def moved(theirs: Mark | None, name: str) -> None:
    """Refuse to change the keys of a validator that another host runs. Raises SupervisorError."""
    if theirs:
        where = ", ".join(theirs.where)
        message = f"host {theirs.host} runs {name}: {theirs.name} on {where}"
        raise SupervisorError("Moved", message, f"validator-supervisor take-over {name}")


def protected(
    keys: Iterable[str], raw: bytes | None, root: bytes, chain: Chain | None, now: int
) -> tuple[Interchange, tuple[str, ...]]:
    """Return what the new keys are known to have signed, with an entry for each, and remarks.

    Raises SupervisorError ``OtherChain``, ``UnknownKeys``, ``Ahead``, and FormatError.
    """
    entries = {key: History() for key in keys}
    found = interchange.parse(raw).interchange if raw is not None else Interchange(root, {})
    if found.genesis_validators_root != root:
        message = f"the slashing protection is of another chain: root 0x{_hex(found)}"
        raise SupervisorError("OtherChain", message, f"this validator's is 0x{root.hex()}")
    mine = {key: found.keys[key] for key in entries if key in found.keys}
    if raw is not None and not mine:
        raise SupervisorError("UnknownKeys", "the slashing protection knows none of the keys")
    for one in lift.ahead(Interchange(root, mine), moment_at(chain, now)) if chain else ():
        message = f"slashing protection: {one.field} {one.found} of {one.key} is over 2 epochs"
        raise SupervisorError("Ahead", f"{message} above {one.expected}", "is it this network's?")
    remarks = [f"nothing is known of what {key} has signed" for key in entries if key not in mine]
    return Interchange(root, {**entries, **mine}), tuple(remarks)


def _hex(found: Interchange) -> str:
    return found.genesis_validators_root.hex()


def root_of(chain: Chain | None, newest: Contents | None) -> bytes:
    """Return the validator's genesis_validators_root. Raises SupervisorError ``NoChain``."""
    if chain:
        return bytes.fromhex(chain.genesis_validators_root.removeprefix("0x"))
    if newest and newest.protection:
        return newest.protection.genesis_validators_root
    raise SupervisorError("NoChain", "it is not known yet which chain this is", exit_status=75)


def add(
    store: Store,
    validator: Ethereum,
    identity: age.X25519Identity,
    found: Found,
    keys: Mapping[str, AnyKey],
    protection: Interchange,
    now: int,
    *,
    beside: Mapping[str, AnyKey] | None = None,
    removed_keys: Mapping[str, int] | None = None,
    seen: int = -1,
    remark: str = "imported",
) -> Item:
    """Keep an archive with the new keys beside those that were there. The caller holds the lock.

    ``beside`` are other keys instead of those, ``removed_keys`` were removed elsewhere, ``seen`` is
    a sequence that the archive's is above. Raises SupervisorError, and OSError where a disk is
    full: then nothing has changed.
    """
    newest = latest(store, identity, found)
    known = [one.protection for one in every(store, identity, found) if one.protection]
    before = newest.keys if newest else {}
    every_key = {**(before if beside is None else beside), **keys}
    removed = {**(removed_keys or {}), **(newest.manifest.removed_keys if newest else {})}
    sequence = backup.next_sequence(store, now, max(found.sequence, seen))
    raw = contents.seal(
        identity,
        validator=store.validator,
        network=validator.network,
        host=host.host_id(),
        boot=host.boot_id(),
        sequence=sequence,
        created=now,
        clean=False,
        keys=every_key,
        removed_keys={key: when for key, when in removed.items() if key not in every_key},
        protection=slashing.minify(slashing.merge(protection, *known)),
        remarks=(f"{len(keys)} keys {remark}",),
    )
    # This boot has seen the archive, and the next start lifts and watches these keys.
    store.add_boot(host.boot_id())
    store.add_imported(keys)
    return backup.keep(store, identity, raw, sequence)


def latest(store: Store, identity: age.X25519Identity, found: Found) -> Contents | None:
    """Return the newest archive of this host and of every node that was reached."""
    there = every(store, identity, found)
    return max(there, key=lambda one: one.manifest.sequence, default=None)


def every(store: Store, identity: age.X25519Identity, found: Found) -> list[Contents]:
    """Return what is in all archives that open, of this host and of every node that was reached."""
    local = [one for _, one in backup.archives(store, identity)]
    return [*local, *(one.contents for one in found.archives)]
