"""The controller's loop, with a systemd that says at which moment a signal is read."""

import os
import queue
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jeepney import DBusAddress, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection

from validator_supervisor import halt, overrides, watch
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names, server
from validator_supervisor.bus.model import OVERRIDE, UnitState
from validator_supervisor.bus.server import Server

PING = new_method_call(DBusAddress(names.ROOT, names.SERVICE, "org.freedesktop.DBus.Peer"), "Ping")


class EndError(Exception):
    """The end of the test."""


class Systemd:
    """One unit that starts, and fails while the controller asks for its state."""

    def __init__(self) -> None:
        self._socket, self._sender = os.pipe()
        self._states = ["inactive", "activating", "failed"]
        self._read: list[str] = []
        self._changed: Callable[[str], None] = print
        # The answers about the unit.
        self.seen: queue.Queue[str] = queue.Queue()

    def fileno(self) -> int:
        return self._socket

    def signal(self) -> None:
        """Say that the unit has changed."""
        os.write(self._sender, b"1")

    def end(self) -> None:
        os.write(self._sender, b"0")

    def process(self) -> None:
        if select.select([self._socket], [], [], 0)[0]:
            if b"0" in os.read(self._socket, 100):
                raise EndError
            self._read.append(OVERRIDE)
        while self._read:
            self._changed(self._read.pop())

    def subscribe(self, changed: Callable[[str], None], reloaded: Callable[[], None]) -> None:
        del reloaded
        self._changed = changed

    def watch(self, unit: str) -> None:
        del unit

    def state(self, unit: str) -> UnitState:
        if unit != OVERRIDE:
            return UnitState()
        active = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if active == "activating":
            # The next signal is read off the socket together with this answer.
            self._read.append(OVERRIDE)
        self.seen.put(active)
        return UnitState(active=active)


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_signal_that_is_read_during_a_call_is_not_left_until_the_next(
    address: str, connection: DBusConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(Applied, "load", Applied)
    monkeypatch.setattr(overrides, "current", dict)
    monkeypatch.setattr(halt, "HALTED", tmp_path / "halted")
    monkeypatch.setattr(watch, "RESULTS", tmp_path / "results.json")
    systemd = Systemd()
    monkeypatch.setattr(server, "Systemd", lambda: systemd)
    made = Server()

    def run() -> None:
        with pytest.raises(EndError):
            made.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert systemd.seen.get(timeout=5) == "inactive"
        has_name = message_bus.NameHasOwner(names.SERVICE)
        wait_until(lambda: connection.send_and_get_reply(has_name, timeout=5).body == (True,))
        # Then it has nothing left to do.
        connection.send_and_get_reply(PING, timeout=5)
        systemd.signal()
        assert systemd.seen.get(timeout=5) == "activating"
        assert systemd.seen.get(timeout=5) == "failed"
    finally:
        systemd.end()
        thread.join(5)
    assert not thread.is_alive()
