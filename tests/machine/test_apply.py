"""The configuration put into effect: what it can say, what a change does, and what overrides it."""

import json
import re
from collections.abc import Iterator

import pytest
from lab import images
from lab.world import CONFIG, World

BUS = "org.validatorsupervisor1"
ROOT = "/org/validatorsupervisor1"
APPLIED = "/etc/validator-supervisor/.applied"
OVERRIDES = "/var/lib/validator-supervisor/overrides.yaml"
ANNOUNCED = [
    r"Main process exited|Failed with result|Failed to start",
    # What the tests configure wrongly.
    r"another process holds /mnt/big/slow|hint: fuser|fuser -v",
    r" apply\[\d+\]: ",
    # Nodes that are not there, and a validator that cannot start.
    r"Connection refused|Could not resolve",
    # No identity was made here: what needs one is not started.
    r"(Assertion|Dependency) failed for (validator-identity|validator-state@public"
    r"|validator@public|validator-backup@public|run-validator)",
    r"(validator-state|validator|validator-backup)@public\.(service|timer|path): Job .* failed",
    r"there is no ssh key|hint: make it with|validator-tunnel@far",
    r"Reload failed for validator-supervisor|systemctl\[\d+\]: (Job for validator-apply|See)",
    r" watch\[\d+\]: http://",
]
# Says who it is and what it can read and write, once.
LOOK = """#!/bin/sh
cd /
{
    echo user "$(id -un)"
    for file in "$@"; do
        if cat "$file" >/dev/null 2>&1; then echo reads "$file"; fi
        if touch "${file%/*}/mine" 2>/dev/null; then echo writes "${file%/*}"; fi
    done
} >"$STATE_DIRECTORY/seen.new"
mv "$STATE_DIRECTORY/seen.new" "$STATE_DIRECTORY/seen"
exec sleep infinity
"""
SECRETS = [f"{place}/secret" for place in (
    "/var/lib/validator/one", "/var/lib/validator/two", "/var/lib/validator/hub",
    "/mnt/big/hub", "/home/carol/.two", "/home/carol", "/var/lib/validator-supervisor",
)]  # fmt: skip


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release with nothing configured, and a disk of its own below /mnt/big."""
    with World.booted(request.param) as booted:
        host = booted.host
        host.write("/etc/systemd/system/mnt-big.mount",
                   "[Mount]\nWhat=big\nWhere=/mnt/big\nType=tmpfs\nOptions=size=10m\n")  # fmt: skip
        host.systemctl("daemon-reload")
        host.systemctl("start", "mnt-big.mount")
        host.run("useradd", "--create-home", "carol")
        host.write("/usr/local/bin/look", LOOK, 0o755)
        host.run("useradd", "--groups", "validator-operators", "olga")
        yield booted
        assert host.problems(ANNOUNCED) == []


def command(*words: str, **keys: object) -> dict[str, object]:
    return {"kind": "command", "command": [*(words or ("/usr/bin/sleep", "infinity"))], **keys}


def configure(world: World, **sections: object) -> None:
    world.config = {"version": 1, **sections}
    world.apply()
    world.host.systemctl("start", "validator.target")


def pids(world: World, *names: str) -> dict[str, str]:
    return {name: world.host.property(f"validator@{name}.service", "MainPID") for name in names}


def call(world: World, user: str, name: str, *method: str) -> str:
    path = f"{ROOT}/validator/{name}"
    done = world.host.as_user(
        user, "busctl", "call", BUS, path, f"{BUS}.Validator", *method, check=False
    )
    return done.stdout + done.stderr


def shown(world: World, name: str) -> dict[str, object]:
    validators = world.status()["validators"]
    assert isinstance(validators, list)
    (found,) = [v for v in validators if v["Name"] == name]
    assert isinstance(found, dict)
    return found


def test_no_nodes_and_validators_of_several_kinds_each_to_itself(world: World) -> None:
    host = world.host
    look = ["/usr/local/bin/look", *SECRETS]
    gaiad = "/mnt/big/hub/cosmovisor/current/bin/gaiad"
    for user in ("two", "hubert"):
        host.run("useradd", user)
    for place, owner in (("/mnt/big/hub", "hubert"), ("/home/carol/.two", "two")):
        host.run("install", "-d", "-o", owner, "-m", "0700", place)
    host.run("chmod", "0711", "/home/carol")
    host.write(gaiad, f'#!/bin/sh\necho "$@" "$DAEMON_HOME" "$DAEMON_NAME" >"$STATE_DIRECTORY/argv"\n'
               f"exec {' '.join(look)}\n", 0o755)  # fmt: skip
    host.run("chown", "-R", "hubert:", "/mnt/big/hub")
    configure(
        world,
        validators={
            "one": command(*look),
            "two": command(*look, user="two", home="/home/carol/.two"),
            "hub": {
                "kind": "cosmos",
                "home": "/mnt/big/hub",
                "user": "hubert",
                "daemon": "gaiad",
                "key": {"source": "credential", "credential": "hub", "active": False},
                "args": ["--log_level", "info"],
            },
        },
    )
    for name in ("one", "two", "hub"):
        host.wait_for_text(f"/var/lib/validator/{name}/seen")
    own = 'echo x >"$0" && chown --reference="${0%/*}" "$0" && chmod 600 "$0"'
    for file in SECRETS:
        host.run("sh", "-c", own, file)
    host.run("sh", "-c", "rm -f /var/lib/validator/*/seen")
    host.systemctl(
        "restart", "validator@one.service", "validator@two.service", "validator@hub.service"
    )
    seen = {}
    for name in ("one", "two", "hub"):
        text = host.wait_for_text(f"/var/lib/validator/{name}/seen")
        seen[name] = text.split("\n")
    assert seen["one"] == [
        "user validator_one", "reads /var/lib/validator/one/secret",
        "writes /var/lib/validator/one", "",
    ]  # fmt: skip
    assert seen["two"] == [
        "user two", "reads /var/lib/validator/two/secret", "writes /var/lib/validator/two",
        "reads /home/carol/.two/secret", "writes /home/carol/.two", "",
    ]  # fmt: skip
    assert seen["hub"] == [
        "user hubert", "reads /var/lib/validator/hub/secret", "writes /var/lib/validator/hub",
        "reads /mnt/big/hub/secret", "writes /mnt/big/hub", "",
    ]  # fmt: skip
    argv = host.output("cat", "/var/lib/validator/hub/argv")
    assert argv == "start --home /mnt/big/hub --log_level info /mnt/big/hub gaiad"
    # Of its files only what it makes belongs to the unit; the home of a terabyte is not touched.
    assert host.output("stat", "--format=%U", "/mnt/big/hub", "/home/carol").split() == [
        "hubert",
        "carol",
    ]
    assert "mnt-big.mount" in host.property("validator@hub.service", "Requires").split()
    assert world.status()["healthy"] is True


def test_public_networks_are_configured_and_refused_at_the_start(world: World) -> None:
    fee = "0x00000000219ab540356cBB839Cbe05303d7705Fa"
    ethereum = {
        "kind": "ethereum",
        "fee_recipient": fee,
        "release": {"client": "lighthouse", "binary": "/usr/bin/sleep"},
    }
    nodes = {
        "far": {
            "host": "192.0.2.1",
            "host_key": "first-use",
            "beacon": {"mainnet": "a:1", "hoodi": "b:2"},
        },
        "local": {"beacon": {"mainnet": "127.0.0.1:1"}},
    }
    configure(
        world,
        nodes=nodes,
        validators={
            "public": {**ethereum, "network": "mainnet"},
            "test": {**ethereum, "network": "hoodi", "enabled": False},
        },
    )
    host = world.host
    said = ("busctl", "get-property", BUS, f"{ROOT}/validator/public", f"{BUS}.Validator",
            "StartProblem")  # fmt: skip
    host.wait("the refusal", lambda: "the identity is locked" in host.output(*said))
    assert host.property("validator@public.service", "ActiveState") == "inactive"
    ports = json.loads(host.output("cat", APPLIED))["ports"]
    assert sorted(ports) == ["far/hoodi", "far/mainnet"]
    assert len(set(ports.values())) == 2
    argv = host.output("systemctl", "cat", "validator@public.service")
    assert "After=validator-tunnel@far.service" in argv
    assert host.property("validator@test.service", "ActiveState") == "inactive"


def test_a_change_touches_what_has_changed_and_nothing_else(world: World) -> None:
    configure(world, validators={"same": command(), "other": command(), "gone": command()})
    host = world.host
    for name in ("same", "other", "gone"):
        host.wait_for_unit(f"validator@{name}.service")
    before = pids(world, "same", "other", "gone")
    watch = host.property("validator-watch.service", "MainPID")
    changed = {"same": command(), "other": command("/usr/bin/sleep", "99999"), "new": command()}
    world.config["validators"] = changed
    world.write_config()
    host.as_user("olga", "busctl", "call", BUS, ROOT, f"{BUS}.Manager", "Reload")
    host.wait_for_unit("validator@new.service")
    host.wait_for_unit("validator@gone.service", "inactive")
    host.wait("the restart", lambda: pids(world, "other")["other"] not in ("0", before["other"]))
    assert pids(world, "same")["same"] == before["same"]
    assert host.property("validator-watch.service", "MainPID") == watch
    names = sorted(v["Name"] for v in world.status()["validators"])  # type: ignore[attr-defined]
    assert names == ["new", "other", "same"]


BAD = [
    ('version: 1\nnodes: {a: {hots: b}}\n', "config.yaml:2:13: nodes.a.hots: unknown key"),
    ("version: 1\nvalidators: [a\n", "config.yaml:3:1: is not YAML"),
    ("version: 1\na: &a [x]\nb: [*a, *a]\n", "config.yaml:2:4: a: anchors and aliases"),
    ("version: 1\nversion: 1\n", "config.yaml:2:1: version: this key stands here a second time"),
    ("\\377", "config.yaml:1: is not UTF-8"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD, ids=range(len(BAD)))
def test_a_bad_file_changes_nothing_and_says_why(world: World, text: str, words: str) -> None:
    host = world.host
    configure(world, validators={"same": command()})
    host.wait_for_unit("validator@same.service")
    before = pids(world, "same"), host.output("sha256sum", APPLIED)
    host.run("sh", "-c", 'printf "$0" >"$1"', text.replace("\n", "\\n"), CONFIG)
    done = host.run("systemctl", "reload", "validator-supervisor.service", check=False)
    assert done.returncode != 0
    assert words in host.property("validator-apply.service", "StatusText")
    problem = host.wait("the property", lambda: host.output(
        "busctl", "get-property", BUS, ROOT, f"{BUS}.Manager", "ApplyProblem").removeprefix('s ""'))  # fmt: skip
    assert words in problem
    # Whoever has systemd read its units again applies nothing, and takes nothing away.
    host.systemctl("daemon-reload")
    assert (pids(world, "same"), host.output("sha256sum", APPLIED)) == before
    assert "50-config.conf" in host.property("validator@same.service", "DropInPaths")
    world.write_config()
    host.systemctl("reload", "validator-supervisor.service")
    assert (
        host.output("busctl", "get-property", BUS, ROOT, f"{BUS}.Manager", "ApplyProblem") == 's ""'
    )


def test_a_file_of_ten_megabytes_is_refused_at_once(world: World) -> None:
    host = world.host
    host.run("sh", "-c", f"yes '# a comment that never ends' | head -c 10000000 >{CONFIG}")
    assert host.run("systemctl", "start", "validator-apply.service", check=False).returncode
    assert "larger than" in host.property("validator-apply.service", "StatusText")
    world.write_config()
    host.systemctl("start", "validator-apply.service")


# Takes its time to stop, as a client does that closes a large database.
SLOW = """#!/bin/sh
trap 'sleep 3; echo end >>log; exit 0' TERM
echo start >>log
while :; do sleep 0.1; done
"""


def test_a_renamed_validator_starts_when_its_old_name_has_ended(world: World) -> None:
    host, home = world.host, "/mnt/big/slow"
    host.run("useradd", "slow")
    host.run("install", "-d", "-o", "slow", "-m", "0700", home)
    host.write("/usr/local/bin/slow", SLOW, 0o755)
    configure(world, validators={"old": command("/usr/local/bin/slow", user="slow", home=home)})
    host.wait_for_text(f"{home}/log")
    configure(world, validators={"new": command("/usr/local/bin/slow", user="slow", home=home)})
    host.wait_for_unit("validator@new.service")
    log = host.wait("the second start", lambda: (
        text if (text := host.output("cat", f"{home}/log")).count("start") == 2 else ""))  # fmt: skip
    assert log.split() == ["start", "end", "start"], "never two at once"


def test_a_home_that_another_process_holds_is_waited_for(world: World) -> None:
    host, home = world.host, "/mnt/big/slow"
    unit = "validator@held.service"
    host.systemctl("stop", "validator@new.service")
    host.run("systemd-run", "--unit=holder", "flock", home, "sleep", "infinity")
    host.wait_for_unit("holder.service")
    configure(world, validators={"held": command(user="slow", home=home)})
    host.wait("the refusal", lambda: f"another process holds {home}"
              in host.property(unit, "StatusText"))  # fmt: skip
    host.systemctl("stop", "holder.service")
    host.wait_for_unit(unit)


def test_overrides_win_last_and_leave_a_half_edited_file_alone(world: World) -> None:
    host = world.host
    nodes = {name: {"beacon": {"dev": f"127.0.0.{i}:1"}} for i, name in enumerate(("a", "b"), 1)}
    ethereum = {
        "kind": "ethereum", "network": "dev", "fee_recipient": "0x" + "0" * 40,
        "release": {"client": "lodestar", "binary": "/usr/bin/sleep"}, "enabled": False,
    }  # fmt: skip
    configure(world, nodes=nodes, validators={"main": ethereum, "same": command()})
    host.wait_for_unit("validator@same.service")
    before = pids(world, "same")
    host.write(CONFIG, "version: 1\nnodes: {half")
    assert "its nodes: a, b" in call(world, "olga", "main", "Prefer", "s", "c")
    call(world, "olga", "main", "Prefer", "s", "b")
    call(world, "olga", "same", "SetEnabled", "b", "false")
    host.wait_for_unit("validator@same.service", "inactive")
    host.wait("the preference", lambda: shown(world, "main")["PreferredNode"] == "b")
    host.wait("the property", lambda: shown(world, "same")["Enabled"] is False)
    assert shown(world, "main")["Overridden"] == ["prefer"]
    assert shown(world, "same")["Overridden"] == ["enabled"]
    stored = json.loads(host.output("cat", OVERRIDES))
    assert stored["validators"] == {"main": {"prefer": "b"}, "same": {"enabled": False}}
    # For good: neither the target nor the next boot's generator starts it.
    host.systemctl("daemon-reload")
    host.systemctl("start", "validator.target")
    assert host.property("validator@same.service", "ActiveState") == "inactive"
    assert "validator@same.service" not in host.property("validator.target", "Wants").split()
    # A repaired file is applied under the same overrides.
    world.write_config()
    host.systemctl("reload", "validator-supervisor.service")
    assert host.property("validator@same.service", "ActiveState") == "inactive"
    call(world, "olga", "same", "SetEnabled", "b", "true")
    host.wait_for_unit("validator@same.service")
    call(world, "olga", "main", "Prefer", "s", "")
    host.wait("no preference", lambda: shown(world, "main")["Overridden"] == [])
    assert json.loads(host.output("cat", OVERRIDES))["validators"] == {}
    assert pids(world, "same") != before


def test_overrides_come_from_a_user_who_may_be_hostile(world: World) -> None:
    host = world.host
    configure(world, validators={"same": command()})
    host.wait_for_unit("validator@same.service")
    before = pids(world, "same")
    hostile = (
        f"ln -sf /etc/shadow {OVERRIDES}",
        f"mkfifo {OVERRIDES}",
        f"ln -sf /dev/zero {OVERRIDES}",
        f"mkdir {OVERRIDES}",
        f"head -c 20000000 /dev/urandom >{OVERRIDES}",
        f"""echo '{{"version": 1, "validators": {{"same": {{"user": "root"}}}}}}' >{OVERRIDES}""",
        f"""echo '{{"version": 1, "validators": {{"same": {{"prefer": "a b"}}}}}}' >{OVERRIDES}""",
        f"printf 'version: 1\\nvalidators: &a {{same: *a}}\\n' >{OVERRIDES}",
    )
    secret = host.output("sh", "-c", "head -c 15 /etc/shadow")
    for script in hostile:
        host.as_user("validator-supervisor", "sh", "-c", f"rm -rf {OVERRIDES}; {script}")
        unit = "validator-override.service"
        assert host.run("systemctl", "start", unit, check=False, seconds=20).returncode, script
        assert OVERRIDES in host.property(unit, "StatusText"), script
        # They are no veto over the operator's own file.
        host.systemctl("start", "validator-apply.service", seconds=20)
        assert pids(world, "same") == before
    assert secret not in host.journal(
        "--unit=validator-override.service", "--unit=validator-apply.service"
    )
    host.run("rm", "-rf", OVERRIDES)
    for unit in ("validator-override.service", "validator-apply.service"):
        host.systemctl("start", unit)


def test_many_changes_at_once_end_in_the_last(world: World) -> None:
    host = world.host
    configure(world, validators={name: command() for name in ("a", "b", "c")})
    for name in ("a", "b", "c"):
        host.wait_for_unit(f"validator@{name}.service")
    for round_ in range(4):
        for name in ("a", "b", "c"):
            value = "true" if round_ % 2 else "false"
            assert "Error" not in call(world, "olga", name, "SetEnabled", "b", value)
    call(world, "olga", "b", "SetEnabled", "b", "false")
    host.wait_for_unit("validator@b.service", "inactive")
    for name in ("a", "c"):
        host.wait_for_unit(f"validator@{name}.service")
    host.wait(
        "rest", lambda: host.property("validator-override.service", "ActiveState") == "inactive"
    )
    call(world, "olga", "b", "SetEnabled", "b", "true")
    host.wait_for_unit("validator@b.service")


def test_the_generator_is_quick_and_never_in_the_way(world: World) -> None:
    host = world.host
    nodes = {
        f"n{i}": {"host": f"h{i}", "host_key": "first-use", "beacon": "a:1"} for i in range(50)
    }
    validators = {f"v{i}": command(enabled=False) for i in range(50)}
    world.config = {"version": 1, "nodes": nodes, "validators": validators}
    world.write_config()
    host.systemctl("stop", "validator.target")
    host.systemctl("start", "validator-apply.service")
    generator = "/usr/lib/systemd/system-generators/validator-supervisor-generator"
    made = "mkdir -p /run/made && cd /run/made && rm -rf * && "
    host.run("sh", "-c", f"{made}{generator} . . .")
    assert len(host.output("ls", "/run/made").split()) == 101
    kept = host.output("cat", APPLIED)
    for damage in ("rm -f {0}", ": >{0}", "echo '{{' >{0}", "rm -f {0}; mkfifo {0}",
                   "rm -f {0}; ln -s /dev/zero {0}", "rm -f {0}; mkdir {0}"):  # fmt: skip
        host.run("sh", "-c", damage.format(APPLIED))
        host.run("sh", "-c", f"{made}{generator} . . .", check=False, seconds=5)
        assert host.output("ls", "/run/made") == ""
        host.run("rm", "-rf", APPLIED)
    host.write(APPLIED, kept)
    host.run("systemctl", "daemon-reload")


def test_addresses_are_checked_before_anything_changes(world: World) -> None:
    host = world.host
    before = host.output("sha256sum", APPLIED)
    world.config = {
        "version": 1,
        "nodes": {"local": {"beacon": "127.0.0.1:1"}},
        "validators": {
            "main": {
                "kind": "ethereum",
                "network": "dev",
                "release": {"client": "lodestar", "binary": "/usr/bin/true"},
                "fee_recipient": "0x00000000219ab540356cBB839Cbe05303d7705fa",
            }
        },
    }
    world.write_config()
    assert host.run("systemctl", "start", "validator-apply.service", check=False).returncode
    assert re.search(r"config\.yaml:\d+:\d+: validators\.main\.fee_recipient: .*EIP-55",
                     host.property("validator-apply.service", "StatusText"))  # fmt: skip
    assert host.output("sha256sum", APPLIED) == before
    host.run("systemctl", "reset-failed", "validator-apply.service")
