import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from validator_supervisor import ending, ethereum, releases, run, validator, watch
from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Place
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.releases import Installed
from validator_supervisor.validators import Command, Cosmos, Ethereum, Keys, Release, Validator
from validator_supervisor.watch import Reading

KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]
HELSINKI, LOCAL = "http://127.0.0.1:13000", "http://127.0.0.1:5052"


@pytest.fixture
def main(example: Applied) -> Ethereum:
    return example.config.ethereum[0]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for key in KEYS:
        (tmp_path / "state/keystores" / key).mkdir(parents=True)
    return tmp_path / "state"


def locks(state: Path) -> list[Path]:
    return CLIENTS["lodestar"].locks(Place(state, state))


def results(path: Path, *found: Reading) -> Path:
    path.write_bytes(watch.dump({reading.url: reading for reading in found}, {}))
    return path


def test_lock_is_held_and_inherited(tmp_path: Path) -> None:
    # In a process of its own: the lock lasts as long as the process.
    program = (
        "import subprocess, sys; from pathlib import Path; from validator_supervisor import"
        " validator; validator.lock(Path(sys.argv[1])); print('held', flush=True);"
        " import os; os.execv('/bin/cat', ['cat'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == b"held\n"
        # An answer from cat: what holds the lock now is the program the helper has become.
        holder.stdin.write(b"ready\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(SupervisorError) as caught:
            validator.lock(tmp_path)
        assert caught.value.code == "AlreadyRunning"
        holder.stdin.close()
        holder.wait()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_users_are_other_processes_with_a_file_below(tmp_path: Path) -> None:
    inside, beside = tmp_path / "state", tmp_path / "state-of-another"
    for directory in (inside, beside):
        directory.mkdir()
        (directory / "LOCK").touch()
    with (inside / "LOCK").open(), (beside / "LOCK").open() as other:
        assert validator.users_of(inside) == []  # it is us
        with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=other) as process:
            assert validator.users_of(inside) == []
            assert validator.users_of(beside) == [process.pid]
            assert process.stdin
            process.stdin.close()
            process.wait()
    assert validator.users_of(beside) == []


def test_processes_that_end_or_are_hidden_do_not_matter(tmp_path: Path) -> None:
    for name in ("1", "2", "self", "x1"):
        (tmp_path / name).mkdir()
    (tmp_path / "2/fd").mkdir()
    (tmp_path / "2/fd/0").symlink_to("/state/LOCK")
    (tmp_path / "2/fd/1").symlink_to("socket:[5]")
    assert validator.users_of(Path("/state"), tmp_path) == [2]


@pytest.mark.parametrize("leave", [Path.touch, Path.mkdir], ids=["1.5", "1.15.1"])
def test_locks_of_a_killed_client_are_removed(state: Path, leave: Callable[[Path], None]) -> None:
    lock = state / "keystores" / KEYS[0] / "voting-keystore.json.lock"
    leave(lock)
    (lock.parent / "voting-keystore.json").touch()
    assert validator.remove_stale_locks(locks(state), state) == [lock]
    assert [path.name for path in lock.parent.iterdir()] == ["voting-keystore.json"]
    assert validator.remove_stale_locks(locks(state), state) == []


def test_locks_stay_while_somebody_is_there(state: Path) -> None:
    lock = state / "keystores" / KEYS[0] / "voting-keystore.json.lock"
    with (
        lock.open("w") as file,
        subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=file) as process,
    ):
        with pytest.raises(SupervisorError, match=f"process {process.pid} uses") as caught:
            validator.remove_stale_locks(locks(state), state)
        assert process.stdin
        process.stdin.close()
    assert caught.value.code == "AlreadyRunning"
    assert lock.exists()


