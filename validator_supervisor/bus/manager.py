"""The only caller of systemd."""

from collections.abc import Callable
from typing import cast

from pystemd.dbusexc import DBusBaseError
from pystemd.dbuslib import DBus

from validator_supervisor.bus.model import UnitState
from validator_supervisor.bus.names import escape
from validator_supervisor.errors import SupervisorError

SYSTEMD = b"org.freedesktop.systemd1"
MANAGER_PATH = b"/org/freedesktop/systemd1"
MANAGER = b"org.freedesktop.systemd1.Manager"
UNIT = b"org.freedesktop.systemd1.Unit"
SERVICE = b"org.freedesktop.systemd1.Service"
JOB = b"org.freedesktop.systemd1.Job"
PROPERTIES = b"org.freedesktop.DBus.Properties"


def unit_path(unit: str) -> bytes:
    """Return the object path of a unit."""
    return MANAGER_PATH + b"/unit/" + escape(unit).encode()


class Systemd:
    """A connection to systemd's bus API (org.freedesktop.systemd1(5))."""

    def __init__(self) -> None:
        self._bus = DBus()
        try:
            self._bus.open()
        except DBusBaseError as failure:
            raise SupervisorError("NoBus", f"no system bus: {failure}") from None
        # pystemd does not keep the callbacks alive.
        self._callbacks: dict[str, Callable[..., None]] = {}

    def fileno(self) -> int:
        """Return the descriptor to wait on for signals."""
        return int(self._bus.get_fd())

    def process(self) -> None:
        """Deliver the signals that have come, also those that came during a call."""
        idle = 0
        # Work inside sd-bus looks like nothing to do, but never twice in a row.
        while idle < 2:
            idle = idle + 1 if self._bus.process().is_empty() else 0

    def start(self, unit: str, mode: str = "replace") -> None:
        """Queue the start of a unit; ``mode`` ``fail``: not against a job that is there already."""
        self._manage(b"StartUnit", unit, mode)

    def stop(self, unit: str) -> None:
        """Queue the stop of a unit."""
        self._manage(b"StopUnit", unit)

    def restart(self, unit: str) -> None:
        """Queue the restart of a unit; one that is down is started."""
        self._manage(b"RestartUnit", unit)

    def reload(self) -> None:
        """Run the generators and read every unit again (daemon-reload)."""
        self._call(MANAGER_PATH, MANAGER, b"Reload")

    def subscribe(self, changed: Callable[[str], None], reloaded: Callable[[], None]) -> None:
        """Have ``changed`` called with each watched unit that changes.

        ``reloaded`` is called when systemd has read its units again.
        """
        self._changed = changed
        self._call(MANAGER_PATH, MANAGER, b"Subscribe")

        def on_reloading(message: object, error: object = None, userdata: object = None) -> None:
            del message, error, userdata
            reloaded()

        self._match("", MANAGER_PATH, MANAGER, b"Reloading", on_reloading)

    def watch(self, unit: str) -> None:
        """Include a unit in what ``subscribe`` tells."""

        def on_change(message: object, error: object = None, userdata: object = None) -> None:
            del message, error, userdata
            self._changed(unit)

        if unit not in self._callbacks:
            self._match(unit, unit_path(unit), PROPERTIES, b"PropertiesChanged", on_change)

    def _match(
        self, key: str, path: bytes, interface: bytes, member: bytes, call: Callable[..., None]
    ) -> None:
        self._callbacks[key] = call
        self._bus.match_signal(SYSTEMD, path, interface, member, call)

    def active(self, unit: str) -> str:
        """Return the ActiveState of a unit of any type."""
        return self._text(unit, UNIT, b"ActiveState")

    def state(self, unit: str) -> UnitState:
        """Return the state of a service."""
        active = self.active(unit)
        since = b"ActiveEnterTimestamp" if active == "active" else b"StateChangeTimestamp"
        return UnitState(
            active=active,
            sub=self._text(unit, UNIT, b"SubState"),
            status=self._text(unit, SERVICE, b"StatusText"),
            since_usec=self._number(unit, UNIT, since),
            restarts=self._number(unit, SERVICE, b"NRestarts"),
            exit_status=self._number(unit, SERVICE, b"ExecMainStatus"),
        )

    def job(self, unit: str) -> str:
        """Return the type of the job that is queued or runs for a unit (``stop``), or ``""``."""
        number, path = self._job(unit)
        if not number:
            return ""
        try:
            kind = self._bus.get_property(SYSTEMD, path, JOB, b"JobType", b"s")
        except DBusBaseError:
            return ""  # it has ended since
        return kind.decode() if isinstance(kind, bytes) else str(kind)

    def _job(self, unit: str) -> tuple[int, bytes]:
        found = self._property(unit, UNIT, b"Job", b"(uo)")
        # The releases of pystemd differ in how they wrap a structure.
        while isinstance(found, list | tuple) and len(found) == 1:
            (found,) = found
        number, path = cast(tuple[int, bytes | str], found)
        return int(number), path if isinstance(path, bytes) else path.encode()

    def _manage(self, method: bytes, unit: str, mode: str = "replace") -> None:
        self._call(MANAGER_PATH, MANAGER, method, unit.encode(), mode.encode())

    def _call(self, path: bytes, interface: bytes, method: bytes, *arguments: bytes) -> None:
        try:
            words = [(ord("s"), word) for word in arguments]
            self._bus.call_method(SYSTEMD, path, interface, method, words)
        except DBusBaseError as failure:
            name = arguments[0].decode() if arguments else ""
            raise SupervisorError(
                "SystemdRefused", f"systemd refuses {method.decode()} {name}: {failure}"
            ) from None

    def _property(self, unit: str, interface: bytes, name: bytes, kind: bytes) -> object:
        try:
            return self._bus.get_property(SYSTEMD, unit_path(unit), interface, name, kind)
        except DBusBaseError as failure:
            raise SupervisorError("SystemdRefused", f"{unit}: {failure}") from None

    def _text(self, unit: str, interface: bytes, name: bytes) -> str:
        value = self._property(unit, interface, name, b"s")
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def _number(self, unit: str, interface: bytes, name: bytes) -> int:
        kinds = {b"NRestarts": b"u", b"ExecMainStatus": b"i"}
        return int(str(self._property(unit, interface, name, kinds.get(name, b"t"))))
