"""A node in memory, as the jobs see one (place.py)."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from validator_supervisor.errors import TEMPORARY, SupervisorError


@dataclass
class Place:
    """A node's files; with ``problem`` it is away. What is there already stays as it is."""

    name: str = "helsinki"
    files: dict[str, bytes] = field(default_factory=dict)
    problem: str = ""

    def names(self) -> list[str]:
        if self.problem:
            raise SupervisorError("Unreachable", self.problem, exit_status=TEMPORARY)
        return list(self.files)

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self.files[name] for name in names if self.files[name]}

    def put(self, files: dict[str, bytes]) -> None:
        there = self.names()
        self.files |= {name: raw for name, raw in files.items() if name not in there}


class Unchanged(Place):
    """One that nothing is put into."""

    def put(self, files: dict[str, bytes]) -> None:
        raise AssertionError(f"{len(files)} files are put there")
