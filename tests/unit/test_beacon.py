import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validator_supervisor import beacon
from validator_supervisor.beacon import (
    BATCH,
    FAR_FUTURE_EPOCH,
    NOT_OFFERED,
    POSTED,
    STATES,
    Beacon,
    Committees,
    Record,
    Syncing,
)
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.networks import FORKS, Chain

Serve = Callable[..., str]


def request_from(connection: socket.socket) -> bytes:
    raw = connection.recv(1 << 16)
    if raw.startswith(b"POST"):
        length = int(raw.partition(b"Content-Length: ")[2].split()[0])
        while len(raw.partition(b"\r\n\r\n")[2]) < length:
            raw += connection.recv(1 << 16)
    return raw


class Node:
    """A hostile beacon node: ``talk`` has each connection, after its request was read."""

    def __init__(self, talk: Callable[[socket.socket, bytes], None]) -> None:
        self.talk = talk
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.requests.append(request_from(connection))
                self.talk(connection, self.requests[-1])

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket, bytes], None]) -> Iterator[Node]:
    node = Node(talk)
    try:
        yield node
    finally:
        node.close()


def answering(raw: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _: connection.sendall(raw)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers))
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def data(value: object) -> bytes:
    return http(json.dumps({"data": value}).encode())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "SECONDS", 0.3)


def failure(call: Callable[[], object], code: str = "BeaconFailed") -> str:
    with pytest.raises(SupervisorError) as caught:
        call()
    assert caught.value.code == code
    assert caught.value.exit_status == TEMPORARY
    # It goes into the journal, onto a terminal and to D-Bus.
    assert caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 220
    return caught.value.message


def failure_of(raw: bytes) -> str:
    with serving(answering(raw)) as node:
        return failure(Beacon(node.url).syncing)


SPEC = {"CONFIG_NAME": "dev", "SECONDS_PER_SLOT": "12", "SLOTS_PER_EPOCH": "32", "OTHER": ["x"]}


def chain_of(spec: object, genesis: object) -> Callable[[socket.socket, bytes], None]:
    def talk(connection: socket.socket, request: bytes) -> None:
        connection.sendall(data(spec if b"/config/spec " in request else genesis))

    return talk


ROOT = "0x" + "ab" * 32
GENESIS = {"genesis_time": "1", "genesis_validators_root": ROOT}


def forks(*epochs: object) -> dict[str, object]:
    """Return what a specification says of as many forks; of the first there is no epoch."""
    said: dict[str, object] = {}
    for number, (fork, epoch) in enumerate(zip(FORKS, epochs, strict=False)):
        said[f"{fork}_FORK_VERSION"] = f"0xA000000{number}"
        said |= {} if epoch is None else {f"{fork}_FORK_EPOCH": epoch}
    return said


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({}, 0),
        (forks(None), 1),
        (forks(None, "0", "74240"), 3),
        # A placeholder, and what nobody has said when it comes.
        (forks(None, "0", str(2**64 - 1), "5"), 2),
        (forks(None, "0", None, "5"), 2),
        ({name: said for name, said in forks(None, "0", "1").items() if "ALTAIR" not in name}, 1),
        (forks(None, *["0"] * 7), len(FORKS)),
    ],
)
def test_versions_of_the_forks_that_have_a_time(more: dict[str, object], count: int) -> None:
    with serving(chain_of(SPEC | more, GENESIS)) as node:
        versions = Beacon(node.url).chain().fork_versions
    assert versions == tuple(f"0xa000000{number}" for number in range(count))


def test_a_name_is_short() -> None:
    with serving(chain_of(SPEC | {"CONFIG_NAME": "x" * 65}, GENESIS)) as node:
        assert "expected a name" in failure(Beacon(node.url).chain)


def test_slots_in_milliseconds() -> None:
    spec = {name: value for name, value in SPEC.items() if name != "SECONDS_PER_SLOT"}
    with serving(chain_of(spec | {"SLOT_DURATION_MS": "6000"}, GENESIS)) as node:
        assert Beacon(node.url).chain().seconds_per_slot == 6
    for wrong in ("6500", "x", 6000):
        with serving(chain_of(spec | {"SLOT_DURATION_MS": wrong}, GENESIS)) as node:
            assert "unexpected answer" in failure(Beacon(node.url).chain)
    with serving(chain_of(SPEC | {"GENESIS_FORK_VERSION": "0x1"}, GENESIS)) as node:
        assert "fork version" in failure(Beacon(node.url).chain)


