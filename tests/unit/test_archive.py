"""Archives: both ways, with Debian's own programs, and what no forger or accident gets through."""

import dataclasses
import hmac
import itertools
import json
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from validator_supervisor import age, archive, tar
from validator_supervisor import document as json_document
from validator_supervisor.archive import Source
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.manifest import VERSION, Manifest

KEY, GONE = "0x" + "ab" * 48, "0x" + "cd" * 48
FILES = {
    "slashing-protection.json": b'{"metadata": {}}' * 10_000,
    f"validators/{KEY}/keystore.json": b"{}",
    f"validators/{KEY}/password.txt": b"",
}
IDENTITY = age.X25519Identity.generate()
FACTS: dict[str, Any] = {
    "version": 1, "validator": "main", "kind": "ethereum", "network": "hoodi",
    "host": "ab" * 16, "boot": "cd" * 16,
    "sequence": 1_763_700_000, "created": 1_763_700_001, "clean": True, "public_keys": (KEY,),
    "removed_keys": {GONE: 1_700_000_000}, "remarks": ("the fee recipient could not be read",),
}  # fmt: skip
COSMOS = {"priv_validator_state.json": b"{}", "node_key.json": b"{}", "config/app.toml": b"a = 1\n"}


def sources(files: dict[str, bytes]) -> dict[str, Source]:
    def source(data: bytes) -> Source:
        return lambda: [data]

    return {name: source(data) for name, data in files.items()}


def manifest(files: dict[str, bytes] = FILES, **changes: object) -> Manifest:
    return Manifest(**{**FACTS, "files": archive.describe(sources(files)), **changes})


def made(files: dict[str, bytes] = FILES, **changes: object) -> bytes:
    return b"".join(archive.create(manifest(files, **changes), sources(files), IDENTITY))


def read(raw: bytes, *identities: age.X25519Identity) -> tuple[Manifest, dict[str, bytes]]:
    found, files = archive.unpack([raw], identities or [IDENTITY])
    content: dict[str, bytes] = {}
    for name, chunk in files:
        content[name] = content.get(name, b"") + chunk
    return found, content


def sealed(plain: bytes, level: int = 3, threads: int = 0) -> bytes:
    """Return plain bytes as an archive has them: in zstd, in age."""
    compressed = zstandard.ZstdCompressor(level=level, threads=threads).compress(plain)
    return b"".join(age.encrypt([compressed], [IDENTITY.recipient]))


def mac(raw: bytes, identity: age.X25519Identity = IDENTITY) -> bytes:
    """Return the MAC, by RFC 5869 and RFC 2104 alone."""
    extracted = hmac.digest(bytes(32), identity.secret, "sha256")
    key = hmac.digest(extracted, b"validator-supervisor manifest v1\1", "sha256")
    return hmac.digest(key, raw, "sha256").hex().encode() + b"\n"


def members(
    raw: bytes, files: dict[str, bytes] = FILES, tag: bytes | None = None, when: int = 0
) -> bytes:
    every = {"manifest.json": raw, "manifest.mac": mac(raw) if tag is None else tag, **files}
    parts = [tar.member(name, len(data), [data], when) for name, data in every.items()]
    return b"".join(b"".join(part) for part in parts)


def document(**changes: object) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(manifest())))
    return {**plain, **changes}


def forged(document: object, files: dict[str, bytes] = FILES) -> bytes:
    """Return an archive with another manifest, whose MAC is right."""
    return sealed(members(json.dumps(document).encode(), files) + tar.trailer())


def test_what_is_packed_is_unpacked() -> None:
    assert read(made()) == (manifest(), FILES)
    assert archive.verify([made()], [IDENTITY]) == manifest()
    assert read(forged(document()))[1] == FILES  # the tests' own way to write one


def test_of_a_cosmos_node() -> None:
    keys = {"public_keys": ("0x" + "ab" * 32,), "removed_keys": {}}
    raw = made(COSMOS, kind="cosmos", **keys)
    assert read(raw) == (manifest(COSMOS, kind="cosmos", **keys), COSMOS)


