"""A Web3Signer: what it lists, and which keys sign of those that a person has adopted."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import web3signer
from validator_supervisor.applied import Applied
from validator_supervisor.contents import AnyKey, Contents, Key, Remote
from validator_supervisor.errors import REFUSED, TEMPORARY, ConfigError, SupervisorError
from validator_supervisor.manifest import Manifest
from validator_supervisor.validators import Ethereum, Keys
from validator_supervisor.web3signer import KEYS_MAX, Chosen

A, B, C, D = (f"0x{digit * 96}" for digit in "abcd")
SIGNER = Keys(web3signer="https://signer:9000/")


class Signer:
    """A server that answers with ``status`` and ``body``; ``asked`` are the paths."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps([A, B]).encode()
        self.asked: list[str] = []
        signer = self

        class Answer(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                signer.asked.append(self.path)
                self.send_response(signer.status)
                self.send_header("Content-Length", str(len(signer.body)))
                self.end_headers()
                self.wfile.write(signer.body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.keys = Keys(web3signer=f"http://127.0.0.1:{self.server.server_address[1]}/own/")


@pytest.fixture
def signer() -> Iterator[Signer]:
    made = Signer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def newest(*adopted: str, removed: Sequence[str] = ()) -> Contents:
    manifest = Manifest(
        2, "main", "ethereum", "dev", "1" * 32, "2" * 32, 1, 0, False, adopted,
        dict.fromkeys(removed, 5), {}, (), adopted,
    )  # fmt: skip
    return Contents(manifest, None, dict.fromkeys(adopted, Remote()))


@pytest.fixture
def main(example: Applied) -> Ethereum:
    return replace(example.config.ethereum[0], keys=SIGNER)


def test_what_it_lists(signer: Signer) -> None:
    assert web3signer.listed(signer.keys) == (A, B)
    assert signer.asked == ["/own/api/v1/eth2/publicKeys"]
    signer.body = json.dumps([B.upper().replace("0X", "0x"), A[2:], B]).encode()
    assert web3signer.listed(signer.keys) == (A, B)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"", "/api/v1/eth2/publicKeys is answered with status 500"),
        (404, b"[]", "status 404"),
        (302, b"[]", "status 302"),
        (200, b"", "cannot be read"),
        (200, b'["0xab', "cannot be read"),
        (200, b"\xff\xfe", "is not UTF-8"),
        (200, b"{}", "expected a list"),
        (200, b'["0xab"]', "expected a public key"),
        (200, b"[1]", "expected a public key"),
        (200, json.dumps([A, f"{B[:-1]}\x1b"]).encode(), "expected a public key"),
        (200, json.dumps({"keys": [A]}).encode(), "expected a list"),
        (200, json.dumps([A] * (KEYS_MAX + 1)).encode(), "more than 10000 keys"),
        (200, b" " * (web3signer.SIZE_MAX + 1), "answer is too long"),
        (200, b"[" * 100_000, "cannot be read"),
    ],
)
def test_wrong_answers_are_waited_out(signer: Signer, status: int, body: bytes, words: str) -> None:
    signer.status, signer.body = status, body
    with pytest.raises(SupervisorError) as refused:
        web3signer.listed(signer.keys)
    assert (refused.value.code, refused.value.exit_status) == ("NoSigner", TEMPORARY)
    assert words in refused.value.message
    assert refused.value.message.isprintable()
    assert signer.keys.web3signer.rstrip("/") in refused.value.message


def test_nobody_there() -> None:
    with pytest.raises(SupervisorError, match=r"127\.0\.0\.1:1: Connection refused") as refused:
        web3signer.listed(Keys(web3signer="http://127.0.0.1:1"))
    assert refused.value.exit_status == TEMPORARY


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    with pytest.raises(SupervisorError, match="No such file") as refused:
        web3signer.listed(Keys(web3signer="https://127.0.0.1:1", certificate=str(path)))
    assert (refused.value.code, refused.value.exit_status) == ("NotReadable", REFUSED)
    assert "not below /home or /root" in refused.value.hint


@given(
    st.binary(max_size=300) | st.text(max_size=100).map(lambda text: json.dumps([text]).encode())
)
def test_any_bytes_are_keys_or_refused(raw: bytes) -> None:
    try:
        found = web3signer.parse(raw)
    except ConfigError as refused:
        assert refused.message.isprintable()
    else:
        assert all(len(key) == 98 for key in found)


@pytest.mark.parametrize(
    ("adopted", "public_keys", "there", "chosen"),
    [
        ((A, B), "all", (A, B), Chosen((A, B))),
        ((A, B), "all", (A, B, C), Chosen((A, B), strange=(C,))),
        ((A, B), "all", (B,), Chosen((B,), missing=(A,))),
        ((A, B), (B, C), (A, B, C), Chosen((B,), left_out=(A,), strange=(C,))),
        # What was not adopted is nobody's business where it is not wanted.
        ((A,), (A,), (A, B, C), Chosen((A,))),
        ((A,), (A.upper().replace("X", "x"),), (A,), Chosen((A,))),
        # D was removed: it is in the signer for somebody else.
        ((A,), "all", (A, D), Chosen((A,))),
        ((A, B), "all", (), Chosen((), missing=(A, B))),
    ],
)
def test_who_signs(
    adopted: tuple[str, ...],
    public_keys: tuple[str, ...] | str,
    there: tuple[str, ...],
    chosen: Chosen,
) -> None:
    keys = replace(SIGNER, public_keys=public_keys)
    assert web3signer.choose(keys, newest(*adopted, removed=[D]), there) == chosen


