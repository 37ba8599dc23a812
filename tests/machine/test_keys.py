"""Keys on a machine: imported through a pipe, kept encrypted, and taken over only by a person."""

import json
from collections.abc import Iterator

import pytest
from lab import images
from lab.keystores import PASSWORD, keystores
from lab.machine import Machine
from lab.terminal import Terminal
from lab.world import FEE_RECIPIENT, World

STATE = "/var/lib/validator-state/main"
ANNOUNCED = [
    r"validator-state@|run-u\d+|has run it since|hint:|is halted|not used|not reached|cannot",
    r"main is halted|not uploaded|validator-backup@|Unit validator-backup",
    r"validator@main|no healthy beacon node",
]


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release that is unlocked, with a validator that is disabled."""
    with World.booted(request.param) as booted:
        host = booted.host
        host.run("mkdir", "-p", "/mnt/backups")
        host.run("chown", "validator-state:", "/mnt/backups")
        booted.config["nodes"] = {
            "usb": {"backups": "/mnt/backups"},
            "near": {"beacon": "127.0.0.1:5052"},
        }
        for name in ("main", "second"):
            booted.validator(
                name, kind="ethereum", network="hoodi", fee_recipient=FEE_RECIPIENT, enabled=False,
                release={"client": "lodestar", "binary": "/usr/bin/true"},
            )  # fmt: skip
        booted.validator("other", kind="command", command=["/usr/bin/sleep", "infinity"])
        booted.apply()
        host.systemctl("start", "validator.target")
        booted.init_identity()
        booted.unlock()
        for file, text in keystores().items():
            host.write(f"/root/keys/{file}", text, 0o600)
        yield booted
        assert host.problems(ANNOUNCED) == []
        # The password and the secrets are on no disk and in no journal.
        places = [
            "/var/log",
            "/var/lib/validator-state",
            "/var/lib/systemd",
            "/mnt",
            "/run",
            "/tmp",
        ]
        found = host.run("grep", "-rlF", PASSWORD, *places, check=False).stdout
        assert found == ""


def imports(host: Machine, *words: str, password: str = PASSWORD) -> tuple[int, str, str]:
    argv = ["validator-supervisor", "import-keystore", *words, "--password-fd", "0"]
    done = host.run(*argv, check=False, stdin=f"{password}\n", seconds=180)
    return done.returncode, done.stdout, done.stderr


def archives(host: Machine, name: str = "main") -> list[str]:
    found = host.run("ls", f"/var/lib/validator-state/{name}/archives", check=False).stdout
    return sorted(file for file in found.split() if file.endswith(".age"))


def files() -> list[str]:
    return [f"/root/keys/{file}" for file in keystores()]


@pytest.fixture
def imported(world: World) -> None:
    """Have every key in main, wherever this test runs."""
    if not archives(world.host):
        status, _, err = imports(world.host, "main", *files())
        assert status == 0, err


def test_keys_are_imported_once_and_everywhere_refused_after(world: World) -> None:
    host, (first, *rest) = world.host, files()
    host.run("rm", "-rf", STATE)
    host.run("sh", "-c", "rm -f /mnt/backups/*")
    status, _, err = imports(host, "main", first, password="wrong")
    assert status == 1
    assert first in err
    assert archives(host) == []
    status, out, err = imports(host, "main", first, "--json")
    assert status == 0, err
    done = json.loads(out)
    assert archives(host) == [done["archive"]]
    assert host.output("stat", "-c", "%U %a", f"{STATE}/archives") == "validator-state 700"
    assert host.output("stat", "-c", "%U %a", STATE) == "validator-state 711"
    for name, words in (
        ("main", "is in this validator already"),
        ("second", "is in validator main"),
    ):
        status, _, err = imports(host, name, first)
        assert status == 1
        assert words in err
    # All of them or none.
    status, _, err = imports(host, "main", *rest, first)
    assert status == 1
    assert archives(host) == [done["archive"]]
    status, out, err = imports(host, "main", *rest)
    assert status == 0, err
    assert "stop main; validator-supervisor start main" in out
    assert len(archives(host)) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [("mian", "there is no validator mian"), ("other", "other takes no keystores")],
)
def test_others_take_none(world: World, name: str, words: str) -> None:
    status, _, err = imports(world.host, name, files()[0])
    assert status == 1
    assert words in err


@pytest.mark.usefixtures("imported")
def test_passwords_are_asked_for_without_echo(world: World) -> None:
    last = files()[-1]
    terminal = Terminal(world.host, f"validator-supervisor import-keystore second {last}")
    terminal.answer(f"Password of {last}", PASSWORD)
    assert terminal.end() == 1
    assert PASSWORD not in terminal.shown
    assert "is in validator main" in terminal.shown


def test_an_archive_is_set_aside_by_a_person(world: World) -> None:
    host = world.host
    argv = ["validator-supervisor", "slashing", "quarantine", "second"]
    refused = host.run(*argv, "x", "--confirm", "second", check=False)
    assert refused.returncode == 1
    assert "x is no archive of second" in refused.stderr
    archive = f"second.5.{'a' * 32}.age"
    refused = host.run(*argv, archive, "--confirm", "main", check=False)
    assert refused.returncode == 1
    terminal = Terminal(host, " ".join([*argv, archive]))
    terminal.answer("Type the validator's name", "second")
    assert terminal.end() == 0, terminal.shown
    aside = "/var/lib/validator-state/second/quarantine"
    assert host.output("cat", aside) == "a" * 32
    host.run("rm", aside)


# Puts an archive of another host into a directory.
FOREIGN = """\
import sys, time
from pathlib import Path
sys.path[:0] = ["/usr/lib/python3/dist-packages"]
from validator_supervisor import backup, contents, identity
from validator_supervisor.store import ARCHIVE, Item, Store
store, secret = Store("main"), identity.load()
newest = backup.newest(store, secret)
sequence = newest.manifest.sequence + int(sys.argv[1])
raw = contents.seal(secret, validator="main", network="hoodi", host="7" * 32, boot="8" * 32,
    sequence=sequence, created=int(time.time()), clean=True, keys=newest.keys, removed_keys={},
    protection=newest.protection)
