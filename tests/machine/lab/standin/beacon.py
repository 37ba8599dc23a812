#!/usr/bin/python3
"""A stand-in for a beacon node: a healthy chain that remembers every signed message.

What the stand-in client posts is on disk before it is answered, and survives this program.
`GET /recorded` tells all of it, `GET /slashable` the pairs that would be slashed.

What a test has it say of keys survives as well: `GET /standin/slash/KEY`, that it is slashed,
`GET /standin/propose/KEY/SLOT`, and `GET /standin/sync/KEY/EPOCH`, the last of its committee. What it says of
validators, and of itself, as long as it runs: `GET /says?JSON` (class Told).
"""

import argparse
import itertools
import json
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Message = dict[str, str | int | float]
Pair = tuple[str, Message, Message]
# Fixed, so that the chain is the same after a restart.
GENESIS = 1606824023
ROOT = "0x" + "5a" * 32
NEVER = str((1 << 64) - 1)
KINDS = {"block": {"slot"}, "attestation": {"source", "target"}}


def slashable(records: Iterable[Message]) -> list[Pair]:
    """Return the pairs of messages that are slashable, each with its name.

    ``double block``: two of one slot; ``double vote``: two of one target; ``surround``: the first
    is around the second. The same message twice is one message.
    """
    blocks: dict[tuple[str, int], dict[str, Message]] = defaultdict(dict)
    votes: dict[str, dict[tuple[int, int, str], Message]] = defaultdict(dict)
    for record in records:
        key, root = str(record["key"]).lower(), str(record["root"])
        if record["kind"] == "block":
            blocks[key, int(record["slot"])].setdefault(root, record)
        else:
            vote = int(record["source"]), int(record["target"]), root
            votes[key].setdefault(vote, record)
    found: list[Pair] = []
    for same in blocks.values():
        found += [("double block", *pair) for pair in itertools.combinations(same.values(), 2)]
    for of_key in votes.values():
        for first, second in itertools.combinations(sorted(of_key), 2):
            # Sorted by source, then target: only the first can be around the second.
            if first[1] == second[1]:
                found.append(("double vote", of_key[first], of_key[second]))
            elif first[0] < second[0] and second[1] < first[1]:
                found.append(("surround", of_key[first], of_key[second]))
    return found


def index_of(key: str) -> int:
    """Return the number of a validator: every key is known, and nothing has to be remembered."""
    return int(key[2:12], 16)


class Book:
    """Everything that was posted, in a file of JSON lines."""

    def __init__(self, path: Path, slots: int) -> None:
        self._lock = threading.Lock()
        self._slots = slots
        known = path.read_bytes() if path.exists() else b""
        whole = known[: known.rfind(b"\n") + 1]
        self.records: list[Message] = [json.loads(line) for line in whole.splitlines()]
        self._file = path.open("ab")
        self._file.truncate(len(whole))

    def write(self, message: Message) -> None:
        """Keep a message. Raises ValueError where it is none."""
        kind = KINDS.get(str(message.get("kind")))
        if kind is None or not {"key", "root", *kind} <= message.keys():
            raise ValueError("not a signed message")
        record = {**message, "time": time.time()}
        with self._lock:
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.records.append(record)

    def live(self, epoch: int) -> set[int]:
        """Return the validators that were seen to sign in an epoch."""
        return {index_of(str(r["key"])) for r in list(self.records) if self._epoch(r) == epoch}

    def _epoch(self, record: Message) -> int:
        if record["kind"] == "block":
            return int(record["slot"]) // self._slots
        return int(record["target"])


