"""Signatures: what gpgv says of them, and what of that counts."""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.signatures import Signer

from validator_supervisor import openpgp
from validator_supervisor.errors import FormatError, SupervisorError

PRIMARY = "15E66D941F697E28F49381F426416DC3F30674B0"
GOOD = [
    "[GNUPG:] NEWSIG x@lab",
    f"[GNUPG:] KEY_CONSIDERED {PRIMARY} 0",
    "[GNUPG:] GOODSIG 26416DC3F30674B0 x <x@lab>",
    f"[GNUPG:] VALIDSIG {'A' * 40} 2026-01-01 1767225600 0 4 0 1 10 00 {PRIMARY}",
]
VALID = GOOD[-1]
OLD = ("--faked-system-time", "20240101T000000")


@dataclass
class Signed:
    """A file, and who may have signed it."""

    signer: Signer
    file: Path
    folder: Path
    keys: dict[str, str]

    def verify(self, signature: bytes, ring: bytes | None = None, trusted: str = "good") -> str:
        (self.folder / "signature").write_bytes(signature)
        everyone = b"".join(self.signer.export(one, armor=False) for one in self.keys.values())
        (self.folder / "ring.gpg").write_bytes(everyone if ring is None else ring)
        return openpgp.verify(
            self.file, self.folder / "signature", self.folder / "ring.gpg", [self.keys[trusted]]
        )

    def refusal(self, signature: bytes, ring: bytes | None = None, trusted: str = "good") -> str:
        with pytest.raises(SupervisorError) as caught:
            self.verify(signature, ring, trusted)
        assert caught.value.code == "NotSigned"
        return caught.value.message


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    if not Signer.possible():
        pytest.skip("SIGNATURES ARE NOT TESTED: gpg is not here: apt install gpg gpg-agent")
    folder = tmp_path_factory.mktemp("signed")
    (folder / "file").write_bytes(b"release" * 1000)
    with Signer.made() as signer:
        keys = {name: signer.key(name) for name in ("good", "other", "revoked", "parent")}
        keys["expired"] = signer.key("expired", *OLD, expires="2024-02-01")
        signer.subkey(keys["parent"])
        yield Signed(signer, folder / "file", folder, keys)


@pytest.mark.parametrize("armor", [True, False])
def test_a_good_signature(signed: Signed, armor: bool) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["good"], armor=armor)
    assert signed.verify(signature) == signed.keys["good"]


def test_a_key_with_armor(signed: Signed) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["good"])
    armored = signed.signer.export(signed.keys["good"])
    assert signed.verify(signature, openpgp.dearmored(armored)) == signed.keys["good"]
    # gpgv itself does not take it off.
    assert "not the project's" in signed.refusal(signature, armored)


def test_a_subkey_signs_for_its_primary_key(signed: Signed) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["parent"])
    assert signed.verify(signature, trusted="parent") == signed.keys["parent"]
    status = signed.folder / "status"
    assert not status.exists()


def test_another_file(signed: Signed) -> None:
    other = signed.folder / "other"
    other.write_bytes(signed.file.read_bytes() + b"!")
    signature = signed.signer.sign(other, signed.keys["good"])
    assert signed.refusal(signature) == "the signature is of another file"


def test_another_key(signed: Signed) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["other"])
    assert f"signed by {signed.keys['other']}" in signed.refusal(signature)
    ring = signed.signer.export(signed.keys["good"], armor=False)
    assert "a key that is not the project's" in signed.refusal(signature, ring)


def test_an_expired_key(signed: Signed) -> None:
    when = ("--faked-system-time", "20240115T000000")
    signature = signed.signer.sign(signed.file, signed.keys["expired"], *when)
    assert "has expired" in signed.refusal(signature, trusted="expired")


def test_a_revoked_key(signed: Signed) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["revoked"])
    assert signed.verify(signature, trusted="revoked") == signed.keys["revoked"]
    signed.signer.revoke(signed.keys["revoked"])
    assert "is revoked" in signed.refusal(signature, trusted="revoked")


