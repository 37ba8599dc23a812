import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config, run, tunnel
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.document import from_plain, parse
from validator_supervisor.errors import REFUSED, ConfigError, SupervisorError
from validator_supervisor.nodes import FIRST_USE, Forward, Node

DIRECTORY = Path("/run/validator-tunnel/helsinki")
CREDENTIALS = Path("/run/credentials/validator-tunnel@helsinki.service")


@pytest.fixture
def node(example: Applied) -> Node:
    return example.config.nodes["helsinki"]


@pytest.fixture
def newcomer(make: Callable[[str], Applied]) -> Node:
    text = f"version: 1\nnodes: {{a: {{host: h, host_key: {FIRST_USE}}}}}"
    return make(text).config.nodes["a"]


def options(argv: list[str]) -> dict[str, str]:
    pairs = [argv[i + 1].partition("=") for i, word in enumerate(argv) if word == "-o"]
    found = {name: value for name, _, value in pairs}
    assert len(pairs) == len(found)
    return found


def test_arguments_of_ssh(example: Applied, node: Node, host_key: str) -> None:
    argv = tunnel.argv(node, example, DIRECTORY, CREDENTIALS, host_key)
    assert argv[:10] == [
        "/usr/bin/ssh", "-N", "-T", "-F", "none", "-p", "2222", "-l", "somebody", "-o",
    ]  # fmt: skip
    assert argv[-6:] == [
        "-L", "127.0.0.1:5064:proxy:5064",
        "-L", f"{DIRECTORY}/metrics.sock:/run/metrics",
        "--", "hel.example.net",
    ]  # fmt: skip
    assert argv[argv.index("-L") + 1] == "127.0.0.1:13000:lighthouse:5052"
    # Reverse forwards are added once the connection stands: their refusal must be seen.
    assert "-R" not in argv
    assert options(argv)["HostKeyAlgorithms"] == "ssh-ed25519"
    # Neither an agent, nor a configuration, nor keys of somebody who happens to be there.
    assert options(argv)["IdentityFile"] == f"{CREDENTIALS}/identity"
    for name, value in {
        "BatchMode": "yes",
        "ExitOnForwardFailure": "yes",
        "ForwardAgent": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PermitLocalCommand": "no",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "none",
        "GlobalKnownHostsFile": "none",
        "KnownHostsCommand": f"/usr/lib/validator-supervisor/host-key helsinki %H %t %K {host_key}",
    }.items():
        assert options(argv)[name] == value


@pytest.mark.skipif(not shutil.which("ssh"), reason="ssh is not here: apt install openssh-client")
def test_ssh_takes_the_arguments(example: Applied, node: Node, host_key: str) -> None:
    argv = tunnel.argv(node, example, DIRECTORY, CREDENTIALS, host_key)
    # -G: print the configuration and exit. It does not know of -N.
    done = subprocess.run(["ssh", "-G", *argv[1:]], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = done.stdout.lower().splitlines()
    assert "user somebody" in found
    assert "hostname hel.example.net" in found
    assert "stricthostkeychecking true" in found
    assert "localforward [127.0.0.1]:13000 [lighthouse]:5052" in found
    assert f"localforward {DIRECTORY}/metrics.sock /run/metrics" in found


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
        ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
        ("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com"),
    ],
)
def test_only_the_pinned_type_is_asked_for(
    example: Applied, node: Node, key: Callable[..., str], kind: str, algorithms: str
) -> None:
    argv = tunnel.argv(node, example, DIRECTORY, CREDENTIALS, key(kind))
    assert options(argv)["HostKeyAlgorithms"] == algorithms
    assert "HostKeyAlgorithms" not in options(
        tunnel.argv(node, example, DIRECTORY, CREDENTIALS, "")
    )


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (Forward(local=1, remote="h:2"), "127.0.0.1:1:h:2"),
        (Forward(local=1, remote="[::1]:2"), "127.0.0.1:1:[::1]:2"),
        (Forward(local="a.sock", remote="h:2"), f"{DIRECTORY}/a.sock:h:2"),
        (Forward(local=1, remote="0.0.0.0:2", reverse=True), "0.0.0.0:2:127.0.0.1:1"),
        (Forward(local="/run/a", remote="/run/b", reverse=True), "/run/b:/run/a"),
    ],
)
def test_specification_of_a_forward(forward: Forward, words: str) -> None:
    assert tunnel.specification(forward, DIRECTORY) == words


