"""All keys of a host move to another one by one file, and are never on two.

The oracle is the stand-in beacon node: it has seen every signature, and who had the keys when.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from lab import images
from lab.host import TREE, LabError
from lab.machine import Machine
from lab.signing import KEPT, LATCH, NAME, VALIDATOR, Signing
from lab.standin.beacon import slashable
from lab.terminal import Terminal

OUT, CODE = "/root/main.retired", "/run/code"
RETIRE = f"validator-supervisor retire {NAME} --output {OUT} --confirm {NAME}"
CODES = r"[a-z2-9]{4}(?:-[a-z2-9]{4}){5}"
# What a person types.
README = re.findall(
    r"^validator-supervisor .*$",
    (TREE / "README.md").read_text().partition("## Move to")[2].partition("\n## ")[0],
    re.M,
)
# Kills the command at the moment at which the latch is there, and the file is not.
KILLED = f"""\
{RETIRE} --code-fd 3 3>{CODE} &
until test -e {LATCH}; do sleep 0.02; done
kill -KILL $!
"""


@pytest.fixture(scope="class")
def signing(request: pytest.FixtureRequest) -> Iterator[Signing]:
    """A validator that signs, on the release of the class."""
    with Signing.booted(request.cls.SUITE, peers=["age", "zstd"]) as booted:
        booted.start("--no-watch")
        booted.signs()
        yield booted
        assert slashable(booted.beacon.recorded()) == []
        assert booted.leaks() == []


@pytest.fixture(scope="class")
def second(signing: Signing) -> Iterator[Signing]:
    """Another host, which has another identity, and no node in common."""
    with signing.elsewhere("second", "/var/backups/near") as other:
        yield other
        assert other.leaks() == []


def retire(signing: Signing) -> str:
    """Retire it as a script does; return the transfer code."""
    signing.host.run("sh", "-c", f"{RETIRE} --code-fd 3 3>{CODE}", seconds=240)
    return signing.host.output("cat", CODE)


def hand_over(one: Machine, other: Machine) -> None:
    """Copy the file."""
    raw = Path(f"/proc/{one.leader}/root{OUT}").read_bytes()
    place = Path(f"/proc/{other.leader}/root{OUT}")
    place.write_bytes(raw)
    place.chmod(0o600)


def adopt(signing: Signing, code: str, *words: str) -> str:
    argv = ["adopt", NAME, OUT, "--code-fd", "0", *words]
    return signing.world.typed(code, *argv, seconds=240)


def refused(signing: Signing, code: str) -> str:
    return signing.world.refused(code, "adopt", NAME, OUT, "--code-fd", "0", seconds=240)


def is_there(host: Machine, path: str) -> bool:
    return host.run("test", "-e", path, check=False).returncode == 0


def starts_watched(signing: Signing) -> None:
    """Start it; it has signed nothing before two epochs without the keys have passed."""
    before = len(signing.beacon.recorded())
    signing.ask()
    said = partial(signing.host.property, VALIDATOR, "StatusText")
    signing.host.wait("its watch", lambda: "watching for a twin" in said(), 60)
    assert len(signing.beacon.recorded()) == before
    signing.host.wait_for_unit(VALIDATOR, seconds=120)
    signing.signs()
    signing.has_started_safely()


class TestNothingInCommon:
    """Two hosts with different identities, and no node that both know."""

    SUITE = images.SUITES[1]

    def test_killed_between_the_latch_and_the_file(self, signing: Signing) -> None:
        host = signing.host
        host.run("sh", "-c", KILLED, check=False, seconds=240)
        assert signing.latch() == "retired"
        assert not is_there(host, OUT)
        assert is_there(host, f"{KEPT}/retired")
        assert not signing.running()
        code = retire(signing)
        assert re.fullmatch(CODES, code)
        assert host.output("stat", "-c", "%U %a", OUT) == "root 600"
        assert host.run("sh", "-c", "ls -A /root | grep retired").stdout.split() == ["main.retired"]
        with pytest.raises(LabError, match="is there already"):
            host.run("sh", "-c", f"{RETIRE} --code-fd 3 3>/dev/null")
        assert code not in host.journal("--boot", "--output=export")

    def test_debians_own_programs_open_it(self, signing: Signing) -> None:
        host, code = signing.host, signing.host.output("cat", CODE)
        host.run("mkdir", "/run/opened")
        command = f"sh -c 'age -d {OUT} | tar --zstd -xC /run/opened'"
        terminal = Terminal(host, command)
        terminal.answer("Enter passphrase", code)
        assert terminal.end() == 0, terminal.shown
        found = json.loads(host.output("cat", "/run/opened/manifest.json"))
        assert found["clean"]
        assert found["public_keys"] == sorted(signing.keys)
        said = json.loads(host.output("cat", "/run/opened/retired.json"))
        assert said["host"] == found["host"]
        host.run("rm", "-r", "/run/opened")

    def test_it_stays_down(self, signing: Signing) -> None:
        signing.cut()
        host = signing.host
        before = len(signing.beacon.recorded())
        for argv in (
            ["systemctl", "start", VALIDATOR],
            ["validator-supervisor", "start", NAME],
            ["validator-supervisor", "start", NAME, "--no-watch", "--confirm", NAME],
            ["validator-supervisor", "resume", NAME, "--yes"],
        ):
            done = host.run(*argv, check=False)
            assert done.returncode, argv
            if argv[0] != "systemctl":
                assert "by `retire`" in done.stderr
                assert "take-over" in done.stderr
        problems = json.dumps(signing.world.status()["problems"])
        assert "halted: retired: its keys left this host at" in problems
        # Nor where somebody has removed the latch: the next start finds the same, and halts.
        host.run("rm", LATCH)
        signing.ask()
        host.wait("a latch", signing.latch, 60)
        assert signing.latch() == "retired"
        signing.down()
        assert len(signing.beacon.recorded()) == before

    def test_another_host_goes_on(self, signing: Signing, second: Signing) -> None:
        # Where the code was is memory, and the power was cut: the same again makes another one.
        assert not is_there(signing.host, CODE)
        signing.host.run("rm", OUT)
        code = retire(signing)
        hand_over(signing.host, second.host)
        before = second.host.run("find", KEPT).stdout
        for wrong, why in (
            (code[:-1] + ("2" if code[-1] != "2" else "3"), "the transfer code is wrong"),
            ("hunter2", "that is no transfer code"),
        ):
            said = refused(second, wrong)
            assert why in said
            assert wrong not in said
        place = Path(f"/proc/{second.host.leader}/root{OUT}")
        whole = place.read_bytes()
        place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert "damaged" in refused(second, code)
        place.write_bytes(whole)
        assert second.host.run("find", KEPT).stdout == before
        adopt(second, code.upper())
        # And again: somebody was not sure.
        done = json.loads(adopt(second, code, "--json"))
        assert done["keys"] == sorted(signing.keys)
        starts_watched(second)
        assert "this host has its keys, and may have run" in refused_down(second, code)

    def test_a_third_host_finds_the_second(self, signing: Signing, second: Signing) -> None:
        code = signing.host.output("cat", CODE)
        with signing.another("third") as third:
            hand_over(signing.host, third.host)
            adopt(third, code)
            before = len(third.marks())
            third.ask()
            third.host.wait("a latch", third.latch, 90)
            assert third.latch() == "doppelganger"
            assert len(third.marks()) >= before
            third.host.systemctl("stop", "validator.target")
        second.signs()
        second.is_safe()

    def test_and_back(self, signing: Signing, second: Signing) -> None:
        code = retire_from(second)
        signing.host.run("rm", OUT)
        hand_over(second.host, signing.host)
        # Its archives are on the node since the third host was there.
        said = refused(signing, code)
        assert "may have run since they were retired" in said


def retire_from(signing: Signing) -> str:
    signing.host.run("rm", OUT)
    return retire(signing)


def refused_down(signing: Signing, code: str) -> str:
    """Adopt where it must fail, with the validator stopped meanwhile."""
    assert "is not stopped" in refused(signing, code)
    signing.stop()
    try:
        return refused(signing, code)
    finally:
        signing.start()
        signing.signs()


class TestEverythingInCommon:
    """Hosts with the same identity and the same node, as two of one operator are."""

    SUITE = images.SUITES[0]

    def test_the_second_goes_on_and_the_third_is_refused(
        self, signing: Signing, host: Machine
    ) -> None:
        code = retire(signing)
        assert signing.is_down()
        with signing.another("second") as second, signing.another("third") as third:
            for one in (second, third):
                hand_over(host, one.host)
            adopt(second, code)
            node = signing.world.nodes["helsinki"]
            newest = second.files()[0]
            second.host.wait("its upload", lambda: newest in signing.files(node))
            assert "may have run since they were retired" in refused(third, code)
            assert third.files() == []
            starts_watched(second)
            assert second.row() == "restore"
            # The old host has its word in two places; without one, the other.
            host.run("rm", LATCH, f"{KEPT}/retired")
            signing.ask()
            host.wait("a latch", signing.latch, 60)
            assert signing.latch() == "moved"
            signing.down()
            second.signs()
            second.is_safe()
            # And back, by another file, as the README has it and a person types it.
            for machine in (host, second.host):
                machine.run("rm", OUT)
            retiring, adopting, _ = README
            terminal = Terminal(second.host, retiring)
            terminal.answer("to go on", NAME)
            assert terminal.end(120) == 0, terminal.shown
            (code,) = re.findall(CODES, terminal.shown)
            hand_over(second.host, host)
            terminal = Terminal(host, adopting)
            terminal.answer("Transfer code", code)
            assert terminal.end(120) == 0, terminal.shown
            assert code not in terminal.shown
            assert signing.latch() == ""
            starts_watched(signing)
            assert second.latch() == "retired"


@pytest.fixture
def host(signing: Signing) -> Machine:
    return signing.host
