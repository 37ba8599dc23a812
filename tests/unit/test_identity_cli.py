import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from validator_supervisor import age, identity
from validator_supervisor import recovery as recovery_module
from validator_supervisor.cli import identity as cli
from validator_supervisor.cli import main
from validator_supervisor.errors import SupervisorError

SECRET = b"correct horse"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have everything below a directory, and a passphrase that is cheap to try."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("validator_supervisor.cli.secret.guard", lambda: None)
    monkeypatch.setattr(identity, "wrap", partial(identity.wrap, work_factor=4))
    monkeypatch.setattr(identity, "SEALED", tmp_path / "identity.age")
    monkeypatch.setattr(identity, "IDENTITY", tmp_path / "identity")
    monkeypatch.setattr(cli, "NEXT", tmp_path / "identity.age.next")
    sealed, newest = identity.sealed, recovery_module.newest
    monkeypatch.setattr(
        identity, "sealed", lambda path=None: sealed(path or tmp_path / "identity.age")
    )
    monkeypatch.setattr(recovery_module, "newest", lambda: newest(tmp_path / "state"))
    return tmp_path


def typed(words: bytes = SECRET) -> str:
    """Return the number of a descriptor with a passphrase."""
    reading, writing = os.pipe()
    os.write(writing, words + b"\n")
    os.close(writing)
    return str(reading)


def opened(place: Path) -> age.X25519Identity:
    return identity.unwrap((place / "identity.age").read_bytes(), SECRET)


def init(*words: str) -> int:
    return main.main(["init-identity", "--passphrase-fd", typed(), *words])


def test_made_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init() == 0
    sealed = (place / "identity.age").read_bytes()
    shown = capsys.readouterr().out
    assert sealed.decode() in shown
    assert SECRET.decode() not in shown
    assert stat.S_IMODE((place / "identity.age").stat().st_mode) == 0o600
    assert init() == 1
    assert "is there already" in capsys.readouterr().err
    assert (place / "identity.age").read_bytes() == sealed
    assert main.main(["recovery-kit", "--kit", str(place / "kit")]) == 0
    assert stat.S_IMODE((place / "kit").stat().st_mode) == 0o600
    assert sealed.decode() in (place / "kit").read_text()


def test_a_generated_passphrase_is_shown_once_and_opens_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["init-identity", "--generate", "--kit", str(place / "kit")]) == 0
    (words,) = [line for line in capsys.readouterr().out.splitlines() if line.count("-") == 5]
    assert identity.unwrap((place / "identity.age").read_bytes(), words.strip().encode())
    assert words.strip() not in (place / "kit").read_text()


def test_an_interrupted_rotation_goes_on_with_the_same_identity(place: Path) -> None:
    assert init() == 0
    old, seen = opened(place), []

    def cut(before: age.X25519Identity, after: age.X25519Identity) -> None:
        assert before == old
        seen.append(after)
        if len(seen) == 1:
            raise SupervisorError("Unreachable", "no node")

    with pytest.raises(SupervisorError, match="no node"):
        cli.rotate(int(typed()), None, cut)
    # The archives that were encrypted already have their key on the disk.
    assert opened(place) == old
    assert identity.unwrap((place / "identity.age.next").read_bytes(), SECRET) == seen[0]
    assert cli.rotate(int(typed()), None, cut) == 0
    assert opened(place) == seen[1] == seen[0]
    assert not (place / "identity.age.next").exists()
    assert not (place / "identity").exists(), "it is locked"


def test_a_wrong_passphrase_changes_nothing(place: Path) -> None:
    assert init() == 0
    before = (place / "identity.age").read_bytes()
    assert main.main(["rotate-identity", "--passphrase-fd", typed(b"wrong")]) == 1
    assert (place / "identity.age").read_bytes() == before
    assert sorted(p.name for p in place.iterdir()) == [".lock", "identity.age"]
    assert main.main(["init-identity", "--passphrase-fd", typed(b"")]) == 1


def test_a_kit_brings_the_identity_back(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit = place / "kit"
    assert init("--kit", str(kit)) == 0
    before, sealed = opened(place), (place / "identity.age").read_bytes()
    assert init("--from", str(kit)) == 1
    assert "is there already" in capsys.readouterr().err
    (place / "identity.age").unlink()
    # As a person types it, in an editor of another system.
    kit.write_text(kit.read_text().replace("\n", " \r\n  "))
    assert init("--from", str(kit)) == 0
    assert before.recipient.text() in capsys.readouterr().out
    assert (place / "identity.age").read_bytes() == sealed
    assert opened(place) == before


@pytest.mark.parametrize(
    ("words", "change", "said"),
    [
        (b"wrong", lambda kit: kit, "the passphrase is wrong"),
        (SECRET, lambda kit: kit.replace("-----END AGE", "----END AGE"), "there is not one text"),
        (SECRET, lambda kit: kit + kit, "there is not one text"),
        (SECRET, lambda kit: kit.replace("FILE-----\n", "FILE-----\nA", 1), "armor"),
        (SECRET, lambda kit: kit[:9], "there is not one text"),
    ],
)
def test_a_wrong_kit_or_passphrase_installs_nothing(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    words: bytes,
    change: Callable[[str], str],
    said: str,
) -> None:
    kit = place / "kit"
    assert init("--kit", str(kit)) == 0
    (place / "identity.age").unlink()
    kit.write_text(change(kit.read_text()))
    assert main.main(["init-identity", "--from", str(kit), "--passphrase-fd", typed(words)]) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert str(kit) in shown
    assert not (place / "identity.age").exists()
