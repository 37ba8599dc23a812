import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from validator_supervisor import age, identity, passphrase, recovery
from validator_supervisor.age import X25519Identity
from validator_supervisor.bus.offer import Offer
from validator_supervisor.errors import FormatError, SupervisorError

# What scrypt costs is its own test's business.
CHEAP = 4
SECRET = b"correct horse"


@pytest.fixture(scope="module")
def mine() -> X25519Identity:
    return X25519Identity.generate()


def test_wrapped_and_back(mine: X25519Identity) -> None:
    sealed = identity.wrap(mine, SECRET, CHEAP)
    assert sealed.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert mine.text().encode() not in sealed
    assert identity.unwrap(sealed, SECRET) == mine


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (b"wrong", "WrongPassphrase"),
        (SECRET + b"\n", "WrongPassphrase"),
        (b"", "NoPassphrase"),
        (b"x" * 1025, "NoPassphrase"),
    ],
)
def test_refused_passphrases(mine: X25519Identity, typed: bytes, code: str) -> None:
    sealed = identity.wrap(mine, SECRET, CHEAP)
    with pytest.raises(SupervisorError) as refused:
        identity.unwrap(sealed, typed)
    assert refused.value.code == code
    assert "horse" not in str(refused.value)


def test_an_empty_passphrase_protects_nothing(mine: X25519Identity) -> None:
    with pytest.raises(SupervisorError, match="no passphrase"):
        identity.wrap(mine, b"", CHEAP)


def test_a_file_for_a_key_is_refused(mine: X25519Identity) -> None:
    sealed = b"".join(age.encrypt([identity.text(mine)], [mine.recipient]))
    with pytest.raises(SupervisorError) as refused:
        identity.unwrap(sealed, SECRET)
    assert refused.value.code == "NoMatch"


def test_exactly_one_key() -> None:
    two = "".join(f"{X25519Identity.generate().text()}\n" for _ in range(2))
    with pytest.raises(FormatError, match="2 secret keys"):
        identity.read(two.encode())


def test_locked_says_what_to_do(tmp_path: Path, mine: X25519Identity) -> None:
    path = tmp_path / "identity"
    with pytest.raises(SupervisorError) as refused:
        identity.load(path)
    assert (refused.value.code, refused.value.hint) == ("Locked", "validator-supervisor unlock")
    identity.publish(mine, path)
    assert identity.load(path) == mine
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert [entry.name for entry in tmp_path.iterdir()] == ["identity"]


def test_generated_passphrases_have_more_than_100_bits() -> None:
    made = {identity.generate_passphrase() for _ in range(100)}
    assert len(made) == 100
    assert all(len(set(identity.LETTERS)) ** len(text.replace("-", "")) > 1 << 100 for text in made)


def test_nothing_sealed_is_told(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="not there") as refused:
        identity.sealed(tmp_path / "identity.age")
    assert refused.value.code == "NoIdentity"
    (tmp_path / "identity.age").write_bytes(b"x" * 70000)
    with pytest.raises(FormatError, match="larger"):
        identity.sealed(tmp_path / "identity.age")


def test_the_kit_has_all_but_the_passphrase(mine: X25519Identity, tmp_path: Path) -> None:
    sealed = identity.wrap(mine, SECRET, CHEAP)
    archives = tmp_path / "main/archives"
    archives.mkdir(parents=True)
    for name in ("main.9", "main.10", "other.99", "main.x"):
        (archives / f"{name}.{'0' * 32}.age").touch()
    (archives / f"main.11.{'0' * 32}.claim").touch()
    assert recovery.newest(tmp_path) == {"main": 10}
    text = recovery.kit(sealed, "host", 0, recovery.newest(tmp_path), "")
    assert sealed.decode() in text
    assert "main                  10" in text
    assert "1970-01-01" in text
    assert SECRET.decode() not in text
    begin, end = text.index("-----BEGIN"), text.index("-----END")
    typed = text[begin:end].encode() + b"-----END AGE ENCRYPTED FILE-----\n"
    assert identity.unwrap(typed, SECRET) == mine


@pytest.mark.parametrize(
    ("written", "seen"), [(b"a\n", b"a\n"), (b"", b""), (b"x" * 1025, b"x" * 1025)]
)
def test_a_pipe_is_relayed(written: bytes, seen: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, written)
    os.close(writing)
    assert passphrase.relayed(reading) == seen
    os.close(reading)


@pytest.mark.parametrize("kind", ["endless", "directory", "huge", "writing", "device"])
def test_bad_descriptors_are_refused_in_time(kind: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    (tmp_path / "huge").write_bytes(b"x" * 5000)
    given = {
        "endless": lambda: reading,
        "directory": lambda: os.open(tmp_path, os.O_RDONLY),
        "huge": lambda: os.open(tmp_path / "huge", os.O_RDONLY),
        "writing": lambda: writing,
        "device": lambda: os.open("/dev/zero", os.O_RDONLY),
    }[kind]()
    began = time.monotonic()
    with pytest.raises(SupervisorError) as refused:
        passphrase.relayed(given, 0.2)
    assert refused.value.code == "NoPassphrase"
    assert time.monotonic() - began < 2


@pytest.fixture
def offer(tmp_path: Path) -> Offer:
    return Offer(tmp_path / "unlock")


@pytest.fixture
def serving(offer: Offer) -> Iterator[None]:
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.01):
            offer.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_an_offer_reaches_root_once(offer: Offer, serving: None, tmp_path: Path) -> None:
    del serving
    assert stat.S_IMODE((tmp_path / "unlock").stat().st_mode) == 0o600
    reading, writing = os.pipe()
    os.write(writing, SECRET)
    os.close(writing)
    offer.put(reading)
    got = passphrase.offered(tmp_path / "unlock", 5)
    if os.geteuid() != 0:
        assert got is None
        return
    assert got is not None
    assert passphrase.relayed(got) == SECRET
    os.close(got)
    assert not offer.pending
    assert passphrase.offered(tmp_path / "unlock", 5) is None


def test_nobody_but_root_gets_it(
    offer: Offer, serving: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del serving
    monkeypatch.setattr(struct, "unpack", lambda *_: (1, 65534, 65534))
    reading, _ = os.pipe()
    offer.put(reading)
    assert passphrase.offered(tmp_path / "unlock", 5) is None
    assert offer.pending
    offer.drop()
    offer.drop()


def test_no_controller_is_no_offer(tmp_path: Path) -> None:
    assert passphrase.offered(tmp_path / "nobody", 0.2) is None
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(1)
        assert passphrase.offered(tmp_path / "deaf", 0.2) is None


def test_an_answer_that_does_not_come_is_empty(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(1)
        assert passphrase.answer(tmp_path / "deaf", 0.2) == b""
    with pytest.raises(SupervisorError, match="nobody can be asked"):
        passphrase.answer(tmp_path / "nobody", 0.2)
