"""The rounds of validator-watch.service: asks beacon nodes, remembers what they said."""

import time
from concurrent.futures import Executor, Future, wait
from dataclasses import replace
from pathlib import Path

from validator_supervisor import journal, watch
from validator_supervisor.beacon import Beacon, Chain
from validator_supervisor.config import Applied, Validator
from validator_supervisor.document import read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.watch import Attesting, Reading, Target

RUNTIME = Path("/run/validator")
PUBLIC_KEY = r"0x[0-9a-f]{96}"


class Watcher:
    """What is known between two looks."""

    def __init__(self, applied: Applied) -> None:
        self.applied = applied
        self.targets = watch.targets(applied)
        self.readings = {t.url: Reading(t.url) for t in self.targets}
        self.attesting: dict[str, Attesting] = {}
        self._chains: dict[str, Chain] = {}
        # By validator: the keys that were asked for, and their indices once all are known.
        self._indices: dict[str, tuple[tuple[str, ...], list[int]]] = {}
        self._next: dict[str, float] = {}
        # A URL holds a colon, a validator's name does not.
        self._pending: dict[str, Future[Reading] | Future[Attesting | None]] = {}
        # What was last logged of a validator whose liveness cannot be seen.
        self._logged: dict[str, str] = {}

    def look(self, pool: Executor) -> None:
        """Begin to look at everything whose time has come; ``settle`` has the results.

        Nothing waits for a slow node: each node and each validator is looked at by itself.
        """
        now = time.monotonic()
        for target in self.targets:
            if self._next.get(target.url, 0) <= now and target.url not in self._pending:
                self._pending[target.url] = pool.submit(self._observe, target)
        for validator in self.applied.config.validators.values():
            name = validator.name
            if validator.kind != "ethereum" or name in self._pending:
                continue
            if not self._healthy(validator):
                self.attesting.pop(name, None)
            elif self._next.get(name, 0) <= now:
                self._next[name] = now + watch.HEALTHY_SECONDS / 2
                self._pending[name] = pool.submit(self._look_at_validator, validator)

    def settle(self, seconds: float | None) -> None:
        """Take in what has been seen, waiting at most ``seconds`` for all of it."""
        pending: list[Future[Reading] | Future[Attesting | None]] = list(self._pending.values())
        wait(pending, timeout=seconds)  # type: ignore[misc]  # it takes futures of one type
        for key in [key for key, future in self._pending.items() if future.done()]:
            seen = self._pending.pop(key).result()
            if isinstance(seen, Reading):
                self._note(key, seen)
            elif seen:
                self.attesting[key] = seen
            else:
                self.attesting.pop(key, None)

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
        parts += [f"{r.url}: {r.problem}" for r in self.readings.values() if not r.healthy]
        return "; ".join(parts)

    def _note(self, url: str, reading: Reading) -> None:
        before = self.readings[url]
        self.readings[url] = reading
        pause = watch.HEALTHY_SECONDS if reading.healthy else watch.UNHEALTHY_SECONDS
        self._next[url] = time.monotonic() + pause
        if reading.healthy and not before.healthy:
            journal.log(journal.NOTICE, f"{url} is healthy")
        elif before.healthy and not reading.healthy:
            journal.log(journal.WARNING, f"{url}: {reading.problem}")

    def _observe(self, target: Target) -> Reading:
        beacon = Beacon(target.url)
        before = self.readings[target.url]
        started = time.monotonic()
        try:
            syncing = beacon.syncing()
            latency = time.monotonic() - started
            chain = self._chains.get(target.url)
            if not chain or not before.healthy:
                # Asked again after each trouble: what answers there may be another node now.
                chain = self._chains[target.url] = beacon.chain()
            problem = watch.problem_of(target, chain, syncing, time.time())
        except SupervisorError as failure:
            return watch.advance(before, failure.message, 0, 0, time.time())
        return watch.advance(before, problem, latency, syncing.head_slot, time.time())

    def _look_at_validator(self, validator: Validator) -> Attesting | None:
        """Ask the first healthy node which keys were seen to sign in this and the last epoch."""
        known = self._running(validator)
        urls = self._healthy(validator)
        if not known or not urls:
            return None
        beacon, chain = Beacon(urls[0]), self._chains[urls[0]]
        epoch = chain.slot(time.time()) // chain.slots_per_epoch
        before = self.attesting.get(validator.name, Attesting(keys=len(known)))
        try:
            indices = self._indices_of(validator.name, known, beacon)
            # Not from what was seen before: another node's clock may have been ahead.
            for asked in range(max(0, epoch - 1) if before.epoch != epoch else epoch, epoch + 1):
                live = beacon.live(asked, indices) if indices else 0
                if live:
                    before = Attesting(asked, live, len(known))
        except SupervisorError as failure:
            if self._logged.get(validator.name) != failure.message:
                self._logged[validator.name] = failure.message
                journal.log(journal.WARNING, f"liveness of {validator.name}: {failure.message}")
        else:
            self._logged.pop(validator.name, None)
        return replace(before, keys=len(known))

    def _healthy(self, validator: Validator) -> list[str]:
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

    def _running(self, validator: Validator) -> tuple[str, ...]:
        """Return the public keys of a validator that runs; its file is not trusted."""
        try:
            stored = read_json(RUNTIME / validator.name / "run.json").mapping()["public_keys"]
            return tuple(key.string(PUBLIC_KEY, "a public key") for key in stored.items())
        except (KeyError, SupervisorError):
            return ()
