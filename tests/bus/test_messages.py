"""What busctl does not say, and what a client hears."""

from collections.abc import Callable

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    MatchRule,
    Message,
    MessageFlag,
    MessageType,
    message_bus,
    new_method_call,
)
from jeepney.io.blocking import DBusConnection
from jeepney.wrappers import unwrap_msg

from tests.bus.served import Served, objects
from validator_supervisor.bus import names
from validator_supervisor.bus.interface import NODE, VALIDATOR
from validator_supervisor.bus.model import UnitState
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.status import report
from validator_supervisor.errors import SupervisorError

MAIN = names.validator_path("main")
LOCAL = names.node_path("local")
Send = Callable[[Message], Message]


def call(path: str, interface: str | None, member: str) -> Message:
    return new_method_call(DBusAddress(path, names.SERVICE, interface), member)


def test_a_call_without_an_interface_is_refused(send: Send, served: Served) -> None:
    # The bus policy speaks of interfaces: such a call would go past it.
    reply = send(call(MAIN, None, "Start"))
    assert reply.header.message_type is MessageType.error
    error = reply.header.fields[HeaderFields.error_name]
    assert error == "org.freedesktop.DBus.Error.UnknownInterface"
    assert reply.body == ("the call names no interface",)
    assert served.did == []


def test_an_error_has_the_name_of_its_code(send: Send) -> None:
    reply = send(call(LOCAL, NODE.name, "Reconnect"))
    assert reply.header.fields[HeaderFields.error_name] == f"{names.ERROR}NoTunnel"
    assert reply.body == ("node local is this host",)


def test_who_wants_no_reply_gets_none(connection: DBusConnection, served: Served) -> None:
    for path in (MAIN, "/none"):
        message = call(path, VALIDATOR.name, "Start")
        message.header.flags = MessageFlag.no_reply_expected
        connection.send(message)
    # Answers come in order: the next one is that of the ping.
    ping = call(MAIN, names.PEER, "Ping")
    connection.send(ping, serial=4711)
    answer = connection.receive(timeout=5)
    while answer.header.message_type is MessageType.signal:  # from the bus itself
        answer = connection.receive(timeout=5)
    assert answer.header.message_type is MessageType.method_return
    assert answer.header.fields[HeaderFields.reply_serial] == 4711
    assert served.did == [(MAIN, "Start", ())]


def test_a_signal_with_the_name_of_a_method_does_nothing(
    connection: DBusConnection, served: Served, send: Send
) -> None:
    message = call(MAIN, VALIDATOR.name, "Start")
    message.header.message_type = MessageType.signal
    connection.send(message)
    assert send(call(MAIN, names.PEER, "Ping")).body == ()
    assert served.did == []


@pytest.fixture
def heard(connection: DBusConnection) -> Callable[[], Message]:
    rule = MatchRule(type="signal", sender=names.SERVICE)
    unwrap_msg(connection.send_and_get_reply(message_bus.AddMatch(rule)))

    def next_signal() -> Message:
        while True:
            message: Message = connection.receive(timeout=5)
            if message.header.fields.get(HeaderFields.path, "").startswith(names.ROOT):
                return message

    return next_signal


Heard = Callable[[], Message]


def test_changed_properties_are_heard(served: Served, heard: Heard) -> None:
    served.become(objects(main=UnitState("active", "running", "ä →", 2**63, 2**32 - 1, -1)))
    signal = heard()
    assert signal.header.fields[HeaderFields.path] == MAIN
    assert signal.header.fields[HeaderFields.interface] == names.PROPERTIES
    assert signal.header.fields[HeaderFields.member] == "PropertiesChanged"
    interface, changed, invalidated = signal.body
    assert (interface, invalidated) == (VALIDATOR.name, [])
    assert changed == {
        "ActiveState": ("s", "active"),
        "SubState": ("s", "running"),
        "StatusText": ("s", "ä →"),
        "StartProblem": ("s", ""),
        "SinceUSec": ("t", 2**63),
        "Restarts": ("u", 2**32 - 1),
        "LastExitStatus": ("i", -1),
    }


def test_objects_that_come_and_go_are_heard(served: Served, heard: Heard, send: Send) -> None:
    everything = served.objects
    served.become({path: item for path, item in everything.items() if path != MAIN})
    removed = heard()
    assert removed.header.fields[HeaderFields.member] == "InterfacesRemoved"
    assert removed.header.fields[HeaderFields.path] == names.ROOT
    assert removed.body == (MAIN, [VALIDATOR.name])
    gone = send(call(MAIN, VALIDATOR.name, "Start"))
    assert gone.header.message_type is MessageType.error
    served.become(everything)
    added = heard()
    assert added.header.fields[HeaderFields.member] == "InterfacesAdded"
    path, interfaces = added.body
    assert path == MAIN
    assert interfaces[VALIDATOR.name]["Network"] == ("s", "dev")
    assert send(call(MAIN, VALIDATOR.name, "Start")).body == (True,)


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
    return Client()


def test_command_line_sees_every_object(client: Client, served: Served) -> None:
    assert client.objects() == served.objects
    shown = report(client.objects(), lambda unit: f"{unit} said so")
    assert [problem.subject for problem in shown.problems] == [
        "node far-away", "node local", "validator 0a_b", "validator main",
    ]  # fmt: skip


def test_command_line_shows_errors_of_the_bus(client: Client) -> None:
    assert client.call(MAIN, VALIDATOR.name, "Stop") == (True,)
    with pytest.raises(SupervisorError) as caught:
        client.call(LOCAL, NODE.name, "Reconnect")
    assert caught.value.code == f"{names.ERROR}NoTunnel"
    assert caught.value.message == "node local is this host"


def test_command_line_without_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    with pytest.raises(SupervisorError) as caught:
        Client()
    assert caught.value.code == "NoBus"


def test_command_line_without_a_controller(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    with pytest.raises(SupervisorError) as caught:
        Client().objects()
    assert caught.value.code == "org.freedesktop.DBus.Error.ServiceUnknown"
