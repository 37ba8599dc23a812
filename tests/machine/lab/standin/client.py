#!/usr/bin/python3
"""A stand-in for a validator client: the command line and the habits of Lodestar 1.5.1.

It signs with nothing: a "signature" is a message that it posts to the stand-in beacon node, which
keeps it and knows a slashable pair when it sees one. Its database refuses what EIP-3076 refuses and
is on disk before the message goes out, but no fsync is made, as in LevelDB; and an import replaces
what is there, so that a wrong one lowers its bounds (Lodestar's history would remain).

Environment: STANDIN_SEED is the head it sees, random for each process; STANDIN_LAG epochs its
source is late; STANDIN_EAGER=1 tries to attest in every slot instead of once in an epoch;
STANDIN_DELAY seconds pass between database and message; STANDIN_DURABLE=1 makes the fsync;
STANDIN_VERSION=5 exports as newer ones do; STANDIN_STOPPED is the status when it is asked to stop;
STANDIN_ASKS=0 imports without a beacon node; STANDIN_EXIT=lost says that an exit is published, and
publishes none, =refused ends with an error.
"""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

# A key proposes in one slot of this many.
PROPOSES = 16
# 1.5.1 exports two of its own records as if they were keys.
BOGUS = ("0x47454e455349535f54494d45", "0x47454e455349535f56414c494441544f52535f524f4f54")
WAIT_SECONDS = 2.0

Block = tuple[int, str]
Attestation = tuple[int, int, str]


class ClientError(Exception):
    """What ends the program with status 1."""


@dataclass
class History:
    """What one key has signed, and the bounds at or below which it signs nothing (EIP-3076)."""

    blocks: list[Block] = field(default_factory=list)
    attestations: list[Attestation] = field(default_factory=list)
    slot: int = -1
    source: int = -1
    target: int = -1

    def may_propose(self, slot: int) -> bool:
        """Say whether a block may be signed (conditions 1 and 2; a repeat may not)."""
        return slot > self.slot and all(slot != signed for signed, _ in self.blocks)

    def may_attest(self, source: int, target: int) -> bool:
        """Say whether an attestation may be signed (conditions 3 to 5; a repeat may not)."""
        if source < self.source or target <= self.target or source > target:
            return False
        return not any(
            old_target == target
            or (source < old_source and old_target < target)
            or (old_source < source and target < old_target)
            for old_source, old_target, _ in self.attestations
        )

    def add(self, line: dict[str, object]) -> None:
        """Take what a line of the database says."""
        if line["kind"] == "block":
            self.slot = _number(line["slot"])
            self.blocks.append((self.slot, str(line["root"])))
        elif line["kind"] == "attestation":
            self.source, self.target = _number(line["source"]), _number(line["target"])
            self.attestations.append((self.source, self.target, str(line["root"])))


def imported(entry: dict[str, list[dict[str, str]]]) -> History:
    """Return the history that an entry of an interchange document makes: its bounds are minima."""
    blocks = [(int(b["slot"]), b.get("signing_root", "")) for b in entry["signed_blocks"]]
    attestations = [
        (int(a["source_epoch"]), int(a["target_epoch"]), a.get("signing_root", ""))
        for a in entry["signed_attestations"]
    ]
    return History(
        blocks,
        attestations,
        min((slot for slot, _ in blocks), default=-1),
        min((source for source, _, _ in attestations), default=-1),
        min((target for _, target, _ in attestations), default=-1),
    )


def exported(root: str, keys: dict[str, History], version: str) -> dict[str, object]:
    """Return the interchange document of a database."""
    data: list[dict[str, object]] = [
        {
            "pubkey": key,
            "signed_blocks": [
                _with_root({"slot": str(slot)}, signed) for slot, signed in sorted(history.blocks)
            ],
            "signed_attestations": [
                _with_root({"source_epoch": str(source), "target_epoch": str(target)}, signed)
                for source, target, signed in sorted(history.attestations)
            ],
        }
        for key, history in sorted(keys.items())
        if history.blocks or history.attestations
    ]
    metadata = {"interchange_format_version": version, "genesis_validators_root": root}
    if version == "4":
        metadata = {"interchange_format": "complete", **metadata}
        data += [{"pubkey": k, "signed_blocks": [], "signed_attestations": []} for k in BOGUS]
    return {"metadata": metadata, "data": data}


