"""Starts when nodes lie or are away, disks are full, and clocks are wrong: see test_state.py."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from lab.archives import (
    FAR,
    OTHER,
    Forger,
    archived,
    claimed,
    newest,
    planted,
    poisoned,
    raw_of,
    sealed,
    sequence_of,
)
from lab.machine import Machine
from lab.signing import (
    AT_NODE,
    BACKUP,
    CLOCK,
    DATA,
    DATABASE,
    EPOCH,
    KEPT,
    LATCH,
    NAME,
    STATE,
    VALIDATOR,
    Signing,
)

from validator_supervisor import age, interchange
from validator_supervisor.contents import Contents
from validator_supervisor.interchange import History, Interchange

# Of what was killed while it was prepared.
AGAIN = f"validator@{NAME}.timer"


class TestNodes:
    """Nodes that are away, that lie, and what others have put there."""

    NODES = ("helsinki", "lisbon")

    def test_unreachable_nodes(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        signing.world.network.cut("lisbon")
        try:
            signing.start()
            assert signing.row() == "continue"
            assert "lisbon is not reached" in signing.state_said()
            signing.stop()
            host.run("rm", "-rf", DATABASE)
            signing.ask("--no-watch")
            signing.waits("nodes are not reached")
            assert not signing.up()
        finally:
            signing.world.network.heal("lisbon")
        host.wait_for_unit(VALIDATOR, seconds=120)
        signing.signs()

    def test_it_is_killed_while_it_waits(self, signing: Signing, host: Machine) -> None:
        """As when there is no memory: nobody has to start it again, unless somebody stops it."""

        def kill() -> None:
            # Nothing else of the unit, in whose place `systemctl kill` may end what looks after it.
            host.run("kill", "-KILL", host.property(STATE, "MainPID"))

        signing.stop()
        host.run("rm", "-rf", DATABASE)
        signing.world.network.cut("lisbon")
        try:
            signing.ask("--no-watch")
            signing.waits("nodes are not reached")
            kill()
            signing.down()
            host.wait_for_unit(STATE, "activating")
            signing.waits("nodes are not reached")
            kill()
            signing.down()
            host.systemctl("stop", VALIDATOR)
            assert host.property(AGAIN, "ActiveState") == "inactive"
            signing.ask("--no-watch")
            host.wait_for_unit(STATE, "activating")
            signing.waits("nodes are not reached")
            kill()
        finally:
            signing.world.network.heal("lisbon")
        host.wait_for_unit(VALIDATOR, seconds=120)
        signing.is_safe()
        signing.signs()

    def test_nodes_that_are_required(self, signing: Signing) -> None:
        validators = signing.world.config["validators"]
        assert isinstance(validators, dict)
        signing.stop()
        validators[NAME]["require_nodes"] = 2
        signing.world.network.cut("lisbon")
        try:
            signing.world.apply()
            signing.ask()
            signing.waits("2 nodes must be seen")
            assert not signing.up()
        finally:
            signing.world.network.heal("lisbon")
            del validators[NAME]["require_nodes"]
        signing.host.wait_for_unit(VALIDATOR, seconds=120)
        signing.world.apply()

    def test_an_older_archive_of_a_node(self, signing: Signing, host: Machine) -> None:
        """A node that hides the newest gains nothing while another one is there."""
        signing.stop()
        lisbon = signing.world.nodes["lisbon"]
        name, archive = newest(signing)
        old = sealed(signing, archive, archive.manifest.sequence - 5, protection=nothing(archive))
        hidden = "/root/hidden"
        lisbon.run("sh", "-c", f"mkdir {hidden} && mv {AT_NODE}/* {hidden}/")
        with planted(signing, "lisbon", {archived(old, archive.manifest.sequence - 5): old}):
            host.run("sh", "-c", f"rm -rf {DATABASE} {KEPT}/archives/*")
            signing.start("--no-watch")
            signing.is_safe()
            signing.signs()
        lisbon.run("sh", "-c", f"mv {hidden}/* {AT_NODE}/; rmdir {hidden}")
        assert name in signing.files()

    @pytest.mark.parametrize(
        "kind", ["truncated", "changed", "forged", "renamed", "other", "noise"]
    )
    def test_what_is_no_archive_of_ours(self, signing: Signing, host: Machine, kind: str) -> None:
        signing.stop()
        name, archive = newest(signing)
        raw = raw_of(signing, name)
        sequence = archive.manifest.sequence + 500_000
        bad = {
            "truncated": lambda: raw[: len(raw) // 2],
            "changed": lambda: raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:],
            "forged": lambda: sealed(signing, archive, sequence, identity=Forger.of(signing)),
            "renamed": lambda: raw,
            "other": lambda: sealed(signing, archive, sequence, validator="other"),
            "noise": lambda: b"\0" * 100_000,
        }[kind]()
        name = archived(bad, sequence)
        with planted(signing, "lisbon", {name: bad}):
            signing.start()
            assert signing.row() == "continue"
            assert f"not used: {name} on lisbon" in signing.state_said()
            assert name not in signing.files()
            # Nor while it runs.
            host.systemctl("start", BACKUP)
            assert signing.latch() == ""

    @pytest.mark.parametrize("kind", ["forged", "other", "replayed"])
    def test_claims_that_are_none(self, signing: Signing, host: Machine, kind: str) -> None:
        signing.stop()
        sequence = sequence_of(signing.files(kind="claim")[0]) + 500_000
        name, raw = {
            "forged": lambda: claimed(
                signing, OTHER, sequence, identity=age.X25519Identity.generate()
            ),
            "other": lambda: claimed(signing, OTHER, sequence, validator="other"),
            # Another host's, from before ours, under a newer name.
            "replayed": lambda: claimed(signing, OTHER, 1000, named=sequence),
        }[kind]()
        with planted(signing, "lisbon", {name: raw}):
            signing.start()
            assert f"not used: {name} on lisbon" in signing.state_said()
            host.systemctl("start", BACKUP)
            assert signing.latch() == ""

    @pytest.mark.parametrize("kind", ["claim", "archive"])
    def test_another_host_before_a_start(self, signing: Signing, host: Machine, kind: str) -> None:
        signing.stop()
        sequence = later(signing)
        name, raw = claimed(signing, OTHER, sequence)
        if kind == "archive":
            raw = sealed(signing, newest(signing)[1], sequence, host=OTHER)
            name = archived(raw, sequence)
        with planted(signing, "lisbon", {name: raw}):
            signing.ask()
            host.wait("a latch", signing.latch)
            signing.down()
            assert signing.latch() == "moved"
            assert name in host.output("cat", LATCH)
            # A `resume` alone is no take-over.
            host.run("validator-supervisor", "resume", NAME, "--yes")
            signing.ask()
            host.wait("a latch", signing.latch)
            said = signing.take_over()
            assert OTHER in said
            assert signing.row() == "restore"
            signing.is_safe()
            signing.signs()

    def test_another_host_while_it_runs(self, signing: Signing, host: Machine) -> None:
        name, raw = claimed(signing, OTHER, later(signing))
        with planted(signing, "helsinki", {name: raw}):
            assert signing.up()
            host.systemctl("start", BACKUP, check=False)
            host.wait("a latch", signing.latch)
            signing.down()
            assert signing.latch() == "foreign-claim"
            assert signing.clean() == signing.files()[0]
            signing.take_over()
            signing.signs()

    def test_a_claim_of_a_clone(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        name, raw = claimed(signing, newest(signing)[1].manifest.host, later(signing))
        with planted(signing, "lisbon", {name: raw}):
            signing.ask()
            host.wait("a latch", signing.latch)
            assert signing.latch() == "moved"
            assert "a copy of this host" in host.output("cat", LATCH)
            signing.take_over()
            signing.signs()

    def test_a_poisoned_watermark(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        _, archive = newest(signing)
        assert archive.protection
        sequence = archive.manifest.sequence + 1
        raw = sealed(signing, archive, sequence, protection=poisoned(archive.protection))
        name = archived(raw, sequence)
        with planted(signing, "lisbon", {name: raw}):
            signing.ask()
            host.wait("a latch", signing.latch)
            signing.down()
            assert signing.latch() == "ahead"
            assert name in host.output("cat", LATCH)
            # A `resume` alone changes nothing.
            host.run("validator-supervisor", "resume", NAME, "--yes")
            signing.ask()
            host.wait("a latch", signing.latch)
            host.run("validator-supervisor", "slashing", "quarantine", NAME, name,
                     "--confirm", NAME)  # fmt: skip
            host.run("validator-supervisor", "resume", NAME, "--yes")
            signing.start()
            assert f"not used: {name} on lisbon" in signing.state_said()
            assert all(mark[2] < FAR for mark in signing.marks().values())
            signing.is_safe()
            signing.signs()

    def test_a_poisoned_export(self, signing: Signing, host: Machine) -> None:
        """The client's own word is not taken where it says what cannot be."""
        before = newest(signing)[1].protection
        assert before
        text = interchange.text(poisoned(before))
        host.run("sh", "-c", f"cat >{DATA}/export/slashing-protection.json", stdin=text)
        host.systemctl("start", BACKUP)
        name, archive = newest(signing)
        assert archive.protection, name
        assert all(
            target < FAR
            for history in archive.protection.keys.values()
            for _, target, _ in history.attestations
        )
        said = host.journal("--boot", f"--unit={BACKUP}", "--lines=20")
        assert "over 2 epochs above" in said
        signing.signs()


