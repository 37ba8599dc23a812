"""The encrypted part of a keystore: ``crypto`` of EIP-2335, which Prysm's wallet has as well.

A key derivation function makes the decryption key of the password; its second half
authenticates the cipher's message, its first half decrypts it. The checksum does not cover the
counter (``iv``).
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from validator_supervisor import scrypt
from validator_supervisor.document import Section, Value
from validator_supervisor.errors import FormatError, SupervisorError

COUNTER_SIZE = 16
# To normalise one takes time with the square of its length.
PASSWORD_MAX = 4096
DERIVED_SIZE = 32
DIGEST_SIZE = 32
SALT_MAX = 64  # everybody has 32
# The file says how much work it is. EIP-2335's own is n = 2^18, r = 8, p = 1 in 256 MiB, and
# c = 2^18: 0.8 and 0.1 seconds. Less is weak, which its owner has chosen; twice the memory and
# sixteen times the rounds are what a stranger's file may cost.
SCRYPT_WORK_MAX = 1 << 22  # n * r * p; each is 128 bytes
SCRYPT_FACTOR_MAX = 64  # of r and p, whose blocks come on top
PBKDF2_COUNT_MAX = 1 << 22

# C0, DEL and C1.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Scrypt:
    """RFC 7914, with the work of EIP-2335's examples."""

    salt: bytes
    n: int = 1 << 18
    r: int = 8
    p: int = 1

    def derive(self, password: bytes) -> bytes:
        """Return the decryption key."""
        return scrypt.derive(password, self.salt, self.n, self.r, self.p)

    def module(self) -> dict[str, object]:
        """Return the ``kdf`` module as JSON has it."""
        cost = {"dklen": DERIVED_SIZE, "n": self.n, "r": self.r, "p": self.p}
        return _module("scrypt", b"", {**cost, "salt": self.salt.hex()})


@dataclass(frozen=True)
class Pbkdf2:
    """RFC 8018 §5.2 with HMAC-SHA-256, with the work of EIP-2335's examples."""

    salt: bytes
    c: int = 1 << 18

    def derive(self, password: bytes) -> bytes:
        """Return the decryption key."""
        return hashlib.pbkdf2_hmac("sha256", password, self.salt, self.c, DERIVED_SIZE)

    def module(self) -> dict[str, object]:
        """Return the ``kdf`` module as JSON has it."""
        cost = {"dklen": DERIVED_SIZE, "c": self.c, "prf": "hmac-sha256"}
        return _module("pbkdf2", b"", {**cost, "salt": self.salt.hex()})


@dataclass(frozen=True)
class Crypto:
    """What is needed, beside the password, for the plain message."""

    kdf: Scrypt | Pbkdf2
    counter: bytes
    message: bytes
    checksum: bytes

    def open(self, password: bytes | str) -> bytes:
        """Return the plain message. Raises SupervisorError ``WrongPassword``."""
        key = self.kdf.derive(normalise(password))
        if not hmac.compare_digest(_checksum(key, self.message), self.checksum):
            hint = "where it is the right one, the file is damaged"
            raise SupervisorError("WrongPassword", "the password does not open the keystore", hint)
        return _counted(key, self.counter, self.message)

    def plain(self) -> dict[str, object]:
        """Return this as JSON has it."""
        return {
            "kdf": self.kdf.module(),
            "checksum": _module("sha256", self.checksum, {}),
            "cipher": _module("aes-128-ctr", self.message, {"iv": self.counter.hex()}),
        }


def seal(message: bytes, password: bytes | str, kdf: Scrypt | Pbkdf2, counter: bytes) -> Crypto:
    """Encrypt ``message``. Salt and counter (16 bytes) must not be used a second time."""
    key = kdf.derive(normalise(password))
    hidden = _counted(key, counter, message)
    return Crypto(kdf, counter, hidden, _checksum(key, hidden))


def normalise(password: bytes | str) -> bytes:
    """Return a password as EIP-2335 has it: NFKD, no control codes, UTF-8; spaces stay.

    The end of line that a password file has is a control code. Not everybody strips those
    (bls-keystore 2.0 of Lodestar), so a password that is written for others has none. Raises
    FormatError where the bytes are not UTF-8.
    """
    if len(password) > PASSWORD_MAX:
        raise FormatError("Password", f"the password is longer than {PASSWORD_MAX}")
    try:
        text = password if isinstance(password, str) else password.decode()
        return CONTROLS.sub("", unicodedata.normalize("NFKD", text)).encode()
    except UnicodeError:
        pass
    # Outside of the exception, which holds the password.
    raise FormatError("Password", "the password is not UTF-8")


