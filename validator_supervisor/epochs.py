"""What is asked about a running validator once in each epoch: slashed keys, and duties."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from validator_supervisor import duties, journal, watch
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import NOT_OFFERED, Beacon, Committees
from validator_supervisor.duties import Duties, Known
from validator_supervisor.errors import SupervisorError
from validator_supervisor.networks import Chain
from validator_supervisor.slashed import Slashings, Words
from validator_supervisor.validators import Ethereum

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Heard:
    """What a beacon node has said of a validator's keys; None: nothing this time."""

    validator: Ethereum
    url: str
    keys: Keys
    words: Words | None
    failed: bool = False


@dataclass(frozen=True)
class Planned:
    """What a beacon node has said of a validator's duties; None: nothing this time."""

    validator: Ethereum
    url: str
    keys: Keys
    known: Known | None
    failed: bool = False


Said = Heard | Planned
Question = tuple[float, str, Callable[[], Said]]


@dataclass(frozen=True)
class Nodes:
    """The beacon nodes by URL, their chains, and how to learn the indices of a validator's keys."""

    beacons: Mapping[str, Beacon]
    chains: Mapping[str, Chain]
    indices: Callable[[str, Keys, Beacon], Sequence[int]]


class Epochs:
    """What was said in this epoch, and when to ask again."""

    def __init__(self, applied: Applied, nodes: Nodes) -> None:
        self.slashings = Slashings(applied)
        self._nodes = nodes
        # By validator: the keys that it runs.
        self._keys: dict[str, Keys] = {}
        # By question: the keys that were last asked about, and when it is due again.
        self._about: dict[str, Keys] = {}
        self._next: dict[str, float] = {}
        self._duties: dict[str, Known] = {}
        # By URL.
        self._committees: dict[str, Committees] = {}
        self._once = journal.Once()

    def run(self, name: str, keys: Keys) -> None:
        """Note which keys a validator runs."""
        self._keys[name] = keys

    def questions(self, validator: Ethereum, healthy: Sequence[str]) -> Iterator[Question]:
        """Yield what to ask about a validator, by which name, and when it is due.

        Each of its ``healthy`` nodes is a witness of its own; of duties one has to tell.
        """
        keys = self._keys.get(validator.name)
        if keys:
            for url in healthy:
                key = f"{_slashed(validator)}{url}"
                yield self._due(key, keys), key, partial(self._ask_slashed, validator, url, keys)
            key = f"duties {validator.name}"
            ask = partial(self._ask_duties, validator, healthy[0], keys)
            yield self._due(key, keys), key, ask

    def _due(self, key: str, keys: Keys) -> float:
        # Other keys than before are asked about at once.
        return self._next.get(key, 0.0) if self._about.get(key) == keys else 0.0

    def take_in(self, key: str, said: Said, now: float, pending: Sequence[str]) -> None:
        """Take in an answer at ``now`` (monotonic clock), while others are ``pending``."""
        chain = self._nodes.chains[said.url]
        self._about[key] = said.keys
        if said.failed:
            self._next[key] = now + watch.liveness_seconds(chain)
        else:
            self._next[key] = now + watch.seconds_to_next_epoch(chain, time.time())
        if isinstance(said, Heard):
            last = not any(other.startswith(_slashed(said.validator)) for other in pending)
            self.slashings.hear(said.validator, said.url, said.keys, said.words, last=last)
        elif said.known:
            self._duties[said.validator.name] = said.known

    @property
    def duties(self) -> dict[str, Duties]:
        """Return the duties of each running validator of which they are known."""
        now = time.time()
        found = {name: known.at(now) for name, known in self._duties.items() if self._keys[name]}
        return {name: left for name, left in found.items() if left}

    def _ask_slashed(self, validator: Ethereum, url: str, keys: Keys) -> Heard:
        subject = f"slashing of {validator.name}, {url}"
        try:
            words = self._nodes.beacons[url].slashed(keys)
        except SupervisorError as failure:
            self._once.log(subject, failure.message)
            return Heard(validator, url, keys, None, failed=True)
        self._once.forget(subject)
        return Heard(validator, url, keys, words)

    def _ask_duties(self, validator: Ethereum, url: str, keys: Keys) -> Planned:
        subject = f"duties of {validator.name}"
        try:
            known = self._known(validator.name, url, keys)
        except SupervisorError as failure:
            if failure.code == NOT_OFFERED:
                return Planned(validator, url, keys, None)
            self._once.log(subject, failure.message)
            return Planned(validator, url, keys, None, failed=True)
        self._once.forget(subject)
        return Planned(validator, url, keys, known)

    def _known(self, name: str, url: str, keys: Keys) -> Known:
        beacon, chain = self._nodes.beacons[url], self._nodes.chains[url]
        committees = self._committees.get(url) or beacon.committees()
        self._committees[url] = committees
        indices = self._nodes.indices(name, keys, beacon)
        epoch = chain.slot(time.time()) // chain.slots_per_epoch
        return duties.ask(beacon, chain, epoch, committees, keys, indices)


def _slashed(validator: Ethereum) -> str:
    """Return how the names of all questions for slashed keys of a validator begin."""
    return f"slashed {validator.name} "
