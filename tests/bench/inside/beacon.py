"""A stand-in for a beacon node: the beacon API of a healthy chain with mainnet's times.

Every key that is asked for is known and was seen to sign. `beacon.py PORT`
"""

import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS_PER_SLOT, SLOTS_PER_EPOCH = 12, 32
GENESIS = 1606824023
SPEC = {
    "CONFIG_NAME": "dev",
    "SECONDS_PER_SLOT": str(SECONDS_PER_SLOT),
    "SLOTS_PER_EPOCH": str(SLOTS_PER_EPOCH),
}


def head() -> int:
    """Return the slot of now."""
    return int(time.time() - GENESIS) // SECONDS_PER_SLOT


def answer(path: str, body: bytes) -> object | None:
    """Return ``data`` of the answer, None where the address is not known."""
    path, _, query = path.partition("?")
    fixed = {
        "/eth/v1/config/spec": SPEC,
        "/eth/v1/beacon/genesis": {
            "genesis_time": str(GENESIS),
            "genesis_validators_root": "0x" + "5a" * 32,
            "genesis_fork_version": "0x00000000",
        },
        "/eth/v1/node/version": {"version": "stand-in/1"},
        "/eth/v1/node/peer_count": {"connected": "50"},
        "/eth/v1/node/syncing": {
            "head_slot": str(head()),
            "sync_distance": "0",
            "is_syncing": False,
            "is_optimistic": False,
            "el_offline": False,
        },
    }
    if path in fixed:
        return fixed[path]
    if path == "/eth/v1/beacon/states/head/validators":
        keys = re.findall(r"0x[0-9a-f]{96}", query)
        return [{"index": str(i), "validator": {"pubkey": key}} for i, key in enumerate(keys)]
    if path.startswith("/eth/v1/validator/liveness/"):
        return [{"index": index, "is_live": True} for index in json.loads(body or b"[]")]
    return None


class Handler(BaseHTTPRequestHandler):
    """Answers; keeps connections open for those who want that."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer a question with a body."""
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        data = answer(self.path, body)
        content = json.dumps({"data": data}).encode()
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