def test_two_signatures(signed: Signed) -> None:
    both = b"".join(
        signed.signer.sign(signed.file, signed.keys[name], armor=False)
        for name in ("good", "other")
    )
    assert "not exactly one" in signed.refusal(both)


@pytest.mark.parametrize("raw", [b"", b"x", b"\x88", b"-----BEGIN PGP SIGNATURE-----\n"])
def test_no_signature(signed: Signed, raw: bytes) -> None:
    assert "not exactly one good signature" in signed.refusal(raw)


@pytest.mark.parametrize("ring", [b"", b"x", b"\x99\x00"])
def test_no_keys(signed: Signed, ring: bytes) -> None:
    signature = signed.signer.sign(signed.file, signed.keys["good"])
    assert "not the project's" in signed.refusal(signature, ring)


def test_a_signature_by_sha1(signed: Signed) -> None:
    weak = ("--digest-algo", "SHA1", "--allow-weak-digest-algos")
    signature = signed.signer.sign(signed.file, signed.keys["good"], *weak)
    assert "proves nothing" in signed.refusal(signature)


def test_what_gpgv_says_when_all_is_well() -> None:
    assert openpgp.signer(GOOD) == PRIMARY


@pytest.mark.parametrize(
    "lines",
    [
        [], GOOD[:-1], GOOD[1:], [*GOOD[:2], VALID], [*GOOD, VALID], [*GOOD, GOOD[0]],
        [*GOOD, GOOD[2]], [*GOOD, "[GNUPG:] EXPKEYSIG x"], [*GOOD, "[GNUPG:] REVKEYSIG x"],
        [*GOOD, "[GNUPG:] EXPSIG x"], [*GOOD, "[GNUPG:] BADSIG x"], [*GOOD, "[GNUPG:] ERRSIG x"],
        [*GOOD[:-1], VALID.replace(" 00 ", " 01 ")], [*GOOD[:-1], VALID.replace(" 10 ", " 2 ")],
        [*GOOD[:-1], VALID.rpartition(" ")[0]], [line.removeprefix("[GNUPG:] ") for line in GOOD],
    ],
)  # fmt: skip
def test_what_gpgv_says_when_it_is_not(lines: list[str]) -> None:
    with pytest.raises(SupervisorError) as caught:
        openpgp.signer(lines)
    assert caught.value.code == "NotSigned"


KEY = b"\x98" + bytes(range(200))
ARMORED = (
    openpgp.BEGIN + "\nVersion: x\nComment: Hostname: \u00e4\n\n"
    + base64.encodebytes(KEY).decode() + "=AAAA\n" + openpgp.END + "\n"
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        ARMORED, ARMORED.replace("\n", "\r\n"), f"\n\n{ARMORED}\nrest",
        ARMORED.replace("=AAAA\n", ""),
        ARMORED.replace("Version: x\nComment: Hostname: \u00e4\n", ""),
    ],
)  # fmt: skip
def test_armor_is_taken_off(text: str) -> None:
    assert openpgp.dearmored(text.encode()) == KEY
    assert openpgp.dearmored(KEY) == KEY


@pytest.mark.parametrize(
    "text",
    [
        "", "x", openpgp.BEGIN, ARMORED.replace("END", "end"), ARMORED.replace("\n\n", "\n"),
        ARMORED.replace("PUBLIC", "PRIVATE"), ARMORED.replace("=AAAA", "!AAAA"),
        openpgp.END + "\n" + ARMORED.partition(openpgp.END)[0],
        f"{openpgp.BEGIN}\n\nA\n{openpgp.END}\n", "<html>not found</html>",
    ],
)  # fmt: skip
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(FormatError, match="not an OpenPGP public key"):
        openpgp.dearmored(text.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_none(raw: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert isinstance(openpgp.dearmored(raw), bytes)
