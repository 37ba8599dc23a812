"""The identity that archives are encrypted to: behind a passphrase at rest, plain in memory."""

import os
import secrets
from pathlib import Path

from validator_supervisor import age, durable
from validator_supervisor.age import armor
from validator_supervisor.age.recipients import WORK_FACTOR
from validator_supervisor.errors import FormatError, SupervisorError

# The identity file of age(1), encrypted to the passphrase; root's.
SEALED = Path("/etc/validator-supervisor/identity.age")
# The same, plain, on a ramfs; it is there while validator-identity.service is active.
IDENTITY = Path("/run/validator-identity/identity")
# No file of ours is longer, and nobody types more.
SEALED_MAX = 1 << 16
PASSPHRASE_MAX = 1024
# 32 letters that cannot be taken for each other: 5 bits each, 120 in all.
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
GROUPS, GROUP = 6, 4


def load(path: Path = IDENTITY) -> age.X25519Identity:
    """Return the identity. Raises SupervisorError ``Locked``, or FormatError for a damaged one."""
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        hint = "validator-supervisor unlock"
        raise SupervisorError("Locked", "the identity is locked", hint) from None
    except PermissionError:
        hint = "only root and validator-state may"
        raise SupervisorError("AccessDenied", f"{path} cannot be read", hint) from None


def read(text: bytes) -> age.X25519Identity:
    """Return the one identity of an identity file. Raises FormatError (Identity)."""
    found = age.identities(text)
    if len(found) != 1:
        raise FormatError("Identity", f"there are {len(found)} secret keys instead of one")
    return found[0]


def text(identity: age.X25519Identity) -> bytes:
    """Return the identity file, as age-keygen(1) writes it: a secret."""
    return f"# public key: {identity.recipient.text()}\n{identity.text()}\n".encode()


def wrap(identity: age.X25519Identity, passphrase: bytes, work_factor: int = WORK_FACTOR) -> bytes:
    """Return the identity file as an armored age file. Raises as ``check``, and ``NoMemory``."""
    check(passphrase)
    recipient = age.Passphrase(passphrase, work_factor)
    return b"".join(armor.encode(age.encrypt([text(identity)], [recipient])))


def unwrap(sealed: bytes, passphrase: bytes) -> age.X25519Identity:
    """Return the identity in an age file that only a passphrase opens.

    Raises SupervisorError ``WrongPassphrase``, ``NoPassphrase``, ``NoMemory`` (temporary), and
    FormatError where it is no such file.
    """
    check(passphrase)
    return read(b"".join(age.decrypt([sealed], [age.Passphrase(passphrase)])))


def check(passphrase: bytes) -> None:
    """Raise SupervisorError ``NoPassphrase`` for an empty one, or one that nobody has typed."""
    if not passphrase:
        raise SupervisorError("NoPassphrase", "no passphrase was given")
    if len(passphrase) > PASSPHRASE_MAX:
        message = f"a passphrase has at most {PASSPHRASE_MAX} bytes"
        raise SupervisorError("NoPassphrase", message)


def generate_passphrase() -> str:
    """Return a passphrase of 120 bits that can be copied by hand."""
    letters = [secrets.choice(LETTERS) for _ in range(GROUPS * GROUP)]
    groups = ["".join(letters[at : at + GROUP]) for at in range(0, len(letters), GROUP)]
    return "-".join(groups)


def sealed(path: Path = SEALED) -> bytes:
    """Return what ``identity.age`` holds. Raises SupervisorError ``NoIdentity``."""
    try:
        with path.open("rb") as file:
            raw = file.read(SEALED_MAX + 1)
    except FileNotFoundError:
        hint = "validator-supervisor init-identity"
        raise SupervisorError("NoIdentity", f"{path} is not there", hint) from None
    except PermissionError:
        raise SupervisorError("AccessDenied", f"{path} cannot be read", "be root") from None
    if len(raw) > SEALED_MAX:
        raise FormatError("Identity", f"{path} is larger than {SEALED_MAX} bytes")
    return raw


def publish(identity: age.X25519Identity, path: Path = IDENTITY) -> None:
    """Put the identity where jobs read it: all of it at once."""
    durable.replace(path, text(identity), 0o400)


def exchange(identity: age.X25519Identity, path: Path = IDENTITY) -> None:
    """Put another identity in the place of the one that jobs read; nothing where it is locked.

    For root, in a directory that belongs to somebody else: no link is followed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if not path.parent.exists():
        return
    directory = os.open(path.parent, flags)
    try:
        owner = os.stat(path.name, dir_fd=directory, follow_symlinks=False).st_uid
        durable.write_at(directory, path.name, text(identity), 0o400, owner)
    except FileNotFoundError:
        return
    finally:
        os.close(directory)
