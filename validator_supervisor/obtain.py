"""A release that is not on this host: downloaded, verified and unpacked, in this order.

What is downloaded is not executable and not even looked into before its checksum and its
signature are right.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from validator_supervisor import durable, fetch, openpgp, releases, unpack
from validator_supervisor.document import read_bytes
from validator_supervisor.errors import TEMPORARY, FormatError, SupervisorError
from validator_supervisor.release import Wanted, part_of

# Teku's, the largest, has a third of it.
SIZE_MAX = 1 << 30
# A start waits for it, and TimeoutStartSec= leaves a minute for the rest. The next attempt goes on.
SECONDS = 540.0
# What is left free on the disk: databases of validators are on it.
RESERVE = 256 << 20
# The operator's come first.
KEYRINGS = (
    Path("/etc/validator-supervisor/keyrings"),
    Path("/usr/share/validator-supervisor/keyrings"),
)
ARCHIVES = (".tar.gz", ".tgz")

Tell = Callable[[str], None]


def obtain(want: Wanted, directory: Path, key_server: str, tell: Tell) -> None:
    """Download, verify and unpack a release. Raises SupervisorError and OSError.

    Then nothing of it is there, but for a download that the next attempt goes on with.
    """
    part = part_of(want, directory)
    _download(want, part, tell)
    try:
        signer = ""
        if want.signature:
            tell(f"verifying the signature of {want}")
            signer = _signer(want, part, key_server)
        tell(f"unpacking {want}")
        _unpack(want, signer, part, directory)
    except SupervisorError as failure:
        if failure.exit_status != TEMPORARY:
            part.unlink()
        raise


def _download(want: Wanted, part: Path, tell: Tell) -> None:
    def progress(have: int, total: int) -> None:
        room(part.parent, total - have if total else 0)
        of = f" of {total >> 20}" if total else ""
        tell(f"downloading {want}: {have >> 20}{of} MiB")

    begun = part.exists()
    if begun and _digest(part) == want.sha256:
        return
    limits = fetch.Limits(SIZE_MAX, time.monotonic() + SECONDS)
    fetch.download(want.url, part, limits, progress)
    found = _digest(part)
    if found == want.sha256:
        return
    part.unlink()
    message = f"{want.url} has the checksum {found}, and not {want.sha256}"
    if begun:  # what was there before may have been something else
        raise SupervisorError("WrongChecksum", message, exit_status=TEMPORARY)
    raise SupervisorError(
        "WrongChecksum", message, "compare version and sha256 with what the project publishes"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def room(directory: Path, size: int) -> None:
    """Raise SupervisorError ``DiskFull`` where ``size`` more bytes would leave too few free."""
    there = os.statvfs(directory)
    free = there.f_bavail * there.f_frsize
    if free - size < RESERVE:
        message = f"{directory}: {free >> 20} MiB are free, and {(size + RESERVE) >> 20} are needed"
        raise SupervisorError(
            "DiskFull", message, "validator-supervisor releases prune", exit_status=TEMPORARY
        )


def _signer(want: Wanted, file: Path, key_server: str) -> str:

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "signature").write_bytes(fetch.read(want.signature))
        keyring = scratch / "keyring.gpg"
        keyring.write_bytes(_keys(want, key_server))
        return openpgp.verify(file, scratch / "signature", keyring, want.fingerprints)


def _keys(want: Wanted, key_server: str) -> bytes:
    """Return the keys that may have signed: of a file here, or of a server.

    Neither is believed that they are the right ones: their fingerprints are compared.
    """
    for place in KEYRINGS:
        path = place / f"{want.client}.gpg"
        if path.exists():
            return openpgp.dearmored(read_bytes(path, fetch.SMALL, follow=True))
    urls = [key_server.format(fingerprint=one) for one in want.fingerprints]
    return b"".join(openpgp.dearmored(fetch.read(url)) for url in urls)


def _unpack(want: Wanted, signer: str, file: Path, directory: Path) -> None:

    folders = directory / releases.FOLDERS
    folders.mkdir(exist_ok=True)
    fresh, folder = folders / f".{want.folder}.new", folders / want.folder
    with durable.locked(directory):
        fresh.mkdir()
        try:
            _fill(want, file, fresh)
            releases.record(fresh, want.client, want.version, want.sha256, want.program, signer)
            durable.sync_tree(fresh)
            if folder.exists():  # something of it was missing
                folder.rename(folders / f".{want.folder}.old")
            fresh.rename(folder)
            durable.sync_directory(folders)
        finally:
            for suffix in ("new", "old"):
                shutil.rmtree(folders / f".{want.folder}.{suffix}", ignore_errors=True)


def _fill(want: Wanted, file: Path, fresh: Path) -> None:
    """Make the files of a release. Raises FormatError where its program is missing."""
    if want.url.endswith(ARCHIVES):
        unpack.unpack(file, fresh, lambda size: room(fresh, size))
    else:
        room(fresh, file.stat().st_size)
        shutil.copyfile(file, fresh / want.program)
        (fresh / want.program).chmod(0o755)
    try:
        program = releases.executable(fresh / want.program)
    except OSError:
        program = False
    if not program:
        raise FormatError("Release", f"{want.url} has no program {want.program}")
    if os.path.lexists(fresh / releases.RECORD):
        raise FormatError("Release", f"{want.url} has a {releases.RECORD} of its own")
