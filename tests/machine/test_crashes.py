"""Crash points: wherever a job is killed, nothing is signed twice, and the next start goes on.

Each point is a system call in whose place a process is killed (lab/crash.py). After each the
validator is started again; its database must be at or above all that the beacon node has seen.
Without ``--long`` it is a sample of the points, the same in every run.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from lab import crash, guest
from lab.crash import Point, Trace, points, traced
from lab.machine import Machine
from lab.signing import (
    BACKUP,
    CLOCK,
    DATABASE,
    KEPT,
    NAME,
    STATE,
    VALIDATOR,
    Signing,
    highest,
)
from lab.standin.beacon import GENESIS, Message

# Slots of a second: short, so that every start signs; and long enough to be back in the same epoch.
SHORT, LONG = 4, 30
# And in QEMU, whose processor is a program.
EMULATED = 180
CUTS = 5
PLACE = "/mnt/backups"
# Of each job, without --long; chosen so that all of them take five minutes.
SAMPLE = 8


@pytest.fixture(scope="class")
def signing(request: pytest.FixtureRequest) -> Iterator[Signing]:
    """A validator that has signed, with a place for backups on its own host."""
    boot = getattr(request.cls, "BOOT", Signing.booted)
    with boot(request.cls.SUITE, near=PLACE, epoch=request.cls.EPOCH) as booted:
        host = booted.host
        # A lift by a verified clock is an epoch lower.
        host.write(CLOCK, "")
        booted.start("--no-watch")
        # Lifted over the whole of the next epoch.
        booted.signs(60 + 3 * request.cls.EPOCH)
        yield booted
        booted.is_safe()


def chosen(every: list[Point], long: bool) -> list[Point]:
    """Return all points, or a sample."""
    if long or len(every) <= SAMPLE:
        return every
    return sorted(random.Random(3076).sample(every, SAMPLE), key=every.index)


class Campaign:
    """Strikes one job at its points, and counts."""

    def __init__(self, signing: Signing, long: bool) -> None:
        self.signing = signing
        self.long = long
        self.survived: list[Point] = []
        self.missed: list[Point] = []

    def run(
        self,
        trace: Trace,
        prepare: Callable[[], object],
        act: Callable[[], object],
        after: Callable[[int], object],
    ) -> None:
        """Act once, then strike at the points that this has shown; look after each."""
        signing = self.signing
        prepare()
        trace.arm()
        act()
        every = points(trace.text())
        assert every
        after(0)
        for number, point in enumerate(chosen(every, self.long), 1):
            prepare()
            trace.arm(point)
            act()
            trace.disarm()
            struck = crash.struck(trace.text())
            (self.survived if struck else self.missed).append(point)
            after(number)
            signing.has_started_safely()
        print(f"{trace.name}: {len(self.survived)} of {len(every)} points survived, "
              f"not reached: {', '.join(map(str, self.missed)) or 'none'}")  # fmt: skip
        assert len(self.survived) >= len(self.missed)


@pytest.fixture
def campaign(signing: Signing, request: pytest.FixtureRequest) -> Campaign:
    return Campaign(signing, bool(request.config.getoption("--long")))


def goes_on(signing: Signing, *orders: str) -> None:
    """Have it run, whatever its state is."""
    # A start that is asked for while something is ending fails with it.
    settled = lambda: signing.up() or (signing.is_down() and signing.is_down(STATE))  # noqa: E731
    signing.host.wait("its start or its end", settled, 90)
    if not signing.up():
        if orders:
            signing.ask(*orders)
        # Waits for it.
        signing.host.systemctl("start", VALIDATOR, seconds=90)


def ends(signing: Signing) -> None:
    """Stop it, however badly."""
    # With its state, which would stop by itself: that is waited for.
    signing.host.run("systemctl", "stop", VALIDATOR, STATE, check=False)
    signing.down()


class TestStart:
    """The state's job: gather, decide, claim, hand over."""

    SUITE = "bookworm"
    EPOCH = SHORT

    def test_after_a_clean_stop(self, signing: Signing, campaign: Campaign) -> None:
        def act() -> None:
            signing.host.run("systemctl", "start", VALIDATOR, check=False)

        with traced(signing.host, STATE) as trace:
            campaign.run(trace, lambda: ends(signing), act, lambda _: goes_on(signing))
            signing.signs()

    def test_with_a_lost_database(self, signing: Signing, campaign: Campaign) -> None:
        def prepare() -> None:
            ends(signing)
            signing.host.run("rm", "-rf", DATABASE)

        def act() -> None:
            signing.ask("--no-watch")
            signing.host.run("systemctl", "start", VALIDATOR, check=False)

        def after(number: int) -> None:
            # What was ordered was for the start that was killed.
            goes_on(signing, "--no-watch")
            if number % 4 == 0:
                signing.signs()

        with traced(signing.host, STATE) as trace:
            campaign.run(trace, prepare, act, after)
            signing.signs()


