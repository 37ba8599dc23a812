"""The controller on the real bus: what it says, who may call it, and what it may do itself."""

import json
from collections.abc import Iterator

import pytest
from lab import images
from lab.world import World

from validator_supervisor.bus.interface import MANAGER as MANAGER_INTERFACE
from validator_supervisor.bus.interface import NODE as NODE_INTERFACE
from validator_supervisor.bus.interface import VALIDATOR as VALIDATOR_INTERFACE
from validator_supervisor.bus.interface import Method

BUS = "org.validatorsupervisor1"
ROOT = "/org/validatorsupervisor1"
SLEEPER = f"{ROOT}/validator/sleeper"
UNIT = "validator@sleeper.service"
VALIDATOR = f"{BUS}.Validator"
PEOPLE = {
    "olga": "validator-operators",
    "victor": "validator-viewers",
    "remo": "validator-operators,validator-remote",
    "rita": "validator-viewers,validator-remote",
}
OBJECTS = (
    (ROOT, MANAGER_INTERFACE),
    (f"{ROOT}/node/local", NODE_INTERFACE),
    (SLEEPER, VALIDATOR_INTERFACE),
)
ANNOUNCED = [r"Main process exited|Failed with result"]


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release that runs one command, with people of each kind."""
    with World.booted(request.param) as booted:
        booted.config["nodes"] = {"local": {}}
        booted.validator("sleeper", kind="command", command=["/usr/bin/sleep", "infinity"])
        booted.apply()
        booted.host.systemctl("start", "validator.target")
        booted.host.wait_for_unit(UNIT)
        for user, groups in PEOPLE.items():
            booted.host.run("useradd", "--groups", groups, user)
        yield booted
        assert booted.host.problems(ANNOUNCED) == []


def call(world: World, user: str, *argv: str) -> tuple[bool, str]:
    """Call busctl as somebody; (whether it worked, what it printed)."""
    done = world.host.as_user(user, "busctl", *argv, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def test_the_tree_and_the_published_interfaces(world: World) -> None:
    host = world.host
    tree = host.output("busctl", "tree", "--list", BUS).split()
    assert {ROOT, SLEEPER} <= set(tree)
    shown = host.output("busctl", "introspect", BUS, SLEEPER, VALIDATOR)
    assert "ActiveState" in shown
    assert ".Start" in shown
    owner = host.output("busctl", "status", BUS)
    assert "Unit=validator-supervisor.service" in owner
    assert host.property("validator-supervisor.service", "User") == "validator-supervisor"


def bus_arguments(method: Method) -> list[str]:
    """Return arguments of a method's signature for busctl."""
    values = {"b": "true", "s": "nobody-s-node"}
    return [method.signature, *map(values.__getitem__, method.signature)] if method.takes else []


# busctl(1) of Debian 12 sends no descriptors: those methods are tested with the identity.
MEMBERS = [
    (path, interface, method)
    for path, interface in OBJECTS
    for method in interface.methods
    if "h" not in method.signature
]

# What gets through may still be refused for what it asks.
REFUSED = (
    "nobody-s-node", "is this host", "is not halted", "which has no archives",
    "which has no releases",
)  # fmt: skip


@pytest.mark.parametrize(
    ("user", "reads", "changes"),
    [
        ("root", True, True),
        ("olga", True, True),
        ("remo", True, True),
        ("victor", True, False),
        ("rita", True, False),
        ("nobody", False, False),
    ],
)
def test_who_may_do_what_member_by_member(
    world: World, user: str, reads: bool, changes: bool
) -> None:
    for path, interface in OBJECTS:
        for prop in interface.properties:
            done, said = call(world, user, "get-property", BUS, path, interface.name, prop.name)
            assert done is reads, f"{prop.name}: {said}"
    for path, member in ((ROOT, "org.freedesktop.DBus.ObjectManager GetManagedObjects"),
                         (SLEEPER, "org.freedesktop.DBus.Introspectable Introspect"),
                         (SLEEPER, "org.freedesktop.DBus.Peer Ping"),
                         (SLEEPER, f"org.freedesktop.DBus.Properties GetAll s {VALIDATOR}")):  # fmt: skip
        done, said = call(world, user, "call", BUS, path, *member.split())
        assert done is reads, f"{member}: {said}"
    before = states(world)
    for path, interface, method in MEMBERS:
        done, said = call(
            world, user, "call", BUS, path, interface.name, method.name, *bus_arguments(method)
        )
        allowed = "Access denied" not in said and "AccessDenied" not in said
        allowed = allowed and "root and validator-operators" not in said
        assert allowed is changes, f"{method.name}: {said}"
        assert done is changes or any(words in said for words in REFUSED), said
    assert not call(world, user, "set-property", BUS, SLEEPER, VALIDATOR, "Enabled", "b", "no")[0]
    if not changes:
        assert states(world) == before
    world.host.systemctl("start", UNIT)
    world.host.wait_for_unit(UNIT)