def test_chain_is_read_from_two_answers() -> None:
    genesis = GENESIS | {"genesis_time": "1695902400", "x": None}
    with serving(chain_of(SPEC, genesis)) as node:
        assert Beacon(node.url).chain() == Chain("dev", 1695902400, 12, 32, ROOT)
    assert [request.split(b"\r\n")[0] for request in node.requests] == [
        b"GET /eth/v1/config/spec HTTP/1.1",
        b"GET /eth/v1/beacon/genesis HTTP/1.1",
    ]


@pytest.mark.parametrize(
    ("spec", "genesis"),
    [
        ([], GENESIS),
        (None, GENESIS),
        ("x", GENESIS),
        ({}, GENESIS),
        (SPEC, []),
        (SPEC, {}),
        (SPEC, {"genesis_time": "1"}),
        (SPEC, {"genesis_validators_root": ROOT}),
        (SPEC, GENESIS | {"genesis_validators_root": ROOT[:-1]}),
        (SPEC, GENESIS | {"genesis_validators_root": ROOT + "\n"}),
        (SPEC, GENESIS | {"genesis_validators_root": 5}),
        (SPEC, GENESIS | {"genesis_time": 1}),
        (SPEC, GENESIS | {"genesis_time": "-1"}),
        (SPEC, GENESIS | {"genesis_time": "1.5"}),
        (SPEC, GENESIS | {"genesis_time": " 1"}),
        (SPEC, GENESIS | {"genesis_time": "１"}),  # noqa: RUF001  a digit to Unicode, not to us
        (SPEC, GENESIS | {"genesis_time": str(2**64)}),
        (SPEC, GENESIS | {"genesis_time": "9" * 5000}),
        (SPEC | {"SECONDS_PER_SLOT": True}, GENESIS),
        (SPEC | {"SLOTS_PER_EPOCH": None}, GENESIS),
        (SPEC | {"CONFIG_NAME": 5}, GENESIS),
        (SPEC | {"CONFIG_NAME": "\x1b[2J"}, GENESIS),
        (SPEC | {"CONFIG_NAME": "a\0"}, GENESIS),
    ],
)
def test_unexpected_chains(spec: object, genesis: object) -> None:
    with serving(chain_of(spec, genesis)) as node:
        assert "unexpected answer" in failure(Beacon(node.url).chain)


def test_slots_of_no_length_divide_nothing_by_zero() -> None:
    spec = SPEC | {"SECONDS_PER_SLOT": "0", "SLOTS_PER_EPOCH": "0"}
    with serving(chain_of(spec, GENESIS | {"genesis_time": "0"})) as node:
        chain = Beacon(node.url).chain()
    assert (chain.slot(10.0), chain.slots_per_epoch) == (10, 1)


def test_syncing() -> None:
    answer = {"head_slot": "5", "is_syncing": True, "is_optimistic": True, "sync_distance": "0"}
    with serving(answering(data(answer | {"el_offline": True}))) as node:
        assert Beacon(node.url).syncing() == Syncing(5, True, True, True)
    with serving(answering(data(answer))) as node:
        assert Beacon(node.url).syncing() == Syncing(5, True, True, False)
    del answer["is_optimistic"]
    with serving(answering(data(answer))) as node:
        assert Beacon(node.url).syncing() == Syncing(5, True, False, False)


