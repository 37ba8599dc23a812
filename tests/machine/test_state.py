"""The rows of the table of starts, each on a booted machine: what was signed is never signed anew.

Everywhere the stand-in beacon node says whether two signatures are slashable, and after each fault
the client's database is compared with everything that was seen.
"""

import json
import re
from typing import Any

import pytest
from lab.archives import OTHER, claimed, identity_of, lacks, newest, planted, sequence_of
from lab.machine import Machine
from lab.signing import (
    AT_NODE,
    DATA,
    DATABASE,
    EPOCH,
    GIVEN,
    IDENTITY,
    KEPT,
    LATCH,
    NAME,
    STATE,
    VALIDATOR,
    Signing,
    highest,
)
from lab.standin.beacon import GENESIS

from validator_supervisor import age


class TestTheTable:
    """What a host decides alone."""

    def test_a_killed_client_goes_on(self, signing: Signing, host: Machine) -> None:
        for _ in range(3):
            before = host.property(VALIDATOR, "MainPID")
            signing.kill()
            host.wait("a restart", lambda: host.property(VALIDATOR, "MainPID") not in ("0", before))  # noqa: B023
            host.wait_for_unit(VALIDATOR)
        assert signing.row() == "restore"  # the state of its first start stands
        assert not signing.clean()
        signing.signs()

    def test_a_stop_makes_a_clean_archive(self, signing: Signing, host: Machine) -> None:
        assert signing.running()
        signing.stop()
        assert not signing.running()
        name, archive = newest(signing)
        assert signing.clean() == name
        assert archive.manifest.clean
        assert lacks(archive, highest(signing.beacon)) == []
        assert name in signing.files(signing.world.nodes["helsinki"])
        assert host.run("ls", GIVEN, check=False).returncode != 0
        signing.start()
        assert signing.row() == "continue"
        assert signing.running()

    def test_a_power_cut_lifts(self, signing: Signing, host: Machine) -> None:
        signing.signs()
        assert signing.cut(EPOCH + 1) > 0
        host.wait_for_unit(VALIDATOR, seconds=90)
        assert signing.row() == "power-cut"
        signing.is_safe()
        signing.signs()

    def test_a_reboot_continues(self, signing: Signing, host: Machine) -> None:
        host.stop()
        host.boot_again()
        host.write("/etc/hosts", signing.world.network.hosts())
        said = host.journal("--boot=-1", f"--unit={STATE}", f"--unit={VALIDATOR}", "--lines=30")
        assert signing.clean() == signing.files()[0], said
        assert signing.clean() in signing.files(signing.world.nodes["helsinki"])
        signing.unlock()
        host.wait_for_unit(VALIDATOR, seconds=90)
        assert signing.row() == "continue"
        signing.is_safe()
        signing.signs()

    @pytest.mark.parametrize(
        "harm",
        [
            f"rm -rf {DATABASE}",
            f"echo rubbish >{DATABASE}/log",
            f"head -n 2 {DATABASE}/log >{DATABASE}/x; cat {DATABASE}/x >{DATABASE}/log",
            f"truncate -s 0 {DATABASE}/log",
            f"rm -rf {DATA}",
        ],
    )
    @pytest.mark.parametrize("clean", [True, False])
    def test_a_lost_database(self, signing: Signing, host: Machine, harm: str, clean: bool) -> None:
        if clean:
            signing.stop()
        else:
            # Killed, and its last exit not exported: the truth is gone.
            host.run("chmod", "0", "/usr/local/lib/standin/client")
            signing.kill()
            host.systemctl("stop", VALIDATOR)
            signing.down()
            host.run("chmod", "755", "/usr/local/lib/standin/client")
        host.run("sh", "-c", harm)
        signing.start("--no-watch")
        signing.is_safe()
        said = host.journal("--boot", f"--unit={VALIDATOR}", "--lines=20")
        assert "restore: " in said
        signing.signs()

    def test_a_watch_is_kept_over_restarts(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        host.run("rm", "-rf", DATABASE)
        seen = len(signing.beacon.recorded())
        signing.ask()

        def watching() -> bool:
            return "watching for a twin" in host.property(VALIDATOR, "StatusText")

        host.wait("the watch", watching, 60)
        signing.kill()
        host.wait("the end of it", lambda: not watching())
        host.wait("the watch", watching, 60)
        assert len(signing.beacon.recorded()) == seen
        signing.signs(90)

    def test_without_any_archive_it_refuses(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        node = signing.world.nodes["helsinki"]
        for machine, place in ((host, f"{KEPT}/archives"), (node, AT_NODE)):
            machine.run("sh", "-c", f"mkdir /root/kept && mv {place}/* /root/kept/")
        try:
            signing.ask()
            host.wait("a latch", signing.latch)
            assert signing.latch() == "lost-history"
        finally:
            for machine, place in ((host, f"{KEPT}/archives"), (node, AT_NODE)):
                machine.run("sh", "-c", f"mv /root/kept/* {place}/; rmdir /root/kept")

    def test_stale_locks_and_a_lock_that_is_held(self, signing: Signing, host: Machine) -> None:
        signing.kill()
        host.wait("a lock that was left", lambda: "removed " in host.journal(
            "--boot", f"--unit={VALIDATOR}", "--lines=10"))  # fmt: skip
        signing.stop()
        holder = "holder.service"
        host.run("systemd-run", "-q", "--collect", f"--unit={holder}", "flock", DATA, "sleep", "60")
        signing.ask()
        host.wait("a refusal", lambda: "another process holds" in host.property(
            VALIDATOR, "StatusText"))  # fmt: skip
        host.systemctl("stop", holder)
        host.wait_for_unit(VALIDATOR)

    def test_keys_are_in_memory_alone(self, signing: Signing, host: Machine) -> None:
        mounts = [line.split()[1:3] for line in host.output("cat", "/proc/mounts").splitlines()]
        assert ["/run/validator-state", "ramfs"] in mounts
        keys = host.output("find", GIVEN, "-name", "*.json").splitlines()
        assert len([path for path in keys if "keystore" in path]) == 4
        assert host.run("find", DATA, KEPT, "-name", "*keystore*").stdout == ""
        for user in ("nobody", "validator-tunnel", "validator-supervisor", "validator-watch"):
            assert host.as_user(user, "ls", GIVEN, check=False).returncode != 0
        assert signing.leaks() == []
        signing.stop()
        assert host.run("find", "/run/validator-state", "-type", "f").stdout == ""

    def test_a_halt_leaves_no_key(self, signing: Signing, host: Machine) -> None:
        host.write("/etc/w", "")
        host.run("sh", "-c", f"printf 'slashed\\nfor a test\\n' >/run/validator/{NAME}/halt")
        # Not what systemd starts when it has ended.
        host.systemctl("kill", "--kill-who=main", "--signal=KILL", VALIDATOR)
        host.wait("a latch", signing.latch)
        signing.down()
        assert host.run("find", "/run/validator-state", "-type", "f").stdout == ""
        assert signing.clean() == signing.files()[0]


class TestExplain:
    """`start --explain`: what a start would do; it does nothing."""

    def test_nothing_to_do(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        before = written(host)
        shown = explained(signing)
        assert (shown["row"], shown["lift"], shown["epochs_lost"]) == ("continue", None, 0)
        seen = {str(one["name"]): one for one in shown["seen"]}
        archive, claim = signing.files()[0], signing.files(kind="claim")[0]
        assert {archive, claim} <= seen.keys()
        assert seen[archive]["clean"] is True
        for name, kind in ((archive, "archive"), (claim, "claim")):
            assert (seen[name]["kind"], seen[name]["host"]) == (kind, "this host")
            assert seen[name]["where"] == ["this host", "helsinki"]
        marks = signing.marks().values()
        highest = dict(
            zip(("slot", "source", "target"), map(max, zip(*marks, strict=True)), strict=True)
        )
        assert (shown["keys"], shown["watermark"]) == (len(signing.keys), highest)
        text = host.output("validator-supervisor", "start", NAME, "--explain")
        assert text.startswith(f"{NAME}: continue: ")
        assert f"{archive} (clean)  by this host  on this host, helsinki" in text
        assert "lift: none" in text
        assert "0 epochs lost" in text
        assert written(host) == before
        assert signing.is_down()

    def test_a_lost_database(self, signing: Signing, host: Machine) -> None:
        """What it says of the first possible attestation is so."""
        signing.stop()
        host.run("rm", "-rf", DATABASE)
        shown = explained(signing)
        assert shown["row"] == "restore"
        assert shown["lift"]["target"] >= shown["epoch_now"]
        assert shown["lift"]["slot"] > shown["watermark"]["slot"]
        assert 2 <= shown["epochs_lost"] <= 3
        text = host.output("validator-supervisor", "start", NAME, "--explain")
        assert "lift: slot " in text
        seen = len(signing.beacon.recorded())
        signing.ask()
        signing.signs(90)
        new = [m for m in signing.beacon.recorded()[seen:] if m["kind"] == "attestation"]
        # Counted from when it was done, which is a while after it was asked for.
        said = host.journal("--unit", VALIDATOR, "--output=short-unix", "--grep=restore: ")
        lifted = int(float(said.splitlines()[-1].split()[0]) - GENESIS) // EPOCH
        lost = min(int(m["target"]) for m in new) - lifted
        assert shown["epochs_lost"] <= lost <= shown["epochs_lost"] + 2

    def test_a_power_cut(self, signing: Signing, host: Machine) -> None:
        host.cut()
        host.boot_again()
        host.write("/etc/hosts", signing.world.network.hosts())
        # Unlocking would start it.
        host.write(LATCH, "test\n")
        signing.unlock()
        shown = explained(signing)
        assert (shown["row"], shown["halted"]) == ("power-cut", "test: no reason was given")
        assert "halted: test" in host.output("validator-supervisor", "start", NAME, "--explain")
        assert shown["lift"]["target"] >= shown["watermark"]["target"]
        host.run("rm", LATCH)
        signing.start()
        assert signing.row() == "power-cut"

    def test_a_refusal(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        name, raw = claimed(signing, OTHER, sequence_of(signing.files(kind="claim")[0]) + 50)
        with planted(signing, "helsinki", {name: raw}):
            shown = explained(signing)
            assert shown["row"] == "refused"
            assert name in shown["reason"]
            assert "take-over" in shown["hint"]
            assert shown["seen"][0]["host"] == OTHER
            done = host.run("validator-supervisor", "start", NAME, "--explain", check=False)
            assert done.returncode == 1
            assert f"{name}  by {OTHER}  on helsinki" in done.stdout
        # It was only asked: nothing is latched.
        assert signing.latch() == ""

    def test_locked(self, signing: Signing, host: Machine) -> None:
        host.run("validator-supervisor", "lock")
        done = host.run("validator-supervisor", "start", NAME, "--explain", check=False)
        assert (done.returncode, "is locked" in done.stderr) == (1, True)
        signing.world.unlock()


def explained(signing: Signing) -> dict[str, Any]:
    """Return what `start --explain --json` says."""
    argv = ["validator-supervisor", "start", NAME, "--explain", "--json"]
    found: dict[str, Any] = json.loads(signing.host.run(*argv, check=False).stdout)
    return found


def written(host: Machine) -> str:
    """Return what a validator has on disk and in memory."""
    look = f"find {KEPT} {DATA} /run/validator-state -printf '%p %s %T@\\n' | sort"
    return host.output("sh", "-c", look)


class TestEnds:
    """Whatever ends it, the last that is signed is in an archive on the node."""

    @pytest.mark.parametrize("what", [VALIDATOR, IDENTITY, "validator.target", STATE])
    def test_a_stop(self, signing: Signing, host: Machine, what: str) -> None:
        mine = identity_of(signing)
        host.systemctl("stop", what)
        signing.down()
        self.assert_final(signing, mine)
        if what == IDENTITY:
            assert host.run("ls", "/run/validator-identity/identity", check=False).returncode != 0
        host.systemctl("start", "--no-block", "validator.target")
        if host.property(IDENTITY, "ActiveState") != "active":
            signing.unlock()

    @pytest.mark.parametrize("verb", ["poweroff", "reboot"])
    def test_the_machine_goes_down(self, signing: Signing, host: Machine, verb: str) -> None:
        mine = identity_of(signing)
        host.wait_for_unit(VALIDATOR, seconds=90)
        signing.signs()
        host.run("systemctl", verb, "--no-block")
        host.ended()
        host.boot_again()
        host.write("/etc/hosts", signing.world.network.hosts())
        assert "ordering cycle" not in host.journal("--boot=-1")
        said = host.journal("--boot=-1", "--output=short-precise", "--unit=validator*")
        said = said.rpartition("Started validator@main.service")[2]
        order = [
            r"Stopped validator@main\.service",
            r"final backup \(clean\) on 1 of 1 nodes",
            r"Stopped validator-state@main\.service",
        ]
        places = [re.search(words, said) for words in order]
        assert all(places), said
        begins = [place.start() for place in places if place]
        assert begins == sorted(begins)
        for unit in ("validator-tunnel@helsinki.service", IDENTITY):
            stopping = re.search(rf"Stopping {re.escape(unit)}", said)
            assert stopping, said
            assert stopping.start() > begins[-1]
        self.assert_final(signing, mine)
        signing.unlock()

    def test_it_leaves_the_configuration(self, signing: Signing) -> None:
        validators = signing.world.config["validators"]
        assert isinstance(validators, dict)
        kept = validators.pop(NAME)
        try:
            signing.world.apply()
            signing.down()
            self.assert_final(signing, identity_of(signing))
        finally:
            validators[NAME] = kept
            signing.world.apply()

    def test_a_node_that_is_away_is_said(self, signing: Signing) -> None:
        signing.host.wait_for_unit(VALIDATOR, seconds=90)
        signing.world.network.cut("helsinki")
        try:
            signing.stop()
        finally:
            signing.world.network.heal("helsinki")
        assert signing.clean() == signing.files()[0]
        assert "the final backup is not on helsinki" in signing.state_said()
        assert "final backup (clean) on 0 of 1 nodes" in signing.state_said()

    @staticmethod
    def assert_final(signing: Signing, mine: age.X25519Identity) -> None:
        """Assert that the newest archive is clean, on the node, and not below what was seen."""
        name, archive = newest(signing, mine)
        assert archive.manifest.clean
        assert name == signing.clean()
        assert lacks(archive, highest(signing.beacon)) == []
        assert name in signing.files(signing.world.nodes["helsinki"])
        assert not signing.running()
