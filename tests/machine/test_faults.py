"""What must not break the controller, nor anything through it: floods, giants, the bus, systemd."""

from collections.abc import Iterator

import pytest
from lab import images
from lab.world import World

BUS = "org.validatorsupervisor1"
SLEEPER = "/org/validatorsupervisor1/validator/sleeper"
VALIDATOR = f"{BUS}.Validator"
CONTROLLER = "validator-supervisor.service"
UNIT = "validator@sleeper.service"
ANNOUNCED = [
    r"Main process exited|Failed with result|no connection to the bus|has closed the connection",
    # As many as the bus lets one user have, and more.
    r"dbus-daemon.*(max_connections|limit|maximum number)",
]

# Connections of argv[1] kind ("silent": says nothing at all, "idle": has said Hello), argv[2] of
# them; says so in the file argv[3] and keeps them until it is killed.
CONNECT = """
import socket, sys, time
from jeepney.io.blocking import open_dbus_connection
held = []
for number in range(int(sys.argv[2])):
    try:
        if sys.argv[1] == "silent":
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(1)
            one.connect("/run/dbus/system_bus_socket")
        else:
            one = open_dbus_connection("SYSTEM")
        held.append(one)
    except OSError:
        break
open(sys.argv[3], "w").write(str(len(held)))
time.sleep(1000)
"""
# argv[1] connections that call once and go, some of them before their answer.
COME_AND_GO = """
import sys
from jeepney import DBusAddress, Properties
from jeepney.io.blocking import open_dbus_connection
sleeper = DBusAddress("/org/validatorsupervisor1/validator/sleeper",
    "org.validatorsupervisor1", "org.validatorsupervisor1.Validator")
answered = 0
for number in range(int(sys.argv[1])):
    bus = open_dbus_connection("SYSTEM")
    if number % 3:
        answered += bus.send_and_get_reply(Properties(sleeper).get("Name"), timeout=20).body[0][1] == "sleeper"
    else:
        bus.send(Properties(sleeper).get_all())
    bus.close()
print(answered)
"""
# One call whose argument is argv[1] bytes long; prints the name of the error and its length.
GIANT = """
import sys
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
sleeper = DBusAddress("/org/validatorsupervisor1/validator/sleeper",
    "org.validatorsupervisor1", sys.argv[2])
bus = open_dbus_connection("SYSTEM")
try:
    reply = bus.send_and_get_reply(
        new_method_call(sleeper, sys.argv[3], sys.argv[4], ("x" * int(sys.argv[1]),) * len(sys.argv[4])),
        timeout=60)
    print(reply.header.fields[4], len(reply.body[0]))
except (OSError, EOFError) as failure:
    print("closed", type(failure).__name__)
"""
# argv[1] reads from each of eight connections, none waiting for an answer before it asks again.
FLOOD = """
import sys
from jeepney import DBusAddress, Properties
from jeepney.io.blocking import open_dbus_connection
sleeper = DBusAddress("/org/validatorsupervisor1/validator/sleeper",
    "org.validatorsupervisor1", "org.validatorsupervisor1.Validator")
buses = [open_dbus_connection("SYSTEM") for _ in range(8)]
left, answered = int(sys.argv[1]), 0
while left > 0:
    for bus in buses:
        for _ in range(100):
            bus.send(Properties(sleeper).get("ActiveState"))
    for bus in buses:
        for _ in range(100):
            while (reply := bus.receive(timeout=60)).header.message_type.name != "method_return":
                pass
            answered += reply.body[0][1] == "active"
    left -= 800
print(answered)
"""


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release that runs one command, with an operator."""
    with World.booted(request.param) as booted:
        booted.validator("sleeper", kind="command", command=["/usr/bin/sleep", "infinity"])
        booted.apply()
        booted.host.systemctl("start", "validator.target")
        booted.host.wait_for_unit(UNIT)
        for name in ("olga", "oda", "otto"):
            booted.host.run("useradd", "--groups", "validator-operators", name)
        for name, text in (
            ("connect", CONNECT),
            ("come", COME_AND_GO),
            ("giant", GIANT),
            ("flood", FLOOD),
        ):
            booted.host.write(f"/usr/local/lib/{name}.py", text)
        yield booted
        assert booted.host.problems(ANNOUNCED) == []


def state(world: World, user: str = "olga") -> str:
    done = world.host.as_user(
        user,
        "busctl",
        "--timeout=10",
        "get-property",
        BUS,
        SLEEPER,
        VALIDATOR,
        "ActiveState",
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()


def memory(world: World) -> int:
    """Return the memory that is the controller's alone, kB; what is shared depends on others."""
    pid = world.host.property(CONTROLLER, "MainPID")
    for line in world.host.output("cat", f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty")


def pids(world: World) -> tuple[str, str]:
    return world.host.property(CONTROLLER, "MainPID"), world.host.property(UNIT, "MainPID")


@pytest.mark.parametrize("kind", ["silent", "idle"])
def test_five_hundred_connections_that_never_speak(world: World, kind: str) -> None:
    host, before = world.host, pids(world)
    for name in ("oda", "otto", "nobody"):
        host.run("rm", "-f", f"/var/tmp/held-{name}")
        host.run("systemd-run", "-q", f"--unit=hold-{name}", f"--uid={name}", "--collect",
                 "--property=LimitNOFILE=1000", "python3", "/usr/local/lib/connect.py", kind, "167",
                 f"/var/tmp/held-{name}")  # fmt: skip
    held = [host.wait_for_text(f"/var/tmp/held-{name}") for name in ("oda", "otto", "nobody")]
    if kind == "idle":
        assert sum(map(int, held)) == 501
        assert state(world) == 's "active"'
    host.systemctl("stop", *(f"hold-{name}.service" for name in ("oda", "otto", "nobody")))
    host.wait("an answer", lambda: state(world) == 's "active"')
    assert pids(world) == before


def test_a_thousand_that_come_and_go(world: World) -> None:
    before, size = pids(world), memory(world)
    done = world.host.as_user("olga", "python3", "/usr/local/lib/come.py", "1000")
    assert done.stdout.strip() == str(1000 - 334)
    assert pids(world) == before
    assert memory(world) < size + 1000
    descriptors = world.host.output("ls", f"/proc/{before[0]}/fd").split()
    assert len(descriptors) < 15


@pytest.mark.parametrize("size", [1_000, 5_000_000, 30_000_000])
@pytest.mark.parametrize(
    ("interface", "member", "signature"),
    [
        (VALIDATOR, "Prefer", "s"),
        (VALIDATOR, "Start", "s"),
        ("org.freedesktop.DBus.Properties", "Get", "ss"),
    ],
)
def test_messages_up_to_the_limit(
    world: World, size: int, interface: str, member: str, signature: str
) -> None:
    before = pids(world)
    done = world.host.as_user(
        "olga", "python3", "/usr/local/lib/giant.py", str(size), interface, member, signature
    )
    name, length = done.stdout.split()
    if size < 10_000_000:
        assert name != "closed"
    if name != "closed":  # the bus's own limit
        assert name in (f"{BUS}.Error.UnknownNode", "org.freedesktop.DBus.Error.InvalidArgs",
                        "org.freedesktop.DBus.Error.UnknownInterface",
                        "org.freedesktop.DBus.Error.LimitsExceeded")  # fmt: skip
        assert int(length) <= 500
    assert state(world) == 's "active"'
    assert pids(world) == before


def test_memory_is_the_same_after_a_hundred_thousand_calls(world: World) -> None:
    host = world.host
    # What the giants of other tests have made of its memory is not the question here.
    host.systemctl("restart", CONTROLLER)
    host.as_user("olga", "python3", "/usr/local/lib/flood.py", "8000")
    before, size = pids(world), memory(world)
    done = host.run("setpriv", "--reuid=oda", f"--regid={host.output('id', '-g', 'oda')}", "--init-groups",
                    "python3", "/usr/local/lib/flood.py", "100000", seconds=240)  # fmt: skip
    assert int(done.stdout) >= 100_000
    assert pids(world) == before
    assert memory(world) < size + 500


def test_systemd_executed_anew(world: World) -> None:
    host, before = world.host, pids(world)
    host.systemctl("daemon-reexec")
    assert state(world) == 's "active"'
    # Its signals still come.
    host.as_user("olga", "busctl", "call", BUS, SLEEPER, VALIDATOR, "Stop")
    host.wait("the stop", lambda: state(world) == 's "inactive"')
    host.systemctl("start", UNIT)
    host.wait("the start", lambda: state(world) == 's "active"')
    assert pids(world)[0] == before[0]


def test_the_bus_started_anew(world: World) -> None:
    host, before = world.host, pids(world)
    # Not every release lets an operator do it; a crash does it anywhere.
    host.run("systemctl", "kill", "--signal=KILL", "dbus.service")
    host.wait("an answer", lambda: state(world) == 's "active"')
    assert pids(world)[1] == before[1]
    host.as_user("olga", "busctl", "call", BUS, SLEEPER, VALIDATOR, "Stop")
    host.wait("the stop", lambda: state(world) == 's "inactive"')
    host.as_user("olga", "busctl", "call", BUS, SLEEPER, VALIDATOR, "Start")
    host.wait("the start", lambda: state(world) == 's "active"')


def enabled(world: World) -> str:
    get = ("get-property", BUS, SLEEPER, VALIDATOR, "Enabled")
    return world.host.run("busctl", "--timeout=10", *get, check=False).stdout.strip()


def test_the_controller_killed_at_any_time(world: World) -> None:
    host = world.host
    for delay in ("0", "0.02", "0.05", "0.1", "0.2", "0.4"):
        wanted = "false" if enabled(world) == "b true" else "true"
        host.run("busctl", "call", BUS, SLEEPER, VALIDATOR, "SetEnabled", "b", wanted)
        host.run("sleep", delay)
        host.run("systemctl", "kill", "--signal=KILL", CONTROLLER)
        # What was accepted is not lost.
        host.wait("the change", lambda wanted=wanted: enabled(world) == f"b {wanted}")  # type: ignore[misc]
        host.wait_for_unit(UNIT, "active" if wanted == "true" else "inactive")
    assert enabled(world) == "b true"
