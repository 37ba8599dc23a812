"""The beacon node API (https://ethereum.github.io/beacon-APIs/), as far as it is used here.

A beacon node is not trusted: every answer has a limit in size and time, and is checked.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from validator_supervisor.connection import Server
from validator_supervisor.document import Value, from_plain
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.journal import printable
from validator_supervisor.networks import FORKS, Chain

SECONDS = 5.0  # one request, all of it: half of the time between two looks
# 64 validators or a whole specification are under 100 kB. As objects of ours an answer can take
# a hundred times as much memory as it is long.
SIZE_MAX = 1 << 17
# The withdrawals that all validators wait for, 90 bytes each: a day of them, at eight in a block of
# 12 s, is 5 MB.
LONG_SECONDS, LONG_SIZE_MAX = 30.0, 5 << 20
BATCH = 64  # keys in one GET: some servers refuse longer lines
POSTED = 1024  # validators in one POST: 40 kB
STATES = 128  # validators whose state one POST asks for: 60 kB of answer
# The code of the error when the server does not know an address or method.
NOT_OFFERED = "NotOffered"
# How servers say so; some have other words where they know the address with another method.
UNKNOWN = (404, 405)
UNKNOWN_METHOD = (*UNKNOWN, 415, 501)
MAX_UINT64 = FAR_FUTURE_EPOCH = (1 << 64) - 1
ROOT = r"0x[0-9a-fA-F]{64}"
VERSION = r"0x[0-9a-fA-F]{8}"
PUBLIC_KEY = r"0x[0-9a-fA-F]{96}"
VALIDATORS = "/eth/v1/beacon/states/head/validators"
# Other words than those of now are proposed for the first two; none says more than the epochs do.
STATUS = r"[a-zA-Z_]{1,40}"


@dataclass(frozen=True)
class Syncing:
    """What a beacon node says of itself."""

    head_slot: int
    is_syncing: bool
    is_optimistic: bool
    el_offline: bool


@dataclass(frozen=True)
class Committees:
    """When there are sync committees: from which epoch on, and for how many each."""

    since: int
    epochs: int


@dataclass(frozen=True)
class Record:
    """What the chain has of one validator; an epoch that is not decided is FAR_FUTURE_EPOCH."""

    index: int
    status: str
    slashed: bool
    activation_epoch: int
    exit_epoch: int
    withdrawable_epoch: int
    credentials: str


class Beacon:
    """One beacon node, kept connected; several threads may ask it at the same time.

    Raises SupervisorError ``BeaconFailed`` or ``NotOffered`` (temporary).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._server = Server(url, SECONDS, SIZE_MAX)
        self._long = Server(url, LONG_SECONDS, LONG_SIZE_MAX)

    def chain(self) -> Chain:
        """GET /eth/v1/config/spec and /eth/v1/beacon/genesis."""
        specification = self._data("GET", "/eth/v1/config/spec")
        beginning = self._data("GET", "/eth/v1/beacon/genesis")
        with self._checked():
            spec, genesis = specification.mapping(), beginning.mapping()
            return Chain(
                spec["CONFIG_NAME"].string(r".{1,64}", "a name"),
                _number(genesis["genesis_time"]),
                max(1, _seconds_per_slot(spec)),
                max(1, _number(spec["SLOTS_PER_EPOCH"])),
                genesis["genesis_validators_root"].string(ROOT, "a root").lower(),
                _fork_versions(spec),
            )

    def syncing(self) -> Syncing:
        """GET /eth/v1/node/syncing."""
        data = self._data("GET", "/eth/v1/node/syncing")
        with self._checked():
            keys = data.mapping()
            return Syncing(
                _number(keys["head_slot"]),
                keys["is_syncing"].boolean(),
                # Both are younger than the rest, and not everybody says them.
                "is_optimistic" in keys and keys["is_optimistic"].boolean(),
                "el_offline" in keys and keys["el_offline"].boolean(),
            )

    def peers(self) -> int:
        """GET /eth/v1/node/peer_count: how many are connected."""
        data = self._data("GET", "/eth/v1/node/peer_count")
        with self._checked():
            return _number(data.mapping()["connected"])

    def indices(self, public_keys: Sequence[str]) -> list[int]:
        """GET /eth/v1/beacon/states/head/validators: the index of each key the chain knows."""
        found = []
        for data in self._validators(public_keys):
            with self._checked():
                found += [_number(item.mapping()["index"]) for item in data.items()]
        return found

    def _validators(self, public_keys: Sequence[str]) -> Iterator[Value]:
        for start in range(0, len(public_keys), BATCH):
            # Repeated, as the specification has it; Lodestar 1.5 knows no list with commas.
            ids = "&".join(f"id={key}" for key in public_keys[start : start + BATCH])
            yield self._data("GET", f"{VALIDATORS}?{ids}")

    def slashed(self, public_keys: Sequence[str]) -> dict[str, bool]:
        """Which of the keys, in lower case, are slashed; without those the chain does not know.

        POST /eth/v1/beacon/states/head/validators, or GET where that is not offered.
        """
        found: dict[str, bool] = {}
        for batch, data in self._states(public_keys):
            found |= self._slashed(data, batch)
        return found

    def _states(self, public_keys: Sequence[str]) -> Iterator[tuple[Sequence[str], Value]]:
        """Yield keys that were asked for together, and an answer about them."""
        for start in range(0, len(public_keys), STATES):
            batch = public_keys[start : start + STATES]
            body = json.dumps({"ids": batch}).encode()
            try:
                answers = [self._data("POST", VALIDATORS, body, UNKNOWN_METHOD)]
            except SupervisorError as failure:
                if failure.code != NOT_OFFERED:
                    raise
                answers = [*self._validators(batch)]
            for data in answers:
                yield batch, data

    def _slashed(self, data: Value, asked: Sequence[str]) -> dict[str, bool]:
        wanted = dict.fromkeys(asked)
        found: dict[str, bool] = {}
        with self._checked():
            for item in data.items():
                validator = item.mapping()["validator"].mapping()
                key = _public_key(validator["pubkey"])
                slashed = validator["slashed"].boolean()
                if key in wanted:
                    # Of one that is there twice the worse counts.
                    found[key] = slashed or found.get(key, False)
        return found

    def committees(self) -> Committees:
        """GET /eth/v1/config/spec: when there are sync committees."""
        data = self._data("GET", "/eth/v1/config/spec")
        with self._checked():
            spec = data.mapping()
            altair = "ALTAIR_FORK_EPOCH"
            return Committees(
                _number(spec[altair]) if altair in spec else 0,
                max(1, _number(spec["EPOCHS_PER_SYNC_COMMITTEE_PERIOD"])),
            )

    def proposals(self, epoch: int, slots: range, public_keys: Sequence[str]) -> set[int]:
        """GET /eth/v1/validator/duties/proposer/{epoch}: the slots in which the keys propose.

        Or its second form, where the first is not offered. The epoch has ``slots``; an answer with
        another one is about another epoch (Lodestar 1.5, of an epoch to come).
        """
        path = f"validator/duties/proposer/{epoch}"
        try:
            data = self._data("GET", f"/eth/v1/{path}", unknown=UNKNOWN_METHOD)
        except SupervisorError as failure:
            if failure.code != NOT_OFFERED:
                raise
            data = self._data("GET", f"/eth/v2/{path}", unknown=UNKNOWN_METHOD)
        wanted = dict.fromkeys(public_keys)
        with self._checked():
            duties = [item.mapping() for item in data.items()]
            every = [(_public_key(duty["pubkey"]), _number(duty["slot"])) for duty in duties]
            if any(slot not in slots for _, slot in every):
                raise data.error(f"expected slots of epoch {epoch}")
        return {slot for key, slot in every if key in wanted}

    def in_sync_committee(self, epoch: int, indices: Sequence[int]) -> bool:
        """POST /eth/v1/validator/duties/sync/{epoch}: whether any of the validators is in it."""
        for start in range(0, len(indices), POSTED):
            batch = indices[start : start + POSTED]
            body = json.dumps([str(index) for index in batch]).encode()
            path = f"/eth/v1/validator/duties/sync/{epoch}"
            data = self._data("POST", path, body, UNKNOWN_METHOD)
            with self._checked():
                duties = [item.mapping() for item in data.items()]
                members = [_number(duty["validator_index"]) for duty in duties
                           if duty["validator_sync_committee_indices"].items()]  # fmt: skip
            if not set(batch).isdisjoint(members):
                return True
        return False

    def record(self, public_key: str) -> Record | None:
        """GET /eth/v1/beacon/states/head/validators: one of them; None where it is not known."""
        data = self._data("GET", f"{VALIDATORS}?id={public_key}")
        return self._records(data, [public_key]).get(public_key)

    def records(self, public_keys: Sequence[str]) -> dict[str, Record]:
        """What the chain has of each of the keys, in lower case, that it knows.

        Asked as ``slashed`` does.
        """
        found: dict[str, Record] = {}
        for batch, data in self._states(public_keys):
            found |= self._records(data, batch)
        return found

    def _records(self, data: Value, asked: Sequence[str]) -> dict[str, Record]:
        wanted = dict.fromkeys(asked)
        found: dict[str, Record] = {}
        with self._checked():
            for item in data.items():
                keys = item.mapping()
                validator = keys["validator"].mapping()
                key = _public_key(validator["pubkey"])
                if key in wanted:
                    found[key] = _record(keys, validator)
        return found

    def exit_age(self) -> int:
        """GET /eth/v1/config/spec: for how many epochs a validator must be active before it exits.

        SHARD_COMMITTEE_PERIOD.
        """
        specification = self._data("GET", "/eth/v1/config/spec")
        with self._checked():
            return _number(specification.mapping()["SHARD_COMMITTEE_PERIOD"])

    def partial_withdrawals(self, index: int) -> list[int]:
        """GET /eth/v1/beacon/states/head/pending_partial_withdrawals: the epochs of a validator's.

        There are none before Electra, where it is not offered, or the question is said to be wrong.
        """
        path = "/eth/v1/beacon/states/head/pending_partial_withdrawals"
        try:
            data = self._data("GET", path, server=self._long, unknown=(400, *UNKNOWN))
        except SupervisorError as failure:
            if failure.code != NOT_OFFERED:
                raise
            return []
        with self._checked():
            every = [item.mapping() for item in data.items()]
            return [
                _number(one["withdrawable_epoch"])
                for one in every
                if _number(one["validator_index"]) == index
            ]

    def live(self, epoch: int, indices: Sequence[int]) -> int:
        """How many of the validators were seen to sign in an epoch."""
        starts = range(0, len(indices), POSTED)
        return sum(self._live_of(epoch, indices[start : start + POSTED]) for start in starts)

    def _live_of(self, epoch: int, indices: Sequence[int]) -> int:
        """POST /eth/v1/validator/liveness/{epoch}.

        Or its first form, GET with the indices as parameters, where that is not offered.
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

    def _data(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        unknown: Sequence[int] = UNKNOWN,
        *,
        server: Server | None = None,
    ) -> Value:
        try:
            answer = (server or self._server).request(method, path, body)
        except SupervisorError as failure:
            raise _failed(failure.message) from None
        if not 200 <= answer.status < 300:
            code = NOT_OFFERED if answer.status in unknown else "BeaconFailed"
            raise SupervisorError(code, f"HTTP status {answer.status}", exit_status=TEMPORARY)
        with self._checked():
            found = from_plain(json.loads(answer.content, parse_float=str), self.url)
            return found.mapping()["data"]

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, RecursionError, SupervisorError) as failure:
            raise _failed(f"unexpected answer: {failure}") from None


def _failed(reason: str) -> SupervisorError:
    # It holds the other side's words, and goes to terminals and to D-Bus, which takes no NUL.
    return SupervisorError("BeaconFailed", printable(reason[:200]), exit_status=TEMPORARY)


def _record(keys: Mapping[str, Value], validator: Mapping[str, Value]) -> Record:
    return Record(
        _number(keys["index"]),
        keys["status"].string(STATUS, "a status"),
        validator["slashed"].boolean(),
        _number(validator["activation_epoch"]),
        _number(validator["exit_epoch"]),
        _number(validator["withdrawable_epoch"]),
        validator["withdrawal_credentials"].string(ROOT, "withdrawal credentials").lower(),
    )


def _seconds_per_slot(spec: Mapping[str, Value]) -> int:
    # SECONDS_PER_SLOT is deprecated since Gloas, and not said by everybody.
    if "SECONDS_PER_SLOT" in spec:
        return _number(spec["SECONDS_PER_SLOT"])
    seconds, rest = divmod(_number(spec["SLOT_DURATION_MS"]), 1000)
    if rest:
        raise spec["SLOT_DURATION_MS"].error("expected whole seconds")
    return seconds


def _fork_versions(spec: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the versions of the forks that have a time; of others they are placeholders."""
    return tuple(
        spec[f"{fork}_FORK_VERSION"].string(VERSION, "a fork version").lower()
        for fork in takewhile(lambda fork: _has_time(spec, fork), FORKS)
    )


def _has_time(spec: Mapping[str, Value], fork: str) -> bool:
    if f"{fork}_FORK_VERSION" not in spec:
        return False
    if fork == FORKS[0]:
        return True
    epoch = f"{fork}_FORK_EPOCH"
    return epoch in spec and _number(spec[epoch]) < FAR_FUTURE_EPOCH


def _public_key(value: Value) -> str:
    return value.string(PUBLIC_KEY, "a public key").lower()


def _number(value: Value) -> int:
    number = int(value.string(r"[0-9]{1,20}", "a number in quotes"))
    if number > MAX_UINT64:
        raise value.error("expected a number below 2^64")
    return number
