"""What is in an archive of an Ethereum validator: its keys and what they have signed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from validator_supervisor import age, archive, interchange
from validator_supervisor.archive import Holder
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.interchange import Interchange
from validator_supervisor.manifest import PLAIN, VERSION, Manifest

PROTECTION = "slashing-protection.json"
# Only of an archive that is handed on to another host (transfer.py).
RETIRED = "retired.json"
KIND = "ethereum"
FILE = re.compile(r"validators/(0x[0-9a-f]{96})/(keystore\.json|password\.txt)")


@dataclass(frozen=True)
class Key:
    """A keystore (EIP-2335) and its password, which has no final newline: clients keep it."""

    keystore: bytes = field(repr=False)
    password: bytes = field(repr=False)


@dataclass(frozen=True)
class Remote:
    """A key that a Web3Signer has: there is nothing of it here, and nothing secret to know."""


AnyKey = Key | Remote


def local(keys: Mapping[str, AnyKey]) -> dict[str, Key]:
    """Return those of the keys that are here."""
    return {name: key for name, key in keys.items() if isinstance(key, Key)}


def remote(keys: Mapping[str, AnyKey]) -> tuple[str, ...]:
    """Return those of the keys that a Web3Signer has, in order."""
    return tuple(sorted(name for name, key in keys.items() if isinstance(key, Remote)))


@dataclass(frozen=True)
class Contents:
    """An archive that was verified; keys are ``0x`` and 96 lower-case digits."""

    manifest: Manifest
    protection: Interchange | None
    keys: dict[str, AnyKey]


def unseal(raw: bytes, identity: age.X25519Identity, validator: str) -> Contents:
    """Open an archive and verify all of it.

    Raises FormatError, and SupervisorError: ``NoMatch`` where it is for another identity,
    ``OtherValidator`` where it is of another validator or kind.
    """
    manifest, files = unpacked(raw, identity)
    if (manifest.validator, manifest.kind) != (validator, KIND):
        message = f"is of {manifest.validator} ({manifest.kind}), not of {validator} ({KIND})"
        raise SupervisorError("OtherValidator", message)
    return of(manifest, files)


def unpacked(raw: bytes, identity: Holder) -> tuple[Manifest, dict[str, bytes]]:
    """Verify all of an archive; return its manifest and files. Raises as ``unseal``."""
    manifest, pieces = archive.unpack([raw], [identity])
    files: dict[str, bytearray] = {name: bytearray() for name in manifest.files}
    for name, piece in pieces:
        files[name] += piece
    return manifest, {name: bytes(data) for name, data in files.items()}


def of(manifest: Manifest, files: Mapping[str, bytes]) -> Contents:
    """Return what verified files of an Ethereum validator are. Raises FormatError."""
    protection = None
    if PROTECTION in files:
        protection = interchange.parse(files[PROTECTION]).interchange
    return Contents(manifest, protection, _keys(manifest, files))


def _keys(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, AnyKey]:
    keys: dict[str, AnyKey] = dict.fromkeys(manifest.remote_keys, Remote())
    for key in manifest.public_keys:
        if key in keys:
            continue
        names = [f"validators/{key}/{name}" for name in ("keystore.json", "password.txt")]
        if not all(name in files for name in names):
            raise FormatError("Archive", f"the keystore or password of {key} is missing")
        keystore, password = (files[name] for name in names)
        keys[key] = Key(keystore, password)
    return keys


def seal(
    identity: Holder,
    *,
    validator: str,
    network: str,
    host: str,
    boot: str,
    sequence: int,
    created: int,
    clean: bool,
    keys: Mapping[str, AnyKey],
    removed_keys: Mapping[str, int],
    protection: Interchange | None,
    remarks: Sequence[str] = (),
    retired: bytes | None = None,
) -> bytes:
    """Return the bytes of an archive. Raises FormatError where it could not be read again."""
    files: dict[str, bytes] = {}
    if protection is not None:
        files[PROTECTION] = interchange.text(protection).encode()
    if retired is not None:
        files[RETIRED] = retired
    for name, key in local(keys).items():
        files[f"validators/{name}/keystore.json"] = key.keystore
        files[f"validators/{name}/password.txt"] = key.password
    sources = {name: _once(data) for name, data in files.items()}
    elsewhere = remote(keys)
    manifest = Manifest(
        version=VERSION if elsewhere else PLAIN,
        validator=validator,
        kind=KIND,
        network=network,
        host=host,
        boot=boot,
        sequence=sequence,
        created=created,
        clean=clean,
        public_keys=tuple(sorted(keys)),
        removed_keys=dict(removed_keys),
        files=archive.describe(sources),
        remarks=tuple(remarks),
        remote_keys=elsewhere,
    )
    return b"".join(archive.create(manifest, sources, identity))


def _once(data: bytes) -> archive.Source:
    return lambda: [data]