def read(value: Value, least: int, most: int) -> Crypto:
    """Read ``crypto`` with a message of ``least`` to ``most`` bytes. Raises ConfigError.

    Every key must be known: one that is not could change what the secret is.
    """
    crypto = value.section("kdf", "checksum", "cipher")
    checksum = crypto.need("checksum", lambda module: _function(module, "sha256"))
    checksum.need("params", Value.section)
    cipher = crypto.need("cipher", lambda module: _function(module, "aes-128-ctr"))
    parameters = cipher.need("params", lambda params: params.section("iv"))
    return Crypto(
        kdf=crypto.need("kdf", _kdf),
        counter=parameters.need("iv", lambda iv: octets(iv, COUNTER_SIZE)),
        message=cipher.need("message", lambda message: octets(message, least, most)),
        checksum=checksum.need("message", lambda message: octets(message, DIGEST_SIZE)),
    )


def octets(value: Value, least: int, most: int | None = None) -> bytes:
    """Return ``least`` (to ``most``) bytes that are written in hexadecimal without a prefix."""
    size = f"{least} bytes" if most is None else f"{least} to {most} bytes"
    pattern = f"(?:[0-9a-fA-F]{{2}}){{{least},{most or least}}}"
    return bytes.fromhex(value.string(pattern, f"{size} in hexadecimal"))


def _function(value: Value, *names: str) -> Section:
    module = value.section("function", "params", "message")
    module.need("function", lambda function: function.choice(*names))
    return module


def _kdf(value: Value) -> Scrypt | Pbkdf2:
    module = _function(value, "scrypt", "pbkdf2")
    module.need("message", lambda message: octets(message, 0))
    if module.members["function"].data == "scrypt":
        return module.need("params", _scrypt)
    return module.need("params", _pbkdf2)


def _scrypt(value: Value) -> Scrypt:
    params = value.section("dklen", "n", "r", "p", "salt")
    params.need("dklen", _derived_size)
    r = params.need("r", lambda r: r.integer(1, SCRYPT_FACTOR_MAX, "a block size"))
    p = params.need("p", lambda p: p.integer(1, SCRYPT_FACTOR_MAX, "a parallelisation"))
    # RFC 7914 §2: n is less than 2^(128 * r / 8).
    most = min(SCRYPT_WORK_MAX // (r * p), (1 << 16 * r) - 1)
    n = params.need("n", lambda n: n.integer(2, most, "a cost that can be afforded"))
    if n & (n - 1):
        raise params.members["n"].error("is not a power of two")
    return Scrypt(params.need("salt", _salt), n, r, p)


def _pbkdf2(value: Value) -> Pbkdf2:
    params = value.section("dklen", "c", "prf", "salt")
    params.need("dklen", _derived_size)
    params.need("prf", lambda prf: prf.choice("hmac-sha256"))
    c = params.need("c", lambda c: c.integer(1, PBKDF2_COUNT_MAX, "a count that can be afforded"))
    return Pbkdf2(params.need("salt", _salt), c)


def _derived_size(value: Value) -> int:
    # EIP-2335 would use the first 32 bytes of more; no client writes more, Lighthouse reads none.
    return value.integer(DERIVED_SIZE, DERIVED_SIZE, "the size of the key")


def _salt(value: Value) -> bytes:
    return octets(value, 1, SALT_MAX)


def _module(function: str, message: bytes, params: Mapping[str, object]) -> dict[str, object]:
    return {"function": function, "params": params, "message": message.hex()}


def _checksum(key: bytes, message: bytes) -> bytes:
    return hashlib.sha256(key[16:32] + message).digest()


def _counted(key: bytes, counter: bytes, message: bytes) -> bytes:
    """Return AES-128-CTR of ``message``, which is its own inverse."""
    # Imported here: whoever only parses needs none of it.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key[:16]), modes.CTR(counter)).encryptor()
    return cipher.update(message) + cipher.finalize()
