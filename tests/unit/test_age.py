import hashlib
import itertools
import os
import pty
import random
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import age, scrypt
from validator_supervisor.age import armor, recipients, stanza
from validator_supervisor.age.recipients import hkdf
from validator_supervisor.errors import FormatError, SupervisorError

TREE = Path(__file__).resolve().parents[2]
# The public test kit (C2SP CCTV, age), which is not part of the tree.
KIT = TREE.parent / "shared/data/age-testkit"
KIT_SIZE = 46
VECTORS = sorted(KIT.iterdir()) if KIT.is_dir() else []
CODES = {
    "success": {""},
    "no match": {"NoMatch", "WrongPassphrase"},
    "HMAC failure": {"InvalidAgeHeader"},
    "header failure": {"InvalidAgeFile"},
    "payload failure": {"InvalidAgeFile"},
    "armor failure": {"InvalidAgeFile"},
}
REFUSED = {"InvalidAgeFile", "InvalidAgeHeader", "NoMatch"}
CHUNK = 1 << 16
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5_000_000]
# The example of the specification.
SECRET = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
PUBLIC = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
OURS = age.X25519Identity.parse(SECRET)
OTHER = age.X25519Identity(bytes(range(32)))
PASSPHRASE = age.Passphrase(b"correct horse", 2)


def encrypted(data: bytes, *to: age.Recipient) -> bytes:
    return b"".join(age.encrypt([data], to or [OURS.recipient]))


def opened(data: bytes, *by: age.Identity) -> bytes:
    return b"".join(age.decrypt([data], by or [OURS]))


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def outcome(blocks: Iterable[bytes], by: Sequence[age.Identity]) -> tuple[bytes, str]:
    """Return what is given out, and the code of the error or nothing."""
    given = b""
    try:
        for piece in age.decrypt(blocks, by):
            assert 0 < len(piece) <= CHUNK
            given += piece
    except SupervisorError as error:
        return given, error.code
    return given, ""


SMALL = encrypted(b"a small file")
TEXT = b"".join(armor.encode([SMALL]))
LARGE_PLAIN = random.Random(1).randbytes(3 * CHUNK)
LARGE = encrypted(LARGE_PLAIN)
PAYLOAD = len(LARGE) - 3 * (CHUNK + 16)


# The test kit


@dataclass(frozen=True)
class Vector:
    expect: str
    payload: str | None
    identities: tuple[age.Identity, ...]
    file: bytes

    @classmethod
    def read(cls, path: Path) -> "Vector":
        head, _, file = path.read_bytes().partition(b"\n\n")
        fields = [line.partition(": ")[::2] for line in head.decode().split("\n")]
        known = dict(fields)
        keys = [value for name, value in fields if name == "identity"]
        if any(key.startswith("AGE-SECRET-KEY-PQ-") for key in keys):
            pytest.skip("the keys of this vector are of a type that we do not have")
        by = [age.X25519Identity.parse(key) for key in keys]
        words = [value.encode() for name, value in fields if name == "passphrase"]
        whole = zlib.decompress(file) if known.get("compressed") == "zlib" else file
        every: list[age.Identity] = [*by, *map(age.Passphrase, words)]
        return cls(known["expect"], known.get("payload"), tuple(every), whole)


