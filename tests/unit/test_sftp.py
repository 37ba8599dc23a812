"""What sftp is told, and what is believed of what it prints."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import run, sftp
from validator_supervisor.applied import Applied
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.nodes import FIRST_USE, Node
from validator_supervisor.place import NAMES_MAX, UNREADABLE, is_name, readable
from validator_supervisor.sftp import Sftp
from validator_supervisor.store import ITEM

A = "main.1." + "a" * 32 + ".age"
B = "main.2." + "b" * 32 + ".claim"
C = "other.3." + "c" * 32 + ".age"


@pytest.fixture
def node(example: Applied) -> Node:
    return example.config.nodes["helsinki"]


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "ssh.helsinki"
    path.write_text("a key")
    return path


@pytest.fixture
def place(node: Node, identity: Path, tmp_path: Path) -> Sftp:
    return Sftp(node, identity, tunnels=tmp_path)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Gives sftp's part to a shell script, whose $1 is the batch; its limits stay."""
    real = sftp.argv

    def play(script: str) -> None:
        path = tmp_path / "sftp"
        path.write_text(f'#!/bin/sh\ncd "${{2%/*}}"\n{script}\n')
        path.chmod(0o755)

        def argv(node: Node, identity: Path, directory: Path, pin: str) -> list[str]:
            words = real(node, identity, directory, pin)
            words[words.index("/usr/bin/sftp")] = str(path)
            return words

        monkeypatch.setattr(sftp, "argv", argv)

    return play


def message(place: Sftp, *names: str, code: str = "Unreachable") -> str:
    with pytest.raises(SupervisorError) as caught:
        place.fetch(names) if names else place.names()
    assert caught.value.code in code.split()
    assert caught.value.exit_status == TEMPORARY
    assert caught.value.message.isprintable()
    return caught.value.message


def test_arguments(node: Node, identity: Path, tmp_path: Path) -> None:
    words = sftp.argv(node, identity, tmp_path, node.host_key)
    assert words[0] == "/usr/bin/prlimit"
    assert words[-2:] == ["--", "helsinki"]
    for option in (
        "BatchMode=yes", "StrictHostKeyChecking=yes", "HostKeyAlias=helsinki", "User=somebody",
        "Hostname=hel.example.net", "Port=2222", "IdentityAgent=none", "ForwardAgent=no",
        "ClearAllForwardings=yes", "ConnectTimeout=5", f"UserKnownHostsFile={tmp_path}/known_hosts",
        "HostKeyAlgorithms=ssh-ed25519", "GlobalKnownHostsFile=none",
    ):  # fmt: skip
        assert option in words
    # No helper of a tunnel takes part: nothing here pins a key.
    assert not [word for word in words if "KnownHostsCommand" in word]


def test_account(node: Node) -> None:
    assert sftp.account(node) == "somebody"
    assert sftp.account(replace(node, user="validator-node")) == "validator-backup"


HOSTILE = [
    "", ".", "..", "../" + A, "/" + A, A + "/", A + "\n", A + '"', "sftp> " + A, A.upper(),
    "main.1." + "a" * 31 + ".age", "main.-1." + "a" * 32 + ".age", A + ".part", "x" * 70000,
    "main.\u0661." + "a" * 32 + ".age", A[:-4] + ".tar", A[:-4] + ".age\r", "\x1b[2J" + A,
    "main..age",
]  # fmt: skip


def test_only_our_names_are_taken_of_a_listing() -> None:
    text = "\n".join([*HOSTILE, A, B, A, f".{C}.part", f".{A}.part.part", "..part"])
    # The newline in the hostile word is where a line ends.
    assert sftp.listed(text) == ([A, B], [C])


@given(st.text())
def test_any_listing(text: str) -> None:
    names, parts = sftp.listed(text)
    assert all(map(is_name, names + parts))


names = st.from_regex(ITEM, fullmatch=True).filter(is_name)