def later(signing: Signing) -> int:
    """Return a sequence that is newer than what the host has made."""
    return (
        max(sequence_of(name) for kind in ("age", "claim") for name in signing.files(kind=kind)[:1])
        + 50
    )


def nothing(archive: Contents) -> Interchange:
    """Return the protection of keys that have signed next to nothing."""
    assert archive.protection
    early = History(frozenset({(1, b"")}), frozenset({(0, 1, b"")}))
    keys = dict.fromkeys(archive.protection.keys, early)
    return Interchange(archive.protection.genesis_validators_root, keys)


class TestClocks:
    """A clock that is an hour wrong."""

    LIES = ("+1h", "-1h")

    @pytest.mark.parametrize("by", LIES)
    def test_a_plain_start_goes_on(self, signing: Signing, host: Machine, by: str) -> None:
        signing.stop()
        with wrong_clock(host, by):
            signing.start()
            assert signing.row() == "continue"
            signing.is_safe()
            signing.stop()
        signing.start()
        signing.signs()

    @pytest.mark.parametrize("by", LIES)
    def test_a_lift_refuses(self, signing: Signing, host: Machine, by: str) -> None:
        if signing.suite == "bookworm":
            pytest.skip("with Debian 12's libfaketime no job can sleep, and so none can wait")
        signing.stop()
        host.run("rm", "-rf", DATABASE)
        with wrong_clock(host, by):
            signing.ask("--no-watch")
            refuses = lambda: "the clock (" in host.property(STATE, "StatusText")  # noqa: E731
            host.wait("a refusal", refuses, 60)
            assert not signing.up()
            assert signing.latch() == ""
            host.systemctl("stop", VALIDATOR)
            signing.down()
        # What was claimed by a clock that was ahead counts until one is verified.
        host.write(CLOCK, "")
        try:
            signing.start("--no-watch")
        finally:
            host.run("rm", CLOCK)
        signing.is_safe()
        signing.signs()

    def test_a_verified_clock_lifts_less(self, signing: Signing, host: Machine) -> None:
        host.write(CLOCK, "")
        try:
            signing.stop()
            host.run("rm", "-rf", DATABASE)
            signing.start("--no-watch")
            signing.is_safe()
            now = int(host.output("date", "+%s"))
            marks = signing.marks()
            epoch = (now - 1606824023) // EPOCH
            assert all(mark[2] <= epoch for mark in marks.values()), (marks, epoch)
        finally:
            host.run("rm", CLOCK)


