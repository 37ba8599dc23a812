"""Message in, message out: the D-Bus API without sockets.

Follows the D-Bus specification (https://dbus.freedesktop.org/doc/dbus-specification.html),
"Standard Interfaces".
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jeepney import HeaderFields, Message, MessageType, new_error, new_method_return, new_signal
from jeepney.wrappers import DBusAddress

from validator_supervisor import journal
from validator_supervisor.bus import interface as tables
from validator_supervisor.bus import names
from validator_supervisor.bus.interface import INTERFACES, Interface, Method
from validator_supervisor.bus.model import Objects, Values
from validator_supervisor.errors import SupervisorError

# Of an error: a line of text.
WORDS_MAX = 500
FREEDESKTOP_ERROR = "org.freedesktop.DBus.Error."
BY_NAME = {interface.name: interface for interface in INTERFACES}


@dataclass(frozen=True)
class Caller:
    """Who has called: a Unix user, and whether it may change anything."""

    uid: int
    operates: bool


class Actions(Protocol):
    """What a method does; returns the values of its reply. Raises SupervisorError."""

    def __call__(self, path: str, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        """Carry it out."""


class RefusedError(Exception):
    """An answer with one of the bus's own error names."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = FREEDESKTOP_ERROR + name
        self.message = message


class Dispatcher:
    """Answers method calls; ``caller`` returns who is behind a bus name."""

    def __init__(self, actions: Actions, caller: Callable[[str], Caller], machine_id: str) -> None:
        self.objects: Objects = {}
        self._actions = actions
        self._caller = caller
        self._machine_id = machine_id

    def answer(self, message: Message) -> Message | None:
        """Return the reply to a method call, None where none is wanted."""
        if message.header.message_type is not MessageType.method_call:
            return None
        try:
            signature, body = self._call(message)
            reply = new_method_return(message, signature or None, body)
        except RefusedError as refused:
            reply = _error(message, refused.name, refused.message)
        except SupervisorError as failure:
            reply = _error(message, names.ERROR + failure.code, str(failure))
        except Exception as failure:
            for line in traceback.format_exc().splitlines():
                journal.log(journal.ERROR, line)
            reply = _error(message, FREEDESKTOP_ERROR + "Failed", str(failure))
        # NO_REPLY_EXPECTED; not message.header.flags & …: jeepney has it as an IntFlag
        return None if int(message.header.flags) & 1 else reply

    def _call(self, message: Message) -> tuple[str, tuple[object, ...]]:
        fields = message.header.fields
        path = fields.get(HeaderFields.path, "")
        interface = fields.get(HeaderFields.interface)
        member = fields.get(HeaderFields.member, "")
        signature = fields.get(HeaderFields.signature, "")
        if interface is None:
            # The bus policy is written in terms of interfaces: there is no way around them.
            raise RefusedError("UnknownInterface", "the call names no interface")
        known = self._known(interface, member)
        if path not in self.objects and not self._children(path):
            raise RefusedError("UnknownObject", f"no object {path}")
        if interface in BY_NAME and interface not in self.objects.get(path, {}):
            raise RefusedError("UnknownInterface", f"{path} has no interface {interface}")
        if signature != known.signature:
            raise RefusedError(
                "InvalidArgs", f"{member} takes ({known.signature}), not ({signature})"
            )
        if interface in BY_NAME:
            return known.reply, self._act(message, path, member)
        return known.reply, self._standard(path, member, message.body)

    def _known(self, interface: str, member: str) -> Method:
        if interface in BY_NAME:
            method = BY_NAME[interface].method(member)
        elif any(owner == interface for owner, _ in STANDARD):
            method = STANDARD.get((interface, member))
        else:
            raise RefusedError("UnknownInterface", f"no interface {interface}")
        if method is None:
            raise RefusedError("UnknownMethod", f"{interface} has no method {member}")
        return method

    def _act(self, message: Message, path: str, member: str) -> tuple[object, ...]:
        sender = message.header.fields.get(HeaderFields.sender, "")
        caller = self._caller(sender)
        uid, result = caller.uid, "refused"
        try:
            # The bus's policy says so, too, but not of who comes from afar: it has no rule for
            # those who are in two groups.
            if not caller.operates:
                raise RefusedError("AccessDenied", "for root and validator-operators")
            values = self._actions(path, member, message.body)
            result = "done"
            return values
        finally:
            given = journal.printable(" ".join(map(str, message.body))[:WORDS_MAX])
            journal.audit(
                f"{member}({given}) of {path} by uid {uid}: {result}",
                VALIDATOR_METHOD=member,
                VALIDATOR_ARGUMENTS=given,
                VALIDATOR_OBJECT=path,
                VALIDATOR_CALLER_UID=str(uid),
                VALIDATOR_RESULT=result,
            )

    def _standard(self, path: str, member: str, body: tuple[object, ...]) -> tuple[object, ...]:
        if member == "Introspect":
            return (self._introspect(path),)
        if member == "GetManagedObjects":
            if path != names.ROOT:
                raise RefusedError("UnknownInterface", f"{path} manages no objects")
            below = {p: i for p, i in self.objects.items() if p != names.ROOT}
            return ({p: {n: variants(n, v) for n, v in i.items()} for p, i in below.items()},)
        if member == "Ping":
            return ()
        if member == "GetMachineId":
            return (self._machine_id,)
        return self._properties(path, member, body)

    def _properties(self, path: str, member: str, body: tuple[object, ...]) -> tuple[object, ...]:
        interface = str(body[0])
        here = self.objects.get(path, {})
        if interface and interface not in here and not any(o == interface for o, _ in STANDARD):
            raise RefusedError("UnknownInterface", f"{path} has no interface {interface}")
        if member == "GetAll":
            chosen = [interface] if interface else list(here)
            merged: Values = {}
            for name in chosen:
                merged |= variants(name, here.get(name, {}))
            return (merged,)
        name = str(body[1])
        # An empty interface name stands for any (specification, "Properties.Get").
        owners = [i for i in ([interface] if interface else here) if name in here.get(i, {})]
        if not owners:
            raise RefusedError("UnknownProperty", f"{path} has no property {name}")
        if member == "Set":
            raise RefusedError("PropertyReadOnly", f"{name} is read-only")
        return (variants(owners[0], here[owners[0]])[name],)

    def _children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        below = {p[len(prefix) :].split("/")[0] for p in self.objects if p.startswith(prefix)}
        return sorted(below)

    def _introspect(self, path: str) -> str:
        own = "".join(tables.interface_xml(BY_NAME[name]) for name in self.objects.get(path, {}))
        if path == names.ROOT:
            own += tables.OBJECT_MANAGER_XML
        return tables.introspection(own, self._children(path))