@given(
    st.lists(names, unique=True),
    st.lists(names, unique=True),
    st.text(st.characters(exclude_characters="\n")),
)
def test_what_is_there_is_listed(there: list[str], parts: list[str], noise: str) -> None:
    lines = [".", "..", *there, *(f".{part}.part" for part in parts), f" {noise}"]
    assert sftp.listed("\n".join(lines)) == (sorted(there), sorted(parts))


@given(st.text())
def test_any_complaint(text: str) -> None:
    assert all(map(is_name, sftp.absent(text)))
    assert sftp.words(text).isprintable()
    assert len(sftp.words(text)) <= 200


def test_what_is_not_there() -> None:
    said = f'File "/backups/{A}" not found.\nFile "/backups/x" not found.\nwarning: {B}\n'
    assert sftp.absent(said) == sftp.absent(said.replace("\n", "\r\n")) == {A}


def test_commands() -> None:
    assert sftp.fetching([A], Path("/t")) == [f"-get {A} /t/{A}"]
    assert sftp.putting([A], [B], Path("/t")) == [
        f"-rm .{B}.part", f"put -f /t/{A} .{A}.part", f"rename -l .{A}.part {A}",
    ]  # fmt: skip


def test_commands_go_to_the_directory(place: Sftp, program: Callable[[str], None]) -> None:
    program('cat "$2" >&2; exit 1')
    assert message(place) == "helsinki: sftp exited with 1: @ls -1a"
    program('head -n 1 "$2" >&2; exit 1')
    assert message(place) == "helsinki: sftp exited with 1: @cd ./supervisor-backups"
    place = replace(place, node=replace(place.node, backups="/srv/b"))
    assert message(place) == "helsinki: sftp exited with 1: @cd /srv/b"


def test_names(place: Sftp, program: Callable[[str], None]) -> None:
    program(f"echo {A}; echo ..; echo /{B}; echo {C}")
    assert sorted(place.names()) == [A, C]


def test_too_many_names(place: Sftp, program: Callable[[str], None]) -> None:
    program(f"seq -f 'main.%.0f.{'a' * 32}.age' {NAMES_MAX + 1}")
    assert "lists more than" in message(place)


def test_fetch(place: Sftp, program: Callable[[str], None]) -> None:
    program(f"echo data >{A}; echo 'File \"/b/{B}\" not found.\r' >&2")
    assert place.fetch([A, B]) == {A: b"data\n"}
    assert place.fetch([]) == {}


def test_a_file_that_breaks_off_is_not_left_out(
    place: Sftp, program: Callable[[str], None]
) -> None:
    program(f"echo half >{A}; echo 'read remote \"/b/{A}\": Failure' >&2")
    assert "cannot be read" in message(place, A, code=UNREADABLE)
    program(f"echo 'remote open \"/b/{A}\": Permission denied' >&2")
    assert "Permission denied" in message(place, A, code=UNREADABLE)
    program("true")
    assert "cannot be read" in message(place, A, code=UNREADABLE)


