"""The rounds of validator-watch.service: asks beacon nodes, remembers what they said."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock

from validator_supervisor import durable, journal, networks, slashed, watch
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import NOT_OFFERED, Beacon
from validator_supervisor.document import read_json
from validator_supervisor.duties import Duties
from validator_supervisor.epochs import Epochs, Heard, Nodes, Planned
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import NETWORKS, Chain
from validator_supervisor.nodes import ANY
from validator_supervisor.validators import Ethereum
from validator_supervisor.watch import Attesting, Reading, Target

RUNTIME = Path("/run/validator")
PUBLIC_KEY = r"0x[0-9a-f]{96}"
# What is due this soon is looked at now, and what is seen this soon after the first is taken in
# with it: one wake-up and one file of results instead of several.
TOGETHER_SECONDS, GATHER_SECONDS = 1.0, 0.2

Seen = Reading | Heard | Planned | Attesting | None


@dataclass(frozen=True)
class Rare:
    """What hardly ever changes of a beacon node, and when it was asked (monotonic clock)."""

    asked: float
    chain: Chain
    peers: int


class Watcher:
    """What is known between two looks."""

    def __init__(self, applied: Applied) -> None:
        self.applied = applied
        self.targets = watch.targets(applied)
        self.readings = {t.url: Reading(t.url) for t in self.targets}
        self.attesting: dict[str, Attesting] = {}
        self._beacons = {t.url: Beacon(t.url) for t in self.targets}
        self._rare: dict[str, Rare] = {}
        # The chain of each node that has answered, with the times that count.
        self._chains: dict[str, Chain] = {}
        self._pins = _pins()
        self._pinning = Lock()
        # By validator: the keys that were asked for, and their indices once all are known.
        self._indices: dict[str, tuple[tuple[str, ...], list[int]]] = {}
        self._next: dict[str, float] = {}
        # By validator: the node that was asked last.
        self._asked: dict[str, str] = {}
        self._epochs = Epochs(applied, Nodes(self._beacons, self._chains, self._indices_of))
        # A URL holds a colon, a validator's name does not, and only questions of epochs a space.
        self._pending: dict[str, Future[Seen]] = {}
        self._once = journal.Once()

    def look(self, pool: Executor) -> None:
        """Begin to look at everything whose time has come; ``settle`` has the results.

        Nothing waits for a slow node: each node and each validator is looked at by itself.
        """
        soon = time.monotonic() + TOGETHER_SECONDS
        for due, key, look in list(self._idle()):
            if due <= soon:
                self._pending[key] = pool.submit(look)

    def settle(self, longest: float) -> None:
        """Wait until something has been seen or is due, at most ``longest`` seconds; take it in."""
        now = time.monotonic()
        end = min([due for due, _, _ in self._idle()] + [now + longest])
        seconds = max(0.0, end - now)
        if self._pending:
            wait(self._pending.values(), seconds, FIRST_COMPLETED)
            wait(self._pending.values(), min(seconds, GATHER_SECONDS))
        else:
            time.sleep(seconds)
        now = time.monotonic()
        for key in [key for key, future in self._pending.items() if future.done()]:
            self._take_in(key, self._pending.pop(key).result(), now)
        self._epochs.slashings.settle()

    def _idle(self) -> Iterator[tuple[float, str, Callable[[], Seen]]]:
        """Yield what is not being looked at, but could be, and when it is due."""
        for target in self.targets:
            if target.url not in self._pending:
                yield self._next.get(target.url, 0.0), target.url, partial(self._observe, target)
        for validator in self.applied.config.ethereum:
            healthy = self._healthy(validator)
            for due, key, look in self._questions(validator, healthy) if healthy else ():
                if key not in self._pending:
                    yield due, key, look

    def _questions(
        self, validator: Ethereum, healthy: list[str]
    ) -> Iterator[tuple[float, str, Callable[[], Seen]]]:
        # Another node than before may know more: it is asked at once.
        again = self._asked.get(validator.name) == healthy[0]
        due = self._next.get(validator.name, 0.0) if again else 0.0
        yield due, validator.name, partial(self._look_at_validator, validator, healthy[0])
        yield from self._epochs.questions(validator, healthy)

    def _take_in(self, key: str, seen: Seen, now: float) -> None:
        if isinstance(seen, Reading):
            self._note(key, seen, now)
            return
        if isinstance(seen, Heard | Planned):
            self._epochs.take_in(key, seen, now, list(self._pending))
            return
        pause = watch.liveness_seconds(self._chains[self._asked[key]])
        self._next[key] = now + pause
        if seen:
            self.attesting[key] = seen
        else:
            self.attesting.pop(key, None)
        self._forget_attesting()

    @property
    def duties(self) -> dict[str, Duties]:
        """Return the duties of each running validator of which they are known."""
        return self._epochs.duties

    @property
    def slashed(self) -> dict[str, list[str]]:
        """Return the keys that are slashed, of each validator that has such."""
        return self._epochs.slashings.slashed

    @property
    def halting(self) -> bool:
        """Whether a halt was asked for that has not come yet."""
        return self._epochs.slashings.halting

    @property
    def complete(self) -> bool:
        """Whether every node has been looked at."""
        return all(target.url in self._next for target in self.targets)

    def status(self) -> str:
        """Return one line for systemctl status."""
        healthy = sum(reading.healthy for reading in self.readings.values())
        parts = [f"{healthy} of {len(self.readings)} beacon nodes healthy"]
        for name, value in sorted(self.attesting.items()):
            parts.append(f"{name}: {value.live} of {value.keys} keys live in epoch {value.epoch}")
        duties = self.duties
        through = sorted({left.epoch for left in duties.values()})
        parts += [f"duties known through epoch {epoch}" for epoch in through]
        parts += [f"{name}: {left}" for name, left in sorted(duties.items()) if str(left)]
        parts += [f"{name}: {slashed.names(keys)}" for name, keys in sorted(self.slashed.items())]
        parts += [f"{r.url}: {r.problem}" for r in self.readings.values() if not r.healthy]
        return "; ".join(parts)

    def _note(self, url: str, reading: Reading, now: float) -> None:
        before = self.readings[url]
        self.readings[url] = reading
        pause = watch.HEALTHY_SECONDS if reading.healthy else watch.UNHEALTHY_SECONDS
        self._next[url] = now + pause
        if reading.healthy and not before.healthy:
            journal.log(journal.NOTICE, f"{url} is healthy")
        elif before.healthy and not reading.healthy:
            journal.log(journal.WARNING, f"{url}: {reading.problem}")
            self._forget_attesting()

    def _forget_attesting(self) -> None:
        """Forget what was seen of the validators that have no healthy node any more."""
        for validator in self.applied.config.ethereum:
            if validator.name in self.attesting and not self._healthy(validator):
                del self.attesting[validator.name]
                self._next[validator.name] = 0.0

    def _observe(self, target: Target) -> Reading:
        before = self.readings[target.url]
        started = time.monotonic()
        try:
            syncing = self._beacons[target.url].syncing()
            latency = time.monotonic() - started
            rare = self._rare_of(target, before)
            known = watch.known_chain(target.network, self._pins or {})
            self._chains[target.url] = known or rare.chain
            problem = watch.problem_of(target, rare.chain, known, syncing, rare.peers, time.time())
        except SupervisorError as failure:
            # It is not asked about its chain before it answers again, but others may agree by then.
            self._rare.pop(target.url, None)
            return watch.advance(before, failure.message, 0, 0, time.time())
        return watch.advance(before, problem, latency, syncing.head_slot, time.time(), rare.peers)

    def _rare_of(self, target: Target, before: Reading) -> Rare:
        rare = self._rare.get(target.url)
        now = time.monotonic()
        # Asked again after each trouble: what answers there may be another node now.
        if not rare or before.problem or now - rare.asked >= watch.RARE_SECONDS:
            beacon = self._beacons[target.url]
            rare = Rare(now, beacon.chain(), _peers(beacon))
            self._rare[target.url] = rare
            self._pin(target.network)
        return rare

    def _pin(self, network: str) -> None:
        """Write down what a network is, for good, when its nodes agree about it."""
        with self._pinning:
            if self._pins is None or network in (ANY, *NETWORKS, *self._pins):
                return
            nodes = [self._rare.get(target.url) for target in self.targets
                     if target.network == network]  # fmt: skip
            chain = networks.agreed([node.chain if node else None for node in nodes])
            if chain:
                pins = {**self._pins, network: chain}
                try:
                    durable.write(networks.PINS, networks.dump_pins(pins), 0o644)
                except OSError as failure:
                    self._once.log("pins", f"{networks.PINS}: {failure.strerror}")
                    return
                self._pins = pins
                journal.log(journal.NOTICE, f"{network} is pinned: {chain.genesis_validators_root}")

    def _look_at_validator(self, validator: Ethereum, url: str) -> Attesting | None:
        """Ask a node which keys were seen to sign in this and the last epoch."""
        self._asked[validator.name] = url
        known = self._running(validator)
        self._epochs.run(validator.name, known)
        if not known:
            return None
        beacon, chain = self._beacons[url], self._chains[url]
        epoch = chain.slot(time.time()) // chain.slots_per_epoch
        before = self.attesting.get(validator.name, Attesting(keys=len(known)))
        try:
            indices = self._indices_of(validator.name, known, beacon)
            # Each key attests once in an epoch, and the last one is complete: this one counts only
            # while nothing was seen in that.
            for asked in dict.fromkeys((max(0, epoch - 1), epoch)):
                live = beacon.live(asked, indices) if indices else 0
                if live:
                    before = Attesting(asked, live, len(known))
                    break
        except SupervisorError as failure:
            self._once.log(f"liveness of {validator.name}", failure.message)
        else:
            self._once.forget(f"liveness of {validator.name}")
        return replace(before, keys=len(known))

    def _healthy(self, validator: Ethereum) -> list[str]:
        urls = self.applied.beacons(validator).values()
        return [url for url in urls if self.readings[url].healthy]

    def _indices_of(self, name: str, known: tuple[str, ...], beacon: Beacon) -> list[int]:
        asked, indices = self._indices.get(name, ((), []))
        if asked != known:
            # More indices than keys are a lie; fewer are keys whose deposit is on its way.
            indices = beacon.indices(known)[: len(known)]
            if len(indices) == len(known):
                self._indices[name] = (known, indices)
        return indices

    def _running(self, validator: Ethereum) -> tuple[str, ...]:
        """Return the public keys of a validator that runs; its file is not trusted."""
        try:
            stored = read_json(RUNTIME / validator.name / "run.json").mapping()["public_keys"]
            keys = [key.string(PUBLIC_KEY, "a public key") for key in stored.items()]
            return tuple(dict.fromkeys(keys))
        except (KeyError, SupervisorError):
            return ()


def _pins() -> dict[str, Chain] | None:
    """Return the pinned chains; None where they cannot be read, and nothing may be pinned."""
    try:
        return networks.load_pins()
    except SupervisorError as failure:
        failure.hint = "restore the file, or remove it to have the nodes agree anew"
        journal.error(failure)
        return None


def _peers(beacon: Beacon) -> int:
    try:
        return beacon.peers()
    except SupervisorError as failure:
        if failure.code != NOT_OFFERED:
            raise
        return watch.UNKNOWN