def test_healthy_nodes_first_and_none_of_another_chain(
    example: Applied, main: Ethereum, tmp_path: Path
) -> None:
    path = results(tmp_path / "r", Reading(LOCAL, True, ""), Reading(HELSINKI, True, ""))
    assert validator.beacons(example, main, path) == ["helsinki", "local"]
    path = results(tmp_path / "r", Reading(LOCAL, True, ""), Reading(HELSINKI, False, "is away"))
    assert validator.beacons(example, main, path) == ["local", "helsinki"]
    for problem in ("is on another chain: it is hoodi", "is not believed yet: its nodes"):
        path = results(tmp_path / "r", Reading(LOCAL, True, ""), Reading(HELSINKI, False, problem))
        assert validator.beacons(example, main, path) == ["local"]


def test_without_a_healthy_node_each_problem_is_named(
    example: Applied, main: Ethereum, tmp_path: Path
) -> None:
    path = results(tmp_path / "r", Reading(HELSINKI, False, "is synchronising"))
    with pytest.raises(SupervisorError) as caught:
        validator.beacons(example, main, path)
    assert caught.value.code == "NoBeacon"
    assert caught.value.exit_status == TEMPORARY
    assert caught.value.message == (
        "no healthy beacon node (helsinki: is synchronising; local: not looked at yet)"
    )


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"beacons": [{"healthy": true}]}'])
def test_hostile_results_are_no_healthy_node(
    example: Applied, main: Ethereum, tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "r").write_bytes(raw)
    with pytest.raises(SupervisorError, match="not looked at yet"):
        validator.beacons(example, main, tmp_path / "r")


class BecomeError(Exception):
    """Stands for the end of the helper, which becomes another program."""


@pytest.fixture
def start(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    state: Path,
    example: Applied,
) -> Callable[[str, str], tuple[object, list[str]]]:
    module = helper("validator")

    def start(name: str, binary: str) -> tuple[object, list[str]]:
        told: list[str] = []
        became: list[list[str]] = []

        class Notifier:
            def notify(self, text: str) -> None:
                told.append(text)

        def prepare(start: ethereum.Start) -> list[str]:
            assert (start.validator.name, start.state, start.runtime) == ("main", state, tmp_path)
            assert start.environment["CLIENT_VARIABLE"] == "kept"
            start.tell("looking")
            if binary == "/halt":
                raise SupervisorError("Doppelganger", "it has a twin", exit_status=HALT)
            return [binary, "validator"]

        def become(argv: list[str], extra: dict[str, str]) -> None:
            assert extra["CLIENT_VARIABLE"] == "kept"
            became.append(argv)
            raise BecomeError

        monkeypatch.setattr(Applied, "load", lambda: example)
        # What a start of Ethereum does is in test_ethereum.py.
        monkeypatch.setattr(ethereum, "prepare", prepare)
        monkeypatch.setattr(ethereum, "through", lambda _runtime: " through local")
        monkeypatch.setattr(module, "SystemdNotifier", Notifier)
        monkeypatch.setattr(run, "become", become)
        monkeypatch.setattr(validator, "lock", lambda _state: None)
        for variable, path in (("STATE_DIRECTORY", state), ("RUNTIME_DIRECTORY", tmp_path)):
            monkeypatch.setenv(variable, str(path))
        monkeypatch.setenv("CLIENT_VARIABLE", "kept")
        try:
            return module.main(name), told
        except BecomeError:
            return became[0], told

    return start


Start = Callable[[str, str], tuple[object, list[str]]]


def test_helper_is_ready_when_it_becomes_the_client(start: Start) -> None:
    argv, told = start("main", "/bin/true")
    assert argv == ["/bin/true", "validator"]
    assert told == ["STATUS=looking", "READY=1\nSTATUS=running true through local"]


def test_helper_says_what_is_wrong(start: Start) -> None:
    assert start("main", "/no/client") == (
        1, ["STATUS=looking", "STATUS=/no/client cannot be executed"]
    )  # fmt: skip
    assert start("unknown", "/bin/true") == (1, ["STATUS=no validator unknown is configured"])


