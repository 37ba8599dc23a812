"""`validator-supervisor backup inspect`."""

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from validator_supervisor import age, archive
from validator_supervisor.age import armor
from validator_supervisor.archive import Source
from validator_supervisor.cli import backup, main
from validator_supervisor.manifest import Manifest

TREE = Path(__file__).resolve().parents[2]
KEY, GONE = "0x" + "ab" * 48, "0x" + "cd" * 48
IDENTITY = age.X25519Identity.generate()


def content() -> list[bytes]:
    return [b"{}"]


SOURCES: dict[str, Source] = {"slashing-protection.json": content}
MANIFEST = Manifest(
    version=1, validator="main", kind="ethereum", network="hoodi", host="ab" * 16,
    boot="cd" * 16, sequence=7,
    created=1_763_700_000, clean=False, public_keys=(KEY,), removed_keys={GONE: 1_700_000_000},
    files=archive.describe(SOURCES), remarks=("no fee recipient ☹",),
)  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> list[str]:
    """Writes an archive and its identity; returns the command that looks at it."""
    archived, identity = tmp_path / "A.age", tmp_path / "identity"
    archived.write_bytes(b"".join(archive.create(MANIFEST, SOURCES, IDENTITY)))
    identity.write_text(f"# created: today\n{IDENTITY.text()}\n")
    return ["backup", "inspect", "--identity", str(identity), str(archived)]


def test_a_manifest_is_shown(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(made) == 0
    assert capsys.readouterr().out.splitlines() == [
        "validator     main (ethereum, hoodi)",
        "sequence      7",
        "created       2025-11-21 04:40:00 UTC",
        "clean         no: made while the validator was running",
        f"host          {'ab' * 16}",
        f"boot          {'cd' * 16}",
        "files         1 with 2 bytes, all as the manifest says",
        f"public key    {KEY}",
        f"removed key   {GONE} 2023-11-14",
        "remark        no fee recipient ☹",
    ]


def test_json_is_the_manifest(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*made, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(MANIFEST.plain()))


def test_standard_input(
    made: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(made[-1]).read_bytes())))
    assert main.main([*made[:-1], "-"]) == 0
    assert "validator     main" in capsys.readouterr().out


def at_terminal(words: list[str], typed: bytes) -> tuple[int, bytes]:
    """Run a command at a terminal of its own, and type when it asks; return what it shows."""
    ours, theirs = pty.openpty()
    # Whoever runs the tests in the background has it ignore Ctrl-C.
    argv = ["env", "--default-signal=INT", "setsid", "--ctty", "--wait", sys.executable]
    argv += ["-m", "validator_supervisor", *words]
    shown = b""
    with subprocess.Popen(argv, cwd=TREE, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while not shown.endswith(b": "):
            shown += os.read(ours, 1000)
        # The echo is off before it asks.
        os.write(ours, typed)
        with contextlib.suppress(OSError):  # the terminal is gone: it has ended
            while more := os.read(ours, 1000):
                shown += more
    os.close(ours)
    return process.returncode, shown


@pytest.mark.parametrize("armored", [False, True])
def test_an_identity_with_a_passphrase(made: list[str], armored: bool) -> None:
    secret = age.Passphrase("pässwörd".encode(), 10)
    encrypted = b"".join(age.encrypt([f"{IDENTITY.text()}\n".encode()], [secret]))
    text = b"".join(armor.encode([encrypted])) if armored else encrypted
    Path(made[3]).write_bytes(text)
    status, shown = at_terminal(made, "pässwörd\n".encode())
    assert (status, b"validator     main" in shown) == (0, True)
    assert shown.startswith(f"Passphrase of {made[3]}: \r\n".encode())
    for typed, why in (
        (b"wrong\n", b"the passphrase is wrong"),
        (b"\xff\n", b"what was typed is no passphrase"),
        (b"\x04", b"what was typed is no passphrase"),
    ):
        status, shown = at_terminal(made, typed)
        assert (status, b"validator     main" in shown) == (1, False)
        assert why in shown
        assert b"Traceback" not in shown
    assert at_terminal(made, b"\x03")[0] == 130


def test_a_passphrase_is_never_read_from_standard_input(made: list[str]) -> None:
    encrypted = b"".join(age.encrypt([b"x"], [age.Passphrase(b"x", 1)]))
    Path(made[3]).write_bytes(encrypted)
    argv = ["setsid", sys.executable, "-m", "validator_supervisor", *made]
    done = subprocess.run(argv, cwd=TREE, input=b"x\n", capture_output=True)
    said = f"validator-supervisor: {made[3]}: there is no terminal to ask for its passphrase\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", said)


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ('"$@" >&-', 1, "standard output is closed"),
        ('"$@" >/dev/full', 1, "standard output cannot be written: No space left"),
        ('"${@:1:$#-1}" - <&-', 1, "standard input is closed"),
        ('"${@:1:$#-1}" - <"${@: -1}"', 0, ""),
        ('"${@:1:$#-1}" <(cat "${@: -1}")', 0, ""),
        ('PYTHONIOENCODING=ascii "$@"', 0, ""),
        ('"$@" 2>&-', 0, ""),
    ],
)
def test_streams(made: list[str], line: str, status: int, why: str) -> None:
    argv = ["bash", "-c", line, "bash", sys.executable, "-m", "validator_supervisor", *made]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True)
    assert done.returncode == status
    assert why in done.stderr
    assert done.stderr.count("\n") == status
    assert ("validator     main" in done.stdout) == (status == 0)


def test_what_is_wrong_is_said_and_nothing_is_shown(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archived, identity = Path(made[-1]), Path(made[3])
    raw, key = archived.read_bytes(), identity.read_bytes()
    other = f"{age.X25519Identity.generate().text()}\n".encode()
    for changed, text, why in (
        (archived, raw[:-1], "damaged"),
        (archived, raw[:100], "the header is cut short"),
        (archived, b"", "the header is cut short"),
        (identity, other, "none of the keys opens"),
        (identity, b"# nothing\n", "no secret key"),
        (identity, key + b"x\n", "line 3"),
        (identity, b"x" * (backup.IDENTITY_MAX + 1), "larger than"),
    ):
        archived.write_bytes(raw)
        identity.write_bytes(key)
        changed.write_bytes(text)
        assert main.main(made) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert why in said.err
        assert IDENTITY.text() not in said.err
    archived.write_bytes(raw)
    identity.write_bytes(key)
    for at in (-1, 3):
        words = list(made)
        words[at] = str(tmp_path)
        assert main.main(words) == 1
        assert "is neither a file nor a pipe" in capsys.readouterr().err
    assert main.main([*made[:-1], str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