def _with_root(message: dict[str, str], root: str) -> dict[str, str]:
    return {**message, "signing_root": root} if root else message


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


class Database:
    """One log of JSON lines; what is torn off at its end by a crash is not there."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Open or make a database. Raises ClientError where another process has it open."""
        folder.mkdir(parents=True, exist_ok=True)
        self._durable = durable
        self._lock = (folder / "LOCK").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClientError(f"IO error: lock {folder}/LOCK: already held by process") from None
        self.root = ""
        self.keys: dict[str, History] = {}
        path = folder / "log"
        known = path.read_bytes() if path.exists() else b""
        whole = known[: known.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._take(_line(line, path))
        self._log = path.open("ab")
        self._log.truncate(len(whole))

    def _take(self, line: dict[str, object]) -> None:
        if line["kind"] == "genesis":
            self.root = str(line["root"])
        elif line["kind"] == "import":
            entry = line["entry"]
            assert isinstance(entry, dict)
            self.keys[str(line["key"])] = imported(entry)
        else:
            self.history(str(line["key"])).add(line)

    def history(self, key: str) -> History:
        """Return what a key has signed; of a key that is not known, nothing."""
        return self.keys.setdefault(key, History())

    def write(self, line: dict[str, object]) -> None:
        """Append a line and take it."""
        self._log.write(json.dumps({**line, "time": time.time()}).encode() + b"\n")
        self._log.flush()
        if self._durable:
            os.fsync(self._log.fileno())
        self._take(line)

    def belongs_to(self, root: str) -> None:
        """Remember the chain. Raises ClientError where it is another one."""
        if self.root and self.root != root:
            raise ClientError("ERR_INTERCHANGE_GENESIS_VALIDATOR_MISMATCH")
        if not self.root:
            self.write({"kind": "genesis", "root": root})

    def close(self) -> None:
        """Let others open it."""
        self._log.close()
        self._lock.close()


def _line(raw: bytes, path: Path) -> dict[str, object]:
    try:
        found = json.loads(raw)
    except ValueError:
        raise ClientError(f"Corruption: {path}") from None
    assert isinstance(found, dict)
    return found


class Nodes:
    """Beacon nodes; the first that answers is asked, until it no longer does."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._places = [urlsplit(url).netloc for url in urls]
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: object = None) -> dict[str, str] | None:
        """Return ``data`` of the answer, None where nobody answers."""
        for _ in range(len(self._places) + 1):
            if not self._places:
                return None
            if self._open is None:
                self._open = http.client.HTTPConnection(self._places[0], timeout=WAIT_SECONDS)
            try:
                return self._asked(self._open, method, path, body)
            except (OSError, http.client.HTTPException, ValueError):
                self._open.close()
                self._open = None
                self._places.append(self._places.pop(0))
        return None

    @staticmethod
    def _asked(
        connection: http.client.HTTPConnection, method: str, path: str, body: object
    ) -> dict[str, str]:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise OSError(f"HTTP status {answer.status}")
        data = json.loads(said)["data"]
        assert isinstance(data, dict)
        return data


@dataclass(frozen=True)
class Chain:
    """The times of a chain, in seconds, and what it is known by."""

    genesis: int
    seconds: int
    slots: int
    root: str

    @classmethod
    def of(cls, nodes: Nodes) -> "Chain | None":
        """Ask what chain it is."""
        spec = nodes.ask("GET", "/eth/v1/config/spec")
        genesis = nodes.ask("GET", "/eth/v1/beacon/genesis")
        if spec is None or genesis is None:
            return None
        return cls(
            int(genesis["genesis_time"]),
            int(spec["SECONDS_PER_SLOT"]),
            int(spec["SLOTS_PER_EPOCH"]),
            genesis["genesis_validators_root"],
        )

    def slot(self, now: float) -> int:
        """Return the slot at a time, negative before the first."""
        return int((now - self.genesis) // self.seconds)


def pick(number: int, *words: object) -> int:
    """Return one of ``number``, the same for everybody who asks with these words."""
    text = " ".join(str(word) for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % number


def root_of(*words: object) -> str:
    """Return the root of a message: another one for another head."""
    return "0x" + hashlib.sha256(" ".join(str(word) for word in words).encode()).hexdigest()


@dataclass
class Signer:
    """Does the duties of some keys, as far as the database lets it."""

    database: Database
    chain: Chain
    keys: Sequence[str]
    seed: str
    lag: int = 0
    eager: bool = False

    def sign(self, slot: int) -> Iterator[dict[str, object]]:
        """Yield the messages of a slot; each is in the database by then."""
        for key in self.keys:
            for message in self._duties(key, slot):
                history = self.database.history(key)
                if self._allowed(history, message):
                    self.database.write(message)
                    yield {**message, "seed": self.seed}

    def _duties(self, key: str, slot: int) -> Iterator[dict[str, object]]:
        if pick(PROPOSES, "proposes", key, slot) == 0:
            yield {"key": key, "kind": "block", "slot": slot,
                   "root": root_of(self.seed, "block", slot)}  # fmt: skip
        target, place = divmod(slot, self.chain.slots)
        if self.eager or pick(self.chain.slots, "committee", key, target) == place:
            source = max(0, target - 1 - self.lag)
            yield {"key": key, "kind": "attestation", "source": source, "target": target,
                   "root": root_of(self.seed, "attestation", source, target)}  # fmt: skip

    @staticmethod
    def _allowed(history: History, message: dict[str, object]) -> bool:
        if message["kind"] == "block":
            return history.may_propose(_number(message["slot"]))
        return history.may_attest(_number(message["source"]), _number(message["target"]))


class Options:
    """``--name value…`` and ``--name=value``; what is not known is not looked at."""

    def __init__(self, words: Sequence[str]) -> None:
        self.command: list[str] = []
        self._found: dict[str, list[str]] = {}
        taking = self.command
        for word in words:
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                taking = self._found.setdefault(name, [])
                taking += [value] if equals else []
            else:
                taking.append(word)

    def all(self, name: str) -> list[str]:
        """Return the values of an option, given once or several times, with commas or without."""
        return [part for value in self._found.get(name, []) for part in value.split(",") if part]

    @property
    def names(self) -> set[str]:
        """Return the names of the options that were given."""
        return set(self._found)

    def path(self, name: str, default: str = "") -> Path:
        """Return a path. Raises ClientError where it is not given."""
        values = self._found.get(name, [])
        if values or default:
            return Path(values[-1] if values else default)
        raise ClientError(f"Missing required argument: {name}")

    def folder(self, name: str, default: str) -> Path:
        """Return one of the folders that are in the data directory unless given."""
        return self.path(name, f"{self.path('dataDir')}/{default}")


def locked_keys(keystores: Path, passwords: Path, stack: contextlib.ExitStack) -> list[str]:
    """Lock the keystores and return their keys. Raises ClientError: locked, incomplete or none."""
    keys = []
    for path in sorted(keystores.glob("0x*/voting-keystore.json")):
        lock = path.with_name(f"{path.name}.lock")
        try:
            lock.touch(exist_ok=False)
        except FileExistsError:
            raise ClientError(f"EEXIST: file already exists, open '{lock}'") from None
        stack.callback(lock.unlink, missing_ok=True)
        key = path.parent.name
        if not json.loads(path.read_bytes())["crypto"] or not (passwords / key).read_bytes():
            raise ClientError(f"{key}: no keystore, or no password")
        keys.append(key)
    if not keys:
        raise ClientError("No local keystores found")
    return keys


def run(options: Options) -> NoReturn:
    """Be a validator until SIGTERM."""
    nodes = Nodes(options.all("beaconNodes") or ["http://127.0.0.1:9596"])
    env = os.environ
    with contextlib.ExitStack() as stack:
        keystores, secrets = (
            options.folder("keystoresDir", "keystores"),
            options.folder("secretsDir", "secrets"),
        )
        keys = locked_keys(keystores, secrets, stack)
        database = opened(options, stack)
        while (chain := Chain.of(nodes)) is None:
            time.sleep(0.2)
        database.belongs_to(chain.root)
        seed = env.get("STANDIN_SEED") or os.urandom(8).hex()
        print(f"{len(keys)} keys, head {seed}", flush=True)
        lag, eager = int(env.get("STANDIN_LAG", "0")), env.get("STANDIN_EAGER") == "1"
        work(
            Signer(database, chain, keys, seed, lag, eager),
            nodes,
            float(env.get("STANDIN_DELAY", "0")),
        )


def work(signer: Signer, nodes: Nodes, delay: float) -> NoReturn:
    """Do the duties of each slot, beginning with the one of now."""
    chain, last = signer.chain, -1
    while True:
        slot = chain.slot(time.time())
        for message in signer.sign(slot) if slot > last else ():
            time.sleep(delay)
            heard = nodes.ask("POST", "/standin/signed", message)
            done = "published" if heard is not None else "nobody took"
            print(f"{done} {short(message)}", flush=True)
        last = max(last, slot)
        time.sleep(max(0.01, chain.genesis + (last + 1) * chain.seconds - time.time()))


def short(message: dict[str, object]) -> str:
    """Return a message as a few words for the journal."""
    numbers = " → ".join(str(message[n]) for n in ("slot", "source", "target") if n in message)
    return f"{message['kind']} {numbers} of {str(message['key'])[:10]}…"


def opened(options: Options, stack: contextlib.ExitStack) -> Database:
    """Open the database that the options name."""
    folder = options.folder("validatorsDbDir", "validator-db")
    database = Database(folder, durable=os.environ.get("STANDIN_DURABLE") == "1")
    stack.callback(database.close)
    return database


def root_for(options: Options, database: Database) -> str:
    """Return the chain's root as the database or a beacon node knows it. Raises ClientError."""
    chain = None if database.root else Chain.of(Nodes(options.all("beaconNodes")))
    if not database.root and chain is None:
        raise ClientError("genesisValidatorsRoot is not known: no beacon node answers")
    return chain.root if chain else database.root


def export(options: Options) -> None:
    """Write the interchange document."""
    with contextlib.ExitStack() as stack:
        database = opened(options, stack)
        version = os.environ.get("STANDIN_VERSION", "4")
        document = exported(root_for(options, database), database.keys, version)
        options.path("file").write_text(json.dumps(document, indent=2))


def take(options: Options) -> None:
    """Import an interchange document: of each key that is in it, this is all that remains."""
    document = json.loads(options.path("file").read_bytes())
    with contextlib.ExitStack() as stack:
        database = opened(options, stack)
        if os.environ.get("STANDIN_ASKS") != "0":
            database.belongs_to(root_for(options, database))
        database.belongs_to(document["metadata"]["genesis_validators_root"])
        for entry in document["data"]:
            if len(entry["pubkey"]) == len("0x") + 96:
                database.write({"kind": "import", "key": entry["pubkey"], "entry": entry})


def leave(options: Options) -> None:
    """Exit the keys that are named, or else all that are there."""
    there = [path.name for path in sorted(options.folder("keystoresDir", "keystores").iterdir())]
    keys = options.all("pubkeys") or there
    if not {"yes", "force"} <= options.names or not set(keys) <= set(there):
        raise ClientError(f"not confirmed, locked, or unknown among {len(there)} keys")
    how = os.environ.get("STANDIN_EXIT")
    if how == "refused":
        raise ClientError("Voluntary exit errored")
    nodes = Nodes(options.all("beaconNodes"))
    if how != "lost" and nodes.ask("POST", "/standin/exit", keys) is None:
        raise ClientError("no beacon node takes the exit")
    print(f"Submitted voluntary exit for {keys[0]} 1/{len(keys)}, of {len(there)}", flush=True)


def terminate(*_: object) -> NoReturn:
    """End once; whoever asks twice changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(int(os.environ.get("STANDIN_STOPPED", "0")))


COMMANDS = {
    ("validator",): run,
    ("validator", "voluntary-exit"): leave,
    ("validator", "slashing-protection", "export"): export,
    ("validator", "slashing-protection", "import"): take,
}


def main(words: Sequence[str]) -> int:
    """Do what the command line says."""
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    options = Options(words)
    try:
        if tuple(options.command) not in COMMANDS:
            raise ClientError(f"unknown command: {' '.join(options.command)}")
        COMMANDS[tuple(options.command)](options)
    except (ClientError, OSError, ValueError, KeyError) as failure:
        print(f"Error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
