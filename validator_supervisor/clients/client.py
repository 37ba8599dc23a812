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
# Of public keys in one argument, with commas: the kernel takes 128 KiB (execve(2)).
JOINED = 1000


@dataclass(frozen=True)
class Place:
    """Where a client's files are: ``state`` on disk, ``keys`` in memory that is never swapped."""

    state: Path
    keys: Path


@dataclass(frozen=True)
class Signer:
    """A Web3Signer: its URL, a file with what to believe of it (PEM), or ``""``, and its keys."""

    url: str
    certificate: str
    keys: tuple[str, ...]

    def joined(self) -> list[str]:
        """Return the keys with commas, in as few pieces as fit."""
        starts = range(0, len(self.keys), JOINED)
        return [",".join(self.keys[start : start + JOINED]) for start in starts]


@dataclass(frozen=True)
class Setup:
    """One use of a client: ``beacons`` are URLs, preferred first; a twin is looked for by it.

    ``signer`` is who signs, where its keys are not here.
    """

    validator: Ethereum
    place: Place
    beacons: Sequence[str]
    look_for_twin: bool = False
    signer: Signer | None = None


@dataclass(frozen=True)
class Sign:
    """Words (a regular expression) in a client's log before it has ended, and what they mean."""

    meaning: str
    words: str


def _made(place: Place) -> None:
    """Make nothing: the client does."""
    del place


def _in_arguments(place: Place, signer: Signer) -> None:
    """Lay nothing out: the client's arguments say who signs."""
    del place, signer


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
    lays the keys out, ``delegate`` what says that a Web3Signer has them; ``trust`` names the
    variable with a file of authorities, where there is no other way. ``locks`` returns the lock
    files that a killed client leaves, and that keep it from starting again. ``durable``: a message
    is on disk before it is signed, so that a power cut loses none. ``stop_seconds`` is how long it
    may take to stop before it is killed, ``stopped`` the status with which it exits then.
    ``statuses`` and ``signs`` are what an end of it means; most ends mean nothing. ``exit`` is the
    client's own command for the voluntary exit of one key while it runs; it is given a place with
    that key alone. None: it has none that works without a person or beside the client, as
    ``no_exit`` says. ``no_remote_exit`` says why it does not work for a key of a Web3Signer.
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
    no_remote_exit: str = ""
    delegate: Callable[[Place, Signer], None] = _in_arguments
    trust: str = ""
    locks: Callable[[Place], list[Path]] = _no_locks
