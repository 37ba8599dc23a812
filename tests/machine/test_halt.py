"""A halt: down over restarts and reboots, until a person has said that it may go on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import images
from lab.machine import Machine
from lab.world import World

UNIT, OTHER = "validator@foo.service", "validator@other.service"
LATCH = "/var/lib/validator-supervisor/halted/foo"
PROGRAM = "/usr/local/bin/foo"
ANNOUNCED = [
    r"foo is halted|Main process exited|Failed with result|Assertion failed|cannot be latched",
    rf"^\S* *{UNIT}",
]
# Does what the test has left for it to do, and else runs on.
SCRIPT = """\
#!/bin/sh
todo=$(cat /var/lib/todo 2>/dev/null)
[ -n "$todo" ] || exec sleep infinity
eval "$todo"
"""
MOVED = r'printf "moved\nthe newest archive is of another host\n" >"$RUNTIME_DIRECTORY/halt"; '


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release with two commands."""
    with World.booted(request.param) as booted:
        host = booted.host
        host.write(PROGRAM, SCRIPT, 0o755)
        booted.validator("foo", kind="command", command=[PROGRAM])
        booted.validator("other", kind="command", command=["/usr/bin/sleep", "infinity"])
        booted.apply()
        host.systemctl("start", "validator.target")
        for unit in (UNIT, OTHER):
            host.wait_for_unit(unit)
        yield booted
        assert host.problems(ANNOUNCED) == []


@pytest.fixture(autouse=True)
def anew(world: World) -> None:
    """Have the validator run, and nothing left of the test before."""
    host = world.host
    host.run("rm", "-rf", LATCH, "/var/lib/todo")
    host.systemctl("reset-failed", UNIT, check=False)
    host.systemctl("start", UNIT)
    host.wait_for_unit(UNIT)


def halts(host: Machine, todo: str) -> None:
    """Have the validator do something when it is started again, and wait until it is latched."""
    host.write("/var/lib/todo", todo)
    host.run("kill", "-KILL", host.property(UNIT, "MainPID"))
    host.wait("the latch", lambda: host.run("test", "-e", LATCH, check=False).returncode == 0)
    host.wait("its end", lambda: down(host))
    host.run("rm", "/var/lib/todo")


def down(host: Machine) -> bool:
    return host.property(UNIT, "ActiveState") in ("inactive", "failed")


def problem(world: World) -> tuple[str, str]:
    (found,) = [p for p in world.status()["problems"] if p["subject"] == "validator foo"]  # type: ignore[attr-defined]
    return found["problem"], found["advice"]


def test_it_stays_down_says_why_and_resumes(world: World) -> None:
    host = world.host
    halts(host, MOVED + "exit 78")
    # Longer than RestartSec=.
    host.run("sleep", "2")
    assert down(host)
    assert host.output("cat", LATCH) == "moved\nthe newest archive is of another host"
    assert host.output("stat", "-c", "%U %a", LATCH) == "root 644"
    words, advice = problem(world)
    assert words == "halted: moved: the newest archive is of another host"
    assert "take-over foo" in advice
    for argv in (["systemctl", "start", UNIT], ["systemctl", "restart", UNIT]):
        refused = host.run(*argv, check=False)
        assert refused.returncode != 0
        assert "Assertion failed" in refused.stderr
    refused = host.run("validator-supervisor", "start", "foo", check=False)
    assert refused.returncode == 1
    assert "foo is halted: moved" in refused.stderr
    assert down(host)
    refused = host.run("validator-supervisor", "resume", "foo", check=False)
    assert refused.returncode == 1
    assert "no terminal" in refused.stderr
    said = host.output("validator-supervisor", "resume", "foo", "--yes")
    assert "the newest archive is of another host" in said
    assert "take-over foo" in said
    assert down(host)
    assert host.run("validator-supervisor", "resume", "foo", "--yes", check=False).returncode == 1
    host.run("validator-supervisor", "start", "foo")
    host.wait_for_unit(UNIT)
    assert host.property(OTHER, "ActiveState") == "active"
    assert "Resume() of" in host.journal("--identifier=validator-supervisor")


def test_target_and_apply_do_not_bring_it_back(world: World) -> None:
    host = world.host
    halts(host, MOVED + "exit 78")
    host.systemctl("start", "validator.target")
    world.config["nodes"] = {"near": {"beacon": "127.0.0.1:5052"}}
    world.apply()
    host.run("validator-supervisor", "enable", "foo")
    host.run("sleep", "1")
    assert down(host)


def test_a_file_halts_whatever_the_status_is(world: World) -> None:
    host = world.host
    halts(host, MOVED + "kill -KILL $$")
    host.run("sleep", "2")
    assert down(host)


def test_a_status_with_no_word_halts(world: World) -> None:
    halts(world.host, "exit 78")
    assert "has not said why" in problem(world)[0]
    assert "resume foo" in problem(world)[1]