def test_the_ciphertext_comes_in_pieces_of_any_size() -> None:
    raw = made()
    for size in (1, 7, 65_536):
        pieces = (raw[at : at + size] for at in range(0, len(raw), size))
        assert archive.verify(pieces, [IDENTITY]) == manifest()


def test_several_recipients_and_identities() -> None:
    other = age.X25519Identity.generate()
    raw = b"".join(archive.create(manifest(), sources(FILES), IDENTITY, [other.recipient]))
    assert read(raw, other, IDENTITY)[1] == FILES
    # Who can only decrypt it cannot know who wrote it.
    with pytest.raises(FormatError, match="not made with this identity"):
        read(raw, other)
    with pytest.raises(SupervisorError) as refused:
        read(made(), other)
    assert refused.value.code == "NoMatch"


def test_debians_programs_unpack_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "identity.age").write_text(IDENTITY.text() + "\n")
    (tmp_path / "A.age").write_bytes(made())
    line = "age -d -i identity.age A.age | tar --zstd -x"
    subprocess.run(["/bin/bash", "-ec", f"set -o pipefail; {line}"], cwd=tmp_path, check=True)
    for name, data in FILES.items():
        assert (tmp_path / name).read_bytes() == data
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    raw = (tmp_path / "manifest.json").read_bytes()
    assert (tmp_path / "manifest.mac").read_bytes() == mac(raw)
    assert json.loads(raw)["validator"] == "main"


def test_nothing_is_parsed_before_the_mac_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(json_document, "parse_json", lambda raw, _: parsed.append(raw))
    raw = json.dumps(document()).encode()
    tags = [mac(raw + b" "), mac(raw, age.X25519Identity.generate()), b"", mac(raw)[:-1],
            mac(raw).upper(), mac(raw) + b"\n", b"\n" * 65]  # fmt: skip
    for tag in tags:
        with pytest.raises(FormatError, match=r"not made with this identity|larger than"):
            read(sealed(members(raw, tag=tag) + tar.trailer()))
    assert parsed == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": VERSION + 1}, f"its format is 3, and the newest known here is {VERSION}"),
        ({"version": 2}, "there are remote keys where the version is 2, and only there"),
        ({"remote_keys": [KEY]}, "there are remote keys where the version is 2, and only there"),
        ({"version": 2, "remote_keys": [KEY, KEY]}, "a remote key stands there twice"),
        ({"version": 2, "remote_keys": [GONE]}, "not among the public keys of an Ethereum"),
        ({"version": 2, "remote_keys": [KEY]}, "is of a key that is not among the local public"),
        ({"version": 0}, "expected the format's version"),
        ({"version": True}, "expected the format's version"),
        ({"extra": 1}, "unknown key"),
        ({"validator": "../x"}, "expected a name"),
        ({"kind": "command"}, "expected one of ethereum, cosmos"),
        ({"kind": "cosmos"}, "is no public key of kind cosmos"),
        ({"host": "AB" * 16}, "expected 32 hexadecimal digits"),
        ({"network": ""}, "expected the name of a chain"),
        ({"created": 2**33}, "expected a time"),
        ({"removed_keys": {GONE: 2**33}}, "expected a time"),
        ({"sequence": -1}, "expected a number"),
        ({"sequence": 2**63}, "expected a number"),
        ({"sequence": 1.5}, "unexpected float"),
        ({"created": None}, "expected a time"),
        ({"clean": "yes"}, "expected true or false"),
        ({"public_keys": [KEY, KEY]}, "stands there twice"),
        ({"public_keys": [KEY, GONE]}, "stands there twice"),
        ({"public_keys": []}, "of a key that is not among the local public keys"),
        ({"public_keys": [KEY.upper()]}, "expected a public key"),
        ({"removed_keys": {"0x00": 1}}, "expected a public key"),
        ({"removed_keys": {GONE: "x"}}, "expected a time"),
        ({"remarks": ["\x1b[2J"]}, "expected a string"),
        ({"files": {"slashing-protection.json": {"size": 1 << 40, "sha256": "ab" * 32}}},
         "more than 1073741824 bytes"),
        ({"files": {"slashing-protection.json": {"size": 1}}}, "sha256 is missing"),
        ({"files": {"slashing-protection.json": {"size": -1, "sha256": "ab" * 32}}}, "a number"),
        ({"files": {"slashing-protection.json": {"size": 1, "sha256": "AB" * 32}}}, "a SHA-256"),
        ({"files": dict(reversed(list(document()["files"].items())))}, "not in order"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(FormatError, match=why) as refused:
        read(forged(document(**changes)))
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"version": 1}', b'{"version": 1, "version": 1}', b"\xff\xfe",
     b'{"validator": "\\ud800"}', b"[" * 100_000, b"1" * 10_000, b'{"version": NaN}', b"{}" * 2],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        read(sealed(members(raw, {}) + tar.trailer()))
    assert refused.value.code == "InvalidArchive"


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "x", "manifest.json", "validators/../x", "validators//x",
     f"validators/{KEY}/../../x", f"validators/{KEY}/keystore.json/", f"validators/{KEY}",
     f"validators/{KEY}/x", f"validators/{KEY.upper()}/keystore.json", "priv_validator_state.json",
     "slashing-protection.json\n", "config/.toml", "config/../x.toml", "", ".", "a" * 4096],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ethereum", "cosmos"])
