"""One line of the table: ours, a peer or floor, and the goal (pure)."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Sample:
    """Repeats of one measurement: what stands for them, the lowest, the highest, how many."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def median(cls, values: Sequence[float], scale: float = 1) -> "Sample":
        """Return the median of ``values``, each times ``scale``."""
        return cls._of(statistics.median(values), values, scale)

    @classmethod
    def percentile(cls, values: Sequence[float], percent: float, scale: float = 1) -> "Sample":
        """Return the lowest value that ``percent`` of all values do not exceed."""
        rank = max(1, math.ceil(len(values) * percent / 100))
        return cls._of(sorted(values)[rank - 1], values, scale)

    @classmethod
    def worst(cls, values: Sequence[float], scale: float = 1) -> "Sample":
        """Return the highest value."""
        return cls._of(max(values), values, scale)

    @classmethod
    def _of(cls, value: float, values: Sequence[float], scale: float) -> "Sample":
        return cls(value * scale, min(values) * scale, max(values) * scale, len(values))


@dataclass(frozen=True)
class Peer:
    """What ours is compared with; a floor is a peer that does nothing of the work."""

    name: str
    sample: Sample


@dataclass(frozen=True)
class AtMost:
    """The goal for ours itself, in the row's unit."""

    limit: float

    def text(self, unit: str) -> str:
        """Return the goal as a table shows it."""
        return f"≤ {self.limit:g} {unit}"

    def met(self, ours: Sample, peer: Peer | None) -> bool:  # noqa: ARG002
        """Whether ours is good enough."""
        return ours.value <= self.limit


@dataclass(frozen=True)
class AtMostOver:
    """The goal for the difference: what ours may need more than the peer, in the row's unit."""

    limit: float

    def text(self, unit: str) -> str:
        """Return the goal as a table shows it."""
        return f"≤ peer + {self.limit:g} {unit}"

    def met(self, ours: Sample, peer: Peer | None) -> bool:
        """Whether the difference is small enough; never without a peer."""
        return peer is not None and ours.value - peer.sample.value <= self.limit


@dataclass(frozen=True)
class AtMostTimes:
    """The goal for the ratio of ours to the peer."""

    limit: float

    def text(self, unit: str) -> str:  # noqa: ARG002
        """Return the goal as a table shows it."""
        return f"≤ {self.limit:g} times peer"

    def met(self, ours: Sample, peer: Peer | None) -> bool:
        """Whether the ratio is small enough; never without a peer."""
        return peer is not None and ours.value <= self.limit * peer.sample.value


Goal = AtMost | AtMostOver | AtMostTimes


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    what: str
    unit: str
    ours: Sample
    peer: Peer | None
    goal: Goal
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer."""
        if self.peer is None or self.peer.sample.value == 0:
            return None
        return self.ours.value / self.peer.sample.value

    @property
    def difference(self) -> float | None:
        """Ours less the peer, in the row's unit."""
        return None if self.peer is None else self.ours.value - self.peer.sample.value

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.goal.met(self.ours, self.peer)

    def as_json(self) -> dict[str, object]:
        """Return the row as JSON has it."""
        peer = self.peer and {"name": self.peer.name, **asdict(self.peer.sample)}
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "ours": asdict(self.ours),
            "peer": peer,
            "ratio": self.ratio,
            "difference": self.difference,
            "goal": self.goal.text(self.unit),
            "met": self.met,
            "note": self.note,
        }
