"""validator-release@NAME.service: have the wanted release on this host, and switch to it.

Whatever is cut off between two steps, `current` leads to a whole release that was verified: the
last one, until the new one is on the disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor import durable, releases
from validator_supervisor.errors import SupervisorError
from validator_supervisor.projects import PROJECTS, filled
from validator_supervisor.releases import Installed
from validator_supervisor.validators import Release


@dataclass(frozen=True)
class Wanted:
    """A release to have: ``signature`` is a URL; without one the checksum alone counts."""

    client: str
    version: str
    sha256: str
    url: str
    program: str
    signature: str
    fingerprints: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name of its directory."""
        return releases.folder_of(self.client, self.version, self.sha256)

    def is_(self, found: Installed | None) -> bool:
        """Whether a release that is here is this one, signed by who has to sign it."""
        if found is None or (self.fingerprints and found.signer not in self.fingerprints):
            return False
        here = (found.client, found.version, found.sha256)
        return here == (self.client, self.version, self.sha256)

    def __str__(self) -> str:
        return f"{self.client} {self.version}"


def wanted(release: Release, machine: str) -> Wanted:
    """Return what the configuration asks for, on a machine of uname(2).

    Raises SupervisorError ``NotSupported``.
    """
    project = PROJECTS[release.client]
    if machine not in project.arch:
        raise SupervisorError("NotSupported", f"{release.client} has no release for {machine}")
    words = (release.version, project.arch[machine])
    url = filled(release.url or project.url, *words)
    fingerprints = (release.signed_by,) if release.signed_by else project.fingerprints
    signed = bool(fingerprints) and release.signature != "none"
    return Wanted(
        release.client,
        release.version,
        release.sha256,
        url,
        filled(project.program, *words),
        f"{url}{project.suffix}" if signed else "",
        fingerprints if signed else (),
    )


def part_of(want: Wanted, directory: Path) -> Path:
    """Return where a release is downloaded to; what is there is not verified."""
    return directory / f".{want.folder}.part"


def install(want: Wanted, directory: Path, key_server: str, tell: Callable[[str], None]) -> str:
    """Have a release in effect, and say how it is. Raises SupervisorError and OSError."""
    now = releases.linked(directory)
    if want.is_(now):
        return f"{want} is in effect"
    if now and want.folder in releases.history(directory).left:
        return f"{now} is in effect: somebody has gone back to it from {want}"
    part = part_of(want, directory)
    with durable.locked(directory):
        releases.tidy(directory, part)
    if not want.is_(releases.read(directory / releases.FOLDERS / want.folder)):
        # Imported here: a start whose release is there should lose no time.
        from validator_supervisor import obtain

        obtain.obtain(want, directory, key_server, tell)
    with durable.locked(directory):
        part.unlink(missing_ok=True)
        releases.switch(directory, want.folder)
    return f"{want} is in effect from the next start on"
