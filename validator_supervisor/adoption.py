"""`adopt`: whether the keys of a validator that has ended on another host may run on this one.

A retirement counts up to the sequence in its record. What is newer and has the keys says that they
have run since, and so does what another host has left that the one which retired did not know of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from validator_supervisor import marks
from validator_supervisor.contents import AnyKey, Contents
from validator_supervisor.errors import SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.marks import Own
from validator_supervisor.transfer import Transfer
from validator_supervisor.validators import Ethereum


@dataclass(frozen=True)
class Here:
    """What is known here of the validator: all ``archives`` of this host and of the nodes.

    ``imported``: keys that came and were not started yet; ``retired``: its own keys have left.
    """

    own: Own
    found: Found
    archives: Sequence[Contents]
    imported: frozenset[str]
    retired: bool

    @property
    def newest(self) -> Contents | None:
        """Return the newest archive."""
        return max(self.archives, key=lambda one: one.manifest.sequence, default=None)

    def ours(self, one: Contents) -> bool:
        """Whether an archive says what runs here."""
        return one.manifest.host == self.own.host and not self.retired


def check(given: Transfer, validator: Ethereum, here: Here) -> dict[str, AnyKey]:
    """Return the keys that stay beside those of the file.

    Raises SupervisorError ``OtherNetwork``, ``Moved``, ``DuplicateKey``.
    """
    network = given.contents.manifest.network
    if network != validator.network:
        message = f"its keys are of {network}, and {validator.name} is on {validator.network}"
        raise SupervisorError("OtherNetwork", message)
    _refuse_moved(given, here)
    newest = here.newest
    if newest is None or not here.ours(newest):
        return {}
    keys = given.contents.keys.keys()
    twice = sorted(keys & newest.keys.keys() - here.imported)
    if twice:
        message = f"{twice[0]} is in this validator already"
        raise SupervisorError("DuplicateKey", message)
    return newest.keys


def _refuse_moved(given: Transfer, here: Here) -> None:
    """Refuse where an archive or a claim says that the keys ran after they were retired."""
    host, sequence = given.retired.host, given.retired.sequence
    for mark in marks.others(here.own, marks.marks(here.found)):
        known = sequence if mark.host == host else given.retired.accepted
        if mark.sequence > max(known, here.own.accepted):
            raise _moved(here, mark.host, f"{mark.name} on {', '.join(mark.where)}")
    keys = given.contents.keys.keys()
    for one in here.archives:
        by = one.manifest
        again = by.host == here.own.host and keys <= here.imported
        if by.sequence > sequence and keys & one.keys.keys() and not again:
            raise _moved(here, by.host, f"archive {by.sequence}")


def _moved(here: Here, host: str, what: str) -> SupervisorError:
    who = "this host" if host == here.own.host else f"host {host}"
    message = f"{who} has its keys, and may have run since they were retired: {what}"
    hint = "where it has: retire it there, and adopt that file; where it is off: take-over NAME"
    return SupervisorError("Moved", message, hint)


def left_out(given: Transfer, beside: Mapping[str, AnyKey], here: Here) -> list[str]:
    """Return each key that was here before, and stays in older archives alone."""
    before = here.newest.keys.keys() if here.newest else set()
    return sorted(before - beside.keys() - given.contents.keys.keys())
