"""EIP-2335 keystores of the interop validators of a development chain.

The secrets are public: secret i is SHA-256 of i in 32 little-endian bytes, modulo the order of
BLS12-381 (https://github.com/ethereum/eth2.0-pm/tree/master/interop/mocked_start).
"""

import functools
import hashlib
import json
import uuid

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from lab.client import KEPT, VALIDATORS

ORDER = 52435875175126190479447740508185965837690552500527637822603658699938581184513
# In no other file: tests look for it.
PASSWORD = "interop sesame 3076"
# The public keys of interop validators 12 to 15: computing them needs a BLS library.
PUBLIC_KEYS = (
    "9314c6de0386635e2799af798884c2ea09c63b9f079e572a"
    "cc00b06a7faccce501ea4dfc0b1a23b8603680a5e3481327",
    "903e2989e7442ee0a8958d020507a8bd985d3974f5e82730"
    "93be00db3935f0500e141b252bd09e3728892c7a8443863c",
    "84398f539a64cbe01cfcd8c485ea51cd6657b94df93ee9b5"
    "dc61e1f18f69da6ca9d4dba63c956a81c68d5d4d4277a60f",
    "872c61b4a7f8510ec809e5b023f5fdda2105d024c470ddbb"
    "eca4bc74e8280af0d178d749853e8f6a841083ac1b4db98f",
)
# A real keystore has 262144; this one guards nothing.
WORK = 1024


def keystores() -> dict[str, str]:
    """Return the keystores of the supervised client's validators by file name."""
    return {f"keystore-{i}.json": _keystore(i) for i in range(KEPT, VALIDATORS)}


@functools.cache
def many(count: int) -> dict[str, str]:
    """Return keystores of the first interop validators, by public key; PASSWORD opens them."""
    return dict(_numbered(index) for index in range(count))


def _numbered(index: int) -> tuple[str, str]:
    # ./demo is here without all that the library imports.
    from validator_supervisor import bls, keystore
    from validator_supervisor.keystore_crypto import Scrypt

    raw = _secret(index).to_bytes(32, "big")
    text = keystore.encrypt(
        raw,
        PASSWORD,
        path=f"m/12381/3600/{index}/0/0",
        kdf=Scrypt(bytes(32), n=WORK),
        counter=bytes(16),
        identifier=uuid.UUID(int=index),
    )
    return f"0x{bls.public_key(raw).hex()}", text.decode()


def _secret(index: int) -> int:
    return int.from_bytes(hashlib.sha256(index.to_bytes(32, "little")).digest(), "little") % ORDER


def _keystore(index: int) -> str:
    secret = _secret(index)
    # Fixed salt and counter: the same file in every run.
    salt, counter = bytes(32), bytes(16)
    key = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=WORK, r=8, p=1, dklen=32)
    cipher = Cipher(algorithms.AES(key[:16]), modes.CTR(counter)).encryptor()
    message = cipher.update(secret.to_bytes(32, "big")) + cipher.finalize()
    kdf = {"dklen": 32, "n": WORK, "r": 8, "p": 1, "salt": salt.hex()}
    return json.dumps(
        {
            "crypto": {
                "kdf": {"function": "scrypt", "params": kdf, "message": ""},
                "checksum": {
                    "function": "sha256",
                    "params": {},
                    "message": hashlib.sha256(key[16:] + message).hexdigest(),
                },
                "cipher": {
                    "function": "aes-128-ctr",
                    "params": {"iv": counter.hex()},
                    "message": message.hex(),
                },
            },
            "description": "",
            "pubkey": PUBLIC_KEYS[index - KEPT],
            "path": f"m/12381/3600/{index}/0/0",
            "uuid": str(uuid.UUID(int=index)),
            "version": 4,
        }
    )