some = st.lists(st.sampled_from([A, B, C, D]), unique=True).map(tuple)


@given(some, some, st.just("all") | some.filter(bool))
def test_never_a_key_that_nobody_has_adopted(
    adopted: tuple[str, ...], there: tuple[str, ...], public_keys: tuple[str, ...] | str
) -> None:
    found = web3signer.choose(replace(SIGNER, public_keys=public_keys), newest(*adopted), there)
    assert {*found.keys} <= {*adopted} & {*there}
    assert public_keys == "all" or {*found.keys} <= {*public_keys}
    # Every adopted key signs, or is told of.
    assert sorted([*found.keys, *found.absent]) == sorted(adopted)
    assert not {*found.strange} & {*adopted}


def test_what_a_person_is_told(main: Ethereum) -> None:
    found = Chosen((A,), missing=(B,), left_out=(C,), strange=(C, D))
    assert list(web3signer.remarks(main, found)) == [
        f"Web3Signer https://signer:9000 does not have, and so nothing signs with, key {B}",
        f"public_keys: leaves out, and so nothing signs with, key {C}",
        f"Web3Signer https://signer:9000 has, and main has not adopted, 2 keys ({C} among them); "
        "where no other validator signs with it: "
        "validator-supervisor import-keystore main --web3signer PUBKEY",
    ]
    assert list(web3signer.remarks(main, Chosen((A,)))) == []
    assert list(web3signer.remarks(replace(main, keys="local"), found)) == []


def test_keys_of_a_start(main: Ethereum, signer: Signer) -> None:
    mine = replace(main, keys=signer.keys)
    assert web3signer.chosen(mine, newest(A)) == Chosen((A,), strange=(B,))
    signer.body = b"[]"
    with pytest.raises(SupervisorError, match="it has none of the 2 keys of main") as refused:
        web3signer.chosen(mine, newest(A, B))
    assert refused.value.exit_status == TEMPORARY
    none = replace(mine, keys=replace(signer.keys, public_keys=(C,)))
    with pytest.raises(SupervisorError, match="public_keys: has none of the adopted keys"):
        web3signer.chosen(none, newest(A))
    # Without keys there is nothing to ask about.
    signer.asked.clear()
    assert web3signer.chosen(mine, newest()) == Chosen(())
    assert signer.asked == []


def test_keystores_need_no_signer(main: Ethereum) -> None:
    held: dict[str, AnyKey] = {A: Key(b"{}", b"")}
    found = replace(newest(), keys=held)
    assert web3signer.chosen(replace(main, keys="local"), found) == Chosen((A,))


@pytest.mark.parametrize(
    ("keys", "there", "words"),
    [
        (SIGNER, {A: Key(b"", b"")}, "names a Web3Signer, and its archive has 1 keystores"),
        (SIGNER, {A: Key(b"", b""), B: Remote()}, "and its archive has 1 keystores"),
        ("local", {A: Remote()}, "a Web3Signer has 1 keys of main, and its keys: names none"),
        ("local", {A: Key(b"", b""), B: Remote()}, "a Web3Signer has 1 keys of main"),
        (SIGNER, {A: Remote()}, ""),
        ("local", {A: Key(b"", b"")}, ""),
        (SIGNER, {}, ""),
    ],
)
def test_the_one_or_the_other(
    main: Ethereum, keys: Keys | str, there: dict[str, AnyKey], words: str
) -> None:
    mine = replace(main, keys=keys)
    if not words:
        web3signer.check(mine, there)
        return
    with pytest.raises(SupervisorError) as refused:
        web3signer.check(mine, there)
    assert refused.value.code == "OtherKeys"
    assert words in refused.value.message
    assert "remove-key those first" in refused.value.hint


Adopt = Callable[..., tuple[tuple[str, ...], tuple[str, ...]]]


@pytest.mark.parametrize(
    ("public_keys", "typed", "have", "expected"),
    [
        ("all", (), (), (A, B, C)),
        ("all", (), (A,), (B, C)),
        ("all", (B,), (), (B,)),
        # Whether it is there already is the import's to refuse.
        ("all", (A,), (A,), (A,)),
        ((C, A), (), (), (C, A)),
        ((A,), (A,), (), (A,)),
    ],
)
def test_adoption(
    public_keys: tuple[str, ...] | str,
    typed: tuple[str, ...],
    have: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    keys = replace(SIGNER, public_keys=public_keys)
    assert web3signer.adopt(keys, typed, (A, B, C), have) == (expected, ())


def test_what_cannot_be_adopted() -> None:
    def code(keys: Keys, typed: Sequence[str], have: Sequence[str] = ()) -> str:
        with pytest.raises(SupervisorError) as refused:
            web3signer.adopt(keys, typed, (A, B), have)
        return f"{refused.value.code}: {refused.value}"

    listed = replace(SIGNER, public_keys=(A, C))
    near = f"{A[:-1]}b"
    assert code(SIGNER, [near]).endswith(f"does not have {near} (did you mean {A}?)")
    assert code(SIGNER, [C]).startswith("UnknownKey: ")
    assert code(listed, [B]).startswith("LeftOut: ")
    assert code(SIGNER, [], [A, B]).startswith("NothingNew: ")
    assert f"does not have {C} of public_keys:" in code(listed, [], [A])
    # What is listed in the configuration and is not there does not keep the others out.
    found, words = web3signer.adopt(listed, [], (A, B), [])
    assert (found, len(words)) == ((A,), 1)
