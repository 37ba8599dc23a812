"""Detached signatures of OpenPGP (RFC 9580), verified by gpgv(1)."""

import base64
import binascii
from collections.abc import Collection, Sequence
from pathlib import Path

from validator_supervisor import run
from validator_supervisor.errors import FormatError, SupervisorError

GPGV = "/usr/bin/gpgv"
# A file of 1 GiB on a slow disk.
SECONDS = 120.0
BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
END = "-----END PGP PUBLIC KEY BLOCK-----"
# Each of a good signature, once. gpgv also says VALIDSIG, and ends with 0, for those of expired and
# revoked keys.
NEEDED = ("NEWSIG", "GOODSIG", "VALIDSIG")
REFUSED = {
    "BADSIG": "the signature is of another file",
    "EXPKEYSIG": "the key that signed it has expired",
    "EXPSIG": "the signature has expired",
    "REVKEYSIG": "the key that signed it is revoked",
    "NO_PUBKEY": "it is signed by a key that is not the project's",
    "ERRSIG": "the signature cannot be checked",
}
# RFC 9580, 5.2.4: of a binary document.
DOCUMENT = "00"
# RFC 9580, 9.5: MD5, SHA-1 and RIPEMD-160.
WEAK = ("1", "2", "3")
# VALIDSIG has at least so many words, the last of them the primary key's fingerprint (doc/DETAILS
# of GnuPG).
PRIMARY = 10


def dearmored(raw: bytes) -> bytes:
    """Return public keys without their armor (RFC 9580, 6.2), which gpgv cannot read in keyrings.

    Its checksum is not looked at, as the RFC has it. Raises FormatError.
    """
    if raw[:1] >= b"\x80":  # the first bit of every packet
        return raw
    lines = [line.strip() for line in raw.decode(errors="replace").splitlines()]
    try:
        body = lines[lines.index(BEGIN) + 1 : lines.index(END)]
        # After the headers is an empty line.
        body = body[body.index("") + 1 :]
        if body and body[-1].startswith("="):
            body.pop()
        return base64.b64decode("".join(body), validate=True)
    except (ValueError, binascii.Error):
        raise FormatError("Key", "is not an OpenPGP public key") from None


def verify(file: Path, signature: Path, keyring: Path, fingerprints: Collection[str]) -> str:
    """Return the fingerprint of the primary key that signed a file, one of ``fingerprints``.

    Raises SupervisorError ``NotSigned``.
    """
    argv = [GPGV, "--homedir", str(keyring.parent), "--status-fd", "1"]
    argv += ["--keyring", str(keyring), str(signature), str(file)]
    done = run.run(argv, seconds=SECONDS, check=False)
    found = signer(done.stdout.decode(errors="replace").splitlines())
    if done.returncode:
        raise _not_signed(f"gpgv {run.ending(done)}")
    if found not in fingerprints:
        raise _not_signed(f"it is signed by {found}, which is not the project's key")
    return found


def signer(status: Sequence[str]) -> str:
    """Return the primary key's fingerprint of the one good signature that gpgv tells of.

    ``status`` is what ``--status-fd`` gets. Raises SupervisorError ``NotSigned``.
    """
    lines = [line.split()[1:] for line in status if line.startswith("[GNUPG:] ")]
    said = [words[0] for words in lines if words]
    for word, why in REFUSED.items():
        if word in said:
            raise _not_signed(why)
    if any(said.count(word) != 1 for word in NEEDED):
        raise _not_signed("it has not exactly one good signature")
    (valid,) = [words[1:] for words in lines if words and words[0] == "VALIDSIG"]
    if len(valid) < PRIMARY or valid[8] != DOCUMENT or valid[7] in WEAK:
        raise _not_signed("the signature is of a kind that proves nothing")
    return valid[PRIMARY - 1]


def _not_signed(why: str) -> SupervisorError:
    return SupervisorError("NotSigned", why)
