"""Calls to the controller."""

from collections.abc import Mapping
from typing import cast

from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from validator_supervisor.bus import names
from validator_supervisor.errors import TEMPORARY, SupervisorError

# The controller answers in milliseconds; it may have to be started first.
SECONDS = 25.0
UNKNOWN = "org.freedesktop.DBus.Error.UnknownObject"
DENIED = "org.freedesktop.DBus.Error.AccessDenied"
GROUPS = "be root or a member of validator-operators (to look: validator-viewers)"


Objects = dict[str, dict[str, dict[str, object]]]


def connect(*, enable_fds: bool = False) -> DBusConnection:
    """Return a connection to the system bus. Raises SupervisorError."""
    try:
        return open_dbus_connection("SYSTEM", enable_fds=enable_fds)
    except (OSError, ConnectionError) as failure:
        raise SupervisorError("NoBus", f"no system bus: {failure}") from None


class Client:
    """Calls over one connection; ``starts`` says whether a call may start the controller."""

    def __init__(self, *, enable_fds: bool = False) -> None:
        self._connection = connect(enable_fds=enable_fds)
        self.starts = True

    def call(
        self, path: str, interface: str, method: str, signature: str = "", *body: object
    ) -> tuple[object, ...]:
        """Return the values of the reply. Raises SupervisorError with the bus's error."""
        address = DBusAddress(path, bus_name=names.SERVICE, interface=interface)
        message = new_method_call(address, method, signature or None, body)
        if not self.starts:
            message.header.flags |= MessageFlag.no_auto_start
        try:
            reply = self._connection.send_and_get_reply(message, timeout=SECONDS)
        except (TimeoutError, ConnectionError, EOFError):
            raise SupervisorError(
                "NoController",
                "the controller does not answer",
                "systemctl status validator-supervisor",
                exit_status=TEMPORARY,
            ) from None
        if reply.header.message_type is MessageType.error:
            name = str(reply.header.fields.get(HeaderFields.error_name))
            words = " ".join(str(item) for item in reply.body)
            raise SupervisorError(name, words, GROUPS if name == DENIED else "")
        return tuple(reply.body)

    def objects(self) -> Objects:
        """Return every object's interfaces and properties."""
        (managed,) = self.call(names.ROOT, names.OBJECT_MANAGER, "GetManagedObjects")
        (manager,) = self.call(names.ROOT, names.PROPERTIES, "GetAll", "s", names.MANAGER)
        known = cast(Mapping[str, Mapping[str, Mapping[str, tuple[str, object]]]], managed)
        own = cast(Mapping[str, tuple[str, object]], manager)
        every = {**known, names.ROOT: {names.MANAGER: own}}
        return {
            path: {
                name: {key: value[1] for key, value in properties.items()}
                for name, properties in interfaces.items()
            }
            for path, interfaces in every.items()
        }
