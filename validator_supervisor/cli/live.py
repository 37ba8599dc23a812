"""`validator-supervisor status --watch`: the report again whenever anything has changed."""

import json
import os
import selectors
import signal
import socket
import stat
import sys
import time
from typing import NoReturn, Protocol

from jeepney import MatchRule, message_bus
from jeepney.io.blocking import DBusConnection, Proxy

from validator_supervisor.bus import names
from validator_supervisor.cli import status
from validator_supervisor.cli.client import Client, connect
from validator_supervisor.cli.heard import last_warning
from validator_supervisor.cli.status import Report
from validator_supervisor.errors import TEMPORARY, SupervisorError

BUS = "org.freedesktop.DBus"
# What a call ends with that must not start the controller, or that it has not lived to answer.
GONE = (f"{BUS}.Error.ServiceUnknown", f"{BUS}.Error.NameHasNoOwner", f"{BUS}.Error.NoReply")
WAITING = "the controller is not running; waiting for it"
# Seconds: how often the times on a terminal move on, and how long a report stays at least.
CLOCK = 10.0
PAUSE = 0.2


class Changes:
    """Waits for the controller to say that something has changed, or to come or go."""

    def __init__(self) -> None:
        self._bus: DBusConnection = connect()
        ours = MatchRule(type="signal", sender=names.SERVICE, path_namespace=names.ROOT)
        owner = MatchRule(type="signal", sender=BUS, interface=BUS, member="NameOwnerChanged")
        owner.add_arg_condition(0, names.SERVICE)
        for rule in (ours, owner):
            Proxy(message_bus, self._bus).AddMatch(rule)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bus.sock, selectors.EVENT_READ, self._drain)

    def notice_resizing(self) -> None:
        """Let a new size of the terminal be a change too."""
        self._resized, writing = socket.socketpair()
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.detach())
        signal.signal(signal.SIGWINCH, lambda *_: None)
        self._selector.register(self._resized, selectors.EVENT_READ, self._on_resized)

    def notice_end_of_reader(self, descriptor: int) -> None:
        """Raise BrokenPipeError from ``wait`` when nobody reads the pipe any more."""
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            # Its writing end never has anything to read but that error.
            self._selector.register(descriptor, selectors.EVENT_READ, _broken)

    def wait(self, seconds: float | None) -> bool:
        """Wait for the next change, at most ``seconds``; however many there were, they are one."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            key.data()
        return bool(ready)

    def _drain(self) -> None:
        try:
            while True:
                self._bus.receive(timeout=0)
        except TimeoutError:
            return
        except (ConnectionError, EOFError):
            raise SupervisorError(
                "NoBus", "the bus has closed the connection", exit_status=TEMPORARY
            ) from None

    def _on_resized(self) -> None:
        self._resized.recv(4096)


def _broken() -> None:
    raise BrokenPipeError


class View(Protocol):
    """Where reports go."""

    clock: float | None

    def show(self, shown: Report) -> None:
        """Show a report."""

    def wait_for_controller(self) -> None:
        """Say that there is none for now."""


class Screen:
    """A terminal, drawn anew each time."""

    clock: float | None = CLOCK

    def show(self, shown: Report) -> None:
        """Show a report with the times of now."""
        self._draw(status.as_text(shown, time.time()))

    def wait_for_controller(self) -> None:
        """Show nothing that may no longer be true."""
        self._draw([WAITING])

    def _draw(self, lines: list[str]) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        sys.stdout.write(frame(lines, size.columns or 80, size.lines or 24))
        sys.stdout.flush()


class Lines:
    """A file or a pipe: every report that is not like the one before, as text or one JSON line."""

    clock: float | None = None

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._last: Report | None = None

    def show(self, shown: Report) -> None:
        """Print a report."""
        if shown == self._last:
            return
        if self._as_json:
            print(json.dumps(status.as_json(shown), separators=(",", ":")), flush=True)
        else:
            lines = [""] if self._last else []
            print("\n".join(lines + status.as_text(shown, time.time())), flush=True)
        self._last = shown

    def wait_for_controller(self) -> None:
        """Say it beside the reports, for the sake of those that parse them."""
        print(f"validator-supervisor: {WAITING}", file=sys.stderr, flush=True)


def frame(lines: list[str], columns: int, rows: int) -> str:
    """Return what draws the lines over whatever a terminal of this size shows."""
    room = max(1, rows - 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
    drawn = "".join(f"{line[:columns]}\x1b[K\n" for line in lines)
    # Home; no wrapping, since some characters are two columns wide; and nothing is left below.
    return f"\x1b[H\x1b[?7l{drawn}\x1b[J\x1b[?7h"


def watch(*, as_json: bool) -> int:
    """Show the report until Ctrl-C. Raises SupervisorError, and BrokenPipeError."""
    try:
        changes = Changes()
        view: View
        dumb = os.environ.get("TERM", "dumb") == "dumb"
        if sys.stdout.isatty() and not as_json and not dumb:
            changes.notice_resizing()
            view = Screen()
        else:
            changes.notice_end_of_reader(sys.stdout.fileno())
            view = Lines(as_json=as_json)
        follow(Client(), changes, view)
    except KeyboardInterrupt:
        return 0


def follow(client: Client, changes: Changes, view: View) -> NoReturn:
    """Show the report and, for ever, each change of it."""
    shown = status.report(client.objects(), last_warning)
    # From here on a controller that somebody stops stays stopped.
    client.starts = False
    view.show(shown)
    there = True
    while True:
        # What comes while the last one is shown is one change.
        time.sleep(PAUSE)
        if not changes.wait(view.clock if there else None):
            view.show(shown)
            continue
        try:
            shown = status.report(client.objects(), last_warning)
        except SupervisorError as failure:
            if failure.code not in GONE:
                raise
            if there:
                view.wait_for_controller()
            there = False
        else:
            view.show(shown)
            there = True