def test_reverse_forward_is_added_over_the_control_socket(node: Node) -> None:
    forward = Forward(local=8000, remote="0.0.0.0:9000", reverse=True)
    assert tunnel.forward_argv(node, DIRECTORY, forward) == [
        "/usr/bin/ssh", "-F", "none", "-o", f"ControlPath={DIRECTORY}/control", "-O", "forward",
        "-R", "0.0.0.0:9000:127.0.0.1:8000", "--", "hel.example.net",
    ]  # fmt: skip


def test_longest_socket_path_fits_sun_path() -> None:
    # unix(7): 108 bytes with the NUL; ssh binds the control socket under 17 more characters.
    name = "n" * 20
    directory = Path("/run/validator-tunnel") / name
    assert len(str(directory / "control")) + 17 < 108
    assert len(str(directory / f"{'s' * 21}.sock")) < 108


@given(data=st.data())
def test_no_value_adds_an_argument_to_ssh(text: str, host_key: str, data: st.DataObject) -> None:
    plain = parse(text.encode(), "config.yaml").plain()
    node = plain["nodes"]["helsinki"]  # type: ignore[index]
    word = data.draw(
        st.text(alphabet="a-1:/=% \n\0,[]@.o", min_size=1, max_size=8)
        | st.sampled_from(["-oProxyCommand=id", "%h", "1:2:3", "0.0.0.0:1:a:1", "/a:1", "a:1:b:2"])
    )
    place = data.draw(st.sampled_from(["host", "user", "beacon", "identity", "local", "remote"]))
    reverse = data.draw(st.booleans())
    if place in ("local", "remote"):
        other = "b:2" if place == "local" else 1
        node["forwards"] = [
            {place: word, "remote" if place == "local" else "local": other, "reverse": reverse}
        ]
    else:
        node["forwards"] = []
        node[place] = word
    try:
        read = config.read(from_plain(json.loads(json.dumps(plain)), "config.yaml"))
    except ConfigError:
        return
    applied = Applied(read, assign_ports(read, {}))
    found = read.nodes["helsinki"]
    argv = tunnel.argv(found, applied, DIRECTORY, CREDENTIALS, host_key)
    argv += tunnel.forward_argv(found, DIRECTORY, Forward(local=1, remote="a:1", reverse=True))
    assert all(item.isprintable() for item in argv)
    assert not found.host.startswith("-")
    assert not found.user.startswith("-")
    # ssh expands these in ControlPath= and KnownHostsCommand=, and splits the latter at spaces.
    assert options(argv[: argv.index("--")])["KnownHostsCommand"].count(" ") in (4, 6)
    for forward in tunnel.forwards(found, applied):
        specified = tunnel.specification(forward, DIRECTORY)
        assert " " not in specified
        # Listener and target, each HOST:PORT or a path, and nothing beside them.
        outside = specified.replace("[", " ").replace("]", " ")
        assert len(outside.split(":")) <= 4 or "[" in specified


@pytest.mark.parametrize("stored", [b"none", b"none\n", b"", b"\n", b" \t\r\n"])
def test_an_empty_credential_is_no_identity(node: Node, tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "identity").write_bytes(stored)
    with pytest.raises(SupervisorError) as caught:
        tunnel.check_identity(node, tmp_path)
    path = "/etc/credstore/validator-tunnel.key-1"
    assert caught.value.code == "NoIdentity"
    assert caught.value.message == f"there is no ssh key {path}"
    assert caught.value.hint == f"make it with: ssh-keygen -t ed25519 -N '' -C '' -f {path}"
    assert caught.value.exit_status == REFUSED


def test_what_is_in_a_credential_is_for_ssh_to_judge(node: Node, tmp_path: Path) -> None:
    (tmp_path / "identity").write_bytes(b"\xff\0")
    tunnel.check_identity(node, tmp_path)


