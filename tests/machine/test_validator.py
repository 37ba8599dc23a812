"""Validators of kind command on a booted machine, and what apply does with them."""

import re
from collections.abc import Callable

import pytest
from lab.world import CONFIG, World

UNIT = "validator@foo.service"
ANNOUNCED = [
    r"Main process exited|Failed with result|Failed to start|State '.*' timed out|Killing process",
    r"Job for validator-apply|systemctl status validator-apply|Reload failed|Control process exited",
    r"cannot be executed|config\.yaml:|another process holds|hint:|No such file|does not exist",
    r"Failed to determine user credentials|Failed at step",
]


def command(world: World, *argv: str, **keys: object) -> None:
    world.config["validators"] = {"foo": {"kind": "command", "command": list(argv), **keys}}
    world.apply()
    world.host.systemctl("start", "validator.target")


def script(world: World, text: str) -> str:
    path = "/usr/local/bin/foo"
    world.host.write(path, "#!/bin/sh\n" + text, 0o755)
    return path


def pid(world: World) -> str:
    return world.host.property(UNIT, "MainPID")


def another_than(world: World, before: str) -> Callable[[], bool]:
    return lambda: pid(world) not in (before, "0")


def test_it_runs_as_a_user_of_its_own_and_its_output_is_in_the_journal(world: World) -> None:
    command(world, script(world, "echo hello from $(id -un) in $(pwd)\nexec sleep infinity\n"))
    world.host.wait_for_unit(UNIT)
    world.host.wait("its words", lambda: "hello from validator_foo in /var/lib/validator/foo"
                    in world.host.journal(f"--unit={UNIT}"))  # fmt: skip
    assert world.host.output("stat", "-c", "%U %a", "/var/lib/validator/foo") == "validator_foo 750"


def test_crash_restarts_and_stop_does_not(world: World) -> None:
    command(world, "/usr/bin/sleep", "infinity")
    world.host.wait_for_unit(UNIT)
    for _ in range(20):
        before = pid(world)
        world.host.run("kill", "-KILL", before)
        world.host.wait("a restart", another_than(world, before))
        world.host.wait_for_unit(UNIT)
    world.host.run("validator-supervisor", "stop", "foo")
    world.host.wait_for_unit(UNIT, "inactive")
    world.host.systemctl("daemon-reload")
    world.apply()
    # Longer than RestartSec=: a restart would have come.
    world.host.run("sleep", "2")
    assert world.host.property(UNIT, "ActiveState") == "inactive"
    (problem,) = world.status()["problems"]  # type: ignore[misc]
    assert problem == {  # type: ignore[has-type]
        "subject": "validator foo", "problem": "is stopped", "advice": f"systemctl start {UNIT}",
    }  # fmt: skip


def test_a_client_that_exits_at_once_is_tried_again_and_said(world: World) -> None:
    command(world, script(world, "echo no database >&2\nexit 3\n"))
    world.host.systemctl("start", UNIT, check=False)
    world.host.wait("restarts", lambda: int(world.host.property(UNIT, "NRestarts")) >= 3)

    def said() -> bool:
        return any(re.search(r"exited with 3 \d+ times", p["problem"]) and "journalctl" in p["advice"]
                   for p in world.status()["problems"])  # type: ignore[attr-defined]  # fmt: skip

    world.host.wait("status to say so", said)


def test_a_client_that_ignores_sigterm_is_killed(world: World) -> None:
    drop_in = f"/run/systemd/system/{UNIT}.d/short.conf"
    world.host.write(drop_in, "[Service]\nTimeoutStopSec=2\n")  # instead of a minute
    command(world, script(world, "trap '' TERM\necho deaf\nwhile :; do sleep 1; done\n"))
    world.host.wait_for_unit(UNIT)
    world.host.wait("the trap", lambda: "deaf" in world.host.journal(f"--unit={UNIT}"))
    world.host.run("validator-supervisor", "stop", "foo")
    world.host.wait_for_unit(UNIT, "failed")
    assert world.host.property(UNIT, "Result") == "timeout"
    world.host.systemctl("reset-failed", UNIT)
    world.host.run("rm", drop_in)
    world.host.systemctl("daemon-reload")


