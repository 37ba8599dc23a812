"""`validator-supervisor backup`: what archives say, where they are, and how they come back."""

import argparse
import getpass
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from validator_supervisor import age, archive, copies, nearest, run
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.cli import failure, job, secret, streams
from validator_supervisor.errors import TEMPORARY, FormatError, SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.manifest import FILES, Manifest

if TYPE_CHECKING:  # `inspect` calls nobody
    from validator_supervisor.cli.client import Client

IDENTITY_MAX = 1 << 16
CHUNK = 1 << 16
# TimeoutStartSec= of validator-backup@.service, and a little.
NOW_SECONDS = 200.0
# Where nothing is written to a disk, as stat(1) names it; tmpfs may be swapped.
MEMORY = ("tmpfs", "ramfs")


def inspect(file: str, identity: str, *, as_json: bool) -> int:
    """Print the manifest of an archive that is whole and genuine. Raises SupervisorError."""
    secret.guard()
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
    plain = json.dumps(manifest.plain(), indent=1)
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
        yield f"{'public key':<14}{key}{' (Web3Signer)' if key in manifest.remote_keys else ''}"
    for key, when in manifest.removed_keys.items():
        yield f"{'removed key':<14}{key} {time.strftime('%Y-%m-%d', time.gmtime(when))}"
    for remark in manifest.remarks:
        yield f"{'remark':<14}{remark}"


def now(client: "Client", name: str) -> str:
    """Have a validator backed up, and wait for the end of it. Raises SupervisorError."""
    from validator_supervisor.cli import switch

    path = names.validator_path(name)
    before = client.objects().get(path, {}).get(names.VALIDATOR, {})
    (unit,) = switch.call(client, name, "Backup")
    end = time.monotonic() + NOW_SECONDS
    while time.monotonic() < end:
        time.sleep(0.1)
        seen = client.objects().get(path, {}).get(names.VALIDATOR, {})
        over = seen.get("BackupState") in ("inactive", "failed")
        if over and seen.get("BackupEndedUSec") != before.get("BackupEndedUSec"):
            return _outcome(name, str(unit), seen)
    hint = f"journalctl -u {unit}"
    raise SupervisorError("NotYet", f"{unit} is still at it", hint, exit_status=TEMPORARY)


def _outcome(name: str, unit: str, seen: Mapping[str, object]) -> str:
    if seen["BackupState"] == "failed":
        raise SupervisorError(
            "BackupFailed", str(seen["BackupProblem"]) or "failed", f"journalctl -u {unit}"
        )
    usec = int(str(seen["LastBackupUSec"]))
    return f"{name}: newest archive is of {copies.at(usec // 1_000_000)}"


def archives(given: argparse.Namespace) -> NoReturn:
    """Become the job that looks at archives, or brings them back."""
    applied = Applied.load()
    validators = [one.name for one in applied.config.ethereum]
    wanted = [given.name] if isinstance(given.name, str) else given.name
    for name in wanted:
        if name not in validators:
            hint = nearest.hint(name, validators)
            raise SupervisorError("UnknownValidator", f"there is no validator {name}", hint)
    words = [given.job, *wanted]
    if getattr(given, "json", False):
        words.append("--json")
    source = getattr(given, "source", None) or ""
    if source and source not in applied.config.nodes:
        _redirect(source)
        source = streams.STDIN
    words += [f"--from={source}"] if source else []
    if getattr(given, "to", None):
        unpack(applied, words, Path(given.to), force=given.force)
    job.become(applied, "archives", words, stdin=source == streams.STDIN)


def _redirect(file: str) -> None:
    """Make a file the standard input of what this process becomes, if it is not that already."""
    if file != streams.STDIN:
        with streams.opened(file) as stream:
            os.dup2(stream.fileno(), 0)


def unpack(applied: Applied, words: list[str], directory: Path, *, force: bool) -> NoReturn:
    """Write the files of an archive, keys and passwords among them, into a new directory."""
    job.check()
    secret.guard()
    os.umask(0o077)
    _refuse_disk(directory, force=force)
    with (Path("/proc/self/fd/0")).open("rb") as stream:
        raw = stream.read() if f"--from={streams.STDIN}" in words else b""
    argv = job.command(applied, "archives", ["unpack", *words[1:]])
    files = json.loads(run.run(argv, seconds=300, stdin=raw).stdout)
    told = files.pop("")
    directory.mkdir(0o700, exist_ok=True)
    for name, text in files.items():
        if not FILES["ethereum"].fullmatch(name):
            raise FormatError("Archive", f"{printable(name)} has no place in an archive")
        path = directory / name
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("latin-1"))
    streams.write(f"{told}\nunpacked into {directory}: secrets; whoever uses these keys while\n")
    streams.write("another host does signs twice\n")
    raise SystemExit(0)


def _refuse_disk(directory: Path, *, force: bool) -> None:
    """Refuse to write plain keys where they outlive a boot, or into what is there already."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise SupervisorError("NotEmpty", f"{directory} is there and is not an empty directory")
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        raise SupervisorError("NotOurs", f"{directory} belongs to somebody else")
    parent = directory if directory.exists() else directory.parent
    argv = ["/usr/bin/stat", "--file-system", "--format=%T", str(parent)]
    kind = run.run(argv, seconds=10).stdout.decode().strip()
    if kind not in MEMORY and not force:
        message = f"{directory} would be on a disk ({kind}), and the files are secrets"
        raise SupervisorError("OnDisk", message, "take a directory in /run, or add --force")
