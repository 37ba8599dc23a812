"""The start of an Ethereum validator: its keys, its database, and whether it has a twin."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from validator_supervisor import (
    chain,
    contents,
    durable,
    ending,
    handover,
    journal,
    liveness,
    orders,
    preparation,
    validator,
    web3signer,
)
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon
from validator_supervisor.chain import Time
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Place, Setup, Signer
from validator_supervisor.contents import AnyKey
from validator_supervisor.database import Database
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import SupervisorError
from validator_supervisor.handover import CLIENT, ROOT, Handover
from validator_supervisor.interchange import Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.validators import Ethereum, Keys, Release, untrusted

# A client that looks for a twin is silent for two to three epochs, each one about its own.
LOOK_EPOCHS = 4
# There from before an import until the epochs after it have been watched.
WATCH = "watch"
# There from before a client looks for a twin; holds the epoch in which it begins to.
LOOK = "look"


@dataclass(frozen=True)
class Start:
    """One start: the directories of the unit, the environment of the client, and a way to tell."""

    applied: Applied
    validator: Ethereum
    state: Path
    runtime: Path
    environment: Mapping[str, str]
    tell: Callable[[str], None]
    given: Path = ROOT

    @property
    def place(self) -> Place:
        """Return where the client's files are."""
        return Place(self.state, self.given / self.validator.name / CLIENT)

    def setup(
        self, nodes: list[str], *, look_for_twin: bool = False, signer: Signer | None = None
    ) -> Setup:
        """Return how the client is to be used with these beacon nodes."""
        urls = self.applied.beacons(self.validator)
        beacons = [urls[name] for name in nodes]
        return Setup(self.validator, self.place, beacons, look_for_twin, signer)

    def database(self, nodes: list[str]) -> Database:
        """Return the client's database."""
        client = CLIENTS[self.validator.release.client]
        return Database(client, self.setup(nodes), self.runtime, self.environment)


def prepare(start: Start) -> list[str]:
    """Make everything ready, and return the client's arguments. Raises SupervisorError."""
    mine = start.validator
    client = CLIENTS[mine.release.client]
    # Before anything is done to the database because it cannot be read.
    validator.check_program(mine.release.binary)
    given, keys = handover.read(start.given / mine.name)
    signer = signer_of(mine, keys)
    nodes = validator.beacons(start.applied, mine)
    for path in validator.remove_stale_locks(client.locks(start.place), start.place.keys):
        journal.log(journal.NOTICE, f"removed {path}, left by a client that was killed")
    _empty(start.place.keys)
    if signer:
        client.delegate(start.place, signer)
    else:
        client.install(start.place, contents.local(keys))
    database = start.database(nodes)
    if given.row == POWER_CUT:
        # The clock that was asked before may not have been set yet; now a healthy node agrees.
        age = orders.uptime() - given.began
        given = preparation.again(given, time_now(start, given), age)
    planned = preparation.look(given, database, lambda: time_now(start, given))
    if planned.row != CONTINUE:
        journal.log(journal.WARNING, f"{planned.row}: {planned.reason}")
    if planned.row == RESTORE and not given.no_watch:
        durable.write(start.state / WATCH, b"")
    preparation.carry_out(planned, database)
    watched = _watch(start, given, keys)
    signed = _highest(database.read())
    until = look(mine.doppelganger, start.state / LOOK, given.chain, signed, watched=watched)
    (start.state / WATCH).unlink(missing_ok=True)
    publish(start, nodes, keys, max(until, _silent_until(given.chain, planned.wanted)))
    database.begin()
    return client.run(start.setup(nodes, look_for_twin=bool(until), signer=signer))


def signer_of(mine: Ethereum, keys: Mapping[str, AnyKey]) -> Signer | None:
    """Return the Web3Signer that has the keys; None: they are here.

    Raises SupervisorError ``OtherKeys``, and ``NotSupported`` where the client that runs now cannot
    go by its certificate.
    """
    web3signer.check(mine, keys)
    if isinstance(mine.keys, str):
        return None
    problem, hint = untrusted(mine)
    if problem:
        raise SupervisorError("NotSupported", f"keys: certificate of {mine.name}: {problem}", hint)
    return Signer(web3signer.address(mine.keys), mine.keys.certificate, contents.remote(keys))


def environment(mine: Ethereum) -> dict[str, str]:
    """Return the variables of the client that are not the operator's."""
    trust = CLIENTS[mine.release.client].trust
    if not trust or not isinstance(mine.keys, Keys) or not mine.keys.certificate:
        return {}
    return {trust: mine.keys.certificate}