class TestPreparation:
    """The validator's job until it is the client: import into an empty database, compare."""

    SUITE = "trixie"
    EPOCH = SHORT

    def test_with_a_lost_database(self, signing: Signing, campaign: Campaign) -> None:
        self.strike(signing, campaign, lambda: None)

    def test_with_a_database_that_is_behind(self, signing: Signing, campaign: Campaign) -> None:
        goes_on(signing)
        ends(signing)
        signing.host.run("cp", "-a", DATABASE, "/root/older")
        goes_on(signing)
        signing.signs()
        self.strike(
            signing, campaign, lambda: signing.host.run("cp", "-a", "/root/older", DATABASE)
        )

    @staticmethod
    def strike(signing: Signing, campaign: Campaign, instead: Callable[[], object]) -> None:
        """Strike starts without the database, or with what ``instead`` puts in its place."""

        def prepare() -> None:
            ends(signing)
            signing.host.run("rm", "-rf", DATABASE)
            instead()

        def act() -> None:
            signing.ask("--no-watch")
            signing.host.wait_for_unit(VALIDATOR, seconds=60)
            if not trace_was_struck(signing.host, VALIDATOR):
                ends(signing)

        def after(number: int) -> None:
            goes_on(signing)
            if number % 4 == 0:
                signing.signs()

        with traced(signing.host, VALIDATOR) as trace:
            campaign.run(trace, prepare, act, after)
            goes_on(signing)
            signing.signs()


def trace_was_struck(machine: Machine, unit: str) -> bool:
    """Whether the process was killed at its point; else strace is with the client as it runs."""
    said = machine.run("cat", f"{crash.PLACE}/{unit}.trace", check=False).stdout
    return crash.struck(said)


class TestBackup:
    """The backup while it runs."""

    SUITE = "bookworm"
    EPOCH = SHORT

    @pytest.mark.parametrize("new", [True, False])
    def test_every_point(self, signing: Signing, campaign: Campaign, new: bool) -> None:
        """An archive where the client has exported something ``new``, else a claim."""

        def prepare() -> None:
            if new:
                before = signing.host.property(VALIDATOR, "MainPID")
                signing.kill()
                restarted = lambda: signing.host.property(VALIDATOR, "MainPID") not in ("0", before)  # noqa: E731
                signing.host.wait("a restart", restarted)
                signing.host.wait_for_unit(VALIDATOR)
            for place in (PLACE, f"{KEPT}/archives"):
                signing.host.run("sh", "-c", f"rm -f {place}/{NAME}.*.claim")

        def act() -> None:
            signing.host.run("systemctl", "start", BACKUP, check=False)

        def after(_: int) -> None:
            signing.host.systemctl("start", BACKUP)
            assert signing.files(kind="age" if new else "claim")[0] in at(signing)

        with traced(signing.host, BACKUP) as trace:
            campaign.run(trace, prepare, act, after)
            signing.signs()


class TestStop:
    """What follows an exit: the export, and the final backup."""

    SUITE = "trixie"
    EPOCH = SHORT

    @pytest.mark.parametrize(
        ("unit", "directive", "line"),
        [(STATE, "ExecStop", 0), (VALIDATOR, "ExecStopPost", 1), (VALIDATOR, "ExecStopPost", 0)],
    )
    def test_every_point(
        self, signing: Signing, campaign: Campaign, unit: str, directive: str, line: int
    ) -> None:
        def after(number: int) -> None:
            # One in three loses its database, too: what was signed is then in no place but those
            # that were there before.
            if number % 3 == 2:
                signing.host.run("rm", "-rf", DATABASE)
                goes_on(signing, "--no-watch")
            else:
                goes_on(signing)
            if number % 4 == 0:
                signing.signs()

        with traced(signing.host, unit, directive, line) as trace:
            campaign.run(trace, lambda: goes_on(signing), lambda: ends(signing), after)
            signing.signs()


def at(signing: Signing) -> list[str]:
    return signing.host.output("ls", PLACE).split()