class Told:
    """What it was told to say of keys, in a file of JSON lines: lists of words.

    And, as long as it runs: ``{"KEY": {...}}`` changes members of a validator, ``{"syncing":
    {...}}`` those of the node, ``{"partial": [...]}`` the pending partial withdrawals (null: not
    offered).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.syncing: dict[str, object] = {}
        self.partial: list[object] | None = None
        self._changed: dict[str, dict[str, object]] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        self._told: list[list[str]] = [json.loads(line) for line in lines]

    def tell(self, words: list[str]) -> None:
        """Keep what it was told."""
        with self._path.open("a") as file:
            file.write(json.dumps(words) + "\n")
        self._told.append(words)

    def change(self, wanted: dict[str, Any]) -> None:
        """Say something else from now on."""
        self.syncing = wanted.pop("syncing", self.syncing)
        self.partial = wanted.pop("partial", self.partial)
        self._changed |= wanted

    def validator(self, key: str) -> dict[str, object]:
        """Return the state of a validator: active for ever, but for what was told."""
        own = dict(self._changed.get(key, {}))
        slashed = ["slash", key] in self._told
        return {
            "index": str(index_of(key)),
            "balance": "32000000000",
            "status": own.pop("status", "active_slashed" if slashed else "active_ongoing"),
            "validator": {
                "pubkey": key,
                "withdrawal_credentials": "0x00" + "ab" * 31,
                "effective_balance": "32000000000",
                "slashed": slashed,
                "activation_eligibility_epoch": "0",
                "activation_epoch": "0",
                "exit_epoch": NEVER,
                "withdrawable_epoch": NEVER,
                **own,
            },
        }

    def proposals(self, slots: Sequence[int]) -> list[dict[str, str]]:
        """Return the duties of proposers in some slots."""
        told = [words[1:] for words in self._told if words[0] == "propose"]
        return [{"pubkey": key, "validator_index": str(index_of(key)), "slot": slot}
                for key, slot in told if int(slot) in slots]  # fmt: skip

    def sync(self, epoch: int, indices: Sequence[str]) -> list[dict[str, object]]:
        """Return which validators are in the sync committee of an epoch."""
        told = [words[1:] for words in self._told if words[0] == "sync"]
        return [{"pubkey": key, "validator_index": str(index_of(key)),
                 "validator_sync_committee_indices": ["7"]}
                for key, last in told if epoch <= int(last) and str(index_of(key)) in indices]  # fmt: skip


class Chain:
    """The beacon API of one chain."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._genesis: int = options.genesis
        self._seconds: int = options.seconds_per_slot
        self._slots: int = options.slots_per_epoch
        self._delay: float = options.delay
        self._book = Book(options.record, options.slots_per_epoch)
        self._told = Told(options.record.with_name(f"{options.record.name}.told"))
        self._fixed = {
            "/eth/v1/config/spec": {
                "CONFIG_NAME": options.network,
                "SECONDS_PER_SLOT": str(self._seconds),
                "SLOTS_PER_EPOCH": str(options.slots_per_epoch),
                "EPOCHS_PER_SYNC_COMMITTEE_PERIOD": "8",
                "GENESIS_FORK_VERSION": "0x00000001",
                "SHARD_COMMITTEE_PERIOD": "256",
            },
            "/eth/v1/beacon/genesis": {
                "genesis_time": str(self._genesis),
                "genesis_validators_root": options.root,
                "genesis_fork_version": "0x00000001",
            },
            "/eth/v1/node/version": {"version": "stand-in/1"},
            "/eth/v1/node/peer_count": {"connected": "50"},
        }

    def answer(self, method: str, path: str, body: bytes) -> object | None:
        """Return ``data`` of the answer, None where the address is not known."""
        path, _, query = path.partition("?")
        if method == "POST":
            return self._posted(path, json.loads(body or b"null"))
        if path == "/eth/v1/node/syncing":
            head = self._slot()
            return {"head_slot": str(head), "sync_distance": "0", "is_syncing": False,
                    "is_optimistic": False, "el_offline": False, **self._told.syncing}  # fmt: skip
        if path == "/eth/v1/beacon/states/head/validators":
            keys = re.findall(r"0x[0-9a-f]{96}", query.lower())
            return [self._told.validator(key) for key in keys]
        if path == "/eth/v1/beacon/states/head/pending_partial_withdrawals":
            return self._told.partial
        if path == "/says":
            self._told.change(json.loads(unquote(query)))
            return {}
        if path.startswith("/standin/"):
            self._told.tell(path.split("/")[2:])
            return {}
        proposer = re.fullmatch(r"/eth/v1/validator/duties/proposer/(\d+)", path)
        if proposer:
            first = int(proposer[1]) * self._slots
            return self._told.proposals(range(first, first + self._slots))
        if path == "/recorded":
            return list(self._book.records)
        if path == "/slashable":
            return slashable(list(self._book.records))
        return self._fixed.get(path)

    def _slot(self) -> int:
        return max(0, int(time.time() - self._genesis) // self._seconds)

    def _epoch(self) -> int:
        return self._slot() // self._slots

    def _posted(self, path: str, body: object) -> object | None:
        if path == "/standin/signed" and isinstance(body, dict):
            time.sleep(self._delay)
            self._book.write(body)
            return {}
        if path == "/standin/exit" and isinstance(body, list):
            epoch = self._epoch() + 5
            self._told.change(
                {k: {"status": "active_exiting", "exit_epoch": str(epoch)} for k in body}
            )
            return {}
        liveness = re.fullmatch(r"/eth/v1/validator/liveness/(\d+)", path)
        if liveness and isinstance(body, list):
            live = self._book.live(int(liveness[1]))
            return [{"index": str(index), "is_live": int(index) in live} for index in body]
        if path == "/eth/v1/beacon/states/head/validators" and isinstance(body, dict):
            return [self._told.validator(key.lower()) for key in body["ids"]]
        sync = re.fullmatch(r"/eth/v1/validator/duties/sync/(\d+)", path)
        if sync and isinstance(body, list):
            return self._told.sync(int(sync[1]), body)
        return None


class Server(ThreadingHTTPServer):
    """Serves a chain."""

    # After a restart the port is there at once.
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], chain: Chain) -> None:
        super().__init__(address, Handler)
        self.chain = chain


class Handler(BaseHTTPRequestHandler):
    """Answers; keeps connections open for those who want that."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Take a message, or answer a question with a body."""
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        assert isinstance(self.server, Server)
        try:
            data = self.server.chain.answer(self.command, self.path, body)
            status = 404 if data is None else 200
        except ValueError:
            data, status = None, 400
        content = json.dumps({"data": data}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="beacon", description="A stand-in for a beacon node.")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9596)
    parser.add_argument("--record", type=Path, required=True, help="where messages are kept")
    parser.add_argument("--genesis", type=int, default=GENESIS, help="Unix time")
    parser.add_argument("--seconds-per-slot", type=int, default=1)
    parser.add_argument("--slots-per-epoch", type=int, default=8)
    parser.add_argument("--network", default="dev", help="CONFIG_NAME")
    parser.add_argument("--root", default=ROOT, help="genesis_validators_root")
    parser.add_argument("--delay", type=float, default=0, help="seconds before a message is kept")
    return parser.parse_args(words)


if __name__ == "__main__":
    given = parse(sys.argv[1:])
    Server((given.address, given.port), Chain(given)).serve_forever()
