"""Places: where archives and claims are kept away from the validator's own disk.

A place is a node's ``backups``: by SFTP where the node has a ``host``, else a directory of this
host. Names are those of archives and claims, and nothing else in a place is looked at. A file is
written under a temporary name, synced and renamed; none is ever replaced or removed.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from validator_supervisor import durable
from validator_supervisor.applied import Applied
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.nodes import Node
from validator_supervisor.store import Item
from validator_supervisor.tunnel import NO_IDENTITY

# An archive of a thousand keys has a few MiB.
FILE_MAX = 64 << 20
# What one call brings is in memory.
TOTAL_MAX = 256 << 20
# validator-supervisor-node(8) keeps fewer, even in a flood.
NAMES_MAX = 100_000
# For one call: a slow uplink (1 Mbit/s) sends 5 MiB meanwhile.
SECONDS = 60.0
# The code of an error: the place is there, and a file cannot be had of it.
UNREADABLE = "Unreadable"
# Where LoadCredentialEncrypted= looks (systemd.exec(5)).
SEALED = Path("/etc/credstore.encrypted")


class Place(Protocol):
    """Where files go. Every method raises SupervisorError ``Unreachable``, which is temporary."""

    @property
    def name(self) -> str:
        """Return the node's name."""

    def names(self) -> list[str]:
        """Return the names of the archives and claims that are there, in no order."""

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return what is in the files of these names; one that is not there is left out.

        Nothing is known of the contents but their size: at most ``FILE_MAX`` bytes each, and
        ``TOTAL_MAX`` together. Raises SupervisorError ``Unreadable``, too, where the place is there
        and one of the files is too large or cannot be read; see ``readable``.
        """

    def put(self, files: dict[str, bytes]) -> None:
        """Add files; a name that is there already is left as it is."""


def unreachable(name: str, why: str, hint: str = "") -> SupervisorError:
    """Return the error of a place that cannot be used now."""
    return SupervisorError("Unreachable", f"{name}: {why}", hint, exit_status=TEMPORARY)


def unreadable(name: str, why: str) -> SupervisorError:
    """Return the error of a file that a place lists and does not give."""
    return SupervisorError(UNREADABLE, f"{name}: {why}", exit_status=TEMPORARY)


def readable(place: Place, names: Iterable[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return what is in the files that can be read, and why others cannot be, by their names.

    All at once where that goes well, else one by one: one bad file must not hide the others.
    Raises SupervisorError ``Unreachable``.
    """
    wanted, found, problems = list(names), dict[str, bytes](), dict[str, str]()
    try:
        return place.fetch(wanted), {}
    except SupervisorError as failure:
        if failure.code != UNREADABLE:
            raise
    for name in wanted:
        try:
            found |= place.fetch([name])
        except SupervisorError as failure:
            if failure.code != UNREADABLE:
                raise
            problems[name] = failure.message
    return found, problems


def is_name(name: str) -> bool:
    """Whether it is the name of an archive or claim."""
    return Item.parse(name) is not None


def checked(names: Iterable[str]) -> list[str]:
    """Return names as a list. Raises ValueError where one is no archive's or claim's."""
    wanted = list(names)
    for name in wanted:
        if not is_name(name):
            raise ValueError(f"not the name of an archive or claim: {name!r}")
    return wanted


@dataclass(frozen=True)
class Directory:
    """A directory of this host: another disk, or what is mounted."""

    name: str
    path: Path

    def names(self) -> list[str]:
        """See Place."""
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if is_name(entry.name) and entry.is_file(follow_symlinks=False):
                        found.append(entry.name)
                    if len(found) > NAMES_MAX:
                        raise unreachable(self.name, f"more than {NAMES_MAX} files")
        except OSError as failure:
            raise self._unreachable(failure) from None
        return found

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        """See Place."""
        found: dict[str, bytes] = {}
        wanted, left = checked(names), TOTAL_MAX
        try:
            durable.sync_directory(self.path)  # that it is there at all
            for name in wanted:
                try:
                    found[name] = self._read(name, min(FILE_MAX, left))
                except FileNotFoundError:
                    continue
                except OSError as failure:
                    raise unreadable(self.name, f"{name}: {failure.strerror}") from None
                left -= len(found[name])
        except OSError as failure:
            raise self._unreachable(failure) from None
        return found

    def put(self, files: dict[str, bytes]) -> None:
        """See Place."""
        checked(files)
        try:
            for name, data in files.items():
                durable.add(self.path / name, data, self.path / f".{name}.part")
        except OSError as failure:
            raise self._unreachable(failure) from None

    def _read(self, name: str, limit: int) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self.path / name, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise unreadable(self.name, f"{name} is no file")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise unreadable(self.name, f"{name} has more than {limit} bytes")
        return data

    def _unreachable(self, failure: OSError) -> SupervisorError:
        hint = "is its disk mounted, and does it belong to validator-state?"
        return unreachable(self.name, f"{self.path}: {failure.strerror}", hint)


def places(applied: Applied, credentials: Path, *, seconds: float = SECONDS) -> list[Place]:
    """Return the place of every node that takes backups.

    ``credentials`` is the directory of what ``credentials()`` asks for; a call to a node with
    ``host`` ends after ``seconds``.
    """
    # A place on this host needs none of it.
    from validator_supervisor.sftp import Sftp

    return [
        Sftp(node, credentials / _credential(node), seconds=seconds)
        if node.host
        else Directory(node.name, Path(node.backups))
        for node in applied.config.nodes.values()
        if node.backups
    ]


def ssh_keys() -> Path:
    """Return the directory of this job's ssh keys; without credentials systemd makes none."""
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))


def credentials(applied: Applied, sealed: Path = SEALED) -> list[str]:
    """Return the lines of [Service] that give a job the ssh key of every place."""
    lines = []
    for node in applied.config.nodes.values():
        if node.host and node.backups:
            key = f"validator-tunnel.{node.identity}"
            kind = "LoadCredentialEncrypted" if (sealed / key).exists() else "LoadCredential"
            # See generator.py: one that is missing must not keep a job from starting.
            lines += [f"{kind}={_credential(node)}:{key}"]
            lines += [f"SetCredential={_credential(node)}:{NO_IDENTITY}"]
    return lines


def writable(applied: Applied) -> list[str]:
    """Return the words of ReadWritePaths= for the places on this host.

    Each begins with ``-``: a disk that is not mounted keeps no job from starting.
    """
    nodes = applied.config.nodes.values()
    return [f"-{node.backups}" for node in nodes if node.backups and not node.host]


def _credential(node: Node) -> str:
    return f"ssh.{node.name}"
