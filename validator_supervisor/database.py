"""A client's slashing-protection database: what it says, and how another one takes its place.

The client's own commands read and write it, while the client does not run. Importing over what is
there can lower its bounds; so it is moved aside, and what it said goes into an empty one, merged,
minified, and is read again and compared.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from validator_supervisor import durable, exported, interchange, journal, run, slashing
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import EXPORT, IMPORT, Client, Setup
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.interchange import Interchange

# A client that reads a database of a thousand keys on a slow disk.
SECONDS = 300
# What is about to be imported: there from before the old database is moved until the new one has
# been compared.
PENDING = "import.json"
ASIDE = "before"


class Database:
    """The database of one validator, used by its own user with the lock on its directory held."""

    def __init__(
        self,
        client: Client,
        setup: Setup,
        runtime: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._client = client
        self._setup = setup
        self._place = setup.place
        self._environment = environment
        # Says which state of the database the exported file is of; it ends with this boot.
        self._mark = runtime / "exported"
        self._directory = setup.place.state / exported.DIRECTORY
        self._file = self._directory / exported.FILE
        self._stale = self._directory / exported.STALE
        self._pending = setup.place.state / PENDING

    @property
    def path(self) -> Path:
        """Return the database's directory or file."""
        return self._client.database(self._place)

    def read(self) -> Interchange | None:
        """Return what the database says, minified; None where there is none.

        The client is asked only if anything has changed since it was. Raises SupervisorError
        (``ProcessFailed``, or a FormatError) where the database cannot be read.
        """
        if not self.path.exists():
            if not self._others():
                self._file.unlink(missing_ok=True)
            return None
        if self._mark.exists() and self._mark.read_text() == self._fingerprint():
            known = exported.read(self._place.state)
            if known:
                self._stale.unlink(missing_ok=True)
                return known.protection
        return self._export()

    def _export(self) -> Interchange:
        self._mark.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
        self._directory.mkdir(exist_ok=True)
        self._directory.chmod(0o750)
        fresh = self._directory / self._client.exported
        fresh.unlink(missing_ok=True)
        self._command(EXPORT, fresh)
        if not fresh.exists():  # some say nothing of it in their exit status
            message = f"{self._setup.validator.release.client} has exported nothing"
            raise SupervisorError("ProcessFailed", message)
        parsed = interchange.parse(fresh.read_bytes())
        fresh.unlink()
        found = slashing.minify(parsed.interchange)
        # For the group: validator-state reads it.
        durable.write(self._file, interchange.text(found).encode(), 0o640)
        self._stale.unlink(missing_ok=True)
        durable.replace(self._mark, self._fingerprint().encode())
        return found

    def begin(self) -> None:
        """Say that what was exported is not all any more: the client runs from now on."""
        self._directory.mkdir(exist_ok=True)
        durable.write(self._stale, b"")

    def _command(self, command: str, file: Path) -> None:
        argv = self._client.protection(self._setup, command, file)
        run.run(argv, seconds=SECONDS, extra=self._environment)

    def _fingerprint(self) -> str:
        lines = [self.path, *sorted(self.path.rglob("*"))] if self.path.is_dir() else [self.path]
        found = hashlib.sha256()
        for path in lines:
            status = path.stat()
            known = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
            found.update(repr(known).encode())
        return found.hexdigest()

    def pending(self) -> Interchange | None:
        """Return what an interrupted ``replace`` was about to import."""
        if not self._pending.exists():
            return None
        return interchange.parse(self._pending.read_bytes()).interchange

    def inherited(self) -> Interchange | None:
        """Return what another client has exported at its end, in whose place this one comes.

        None where there was none, and where it may have signed more. Raises FormatError.
        """
        if self.path.exists() or not self._others():
            return None
        known = exported.read(self._place.state)
        return known.protection if known and not known.stale else None

    def _others(self) -> list[Path]:
        """Return the databases of other clients that were here."""
        every = [client.database(self._place) for client in CLIENTS.values()]
        return [path for path in every if path != self.path and path.exists()]

    def replace(self, wanted: Interchange) -> None:
        """Have an empty database take up ``wanted``, and compare.

        What it replaces is kept beside it, and so is ``wanted`` until all is done: a crash loses
        neither. Raises SupervisorError ``ImportFailed``.
        """
        wanted = slashing.minify(wanted)
        # The second attempt finds half of what the first has imported.
        if not self._pending.exists():
            # Else what an import of long ago has left would be taken for this one's.
            _remove(_aside(self.path))
        again = _aside(self.path).exists()
        durable.write(self._pending, interchange.text(wanted).encode())
        if again:
            _remove(self.path)
        elif self.path.exists():
            _move_aside(self.path)
        self._client.empty(self._place)
        self._command(IMPORT, self._pending)
        below = slashing.compare(wanted, self._export())
        if below:
            one = below[0]
            message = (
                f"after the import {one.field} of {one.key} is {one.found}, not {one.expected}"
            )
            raise SupervisorError("ImportFailed", message, f"look at {self.path}")
        # The client may not have: LevelDB's is in memory for half a minute.
        durable.sync_tree(self.path)
        # It goes on from here alone: who comes back later begins anew.
        for path in self._others():
            _move_aside(path)
        self._pending.unlink()
        durable.sync_directory(self._place.state)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{ASIDE}")


def _move_aside(path: Path) -> None:
    _remove(_aside(path))
    path.rename(_aside(path))
    durable.sync_directory(path.parent)
    journal.log(journal.NOTICE, f"the database before is {_aside(path)}")


def _remove(path: Path) -> None:
    if not path.exists():
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    durable.sync_directory(path.parent)


def readable(database: Database) -> tuple[Interchange | None, str]:
    """Return what the database says, or why it says nothing.

    Raises what is no fault of the database: OSError where a disk is full, and SupervisorError,
    temporary, where the client has been too slow.
    """
    try:
        found = database.read()
    except SupervisorError as failure:
        if failure.exit_status == TEMPORARY:
            raise
        return None, f"the database cannot be read: {failure}"
    return found, "" if found else "there is no database"