def test_peers_are_those_that_are_connected() -> None:
    with serving(answering(data({"connected": "80", "connecting": "3", "x": None}))) as node:
        assert Beacon(node.url).peers() == 80
    assert node.requests[0].startswith(b"GET /eth/v1/node/peer_count HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer", [{}, [], None, {"connected": 80}, {"connected": "-1"}, {"connected": str(2**64)}]
)
def test_unexpected_peers(answer: object) -> None:
    with serving(answering(data(answer))) as node:
        assert "unexpected answer" in failure(Beacon(node.url).peers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"data": {}}',
        b'{"data": null}',
        b'{"data": {"head_slot": 5, "is_syncing": false}}',
        b'{"data": {"head_slot": "5", "is_syncing": "false"}}',
        b'{"data": {"head_slot": "5", "is_syncing": 0}}',
        b'{"data": {"head_slot": "5"}}',
        b'{"data": {"head_slot": "5", "is_syncing": false, "is_optimistic": null}}',
        b'{"data": {"head_slot": "5", "is_syncing": false, "el_offline": "false"}}',
        b'{"data": {"head_slot": 1e400, "is_syncing": false}}',
        b'{"data": {"\\u0000\\u001b[2J\\ud800": NaN}}',
        b'{"data": {"head_slot": "\\ud800", "is_syncing": false}}',
        b'{"data": {"head_slot": "5", "is_syncing": false}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"<html>502</html>",
        b"[" * 100_000,
        b'{"data":' * 16_000,
        b"1" * 10_000,
    ],
)
def test_unexpected_bodies(body: bytes) -> None:
    assert "unexpected answer" in failure_of(http(body))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"\0\x1b[2J\x1b]0;x\x07\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    ],
)
def test_garbage_for_http(raw: bytes) -> None:
    assert failure_of(raw)


@given(st.binary(max_size=60), st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]))
@settings(max_examples=60)
def test_any_answer_is_read_or_an_expected_failure(raw: bytes, head: bytes) -> None:
    failure_of(head + raw)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 x", "400 x", "404 x", "503 x"])
def test_only_2xx_is_an_answer_and_redirects_lead_nowhere(status: str) -> None:
    good = data({"head_slot": "5", "is_syncing": False}).partition(b"\r\n\r\n")[2]
    with (
        serving(answering(http(good))) as elsewhere,
        serving(answering(http(good, status, f"Location: {elsewhere.url}/"))) as node,
    ):
        code = NOT_OFFERED if status.startswith("404") else "BeaconFailed"
        assert failure(Beacon(node.url).syncing, code) == f"HTTP status {status.split()[0]}"
    assert elsewhere.requests == []


def test_size_of_an_answer_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "SIZE_MAX", 1000)
    good = json.dumps({"data": {"head_slot": "5", "is_syncing": False}}).encode()
    with serving(answering(http(good.ljust(1000)))) as node:
        assert Beacon(node.url).syncing().head_slot == 5
    assert failure_of(http(good.ljust(1001))) == "answer is too long"
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + good.ljust(100_000)
    assert failure_of(endless) == "answer is too long"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b" " * 2000
    assert failure_of(chunked)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_slow_drip_is_cut_at_the_deadline(head: bytes) -> None:
    ended = threading.Event()

    def drip(connection: socket.socket, request: bytes) -> None:
        del request
        connection.sendall(head)
        try:
            # Each byte comes well within any limit on a single read; it goes on for 3 s.
            for _ in range(60):
                if ended.wait(0.05):
                    break
                connection.sendall(b"a")
        except OSError:
            ended.set()

    with serving(drip) as node:
        started = time.monotonic()
        failure(Beacon(node.url).syncing)
        assert 0.25 < time.monotonic() - started < 1
        assert ended.wait(1), "the connection was left open"
        ended.set()


def test_endless_interim_answers_are_cut_at_the_deadline() -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        del request
        end = time.monotonic() + 3
        while time.monotonic() < end:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with serving(talk) as node:
        started = time.monotonic()
        failure(Beacon(node.url).syncing)
        assert time.monotonic() - started < 1


def test_silence_is_cut_at_the_deadline() -> None:
    quiet = threading.Event()

    def talk(connection: socket.socket, request: bytes) -> None:
        del connection, request
        quiet.wait(2)

    with serving(talk) as node:
        started = time.monotonic()
        failure(Beacon(node.url).syncing)
        assert time.monotonic() - started < 1
        quiet.set()


def test_deadline_ends_with_the_request() -> None:
    before = threading.active_count()
    with serving(answering(data({"head_slot": "5", "is_syncing": False}))) as node:
        for _ in range(20):
            Beacon(node.url).syncing()
        time.sleep(0.05)
        assert threading.active_count() <= before + 2


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(Beacon(f"http://127.0.0.1:{port}").syncing) == "Connection refused"


