"""Never sign twice: whatever happens to one host, and to two of which a person takes care.

Two may share a node, or have nothing in common but a file that one has made for the other.

Every start is tried as if a person had typed `resume` before it: no latch helps. Of take-overs the
person keeps the promise that the other host is off at that time; it may start again by itself.
"""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.hosts import CHAIN, IDENTITY, SLOTS, CutError, Host, Node, World
from validator_supervisor import backup_job, orders, transfer
from validator_supervisor.cli import adopt_job, retire_job
from validator_supervisor.cli.remove_job import Job
from validator_supervisor.errors import SupervisorError
from validator_supervisor.orders import Orders
from validator_supervisor.transfer import Request

CODE = b"abcd-efgh-ijkm-npqr-stuv-2345"


class Machine(RuleBasedStateMachine):
    """What can happen to one host, in any order."""

    HOSTS = 1

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.HOSTS)

    def teardown(self) -> None:
        self.world.close()

    def one(self, number: int) -> Host:
        return self.world.hosts[number % self.HOSTS]

    def attempt(
        self, one: Host, do: Callable[[Host], None], cut: int | None, *, tail: bool
    ) -> None:
        """Do something that may be refused, and that may be cut off, by a kill or with power."""
        self.world.cut_in = cut
        try:
            do(one)
        except SupervisorError:
            pass
        except CutError:
            one.running = False
            if tail:
                self.world.power_cut(one, tail=True)
            elif not one.given:
                one.wipe_memory()
        finally:
            self.world.cut_in = None
            self.world.meanwhile = None

    @initialize()
    def begin(self) -> None:
        self.world.start(self.one(0))
        self.time_passes(3 * SLOTS)

    @rule(slots=st.integers(1, 6))
    def time_passes(self, slots: int) -> None:
        for _ in range(slots):
            self.world.slot()

    @rule(number=st.integers(0, 1), cut=st.none() | st.integers(0, 14), tail=st.booleans())
    def start(self, number: int, cut: int | None, tail: bool) -> None:
        self.reach()
        if not self.one(number).running:
            self.attempt(self.one(number), self.world.start, cut, tail=tail)

    @rule(number=st.integers(0, 1), cut=st.none() | st.integers(0, 12), tail=st.booleans())
    def stop(self, number: int, cut: int | None, tail: bool) -> None:
        self.attempt(self.one(number), self.world.stop, cut, tail=tail)

    @rule(number=st.integers(0, 1), exports=st.booleans())
    def client_dies(self, number: int, exports: bool) -> None:
        one = self.one(number)
        one.exports = exports
        if one.running:
            self.world.export(one)
        one.exports = True

    @rule(number=st.integers(0, 1))
    def client_hides_what_it_signed_when_it_stops(self, number: int) -> None:
        one = self.one(number)
        one.exports = False
        self.attempt(one, self.world.stop, None, tail=False)
        one.exports = True

    @rule(number=st.integers(0, 1), tail=st.booleans())
    def power_cut(self, number: int, tail: bool) -> None:
        self.world.power_cut(self.one(number), tail=tail)

    @rule(number=st.integers(0, 1))
    def flush(self, number: int) -> None:
        one = self.one(number)
        if one.log.exists():
            one.synced = one.log.read_text()

    @rule(number=st.integers(0, 1))
    def database_is_lost(self, number: int) -> None:
        one = self.one(number)
        if not one.running:
            one.log.unlink(missing_ok=True)
            one.synced = None

    @rule(number=st.integers(0, 1))
    def backup(self, number: int) -> None:
        one, world = self.one(number), self.world
        if one.running:
            with world.at(one):
                try:
                    backup_job.run(world.applied, world.validator, world.store(one), world.nodes,
                                   IDENTITY, int(time.time()), one.disk)  # fmt: skip
                except SupervisorError:
                    one.running = False

    @rule(away=st.booleans())
    def honest_node(self, away: bool) -> None:
        self.world.nodes[0].away = away

    @rule(old=st.integers(0, 6), away=st.booleans())
    def hostile_node(self, old: int, away: bool) -> None:
        node = self.world.nodes[1]
        node.away = away
        node.shown = lambda names: names[: len(names) * old // 6]

    def reach(self) -> None:
        """Of one host nothing is asked."""


class Pair(Machine):
    """Two hosts and an honest node that is reached at each start."""

    HOSTS = 2

    def reach(self) -> None:
        self.world.nodes[0].away = False

    @rule(number=st.integers(0, 1), clean=st.booleans(), cut=st.none() | st.integers(0, 14))
    def take_over(self, number: int, clean: bool, cut: int | None) -> None:
        one, other = self.one(number), self.one(number + 1)
        if clean:
            self.attempt(other, self.world.stop, None, tail=False)
        self.world.power_cut(other, tail=not clean)
        self.reach()
        if one.running or one.given:
            return
        with self.world.at(one):
            given = Orders.of(one.boot_id, take_over=True,
                              sequence=self.world.newest_of_others(one))  # fmt: skip
            orders.give(self.world.store(one), given)
        self.attempt(one, self.world.start, cut, tail=False)

    @rule(number=st.integers(0, 1), cut=st.none() | st.integers(0, 14))
    def both_start_at_once(self, number: int, cut: int | None) -> None:
        one, other = self.one(number), self.one(number + 1)
        self.reach()
        if one.running or other.running:
            return

        def second() -> None:
            kept, self.world.cut_in = self.world.cut_in, None
            self.attempt(other, self.world.start, None, tail=False)
            self.world.cut_in = kept

        self.world.meanwhile = second
        self.attempt(one, self.world.start, cut, tail=False)

    @rule(number=st.integers(0, 1))
    def disk_is_lost(self, number: int) -> None:
        one = self.one(number)
        shutil.rmtree(one.disk)
        one.make()
        one.synced = None
        self.world.power_cut(one, tail=True)

    @precondition(lambda self: not self.world.hosts[1].running)
    @rule(skew=st.integers(-2, 6))
    def clock(self, skew: int) -> None:
        self.world.hosts[1].skew = skew


class Apart(World):
    """Two hosts that have no node in common, and so know nothing of each other."""

    places: tuple[list[Node], list[Node]]

    @property
    def nodes(self) -> list[Node]:
        return self.places[self.here.number]

    @nodes.setter
    def nodes(self, nodes: list[Node]) -> None:
        self.places = nodes, [Node("another"), Node("hostile, too")]


class Moving(Machine):
    """Keys that move between two hosts by files; the newest is adopted by one host only."""

    HOSTS = 2

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        self.world = Apart(self.HOSTS)
        # The work of opening a file is not what is tested here.
        self.world.patches.setattr(transfer, "seal", partial(transfer.seal, work_factor=1))
        # Whose the keys are; -1: they are in the file alone.
        self.holder = 0
        self.file = b""

    def job(self, one: Host) -> Job:
        world = self.world
        return Job(world.applied, world.validator, world.store(one), IDENTITY, world.nodes,
                   lambda: not one.given)  # fmt: skip

    @rule(number=st.integers(0, 1), stop=st.booleans(), cut=st.none() | st.integers(0, 5),
          tail=st.booleans())  # fmt: skip
    def retire(self, number: int, stop: bool, cut: int | None, tail: bool) -> None:
        made: list[bytes] = []

        def do(one: Host) -> None:
            with self.world.at(one):
                retire_job.mark(self.job(one), int(time.time()))
                made.append(retire_job.seal(self.job(one), CODE))

        if stop:
            self.attempt(self.one(number), self.world.stop, None, tail=False)
        self.attempt(self.one(number), do, cut, tail=tail)
        if made and number == self.holder:
            self.file, self.holder = made[0], -1

    @rule(number=st.integers(0, 1), cut=st.none() | st.integers(0, 10), tail=st.booleans())
    def adopt(self, number: int, cut: int | None, tail: bool) -> None:
        def do(one: Host) -> None:
            try:
                with self.world.at(one):
                    adopt_job.adopt(self.job(one), Request(CODE, self.file), CHAIN)
            except SupervisorError:
                raise
            except CutError:
                # Whether it has come so far nobody knows: it is repeated there.
                self.holder = number
                raise
            self.holder = number

        if self.file and self.holder in (-1, number):
            self.attempt(self.one(number), do, cut, tail=tail)

    @rule(cut=st.none() | st.integers(0, 14), again=st.booleans())
    def it_moves(self, cut: int | None, again: bool) -> None:
        """Do all of it in turn, as a person does, who then tries the host that it has left."""
        begin = max(self.holder, 0)
        self.start(begin, None, tail=False)
        self.time_passes(3 * SLOTS)
        self.retire(begin, True, cut, tail=False)
        self.retire(begin, True, None, tail=False)
        if again:
            self.start(begin, None, tail=False)
        self.adopt(1 - begin, cut, tail=False)
        self.adopt(1 - begin, None, tail=False)
        self.start(1 - begin, None, tail=False)
        self.time_passes(2)
        self.start(begin, None, tail=False)
        self.time_passes(3 * SLOTS)

    @rule(skew=st.integers(-2, 6))
    def clock(self, skew: int) -> None:
        if not self.world.hosts[1].running:
            self.world.hosts[1].skew = skew


LIMITS = settings(
    max_examples=int(os.environ.get("SAFETY_EXAMPLES", "15")),
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
    deadline=None,
    derandomize="SAFETY_EXAMPLES" not in os.environ,
)
TestOneHost = Machine.TestCase
TestOneHost.settings = LIMITS
TestMoving = Moving.TestCase
TestMoving.settings = LIMITS
TestTwoHosts = Pair.TestCase
TestTwoHosts.settings = LIMITS