@pytest.mark.parametrize(
    "trick",
    [
        "ln -s /etc/shadow {0}",
        "mkfifo {0}",
        "mkdir -p {0}/a",
        "truncate -s 1T {0} || head -c 1000000 /dev/zero >{0}",
        "head -c 100000 /dev/urandom >{0}",
        "chmod 000 $RUNTIME_DIRECTORY; true",
        r'printf "moved\n\033[31m\342\200\256red\nx" >{0}',
    ],
)
def test_a_compromised_validator_halts_itself_and_nothing_else(world: World, trick: str) -> None:
    host = world.host
    shadow = host.output("sha256sum", "/etc/shadow")
    halts(host, trick.format('"$RUNTIME_DIRECTORY/halt"') + "; exit 78")
    assert host.output("sha256sum", "/etc/shadow") == shadow
    assert int(host.output("stat", "-c", "%s", LATCH)) < 1000
    assert problem(world)[0].isprintable()
    assert host.property(OTHER, "ActiveState") == "active"
    assert host.output("cat", LATCH).isascii() or "?" in host.output("cat", LATCH)


@pytest.mark.parametrize("place", ["halted", "halted/foo"])
def test_a_compromised_controller_leads_root_nowhere(world: World, place: str) -> None:
    host = world.host
    at = f"/var/lib/validator-supervisor/{place}"
    host.run("mkdir", "-p", "/etc/target")
    # A link to something that is there would keep the validator down.
    to = "/etc/target" if place == "halted" else "/etc/target/nothing"
    host.as_user("validator-supervisor", "sh", "-c", f"rm -rf {at}; ln -s {to} {at}")
    host.systemctl("restart", UNIT)
    host.wait_for_unit(UNIT)
    host.write("/var/lib/todo", MOVED + "exit 78")
    host.run("kill", "-KILL", host.property(UNIT, "MainPID"))
    regular = ["test", "-f", LATCH, "-a", "!", "-L", LATCH]
    host.wait("the latch", lambda: host.run(*regular, check=False).returncode == 0)
    assert host.output("ls", "-A", "/etc/target") == ""
    host.wait("its end", lambda: down(host))
    # What was made instead is the controller's, who clears it.
    host.run("validator-supervisor", "resume", "foo", "--yes")


def test_a_full_disk_holds_a_latch(world: World) -> None:
    host = world.host
    directory = "/var/lib/validator-supervisor/halted"
    host.run(
        "mount", "-t", "tmpfs", "-o", "size=4k,mode=755,uid=validator-supervisor", "full", directory
    )
    host.run("sh", "-c", f"head -c 4096 /dev/zero >{directory}/x")
    try:
        halts(host, MOVED + "exit 78")
        host.run("sleep", "2")
        assert down(host)
        assert "no reason was given" in problem(world)[0]
    finally:
        host.run("umount", directory)


def stopped(host: Machine, name: str = "foo") -> bool:
    return host.run("test", "-e", f"/run/validator-stopped/{name}", check=False).returncode == 0


def test_who_has_stopped_it_is_known(world: World) -> None:
    host = world.host
    assert not stopped(host)
    host.systemctl("stop", UNIT)
    assert stopped(host)
    host.systemctl("start", UNIT)
    host.run("validator-supervisor", "stop", "foo")
    host.wait("its end", lambda: down(host) and stopped(host))
    # A crash, and a restart, are no stop.
    host.systemctl("start", UNIT)
    before = host.property(UNIT, "MainPID")
    host.run("kill", "-KILL", before)
    host.wait("a restart", lambda: host.property(UNIT, "MainPID") not in ("0", before))
    assert not stopped(host)
    host.systemctl("restart", UNIT)
    assert not stopped(host)
    # A client that does not end well when it is asked to was stopped all the same.
    host.write("/var/lib/todo", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    host.systemctl("restart", UNIT)
    host.systemctl("stop", UNIT)
    assert stopped(host)
    host.run("rm", "/var/lib/todo")
    host.systemctl("start", UNIT)
    # With the target, all are stopped, and none of them for itself.
    host.systemctl("stop", "validator.target")
    host.wait("its end", lambda: down(host))
    assert not stopped(host)
    host.systemctl("start", "validator.target")
    host.wait_for_unit(UNIT)


def test_it_stays_down_over_a_reboot(world: World) -> None:
    host = world.host
    halts(host, MOVED + "exit 78")
    host.stop()
    space = Path("/run/netns") / f"{world.network.prefix}-host"
    again = Machine.start(host.name, host.root, space, [])
    host.leader, host._spawned = again.leader, again._spawned
    host.wait_for_unit(OTHER)
    assert down(host)
    assert problem(world)[0] == "halted: moved: the newest archive is of another host"
    host.run("validator-supervisor", "resume", "foo", "--yes")
    host.systemctl("start", "validator.target")
    host.run("validator-supervisor", "start", "foo")
    host.wait_for_unit(UNIT)
