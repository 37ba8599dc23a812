"""`validator-supervisor backup inspect`: what an archive says, after all of it was verified."""

import getpass
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

from validator_supervisor import age, archive
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.manifest import Manifest

IDENTITY_MAX = 1 << 16
CHUNK = 1 << 16


def inspect(file: str, identity: str, *, as_json: bool) -> int:
    """Print the manifest of an archive that is whole and genuine. Raises SupervisorError."""
    raw = streams.read(identity, IDENTITY_MAX)
    try:
        identities = read_identities(raw, lambda: ask(identity))
    except SupervisorError as refusal:
        raise failure.named(identity, refusal) from None
    with streams.opened(file) as stream:
        try:
            manifest = archive.verify(iter(partial(stream.read, CHUNK), b""), identities)
        except SupervisorError as refusal:
            raise failure.named(file, refusal) from None
    plain = json.dumps(asdict(manifest), indent=1)
    streams.write(f"{plain if as_json else chr(10).join(as_text(manifest))}\n")
    return 0


def read_identities(raw: bytes, passphrase: Callable[[], bytes]) -> list[age.X25519Identity]:
    """Return the identities in a file, which may be encrypted with a passphrase."""
    if len(raw) > IDENTITY_MAX:
        raise FormatError("Identity", f"is larger than {IDENTITY_MAX} bytes")
    if age.is_encrypted(raw):
        raw = b"".join(age.decrypt([raw], [age.Passphrase(passphrase())]))
    return age.identities(raw)


def ask(identity: str) -> bytes:
    """Ask for a passphrase on the terminal; standard input may be the archive."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
        return getpass.getpass(f"Passphrase of {printable(identity)}: ").encode()
    except OSError:
        reason = "there is no terminal to ask for its passphrase"
    except (EOFError, UnicodeError):
        reason = "what was typed is no passphrase"
    raise SupervisorError("NoPassphrase", reason)


def as_text(manifest: Manifest) -> Iterator[str]:
    """Yield the lines that show a manifest."""
    created = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.created))
    size = sum(file.size for file in manifest.files.values())
    rows = {
        "validator": f"{manifest.validator} ({manifest.kind}, {manifest.network})",
        "sequence": str(manifest.sequence),
        "created": created,
        "clean": "yes" if manifest.clean else "no: made while the validator was running",
        "host": manifest.host,
        "boot": manifest.boot,
        "files": f"{len(manifest.files)} with {size} bytes, all as the manifest says",
    }
    for name, text in rows.items():
        yield f"{name:<14}{text}"
    for key in manifest.public_keys:
        yield f"{'public key':<14}{key}"
    for key, when in manifest.removed_keys.items():
        yield f"{'removed key':<14}{key} {time.strftime('%Y-%m-%d', time.gmtime(when))}"
    for remark in manifest.remarks:
        yield f"{'remark':<14}{remark}"
