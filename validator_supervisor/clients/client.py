"""What an adapter of a client says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor.validators import Ethereum

if TYPE_CHECKING:  # what an adapter says of a client's end is needed without keys
    from validator_supervisor.contents import Key

# What the words of a client mean. The first two halt; the others are told to a person.
DOPPELGANGER, SLASHED = "doppelganger", "slashed"
LOCKED, OTHER_CHAIN = "locked", "other-chain"
HALTING = (DOPPELGANGER, SLASHED)
# What is done to a client's slashing protection; their own commands have these names.
EXPORT, IMPORT = "export", "import"


@dataclass(frozen=True)
class Place:
    """Where a client's files are: ``state`` on disk, ``keys`` in memory that is never swapped."""

    state: Path
    keys: Path


@dataclass(frozen=True)
class Setup:
    """One use of a client: ``beacons`` are URLs, preferred first; a twin is looked for by it."""

    validator: Ethereum
    place: Place
    beacons: Sequence[str]
    look_for_twin: bool = False


@dataclass(frozen=True)
class Sign:
    """Words (a regular expression) in a client's log before it has ended, and what they mean."""

    meaning: str
    words: str


def _made(place: Place) -> None:
    """Make nothing: the client does."""
    del place


def _no_locks(place: Place) -> list[Path]:
    """Return nothing: the kernel's locks end with the client."""
    del place
    return []


@dataclass(frozen=True)
class Client:
    """Argument lists, places and last words of one client.

    ``protection`` takes EXPORT or IMPORT and a file (EIP-3076), which it writes or reads: the
    slashing protection in ``database``, a directory. ``empty`` makes what an import needs to be
    there. Some write into the file's directory under a name of their own, ``exported``. ``install``
    lays the keys out. ``locks`` returns the lock files that a killed client leaves, and that keep
    it from starting again. ``durable``: a message is on disk before it is signed, so that a power
    cut loses none. ``stop_seconds`` is how long it may take to stop before it is killed,
    ``stopped`` the status with which it exits then. ``statuses`` and ``signs`` are what an end of
    it means; most ends mean nothing. ``exit`` is the client's own command for the voluntary exit of
    one key while it runs; it is given a place with that key alone. None: it has none that works
    without a person or beside the client, as ``no_exit`` says.
    """

    run: Callable[[Setup], list[str]]
    protection: Callable[[Setup, str, Path], list[str]]
    install: Callable[[Place, Mapping[str, "Key"]], None]
    database: Callable[[Place], Path]
    durable: bool
    stop_seconds: int
    signs: Sequence[Sign]
    statuses: Mapping[int, str] = field(default_factory=dict)
    stopped: int = 0
    empty: Callable[[Place], None] = _made
    exported: str = ".fresh.json"
    exit: Callable[[Setup, str], list[str]] | None = None
    no_exit: str = ""
    locks: Callable[[Place], list[Path]] = _no_locks