class TestCuts:
    """The whole machine is cut off while it signs, and starts again in the same epoch."""

    SUITE = "trixie"
    EPOCH = LONG

    def test_cuts(self, signing: Signing, request: pytest.FixtureRequest) -> None:
        chance = random.Random(2024)
        number = 20 if request.config.getoption("--long") else 4
        rows: Counter[str] = Counter()
        lost = same = epoch = 0
        for turn in range(number):
            epoch = attested(signing, LONG, epoch)
            signing.host.run("sleep", f"{chance.random():.2f}")
            # Every second time all of this epoch: not more, what was imported is on the disk.
            first = min(float(r["time"]) for r in attestations(signing) if r["target"] == epoch)
            lost += signing.cut(time.time() - first + 0.1 if turn % 2 else 0)
            signing.host.wait_for_unit(VALIDATOR, seconds=90)
            same += epoch_now(LONG) == epoch
            rows[signing.row()] += 1
            signing.has_started_safely()
        signing.signs(3 * LONG)
        print(f"{number} cuts survived, {same} of them within the epoch of the last signature; "
              f"{lost} messages were lost by the client; {dict(rows)}")  # fmt: skip
        assert lost
        assert same
        assert rows == {"power-cut": number}


def attestations(signing: Signing) -> list[Message]:
    return [message for message in signing.beacon.recorded() if message["kind"] == "attestation"]


def attested(signing: Signing, slots: int, after: int) -> int:
    """Wait until every key has attested in this epoch of so many slots, a later one; return it."""

    def whole() -> bool:
        last = min(target for _, _, target in highest(signing.beacon).values())
        return after < last == epoch_now(slots)

    signing.host.wait("attestations of another epoch", whole, 3 * slots)
    return epoch_now(slots)


def epoch_now(slots: int) -> int:
    return int(time.time() - GENESIS) // slots


@pytest.mark.long
class TestCutsInQemu:
    """Again, with a kernel that ends with its machine: nobody but the cut takes anything away."""

    SUITE = "trixie"
    EPOCH = EMULATED
    BOOT = guest.signing

    def test_cuts(self, signing: Signing) -> None:
        chance = random.Random(3076)
        rows: Counter[str] = Counter()
        lost = same = epoch = 0
        began = time.time()
        for _ in range(CUTS):
            epoch = attested(signing, EMULATED, epoch)
            time.sleep(5 * chance.random())
            signing.host.cut()
            cut = time.time()
            signing.host.boot_again()
            lost += forgotten(signing, began)
            began = cut
            signing.unlock()
            signing.host.wait_for_unit(VALIDATOR, seconds=180)
            same += epoch_now(EMULATED) == epoch
            rows[signing.row()] += 1
            signing.has_started_safely()
        signing.signs(2 * EMULATED)
        print(f"{CUTS} cuts survived in QEMU, {same} of them within the epoch of the last "
              f"signature; {lost} messages were lost by the client; {dict(rows)}")  # fmt: skip
        assert lost
        assert same
        assert rows == {"power-cut": CUTS}


def forgotten(signing: Signing, since: float) -> int:
    """Return how many messages of a time the beacon node has, and the client's database has not."""
    # As the client reads it: after the last whole line may be zeros.
    whole = signing.host.run("cat", f"{DATABASE}/log").stdout.rpartition("\n")[0]
    known = {(line.get("key"), line.get("root")) for line in map(json.loads, whole.splitlines())}
    seen = [record for record in signing.beacon.recorded() if float(record["time"]) > since]
    return sum((record["key"], record["root"]) not in known for record in seen)


class TestKills:
    """Whatever of it is killed, at whatever moment."""

    SUITE = "bookworm"
    EPOCH = SHORT

    def test_kills(self, signing: Signing, request: pytest.FixtureRequest) -> None:
        chance = random.Random(1559)
        host = signing.host
        number = 300 if request.config.getoption("--long") else 40
        deeds: list[Callable[[], object]] = [
            lambda: signing.kill(VALIDATOR),
            lambda: signing.kill(STATE),
            lambda: signing.kill(BACKUP),
            lambda: host.systemctl("start", "--no-block", BACKUP),
            lambda: host.systemctl("stop", "--no-block", VALIDATOR),
            lambda: host.systemctl("start", "--no-block", VALIDATOR),
            lambda: host.systemctl("restart", "--no-block", VALIDATOR),
        ]
        for turn in range(number):
            chance.choices(deeds, [4, 2, 2, 2, 1, 3, 1])[0]()
            host.run("sleep", f"{chance.random() * 1.5:.2f}")
            if turn % 10 == 9:
                signing.kill(STATE)
                goes_on(signing)
                signing.has_started_safely()
                signing.signs()
                signing.is_safe()
        # Of the units; what was not running was not killed.
        kills = host.journal("--boot").count("status=9/KILL")
        print(f"{number} kills and orders survived, {kills} processes killed")
        assert kills > number / 8
