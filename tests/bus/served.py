"""The real dispatcher in a thread, with objects that stand still until a test moves them."""

import contextlib
import os
import queue
import threading
from typing import cast

from jeepney import DBusAddress, message_bus, new_method_call
from jeepney.fds import FileDescriptor
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import unwrap_msg

from validator_supervisor import config
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.bus import model, names
from validator_supervisor.bus.dispatch import Caller, Dispatcher, changes
from validator_supervisor.bus.model import Objects, UnitState, World
from validator_supervisor.bus.received import close, receive
from validator_supervisor.copies import Copies
from validator_supervisor.document import parse
from validator_supervisor.errors import SupervisorError

NODES = """\
version: 1
nodes:
  local: {beacon: "127.0.0.1:5052"}
  far-away: {host: h, host_key: first-use, beacon: "lighthouse:5052"}
validators:
  main:
    kind: ethereum
    network: dev
    fee_recipient: "0x0000000000000000000000000000000000000000"
    release: {client: lodestar, binary: /usr/bin/lodestar}
  0a_b: {kind: command, command: [/bin/x]}
"""


class Served:
    """The dispatcher in its thread, and what it was told to do."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.did: list[tuple[str, str, tuple[object, ...]]] = []
        self.audited: list[str] = []
        self.passphrases: list[bytes] = []
        self._asking = open_dbus_connection(address)
        self._connection = open_dbus_connection(address, enable_fds=True)
        self._dispatcher = Dispatcher(self._act, self._caller, "0123456789abcdef0123456789abcdef")
        self._dispatcher.objects = objects()
        self._wanted: queue.Queue[Objects | None] = queue.Queue()
        assert unwrap_msg(
            self._connection.send_and_get_reply(message_bus.RequestName(names.SERVICE, 4))
        ) == (1,)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def objects(self) -> Objects:
        return self._dispatcher.objects

    def become(self, wanted: Objects) -> None:
        """Have other objects, and tell of the difference."""
        self._wanted.put(wanted)
        self._wanted.join()

    def stop(self) -> None:
        self._wanted.put(None)
        self._thread.join()
        self._connection.close()
        self._asking.close()

    def _act(self, path: str, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        self.did.append((path, method, arguments))
        if path.endswith("/local"):
            raise SupervisorError("NoTunnel", "node local is this host")
        if method in ("UnlockFd", "Lock"):
            self._unlock(arguments)
        key = {"SetEnabled": "Enabled", "Prefer": "PreferredNode"}.get(method)
        if key:
            self._dispatcher.objects[path][names.VALIDATOR][key] = arguments[0]
        if method == "Backup":
            return ("validator-backup@main.service",)
        return (True,) if method in ("Start", "Stop") else ()

    def _unlock(self, arguments: tuple[object, ...]) -> None:
        manager = self._dispatcher.objects[names.ROOT][names.MANAGER]
        manager["UnlockProblem"] = ""
        if arguments:
            given = cast(FileDescriptor, arguments[0]).fileno()
            os.set_blocking(given, False)
            with contextlib.suppress(BlockingIOError):
                self.passphrases.append(os.read(given, 100))
        if self.passphrases[-1:] == [b"wrong"]:
            manager["UnlockProblem"] = "the passphrase is wrong"
        else:
            manager["Locked"] = not arguments

    def _caller(self, sender: str) -> Caller:
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        question = new_method_call(bus, "GetConnectionUnixUser", "s", (sender,))
        (uid,) = unwrap_msg(self._asking.send_and_get_reply(question))
        return Caller(int(uid), operates=True)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                message = receive(self._connection, timeout=0.01)
                if message is None:
                    continue
                reply = self._dispatcher.answer(message)
                close(message)
                if reply is not None:
                    self._connection.send(reply)
            with contextlib.suppress(queue.Empty):
                wanted = self._wanted.get_nowait()
                if wanted is None:
                    return
                for signal in changes(self._dispatcher.objects, wanted):
                    self._connection.send(signal)
                self._dispatcher.objects = wanted
                self._wanted.task_done()


def objects(
    *, backup: UnitState | None = None, copies: Copies | None = None, **units: UnitState
) -> Objects:
    read = config.read(parse(NODES.encode(), "config.yaml"))
    applied = Applied(read, assign_ports(read, {}))
    states = {f"validator@{name}.service": state for name, state in units.items()}
    if backup:
        states["validator-backup@main.service"] = backup
    return model.objects(World(applied, states, copies={"main": copies or Copies()}))
