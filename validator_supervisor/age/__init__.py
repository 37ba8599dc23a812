"""The age v1 file format (C2SP age): files that only the owners of some keys can read.

What it does not say is who wrote a file: whoever knows a public key can.
"""

import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from validator_supervisor.age import armor, stanza
from validator_supervisor.age.blocks import Blocks, cut, ending
from validator_supervisor.age.recipients import (
    FILE_KEY,
    SCRYPT,
    TAG,
    Identity,
    Passphrase,
    Recipient,
    X25519Identity,
    X25519Recipient,
    hkdf,
)
from validator_supervisor.age.stanza import Header, Stanza
from validator_supervisor.errors import FormatError, SupervisorError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = [
    "Identity",
    "Passphrase",
    "Recipient",
    "Stanza",
    "X25519Identity",
    "X25519Recipient",
    "decrypt",
    "encrypt",
    "identities",
    "is_encrypted",
]

NONCE = 16
CHUNK = 1 << 16


def encrypt(plaintext: Iterable[bytes], recipients: Sequence[Recipient]) -> Iterator[bytes]:
    """Yield an age file for any of ``recipients``, of a stream of bytes in any pieces.

    Raises ``FormatError`` (Recipient) at once for no recipient, a passphrase beside another
    recipient, or a key that hides nothing. Two chunks of 64 KiB are in memory.
    """
    file_key = os.urandom(FILE_KEY)
    stanzas = [recipient.wrap(file_key) for recipient in recipients]
    if not stanzas or len(stanzas) > stanza.MAX_STANZAS:
        raise FormatError("Recipient", f"expected 1 to {stanza.MAX_STANZAS} recipients")
    if not _alone(stanzas):
        raise FormatError("Recipient", "a passphrase must be the only recipient")
    text = stanza.write(stanzas)
    nonce = os.urandom(NONCE)
    begin = b"%s %s\n%s" % (text, stanza.base64_text(_mac(file_key, text)).encode(), nonce)
    return _sealed(begin, hkdf(file_key, nonce, b"payload"), plaintext)


def decrypt(ciphertext: Iterable[bytes], identities: Sequence[Identity]) -> Iterator[bytes]:
    """Yield the plaintext of an age file, armored or not, in pieces of up to 64 KiB.

    The header is read at once. Raises ``FormatError`` (AgeFile) for what is not an age file or
    a damaged one, ``FormatError`` (AgeHeader) for a header that was changed, and
    ``SupervisorError``: NoMatch, where it is for other keys, and WrongPassphrase.

    Every piece is authentic and in its place, but only who reads to the end without an error
    knows that it is the end, and that nothing is missing or follows: until then, what was read
    may be used for nothing that could not be undone.
    """
    source = armor.opened(ciphertext)
    header = stanza.read(source)
    if not _alone(header.stanzas):
        raise FormatError("AgeFile", "a passphrase is not the only recipient")
    file_key = _file_key(header, identities)
    if not hmac.compare_digest(_mac(file_key, header.text), header.mac):
        raise FormatError("AgeHeader", "the header's MAC does not fit: it was changed")
    nonce = source.take(NONCE)
    if len(nonce) < NONCE:
        raise FormatError("AgeFile", "it ends after its header")
    return _opened(hkdf(file_key, nonce, b"payload"), source)


def is_encrypted(raw: bytes) -> bool:
    """Whether this is an age file, armored or not; an identity file may be one, or text."""
    return raw.lstrip().startswith((stanza.VERSION, armor.BEGIN))


def identities(text: bytes) -> list[X25519Identity]:
    """Return the secret keys in an identity file: one a line, blank lines, ``#`` comments.

    Raises ``FormatError`` (Identity) with the line's number, and where there is none.
    """
    found = []
    for number, line in enumerate(map(bytes.strip, text.split(b"\n")), 1):
        if not line or line.startswith(b"#"):
            continue
        try:
            found.append(X25519Identity.parse(line.decode("latin-1")))
        except FormatError as wrong:
            raise FormatError("Identity", f"line {number}: {wrong.message}") from None
    if not found:
        raise FormatError("Identity", "there is no secret key")
    return found


def _alone(stanzas: Sequence[Stanza]) -> bool:
    """Whether a passphrase, if there is one, is alone: else it would vouch for nothing."""
    return len(stanzas) == 1 or SCRYPT not in {stanza.kind for stanza in stanzas}


def _mac(file_key: bytes, text: bytes) -> bytes:
    return hmac.digest(hkdf(file_key, b"", b"header"), text, "sha256")


def _file_key(header: Header, identities: Sequence[Identity]) -> bytes:
    for identity in identities:
        for each in header.stanzas:
            if (key := identity.unwrap(each)) is not None:
                return key
    asked = any(isinstance(identity, Passphrase) for identity in identities)
    if header.stanzas[0].kind == SCRYPT and asked:
        raise SupervisorError("WrongPassphrase", "the passphrase is wrong")
    raise SupervisorError("NoMatch", "none of the keys opens the age file: it is for others")


def _sealed(begin: bytes, key: bytes, plaintext: Iterable[bytes]) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    yield begin
    seal = ChaCha20Poly1305(key).encrypt
    for number, (chunk, last) in enumerate(ending(cut(plaintext, CHUNK))):
        yield seal(_nonce(number, last), chunk, None)


def _opened(key: bytes, source: Blocks) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher = ChaCha20Poly1305(key)
    for number, (sealed, last) in enumerate(ending(cut(source.rest(), CHUNK + TAG))):
        chunk = _chunk(cipher, number, last, sealed)
        if chunk is None:
            yield from _misplaced(cipher, number, last, sealed)
        elif chunk:
            yield chunk
        elif number:
            raise FormatError("AgeFile", "its last chunk is empty")


def _misplaced(
    cipher: "ChaCha20Poly1305", number: int, last: bool, sealed: bytes
) -> Iterator[bytes]:
    """Tell a file that was cut or added to between chunks from one that was changed."""
    chunk = _chunk(cipher, number, not last, sealed) if len(sealed) == CHUNK + TAG else None
    if chunk is None:
        raise FormatError("AgeFile", "a chunk is damaged, or the file is cut within it")
    # It is authentic, and implementations give it out (C2SP CCTV): the error comes after it.
    yield chunk
    raise FormatError("AgeFile", "its end is missing" if last else "something follows its end")


def _chunk(cipher: "ChaCha20Poly1305", number: int, last: bool, sealed: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(_nonce(number, last), sealed, None)
    except InvalidTag:
        return None


def _nonce(number: int, last: bool) -> bytes:
    return (number << 8 | last).to_bytes(12, "big")
