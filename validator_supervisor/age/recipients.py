"""Whom an age file is for (C2SP age, "Native recipient types"): X25519 keys and passphrases.

cryptography is imported where it is used: that takes longer than most helpers do.
"""

import functools
import hmac
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from validator_supervisor import bech32, scrypt
from validator_supervisor.age.stanza import Stanza, base64_text
from validator_supervisor.errors import FormatError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY, FILE_KEY, TAG, SALT = 32, 16, 16, 16
IDENTITY_PREFIX = "AGE-SECRET-KEY-"
RECIPIENT_PREFIX = "age"
# scrypt takes 2^factor KiB. 18 is what age writes: 256 MiB, about a second. 20 is 1 GiB, what a
# small server may have to spare, and the last that hashlib grants; age opens up to 22, but then a
# file that somebody hands us could take 4 GiB. Its program never writes more than 18.
WORK_FACTOR = 18
MAX_WORK_FACTOR = 20
SCRYPT = "scrypt"
# Two digits are above the limit already, and int() has one of its own.
DECIMAL = re.compile("[1-9][0-9]{0,9}")


class Recipient(Protocol):
    """Whom a file is for."""

    def wrap(self, file_key: bytes) -> Stanza: ...


class Identity(Protocol):
    """Who opens a file."""

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """Return the file key, None where it is not for us; raise ``FormatError`` (AgeFile)."""


@dataclass(frozen=True)
class X25519Recipient:
    """A public key, ``age1…``."""

    public: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a public key; raise ``FormatError`` (Recipient)."""
        return cls(_key(text, RECIPIENT_PREFIX, "Recipient"))

    def text(self) -> str:
        """Return it as ``age1…``."""
        return bech32.encode(RECIPIENT_PREFIX, self.public)

    def wrap(self, file_key: bytes) -> Stanza:
        """Return the stanza; raise ``FormatError`` (Recipient) for a point of low order."""
        ephemeral = X25519Identity.generate()
        share = ephemeral.recipient.public
        shared = ephemeral.exchange(self.public)
        if shared is None:
            raise FormatError("Recipient", "the public key is one that hides nothing")
        return Stanza("X25519", (base64_text(share),),
                      _wrap(_x25519_key(shared, share, self.public), file_key))  # fmt: skip


@dataclass(frozen=True)
class X25519Identity:
    """A secret key, ``AGE-SECRET-KEY-1…``."""

    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(os.urandom(KEY))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a secret key; raise ``FormatError`` (Identity), which does not quote it."""
        return cls(_key(text, IDENTITY_PREFIX, "Identity"))

    def text(self) -> str:
        """Return it as ``AGE-SECRET-KEY-1…``: a secret."""
        return bech32.encode(IDENTITY_PREFIX, self.secret)

    @functools.cached_property
    def recipient(self) -> X25519Recipient:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._private().public_key()
        return X25519Recipient(public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def exchange(self, public: bytes) -> bytes | None:
        """Return the shared secret, None where it is all zeros (RFC 7748, section 6.1)."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._private().exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return None

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.kind != "X25519":
            return None
        share = stanza.argument(1, KEY)
        shared = self.exchange(share)
        if shared is None:
            raise FormatError("AgeFile", "a recipient's share is of low order")
        return _unwrap(_x25519_key(shared, share, self.recipient.public), stanza)

    def _private(self) -> "X25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(self.secret)


@dataclass(frozen=True)
class Passphrase:
    """A passphrase, both to write and to read; ``work_factor`` is the exponent for writing."""

    passphrase: bytes = field(repr=False)
    work_factor: int = WORK_FACTOR

    def __post_init__(self) -> None:
        if not 1 <= self.work_factor <= MAX_WORK_FACTOR:
            raise FormatError("WorkFactor", f"expected 1 to {MAX_WORK_FACTOR}")

    def wrap(self, file_key: bytes) -> Stanza:
        salt = os.urandom(SALT)
        key = self._wrap_key(salt, self.work_factor)
        arguments = (base64_text(salt), str(self.work_factor))
        return Stanza(SCRYPT, arguments, _wrap(key, file_key))

    def unwrap(self, stanza: Stanza) -> bytes | None:
        if stanza.kind != SCRYPT:
            return None
        salt = stanza.argument(2, SALT)
        if not DECIMAL.fullmatch(stanza.arguments[1]):
            raise FormatError("AgeFile", "the work factor is not a decimal number")
        factor = int(stanza.arguments[1])
        if factor > MAX_WORK_FACTOR:
            raise FormatError("AgeFile", f"the work factor is above {MAX_WORK_FACTOR}: "
                              "the passphrase would take too much memory to check")  # fmt: skip
        return _unwrap(self._wrap_key(salt, factor), stanza)

    def _wrap_key(self, salt: bytes, factor: int) -> bytes:
        return scrypt.derive(
            self.passphrase, b"age-encryption.org/v1/scrypt" + salt, 1 << factor, 8, 1
        )


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256 (RFC 5869): one block, as all that age derives."""
    extracted = hmac.digest(salt or bytes(KEY), secret, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")


def _x25519_key(shared: bytes, share: bytes, public: bytes) -> bytes:
    return hkdf(shared, share + public, b"age-encryption.org/v1/X25519")


def _key(text: str, prefix: str, noun: str) -> bytes:
    try:
        found, key = bech32.decode(text)
    except FormatError as wrong:
        raise FormatError(noun, f"not a key of age: {wrong.message}") from None
    if found != prefix or len(key) != KEY:
        raise FormatError(noun, f"not an X25519 key of age: those begin with {prefix}1")
    return key


def _wrap(key: bytes, file_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    # The key is new for each stanza, so that the nonce may be zero.
    return ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)


def _unwrap(key: bytes, stanza: Stanza) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    # Before it is opened: another length lets one ciphertext fit many keys.
    if len(stanza.body) != FILE_KEY + TAG:
        raise FormatError("AgeFile", "what a recipient is given is not a file key")
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), stanza.body, None)
    except InvalidTag:
        return None
