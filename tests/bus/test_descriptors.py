"""Descriptors in messages, and what hostile callers do with them."""

import gc
import os
import time
from pathlib import Path

import pytest
from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.bus.served import Served
from validator_supervisor.bus import names
from validator_supervisor.cli import main

MANAGER = DBusAddress(names.ROOT, names.SERVICE, names.MANAGER)
PING = DBusAddress(names.ROOT, names.SERVICE, names.PEER)


@pytest.fixture
def caller(served: Served) -> DBusConnection:
    return open_dbus_connection(served.address, enable_fds=True)


def descriptors() -> int:
    # What earlier tests have left to the collector is not ours to count.
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_serves(caller: DBusConnection) -> None:
    reply = caller.send_and_get_reply(new_method_call(PING, "Ping"), timeout=5)
    assert reply.header.message_type is MessageType.method_return


def test_a_descriptor_arrives(caller: DBusConnection, served: Served) -> None:
    reading, writing = os.pipe()
    message = new_method_call(MANAGER, "UnlockFd", "h", (reading,))
    reply = caller.send_and_get_reply(message, timeout=5)
    assert reply.header.message_type is MessageType.method_return
    os.close(reading)
    os.close(writing)
    ((path, method, _),) = served.did
    assert (path, method) == (names.ROOT, "UnlockFd")


def test_what_is_not_taken_is_closed(caller: DBusConnection) -> None:
    reading, writing = os.pipe()
    calls = [
        new_method_call(MANAGER, "UnlockFd", "h", (reading,)),
        new_method_call(MANAGER, "UnlockFd", "hh", (reading, reading)),
        new_method_call(MANAGER, "UnlockFd", "ah", ([reading] * 10,)),
        new_method_call(MANAGER, "Lock", "h", (reading,)),
        new_method_call(MANAGER, "None", "v", (("h", reading),)),
        new_method_call(PING, "Ping", "(h)", ((reading,),)),
    ]
    assert_serves(caller)
    before = descriptors()
    for _ in range(20):
        for message in calls:
            caller.send_and_get_reply(message, timeout=5)
    assert_serves(caller)
    assert descriptors() == before
    os.close(reading)
    os.close(writing)


def test_more_than_the_bus_permits_reach_nobody(caller: DBusConnection, served: Served) -> None:
    reading, writing = os.pipe()
    before = descriptors()
    message = new_method_call(MANAGER, "UnlockFd", "ah", ([reading] * 100,))
    with pytest.raises((OSError, ConnectionError, EOFError, TimeoutError)):
        caller.send_and_get_reply(message, timeout=2)
    with open_dbus_connection(served.address) as other:
        assert_serves(other)
    assert descriptors() <= before
    os.close(reading)
    os.close(writing)


def test_a_descriptor_that_is_not_there(caller: DBusConnection, served: Served) -> None:
    """The bus passes on a message that names descriptor 7 of none."""
    forged = new_method_call(MANAGER, "UnlockFd", "u", (7,))
    raw = forged.serialise(serial=next(caller.outgoing_serial))
    signature = b"\1u\0"
    assert raw.count(signature) == 1
    caller.sock.sendall(raw.replace(signature, b"\1h\0"))
    assert_serves(caller)
    assert served.did == []
    # Also right behind one that has some.
    reading, writing = os.pipe()
    os.write(writing, b"x")
    reply = caller.send_and_get_reply(
        new_method_call(MANAGER, "UnlockFd", "h", (reading,)), timeout=5
    )
    assert reply.header.message_type is MessageType.method_return
    assert [method for _, method, _ in served.did] == ["UnlockFd"]
    os.close(reading)
    os.close(writing)


def test_the_command_line_hands_a_passphrase_over(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
    monkeypatch.setattr("validator_supervisor.cli.secret.guard", lambda: None)
    reading, writing = os.pipe()
    os.write(writing, b"correct horse\n")
    os.close(writing)
    assert main.main(["unlock", "--passphrase-fd", str(reading)]) == 0
    os.close(reading)
    assert served.passphrases == [b"correct horse"]
    assert capsys.readouterr().out == "unlocked\n"
    assert "horse" not in " ".join(served.audited)
    assert main.main(["lock"]) == 0
    assert main.main(["unlock", "--passphrase-fd", "999"]) == 1
    assert "descriptor 999: Bad file descriptor" in capsys.readouterr().err


def test_a_refusal_is_told_with_its_reason(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
    monkeypatch.setattr("validator_supervisor.cli.secret.guard", lambda: None)
    for words, shown in ((b"wrong\n", "the passphrase is wrong"), (b"\n", "no passphrase")):
        reading, writing = os.pipe()
        os.write(writing, words)
        os.close(writing)
        began = time.monotonic()
        assert main.main(["unlock", "--passphrase-fd", str(reading)]) == 1
        assert time.monotonic() - began < 5
        assert shown in capsys.readouterr().err
        os.close(reading)


def error_name(reply: Message) -> object:
    return reply.header.fields[HeaderFields.error_name]


def test_the_signature_is_checked(caller: DBusConnection, served: Served) -> None:
    reply = caller.send_and_get_reply(new_method_call(MANAGER, "UnlockFd", "s", ("x",)), timeout=5)
    assert error_name(reply) == "org.freedesktop.DBus.Error.InvalidArgs"
    assert served.did == []