@pytest.mark.parametrize(
    "url", ["http://a..b:5052", f"http://{'a' * 64}:1", "http://127.0.0.1:99999", "http://[::::]:1"]
)
def test_addresses_that_cannot_be(url: str) -> None:
    failure(Beacon(url).syncing)


def test_something_without_tls_behind_https() -> None:
    with serving(answering(b"HTTP/1.1 400 x\r\n\r\n")) as node:
        failure(Beacon(node.url.replace("http:", "https:")).syncing)


def test_indices_are_asked_for_in_batches() -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        ids = parse_qs(request.split()[1].decode().partition("?")[2])["id"]
        assert len(ids) <= BATCH
        connection.sendall(data([{"index": str(int(i, 16)), "status": "x"} for i in ids]))

    with serving(talk) as node:
        keys = [f"0x{i:096x}" for i in range(BATCH + 1)]
        assert Beacon(node.url).indices(keys) == list(range(BATCH + 1))
        assert len(node.requests) == 2
        assert Beacon(node.url).indices([]) == []
    # A parameter for each key: a server may know no list with commas.
    asked = [request.split(b"\r\n")[0].decode() for request in node.requests]
    path = "/eth/v1/beacon/states/head/validators?"
    assert asked == [
        f"GET {path}{'&'.join(f'id={key}' for key in keys[:BATCH])} HTTP/1.1",
        f"GET {path}id={keys[BATCH]} HTTP/1.1",
    ]


@pytest.mark.parametrize("answer", [{}, [5], [{}], [{"index": 5}], [{"index": "x"}], [None]])
def test_unexpected_indices(answer: object) -> None:
    with serving(answering(data(answer))) as node:
        failure(lambda: Beacon(node.url).indices(["0x00"]))


KEYS = [f"0x{number:096x}" for number in range(300)]
STATE = "/eth/v1/beacon/states/head/validators"


def state(key: str, slashed: object = False) -> dict[str, object]:
    """Return what servers say of a validator, in its usual length."""
    return {
        "index": "1234567", "balance": "32012345678", "status": "active_ongoing",
        "validator": {
            "pubkey": key, "withdrawal_credentials": "0x" + "01" * 32,
            "effective_balance": "32000000000", "slashed": slashed,
            "activation_eligibility_epoch": "0", "activation_epoch": "194048",
            "exit_epoch": str(2**64 - 1), "withdrawable_epoch": str(2**64 - 1),
        },
    }  # fmt: skip


def test_slashed_is_asked_for_in_one_request() -> None:
    said = data([state(KEYS[0]), state("0x" + KEYS[1][2:].upper(), True)])
    with serving(answering(said)) as node:
        assert Beacon(node.url).slashed(KEYS[:3]) == {KEYS[0]: False, KEYS[1]: True}
        assert Beacon(node.url).slashed([]) == {}
    (request,) = node.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(f"POST {STATE} HTTP/1.1\r\n".encode())
    assert json.loads(body) == {"ids": KEYS[:3]}


@pytest.mark.parametrize("status", ["200 OK", "404 x", "405 x", "415 x", "501 x"])
def test_slashed_of_many_in_parts_and_in_its_other_form(status: str) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST") and status != "200 OK":
            connection.sendall(http(b"", status))
            return
        if request.startswith(b"POST"):
            asked = json.loads(request.partition(b"\r\n\r\n")[2])["ids"]
            assert len(asked) <= STATES
        else:
            asked = parse_qs(request.split()[1].decode().partition("?")[2])["id"]
            assert len(asked) <= BATCH
        connection.sendall(data([state(key, key in KEYS[::7]) for key in asked]))

    with serving(talk) as node:
        assert Beacon(node.url).slashed(KEYS) == {key: key in KEYS[::7] for key in KEYS}
    forms = [request.split()[0] for request in node.requests]
    assert forms.count(b"POST") == 3
    assert forms.count(b"GET") == (0 if status == "200 OK" else 5)


@pytest.mark.parametrize("status", ["400 x", "403 x", "500 x", "503 x"])
def test_another_failure_says_nothing_of_slashed_keys(status: str) -> None:
    with serving(answering(http(b"", status))) as node:
        failure(lambda: Beacon(node.url).slashed(KEYS[:2]))
    assert len(node.requests) == 1


