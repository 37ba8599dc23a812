import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney import (
    DBusAddress,
    Endianness,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    Parser,
    new_method_call,
    new_signal,
)

from validator_supervisor import journal
from validator_supervisor.applied import Applied
from validator_supervisor.bus import dispatch, interface, model, names
from validator_supervisor.bus.dispatch import Caller, Dispatcher, changes
from validator_supervisor.bus.interface import INTERFACES, MANAGER, NODE, VALIDATOR
from validator_supervisor.bus.model import Objects, World
from validator_supervisor.errors import SupervisorError

MAIN = names.validator_path("main")
HELSINKI = names.node_path("helsinki")
FREEDESKTOP = "org.freedesktop.DBus.Error."


class Bus:
    """A dispatcher, what it was told to do, and what was audited."""

    def __init__(self, objects: Objects) -> None:
        self.did: list[tuple[str, str, tuple[object, ...]]] = []
        self.audited: list[dict[str, str]] = []
        self.result: tuple[object, ...] = (True,)
        self.callers = {":1.5": Caller(1005, operates=True)}
        self.raises: Exception | None = None
        self.dispatcher = Dispatcher(self.act, self.callers.__getitem__, "0123")
        self.dispatcher.objects = objects

    def act(self, path: str, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        self.did.append((path, method, arguments))
        if self.raises:
            raise self.raises
        return self.result

    def audit(self, message: str, **fields: str) -> None:
        self.audited.append({"MESSAGE": message, **fields})

    def ask(self, message: Message) -> Message | None:
        message.header.fields[HeaderFields.sender] = ":1.5"
        reply = self.dispatcher.answer(message)
        # What cannot be put on the wire would end the connection.
        return None if reply is None else over_the_wire(reply)

    def call(
        self, path: str, interface: str | None, member: str, signature: str = "", *body: object
    ) -> tuple[object, ...]:
        reply = self.ask(call(path, interface, member, signature, *body))
        assert reply
        if reply.header.message_type is MessageType.error:
            return (str(reply.header.fields[HeaderFields.error_name]), *reply.body)
        return tuple(reply.body)


def call(
    path: str, interface: str | None, member: str, signature: str = "", *body: object
) -> Message:
    address = DBusAddress(path, bus_name=names.SERVICE, interface=interface)
    return over_the_wire(new_method_call(address, member, signature or None, body))


def over_the_wire(message: Message) -> Message:
    message.header.endianness = Endianness.little
    parser = Parser()
    parser.add_data(message.serialise(serial=7))
    parsed = parser.get_next_message()
    assert isinstance(parsed, Message)
    return parsed


@pytest.fixture
def objects(example: Applied) -> Objects:
    return model.objects(World(example))


@pytest.fixture
def bus(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> Bus:
    bus = Bus(objects)
    monkeypatch.setattr(journal, "audit", bus.audit)
    return bus


def test_method_is_carried_out_and_audited(bus: Bus) -> None:
    assert bus.call(MAIN, VALIDATOR.name, "Start") == (True,)
    assert bus.did == [(MAIN, "Start", ())]
    assert bus.audited == [
        {
            "MESSAGE": f"Start() of {MAIN} by uid 1005: done",
            "VALIDATOR_METHOD": "Start",
            "VALIDATOR_ARGUMENTS": "",
            "VALIDATOR_OBJECT": MAIN,
            "VALIDATOR_CALLER_UID": "1005",
            "VALIDATOR_RESULT": "done",
        }
    ]


def test_expected_failure_is_an_error_of_ours_and_audited(bus: Bus) -> None:
    bus.raises = SupervisorError("Halted", "is halted", "resume it")
    assert bus.call(MAIN, VALIDATOR.name, "Start") == (
        "org.validatorsupervisor1.Error.Halted",
        "is halted (resume it)",
    )
    assert bus.audited[0]["VALIDATOR_RESULT"] == "refused"


def test_unexpected_failure_is_logged_and_the_next_call_answered(
    bus: Bus, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.raises = RuntimeError("oops")
    assert bus.call(MAIN, VALIDATOR.name, "Start") == (f"{FREEDESKTOP}Failed", "oops")
    assert "RuntimeError: oops" in capsys.readouterr().err
    bus.raises = None
    assert bus.call(MAIN, VALIDATOR.name, "Start") == (True,)


def test_who_only_looks_changes_nothing_whatever_the_bus_lets_through(bus: Bus) -> None:
    bus.callers[":1.5"] = Caller(1006, operates=False)
    error, words = bus.call(MAIN, VALIDATOR.name, "Prefer", "s", "a\nb")
    assert error == f"{FREEDESKTOP}AccessDenied"
    assert words == "for root and validator-operators"
    assert bus.did == []
    assert bus.audited[0]["MESSAGE"] == f"Prefer(a?b) of {MAIN} by uid 1006: refused"
    assert bus.audited[0]["VALIDATOR_ARGUMENTS"] == "a?b"
    assert bus.call(MAIN, names.PROPERTIES, "Get", "ss", VALIDATOR.name, "Name")


def test_words_of_an_error_are_a_line_and_no_longer(bus: Bus) -> None:
    bus.raises = SupervisorError("UnknownNode", "x\n" * 5_000_000)
    _, words = bus.call(MAIN, VALIDATOR.name, "Prefer", "s", "y" * 1_000_000)
    assert words == "x?" * (dispatch.WORDS_MAX // 2)
    assert len(bus.audited[0]["MESSAGE"]) < dispatch.WORDS_MAX + 200


def test_nothing_is_done_for_a_caller_who_has_left(bus: Bus) -> None:
    message = call(MAIN, VALIDATOR.name, "Start")
    message.header.fields[HeaderFields.sender] = ":1.99"
    reply = bus.dispatcher.answer(message)
    assert reply
    assert reply.header.message_type is MessageType.error
    assert bus.did == []


def test_nobody_is_answered_who_wants_no_answer(bus: Bus) -> None:
    message = call(MAIN, VALIDATOR.name, "Start")
    message.header.flags = MessageFlag.no_reply_expected
    assert bus.ask(message) is None
    assert bus.did == [(MAIN, "Start", ())]
    message = call("/none", VALIDATOR.name, "Start")
    message.header.flags = MessageFlag.no_reply_expected
    assert bus.ask(message) is None


def test_other_messages_are_not_answered(bus: Bus) -> None:
    signal = new_signal(DBusAddress(MAIN, interface=VALIDATOR.name), "Start")
    assert bus.dispatcher.answer(signal) is None
    assert bus.did == []


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "body", "error"),
    [
        (MAIN, None, "Start", "", (), "UnknownInterface"),
        (MAIN, "org.freedesktop.systemd1.Manager", "Start", "", (), "UnknownInterface"),
        (MAIN, NODE.name, "Reconnect", "", (), "UnknownInterface"),
        (HELSINKI, VALIDATOR.name, "Start", "", (), "UnknownInterface"),
        (names.ROOT, VALIDATOR.name, "Start", "", (), "UnknownInterface"),
        (f"{names.ROOT}/validator", VALIDATOR.name, "Start", "", (), "UnknownInterface"),
        ("/", MANAGER.name, "Reload", "", (), "UnknownInterface"),
        (MAIN, names.OBJECT_MANAGER, "GetManagedObjects", "", (), "UnknownInterface"),
        (MAIN, VALIDATOR.name, "Destroy", "", (), "UnknownMethod"),
        (MAIN, VALIDATOR.name, "start", "", (), "UnknownMethod"),
        (MAIN, names.PROPERTIES, "Start", "", (), "UnknownMethod"),
        (names.validator_path("none"), VALIDATOR.name, "Start", "", (), "UnknownObject"),
        ("/org/validatorsupervisor1x", VALIDATOR.name, "Start", "", (), "UnknownObject"),
        (f"{MAIN}/x", VALIDATOR.name, "Start", "", (), "UnknownObject"),
        (MAIN, VALIDATOR.name, "Start", "s", ("x",), "InvalidArgs"),
        (MAIN, VALIDATOR.name, "Start", "b", (True,), "InvalidArgs"),
        (MAIN, names.PROPERTIES, "Get", "s", ("x",), "InvalidArgs"),
        (MAIN, names.PROPERTIES, "Get", "su", (VALIDATOR.name, 5), "InvalidArgs"),
        (MAIN, names.PROPERTIES, "Get", "ss", (VALIDATOR.name, "None"), "UnknownProperty"),
        (MAIN, names.PROPERTIES, "Get", "ss", (NODE.name, "Host"), "UnknownInterface"),
        (MAIN, names.PROPERTIES, "Get", "ss", ("", "Host"), "UnknownProperty"),
        (MAIN, names.PROPERTIES, "GetAll", "s", ("a.B",), "UnknownInterface"),
        (MAIN, names.PROPERTIES, "Set", "ssv", (VALIDATOR.name, "Enabled", ("b", False)),
         "PropertyReadOnly"),
        (MAIN, names.PROPERTIES, "Set", "ssv", (VALIDATOR.name, "None", ("b", False)),
         "UnknownProperty"),
    ],
)  # fmt: skip
def test_refused_calls(
    bus: Bus,
    path: str,
    interface: str | None,
    member: str,
    signature: str,
    body: tuple[object, ...],
    error: str,
) -> None:
    assert bus.call(path, interface, member, signature, *body)[0] == FREEDESKTOP + error
    assert bus.did == []
    assert bus.audited == []


def test_properties_have_the_type_of_the_table(bus: Bus) -> None:
    get = ("Get", "ss", VALIDATOR.name)
    assert bus.call(MAIN, names.PROPERTIES, *get, "Enabled") == (("b", True),)
    assert bus.call(MAIN, names.PROPERTIES, *get, "PublicKeys") == (("as", []),)
    assert bus.call(MAIN, names.PROPERTIES, "Get", "ss", "", "Kind") == (("s", "ethereum"),)
    (every,) = bus.call(MAIN, names.PROPERTIES, "GetAll", "s", VALIDATOR.name)
    assert isinstance(every, dict)
    assert {name: kind for name, (kind, _) in every.items()} == {
        prop.name: prop.signature for prop in VALIDATOR.properties
    }
    assert bus.call(MAIN, names.PROPERTIES, "GetAll", "s", "") == (every,)
    assert bus.call(MAIN, names.PROPERTIES, "GetAll", "s", names.PEER) == ({},)


def test_managed_objects_are_all_but_the_root(bus: Bus, objects: Objects) -> None:
    (managed,) = bus.call(names.ROOT, names.OBJECT_MANAGER, "GetManagedObjects")
    assert isinstance(managed, dict)
    assert {path: list(interfaces) for path, interfaces in managed.items()} == {
        path: list(interfaces) for path, interfaces in objects.items() if path != names.ROOT
    }
    assert managed[HELSINKI][NODE.name]["Host"] == ("s", "hel.example.net")


def test_introspection_leads_from_the_top_to_each_object(bus: Bus, objects: Objects) -> None:
    seen = {}
    todo = ["/"]
    while todo:
        path = todo.pop()
        (xml,) = bus.call(path, names.INTROSPECTABLE, "Introspect")
        root = ET.fromstring(str(xml))
        own = [item.attrib["name"] for item in root.findall("interface")]
        if set(own) & {table.name for table in INTERFACES}:
            seen[path] = own
        todo += [f"{path.rstrip('/')}/{child.attrib['name']}" for child in root.findall("node")]
    assert set(seen) == set(objects)
    assert names.OBJECT_MANAGER in seen[names.ROOT]
    assert names.OBJECT_MANAGER not in seen[MAIN]
    assert VALIDATOR.name in seen[MAIN]


def test_peer(bus: Bus) -> None:
    assert bus.call(MAIN, names.PEER, "Ping") == ()
    assert bus.call(names.ROOT, names.PEER, "GetMachineId") == ("0123",)


@given(
    path=st.sampled_from(["/", "/x", MAIN, names.ROOT]),
    interface=st.none() | st.sampled_from([*(t.name for t in INTERFACES), names.PROPERTIES, "a.b"]),
    member=st.sampled_from(["Start", "Get", "GetAll", "Set", "Introspect", "X"]),
    arguments=st.sampled_from(
        [("", ()), ("ss", ("", "\u2028")), ("ssv", ("", "x", ("s", ""))), ("ay", (b"\0",)),
         ("s", ("\x1b",)), ("a{sv}", ({},)), ("(ss)", (("a", "b"),))]
    ),
)  # fmt: skip
def test_any_call_has_one_answer(
    bus: Bus,
    path: str,
    interface: str | None,
    member: str,
    arguments: tuple[str, tuple[object, ...]],
) -> None:
    signature, body = arguments
    reply = bus.ask(call(path, interface, member, signature, *body))
    assert reply
    assert reply.header.fields[HeaderFields.reply_serial] == 7
    assert reply.header.fields[HeaderFields.destination] == ":1.5"
    assert reply.header.fields.get(HeaderFields.error_name) != f"{FREEDESKTOP}Failed"


Changed = Callable[..., Objects]


@pytest.fixture
def changed(objects: Objects) -> Changed:
    def changed(path: str, interface: str, **values: object) -> Objects:
        return {**objects, path: {interface: {**objects[path][interface], **values}}}

    return changed


def test_no_difference_no_signal(objects: Objects, changed: Changed) -> None:
    assert changes(objects, objects) == []
    # What changes all the time, and what never does, is not told.
    assert changes(objects, changed(HELSINKI, NODE.name, BeaconLatencyUSec=7)) == []
    assert changes(objects, changed(HELSINKI, NODE.name, Name="x")) == []


def test_changed_properties_are_told_alone(objects: Objects, changed: Changed) -> None:
    after = changed(HELSINKI, NODE.name, TunnelState="connected", TunnelSinceUSec=5)
    (signal,) = changes(objects, after)
    parsed = over_the_wire(signal)
    assert parsed.header.fields[HeaderFields.path] == HELSINKI
    assert parsed.header.fields[HeaderFields.interface] == names.PROPERTIES
    assert parsed.header.fields[HeaderFields.member] == "PropertiesChanged"
    expected = {"TunnelState": ("s", "connected"), "TunnelSinceUSec": ("t", 5)}
    assert parsed.body == (NODE.name, expected, [])


def test_new_and_removed_objects_are_told_by_the_root(objects: Objects) -> None:
    fewer = {path: found for path, found in objects.items() if path != MAIN}
    (removed,) = changes(objects, fewer)
    (added,) = changes(fewer, objects)
    for signal, member in ((removed, "InterfacesRemoved"), (added, "InterfacesAdded")):
        parsed = over_the_wire(signal)
        assert parsed.header.fields[HeaderFields.path] == names.ROOT
        assert parsed.header.fields[HeaderFields.interface] == names.OBJECT_MANAGER
        assert parsed.header.fields[HeaderFields.member] == member
        assert parsed.body[0] == MAIN
    assert over_the_wire(removed).body[1] == [VALIDATOR.name]
    assert over_the_wire(added).body[1][VALIDATOR.name]["Kind"] == ("s", "ethereum")


def test_standard_methods_are_those_of_the_published_xml() -> None:
    root = ET.fromstring(interface.introspection(interface.OBJECT_MANAGER_XML, []))
    said = {
        (owner.attrib["name"], method.attrib["name"]): tuple(
            "".join(a.attrib["type"] for a in method if a.attrib["direction"] == way)
            for way in ("in", "out")
        )
        for owner in root.findall("interface")
        for method in owner.findall("method")
    }
    assert said == {key: (m.signature, m.reply) for key, m in dispatch.STANDARD.items()}
