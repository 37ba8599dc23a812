"""Hosts, nodes, crashes and power cuts: the real code, and a client that signs what it may."""

import contextlib
import functools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from validator_supervisor import (
    age,
    backup,
    chain,
    contents,
    durable,
    gather,
    handover,
    host,
    imports,
    keystore,
    marks,
    orders,
    preparation,
    run,
    state,
)
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.chain import Time
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Place as Files
from validator_supervisor.clients.client import Setup
from validator_supervisor.config import read
from validator_supervisor.contents import Contents, Key
from validator_supervisor.database import Database
from validator_supervisor.document import parse
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.keystore_crypto import Pbkdf2
from validator_supervisor.networks import Chain
from validator_supervisor.store import ARCHIVE, Store

IDENTITY = age.X25519Identity.generate()
KEYSTORE = keystore.encrypt(b"\x0b" * 32, b"pw", kdf=Pbkdf2(b"\x01" * 32, 1))
(KEY,) = imports.opened([imports.Given("key", KEYSTORE, b"pw")])
ROOT = "0x" + "01" * 32
GENESIS, SLOTS, SECONDS = 1_800_000_000, 4, 2
CHAIN = Chain("dev", GENESIS, SECONDS, SLOTS, ROOT)
CONFIG = """\
version: 1
nodes: {local: {beacon: "http://127.0.0.1:1", backups: /nowhere}}
validators:
  main: {kind: ethereum, network: dev, fee_recipient: "0x00000000219ab540356cBB839Cbe05303d7705Fa",
         release: {client: lodestar, binary: /bin/client}}
"""


class CutError(BaseException):
    """The process ends here."""


@functools.cache
def opened(raw: bytes, validator: str) -> Contents:
    return UNSEAL(raw, IDENTITY, validator)


UNSEAL = contents.unseal