Path("/mnt/backups", Item.of(raw, ARCHIVE, "main", sequence).name).write_bytes(raw)
"""


@pytest.mark.usefixtures("imported")
def test_what_another_host_has_run_is_taken_over_only_by_a_person(world: World) -> None:
    host, unit = world.host, "validator-state@main.service"
    argv = ["validator-supervisor", "take-over", "main"]
    refused = host.run(*argv, check=False)
    assert refused.returncode == 1
    assert "no other host has run main" in refused.stderr
    host.as_user("validator-state", "/usr/bin/python3", "-c", FOREIGN, "5")
    host.systemctl("start", "--no-block", "validator@main.service")
    latch = "/var/lib/validator-supervisor/halted/main"
    assert host.wait_for_text(latch).startswith("moved\nhost 7777")
    (problem,) = [p for p in world.status()["problems"] if p["subject"] == "validator main"]  # type: ignore[attr-defined]
    assert "take-over main" in problem["advice"]
    assert imports(host, "main", files()[0])[0] == 1
    refused = host.run(*argv, check=False)
    assert "no terminal" in refused.stderr
    assert "host 7777" in refused.stdout
    assert host.run(*argv, "--confirm", "mian", check=False).returncode == 1
    assert host.output("cat", latch)
    terminal = Terminal(host, " ".join(argv))
    terminal.answer("Type the validator's name (main)", "main")
    assert terminal.end() == 0, terminal.shown
    host.wait_for_unit(unit)
    # It counts once.
    assert host.run("test", "-e", f"{STATE}/orders.json", check=False).returncode == 1
    host.run("validator-supervisor", "stop", "main")
    host.wait_for_unit(unit, "inactive")
    # What comes from the other host after that was shown to nobody.
    host.as_user("validator-state", "/usr/bin/python3", "-c", FOREIGN, "9")
    host.systemctl("start", "--no-block", "validator@main.service")
    assert host.wait_for_text(latch).startswith("moved\nhost 7777")
    host.run("validator-supervisor", "resume", "main", "--yes")
    host.run("sh", "-c", f"rm -rf {STATE} /mnt/backups/*")


def test_locked_nothing_is_imported(world: World) -> None:
    host = world.host
    host.run("validator-supervisor", "lock")
    try:
        status, _, err = imports(host, "second", files()[0])
        assert status == 1
        assert "locked" in err
    finally:
        world.unlock()