def test_helper_without_an_identity_says_so_and_starts_nothing(
    helper: Callable[[str], ModuleType],
    example: Applied,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Of the system, not of the library; it is not used where nothing is forked.
    monkeypatch.setitem(sys.modules, "prctl", ModuleType("prctl"))
    module = helper("tunnel")
    said: list[str] = []
    slept: list[float] = []

    class Notifier:
        def notify(self, text: str) -> None:
            said.append(text)

    for name in ("RUNTIME", "STATE", "CREDENTIALS"):
        monkeypatch.setenv(f"{name}_DIRECTORY", str(tmp_path))
    (tmp_path / "identity").touch()
    monkeypatch.setattr(module, "SystemdNotifier", Notifier)
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr(run, "become", lambda words: pytest.fail(f"became {words}"))
    message = "there is no ssh key /etc/credstore/validator-tunnel.key-1"
    assert module.main("helsinki") == REFUSED
    assert said == [f"STATUS={message}"]
    assert capsys.readouterr().err.splitlines()[0] == message
    # The next attempt waits a second: systemd does not.
    assert slept == []
    assert module.main("helsinki") == REFUSED
    assert slept == [1]


def test_fingerprint_is_that_of_ssh_keygen(key: Callable[..., str]) -> None:
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not here: apt install openssh-client")
    done = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=key().encode(), capture_output=True, check=True
    )
    assert done.stdout.split()[1].decode() == tunnel.fingerprint(key()).split()[1]
    assert tunnel.fingerprint(key()).split()[0] == "ssh-ed25519"


def test_configured_key_is_the_pin_whatever_is_stored(
    node: Node, host_key: str, tmp_path: Path, key: Callable[..., str]
) -> None:
    (tmp_path / "host-key").write_text(key(seed=9))
    assert tunnel.pinned(node, tmp_path) == host_key


def test_first_contact_pins_for_good(newcomer: Node, tmp_path: Path, host_key: str) -> None:
    state, directory = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    directory.mkdir()
    assert tunnel.pinned(newcomer, state) == ""
    kind, blob = host_key.split()
    assert tunnel.offer(kind, blob, "", directory, state) == host_key
    assert (state / "host-key").stat().st_mode & 0o777 == 0o644
    assert tunnel.pinned(newcomer, state) == host_key
    assert not (directory / "host-key-changed").exists()


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\n",
        b"ssh-ed25519",
        b"a b c",
        b"ssh-ed25519 \xff\xfe",
        b"\xff\xff \xff",
        b"ssh-ed25519 AAAA\nssh-rsa BBBB",
        b"ssh-ed25519,ssh-rsa AAAA",
        b"\0 \0",
        b"a" * 10_000,
    ],
)
def test_damaged_pin_is_no_first_contact(newcomer: Node, tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "host-key").write_bytes(stored)
    with pytest.raises(SupervisorError) as caught:
        tunnel.pinned(newcomer, tmp_path)
    assert caught.value.code == "HostKeyUnreadable"


def test_other_key_is_refused_and_told_once(
    tmp_path: Path, host_key: str, key: Callable[..., str]
) -> None:
    kind, blob = key(seed=9).split()
    assert tunnel.offer(kind, blob, host_key, tmp_path, tmp_path) == host_key
    assert not (tmp_path / "host-key").exists()
    assert tunnel.take_changed(tmp_path) == key(seed=9)
    assert tunnel.take_changed(tmp_path) == ""


def test_pinned_key_leaves_no_note(tmp_path: Path, host_key: str) -> None:
    kind, blob = host_key.split()
    assert tunnel.offer(kind, blob, host_key, tmp_path, tmp_path) == host_key
    assert list(tmp_path.iterdir()) == []


def test_message_of_a_changed_key_says_what_and_where(
    node: Node, newcomer: Node, tmp_path: Path, host_key: str, key: Callable[..., str]
) -> None:
    other = key(seed=9)
    failure = tunnel.changed_message(node, other, host_key, tmp_path)
    assert failure.code == "HostKeyChanged"
    for words in (tunnel.fingerprint(host_key), tunnel.fingerprint(other), "hel.example.net"):
        assert words in failure.message
    assert failure.hint.endswith(f"change host_key: in config.yaml: `{other}`")
    stored = tunnel.changed_message(newcomer, other, host_key, tmp_path)
    assert f"change {tmp_path}/host-key: `{other}`" in stored.hint


def test_waits_for_the_control_socket(tmp_path: Path) -> None:
    timer = threading.Timer(0.05, (tmp_path / "control").touch)
    timer.start()
    assert tunnel.wait_for_control(tmp_path, os.getpid())
    timer.join()


def test_stops_waiting_when_ssh_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    started = time.monotonic()
    assert not tunnel.wait_for_control(tmp_path, process.pid)
    assert time.monotonic() - started < 1


def test_status_of_a_standing_tunnel(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 0, 1, 0)))
    words = "connected to hel.example.net port 2222 since 2026-01-02 03:04:05 UTC, "
    assert tunnel.standing(node, 1) == f"{words}1 forward"
    assert tunnel.standing(node, 2) == f"{words}2 forwards"
