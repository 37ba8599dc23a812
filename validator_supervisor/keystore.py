"""Keystores of validators' secret keys: EIP-2335 version 4.

Only the public key that is computed from the secret says whose secret it is: ``pubkey`` is
written beside it by whoever wrote the file, and nothing authenticates it or the counter.
"""

import contextlib
import json
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from validator_supervisor import bls, keystore_crypto
from validator_supervisor.document import Value, parse_json
from validator_supervisor.errors import ConfigError, FormatError
from validator_supervisor.journal import printable
from validator_supervisor.keystore_crypto import Crypto, Pbkdf2, Scrypt, normalise

VERSION = 4
SIZE_MAX = 1 << 16  # a keystore has 800 bytes
PUBLIC_KEY = r"(0x)?[0-9a-fA-F]{96}"
UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


@dataclass(frozen=True)
class Keystore:
    """A keystore; ``public_key`` is what it says of itself, None where it says nothing."""

    crypto: Crypto
    public_key: bytes | None
    path: str
    uuid: str
    description: str


@dataclass(frozen=True)
class Unlocked:
    """A secret key and the public key that was computed from it."""

    secret: bytes = field(repr=False)
    public_key: bytes


def parse(raw: bytes) -> Keystore:
    """Read a keystore without opening it. Raises FormatError.

    As in the field, ``path`` may be missing and a ``name`` be there (Prysm, ethdo), and ``null``
    is nothing (Lighthouse). Other unknown keys are refused, as Lighthouse does: a misspelt
    ``pubkey`` would go unchecked.
    """
    known = ("crypto", "description", "name", "path", "pubkey", "uuid", "version")
    with document(raw, SIZE_MAX) as value:
        top = value.section(*known)
        top.need("version", lambda version: version.integer(VERSION, VERSION, "the version"))
        return Keystore(
            crypto=top.need("crypto", _crypto),
            public_key=top.get("pubkey", _public_key, None),
            path=top.get("path", _text, ""),
            uuid=top.need("uuid", lambda text: text.string(UUID, "a UUID")),
            description=top.get("description", _text, "") or top.get("name", _text, ""),
        )


def decrypt(keystore: Keystore, password: bytes | str) -> Unlocked:
    """Open a keystore.

    Raises SupervisorError ``WrongPassword``, or FormatError where what is inside is no secret
    key or not the one whose public key the keystore names. Where it names none, the caller must
    compare: a damaged counter gives another secret.
    """
    return unlocked(keystore.crypto.open(password), keystore.public_key)


def encrypt(
    secret: bytes,
    password: bytes | str,
    *,
    path: str = "",
    kdf: Scrypt | Pbkdf2 | None = None,
    counter: bytes | None = None,
    identifier: uuid.UUID | None = None,
) -> bytes:
    """Return a keystore of ``secret`` (32 bytes). What is not given is random.

    Without ``kdf`` it is scrypt with the work of EIP-2335. Raises FormatError on what is no
    secret key, and on an empty password.
    """
    if not normalise(password):
        raise FormatError("Password", "the password is empty")
    public_key = bls.public_key(secret)
    kdf = kdf or Scrypt(secrets.token_bytes(32))
    counter = counter or secrets.token_bytes(keystore_crypto.COUNTER_SIZE)
    data = {
        "crypto": keystore_crypto.seal(secret, password, kdf, counter).plain(),
        "description": "",
        "pubkey": public_key.hex(),
        "path": path,
        "uuid": str(identifier or uuid.uuid4()),
        "version": VERSION,
    }
    return json.dumps(data, indent=2).encode()


@contextlib.contextmanager
def document(raw: bytes, limit: int) -> Iterator[Value]:
    """Give the JSON of a keystore; what its reader finds wrong becomes a FormatError."""
    try:
        if len(raw) > limit:
            raise ConfigError("keystore", f"is larger than {limit} bytes")
        yield parse_json(raw, "keystore")
    except ConfigError as failure:
        raise FormatError("Keystore", failure.message, failure.hint) from None


def unlocked(secret: bytes, expected: bytes | None) -> Unlocked:
    """Return a secret with its public key. Raises FormatError where it is not ``expected``."""
    public_key = bls.public_key(secret)
    if expected is not None and public_key != expected:
        message = f"the secret of 0x{public_key.hex()} is in a keystore for 0x{expected.hex()}"
        raise FormatError("Keystore", message, "the file is damaged, or has been changed")
    return Unlocked(secret, public_key)


def _crypto(value: Value) -> Crypto:
    return keystore_crypto.read(value, bls.SECRET_SIZE, bls.SECRET_SIZE)


def _public_key(value: Value) -> bytes | None:
    # EIP-2335 has no prefix and clients write none; tools do, as they do elsewhere.
    if value.data is None or value.data == "":
        return None
    digits = value.string(PUBLIC_KEY, "48 bytes in hexadecimal")
    return bytes.fromhex(digits.removeprefix("0x"))


def _text(value: Value) -> str:
    if value.data is None:
        return ""
    if not isinstance(value.data, str):
        raise value.error(f"expected a string, found {value.shown()}")
    return printable(value.data)
