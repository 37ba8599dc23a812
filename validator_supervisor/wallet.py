"""Prysm's wallet: one file, ``all-accounts.keystore.json``, with many secret keys.

Inside the ``crypto`` of EIP-2335 is JSON of ``private_keys`` and ``public_keys``, two lists in
base64 and in one order.
"""

import base64
import json
import secrets
import uuid
from collections.abc import Sequence

from validator_supervisor import keystore_crypto, strict_json
from validator_supervisor.errors import FormatError
from validator_supervisor.keystore import Unlocked, document, unlocked
from validator_supervisor.keystore_crypto import Crypto, Pbkdf2, Scrypt

LISTS = frozenset({"private_keys", "public_keys"})
SIZE_MAX = 1 << 20  # 4000 keys


def parse(raw: bytes) -> Crypto:
    """Read a wallet without opening it. Raises FormatError."""
    with document(raw, SIZE_MAX) as value:
        top = value.section("crypto", "name", "uuid", "version")
        return top.need("crypto", lambda crypto: keystore_crypto.read(crypto, 1, SIZE_MAX))


def decrypt(wallet: Crypto, password: bytes | str) -> tuple[Unlocked, ...]:
    """Open a wallet; one without keys has ``null`` for both lists.

    Raises SupervisorError ``WrongPassword``, or FormatError where what is inside is no list of
    secret keys, each with its public key.
    """
    plain = wallet.open(password)
    try:
        lists = strict_json.members(strict_json.load(plain), LISTS)
        both = zip(_list(lists["private_keys"]), _list(lists["public_keys"]), strict=True)
        pairs = [(_bytes(secret), _bytes(public)) for secret, public in both]
    except (strict_json.JsonError, ValueError, TypeError):
        pairs = None
    # Outside of the exception, which holds the secrets.
    if pairs is None:
        raise FormatError("Keystore", "the wallet does not hold a list of keys")
    return tuple(unlocked(secret, public) for secret, public in pairs)


def seal(keys: Sequence[Unlocked], password: bytes | str, kdf: Scrypt | Pbkdf2) -> bytes:
    """Return the wallet of ``keys`` as Prysm reads it."""
    lists = {
        "private_keys": [base64.b64encode(key.secret).decode() for key in keys],
        "public_keys": [base64.b64encode(key.public_key).decode() for key in keys],
    }
    counter = secrets.token_bytes(keystore_crypto.COUNTER_SIZE)
    crypto = keystore_crypto.seal(json.dumps(lists).encode(), password, kdf, counter)
    top = {"crypto": crypto.plain(), "name": "keystore", "uuid": str(uuid.uuid4()), "version": 4}
    return json.dumps(top).encode()


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if type(value) is not list:
        raise TypeError
    return value


def _bytes(text: object) -> bytes:
    if type(text) is not str:
        raise TypeError
    return base64.b64decode(text, validate=True)