def test_what_cannot_be_read_does_not_hide_the_rest(
    place: Sftp, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = f'if grep -q {A} "$2"; then echo good >{A}; fi'
    denied = f"echo 'remote open \"/b/{B}\": Permission denied' >&2"
    program(f'{good}; if grep -q {B} "$2"; then {denied}; fi')
    found, problems = readable(place, [B, A])
    assert (found, list(problems)) == ({A: b"good\n"}, [B])
    assert "Permission denied" in problems[B]
    # One that is too large ends sftp.
    monkeypatch.setattr(sftp, "FILE_MAX", 1 << 20)
    program(f'{good}; if grep -q {B} "$2"; then exec cat /dev/zero >{B}; fi')
    found, problems = readable(place, [B, A])
    assert (found, list(problems)) == ({A: b"good\n"}, [B])
    program("exit 255")
    with pytest.raises(SupervisorError, match="exited with 255"):
        readable(place, [B, A])


def test_only_our_names_are_asked_for(place: Sftp) -> None:
    for wrong in HOSTILE:
        with pytest.raises(ValueError, match="not the name"):
            place.fetch([wrong])
        with pytest.raises(ValueError, match="not the name"):
            place.put({wrong: b""})


def test_put_asks_what_is_there(
    place: Sftp, program: Callable[[str], None], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program(
        f'cat "$2" >>{log}; echo {A}; echo .{A}.part; echo .{C}.part;'
        f" cat {B} >>{log} 2>/dev/null || :"
    )
    place.put({A: b"a"})
    assert log.read_text() == "@cd ./supervisor-backups\n@ls -1a\n"
    log.unlink()
    place.put({A: b"a", B: b"content"})
    lines = log.read_text().split("\n")
    # What is of another validator may be on its way.
    assert [line.split()[0] for line in lines[2:-1]] == ["@cd", "@-rm", "@put", "@rename"]
    assert lines[3] == f"@-rm .{A}.part"
    assert lines[-1] == "content"


def test_endless_output_and_files(
    place: Sftp, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "FILE_MAX", 1 << 20)
    for script in ("cat /dev/zero", "cat /dev/zero >&2", f"exec cat /dev/zero >{A}"):
        program(script)
        # By the shell, which exits, or by what it has become, which is killed.
        said = message(place, A, code=f"Unreachable {UNREADABLE}")
        # By the shell, by cat and by what waits for either.
        assert any(word in said for word in ("File size limit", "too large", "too much")), said
    monkeypatch.setattr(sftp, "SIZE_MAX", 2 << 20)
    program("for i in $(seq 50); do head -c 900000 /dev/zero >f$i; sleep 0.02; done")
    assert "more than 2097152 bytes" in message(place, A, code=UNREADABLE)
    assert "more than 2097152 bytes" in message(place)


def test_nothing_is_left_of_what_does_not_end(
    place: Sftp, program: Callable[[str], None], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    program(f"sleep 100 & echo $! >{pid}; wait")
    started = time.monotonic()
    assert re.search(r"no end within 0\.(3|2\d\d?) s", message(replace(place, seconds=0.3)))
    assert time.monotonic() - started < 2
    # Nor of what ended and left something.
    program(f"sleep 100 & echo $! >{pid}; exit 1")
    assert "exited with 1" in message(place)
    time.sleep(0.1)
    stat = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_what_is_said_of_a_wrong_host_key(place: Sftp, program: Callable[[str], None]) -> None:
    program("echo 'Host key verification failed.' >&2; exit 255")
    assert message(place) == "helsinki: it has shown another host key than the pinned one"


def test_words_of_a_node_are_made_printable(place: Sftp, program: Callable[[str], None]) -> None:
    program(r"printf '\033[2Jhello\n' >&2; exit 255")
    assert message(place) == "helsinki: sftp exited with 255: ?[2Jhello"


def test_pin(place: Sftp, tmp_path: Path, host_key: str, program: Callable[[str], None]) -> None:
    program("cp known_hosts stdout2; cat known_hosts >&2; exit 1")
    assert message(place).endswith(f"helsinki {host_key}")
    first = replace(place, node=replace(place.node, host_key=FIRST_USE))
    assert "not connected to yet" in message(first)
    (tmp_path / "helsinki").mkdir()
    (tmp_path / "helsinki" / "host-key").write_text("damaged")
    assert "holds no host key" in message(first)
    (tmp_path / "helsinki" / "host-key").write_text(host_key + "\n")
    assert message(first).endswith(f"helsinki {host_key}")


def test_without_an_ssh_key(place: Sftp, identity: Path) -> None:
    for content in ("none", "", "none\n"):
        identity.write_text(content)
        assert "no ssh key /etc/credstore/validator-tunnel.key-1" in message(place)
    identity.unlink()
    assert "No such file" in message(place)


def test_bounded_needs_the_program(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="No such file"):
        run.bounded([os.fspath(tmp_path / "x")], seconds=1, directory=tmp_path, size=1)