def test_an_answer_about_others_is_ignored_and_one_given_twice_is_one() -> None:
    said = [state(KEYS[9], True), state(KEYS[0], True), state(KEYS[0]), state(KEYS[1])]
    for answer in (said, said[::-1], said * 5):
        with serving(answering(data(answer))) as node:
            assert Beacon(node.url).slashed(KEYS[:2]) == {KEYS[0]: True, KEYS[1]: False}


@pytest.mark.parametrize(
    "item",
    [
        None, 5, "x", [], {}, {"validator": None}, {"validator": {}},
        {"validator": {"pubkey": KEYS[0]}}, {"validator": {"slashed": True}},
        state(KEYS[0], "true"), state(KEYS[0], 1), state(KEYS[0], None),
        state(KEYS[0][:-1], True), state(KEYS[0] + "\n", True), state("\ud800", True),
        state(KEYS[9], "of another"),
    ],
)  # fmt: skip
def test_one_unexpected_state_and_nothing_was_said(item: object) -> None:
    with serving(answering(data([state(KEYS[0], True), item]))) as node:
        assert "unexpected answer" in failure(lambda: Beacon(node.url).slashed(KEYS[:1]))


def test_a_cut_or_endless_or_odd_answer_says_nothing_of_slashed_keys() -> None:
    whole = data([state(KEYS[0], True)])
    body = whole.partition(b"\r\n\r\n")[2]
    for raw in (whole[:-5], http(body[:-5]), http(body.replace(b"index", b"ind\xffx")),
                http(b" " * beacon.SIZE_MAX + body)):  # fmt: skip
        with serving(answering(raw)) as node:
            failure(lambda url=node.url: Beacon(url).slashed(KEYS[:1]))  # type: ignore[misc]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(KEYS[:3]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["validator", "pubkey", "slashed", "slot", "validator_index",
                         "validator_sync_committee_indices"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
@settings(max_examples=60)
def test_any_json_is_read_or_an_expected_failure(value: object) -> None:
    with serving(answering(data(value))) as node:
        asked = Beacon(node.url)
        for call in (
            lambda: asked.slashed(KEYS[:2]),
            lambda: asked.proposals(5, range(40, 48), KEYS[:2]),
            lambda: asked.in_sync_committee(5, [1, 2]),
            asked.committees,
        ):
            with contextlib.suppress(SupervisorError):
                found = call()
                if isinstance(found, dict):
                    assert set(found) <= set(KEYS[:2])
                    assert set(found.values()) <= {True, False}


def duty(key: str, slot: object) -> dict[str, object]:
    return {"pubkey": key, "validator_index": "5", "slot": slot}


def test_the_slots_in_which_our_keys_propose() -> None:
    said = data(
        [duty(KEYS[0], "33"), duty(KEYS[9], "34"), duty(KEYS[1], "35"), duty(KEYS[0], "33")]
    )
    with serving(answering(said)) as node:
        assert Beacon(node.url).proposals(1, range(32, 64), KEYS[:2]) == {33, 35}
    assert node.requests[0].startswith(b"GET /eth/v1/validator/duties/proposer/1 HTTP/1.1\r\n")


@pytest.mark.parametrize("status", ["404 x", "405 x", "501 x"])
def test_proposals_in_their_second_form_where_the_first_is_not_offered(status: str) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        first = b"/eth/v1/" in request
        connection.sendall(http(b"", status) if first else data([duty(KEYS[0], "33")]))

    with serving(talk) as node:
        assert Beacon(node.url).proposals(1, range(32, 64), KEYS[:2]) == {33}
    asked = [request.split()[1] for request in node.requests]
    assert asked == [b"/eth/v1/validator/duties/proposer/1", b"/eth/v2/validator/duties/proposer/1"]
    with serving(answering(http(b"", status))) as node:
        failure(lambda: Beacon(node.url).proposals(1, range(32, 64), KEYS[:2]), NOT_OFFERED)
    with serving(answering(http(b"", "400 x"))) as node:
        failure(lambda: Beacon(node.url).proposals(1, range(32, 64), KEYS[:2]))
    assert len(node.requests) == 1


