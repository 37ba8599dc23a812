"""helpers/validator-supervisor-node: the list of keys on a bastion."""

import base64
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

Main = Callable[..., int]


@pytest.fixture
def module(helper: Callable[[str], ModuleType], tmp_path: Path) -> ModuleType:
    module = helper("validator-supervisor-node")
    module.KEYS = tmp_path / "authorized_keys"  # type: ignore[attr-defined]
    return module


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "authorized_keys"


@pytest.fixture
def main(module: ModuleType) -> Main:
    def main(*words: str) -> int:
        status: int = module.main(list(words))
        return status

    return main


def test_a_line_permits_what_is_named_and_nothing_else(
    main: Main, keys: Path, host_key: str
) -> None:
    status = main(
        "add-validator", f"{host_key} me@home", "--name=host-1",
        "--permit-open=lighthouse:5052", "--permit-open=[::1]:1", "--permit-listen=0.0.0.0:9000",
    )  # fmt: skip
    assert status == 0
    assert keys.read_text() == (
        'restrict,port-forwarding,permitopen="lighthouse:5052",permitopen="[::1]:1",'
        f'permitlisten="0.0.0.0:9000" {host_key} host-1\n'
    )
    assert keys.stat().st_mode & 0o777 == 0o644
    assert list(keys.parent.iterdir()) == [keys]


def test_an_empty_list_permits_nothing(main: Main, keys: Path, host_key: str) -> None:
    # To sshd a key without permitopen= may connect to everything.
    assert main("add-validator", host_key) == 0
    assert keys.read_text() == (
        'restrict,port-forwarding,permitopen="none.invalid:1",permitlisten="none.invalid:1" '
        f"{host_key} validator\n"
    )


def test_the_same_key_again_replaces_its_line(
    main: Main, keys: Path, host_key: str, key: Callable[..., str]
) -> None:
    assert main("add-validator", host_key, "--permit-open=a:1") == 0
    assert main("add-validator", key(seed=9)) == 0
    assert main("add-validator", host_key, "--permit-open=b:2") == 0
    first, second = keys.read_text().splitlines()
    assert key(seed=9) in first
    assert host_key in second
    assert "a:1" not in first + second


def test_remove(
    main: Main,
    keys: Path,
    host_key: str,
    key: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    main("add-validator", host_key)
    main("add-validator", key(seed=9))
    assert main("remove-validator", host_key) == 0
    (line,) = keys.read_text().splitlines()
    assert key(seed=9) in line
    before = keys.read_bytes()
    assert main("remove-validator", host_key) == 1
    assert "not in the list" in capsys.readouterr().err
    assert keys.read_bytes() == before


def test_list_shows_the_file(main: Main, host_key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("list-validators") == 0
    assert capsys.readouterr().out == ""
    main("add-validator", host_key)
    assert main("list-validators") == 0
    assert capsys.readouterr().out.endswith(f" {host_key} validator\n")


def test_lines_of_others_are_kept_as_they_are(main: Main, keys: Path, host_key: str) -> None:
    # An editor left no end to the last line, and a comment in Latin-1.
    theirs = b"# caf\xe9\n\nssh-rsa AAAA somebody\nssh-ed25519 BBBB last"
    keys.write_bytes(theirs)
    assert main("add-validator", host_key) == 0
    lines = keys.read_bytes().splitlines()
    assert lines[:3] == [b"# caf\xe9", b"ssh-rsa AAAA somebody", b"ssh-ed25519 BBBB last"]
    assert lines[3].startswith(b"restrict,")
    assert len(lines) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["--permit-open=lighthouse"],
        ["--permit-open=lighthouse:0"],
        ["--permit-open=lighthouse:65536"],
        ["--permit-open=*:1"],
        ["--permit-open=any"],
        ["--permit-open=none"],
        ['--permit-open=a:1",command="id'],
        ["--permit-open=a:1\n"],
        ["--permit-open=a:1,permitopen=b:1"],
        ["--permit-open=-a:1"],
        ["--permit-open="],
        ["--permit-listen=a b:1"],
        ["--permit-listen=*:22"],
        ["--name=a b"],
        ["--name="],
        ["--name=a\nssh-rsa"],
        ["--name=" + "a" * 65],
    ],
)
def test_hostile_options(
    main: Main,
    keys: Path,
    host_key: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("add-validator", host_key, *words) == 1
    assert not keys.exists()
    error = capsys.readouterr().err
    assert error.startswith("validator-supervisor-node: not ")
    assert error.count("\n") == 1


def test_hostile_keys(main: Main, keys: Path, host_key: str, key: Callable[..., str]) -> None:
    kind, blob = host_key.split()
    long = base64.b64encode((1 << 31).to_bytes(4, "big") + b"x").decode()
    for wrong in (
        "",
        " ",
        kind,
        blob,
        f"ssh-rsa {blob}",
        f"{kind} {blob[:-1]}",
        f"{kind} AAAA",
        f"{kind} {long}",
        f'command="id" {kind} {blob}',
        f"{kind}\u2028{blob[:8]}",
        key("ssh-dss"),
        "\0",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ):
        for command in ("add-validator", "remove-validator"):
            assert main(command, wrong) == 1
    assert not keys.exists()


def test_comment_of_a_key_is_not_taken_over(main: Main, keys: Path, host_key: str) -> None:
    assert main("add-validator", f"{host_key} a\nssh-rsa AAAA evil") == 0
    assert keys.read_text().count("\n") == 1
    assert "evil" not in keys.read_text()


@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_any_words_make_one_line_or_none(
    module: ModuleType, keys: Path, host_key: str, comment: str, forward: str, name: str
) -> None:
    keys.unlink(missing_ok=True)
    words = [f"{host_key} {comment}", f"--permit-open={forward}", f"--name={name}"]
    if module.main(["add-validator", *words]) == 0:
        assert keys.read_bytes().count(b"\n") == 1
        assert keys.read_text().count('"') == 4


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not here")
def test_sshd_reads_the_line(main: Main, keys: Path, host_key: str) -> None:
    main("add-validator", host_key, "--permit-open=[::1]:1")
    done = subprocess.run(["ssh-keygen", "-lf", keys], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.endswith("validator (ED25519)\n")


def test_failed_write_leaves_the_old_list(
    main: Main, keys: Path, host_key: str, key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main("add-validator", host_key)
    before = keys.read_bytes()

    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main("add-validator", key(seed=9)) == 1
    assert keys.read_bytes() == before


def test_without_its_directory(module: ModuleType, tmp_path: Path, host_key: str) -> None:
    module.KEYS = tmp_path / "none" / "authorized_keys"  # type: ignore[attr-defined]
    assert module.main(["add-validator", host_key]) == 1


def test_keep(module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module.KEEP = tmp_path / "keep"  # type: ignore[attr-defined]
    assert module.main(["keep", "12"]) == 0
    assert (tmp_path / "keep").read_text() == "12\n"
    for wrong in ("0", "-1", "1.5", "10001", "999999", "x", "", "1\n", "\u0661"):
        assert module.main(["keep", "--", wrong]) == 1
        assert "not a number from 1 to 10000" in capsys.readouterr().err
    assert (tmp_path / "keep").read_text() == "12\n"