def test_no_other_name_has_a_place(name: str, kind: str) -> None:
    if name in COSMOS and kind == "cosmos":
        return
    keys: dict[str, object] = {"removed_keys": {}}
    keys["public_keys"] = [KEY] if kind == "ethereum" else ["0x" + "ab" * 32]
    files = {name: {"size": 1, "sha256": "ab" * 32}}
    with pytest.raises(FormatError, match=r"has no place|expected a string"):
        read(forged(document(kind=kind, files=files, **keys), {}))


def test_content_is_what_the_manifest_says() -> None:
    name = "slashing-protection.json"
    right = document()
    for data in (FILES[name][:-1] + b"x", FILES[name][:-1], FILES[name] + b"x", b""):
        with pytest.raises(FormatError):
            read(forged(right, {**FILES, name: data}))
    with pytest.raises(FormatError):
        read(forged(right, dict(list(FILES.items())[:-1])))
    with pytest.raises(FormatError):
        read(forged(right, {**FILES, "more": b""}))
    with pytest.raises(FormatError):
        read(forged(right, dict(reversed(FILES.items()))))


def test_a_member_is_never_longer_in_memory_than_it_should_be() -> None:
    # A manifest of a gigabyte of zeros, as 32 kB; neither it nor the file is ever unpacked whole.
    header = next(tar.member("manifest.json", 1 << 30, [], 0))
    compressor = zstandard.ZstdCompressor().compressobj()
    bomb = compressor.compress(header)
    bomb += b"".join(compressor.compress(bytes(1 << 24)) for _ in range(64)) + compressor.flush()
    assert len(bomb) < 1 << 17
    raw = b"".join(age.encrypt([bomb], [IDENTITY.recipient]))
    assert most(lambda: refused(raw)) < 20 << 20


def test_a_bomb_after_the_end_is_not_unpacked() -> None:
    raw = sealed(members(json.dumps(document()).encode()) + tar.trailer() + bytes(1 << 30))
    assert len(raw) < 1 << 18
    assert most(lambda: refused(raw)) < 20 << 20


def refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        read(raw)