def test_a_program_that_is_not_there_is_named(world: World) -> None:
    command(world, "/opt/nothing")
    world.host.systemctl("start", UNIT, check=False)
    world.host.wait("its name", lambda: "/opt/nothing cannot be executed"
                    in world.host.property(UNIT, "StatusText"))  # fmt: skip


def test_a_directory_in_use_is_not_shared(world: World) -> None:
    command(world, "/usr/bin/sleep", "infinity")
    world.host.systemctl("stop", UNIT)
    world.host.run("systemd-run", "-q", "--unit=holder", "flock", "--exclusive",
                   "/var/lib/validator/foo", "sleep", "infinity")  # fmt: skip
    world.host.wait_for_unit("holder.service")
    world.host.systemctl("start", UNIT, check=False)
    world.host.wait("a refusal", lambda: "another process holds /var/lib/validator/foo"
                    in world.host.property(UNIT, "StatusText"))  # fmt: skip
    world.host.systemctl("stop", "holder.service")
    world.host.wait_for_unit(UNIT)


def test_an_instance_that_is_not_configured_cannot_start(world: World) -> None:
    done = world.host.run("systemctl", "start", "validator@zz.service", check=False)
    assert done.returncode != 0
    world.host.systemctl("stop", "validator@zz.service", check=False)
    world.host.systemctl("reset-failed", check=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "version: 1\nvalidatrs: {}\n",
            r"config\.yaml:2:1: validatrs: unknown key(?s:.)*did you mean validators",
        ),
        ("version: 1\nversion: 1\n", r"config\.yaml:2:1: version: this key stands here a second"),
        ("version: 1\nnodes: {a: {host: x}}\n", r"nodes\.a: key host_key is missing"),
        ("version: 1\nnodes: &a [*a]\n", r"anchors and aliases"),
        ("{" * 5000, r"config\.yaml:1:"),
    ],
)
def test_a_bad_file_changes_nothing(world: World, text: str, said: str) -> None:
    command(world, "/usr/bin/sleep", "infinity")
    world.host.wait_for_unit(UNIT)
    before, applied = pid(world), world.host.output("cat", "/etc/validator-supervisor/.applied")
    world.host.write(CONFIG, text)
    done = world.host.run("systemctl", "reload", "validator-supervisor", check=False)
    assert done.returncode != 0
    assert re.search(said, world.host.journal("--unit=validator-apply.service", "--lines=20"))
    # Nor does anybody's daemon-reload take the half-edited file.
    world.host.systemctl("daemon-reload")
    assert pid(world) == before
    assert world.host.output("cat", "/etc/validator-supervisor/.applied") == applied
    assert "User=validator_foo" in world.host.systemctl("cat", UNIT)
    world.host.systemctl("reset-failed", "validator-apply.service", check=False)


def test_apply_starts_the_new_stops_the_removed_and_leaves_the_rest(world: World) -> None:
    sleep = {"kind": "command", "command": ["/usr/bin/sleep", "infinity"]}
    world.config["validators"] = {"foo": sleep, "old": sleep}
    world.apply()
    host = world.host
    host.systemctl("start", "validator.target")
    host.wait_for_unit("validator@old.service")
    host.wait_for_unit(UNIT)
    before = pid(world)
    world.config["validators"] = {"foo": sleep, "new": sleep, "off": {**sleep, "enabled": False}}
    world.apply()
    host.wait_for_unit("validator@new.service")
    host.wait_for_unit("validator@old.service", "inactive")
    assert host.property("validator@off.service", "ActiveState") == "inactive"
    assert pid(world) == before
    names = {v["Name"] for v in world.status()["validators"]}  # type: ignore[attr-defined]
    assert names == {"foo", "new", "off"}
    changed = {"kind": "command", "command": ["/usr/bin/sleep", "1000000"]}
    world.config["validators"] = {"foo": changed}
    world.apply()
    host.wait("the changed one to restart", lambda: pid(world) not in (before, "0"))
    host.wait_for_unit(UNIT)
