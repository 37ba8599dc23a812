"""A place on a node: the stock sftp(1) in batch mode, as an ssh connection of its own.

The node is not trusted. It decides what it lists and sends, and how much: size, memory and time of
the whole program are limited from outside, and of what it lists only our own names are taken.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from validator_supervisor import run, tunnel
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.nodes import DEFAULT_USER, Node
from validator_supervisor.place import (
    FILE_MAX,
    NAMES_MAX,
    SECONDS,
    TOTAL_MAX,
    checked,
    is_name,
    unreachable,
    unreadable,
)
from validator_supervisor.store import Item

# Of the package validator-supervisor-node, beside the account for tunnels.
ACCOUNT = "validator-backup"
TUNNELS = Path("/var/lib/validator-tunnel")
# A listing of NAMES_MAX names, what ssh says, and the files.
SIZE_MAX = TOTAL_MAX + (4 << 20)
# sftp and ssh need 10 MiB each; a listing is in memory before any of it is printed.
DATA_MAX = 128 << 20
# Of an archive or claim: an upload that has not ended.
PART = re.compile(r"\..+\.part")


def account(node: Node) -> str:
    """Return whom to log in as for files."""
    return ACCOUNT if node.user == DEFAULT_USER else node.user


def argv(node: Node, identity: Path, directory: Path, pin: str) -> list[str]:
    """Return the arguments of sftp, limited by prlimit(1), for the commands in ``batch``."""
    options = tunnel.connection_options(pin) | {
        "ClearAllForwardings": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
        # Whatever its address, the node is known by its name.
        "HostKeyAlias": node.name,
        "Hostname": node.host,
        "IdentityFile": str(identity),
        "LogLevel": "ERROR",
        "Port": str(node.port),
        "User": account(node),
        "UserKnownHostsFile": str(directory / "known_hosts"),
    }
    words = ["/usr/bin/prlimit", "--core=0", f"--data={DATA_MAX}", f"--fsize={FILE_MAX}"]
    words += ["/usr/bin/sftp", "-b", str(directory / "batch"), "-F", "none"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "--", node.name]


def listed(output: str) -> tuple[list[str], list[str]]:
    """Return the archives and claims of a listing, and those whose upload was not finished."""
    lines = set(output.split("\n"))
    hidden = [line[1:].removesuffix(".part") for line in lines if PART.fullmatch(line)]
    return sorted(filter(is_name, lines)), sorted(filter(is_name, hidden))


def absent(errors: str) -> set[str]:
    """Return the names of which sftp says that they are not there."""
    # Lines of ssh and sftp end as those of a terminal.
    form = r'File "(?:[^"]*/)?([^"/]*)" not found\.\r?'
    said = (re.fullmatch(form, line) for line in errors.split("\n"))
    return {match[1] for match in said if match and is_name(match[1])}


def words(errors: str) -> str:
    """Return the last thing that was said, fit for a line of the journal."""
    said = [line for line in errors.splitlines() if line.strip()]
    return printable(said[-1].strip())[:200] if said else ""


def fetching(names: Iterable[str], directory: Path) -> list[str]:
    """Return the commands that get files; one that is not there does not end them."""
    return [f"-get {name} {directory / name}" for name in names]


def putting(names: Iterable[str], stale: Iterable[str], directory: Path) -> list[str]:
    """Return the commands that add files, and remove what broken uploads have left.

    Such a remainder is the node's to remove where the host may only add.
    """
    commands = [f"-rm .{name}.part" for name in stale]
    for name in names:
        commands.append(f"put -f {directory / name} .{name}.part")
        # -l: the request that does not replace a file (SSH_FXP_RENAME).
        commands.append(f"rename -l .{name}.part {name}")
    return commands


def validator_of(name: str) -> str:
    """Return whose archive or claim it is."""
    item = Item.parse(name)
    return item.validator if item else ""


@dataclass(frozen=True)
class Sftp:
    """A directory on a node. See Place."""

    node: Node
    identity: Path
    seconds: float = SECONDS
    tunnels: Path = TUNNELS
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @property
    def name(self) -> str:
        """See Place."""
        return self.node.name

    def names(self) -> list[str]:
        """See Place."""
        return self._listed(self.clock() + self.seconds)[0]

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        """See Place."""
        wanted = checked(names)
        if not wanted:
            return {}
        with self._directory() as folder:
            directory = Path(folder)
            commands = fetching(wanted, directory)
            errors = self._run(directory, commands, self.seconds, large=unreadable)[1]
            return self._fetched(directory, wanted, errors)

    def put(self, files: dict[str, bytes]) -> None:
        """See Place."""
        checked(files)
        if not files:
            return
        end = self.clock() + self.seconds
        there, parts = self._listed(end)
        new = {name: data for name, data in files.items() if name not in there}
        mine = {validator_of(name) for name in new}
        stale = [part for part in parts if validator_of(part) in mine and part not in new]
        if new:
            with self._directory() as folder:
                directory = Path(folder)
                for name, data in new.items():
                    (directory / name).write_bytes(data)
                size = sum(map(len, new.values()))
                self._run(directory, putting(new, stale, directory), end - self.clock(), size)

    def _listed(self, end: float) -> tuple[list[str], list[str]]:
        with self._directory() as folder:
            output = self._run(Path(folder), ["ls -1a"], end - self.clock())[0]
        names, parts = listed(output)
        if len(names) > NAMES_MAX:
            raise unreachable(self.name, f"lists more than {NAMES_MAX} files")
        return names, parts

    def _fetched(self, directory: Path, wanted: list[str], errors: str) -> dict[str, bytes]:
        missing = absent(errors)
        for name in wanted:
            # A file that broke off is there, in part.
            failed = [e for e in errors.split("\n") if name in e and name not in missing]
            if failed or (name not in missing and not (directory / name).exists()):
                raise unreadable(self.name, f"{name} cannot be read: {words(errors)}")
        return {name: (directory / name).read_bytes() for name in wanted if name not in missing}

    def _run(
        self,
        directory: Path,
        commands: list[str],
        seconds: float,
        given: int = 0,
        large: Callable[[str, str], SupervisorError] = unreachable,
    ) -> tuple[str, str]:
        """Run sftp in ``directory``; what it printed, and what it and ssh complained about.

        ``large`` makes the error of what is more than it may be.
        """
        backups = self.node.backups
        start = f"cd {backups if backups.startswith('/') else f'./{backups}'}"
        batch = "".join(f"@{command}\n" for command in [start, *commands])
        pin = self._pin()
        try:
            (directory / "batch").write_text(batch)
            (directory / "known_hosts").write_text(f"{self.name} {pin}\n")
            done = run.bounded(
                argv(self.node, self.identity, directory, pin),
                seconds=seconds, directory=directory, size=SIZE_MAX + given,
            )  # fmt: skip
        except (SupervisorError, OSError) as failure:
            much = isinstance(failure, SupervisorError) and failure.code == run.TOO_MUCH
            raise (large if much else unreachable)(self.name, str(failure)) from None
        errors = done.stderr.decode(errors="replace")
        if done.returncode < 0:
            said = f"sftp sends or receives too much: {words(errors)}".removesuffix(": ")
            raise large(self.name, said)
        if done.returncode:
            raise self._failure(done.returncode, errors)
        return done.stdout.decode(errors="replace"), errors

    def _failure(self, status: int, errors: str) -> SupervisorError:
        if "Host key verification failed" in errors:
            return unreachable(self.name, "it has shown another host key than the pinned one")
        how = f"sftp exited with {status}: {words(errors)}"
        return unreachable(self.name, how.removesuffix(": "))

    def _pin(self) -> str:
        try:
            key = self.identity.read_bytes().strip()
            pin = tunnel.pinned(self.node, self.tunnels / self.name)
        except (SupervisorError, OSError) as failure:
            raise unreachable(self.name, str(failure)) from None
        if key in (b"", tunnel.NO_IDENTITY.encode()):
            path = f"/etc/credstore/validator-tunnel.{self.node.identity}"
            raise unreachable(self.name, f"there is no ssh key {path}")
        if not pin:
            raise unreachable(self.name, "not connected to yet: its tunnel pins its host key")
        return pin

    def _directory(self) -> "tempfile.TemporaryDirectory[str]":
        try:
            return tempfile.TemporaryDirectory(prefix="sftp-")
        except OSError as failure:
            raise unreachable(self.name, f"no temporary directory: {failure.strerror}") from None