def most(call: Callable[[], object]) -> int:
    """Return the most memory that Python had during a call; zstd's own has its limit."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_manifest_that_would_not_be_read_is_not_written() -> None:
    many = {f"0x{number:096x}": 1 for number in range(160_000)}
    with pytest.raises(FormatError, match=r"manifest.json is larger than"):
        archive.create(manifest(removed_keys=many), sources(FILES), IDENTITY)


def test_a_stream_of_two_frames_is_one() -> None:
    plain = members(json.dumps(document()).encode()) + tar.trailer()
    frames = [zstandard.ZstdCompressor().compress(part) for part in (plain[:5000], plain[5000:])]
    assert read(b"".join(age.encrypt(frames, [IDENTITY.recipient])))[1] == FILES


def test_a_source_without_an_end_is_left() -> None:
    endless: Source = lambda: itertools.repeat(b"x" * 100)  # noqa: E731
    with pytest.raises(FormatError, match="is not what the manifest says"):
        b"".join(archive.create(manifest(), {**sources(FILES), "slashing-protection.json": endless},
                                IDENTITY))  # fmt: skip


def test_a_frame_that_wants_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    plain = members(json.dumps(document()).encode()) + tar.trailer()
    compressed = compressor.compress(plain) + compressor.flush()
    with pytest.raises(FormatError, match="cannot be decompressed"):
        read(b"".join(age.encrypt([compressed], [IDENTITY.recipient])))
    # The strongest that does not is read.
    assert read(sealed(plain, level=19, threads=2))[1] == FILES


def test_memory_is_constant_both_ways() -> None:
    size = 48 << 20

    def content() -> Iterator[bytes]:
        piece = bytes(range(256)) * 256
        return (piece for _ in range(size // len(piece)))

    big: dict[str, Source] = {"slashing-protection.json": content}
    told = Manifest(**{**FACTS, "files": archive.describe(big)})
    encrypted: list[bytes] = []

    def create() -> None:
        encrypted.extend(archive.create(told, big, IDENTITY))

    assert most(create) < 4 << 20
    assert most(lambda: archive.verify(encrypted, [IDENTITY])) < 4 << 20


def test_what_has_changed_meanwhile_is_no_archive() -> None:
    told = manifest()
    for data in (b"", b"x", FILES["slashing-protection.json"] + b"x"):
        changed = sources({**FILES, "slashing-protection.json": data})
        with pytest.raises(FormatError, match="is not what the manifest says"):
            b"".join(archive.create(told, changed, IDENTITY))
    with pytest.raises(FormatError, match="names other files"):
        archive.create(told, {}, IDENTITY)
    with pytest.raises(FormatError, match="expected a name"):
        archive.create(manifest(validator="/"), sources(FILES), IDENTITY)


RAW = made({name: data[:100] for name, data in FILES.items()})


@settings(max_examples=300)
@given(st.integers(0, len(RAW) - 1))
def test_truncated_anywhere(at: int) -> None:
    with pytest.raises(SupervisorError):
        read(RAW[:at])


@settings(max_examples=300)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_flipped_anywhere(at: int, bits: int) -> None:
    raw = bytearray(RAW)
    raw[at] ^= bits
    with pytest.raises(SupervisorError):
        read(bytes(raw))


@settings(max_examples=500)
@given(st.data())
def test_changed_anywhere_by_who_knows_the_recipient(data: st.DataObject) -> None:
    """He can write every byte that is inside, but has no identity to make a MAC with."""
    raw = bytearray(members(json.dumps(document()).encode()) + tar.trailer())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([None, at]))
    compressed = bytearray(zstandard.ZstdCompressor().compress(bytes(raw[:cut])))
    if data.draw(st.booleans()):
        compressed[data.draw(st.integers(0, len(compressed) - 1))] ^= 1
    if data.draw(st.booleans()):
        compressed += data.draw(st.binary(max_size=20))
    with pytest.raises(FormatError):
        read(b"".join(age.encrypt([bytes(compressed)], [IDENTITY.recipient])))


@given(st.binary(max_size=2000))
def test_anything_else(raw: bytes) -> None:
    for each in (raw, b"".join(age.encrypt([raw], [IDENTITY.recipient])), sealed(raw)):
        with pytest.raises(FormatError):
            read(each)