def test_the_kit_is_here() -> None:
    if not KIT.is_dir():
        pytest.skip("THE AGE TEST KIT WAS NOT RUN: shared/data/age-testkit is not beside the tree")
    assert len(VECTORS) >= KIT_SIZE


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name)
@pytest.mark.parametrize("size", [1, 1000, CHUNK, 1 << 30])
def test_kit(path: Path, size: int) -> None:
    vector = Vector.read(path)
    # The largest would be of millions of blocks of one byte.
    pieces = cut(vector.file, max(size, len(vector.file) // 100_000))
    given, code = outcome(pieces, vector.identities)
    assert code in CODES[vector.expect]
    # What is given out before a failure counts as well.
    if vector.payload:
        assert hashlib.sha256(given).hexdigest() == vector.payload
    else:
        assert not given


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name)
def test_kit_within_armor(path: Path) -> None:
    vector = Vector.read(path)
    expected = outcome([vector.file], vector.identities)
    assert outcome(armor.encode([vector.file]), vector.identities) == expected


# Both ways with Debian's age


def typed(argv: list[str], *answers: bytes) -> None:
    """Run a program on a terminal of its own and answer each question."""
    ours, theirs = pty.openpty()
    argv = ["setsid", "--ctty", "--wait", *argv]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        for answer in answers:
            asked = b""
            while not asked.rstrip(b" \x1b[K\r").endswith(b":"):
                asked += os.read(ours, 1000)
            os.write(ours, answer + b"\n")
        assert process.wait(60) == 0
    os.close(ours)


def run(*argv: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(argv, input=stdin, capture_output=True, check=True).stdout


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key.txt"
    path.write_text(OURS.text() + "\n")
    return str(path)


@pytest.mark.parametrize("size", SIZES)
def test_age_opens_ours(size: int, key: str) -> None:
    data = os.urandom(size)
    file = encrypted(data, OTHER.recipient, OURS.recipient)
    assert run("age", "-d", "-i", key, stdin=file) == data
    assert run("age", "-d", "-i", key, stdin=b"".join(armor.encode([file]))) == data


@pytest.mark.parametrize("size", SIZES)
def test_we_open_ages(size: int) -> None:
    data = os.urandom(size)
    to = ["-r", OTHER.recipient.text(), "-r", OURS.recipient.text()]
    for file in (run("age", *to, stdin=data), run("age", "-a", *to, stdin=data)):
        assert opened(file) == data
        assert opened(file, OTHER) == data


@dataclass(frozen=True)
class Strange:
    """A recipient that age does not know, with a body of some length."""

    size: int

    def wrap(self, _file_key: bytes) -> age.Stanza:
        return age.Stanza("example.org/strange", ("!", "~"), bytes(self.size))


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49, 96, 1120])
def test_stanzas_of_others_are_written_and_left_alone(size: int, key: str) -> None:
    file = encrypted(b"data", Strange(size), OURS.recipient, Strange(size))
    assert opened(file) == b"data"
    assert run("age", "-d", "-i", key, stdin=file) == b"data"


def test_keys_of_age_keygen() -> None:
    text = run("age-keygen")
    (identity,) = age.identities(text)
    assert identity.text().encode() in text
    assert identity.recipient.text().encode() in text
    made = age.X25519Identity.generate()
    assert (
        run("age-keygen", "-y", stdin=made.text().encode()).decode() == made.recipient.text() + "\n"
    )


def test_age_reads_our_identity_file_with_its_passphrase(tmp_path: Path) -> None:
    # As the recovery kit has it: text, and the passphrase typed.
    kit, file, out = (str(tmp_path / name) for name in ("identity.age", "file.age", "out"))
    secret = age.encrypt([OURS.text().encode() + b"\n"], [age.Passphrase(b"a b c")])
    Path(kit).write_bytes(b"".join(armor.encode(secret)))
    Path(file).write_bytes(SMALL)
    typed(["age", "-d", "-i", kit, "-o", out, file], b"a b c")
    assert Path(out).read_bytes() == b"a small file"


def test_we_read_what_age_encrypts_with_a_passphrase(tmp_path: Path) -> None:
    plain, file = (str(tmp_path / name) for name in ("plain", "file.age"))
    Path(plain).write_bytes(LARGE_PLAIN)
    typed(["age", "-p", "-o", file, plain], b"a b c", b"a b c")
    assert opened(Path(file).read_bytes(), age.Passphrase(b"a b c")) == LARGE_PLAIN


def test_age_is_here() -> None:
    assert shutil.which("age"), "apt install age"


# Damage


def test_cut_anywhere_it_is_refused() -> None:
    for file in (SMALL, TEXT[:-1]):
        for size in range(len(file)):
            assert outcome([file[:size]], [OURS]) == (b"", "InvalidAgeFile"), size


@pytest.mark.parametrize("file", [SMALL, TEXT], ids=["binary", "armor"])
def test_any_bit_changed_it_is_refused(file: bytes) -> None:
    for at, bit in itertools.product(range(len(file)), range(8)):
        changed = bytearray(file)
        changed[at] ^= 1 << bit
        given, code = outcome([bytes(changed)], [OURS])
        assert not given
        assert code in REFUSED, (at, bit)


