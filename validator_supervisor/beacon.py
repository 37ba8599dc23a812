"""The beacon node API (https://ethereum.github.io/beacon-APIs/), as far as it is used here.

A beacon node is not trusted: every answer has a limit in size and time, and is checked.
"""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from validator_supervisor.document import Value, from_plain
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.journal import printable

SECONDS = 5.0  # one request, all of it: half of the time between two looks
SIZE_MAX = 4 << 20  # 64 validators or a whole specification are under 100 kB
BATCH = 64  # keys in one GET: some servers refuse longer lines
# The code of the error when the server does not know an address or method.
NOT_OFFERED = "NotOffered"
MAX_UINT64 = (1 << 64) - 1


@dataclass(frozen=True)
class Chain:
    """What a beacon node says of its chain; time in Unix seconds."""

    network: str
    genesis_time: int
    seconds_per_slot: int
    slots_per_epoch: int

    def slot(self, now: float) -> int:
        """Return the slot at ``now``."""
        return max(0, int(now - self.genesis_time) // self.seconds_per_slot)


@dataclass(frozen=True)
class Syncing:
    """What a beacon node says of itself."""

    head_slot: int
    is_syncing: bool
    is_optimistic: bool


class Beacon:
    """One beacon node; raises SupervisorError ``BeaconFailed`` or ``NotOffered`` (temporary)."""

    def __init__(self, url: str) -> None:
        self.url = url

    def chain(self) -> Chain:
        """GET /eth/v1/config/spec and /eth/v1/beacon/genesis."""
        specification = self._data("GET", "/eth/v1/config/spec")
        beginning = self._data("GET", "/eth/v1/beacon/genesis")
        with self._checked():
            spec, genesis = specification.mapping(), beginning.mapping()
            return Chain(
                spec["CONFIG_NAME"].string(),
                _number(genesis["genesis_time"]),
                max(1, _number(spec["SECONDS_PER_SLOT"])),
                max(1, _number(spec["SLOTS_PER_EPOCH"])),
            )

    def syncing(self) -> Syncing:
        """GET /eth/v1/node/syncing."""
        data = self._data("GET", "/eth/v1/node/syncing")
        with self._checked():
            keys = data.mapping()
            optimistic = keys.get("is_optimistic")
            return Syncing(
                _number(keys["head_slot"]),
                keys["is_syncing"].boolean(),
                optimistic.boolean() if optimistic else False,
            )

    def indices(self, public_keys: Sequence[str]) -> list[int]:
        """GET /eth/v1/beacon/states/head/validators: the index of each key the chain knows."""
        found = []
        for start in range(0, len(public_keys), BATCH):
            # Repeated, as the specification has it; Lodestar 1.5 knows no list with commas.
            ids = "&".join(f"id={key}" for key in public_keys[start : start + BATCH])
            data = self._data("GET", f"/eth/v1/beacon/states/head/validators?{ids}")
            with self._checked():
                found += [_number(item.mapping()["index"]) for item in data.items()]
        return found

    def live(self, epoch: int, indices: Sequence[int]) -> int:
        """How many of the validators were seen to sign in an epoch.

        POST /eth/v1/validator/liveness/{epoch}, or its first form, GET with the indices as
        parameters, where the server does not offer it.
        """
        body = json.dumps([str(index) for index in indices]).encode()
        try:
            data = self._data("POST", f"/eth/v1/validator/liveness/{epoch}", body)
            return self._live(data, len(indices))
        except SupervisorError as failure:
            if failure.code != NOT_OFFERED:
                raise
        found = 0
        for start in range(0, len(indices), BATCH):
            batch = indices[start : start + BATCH]
            asked = "".join(f"indices={index}&" for index in batch)
            path = f"/eth/v1/validator/liveness?{asked}epoch={epoch}"
            found += self._live(self._data("GET", path), len(batch))
        return found

    def _live(self, data: Value, asked: int) -> int:
        with self._checked():
            # No more than were asked about, whatever else is in the answer.
            return min(asked, sum(item.mapping()["is_live"].boolean() for item in data.items()))

    def _data(self, method: str, path: str, body: bytes | None = None) -> Value:
        raw = request(self.url, method, path, body)
        with self._checked():
            answer = from_plain(json.loads(raw, parse_float=str), self.url)
            return answer.mapping()["data"]

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, RecursionError, SupervisorError) as failure:
            raise _failed(f"unexpected answer: {failure}") from None


def _failed(reason: str) -> SupervisorError:
    # It holds the other side's words, and goes to terminals and to D-Bus, which takes no NUL.
    return SupervisorError("BeaconFailed", printable(reason[:200]), exit_status=TEMPORARY)


def _number(value: Value) -> int:
    number = int(value.string(r"[0-9]{1,20}", "a number in quotes"))
    if number > MAX_UINT64:
        raise value.error("expected a number below 2^64")
    return number


def request(url: str, method: str, path: str, body: bytes | None) -> bytes:
    """Return the body of a 2xx answer. Raises SupervisorError as ``Beacon`` does."""
    headers = {"Accept": "application/json", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.connect()
            with _deadline(connection.sock):
                connection.request(method, parts.path + path, body, headers)
                answer = connection.getresponse()
                content = answer.read(SIZE_MAX + 1)
    # ValueError: a name that IDNA cannot encode.
    except (OSError, ValueError, http.client.HTTPException) as failure:
        words = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
        raise _failed(words) from None
    if len(content) > SIZE_MAX:
        raise _failed("answer is too long")
    if not 200 <= answer.status < 300:
        code = NOT_OFFERED if answer.status in (404, 405) else "BeaconFailed"
        raise SupervisorError(code, f"HTTP status {answer.status}", exit_status=TEMPORARY)
    return content


@contextlib.contextmanager
def _deadline(connected: socket.socket) -> Iterator[None]:
    """Cut the connection after SECONDS, however slowly the other side still talks."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(SECONDS, cut)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