@dataclass
class Node:
    """A node; a hostile one gives what it wants of all that it ever had."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    away: bool = False
    shown: Callable[[list[str]], list[str]] = list

    def names(self) -> list[str]:
        if self.away:
            raise SupervisorError("Unreachable", "away", exit_status=TEMPORARY)
        return self.shown(list(self.files))

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self.files[name] for name in names}

    def put(self, files: dict[str, bytes]) -> None:
        if self.away:
            raise SupervisorError("Unreachable", "away", exit_status=TEMPORARY)
        self.files |= files


@dataclass
class Host:
    """A host: its disk, its memory, and a client that signs what its database allows."""

    number: int
    disk: Path
    boot: int = 0
    booted: float = 0
    skew: int = 0
    running: bool = False
    given: bool = False
    exports: bool = True
    synced: str | None = None
    signed: int = 0

    @property
    def id(self) -> str:
        return f"{self.number + 1:032x}"

    @property
    def boot_id(self) -> str:
        return f"{self.number + 1:016x}{self.boot:016x}"

    @property
    def data(self) -> Path:
        return self.disk / "data"

    @property
    def runtime(self) -> Path:
        return self.disk / "run"

    @property
    def log(self) -> Path:
        return self.data / "validator-db"

    def make(self) -> None:
        for directory in (self.disk / "state/main", self.data, self.runtime, self.disk / "own"):
            directory.mkdir(parents=True, exist_ok=True)

    def wipe_memory(self) -> None:
        self.running = self.given = False
        for directory in (self.runtime, self.disk / "own"):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()


class World:
    """Everything: hosts, nodes, the time, and what has been signed."""

    def __init__(self, hosts: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="safety-"))
        self.hosts = [Host(number, self.root / str(number)) for number in range(hosts)]
        self.nodes = [Node("honest"), Node("hostile")]
        self.now = GENESIS + 40 * SLOTS * SECONDS
        self.here = self.hosts[0]
        self.blocks: dict[int, str] = {}
        self.attestations: dict[int, tuple[int, str]] = {}
        self.cut_in: int | None = None
        self.meanwhile: Callable[[], None] | None = None
        wanted = read(parse(CONFIG.encode(), "config.yaml"))
        self.applied = Applied(wanted, assign_ports(wanted, {}))
        self.validator = wanted.ethereum[0]
        self.patches = pytest.MonkeyPatch()
        self.patch()
        for one in self.hosts:
            one.make()
            one.booted = self.now
        self.import_key(self.hosts[0])

    def patch(self) -> None:
        put = self.patches.setattr
        put(os, "fsync", lambda _descriptor: None)
        put(host, "host_id", lambda: self.here.id)
        put(host, "boot_id", lambda: self.here.boot_id)
        put(host, "boot_age", lambda: int(self.now - self.here.booted))
        put(time, "time", lambda: self.now + self.here.skew)
        put(chain, "chain_of", lambda *_: CHAIN)
        put(chain, "heads", lambda *_: ())
        put(chain, "past", lambda: 0)
        put(chain, "SYNCHRONISED", self.root)
        put(orders, "uptime", lambda: int(self.now - self.here.booted))
        put(orders.take, "__defaults__", (lambda: orders.uptime(),))
        put(orders.look, "__defaults__", (lambda: orders.uptime(),))
        put(contents, "unseal", lambda raw, _identity, validator: opened(raw, validator))
        put(run, "run", self.command)
        for module, name in ((durable, "write"), (durable, "sync_directory"), (backup, "upload")):
            put(module, name, self.cuttable(getattr(module, name)))

    def cuttable(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            self.step()
            if real.__name__ == "upload" and self.meanwhile:
                then, self.meanwhile = self.meanwhile, None
                found = real(*arguments, **named)
                then()
                return found
            return real(*arguments, **named)

        return call

    def step(self) -> None:
        if self.cut_in is not None:
            self.cut_in -= 1
            if self.cut_in < 0:
                self.cut_in = None
                raise CutError

    def close(self) -> None:
        self.patches.undo()
        shutil.rmtree(self.root)

    @contextlib.contextmanager
    def at(self, one: Host) -> Iterator[None]:
        before, self.here = self.here, one
        try:
            yield
        finally:
            self.here = before

    def import_key(self, one: Host) -> None:
        with self.at(one):
            store = self.store(one)
            raw = contents.seal(
                IDENTITY, validator="main", network="dev", host=one.id, boot=one.boot_id,
                sequence=1, created=int(self.now), clean=False, keys={KEY: Key(KEYSTORE, b"pw")},
                removed_keys={}, protection=None,
            )  # fmt: skip
            store.add_boot(one.boot_id)
            store.add(raw, ARCHIVE, 1)

    def store(self, one: Host) -> Store:
        return Store("main", one.disk / "state")

    def job(self, one: Host) -> state.Job:
        places: Sequence[Node] = self.nodes
        return state.Job(
            self.applied, self.validator, self.store(one), IDENTITY, places, one.data
        )  # fmt: skip

    def command(self, argv: list[str], **_: object) -> None:
        """The client's own commands, as the stand-in's: an import is all that remains of a key."""
        self.step()
        log = Path(argv[argv.index("--validatorsDbDir") + 1])
        file = Path(argv[argv.index("--file") + 1])
        if "import" in argv:
            found = json.loads(file.read_text())
            known = json.loads(log.read_text()) if log.exists() else {}
            for entry in found["data"]:
                known[entry["pubkey"]] = {
                    "slot": max((int(b["slot"]) for b in entry["signed_blocks"]), default=-1),
                    "source": max((int(a["source_epoch"]) for a in entry["signed_attestations"]),
                                  default=-1),
                    "target": max((int(a["target_epoch"]) for a in entry["signed_attestations"]),
                                  default=-1),
                }  # fmt: skip
            log.write_text(json.dumps(known))
            self.step()
            return
        if not self.here.exports or not log.exists():
            raise SupervisorError("ProcessFailed", "the client says no")
        data = [
            {
                "pubkey": key,
                "signed_blocks": [{"slot": str(n["slot"])}] if n["slot"] >= 0 else [],
                "signed_attestations": [
                    {"source_epoch": str(n["source"]), "target_epoch": str(n["target"])}
                ] if n["target"] >= 0 else [],
            }
            for key, n in json.loads(log.read_text()).items()
        ]  # fmt: skip
        metadata = {"interchange_format_version": "5", "genesis_validators_root": ROOT}
        file.write_text(json.dumps({"metadata": metadata, "data": data}))

    def database(self, one: Host) -> Database:
        files = Files(one.data, one.runtime / "client")
        setup = Setup(self.validator, files, [])
        return Database(CLIENTS["lodestar"], setup, one.disk / "own", {})

    # What happens.

    def start(self, one: Host) -> None:
        with self.at(one):
            if not one.given:
                shutil.rmtree(one.runtime)
                one.runtime.mkdir()
                state.start(self.job(one), one.runtime)
                one.given = True
            given, _keys = handover.read(one.runtime)
            aside = self.database(one)
            before = aside.path.exists()
            planned = preparation.look(given, aside, lambda: self.time_of(given))
            if planned.wanted is not None and before:
                one.synced = None
            preparation.carry_out(planned, aside)
            aside.begin()
            one.running = True

    def time_of(self, given: handover.Handover) -> Time:
        clock = int(self.now + self.here.skew)
        return chain.time_of(CHAIN, clock, (), given.earliest, verified=True)

    def export(self, one: Host) -> None:
        one.running = False
        with contextlib.suppress(SupervisorError), self.at(one):
            self.database(one).read()

    def stop(self, one: Host) -> None:
        self.export(one)
        if one.given:
            with self.at(one):
                one.given = False
                state.stop(self.job(one), one.runtime, 5)

    def power_cut(self, one: Host, *, tail: bool) -> None:
        one.wipe_memory()
        one.boot += 1
        one.booted = self.now
        if tail:
            if one.synced is None:
                one.log.unlink(missing_ok=True)
            elif one.log.exists():
                one.log.write_text(one.synced)
        elif one.log.exists():
            one.synced = one.log.read_text()

    def slot(self) -> None:
        """Have every running client sign what it may."""
        self.now += SECONDS
        for one in self.hosts:
            if one.running:
                self.sign(one)

    def sign(self, one: Host) -> None:
        one.signed += 1
        root = f"{one.number}.{one.boot}.{one.signed}"
        slot = (int(self.now) + one.skew - GENESIS) // SECONDS
        known = json.loads(one.log.read_text()) if one.log.exists() else {}
        mark = known.setdefault(KEY, {"slot": -1, "source": -1, "target": -1})
        target = slot // SLOTS
        source = target - 1 - one.signed % 2
        if slot > mark["slot"]:
            mark["slot"] = slot
            assert slot not in self.blocks, (
                f"two blocks in slot {slot}: {self.blocks[slot]}, {root}"
            )
            self.blocks[slot] = root
        if target > mark["target"] and source >= mark["source"]:
            mark["target"], mark["source"] = target, source
            assert target not in self.attestations, (
                f"two votes for {target}: {self.attestations[target]} and {root}"
            )
            for old, (begin, other) in self.attestations.items():
                assert not begin < source <= target < old, f"{root} is surrounded by {other}"
                assert not source < begin <= old < target, f"{root} surrounds {other}"
            self.attestations[target] = (source, root)
        one.log.write_text(json.dumps(known))

    def newest_of_others(self, one: Host) -> int:
        with self.at(one):
            found = gather.gather(self.store(one), self.nodes, IDENTITY, 5)
            own = marks.Own(one.id, one.boot_id, frozenset(self.store(one).boots()))
            theirs = marks.foreign(own, found)
            return theirs.sequence if theirs else 0