@pytest.mark.parametrize("item", [{}, None, duty(KEYS[0], 33), duty("0x", "33"), duty(KEYS[9], "x"),
                                  duty(KEYS[0], str(2**64)), duty(KEYS[9], "31"),
                                  duty(KEYS[0], "64")])  # fmt: skip
def test_unexpected_proposals(item: object) -> None:
    with serving(answering(data([item]))) as node:
        assert "unexpected answer" in failure(
            lambda: Beacon(node.url).proposals(1, range(32, 64), KEYS[:1])
        )


def member(index: str, positions: object) -> dict[str, object]:
    return {"pubkey": KEYS[0], "validator_index": index,
            "validator_sync_committee_indices": positions}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "inside"),
    [
        ([], False),
        ([member("5", ["1"])], True),
        ([member("9", ["1"])], False),
        # Some name everybody, and who is in no place is no member.
        ([member("5", []), member("6", [])], False),
        ([member("5", []), member("6", ["1", "2"])], True),
    ],
)
def test_members_of_the_sync_committee(said: object, inside: bool) -> None:
    with serving(answering(data(said))) as node:
        assert Beacon(node.url).in_sync_committee(7, [5, 6]) is inside
        assert Beacon(node.url).in_sync_committee(7, []) is False
    (request,) = node.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /eth/v1/validator/duties/sync/7 HTTP/1.1\r\n")
    assert json.loads(body) == ["5", "6"]


@pytest.mark.parametrize(
    "item", [{}, None, member("x", ["1"]), member("5", None), member("5", "1")]
)
def test_unexpected_members(item: object) -> None:
    with serving(answering(data([item]))) as node:
        asked = Beacon(node.url)
        assert "unexpected answer" in failure(lambda: asked.in_sync_committee(7, [5]))


def test_when_there_are_sync_committees() -> None:
    period, altair = "EPOCHS_PER_SYNC_COMMITTEE_PERIOD", "ALTAIR_FORK_EPOCH"
    for said, found in (
        ({period: "256"}, Committees(0, 256)),
        ({period: "8", altair: "74240"}, Committees(74240, 8)),
        ({period: "0", altair: str(2**64 - 1)}, Committees(2**64 - 1, 1)),
    ):
        with serving(answering(data(said))) as node:
            assert Beacon(node.url).committees() == found
    unexpected: list[object] = [{}, [], {period: 256}, {period: "8", altair: None}]
    for wrong in unexpected:
        with serving(answering(data(wrong))) as node:
            failure(Beacon(node.url).committees)


def test_live_counts_who_was_seen() -> None:
    answer = [{"index": "1", "is_live": True}, {"index": "2", "is_live": False}]
    with serving(answering(data(answer))) as node:
        assert Beacon(node.url).live(7, [1, 2]) == 1
    head, _, body = node.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /eth/v1/validator/liveness/7 HTTP/1.1\r\n")
    assert b"Content-Type: application/json" in head
    assert json.loads(body) == ["1", "2"]


def test_live_asks_about_many_in_parts() -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        asked = json.loads(request.partition(b"\r\n\r\n")[2])
        assert len(asked) <= POSTED
        connection.sendall(data([{"is_live": item != "0"} for item in asked]))

    with serving(talk) as node:
        assert Beacon(node.url).live(7, range(POSTED + 5)) == POSTED + 4
        assert Beacon(node.url).live(7, []) == 0
    assert len(node.requests) == 2


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
def test_live_in_its_first_form_where_the_other_is_not_offered(status: str) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST"):
            connection.sendall(http(b"", status))
            return
        asked = request.split()[1].decode().partition("?")[2].split("&")
        assert len(asked) <= BATCH + 1
        assert asked[-1] == "epoch=7"
        connection.sendall(data([{"is_live": item != "indices=0"} for item in asked[:-1]]))

    with serving(talk) as node:
        assert Beacon(node.url).live(7, range(BATCH + 1)) == BATCH
    first, *rest = [request.split(b"\r\n")[0].decode() for request in node.requests]
    path = "/eth/v1/validator/liveness"
    batch = "&".join(f"indices={index}" for index in range(BATCH))
    assert first == f"POST {path}/7 HTTP/1.1"
    assert rest == [
        f"GET {path}?{batch}&epoch=7 HTTP/1.1", f"GET {path}?indices={BATCH}&epoch=7 HTTP/1.1",
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["400 x", "403 x", "406 x", "410 x", "500 x", "501 x", "503 x"])
def test_another_failure_is_not_asked_again_in_the_first_form(status: str) -> None:
    with serving(answering(http(b"", status))) as node:
        words = failure(lambda: Beacon(node.url).live(7, [1]))
    assert words == f"HTTP status {status.split()[0]}"
    assert [request.split()[0] for request in node.requests] == [b"POST"]


