"""One booted machine."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from lab.host import RUNS, URGENT, LabError, run

T = TypeVar("T")
ENVIRONMENT = (
    "env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
    "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
)  # fmt: skip
# Jobs of ours; nothing they say at priority warning goes unnoticed.
OURS = "validator*"


class Machine:
    """A Debian that systemd has booted in containers of the kernel (systemd-nspawn(1))."""

    def __init__(
        self,
        name: str,
        root: Path,
        spawned: "subprocess.Popen[bytes]",
        leader: int,
        again: "Callable[[], Machine]",
    ) -> None:
        self.name = name
        self.root = root
        self.leader = leader
        self._spawned = spawned
        self._again = again

    @staticmethod
    @contextlib.contextmanager
    def overlay(layers: Sequence[Path], upper: Path) -> Iterator[Path]:
        """Mount read-only layers, lowest first, with a writable one above; yield the tree."""
        RUNS.mkdir(parents=True, exist_ok=True)
        upper.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mount-", dir=RUNS) as folder:
            work, root = upper.with_name(f".{upper.name}.work"), Path(folder) / "root"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            root.mkdir()
            lower = ":".join(str(layer) for layer in reversed(layers))
            options = f"lowerdir={lower},upperdir={upper},workdir={work}"
            run(["mount", "-t", "overlay", "overlay", "-o", options, root])
            try:
                yield root
            finally:
                run(["umount", root])
                shutil.rmtree(work, ignore_errors=True)

    @classmethod
    @contextlib.contextmanager
    def boot(
        cls,
        name: str,
        layers: Sequence[Path],
        *,
        upper: Path | None = None,
        namespace: Path | None = None,
        binds: Sequence[str] = (),
        urgent: bool = False,
    ) -> Iterator["Machine"]:
        """Boot on an overlay of ``layers``; what it writes goes to ``upper`` or away.

        An ``urgent`` one has processors before all others (``host.URGENT``).
        """
        RUNS.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if upper is None:
                folder = tempfile.TemporaryDirectory(prefix="run-", dir=RUNS)
                upper = Path(stack.enter_context(folder)) / "root"
            root = stack.enter_context(cls.overlay(layers, upper))
            (root / "etc/machine-id").write_text("")  # each machine is its own
            (root / "etc/hostname").write_text(name.split("-")[0] + "\n")
            machine = cls.start(name, root, namespace, binds, urgent=urgent)
            try:
                yield machine
            finally:
                machine.stop()
                cls.remove_group(name)

    @classmethod
    def start(
        cls,
        name: str,
        root: Path,
        namespace: Path | None,
        binds: Sequence[str],
        *,
        urgent: bool = False,
    ) -> "Machine":
        """Boot a tree and wait until it is up."""
        network = f"--network-namespace-path={namespace}" if namespace else "--private-network"
        argv = [*(URGENT if urgent else []), "systemd-nspawn", "-q", "-D", str(root), "-M", name, "--boot", "--register=no",
                "--keep-unit", "--console=pipe", "--resolv-conf=off", f"--hostname={name.split('-')[0]}",
                network, "--capability=CAP_NET_ADMIN", *[f"--bind-ro={bind}" for bind in binds]]  # fmt: skip
        spawned = subprocess.Popen(
            [
                "sh",
                "-c",
                'echo $$ >"$0" && exec "$@"',
                str(cls.group(name) / "cgroup.procs"),
                *argv,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        children: list[str] = []
        for _ in range(300):
            children = run(["pgrep", "-P", str(spawned.pid)], check=False).stdout.split()
            if children:
                again = partial(cls.start, name, root, namespace, binds, urgent=urgent)
                machine = cls(name, root, spawned, int(children[0]), again)
                if machine._is_up():
                    return machine
            if spawned.poll() is not None:
                break
            time.sleep(0.1)
        # Its first process, too, or a machine with this disk goes on.
        for pid in [*children, str(spawned.pid)]:
            run(["kill", "-KILL", pid], check=False)
        raise LabError(f"machine {name} does not boot")

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        jobs = self.run("systemctl", "list-jobs", "--plain", "--no-legend", check=False).stdout
        left = [line.split()[1] for line in jobs.splitlines() if line.endswith(" running")]
        # Ours may wait for a person, who can do nothing before this machine is up.
        asks = state == "starting" and bool(left) and all(u.startswith("validator-") for u in left)
        return state in ("running", "degraded") or asks

    @staticmethod
    def group(name: str) -> Path:
        """Make the control group of a machine: two systemds must not share one."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                group = Path(fields[4]) / f"lab-{name}"
                group.mkdir(exist_ok=True)
                return group
        raise LabError("no cgroup2 file system is mounted here")

    @classmethod
    def remove_group(cls, name: str) -> None:
        """Remove the empty control groups of a machine."""
        for folder, _, _ in os.walk(cls.group(name), topdown=False):
            with contextlib.suppress(OSError):  # a process may be on its last steps
                Path(folder).rmdir()

    def run(
        self, *argv: str, check: bool = True, seconds: float = 60, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program in the machine as root."""
        enter = ["nsenter", "-t", str(self.leader), "-a", *ENVIRONMENT]
        return run([*enter, *argv], check=check, seconds=seconds, stdin=stdin)

    def output(self, *argv: str, seconds: float = 60) -> str:
        """Return what a program prints."""
        return self.run(*argv, seconds=seconds).stdout.strip()

    def as_user(
        self, user: str, *argv: str, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program in the machine as somebody else."""
        # nobody has no group of its name.
        group = self.output("id", "-g", user)
        return self.run("setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", *argv,
                        check=check)  # fmt: skip

    def systemctl(self, *argv: str, check: bool = True, seconds: float = 60) -> str:
        """Run systemctl and return what it prints."""
        return self.run("systemctl", *argv, check=check, seconds=seconds).stdout.strip()

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", unit, f"--property={name}", "--value")

    def journal(self, *matches: str) -> str:
        """Return messages of the journal, oldest first."""
        # Status 1 is a pattern that matches no unit yet.
        argv = ["journalctl", "--quiet", "--no-pager", "--output=cat", *matches]
        return self.run(*argv, check=False).stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in the machine."""
        # From inside: /run and /tmp are file systems of the machine's own.
        script = 'mkdir -p "${0%/*}" && cat >"$0" && chmod "$1" "$0"'
        self.run("sh", "-c", script, path, f"{mode:o}", stdin=text)

    def wait(self, what: str, ready: Callable[[], T], seconds: float = 30) -> T:
        """Wait until ``ready`` returns something true, and return it; LabError with the journal."""
        end = time.monotonic() + seconds
        while True:
            value = ready()
            if value:
                return value
            if time.monotonic() > end:
                lines = self.journal("--lines=60", "--boot", "--output=short-precise")
                raise LabError(f"{self.name}: {what} did not come within {seconds:g} s\n{lines}")
            time.sleep(0.1)

    def wait_for_text(self, path: str, seconds: float = 30) -> str:
        """Wait until a file has something in it, and return it."""
        return self.wait(path, lambda: self.run("cat", path, check=False).stdout, seconds)

    def wait_for_unit(self, unit: str, state: str = "active", seconds: float = 30) -> None:
        """Wait until a unit is in a state."""
        self.wait(f"{unit} {state}", lambda: self.property(unit, "ActiveState") == state, seconds)

    def problems(self, announced: Sequence[str] = ()) -> list[str]:
        """Return failed units and what our jobs said at priority warning, but for ``announced``."""
        found = self.systemctl("list-units", "--failed", "--plain", "--no-legend").splitlines()
        found += self.journal(
            "--priority=warning", "--boot", "--output=short", f"--unit={OURS}"
        ).splitlines()
        return [line for line in found if not any(re.search(p, line) for p in announced)]

    def stop(self, seconds: float = 90) -> None:
        """Power off as an operator does; a machine that hangs is cut off and reported."""
        if self._spawned.poll() is None:
            run(["kill", "-s", "RTMIN+4", str(self.leader)], check=False)
            self.ended(seconds)

    def ended(self, seconds: float = 90) -> None:
        """Wait until it has gone down by itself; a machine that hangs is cut off and reported."""
        try:
            self._spawned.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            self.cut()
        # Here, so that what has failed before is told as well.
        raise LabError(f"machine {self.name} does not power off")

    def cut(self) -> None:
        """Cut the power: every process ends at once."""
        self._spawned.send_signal(signal.SIGKILL)
        run(["kill", "-KILL", str(self.leader)], check=False)
        self._spawned.wait(30)

    def boot_again(self) -> None:
        """Boot after ``cut`` or a power-off: what it had on disk is there, and nothing else."""
        self.remove_group(self.name)
        fresh = self._again()
        self.leader, self._spawned = fresh.leader, fresh._spawned
