"""Messages from whoever may send some: the malformed, and those with descriptors in them."""

import contextlib
import struct

from jeepney import HeaderFields, Message
from jeepney.fds import FileDescriptor, NoFDError
from jeepney.io.blocking import DBusConnection


def receive(connection: DBusConnection, *, timeout: float | None = None) -> Message | None:
    """Return the next message, None for one that is not what it says. Raises TimeoutError.

    The bus passes on a message that names a descriptor which is not with it, and jeepney then
    fails in the middle of its work: it is told to go on with the next message.
    """
    try:
        message: Message = connection.receive(timeout=timeout)
    except (IndexError, KeyError, ValueError, struct.error):
        connection.parser.next_msg_size = None
        # Of this message alone: with descriptors, jeepney reads one at a time.
        connection.parser.fds.clear()
        return None
    return message


def ask(connection: DBusConnection, question: Message) -> Message:
    """Send a call and return its reply, whatever else comes in between."""
    serial = next(connection.outgoing_serial)
    connection.send(question, serial=serial)
    while True:
        message = receive(connection)
        if message is None:
            continue
        if message.header.fields.get(HeaderFields.reply_serial) == serial:
            return message
        close(message)


def close(message: Message) -> None:
    """Close the descriptors that came with a message and that nobody has taken."""
    for item in message.body:
        if isinstance(item, FileDescriptor):
            # It may be another's now.
            with contextlib.suppress(NoFDError):
                item.close()