@pytest.mark.parametrize("raw", [b"", http(b""), data([{"is_live": "x"}])])
def test_an_unexpected_answer_is_not_asked_again_in_the_first_form(raw: bytes) -> None:
    with serving(answering(raw)) as node:
        failure(lambda: Beacon(node.url).live(7, [1]))
    assert len(node.requests) == 1


def test_live_in_neither_form() -> None:
    with serving(answering(http(b"", "404 x"))) as node:
        failure(lambda: Beacon(node.url).live(7, range(BATCH + 1)), NOT_OFFERED)
    assert [request.split()[0] for request in node.requests] == [b"POST", b"GET"]


def test_no_more_are_live_than_were_asked_about() -> None:
    lies = data([{"is_live": True}] * (3 * BATCH))
    with serving(answering(lies)) as node:
        assert Beacon(node.url).live(7, [1, 2]) == 2
        assert Beacon(node.url).live(7, []) == 0


def test_no_more_are_live_than_were_asked_about_in_each_batch() -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        # Nobody of the first batch, and too many of the second: those do not stand for these.
        if request.startswith(b"POST"):
            connection.sendall(http(b"", "404 x"))
        else:
            lying = b"indices=0&" not in request
            connection.sendall(data([{"is_live": lying}] * BATCH))

    with serving(talk) as node:
        assert Beacon(node.url).live(7, range(BATCH + 3)) == 3


@pytest.mark.parametrize("answer", [{}, [{}], [{"is_live": "true"}], [{"is_live": 1}], "x"])
def test_unexpected_liveness(answer: object) -> None:
    with serving(answering(data(answer))) as node:
        failure(lambda: Beacon(node.url).live(7, [1]))


KEY = "0x" + "ab" * 48
VALIDATOR = {
    "pubkey": KEY.upper().replace("X", "x"),
    "withdrawal_credentials": "0x01" + "CD" * 31,
    "slashed": False,
    "activation_epoch": "5",
    "exit_epoch": str(FAR_FUTURE_EPOCH),
    "withdrawable_epoch": str(FAR_FUTURE_EPOCH),
    "effective_balance": 7,
}
ITEM = {"index": "3", "status": "active_ongoing", "validator": VALIDATOR, "balance": None}
FAR = FAR_FUTURE_EPOCH


def test_what_the_chain_has_of_a_validator() -> None:
    other = {**ITEM, "index": "9", "validator": {**VALIDATOR, "pubkey": "0x" + "cd" * 48}}
    with serving(answering(data([other, ITEM]))) as node:
        found = Beacon(node.url).record(KEY)
    credentials = "0x01" + "cd" * 31
    assert found == Record(3, "active_ongoing", False, 5, FAR, FAR, credentials)
    path = f"/eth/v1/beacon/states/head/validators?id={KEY}"
    assert node.requests[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


def test_a_validator_that_the_chain_does_not_have() -> None:
    other = {**ITEM, "validator": {**VALIDATOR, "pubkey": "0x" + "cd" * 48}}
    for answer in ([], [other]):
        with serving(answering(data(answer))) as node:
            assert Beacon(node.url).record(KEY) is None
            assert Beacon(node.url).records([KEY]) == {}


@pytest.mark.parametrize("status", ["200 OK", "404 x"])
def test_what_the_chain_has_of_many(status: str) -> None:
    def talk(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"POST") and status != "200 OK":
            connection.sendall(http(b"", status))
            return
        known = [{**ITEM, "index": str(number), "validator": {**VALIDATOR, "pubkey": key.upper()
                  .replace("0X", "0x")}} for number, key in enumerate(KEYS[:5])]  # fmt: skip
        connection.sendall(data(known))

    with serving(talk) as node:
        found = Beacon(node.url).records(KEYS[1:])
    assert {key: record.index for key, record in found.items()} == dict(
        zip(KEYS[1:5], range(1, 5), strict=True)
    )


@pytest.mark.parametrize(
    "answer",
    [
        {}, None, "x", [None], [{}], [5], [{**ITEM, "index": 3}], [{**ITEM, "status": "\x1b[2J"}],
        [{**ITEM, "status": ""}], [{**ITEM, "validator": None}], [{**ITEM, "index": str(2**64)}],
        *[[{**ITEM, "validator": {**VALIDATOR, name: wrong}}]
          for name in VALIDATOR if name != "effective_balance"
          for wrong in (None, 5, "x", "-1", "0x00", [5])],
        *[[{**ITEM, "validator": {k: v for k, v in VALIDATOR.items() if k != name}}]
          for name in VALIDATOR if name != "effective_balance"],
    ],
)  # fmt: skip
def test_unexpected_records(answer: object) -> None:
    with serving(answering(data(answer))) as node:
        assert "unexpected answer" in failure(lambda: Beacon(node.url).record(KEY))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["3", KEY]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*ITEM, *VALIDATOR, "validator_index"]), inner)
    ),
    max_leaves=12,
)


