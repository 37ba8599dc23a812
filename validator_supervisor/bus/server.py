"""The controller's loop: two connections to the bus and one to systemd, in one thread."""

import grp
import os
import selectors
from pathlib import Path

from jeepney import DBusAddress, HeaderFields, Message, message_bus, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import DBusErrorResponse, unwrap_msg

from validator_supervisor import journal, passphrase
from validator_supervisor.bus import names
from validator_supervisor.bus.controller import Controller
from validator_supervisor.bus.dispatch import Caller, Dispatcher, changes
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.bus.offer import Offer
from validator_supervisor.bus.received import ask, close, receive
from validator_supervisor.errors import SupervisorError

# The bus itself; jeepney has no name for every call to it in every release.
BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
OPERATORS = "validator-operators"
# Between two questions to a systemd that does not answer.
RETRY_SECONDS = 0.5
DO_NOT_QUEUE = 4  # DBUS_NAME_FLAG_DO_NOT_QUEUE
# Answered before the controller looks at systemd again.
CALLS_PER_TURN = 64
PRIMARY_OWNER = 1  # DBUS_REQUEST_NAME_REPLY_PRIMARY_OWNER


class Server:
    """Serves the API until the bus goes away."""

    def __init__(self) -> None:
        self._waiting = False
        self._systemd = Systemd()
        self._offer = Offer(Path(os.environ["RUNTIME_DIRECTORY"]) / passphrase.OFFER.name)
        self._controller = Controller(self._systemd, self._offer)
        # A question of our own must not swallow a caller's message: it has its own connection.
        self._asking = open_dbus_connection("SYSTEM")
        self._serving = open_dbus_connection("SYSTEM", enable_fds=True)
        machine_id = Path("/etc/machine-id").read_text().strip()
        self._dispatcher = Dispatcher(self._controller.act, self._caller, machine_id)

    def run(self) -> None:
        """Take the name and serve. Raises SupervisorError when the name is taken."""
        self._refresh()
        self._take_name()
        selector = selectors.DefaultSelector()
        selector.register(self._serving.sock, selectors.EVENT_READ)
        selector.register(self._systemd.fileno(), selectors.EVENT_READ)
        selector.register(self._offer, selectors.EVENT_READ)
        busy = True
        while True:
            pause = 0 if busy else self._controller.pause
            selector.select(RETRY_SECONDS if self._waiting else pause)
            # Some of each in turn: neither a flood of calls nor one of changes stops the other.
            self._systemd.process()
            self._refresh()
            self._offer.serve()
            busy = self._serve()
            # A signal that came during a call to systemd has been read, and wakes nobody.
            self._systemd.process()
            busy = busy or self._controller.stale

    def _take_name(self) -> None:
        request = message_bus.RequestName(names.SERVICE, DO_NOT_QUEUE)
        serial = next(self._serving.outgoing_serial)
        self._serving.send(request, serial=serial)
        # The call that has started us comes before the reply.
        early = []
        while True:
            message = receive(self._serving)
            if message is None:
                continue
            if message.header.fields.get(HeaderFields.reply_serial) == serial:
                break
            early.append(message)
        if unwrap_msg(message) != (PRIMARY_OWNER,):
            raise SupervisorError("AlreadyRunning", f"{names.SERVICE} has another owner")
        for message in early:
            self._answer(message)

    def _refresh(self) -> None:
        if self._controller.stale:
            before = self._dispatcher.objects
            try:
                self._dispatcher.objects = self._controller.refresh()
            except SupervisorError as failure:
                if failure.code != "SystemdRefused" or not before:
                    raise
                journal.log(journal.NOTICE, f"tried again: {failure.message}")
                self._waiting = True
                return
            self._waiting = False
            for signal in changes(before, self._dispatcher.objects) if before else []:
                self._serving.send(signal)

    def _serve(self) -> bool:
        """Answer what has come; True when there may be more."""
        for _ in range(CALLS_PER_TURN):
            try:
                message = receive(self._serving, timeout=0)
            except TimeoutError:
                return False
            if message is not None:
                self._answer(message)
        return True

    def _answer(self, message: Message) -> None:
        if not self._waiting:
            self._systemd.process()
            self._refresh()
        try:
            reply = self._dispatcher.answer(message)
        finally:
            close(message)
        if reply is not None:
            self._serving.send(reply)

    def _caller(self, sender: str) -> Caller:
        question = new_method_call(BUS, "GetConnectionCredentials", "s", (sender,))
        try:
            (found,) = unwrap_msg(ask(self._asking, question))
        except DBusErrorResponse:
            # What cannot be written down is not done.
            raise SupervisorError("CallerGone", f"{sender} has left the bus") from None
        uid, groups = int(found["UnixUserID"][1]), found.get("UnixGroupIDs", ("au", ()))[1]
        return Caller(uid, uid == 0 or grp.getgrnam(OPERATORS).gr_gid in groups)


def serve() -> None:
    """Run the controller. Raises SupervisorError."""
    try:
        Server().run()
    except (ConnectionError, EOFError):
        # dbus-daemon(1) does not survive a restart with its clients; systemd starts us again.
        journal.log(journal.WARNING, "the bus has closed the connection")
        raise SupervisorError("BusClosed", "no connection to the bus", exit_status=75) from None
