"""Archives, age and slashing protection, by our library: `formats.py WHAT [PATH…]`.

``make`` writes what is measured; everything else does one thing and prints the most memory, in
bytes, that it needed. ``nothing`` is the interpreter.
"""

import json
import random
import resource
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

CHUNK = 1 << 16
KEYS = 1000
# Of each key: with their signing roots these are 50 MB.
ATTESTATIONS = 365
GENESIS = "0x" + "ab" * 32


def public_keys() -> list[str]:
    """Return the keys of the validator, which nothing here looks into."""
    chance = random.Random(1)
    return [f"0x{chance.randbytes(48).hex()}" for _ in range(KEYS)]


def make(directory: Path) -> None:
    """Write a validator's files, and a second interchange of the same keys."""
    chance = random.Random(2)
    for key in public_keys():
        folder = directory / "tree" / "validators" / key
        folder.mkdir(parents=True)
        (folder / "keystore.json").write_text(json.dumps(keystore(chance, key)))
        (folder / "password.txt").write_text(chance.randbytes(16).hex())
    (directory / "tree" / "slashing-protection.json").write_text(interchange(chance, 1000))
    (directory / "second.json").write_text(interchange(chance, 1100))
    with (directory / "gigabyte").open("wb") as file:
        file.truncate(1 << 30)


def keystore(chance: random.Random, key: str) -> dict[str, object]:
    """Return what no password opens, but is as long as a keystore and compresses as badly."""
    params = {"dklen": 32, "n": 262144, "r": 8, "p": 1, "salt": chance.randbytes(32).hex()}
    return {
        "crypto": {
            "kdf": {"function": "scrypt", "params": params, "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": chance.randbytes(32).hex()},
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": chance.randbytes(16).hex()},
                "message": chance.randbytes(32).hex(),
            },
        },
        "path": "m/12381/3600/0/0/0",
        "pubkey": key[2:],
        "uuid": str(uuid.UUID(bytes=chance.randbytes(16), version=4)),
        "version": 4,
    }


def interchange(chance: random.Random, epoch: int) -> str:
    """Return a complete history (EIP-3076) from an epoch on."""
    data = [
        {
            "pubkey": key,
            "signed_blocks": [{"slot": str(epoch * 32), "signing_root": root(chance)}],
            "signed_attestations": [
                {
                    "source_epoch": str(at),
                    "target_epoch": str(at + 1),
                    "signing_root": root(chance),
                }
                for at in range(epoch, epoch + ATTESTATIONS)
            ],
        }
        for key in public_keys()
    ]
    metadata = {"interchange_format_version": "5", "genesis_validators_root": GENESIS}
    return json.dumps({"metadata": metadata, "data": data})


def root(chance: random.Random) -> str:
    """Return a signing root."""
    return "0x" + chance.randbytes(32).hex()


def pieces(path: Path):  # type: ignore[no-untyped-def]
    """Yield what is in a file."""
    with path.open("rb") as file:
        yield from iter(partial(file.read, CHUNK), b"")


def identity(path: Path):  # type: ignore[no-untyped-def]
    """Return the identity in a file."""
    from validator_supervisor import age

    return age.identities(path.read_bytes())[0]


def create(tree: Path, key: Path, target: Path) -> None:
    """Write an archive of a validator's files."""
    from validator_supervisor import archive
    from validator_supervisor.manifest import Manifest

    sources = {
        str(path.relative_to(tree)): partial(pieces, path)
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }
    manifest = Manifest(
        version=1, validator="main", kind="ethereum", network="dev", host="a" * 32, boot="b" * 32,
        sequence=1, created=1_700_000_000, clean=True, public_keys=tuple(public_keys()),
        removed_keys={}, files=archive.describe(sources),
    )  # fmt: skip
    with target.open("wb") as file:
        file.writelines(archive.create(manifest, sources, identity(key)))


def restore(source: Path, key: Path, target: Path) -> None:
    """Write the files of an archive."""
    from validator_supervisor import archive

    _, files = archive.unpack(pieces(source), [identity(key)])
    last, file = "", None
    for name, chunk in files:
        if name != last:
            if file:
                file.close()
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            last, file = name, path.open("wb")
        if file:
            file.write(chunk)


def encrypt(source: Path, key: Path) -> None:
    """Encrypt a file to nowhere."""
    from validator_supervisor import age

    with open("/dev/null", "wb") as nowhere:  # noqa: PTH123
        nowhere.writelines(age.encrypt(pieces(source), [identity(key).recipient]))


def decrypt(source: Path, key: Path) -> None:
    """Decrypt a file to nowhere."""
    from validator_supervisor import age

    with open("/dev/null", "wb") as nowhere:  # noqa: PTH123
        nowhere.writelines(age.decrypt(pieces(source), [identity(key)]))


def merge(first: Path, second: Path) -> None:
    """Parse, merge and minify two interchanges."""
    from validator_supervisor import interchange, slashing

    found = [interchange.parse(path.read_bytes()).interchange for path in (first, second)]
    slashing.minify(slashing.merge(*found))


def load(first: Path, second: Path) -> None:
    """Parse two files as JSON, and keep both."""
    found = []
    for path in (first, second):
        with path.open() as file:
            found.append(json.load(file))


def nothing() -> None:
    """Be the interpreter with what this program needs itself."""


WHAT: dict[str, Callable[..., None]] = {
    "make": make, "create": create, "restore": restore, "encrypt": encrypt, "decrypt": decrypt,
    "merge": merge, "load": load, "nothing": nothing,
}  # fmt: skip

if __name__ == "__main__":
    WHAT[sys.argv[1]](*map(Path, sys.argv[2:]))
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