def _empty(directory: Path) -> None:
    """Remove what a client has left among its keys, in memory that belongs to no process."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def time_now(start: Start, given: Handover) -> Time:
    """Return what time it is, for a lift."""
    if given.now:
        return Time(given.now + orders.uptime() - given.typed)
    heads = chain.heads(start.applied, start.validator)
    verified = chain.SYNCHRONISED.exists()
    earliest = max(given.earliest, chain.past())
    return chain.time_of(given.chain, int(time.time()), heads, earliest, verified=verified)


def _watch(start: Start, given: Handover, keys: Mapping[str, AnyKey]) -> bool:
    """Watch for a twin where keys have come from elsewhere, and return whether they have."""
    pending = start.state / WATCH
    needed = pending.exists() and not given.no_watch
    if needed:
        urls = start.applied.beacons(start.validator)
        clock = liveness.Clock(time.time, time.sleep)
        # Also those that are not healthy now: they may be later, and one is enough.
        beacons = [Beacon(url) for url in urls.values()]
        liveness.watch(beacons, given.chain, list(keys), clock, start.tell)
    return needed


def look(when: str, path: Path, chain: Chain, signed: int, *, watched: bool) -> int:
    """Return until when (Unix seconds) the client is to look for a twin itself; 0: it is not to.

    With ``auto`` that is once, after a watch. But one that has ended before it signed may have
    found a twin, and not every client says so in its exit status: it looks again. ``path`` has the
    epoch in which it began to look, ``signed`` is the highest target in its database.
    """
    epoch = chain.slot(time.time()) // chain.slots_per_epoch
    again = _began(path, epoch) > max(signed, epoch - LOOK_EPOCHS)
    if when != "always" and not (when == "auto" and (watched or again)):
        path.unlink(missing_ok=True)
        return 0
    durable.write(path, str(epoch).encode())
    return _begin_of(chain, epoch + LOOK_EPOCHS)


def _began(path: Path, epoch: int) -> int:
    raw = path.read_bytes() if path.exists() else b"-1"
    # Of what is no epoch nobody knows whether it is over.
    return int(raw) if raw == b"-1" or (raw.isdigit() and len(raw) < 20) else epoch


def _highest(said: Interchange | None) -> int:
    """Return the highest target epoch of all keys; -1: there is none."""
    keys = said.keys.values() if said else ()
    return max((target for key in keys for _, target, _ in key.attestations), default=-1)


def _begin_of(chain: Chain, epoch: int) -> int:
    return chain.genesis_time + epoch * chain.slots_per_epoch * chain.seconds_per_slot


def _silent_until(chain: Chain, wanted: Interchange | None) -> int:
    """Return when the first epoch begins in which everything may be signed again; 0: now."""
    return 0 if wanted is None else _begin_of(chain, max(_highest(wanted), 0) + 1)


def publish(start: Start, nodes: list[str], keys: Mapping[str, AnyKey], silent_until: int) -> None:
    """Write what the watch and the controller may know of this run."""
    known = {"node": nodes[0], "public_keys": sorted(keys), "silent_until": silent_until}
    durable.replace(start.runtime / "run.json", json.dumps(known).encode())
    mine = start.validator.release
    durable.replace(start.runtime / ending.CLIENT, f"{mine.client}\n{mine.binary}\n".encode())


def that_ran(configured: Ethereum, runtime: Path) -> Ethereum:
    """Return a validator with the client that has run: another may be configured since.

    Raises SupervisorError ``NoRelease``.
    """
    path = runtime / ending.CLIENT
    if not path.exists():
        return validator.released(configured)
    client, _, program = path.read_text().rstrip("\n").partition("\n")
    return replace(configured, release=Release(client=client, binary=program))


def export(start: Start) -> None:
    """After an exit: have the client write what it has signed. Raises SupervisorError."""
    if not start.place.state.exists():
        raise SupervisorError("NoState", f"{start.place.state} is gone")
    # Whom it would ask for the chain's root does not matter: the database knows it.
    os.umask(0o027)
    start.database(list(start.applied.beacons(start.validator))).read()


def through(runtime: Path) -> str:
    """Return words about the beacon node in use; none for a validator that has none."""
    path = runtime / "run.json"
    return f" through {json.loads(path.read_text())['node']}" if path.exists() else ""