def test_helper_asks_for_a_halt(start: Start, tmp_path: Path) -> None:
    assert start("main", "/halt") == (HALT, ["STATUS=looking", "STATUS=it has a twin"])
    assert (tmp_path / "halt").read_text().splitlines()[1:] == ["it has a twin"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"network": "mainnet"}, ""),
        ({"release": Release(client="teku", binary="/x")}, ""),
        ({"keys": Keys(web3signer="https://s")}, ""),
    ],
)
def test_what_is_not_safe_yet_does_not_start(
    main: Ethereum, changed: dict[str, object], reason: str
) -> None:
    refused(replace(main, **changed), reason)  # type: ignore[arg-type]


def refused(mine: Validator, reason: str) -> None:
    if not reason:
        validator.refuse_what_is_not_safe_yet(mine)
        return
    with pytest.raises(SupervisorError) as caught:
        validator.refuse_what_is_not_safe_yet(mine)
    assert (caught.value.code, caught.value.message) == ("NotSupported", reason)


def test_a_cosmos_validator_starts_with_the_key_on_disk_alone(example: Applied) -> None:
    hub = example.config.validators["hub"]
    assert isinstance(hub, Cosmos)
    refused(hub, "")
    refused(
        replace(hub, key=replace(hub.key, active=True)),
        "hub: the consensus key is not handed over yet: key: {active: false} uses the one on disk",
    )
    refused(example.config.validators["other"], "")


def test_a_cosmos_validator_is_run_as_cosmovisor_does(example: Applied) -> None:
    hub, other = example.config.validators["hub"], example.config.validators["other"]
    assert isinstance(hub, Cosmos)
    assert isinstance(other, Command)
    assert validator.argv(other) == ["/usr/bin/foo", "--bar"]
    assert validator.argv(hub) == [
        "/data/hub/cosmovisor/current/bin/gaiad", "start", "--home", "/data/hub", "--trace",
    ]  # fmt: skip
    assert validator.environment(hub) == {"DAEMON_HOME": "/data/hub", "DAEMON_NAME": "gaiad"}
    assert validator.environment(example.config.validators["main"]) == {}
    assert validator.environment(example.config.validators["other"]) == {}


def test_the_release_that_is_in_effect_is_run(
    main: Ethereum, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = replace(main, release=Release(client="lodestar", version="v2", sha256="a" * 64))
    found: list[Installed | None] = [None]
    monkeypatch.setattr(releases, "current", lambda _: found[0])
    assert validator.released(main) == main
    with pytest.raises(SupervisorError) as caught:
        validator.released(wanted)
    assert (caught.value.code, caught.value.exit_status) == ("NoRelease", TEMPORARY)
    # Even of another client: what is wanted may not be here yet.
    found[0] = Installed("teku", "26", "b" * 64, "/r/bin/teku", "")
    assert validator.released(wanted).release == Release(client="teku", binary="/r/bin/teku")


def test_what_has_run_is_asked_at_its_end(main: Ethereum, tmp_path: Path) -> None:
    assert ethereum.that_ran(main, tmp_path) == main
    (tmp_path / "client").write_text("teku\n/r/bin/teku\n")
    ran = ethereum.that_ran(main, tmp_path).release
    assert ran == Release(client="teku", binary="/r/bin/teku")


@pytest.mark.parametrize("raw", [b"", b"geth\n/x\n", b"\xff\n", b"lodestar", b"x" * 9000])
def test_which_client_has_run_is_read_with_care(tmp_path: Path, raw: bytes) -> None:
    place = tmp_path / "client"
    place.write_bytes(raw)
    found = ending.client_of(str(tmp_path))
    assert found is (CLIENTS["lodestar"] if raw == b"lodestar" else None)
    others: list[Callable[[], None]] = [
        lambda: os.mkfifo(place), lambda: place.symlink_to("/etc/passwd"), place.mkdir,
    ]  # fmt: skip
    for make in others:
        if place.is_dir():
            place.rmdir()
        place.unlink(missing_ok=True)
        make()
        assert ending.client_of(f"{tmp_path / 'none'}:{tmp_path}") is None
