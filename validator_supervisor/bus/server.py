"""The controller's loop: two connections to the bus and one to systemd, in one thread."""

import selectors
from pathlib import Path

from jeepney import DBusAddress, Message, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from validator_supervisor import journal
from validator_supervisor.bus import names
from validator_supervisor.bus.controller import Controller
from validator_supervisor.bus.dispatch import Dispatcher, changes
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.errors import SupervisorError

# The bus itself; jeepney has no name for every call to it in every release.
BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
DO_NOT_QUEUE = 4  # DBUS_NAME_FLAG_DO_NOT_QUEUE
PRIMARY_OWNER = 1  # DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER


class Server:
    """Serves the API until the bus goes away."""

    def __init__(self) -> None:
        self._systemd = Systemd()
        self._controller = Controller(self._systemd)
        # A question of our own must not swallow a caller's message: it has its own connection.
        self._asking = open_dbus_connection("SYSTEM")
        self._serving = open_dbus_connection("SYSTEM")
        machine_id = Path("/etc/machine-id").read_text().strip()
        self._dispatcher = Dispatcher(self._controller.act, self._uid, machine_id)

    def run(self) -> None:
        """Take the name and serve. Raises SupervisorError when the name is taken."""
        self._refresh()
        reply = self._serving.send_and_get_reply(
            message_bus.RequestName(names.SERVICE, DO_NOT_QUEUE)
        )
        if unwrap_msg(reply) != (PRIMARY_OWNER,):
            raise SupervisorError("AlreadyRunning", f"{names.SERVICE} has another owner")
        selector = selectors.DefaultSelector()
        selector.register(self._serving.sock, selectors.EVENT_READ)
        selector.register(self._systemd.fileno(), selectors.EVENT_READ)
        while True:
            selector.select()
            self._systemd.process()
            self._refresh()
            self._serve()

    def _refresh(self) -> None:
        while self._controller.stale:
            before = self._dispatcher.objects
            self._dispatcher.objects = self._controller.refresh()
            for signal in changes(before, self._dispatcher.objects) if before else []:
                self._serving.send(signal)
            self._systemd.process()

    def _serve(self) -> None:
        for message in received(self._serving):
            reply = self._dispatcher.answer(message)
            if reply is not None:
                self._serving.send(reply)
            self._systemd.process()
            self._refresh()

    def _uid(self, sender: str) -> int:
        question = new_method_call(BUS, "GetConnectionUnixUser", "s", (sender,))
        (uid,) = unwrap_msg(self._asking.send_and_get_reply(question))
        return int(uid)


def received(connection: DBusConnection) -> list[Message]:
    """Return the messages that have come, without waiting for more."""
    messages = []
    while True:
        try:
            messages.append(connection.receive(timeout=0))
        except TimeoutError:
            return messages


def serve() -> None:
    """Run the controller. Raises SupervisorError."""
    try:
        Server().run()
    except (ConnectionError, EOFError):
        # dbus-daemon(1) does not survive a restart with its clients; systemd starts us again.
        journal.log(journal.WARNING, "the bus has closed the connection")
        raise SupervisorError("BusClosed", "no connection to the bus", exit_status=75) from None