@pytest.mark.parametrize("more", [b"\0", b"\n", bytes(16), bytes(CHUNK + 16), SMALL])
def test_nothing_follows(more: bytes) -> None:
    assert outcome([SMALL, more], [OURS]) == (b"", "InvalidAgeFile")
    given, code = outcome([LARGE + more], [OURS])
    assert LARGE_PLAIN.startswith(given)
    assert code == "InvalidAgeFile"


@pytest.mark.parametrize("chunk", range(3))
def test_a_damaged_chunk_is_not_given_out(chunk: int) -> None:
    for at in (0, 1, CHUNK - 1, CHUNK, CHUNK + 15):
        changed = bytearray(LARGE)
        changed[PAYLOAD + chunk * (CHUNK + 16) + at] ^= 1
        given, code = outcome([bytes(changed)], [OURS])
        assert given == LARGE_PLAIN[: chunk * CHUNK]
        assert code == "InvalidAgeFile"


def test_chunks_have_their_places() -> None:
    head = LARGE[:PAYLOAD]
    one, two, three = cut(LARGE[PAYLOAD:], CHUNK + 16)
    for order in itertools.permutations([one, two, three]):
        code = "" if order == (one, two, three) else "InvalidAgeFile"
        assert outcome([head, *order], [OURS])[1] == code
    assert outcome([head, one, three], [OURS]) == (LARGE_PLAIN[:CHUNK], "InvalidAgeFile")
    # Cut at a chunk's end: all that is there is authentic, and the end is missing.
    assert outcome([head, one, two], [OURS]) == (LARGE_PLAIN[: 2 * CHUNK], "InvalidAgeFile")


def test_who_stops_early_has_not_seen_the_end() -> None:
    pieces = age.decrypt([LARGE[:-1]], [OURS])
    assert next(pieces) == LARGE_PLAIN[:CHUNK]
    next(pieces)
    with pytest.raises(FormatError):
        next(pieces)


def test_a_changed_header_is_another_error_than_a_changed_payload() -> None:
    # Somebody takes the stanza of one of two: the other one's MAC is of both.
    both = encrypted(b"data", OTHER.recipient, OURS.recipient)
    first, end = both.index(b"-> "), both.index(b"---")
    second = both.index(b"-> ", first + 1)
    assert outcome([both[:first] + both[second:]], [OURS])[1] == "InvalidAgeHeader"
    swapped = both[:first] + both[second:end] + both[first:second] + both[end:]
    assert outcome([swapped], [OURS])[1] == "InvalidAgeHeader"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for head in (b"", stanza.VERSION, SMALL[: SMALL.index(b"---")], SMALL[:-60], TEXT[:100]):
        given, code = outcome([head + data], [OURS, PASSPHRASE])
        assert not given
        assert code in REFUSED


@given(st.lists(st.sampled_from([*SMALL.splitlines(keepends=True), b"-> x\n", b"\n", b"\r\n"])))
def test_any_lines_are_refused(lines: list[bytes]) -> None:
    given, code = outcome(lines, [OURS])
    assert code in REFUSED or (b"".join(lines) == SMALL and given == b"a small file")


@given(st.binary(max_size=200), st.lists(st.integers(0, 400)), st.lists(st.integers(0, 400)))
def test_however_it_comes_in_pieces(data: bytes, plain: list[int], sealed: list[int]) -> None:
    def pieces(of: bytes, at: list[int]) -> list[bytes]:
        places = [0, *sorted(at), len(of)]
        return [of[a:b] for a, b in itertools.pairwise(places)] + [of[max(places) :]]

    file = b"".join(age.encrypt(pieces(data, [min(a, len(data)) for a in plain]), [OURS.recipient]))
    assert b"".join(age.decrypt(pieces(file, [min(a, len(file)) for a in sealed]), [OURS])) == data


@pytest.mark.parametrize("size", [1, 7, 65535, 65536, 65537, 65552, 70_000, 1_000_000])
def test_pieces_of_a_large_file(size: int) -> None:
    file = b"".join(age.encrypt(cut(LARGE_PLAIN, size), [OURS.recipient]))
    assert len(file) == len(LARGE)
    assert list(age.decrypt(cut(file, size), [OURS])) == list(cut(LARGE_PLAIN, CHUNK))