class TestFullDisk:
    """No space, at each write of each job."""

    def test_at_a_start(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        with no_space(host, KEPT) as free:
            signing.ask()
            signing.waits("No space")
            assert not signing.up()
            free()
            # It is tried again.
            host.wait_for_unit(VALIDATOR, seconds=60)
            signing.is_safe()
            signing.stop()
        signing.start()
        assert signing.row() == "continue"

    def test_at_an_import(self, signing: Signing, host: Machine) -> None:
        signing.stop()
        host.run("rm", "-rf", DATABASE)
        with no_space(host, DATA) as free:
            signing.ask("--no-watch")
            host.wait("a refusal", lambda: "No space" in host.property(VALIDATOR, "StatusText"), 60)
            assert not signing.up()
            free()
            host.wait_for_unit(VALIDATOR, seconds=60)
            signing.is_safe()
            signing.signs()
            signing.stop()
        signing.start()
        assert signing.row() == "continue"

    def test_at_a_backup(self, signing: Signing, host: Machine) -> None:
        # Else there is nothing to write.
        host.run("sh", "-c", f"rm -f {KEPT}/archives/*.claim")
        with no_space(host, KEPT, stopped=False):
            done = host.run("systemctl", "start", BACKUP, check=False)
            assert done.returncode == 1
            assert "No space" in host.property(BACKUP, "StatusText")
            assert signing.up()
        host.systemctl("start", BACKUP)
        signing.signs()

    def test_at_the_final_backup(self, signing: Signing, host: Machine) -> None:
        with no_space(host, KEPT):
            host.run("systemctl", "stop", VALIDATOR, check=False)
            signing.down()
            assert signing.running()
            assert "No space" in host.property(STATE, "StatusText")
        signing.start()
        assert signing.row() == "continue"
        signing.signs()

    def test_at_the_export(self, signing: Signing, host: Machine) -> None:
        with no_space(host, f"{DATA}/export"):
            # What it replaces makes room.
            host.run("sh", "-c", f"cd {DATA}/export; rm slashing-protection.json;"
                     " cat /dev/zero >>fill 2>/dev/null || true")  # fmt: skip
            host.run("systemctl", "stop", VALIDATOR, check=False)
            signing.down()
            assert "not clean" in signing.state_said()
            assert signing.running()
        signing.start()
        assert signing.row() == "continue"
        signing.is_safe()
        signing.signs()


@contextlib.contextmanager
def no_space(host: Machine, place: str, *, stopped: bool = True) -> Iterator[Callable[[], object]]:
    """Fill the disk that a directory is on; yield what makes room.

    With ``stopped`` everything is down at the end, and what was written is kept.
    """
    fill, mode = f"{place}/fill", host.output("stat", "--format=%a %u:%g", place)
    host.run("sh", "-ec", f"""
        set -- {mode}
        cp -a {place} /root/full
        mount -t tmpfs -o size=2m full {place}
        chmod $1 {place}; chown $2 {place}
        cp -a /root/full/. {place}/
        cat /dev/zero >{fill} 2>/dev/null || true
        """)  # fmt: skip
    free = partial(host.run, "rm", "-f", fill)
    try:
        yield free
    finally:
        free()
        kept = f"""
            rm -rf /root/full; cp -a {place} /root/full; umount {place}
            find {place} -mindepth 1 -delete; cp -a /root/full/. {place}/"""
        host.run("sh", "-ec", (kept if stopped else f"umount -l {place}") + "; rm -rf /root/full")


@contextlib.contextmanager
def wrong_clock(host: Machine, by: str) -> Iterator[None]:
    """Have the jobs see another time; the client, which signs by it, sees the right one."""
    (library,) = host.output("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").split()
    lines = f"[Service]\nEnvironment=LD_PRELOAD={library} FAKETIME={by} FAKETIME_DONT_FAKE_MONOTONIC=1\n"
    for unit in (STATE, BACKUP):
        host.write(f"/run/systemd/system/{unit}.d/clock.conf", lines)
    host.systemctl("daemon-reload")
    try:
        yield
    finally:
        for unit in (STATE, BACKUP):
            host.run("rm", f"/run/systemd/system/{unit}.d/clock.conf")
        host.systemctl("daemon-reload")
