"""Transfer files: only the code opens them, and nothing in them is believed that is not whole."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import age, archive, contents, interchange, tar, transfer
from validator_supervisor.age import armor
from validator_supervisor.contents import Contents, Key
from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.manifest import PLAIN, VERSION, Manifest
from validator_supervisor.transfer import Request, Retired

KEY, GONE, AWAY = (f"0x{octet * 48}" for octet in ("ab", "cd", "aa"))
ROOT, HOST = b"\x05" * 32, "ab" * 16
CODE = b"abcd-efgh-ijkm-npqr-stuv-2345"
PASSPHRASE = age.Passphrase(CODE, 1)
SIGNED = Interchange(ROOT, {KEY: History(frozenset({(9, b"")}), frozenset({(1, 2, b"")}))})
RETIRED = Retired(1, 1_763_700_100, HOST, 1_763_700_009, 7, f"0x{ROOT.hex()}")
FACTS = Manifest(
    PLAIN, "main", "ethereum", "hoodi", HOST, "cd" * 16, 1_763_700_000, 1_763_700_001, True,
    (KEY,), {GONE: 1_700_000_000}, {},
)  # fmt: skip
LAST = Contents(FACTS, SIGNED, {KEY: Key(b"{}", b"pw")})
RECORD = json.dumps(asdict(RETIRED)).encode()


def sealed(last: Contents = LAST, retired: Retired = RETIRED) -> bytes:
    return transfer.seal(CODE, last, last.protection or SIGNED, retired, 1)


def files(record: bytes | None = RECORD, signed: bytes | None = None) -> dict[str, bytes]:
    found = {
        "slashing-protection.json": signed or interchange.text(SIGNED).encode(),
        f"validators/{KEY}/keystore.json": b"{}",
        f"validators/{KEY}/password.txt": b"pw",
    }
    return found if record is None else {"retired.json": record, **found}


def made(members: dict[str, bytes], **changes: object) -> bytes:
    """Return a file as whoever knows the code can make one."""
    sources = {name: _once(data) for name, data in members.items()}
    manifest = replace(FACTS, files=archive.describe(sources), **changes)  # type: ignore[arg-type]
    return b"".join(archive.create(manifest, sources, PASSPHRASE))


def _once(data: bytes) -> archive.Source:
    return lambda: [data]


def refused(raw: bytes, code: bytes = CODE) -> SupervisorError:
    with pytest.raises(SupervisorError) as found:
        transfer.unseal(raw, code)
    assert found.value.message.isprintable()
    assert CODE.decode() not in str(found.value)
    return found.value


def test_there_and_back() -> None:
    found = transfer.unseal(sealed(), CODE)
    assert found.retired == RETIRED
    assert found.protection == SIGNED
    assert found.contents.keys == LAST.keys
    assert found.contents.manifest.removed_keys == {GONE: 1_700_000_000}
    assert (found.contents.manifest.clean, found.contents.manifest.host) == (True, HOST)
    # Armored, as somebody may send it.
    assert transfer.unseal(b"".join(armor.encode([sealed()])), CODE) == found


def test_a_code_has_120_bits_and_is_read_as_people_type_it() -> None:
    code = transfer.make_code()
    assert transfer.parse_code(code) == code
    assert transfer.parse_code(b" " + code.upper() + b"\r\n") == code
    assert len(code.replace(b"-", b"")) * 5 == 120
    assert transfer.make_code() != code


@given(st.binary(max_size=60))
def test_other_words_are_no_code(typed: bytes) -> None:
    try:
        found = transfer.parse_code(typed)
    except SupervisorError as refusal:
        assert refusal.code == "WrongCode"
        assert not typed.strip() or len(typed) < 4 or repr(typed)[2:-1] not in refusal.message
    else:
        assert transfer.CODE.fullmatch(found.decode())


def test_another_code_opens_nothing() -> None:
    wrong = refused(sealed(), CODE[:-1] + b"6")
    assert wrong.code == "WrongCode"
    assert "transfer code is wrong" in wrong.message


def test_one_of_an_identity_is_for_others() -> None:
    raw = contents.seal(
        age.X25519Identity.generate(), validator="main", network="hoodi", host=HOST,
        boot="cd" * 16, sequence=1, created=1, clean=True, keys=LAST.keys, removed_keys={},
        protection=SIGNED, retired=RECORD,
    )  # fmt: skip
    assert refused(raw).code == "InvalidTransfer"


@pytest.mark.parametrize(("factor", "said"), [("21", "above 20"), ("99999999999", "decimal")])
def test_work_without_end_is_refused_before_it_begins(factor: str, said: str) -> None:
    lines = sealed().split(b"\n", 2)
    words = lines[1].split(b" ")
    assert words[-1] == b"1"
    lines[1] = b" ".join([*words[:-1], factor.encode()])
    assert said in refused(b"\n".join(lines)).message


@given(st.data())
def test_what_is_cut_or_changed_is_refused(data: st.DataObject) -> None:
    raw = SEALED
    at = data.draw(st.integers(0, len(raw) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    for wrong in (raw[:at], raw[:at] + bytes([raw[at] ^ bit]) + raw[at + 1 :], raw + raw[:at]):
        if wrong != raw:
            refused(wrong)


SEALED = sealed()


@given(st.binary(max_size=300))
def test_other_bytes_are_no_file(raw: bytes) -> None:
    refused(raw)
    refused(b"age-encryption.org/v1\n" + raw)


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (lambda: made(files(None)), "NotRetired", "ended the validator for good"),
        (lambda: made(files(), clean=False), "InvalidTransfer", "before the validator had stopped"),
        (lambda: made(files(), host="ef" * 16), "InvalidTransfer", "another host"),
        (lambda: made(files(), sequence=1_763_700_010), "InvalidTransfer", "older archive"),
        (
            lambda: made({"node_key.json": b"{}"}, kind="cosmos", public_keys=(), removed_keys={}),
            "InvalidTransfer",
            "kind cosmos",
        ),
        (lambda: made({"retired.json": RECORD}, public_keys=()), "InvalidTransfer", "no key"),
        (
            lambda: made(files(), version=VERSION, public_keys=(AWAY, KEY), remote_keys=(AWAY,)),
            "InvalidTransfer",
            "Web3Signer",
        ),
        (lambda: made({n: d for n, d in files().items() if "password" not in n}), "", "missing"),
        (lambda: made({n: d for n, d in files().items() if "slashing" not in n}), "", "no key"),
        (lambda: made(files(signed=interchange.text(Interchange(ROOT, {})).encode())), "", "of wh"),
        (lambda: made(files(signed=b"{}")), "InvalidInterchange", ""),
        (lambda: made(files(b"")), "InvalidTransfer", ""),
        (lambda: made(files(b"\xff\xfe")), "InvalidTransfer", ""),
        (lambda: made(files(RECORD * 2)), "InvalidTransfer", ""),
        (lambda: made(files(RECORD.replace(b"{", b'{"host": "", ', 1))), "InvalidTransfer", ""),
        (lambda: made(files(RECORD.replace(b"05" * 32, b"06" * 32))), "", "another chain"),
        (lambda: made(files(RECORD.replace(b'"time": 1', b'"time": -1'))), "InvalidTransfer", ""),
        (lambda: made(files(RECORD.replace(b'"version": 1', b'"version": 2'))), "", "version"),
        (lambda: made(files(RECORD.replace(b'"accepted": 7, ', b""))), "", "accepted"),
    ],
)
def test_what_is_not_complete_is_refused(raw: Callable[[], bytes], code: str, said: str) -> None:
    wrong = refused(raw())
    assert code in ("", wrong.code)
    assert said in wrong.message


def test_a_manifest_that_the_code_did_not_authenticate_is_refused() -> None:
    """Somebody with the code alone has no other key: the MAC is what an archive has everywhere."""
    raw = json.dumps(asdict(replace(FACTS, files={}, public_keys=()))).encode()
    plain = [*tar.member("manifest.json", len(raw), [raw], 1),
             *tar.member("manifest.mac", 65, [b"0" * 64 + b"\n"], 1), tar.trailer()]  # fmt: skip
    packed = zstandard.compress(b"".join(plain))
    wrong = refused(b"".join(age.encrypt([packed], [PASSPHRASE])))
    assert "not made with this" in wrong.message


@pytest.mark.parametrize("what", [bytes(1 << 20), bytes(64 << 20)])
def test_a_bomb_is_refused(what: bytes) -> None:
    packed = zstandard.compress(what)
    refused(b"".join(age.encrypt([packed], [PASSPHRASE])))


@given(st.binary(max_size=200), st.booleans())
def test_a_request_comes_through_the_pipe(raw: bytes, returned: bool) -> None:
    request = Request(CODE, raw, returned)
    assert transfer.parse(transfer.dump(request)) == request
    assert CODE.decode() not in repr(request)


@given(st.binary(max_size=200))
@pytest.mark.parametrize("begin", [b"", b"{", b'{"code": "' + CODE + b'", "returned": 1}\n'])
def test_other_bytes_are_no_request(begin: bytes, raw: bytes) -> None:
    with pytest.raises(SupervisorError) as found:
        transfer.parse(begin + raw)
    assert found.value.code == "InvalidRequest"
    assert CODE.decode() not in str(found.value)


def test_too_much_is_no_request_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FILE_MAX", 100)
    with pytest.raises(SupervisorError, match="too long"):
        transfer.parse(transfer.dump(Request(CODE, bytes(101))))
    with pytest.raises(SupervisorError, match="more than 100 bytes"):
        sealed()
