"""Archives and claims as those have them who have stolen everything: read, made, put on a node."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lab.signing import AT_NODE, KEPT, NAME, Marks, Signing
from validator_supervisor import age, claim, contents, slashing
from validator_supervisor.claim import Claim
from validator_supervisor.contents import Contents
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.store import Item

# The id of a host, or of a boot, that is nobody's.
OTHER = "0" * 31 + "1"
# Further than any clock can be wrong.
FAR = 2**40


def identity_of(signing: Signing) -> age.X25519Identity:
    """Return the identity."""
    text = signing.host.output("cat", "/run/validator-identity/identity")
    return age.identities(text.encode())[0]


def raw_of(signing: Signing, name: str) -> bytes:
    """Return the bytes of an archive of the host."""
    return Path(f"/proc/{signing.host.leader}/root{KEPT}/archives/{name}").read_bytes()


def newest(signing: Signing, identity: age.X25519Identity | None = None) -> tuple[str, Contents]:
    """Return the newest archive of the host and its name; ``identity`` where it is locked."""
    name = signing.files()[0]
    return name, contents.unseal(raw_of(signing, name), identity or identity_of(signing), NAME)


def lacks(archive: Contents, seen: Marks) -> list[str]:
    """Return the keys of which an archive has less than was seen of them."""
    assert archive.protection
    keys = archive.protection.keys
    marks = {key: slashing.watermark(keys.get(key, History())) for key in seen}
    return [
        key
        for key, highest in seen.items()
        if any(
            (-1 if mark is None else mark) < number
            for mark, number in zip(
                (marks[key].slot, marks[key].source, marks[key].target), highest, strict=True
            )
        )
    ]


def sequence_of(name: str) -> int:
    """Return the sequence that a name has."""
    item = Item.parse(name)
    assert item
    return item.sequence


class Forger(age.X25519Identity):
    """Somebody who knows the recipient, and not the identity."""

    @classmethod
    def of(cls, signing: Signing) -> "Forger":
        """Return who can encrypt to the identity, and authenticate nothing."""
        made = cls.generate()
        object.__setattr__(made, "recipient", identity_of(signing).recipient)
        return made


def sealed(
    signing: Signing,
    like: Contents,
    sequence: int,
    *,
    identity: age.X25519Identity | None = None,
    validator: str = NAME,
    host: str = "",
    protection: Interchange | None = None,
) -> bytes:
    """Return an archive like another one, but for a few things."""
    return contents.seal(
        identity or identity_of(signing),
        validator=validator,
        network=like.manifest.network,
        host=host or like.manifest.host,
        boot=like.manifest.boot,
        sequence=sequence,
        created=like.manifest.created + 1,
        clean=False,
        keys=like.keys,
        removed_keys=like.manifest.removed_keys,
        protection=protection or like.protection,
    )


def poisoned(protection: Interchange) -> Interchange:
    """Return a document that would silence its keys for ever."""
    far = History(frozenset(), frozenset({(FAR, FAR, b"")}))
    return Interchange(protection.genesis_validators_root, dict.fromkeys(protection.keys, far))


def claimed(
    signing: Signing, host: str, sequence: int, *, identity: age.X25519Identity | None = None,
    validator: str = NAME, named: int = 0,
) -> tuple[str, bytes]:  # fmt: skip
    """Return a claim of a host, in a boot that no disk knows, and its name.

    ``named`` is another sequence for its name.
    """
    made = Claim(1, validator, host, OTHER, sequence, sequence)
    raw = claim.seal(made, identity or identity_of(signing))
    return Item.of(raw, "claim", NAME, named or sequence).name, raw


def archived(raw: bytes, sequence: int) -> str:
    """Return the name of an archive."""
    return Item.of(raw, "age", NAME, sequence).name


@contextlib.contextmanager
def planted(signing: Signing, node: str, files: dict[str, bytes]) -> Iterator[None]:
    """Have a node serve files, until the end."""
    machine = signing.world.nodes[node]
    place = Path(f"/proc/{machine.leader}/root{AT_NODE}")
    for name, raw in files.items():
        (place / name).write_bytes(raw)
        (place / name).chmod(0o644)
    try:
        yield
    finally:
        for name in files:
            (place / name).unlink(missing_ok=True)
            # What was fetched from there.
            signing.host.run("rm", "-f", f"{KEPT}/archives/{name}")
