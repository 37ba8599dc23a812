"""What an adapter of a client says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from validator_supervisor.contents import Key
from validator_supervisor.validators import Ethereum


@dataclass(frozen=True)
class Place:
    """Where a client's files are: ``state`` on disk, ``keys`` in memory that is never swapped."""

    state: Path
    keys: Path


@dataclass(frozen=True)
class Client:
    """Argument lists and places of one client.

    ``run`` takes the validator, its places and the URLs of the beacon nodes, preferred first;
    ``export`` and ``load`` take a file (EIP-3076) as well, which they write and read: the slashing
    protection in ``database``. ``install`` lays the keys out. ``locks`` returns the lock files that
    a killed client leaves, and that keep it from starting again. ``durable``: a message is on disk
    before it is signed, so that a power cut loses none. ``stop_seconds`` is how long it may take to
    stop before it is killed.
    """

    run: Callable[[Ethereum, Place, Sequence[str]], list[str]]
    export: Callable[[Ethereum, Place, Sequence[str], Path], list[str]]
    load: Callable[[Ethereum, Place, Sequence[str], Path], list[str]]
    install: Callable[[Place, Mapping[str, Key]], None]
    database: Callable[[Place], Path]
    locks: Callable[[Place], list[Path]]
    durable: bool
    stop_seconds: int