@given(PLAIN, st.sampled_from(["record", "exit_age", "partial_withdrawals"]))
@settings(max_examples=80)
def test_any_data_about_an_exit_is_read_or_an_expected_failure(said: object, name: str) -> None:
    asked: dict[str, list[object]] = {"record": [KEY], "partial_withdrawals": [3]}
    with serving(answering(data(said))) as node, contextlib.suppress(SupervisorError):
        found = getattr(Beacon(node.url), name)(*asked.get(name, []))
        assert found is None or isinstance(found, Record | int | list)


def test_how_long_a_validator_must_be_active() -> None:
    with serving(answering(data(SPEC | {"SHARD_COMMITTEE_PERIOD": "64"}))) as node:
        assert Beacon(node.url).exit_age() == 64
    for wrong in (None, 64, "-1"):
        with serving(answering(data({**SPEC, "SHARD_COMMITTEE_PERIOD": wrong}))) as node:
            assert "unexpected answer" in failure(Beacon(node.url).exit_age)
    with serving(answering(data(SPEC))) as node:
        failure(Beacon(node.url).exit_age)


def waiting(index: object, epoch: object) -> dict[str, object]:
    return {"validator_index": index, "amount": "1", "withdrawable_epoch": epoch}


def test_partial_withdrawals_of_one_validator() -> None:
    every = [waiting("3", "9"), waiting("4", "8"), waiting("3", "7")]
    with serving(answering(data(every))) as node:
        assert Beacon(node.url).partial_withdrawals(3) == [9, 7]
    path = b"/eth/v1/beacon/states/head/pending_partial_withdrawals"
    assert node.requests[0].startswith(b"GET " + path + b" HTTP/1.1")


@pytest.mark.parametrize("status", ["400 pre-electra", "404 x", "405 x"])
def test_no_partial_withdrawals_where_they_are_not_offered(status: str) -> None:
    with serving(answering(http(b"", status))) as node:
        assert Beacon(node.url).partial_withdrawals(3) == []


@pytest.mark.parametrize(
    "answer",
    [None, {}, [5], [{}], [waiting(3, "9")], [waiting("3", 9)], [waiting("3", "x")]],
)
def test_unexpected_partial_withdrawals(answer: object) -> None:
    with serving(answering(data(answer))) as node:
        failure(lambda: Beacon(node.url).partial_withdrawals(3))


def test_partial_withdrawals_that_fail_are_not_none() -> None:
    with serving(answering(http(b"", "500 x"))) as node:
        failure(lambda: Beacon(node.url).partial_withdrawals(3))


def test_partial_withdrawals_may_be_many_and_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = data([waiting(str(number), "9") for number in range(3000)])
    assert len(many) > beacon.SIZE_MAX
    with serving(answering(many)) as node:
        assert Beacon(node.url).partial_withdrawals(3) == [9]
    monkeypatch.setattr(beacon, "LONG_SIZE_MAX", 10_000)
    with serving(answering(many)) as node:
        assert failure(lambda: Beacon(node.url).partial_withdrawals(3)) == "answer is too long"
