"""What an adapter of a client says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor.validators import Ethereum


@dataclass(frozen=True)
class Client:
    """Argument lists and places of one client.

    ``run`` takes the validator, its state directory and the URLs of the beacon nodes, preferred
    first. ``public_keys`` returns the keys below a state directory as ``0x…``. ``locks`` returns
    the lock files that a killed client leaves there, and that keep it from starting again.
    ``stop_seconds`` is how long it may take to stop before it is killed.
    """

    run: Callable[[Ethereum, Path, Sequence[str]], list[str]]
    public_keys: Callable[[Path], list[str]]
    locks: Callable[[Path], list[Path]]
    stop_seconds: int