def states(world: World) -> str:
    shown = ["validator@*", "validator-apply.service", "validator-override.service"]
    return world.host.systemctl(
        "show", *shown, "--property=Id,MainPID,InvocationID,ActiveState", "--all"
    )


@pytest.mark.parametrize("user", ["remo", "rita"])
def test_whoever_comes_from_afar_reaches_nothing_else(world: World, user: str) -> None:
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1",
               "org.freedesktop.systemd1.Manager")  # fmt: skip
    assert call(world, "victor", "get-property", *manager, "Version")[0]
    for argv in (("get-property", *manager, "Version"), ("call", *manager, "ListUnits"),
                 ("call", *manager, "RestartUnit", "ss", UNIT, "replace"),
                 ("call", *manager[:2], "org.freedesktop.DBus.Peer", "Ping"),
                 ("introspect", *manager[:2]),
                 ("call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                  "org.freedesktop.DBus.Debug.Stats", "GetStats"),
                 ("call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                  "StartServiceByName", "su", "org.freedesktop.systemd1", "0")):  # fmt: skip
        done, said = call(world, user, *argv)
        assert not done
        assert "denied" in said.lower(), said
    owner = world.host.output("busctl", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus",
                              "org.freedesktop.DBus", "GetNameOwner", "s", "org.freedesktop.systemd1")  # fmt: skip
    unique = owner.split()[1].strip('"')
    done, said = call(world, user, "get-property", unique, *manager[1:], "Version")
    assert not done, said


def test_calls_are_in_the_journal_with_the_callers_uid(world: World) -> None:
    call(world, "olga", "call", BUS, SLEEPER, VALIDATOR, "Start")
    uid = world.host.output("id", "-u", "olga")
    lines = world.host.output("journalctl", "--quiet", "--output=json", "VALIDATOR_METHOD=Start",
                              f"VALIDATOR_CALLER_UID={uid}").splitlines()  # fmt: skip
    entry = json.loads(lines[-1])
    assert entry["VALIDATOR_OBJECT"] == SLEEPER
    assert entry["VALIDATOR_RESULT"] == "done"
    call(world, "rita", "call", BUS, SLEEPER, VALIDATOR, "Prefer", "s", "somewhere\nelse")
    uid = world.host.output("id", "-u", "rita")
    (line,) = world.host.output("journalctl", "--quiet", "--output=json", "VALIDATOR_METHOD=Prefer",
                                f"VALIDATOR_CALLER_UID={uid}", "--lines=1").splitlines()  # fmt: skip
    entry = json.loads(line)
    assert entry["VALIDATOR_RESULT"] == "refused"
    assert entry["VALIDATOR_ARGUMENTS"] == "somewhere?else"


def test_changes_are_signalled(world: World) -> None:
    host = world.host
    host.run("systemd-run", "-q", "--unit=monitor", "--collect", "--property=StandardOutput=file:/run/seen",
             "busctl", "monitor", "--json=short", BUS)  # fmt: skip

    def seen() -> list[str]:
        # The last line may still be on its way; on Debian 12 the first one is no message.
        text = host.run("cat", "/run/seen", check=False).stdout
        return [line for line in text.split("\n")[:-1] if line.startswith("{")]

    def states() -> list[str]:
        found = []
        for line in seen():
            message = json.loads(line)
            if message.get("member") == "PropertiesChanged" and message.get("path") == SLEEPER:
                changed = message["payload"]["data"][1]
                found += [changed["ActiveState"]["data"]] if "ActiveState" in changed else []
        return found

    def restarted() -> bool:
        host.systemctl("stop", UNIT)
        host.systemctl("start", UNIT)
        return "inactive" in states() and states()[-1] == "active"

    host.wait("signals of both states", restarted)
    host.systemctl("stop", "monitor.service", check=False)


def test_killed_controller_comes_back_with_its_state(world: World) -> None:
    host = world.host
    before = host.property(UNIT, "MainPID")
    host.run("systemctl", "kill", "--signal=KILL", "validator-supervisor.service")
    get = ("get-property", BUS, SLEEPER, VALIDATOR, "ActiveState")
    host.wait("an answer", lambda: call(world, "root", *get) == (True, 's "active"'))
    assert host.property(UNIT, "MainPID") == before


def test_the_controllers_user_can_do_nothing_else(world: World) -> None:
    """The polkit rule, attacked as the user that it is written for."""
    host = world.host
    host.run("rm", "-f", "/root/pwned")
    listed = ("validator-apply.service", "validator@sleeper.service", "validator-tunnel@x.service")
    others = ("validator-evil.service", "validator@zz.service", "validator@x.y.service",
              "validator-apply.service.service", "xvalidator-apply.service")  # fmt: skip
    for name in (*listed, *others):
        host.as_user("validator-supervisor", "systemd-run", f"--unit={name}",
                     "touch", "/root/pwned", check=False)  # fmt: skip
        for word in ("--property=User=root", "--pipe", "--scope"):
            host.as_user("validator-supervisor", "systemd-run", word, f"--unit={name}",
                         "touch", "/root/pwned", check=False)  # fmt: skip
    assert host.run("ls", "/root/pwned", check=False).returncode != 0, "ran as root"

    def may(*argv: str) -> bool:
        return host.as_user("validator-supervisor", "systemctl", "--no-ask-password", *argv,
                            check=False).returncode == 0  # fmt: skip

    assert may("start", UNIT)
    assert may("restart", UNIT)
    assert not may("start", "ssh.service")
    assert not may("stop", "dbus.service")
    assert not may("stop", "validator.target")
    assert not may("restart", "validator-supervisor.service")
    assert not may("daemon-reload")
    assert not may("kill", UNIT)
    assert not may("mask", "--runtime", UNIT)
    assert not may("set-property", UNIT, "CPUWeight=1")
    assert not may("edit", "--runtime", UNIT)
    assert not may("enable", "validator.target")
    assert not may("poweroff")
    other = host.as_user("nobody", "systemctl", "--no-ask-password", "stop", UNIT, check=False)
    assert other.returncode != 0


# Writes that it listens, and five seconds later how many of our signals have come.
LISTEN = """
import sys, time
from jeepney import MatchRule, message_bus
from jeepney.io.blocking import Proxy, open_dbus_connection
bus = open_dbus_connection("SYSTEM")
rule = MatchRule(type="signal", path_namespace="/org/validatorsupervisor1")
Proxy(message_bus, bus).AddMatch(rule)
open(sys.argv[1], "w").write("listening")
count = 0
end = time.monotonic() + 5
try:
    while True:
        message = bus.receive(timeout=max(0, end - time.monotonic()))
        count += str(message.header.fields.get(1, "")).startswith("/org/validatorsupervisor1")
except TimeoutError:
    pass
open(sys.argv[1], "w").write(f"heard {count}")
"""


@pytest.mark.parametrize(("user", "hears"), [("victor", True), ("nobody", False)])
def test_signals_are_for_viewers_only(world: World, user: str, hears: bool) -> None:
    host = world.host
    host.write("/usr/local/lib/listen.py", LISTEN)
    heard = f"/var/tmp/heard-{user}"
    host.run("rm", "-f", heard)
    host.run("systemd-run", "-q", f"--uid={user}", "--collect", f"--unit=listen-{user}",
             "python3", "/usr/local/lib/listen.py", heard)  # fmt: skip

    def said() -> str:
        return host.run("cat", heard, check=False).stdout

    host.wait("the listener", lambda: said() == "listening")
    host.systemctl("stop", UNIT)
    host.systemctl("start", UNIT)
    host.wait("its end", lambda: said().startswith("heard"))
    assert (said() != "heard 0") is hears
