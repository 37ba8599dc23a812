"""Crash points: a program is killed in place of each system call that changes what is on disk.

strace counts each call by its name and for each process by itself: point `fsync 3` is the third
fsync of the process that gets there first. The kill comes before the call does anything, so that
the points of all calls, and a run to the end, are all states that a crash can leave.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lab.machine import Machine

CALLS = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink",
         "unlinkat", "mkdir", "mkdirat", "rmdir", "truncate", "ftruncate")  # fmt: skip
PLACE = "/run/crash"
KILL = "signal=KILL"
# Strikes once: a restart by systemd runs free. Its process is the program's, the tracer beside it
# (-D), so that notifications, signals and the exit status are as ever.
WRAPPER = f"""\
name=$1
shift
if mv "{PLACE}/$name.armed" "{PLACE}/$name.used" 2>/dev/null; then
    exec strace -D -f -qq -o "{PLACE}/$name.trace" $(cat "{PLACE}/$name.used") -- "$@"
fi
exec "$@"
"""


@dataclass(frozen=True)
class Point:
    """Before the ``number``-th ``call`` of a process."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number}"


def points(trace: str) -> list[Point]:
    """Return the points of a trace, in the order in which they are first reached."""
    counted: Counter[tuple[str, str]] = Counter()
    found: dict[Point, None] = {}
    for process, call in re.findall(r"^(\d+) +(\w+)\(", trace, re.MULTILINE):
        counted[process, call] += 1
        found[Point(call, counted[process, call])] = None
    return list(found)


def struck(trace: str) -> bool:
    """Whether a process of the trace was killed at its point.

    systemd may kill strace before it has written how the call ended.
    """
    return "killed by SIGKILL" in trace or bool(re.search(r"= \?$", trace, re.MULTILINE))


class Trace:
    """A program in a machine that has strace, started through a wrapper."""

    def __init__(self, machine: Machine, name: str, calls: Sequence[str] = CALLS) -> None:
        self.machine = machine
        self.name = name
        self._calls = ",".join(calls)
        # Of many users: no sticky bit, because of fs.protected_regular.
        machine.run("install", "-d", "-m", "0777", PLACE)
        machine.write(f"{PLACE}/traced", WRAPPER)

    @property
    def argv(self) -> list[str]:
        """What goes before the program's own words."""
        return ["/bin/sh", f"{PLACE}/traced", self.name]

    def arm(self, point: Point | None = None, how: str = KILL) -> None:
        """Let the next run only be watched, or be struck at a point.

        ``how`` is what strace injects, such as ``error=ENOSPC``.
        """
        words = ["-e", f"trace={self._calls}"]
        if point:
            words += ["-e", f"inject={point.call}:{how}:when={point.number}"]
        path = f"{PLACE}/{self.name}"
        self.machine.run("rm", "-f", f"{path}.used", f"{path}.trace")
        self.machine.write(f"{path}.armed", " ".join(words))

    def disarm(self) -> None:
        """Let the next run go free."""
        self.machine.run("rm", "-f", f"{PLACE}/{self.name}.armed")

    def run(self, *argv: str) -> int:
        """Run a program as root; return its status."""
        return self.machine.run(*self.argv, *argv, check=False).returncode

    def text(self) -> str:
        """Return what strace has written in the last run, once it has written all."""
        pattern = f"[s]trace -D .*{re.escape(f'{PLACE}/{self.name}.trace')}"
        done = lambda: self.machine.run("pgrep", "-f", pattern, check=False).returncode  # noqa: E731
        self.machine.wait("the end of strace", done)
        return self.machine.run("cat", f"{PLACE}/{self.name}.trace", check=False).stdout

    def crashes(
        self, act: Callable[[], object], prepare: Callable[[], object] = lambda: None
    ) -> Iterator[Point]:
        """Watch ``act`` once to its end, then strike it at each point; yield after each crash.

        ``prepare`` makes the state that each begins with. ``act`` starts the program, waits for
        its end and takes a failure. A run that does not come to its point yields nothing.
        """
        prepare()
        self.arm()
        act()
        for point in points(self.text()):
            prepare()
            self.arm(point)
            act()
            self.disarm()
            if struck(self.text()):
                yield point


@contextlib.contextmanager
def traced(
    machine: Machine,
    unit: str,
    directive: str = "ExecStart",
    line: int = 0,
    calls: Sequence[str] = CALLS,
) -> Iterator[Trace]:
    """Put the wrapper before the program of a unit, until the end: in one line of a directive."""
    trace = Trace(machine, unit.replace("\\", "-"), calls)
    folder = f"/run/systemd/system/{unit}.d"
    lines = commands(machine.systemctl("cat", unit), directive)
    lines[line] = wrapped(lines[line], trace.argv)
    machine.write(f"{folder}/zz-crash.conf", drop_in(directive, lines))
    machine.systemctl("daemon-reload")
    try:
        yield trace
    finally:
        machine.run("rm", "-f", f"{folder}/zz-crash.conf")
        machine.run("rmdir", "--ignore-fail-on-non-empty", folder)
        machine.systemctl("daemon-reload")


def commands(text: str, directive: str) -> list[str]:
    """Return the values of a directive in what `systemctl cat` prints; an empty one resets."""
    found: list[str] = []
    for value in re.findall(rf"^{directive}=(.*)$", text, re.MULTILINE):
        found = [*found, value] if value else []
    return found


def wrapped(command: str, argv: Sequence[str]) -> str:
    """Put words before a command of a unit; its special prefixes stay in front."""
    prefix = re.match(r"[-+!:|]*", command)
    assert prefix
    return f"{prefix[0]}{' '.join(argv)} {command[prefix.end() :]}"


def drop_in(directive: str, lines: Sequence[str]) -> str:
    """Return the drop-in that replaces a directive, and lets strace do what it has to."""
    return "\n".join(
        [
            "[Service]",
            f"{directive}=",
            *[f"{directive}={line}" for line in lines],
            f"BindPaths={PLACE}",
            # ptrace is not in @system-service.
            "SystemCallFilter=",
            "",
        ]
    )
