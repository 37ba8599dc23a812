"""Reads of one D-Bus property: `calls.py paced|flood CALLS CLIENTS NAME PATH INTERFACE PROPERTY`.

`paced` makes 200 calls a second from CLIENTS connections and prints as JSON how long each answer
took, in seconds from the moment at which the call was due; `flood` makes them as fast as answers
come, and prints how long all took.
"""

import json
import selectors
import sys
import time

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

PER_SECOND = 200
# Calls of one connection on their way: far below what dbus-daemon allows (128, system.conf).
WINDOW = 32
LONGEST = 20.0


class Clients:
    """Connections that read one property."""

    def __init__(self, count: int, words: list[str]) -> None:
        address = DBusAddress(words[1], words[0], "org.freedesktop.DBus.Properties")
        self.question: Message = new_method_call(address, "Get", "ss", (words[2], words[3]))
        self.selector = selectors.DefaultSelector()
        self.connections = [open_dbus_connection("SYSTEM") for _ in range(count)]
        for connection in self.connections:
            self.selector.register(connection.sock, selectors.EVENT_READ, connection)

    def send(self, connection: DBusConnection) -> int:
        """Ask, and return the serial number of the question."""
        serial = next(connection.outgoing_serial)
        connection.send(self.question, serial=serial)
        return int(serial)

    def replies(self, seconds: float) -> list[tuple[DBusConnection, int]]:
        """Return what has been answered, after waiting at most ``seconds`` for the first."""
        found = []
        for key, _ in self.selector.select(max(0.0, seconds)):
            connection = key.data
            while True:
                try:
                    message = connection.receive(timeout=0)
                except TimeoutError:
                    break
                if message.header.message_type is MessageType.error:
                    sys.exit(f"an error instead of the property: {message.body}")
                serial = message.header.fields.get(HeaderFields.reply_serial)
                if serial is not None and message.header.message_type is MessageType.method_return:
                    found.append((connection, int(serial)))
        return found


def paced(clients: Clients, calls: int) -> list[float]:
    """Call at the pace; return the latency of each answer."""
    due: dict[tuple[int, int], float] = {}
    found: list[float] = []
    made, started = 0, time.monotonic() + 0.1
    end = started + calls / PER_SECOND + LONGEST
    while len(found) < calls:
        now = time.monotonic()
        if now > end:
            sys.exit(f"only {len(found)} of {calls} answers came")
        while made < calls and started + made / PER_SECOND <= now:
            connection = clients.connections[made % len(clients.connections)]
            due[id(connection), clients.send(connection)] = started + made / PER_SECOND
            made += 1
        pause = started + made / PER_SECOND - time.monotonic() if made < calls else 0.1
        for connection, serial in clients.replies(pause):
            found.append(time.monotonic() - due.pop((id(connection), serial)))
    return found


def flood(clients: Clients, calls: int) -> float:
    """Call as fast as answers come; return the seconds of all."""
    started = time.monotonic()
    made = answered = 0
    for connection in clients.connections:
        for _ in range(WINDOW):
            clients.send(connection)
            made += 1
    last = started
    while answered < made:
        for connection, _ in clients.replies(LONGEST):
            answered, last = answered + 1, time.monotonic()
            if made < calls:
                clients.send(connection)
                made += 1
        if time.monotonic() - last > LONGEST:
            sys.exit(f"only {answered} of {calls} answers came")
    return time.monotonic() - started


if __name__ == "__main__":
    run = {"paced": paced, "flood": flood}[sys.argv[1]]
    print(json.dumps(run(Clients(int(sys.argv[3]), sys.argv[4:]), int(sys.argv[2]))))