# Limits


def test_an_endless_header_ends() -> None:
    line, short = b"A" * 64 + b"\n", b"-> a\n\n"
    for endless in (b"A" * 70_000, line, short, b"\n", b" ", b"-> a\n" + line * 1000):
        for head in (b"", stanza.VERSION, stanza.VERSION + b"-> a\n"):
            code = outcome(itertools.chain([head], itertools.repeat(endless)), [OURS])[1]
            assert code == "InvalidAgeFile"


def test_as_many_recipients_as_there_is_room_for() -> None:
    many = [Strange(0)] * (stanza.MAX_STANZAS - 1)
    assert opened(encrypted(b"data", *many, OURS.recipient)) == b"data"
    with pytest.raises(FormatError, match="256"):
        encrypted(b"data", *many, OURS.recipient, OTHER.recipient)
    text = stanza.write([Strange(0).wrap(b"")] * (stanza.MAX_STANZAS + 1))
    assert outcome([text + b" " + b"A" * 43 + b"\n"], [OURS])[1] == "InvalidAgeFile"
    assert opened(encrypted(b"data", Strange(150_000), OURS.recipient)) == b"data"
    for sizes in ([200_000], [150_000, 150_000]):
        file = encrypted(b"", *map(Strange, sizes), OURS.recipient)
        assert outcome([file], [OURS])[1] == "InvalidAgeFile"


def counted(count: int) -> Iterator[bytes]:
    block = bytes(100_000)
    return (block for _ in range(count))


@pytest.mark.parametrize("way", ["binary", "armor"])
def test_memory_does_not_grow_with_the_file(way: str) -> None:
    count = 640 if way == "binary" else 64
    tracemalloc.start()
    try:
        sealed = age.encrypt(counted(count), [OURS.recipient])
        file = armor.encode(sealed) if way == "armor" else sealed
        assert sum(map(len, age.decrypt(file, [OURS]))) == count * 100_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


# Keys


def test_example_of_the_specification() -> None:
    assert OURS.secret == b"B" * 32
    assert OURS.text() == SECRET
    assert OURS.recipient.text() == PUBLIC
    assert age.X25519Recipient.parse(PUBLIC) == OURS.recipient


def test_hkdf() -> None:
    # RFC 5869, test cases 1 and 3, of which these are the first 32 bytes.
    okm = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    okm = hkdf(b"\x0b" * 22, b"", b"")
    assert okm.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@pytest.mark.parametrize(
    "text",
    [
        "",
        PUBLIC,
        SECRET.lower(),
        SECRET.capitalize(),
        SECRET[:-1],
        SECRET[:-1] + "Q",
        SECRET.replace("GFPY", "GFPQ", 1),
        " " + SECRET,
        "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR",
    ],
)
def test_what_is_no_secret_key_is_not_quoted(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        age.X25519Identity.parse(text)
    assert caught.value.code == "InvalidIdentity"
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["", SECRET, PUBLIC.upper(), PUBLIC[:-1], PUBLIC + "q"])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        age.X25519Recipient.parse(text)
    assert caught.value.code == "InvalidRecipient"


def test_secrets_are_not_shown() -> None:
    for holder in (OURS, PASSPHRASE):
        for shown in (repr(holder), str(holder), f"{[holder]}"):
            assert SECRET not in shown
            assert "BBBB" not in shown
            assert "4242" not in shown
            assert "horse" not in shown


LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_points_of_low_order(point: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        encrypted(b"data", age.X25519Recipient(point))
    assert caught.value.code == "InvalidRecipient"
    with pytest.raises(FormatError, match="low order"):
        OURS.unwrap(age.Stanza("X25519", (stanza.base64_text(point),), bytes(32)))


def test_a_body_of_another_length_is_not_opened() -> None:
    share = stanza.base64_text(OTHER.recipient.public)
    for size in (0, 16, 31, 33, 48):
        with pytest.raises(FormatError, match="not a file key"):
            OURS.unwrap(age.Stanza("X25519", (share,), bytes(size)))
        with pytest.raises(FormatError, match="not a file key"):
            PASSPHRASE.unwrap(age.Stanza("scrypt", ("A" * 22, "1"), bytes(size)))


def test_identity_files() -> None:
    one, two = OURS.text().encode(), OTHER.text().encode()
    text = b"# created: 2026\r\n# public key: \xc3\xa9\r\n\r\n" + one + b"\r\n\n" + two
    assert age.identities(text) == [OURS, OTHER]
    assert age.identities(one + b" \n\n") == [OURS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "there is no secret key"),
        (b"# only\n\n", "there is no secret key"),
        (b"#\n" + PUBLIC.encode(), "line 2: "),
        (SECRET.encode() + b"\n" + SECRET[:-1].encode(), "line 2: "),
        (SECRET.encode() + b" " + SECRET.encode(), "line 1: "),
        (b"\xff\xfe", "line 1: "),
        (b"-----BEGIN AGE ENCRYPTED FILE-----", "line 1: "),
    ],
)
def test_identity_files_that_are_none(text: bytes, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        age.identities(text)
    assert caught.value.code == "InvalidIdentity"
    assert message in str(caught.value)
    assert "GFPYYSJZ" not in str(caught.value)


# Passphrases


def test_a_passphrase_opens_what_it_closed() -> None:
    file = encrypted(b"data", PASSPHRASE)
    assert opened(file, OURS, age.Passphrase(b"correct horse")) == b"data"
    assert outcome([file], [age.Passphrase(b"wrong")]) == (b"", "WrongPassphrase")
    assert outcome([file], [OURS]) == (b"", "NoMatch")
    assert outcome([file], []) == (b"", "NoMatch")
    assert outcome([SMALL], [PASSPHRASE, OTHER]) == (b"", "NoMatch")
    assert opened(encrypted(b"", age.Passphrase(b"", 1)), age.Passphrase(b"")) == b""


def test_a_passphrase_is_alone() -> None:
    ours, both = OURS.recipient, [PASSPHRASE, PASSPHRASE]
    wrong: list[Sequence[age.Recipient]] = [(PASSPHRASE, ours), (ours, PASSPHRASE), both, ()]
    for to in wrong:
        with pytest.raises(FormatError) as caught:
            age.encrypt([b"data"], to)
        assert caught.value.code == "InvalidRecipient"
    theirs = PASSPHRASE.wrap(bytes(16)), OURS.recipient.wrap(bytes(16))
    for stanzas in (theirs, theirs[::-1], [theirs[0]] * 2):
        text = stanza.write(stanzas) + b" " + b"A" * 43 + b"\n"
        for by in (OURS, PASSPHRASE):
            assert outcome([text], [by]) == (b"", "InvalidAgeFile")


def test_work_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scrypt, "derive")  # nothing is computed for what is refused
    for factor in (-1, 0, recipients.MAX_WORK_FACTOR + 1):
        with pytest.raises(FormatError):
            age.Passphrase(b"", factor)
    for text in ("21", "22", "23", "64", "9" * 5000, "", "01", "1_0", " 1", "1e1", "\u0661"):
        with pytest.raises(FormatError, match="work factor"):
            PASSPHRASE.unwrap(age.Stanza("scrypt", ("A" * 22, text), bytes(32)))


def test_no_memory_for_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    def scrypt(*_: object, **_options: object) -> bytes:
        raise ValueError

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    with pytest.raises(SupervisorError) as caught:
        PASSPHRASE.wrap(bytes(16))
    assert (caught.value.code, caught.value.exit_status) == ("NoMemory", 75)
    assert "horse" not in str(caught.value)


def test_errors_come_with_the_call() -> None:
    with pytest.raises(SupervisorError, match="for others"):
        age.decrypt([SMALL], [OTHER])
    with pytest.raises(FormatError):
        age.decrypt([], [OURS])


def test_files_differ() -> None:
    assert encrypted(b"data") != encrypted(b"data")
    first, second = (encrypted(b"", PASSPHRASE).split(b"\n")[1] for _ in range(2))
    assert first != second


def test_importing_it_does_not_import_cryptography() -> None:
    program = "import sys, validator_supervisor.age; print(*sys.modules)"
    argv = [sys.executable, "-B", "-c", program]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=True)
    assert "cryptography" not in done.stdout.split()