STANDARD: dict[tuple[str, str], Method] = {
    (names.PEER, "Ping"): Method("Ping"),
    (names.PEER, "GetMachineId"): Method("GetMachineId", gives=(("machine_uuid", "s"),)),
    (names.INTROSPECTABLE, "Introspect"): Method("Introspect", gives=(("xml_data", "s"),)),
    (names.PROPERTIES, "Get"): Method(
        "Get", (("interface_name", "s"), ("property_name", "s")), (("value", "v"),)
    ),
    (names.PROPERTIES, "GetAll"): Method(
        "GetAll", (("interface_name", "s"),), (("properties", "a{sv}"),)
    ),
    (names.PROPERTIES, "Set"): Method(
        "Set", (("interface_name", "s"), ("property_name", "s"), ("value", "v"))
    ),
    (names.OBJECT_MANAGER, "GetManagedObjects"): Method(
        "GetManagedObjects", gives=(("objects", "a{oa{sa{sv}}}"),)
    ),
}


def _error(message: Message, name: str, words: str) -> Message:
    # What a caller sends may be in it, and may be as long as a message can be.
    return new_error(message, name, "s", (journal.printable(words[:WORDS_MAX]),))


def variants(name: str, values: Values) -> Values:
    """Return property values as the ``a{sv}`` of their interface."""
    table = {p.name: p.signature for p in BY_NAME[name].properties} if name in BY_NAME else {}
    return {key: (table[key], value) for key, value in values.items()}


def changes(before: Objects, after: Objects) -> list[Message]:
    """Return the signals that tell of the difference."""
    signals = []
    manager = DBusAddress(names.ROOT, interface=names.OBJECT_MANAGER)
    for path in before.keys() - after.keys():
        gone = list(before[path])
        signals.append(new_signal(manager, "InterfacesRemoved", "oas", (path, gone)))
    for path, interfaces in after.items():
        if path not in before:
            added = {name: variants(name, values) for name, values in interfaces.items()}
            signals.append(new_signal(manager, "InterfacesAdded", "oa{sa{sv}}", (path, added)))
            continue
        for name, values in interfaces.items():
            changed = _changed(BY_NAME[name], before[path][name], values)
            if changed:
                emitter = DBusAddress(path, interface=names.PROPERTIES)
                body = (name, variants(name, changed), list[str]())
                signals.append(new_signal(emitter, "PropertiesChanged", "sa{sv}as", body))
    return signals


def _changed(interface: Interface, before: Values, after: Values) -> Values:
    told = {prop.name for prop in interface.properties if prop.emits == "true"}
    return {k: v for k, v in after.items() if k in told and before.get(k) != v}
