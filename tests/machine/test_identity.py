"""The identity: made, unlocked by every way there is, locked, and kept from everyone else."""

import contextlib
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import images
from lab.archives import identity_of, lacks, newest
from lab.keystores import many
from lab.machine import ENVIRONMENT, Machine
from lab.signing import BACKUP, DATABASE, KEPT, VALIDATOR, Signing, highest
from lab.terminal import Terminal
from lab.world import PASSPHRASE as PHRASE
from lab.world import World

from validator_supervisor import age
from validator_supervisor.errors import SupervisorError

UNIT = "validator-identity.service"
MOUNT = "run-validator\\x2didentity.mount"
PLAIN = "/run/validator-identity/identity"
SEALED = "/etc/validator-supervisor/identity.age"
COUNT = "/var/lib/validator-state/unlock.json"
SOCKETS = ("/run/validator-passphrase", "/run/validator-supervisor/unlock")
PASSPHRASE = "Ein sehr geheimer Satz, den es nur hier gibt"
WRONG = "Ein falscher Satz, den es nur hier gibt"
PEOPLE = {"olga": "validator-operators", "victor": "validator-viewers"}
BUS = ("org.validatorsupervisor1", "/org/validatorsupervisor1", "org.validatorsupervisor1.Manager")
ANNOUNCED = [
    r"identity\[\d+\]: (.*armor.*|the passphrase is wrong|no passphrase was given|hint)",
    r"passphrase\[\d+\]: (the descriptor|a passphrase has at most)",
    rf"{UNIT}: (Main process exited|Failed with result|Killing process|Control process)",
    rf"Failed to start {UNIT}",
]


@pytest.fixture(scope="module", params=images.SUITES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A host of each release with an identity, and people of each kind."""
    with World.booted(request.param, peers=["age"]) as booted:
        booted.host.systemctl("start", "validator.target")
        for user, groups in PEOPLE.items():
            booted.host.run("useradd", "--groups", groups, user)
        yield booted
        booted.host.systemctl("reset-failed")
        assert booted.host.problems(ANNOUNCED) == []


@pytest.fixture
def host(world: World) -> Iterator[Machine]:
    """The host, locked and without a delay, before and after."""
    fresh(world.host)
    yield world.host
    fresh(world.host)


def fresh(host: Machine) -> None:
    host.systemctl("stop", UNIT)
    host.systemctl("reset-failed")
    host.run("rm", "-f", COUNT)


def unlock(
    host: Machine, passphrase: str, user: str = "olga"
) -> "subprocess.CompletedProcess[str]":
    return host.run("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
                    "validator-supervisor", "unlock", "--passphrase-fd", "0",
                    check=False, stdin=f"{passphrase}\n", seconds=90)  # fmt: skip


def mounted(host: Machine) -> str:
    lines = host.output("cat", "/proc/mounts").splitlines()
    return next((line for line in lines if line.split()[1] == "/run/validator-identity"), "")


def count(host: Machine) -> int:
    found = host.run("cat", COUNT, check=False).stdout
    return int(json.loads(found)["attempts"]) if found else 0


def assert_wiped(host: Machine) -> None:
    host.wait("the end of the mount", lambda: not mounted(host))
    assert host.run("find", "/run/validator-identity", "-type", "f").stdout == ""
    assert host.property(MOUNT, "ActiveState") == "inactive"


def test_init_identity_asks_twice_on_a_terminal(world: World) -> None:
    host = world.host
    terminal = Terminal(host, "validator-supervisor init-identity --kit /root/kit")
    terminal.answer("New passphrase", PASSPHRASE)
    terminal.answer("The same again", WRONG)
    assert terminal.end() == 1, terminal.shown
    assert "two different passphrases" in terminal.shown
    assert host.run("ls", SEALED, check=False).returncode != 0
    terminal = Terminal(host, "validator-supervisor init-identity --kit /root/kit")
    terminal.answer("New passphrase", PASSPHRASE)
    terminal.answer("The same again", PASSPHRASE)
    assert terminal.end() == 0, terminal.shown
    assert PASSPHRASE not in terminal.shown
    assert host.output("stat", "--format=%a %U", SEALED, "/root/kit") == "600 root\n600 root"
    kit = host.output("cat", "/root/kit")
    assert host.output("cat", SEALED) in kit
    assert "age --decrypt" in kit
    again = host.run("validator-supervisor", "init-identity", "--generate", check=False)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    for argv in (["init-identity", "--generate"], ["recovery-kit"], ["rotate-identity"]):
        done = host.as_user("olga", "validator-supervisor", *argv, check=False)
        assert (done.returncode, "only root" in done.stderr) == (1, True)


def test_stock_age_opens_it(world: World) -> None:
    terminal = Terminal(world.host, f"age --decrypt {SEALED}")
    terminal.answer("passphrase", PASSPHRASE)
    assert terminal.end() == 0, terminal.shown
    assert "AGE-SECRET-KEY-1" in terminal.shown


def test_an_operator_unlocks_and_locks(host: Machine) -> None:
    done = unlock(host, PASSPHRASE)
    assert (done.returncode, done.stdout) == (0, "unlocked\n"), done.stderr
    assert host.output("stat", "--format=%a %U %F", PLAIN) == "400 validator-state regular file"
    assert age.identities(host.output("cat", PLAIN).encode())
    assert unlock(host, PASSPHRASE).stdout == "unlocked already\n"
    assert host.property(UNIT, "StatusText") == "unlocked"
    done = host.as_user("olga", "validator-supervisor", "lock")
    assert done.stdout == "locked\n"
    assert host.property(UNIT, "ActiveState") == "inactive"
    assert_wiped(host)


def test_systemctl_asks_on_a_terminal(host: Machine) -> None:
    terminal = Terminal(host, f"systemctl start {UNIT}")
    terminal.answer("Passphrase", PASSPHRASE)
    assert terminal.end() == 0, terminal.shown
    assert PASSPHRASE not in terminal.shown
    assert host.property(UNIT, "ActiveState") == "active"
    host.systemctl("stop", UNIT)
    assert_wiped(host)
    terminal = Terminal(host, f"systemctl start {UNIT}")
    terminal.answer("Passphrase", "")
    assert terminal.end() != 0
    assert host.property(UNIT, "StatusText") == "no passphrase was given"
    # Nothing was tried.
    assert count(host) == 0


def test_the_command_line_asks_on_a_terminal(host: Machine) -> None:
    terminal = Terminal(host, "validator-supervisor unlock")
    terminal.answer("Passphrase", PASSPHRASE)
    assert terminal.end() == 0, terminal.shown
    assert PASSPHRASE not in terminal.shown


@pytest.mark.parametrize("sealed", [True, False])
def test_a_credential_stands_in_for_the_question(host: Machine, sealed: bool) -> None:
    store = "/etc/credstore.encrypted" if sealed else "/etc/credstore"
    path = f"{store}/validator-identity.passphrase"
    host.run("mkdir", "-p", store)
    host.write("/root/passphrase", f"{PASSPHRASE}\n", 0o600)
    if sealed:
        host.run("systemd-creds", "encrypt", "--name=passphrase", "/root/passphrase", path)
    else:
        host.run("install", "-m", "0600", "/root/passphrase", path)
    host.run("rm", "/root/passphrase")
    host.systemctl("daemon-reload")
    try:
        host.systemctl("start", UNIT)
        assert host.property(UNIT, "StatusText") == "unlocked"
        # It was another unit's, which is gone, and its credential with it.
        assert host.run("grep", "-rl", PASSPHRASE, "/run", check=False).stdout == ""
        assert UNIT in host.property("validator.target", "Wants")
    finally:
        host.run("rm", path)
        host.systemctl("daemon-reload")


def test_wrong_passphrases_cost_everyone_more_and_more_time(host: Machine) -> None:
    tried = []
    for number, user in enumerate(("olga", "root", "olga", "root"), 1):
        done = unlock(host, WRONG, user)
        assert done.returncode == 1
        wait = 2 ** (number - 1)
        assert f"the passphrase is wrong; the next attempt waits {wait} s" in done.stderr
        assert "wrong" in host.property(UNIT, "StatusText")
        assert count(host) == number
        tried.append(json.loads(host.output("cat", COUNT))["at_msec"])
        assert host.run("ls", PLAIN, check=False).returncode != 0
        # Nothing of this is a way around it.
        host.as_user("olga", "validator-supervisor", "lock")
        host.systemctl("reset-failed", UNIT)
        if number == 2:
            host.systemctl("restart", "validator-passphrase.socket", "validator-supervisor")
    apart = [after - before for before, after in itertools.pairwise(tried)]
    assert all(msec >= 1000 * 2**n for n, msec in enumerate(apart)), apart
    began = time.monotonic()
    done = unlock(host, PASSPHRASE)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began > 5
    assert count(host) == 0


def begin(host: Machine, status: str) -> None:
    """Start an attempt and wait for a word of its own."""
    before = host.property(UNIT, "InvocationID")
    host.run("systemctl", "start", "--no-block", UNIT)

    def said() -> bool:
        shown = host.systemctl("show", UNIT, "--property=InvocationID,StatusText")
        return not (before and before in shown) and bool(re.search(status, shown))

    host.wait(status, said)


def test_killed_and_locked_attempts_count(host: Machine) -> None:
    for number in (1, 2):
        begin(host, "waiting for the passphrase")
        host.run("systemctl", "kill", "--signal=KILL", UNIT)
        host.wait_for_unit(UNIT, "failed")
        assert count(host) == 0, number
    fake = '{"attempts": 3, "boot": "%s", "at_msec": %d}'
    boot = host.output("cat", "/proc/sys/kernel/random/boot_id").replace("-", "")
    now = int(float(host.output("cut", "-d ", "-f1", "/proc/uptime")) * 1000)
    host.write(COUNT, fake % (boot, now), 0o600)
    host.run("chown", "validator-state:", COUNT)
    # Four seconds, however often it is killed and begun anew in between.
    for _ in range(3):
        begin(host, "waiting [1-4] s")
        host.run("systemctl", "kill", "--signal=KILL", UNIT)
        host.wait_for_unit(UNIT, "failed")
    assert count(host) == 3
    assert host.run("ls", PLAIN, check=False).returncode != 0
    host.write(COUNT, "{damaged", 0o600)
    begin(host, "waiting 300 s")


def test_a_killed_try_is_counted(host: Machine) -> None:
    reading = subprocess.Popen(
        ["nsenter", "-t", str(host.leader), "-a", *ENVIRONMENT, "validator-supervisor", "unlock",
         "--passphrase-fd", "0"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert reading.stdin
    reading.stdin.write(PASSPHRASE.encode())
    reading.stdin.close()
    host.wait("the try", lambda: count(host) == 1)
    host.run("systemctl", "kill", "--signal=KILL", UNIT)
    assert reading.wait(30) == 1
    assert count(host) == 1
    assert_wiped(host)


def test_memory_is_not_swapped_and_not_dumped(host: Machine) -> None:
    assert unlock(host, PASSPHRASE).returncode == 0
    device, _, kind, options, *_ = mounted(host).split()
    assert (device, kind) == ("ramfs", "ramfs")
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    for unit in (UNIT, "validator-passphrase@x.service"):
        assert host.property(unit, "MemorySwapMax") == "0"
        assert host.property(unit, "LimitCORE") == "0"


@pytest.mark.parametrize(
    "user", ["nobody", "validator-tunnel", "validator-supervisor", "validator-watch", "olga"]
)
def test_nobody_else_reaches_it(host: Machine, user: str) -> None:
    if host.property(UNIT, "ActiveState") != "active":
        assert unlock(host, PASSPHRASE).returncode == 0
    for path in (PLAIN, SEALED, COUNT):
        assert host.as_user(user, "cat", path, check=False).returncode != 0, path
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    own = "validator-supervisor" if user == "validator-supervisor" else ""
    for path in SOCKETS:
        done = host.as_user(user, "python3", "-c", program, path, check=False)
        # The controller's own socket gives its own user nothing: that is tested on the bus.
        expected = bool(own) and own in path
        assert (done.returncode == 0) is expected, (path, done.stderr)


def test_who_may_unlock_and_lock(host: Machine) -> None:
    assert unlock(host, PASSPHRASE).returncode == 0
    for user in ("victor", "nobody"):
        assert host.as_user(user, "busctl", "call", *BUS, "Lock", check=False).returncode != 0
        assert host.as_user(user, "systemctl", "--no-ask-password", "stop", UNIT,
                            check=False).returncode != 0  # fmt: skip
    locked = host.as_user("victor", "busctl", "get-property", *BUS, "Locked", "UnlockProblem")
    assert locked.stdout.splitlines() == ["b false", 's ""']
    host.systemctl("stop", UNIT)
    done = host.run("setpriv", "--reuid=victor", "--regid=victor", "--init-groups",
                    "validator-supervisor", "unlock", "--passphrase-fd", "0",
                    check=False, stdin=PASSPHRASE)  # fmt: skip
    assert done.returncode == 1
    assert host.property(UNIT, "ActiveState") == "inactive"


# Calls UnlockFd with a descriptor of some kind, and says what comes of it.
HOSTILE = """
import os, socket, sys, time
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
name, path, interface = sys.argv[2:5]
bus = open_dbus_connection("SYSTEM", enable_fds=True)
def call(member, signature=None, *body):
    message = new_method_call(DBusAddress(path, name, interface), member, signature, body)
    return bus.send_and_get_reply(message, timeout=10)
kind = sys.argv[1]
if kind == "endless":
    given, keep = os.pipe()
elif kind == "directory":
    given = os.open("/etc", os.O_RDONLY)
elif kind == "huge":
    given = os.open("/bin/sh", os.O_RDONLY)
elif kind == "writing":
    keep, given = os.pipe()
elif kind == "closed":
    given = os.memfd_create("x"); keep = None
elif kind == "device":
    given = os.open("/dev/zero", os.O_RDONLY)
print(call("UnlockFd", "h", given).header.message_type.name, flush=True)
time.sleep(float(sys.argv[5]))
"""


@pytest.mark.parametrize("kind", ["directory", "huge", "writing", "closed", "device"])
def test_bad_descriptors_end_at_once(host: Machine, kind: str) -> None:
    host.write("/usr/local/lib/hostile.py", HOSTILE)
    controller = host.property("validator-supervisor.service", "MainPID")
    before = descriptors(host, controller)
    host.as_user("olga", "python3", "/usr/local/lib/hostile.py", kind, *BUS, "0")
    host.wait_for_unit(UNIT, "failed")
    assert host.property(UNIT, "StatusText") == "no passphrase was given"
    assert count(host) == 0
    host.wait("the end of the offer", lambda: descriptors(host, controller) == before)
    assert host.property("validator-supervisor.service", "MainPID") == controller


def test_a_descriptor_without_end_is_waited_for_a_while(host: Machine) -> None:
    host.write("/usr/local/lib/hostile.py", HOSTILE)
    controller = host.property("validator-supervisor.service", "MainPID")
    before = descriptors(host, controller)
    host.run("systemd-run", "-q", "--uid=olga", "--collect", "python3",
             "/usr/local/lib/hostile.py", "endless", *BUS, "40")  # fmt: skip
    host.wait_for_unit(UNIT, "activating")
    # The controller answers meanwhile, and takes no other.
    began = time.monotonic()
    host.output("busctl", "get-property", *BUS, "Locked")
    assert time.monotonic() - began < 2
    other = unlock(host, PASSPHRASE)
    assert (other.returncode, "another unlock" in other.stderr) == (1, True), other.stderr
    host.wait_for_unit(UNIT, "failed", 40)
    assert descriptors(host, controller) == before
    assert count(host) == 0
    assert unlock(host, PASSPHRASE).returncode == 0


def descriptors(host: Machine, process: str) -> int:
    return len(host.output("ls", f"/proc/{process}/fd").split())


def test_the_passphrase_is_changed(host: Machine) -> None:
    before = host.output("cat", SEALED)
    terminal = Terminal(host, "validator-supervisor passphrase")
    terminal.answer("Passphrase now", WRONG)
    assert terminal.end() == 1
    assert host.output("cat", SEALED) == before
    terminal = Terminal(host, "validator-supervisor passphrase")
    terminal.answer("Passphrase now", PASSPHRASE)
    terminal.answer("New passphrase", "other")
    terminal.answer("The same again", "other")
    assert terminal.end() == 0, terminal.shown
    assert "still open with the old one" in terminal.shown
    assert unlock(host, "other").returncode == 0
    host.write(SEALED, before + "\n", 0o600)


def test_the_identity_is_replaced_also_in_memory(host: Machine) -> None:
    assert unlock(host, PASSPHRASE).returncode == 0
    before, sealed = host.output("cat", PLAIN), host.output("cat", SEALED)
    done = host.run("validator-supervisor", "rotate-identity", "--passphrase-fd", "0",
                    stdin=f"{PASSPHRASE}\n")  # fmt: skip
    after = host.output("cat", PLAIN)
    assert after != before
    assert host.output("stat", "--format=%a %U", PLAIN) == "400 validator-state"
    assert host.output("cat", SEALED) != sealed
    assert host.output("cat", SEALED) in done.stdout
    host.systemctl("stop", UNIT)
    assert unlock(host, PASSPHRASE).returncode == 0
    assert host.output("cat", PLAIN) == after


def test_no_secret_is_anywhere_else(host: Machine) -> None:
    assert unlock(host, PASSPHRASE).returncode == 0
    (line,) = re.findall(r"AGE-SECRET-KEY-1\w+", host.output("cat", PLAIN))
    secrets = (PASSPHRASE, WRONG, line)
    shown = host.run("systemctl", "show", "*", "--all").stdout
    said = host.run("journalctl", "--no-pager", "--output=export", seconds=60).stdout
    for process in Path(f"/proc/{host.leader}/root/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                shown += (process / name).read_bytes().decode(errors="replace")
    for secret in secrets:
        assert secret not in shown
        assert secret not in said
        # Its disk: everything that the machine has written since it was made.
        found = subprocess.run(
            ["grep", "-rlF", "--devices=skip", "--exclude-dir=proc", "--exclude-dir=sys", secret,
             str(upper(host))],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert found.stdout == ""
        assert found.returncode == 1, found.stderr


def upper(host: Machine) -> Path:
    """Return where the machine's writes go."""
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[1] == str(host.root):
            (found,) = re.findall(r"upperdir=([^,]+)", fields[3])
            return Path(found)
    raise AssertionError(f"{host.root} is not mounted")


def test_the_controller_can_start_nothing_else_by_its_name(host: Machine) -> None:
    for word in ("--property=User=root", "--pipe", "--scope"):
        host.as_user("validator-supervisor", "systemd-run", word, f"--unit={UNIT}",
                     "touch", "/root/pwned", check=False)  # fmt: skip
    for unit in ("validator-passphrase.socket", "validator-passphrase@x.service", MOUNT):
        done = host.as_user("validator-supervisor", "systemctl", "--no-ask-password", "stop", unit,
                            check=False)  # fmt: skip
        assert done.returncode != 0
    assert host.run("ls", "/root/pwned", check=False).returncode != 0


def test_the_target_locks(host: Machine) -> None:
    assert unlock(host, PASSPHRASE).returncode == 0
    host.systemctl("stop", "validator.target")
    host.wait_for_unit(UNIT, "inactive")
    assert_wiped(host)
    host.systemctl("start", "validator.target")


def test_a_damaged_file_is_told(host: Machine) -> None:
    sealed = host.output("cat", SEALED)
    host.write(SEALED, sealed[:200], 0o600)
    done = unlock(host, PASSPHRASE)
    assert done.returncode == 1
    assert "armor" in done.stderr
    host.run("rm", SEALED, COUNT)
    done = unlock(host, PASSPHRASE)
    assert (done.returncode, "init-identity" in done.stderr) == (1, True), done.stderr
    host.write(SEALED, sealed + "\n", 0o600)


def test_a_question_is_answered_in_another_way(host: Machine) -> None:
    begin(host, "waiting for the passphrase")
    attempt = host.property(UNIT, "InvocationID")
    host.wait("the question", lambda: questions(host))
    done = unlock(host, PASSPHRASE)
    assert (done.returncode, done.stdout) == (0, "unlocked\n"), done.stderr
    assert questions(host) == []
    assert host.property(UNIT, "InvocationID") == attempt
    assert count(host) == 0


def questions(host: Machine) -> list[str]:
    return host.output("find", "/run/systemd/ask-password", "-name", "ask.*").split()


class TestValidators:
    """What becomes of validators that need the identity."""

    def test_rotated_archives_open_everywhere(self, signing: Signing) -> None:
        host, node = signing.host, signing.world.nodes["helsinki"]
        # What a job of a running validator would write meanwhile, the next could not read.
        refused = signing.world.refused(PHRASE, "rotate-identity", "--passphrase-fd", "0")
        assert "validator main runs" in refused
        signing.stop()
        old, (before, _) = identity_of(signing), newest(signing)
        shown = signing.world.typed(PHRASE, "rotate-identity", "--passphrase-fd", "0")
        new = identity_of(signing)
        assert new != old
        name, archive = newest(signing)
        assert name in shown
        assert name != before
        assert lacks(archive, dict.fromkeys(signing.keys, (-1, -1, -1))) == []
        assert set(archive.keys) == set(signing.keys)
        with pytest.raises(SupervisorError):
            newest(signing, old)
        assert name in signing.files(node)
        # A start that continues, and one without anything but archives.
        signing.start()
        assert signing.row() == "continue"
        signing.signs()
        host.systemctl("start", BACKUP)
        assert signing.latch() == ""
        signing.stop()
        name, archive = newest(signing)
        assert (name, archive.manifest.clean) == (signing.clean(), True)
        assert lacks(archive, highest(signing.beacon)) == []
        signing.start()
        assert signing.row() == "continue"
        signing.stop()
        host.run("sh", "-c", f"rm -rf {DATABASE} {KEPT}/archives/*")
        signing.start("--no-watch")
        signing.is_safe()
        signing.signs()

    def test_a_rotation_with_a_node_away(self, signing: Signing) -> None:
        world, node = signing.world, signing.world.nodes["helsinki"]
        signing.stop()
        before = identity_of(signing), signing.files()
        world.network.cut("helsinki")
        try:
            # Another host may have put there that it runs it, for the old identity.
            said = world.refused(PHRASE, "rotate-identity", "--passphrase-fd", "0", seconds=240)
            assert "nodes are not reached (helsinki" in said
            assert (identity_of(signing), signing.files()) == before
        finally:
            world.network.heal("helsinki")
        signing.world.typed(PHRASE, "rotate-identity", "--passphrase-fd", "0")
        assert newest(signing)[0] in signing.files(node)
        signing.start()
        assert signing.row() == "continue"

    def test_unlocking_starts_what_ran(self, signing: Signing) -> None:
        world, host = signing.world, signing.host
        stopped, disabled, second = (several(signing, name) for name in OTHERS)
        try:
            host.systemctl("start", stopped, second, seconds=120)
            host.systemctl("stop", stopped)
            for _ in range(2):
                host.run("validator-supervisor", "lock", seconds=120)
                for unit in (VALIDATOR, stopped, disabled, second):
                    assert host.property(unit, "ActiveState") == "inactive"
                world.unlock()
                for unit in (VALIDATOR, second):
                    host.wait_for_unit(unit, seconds=90)
                assert host.systemctl("list-jobs", "validator@*", "--no-legend") == ""
                for unit in (stopped, disabled):
                    assert host.property(unit, "ActiveState") == "inactive"
            # Started again, it comes back, too.
            host.systemctl("start", stopped, seconds=120)
            host.run("validator-supervisor", "lock", seconds=120)
            world.unlock()
            host.wait_for_unit(stopped, seconds=90)
        finally:
            validators = world.config["validators"]
            assert isinstance(validators, dict)
            for name in OTHERS:
                del validators[name]
            world.apply()

    def test_a_start_that_waits_for_a_passphrase(self, signing: Signing) -> None:
        """Nobody answers the question of a start; somebody unlocks in another way."""
        host = signing.host
        signing.stop()
        host.run("validator-supervisor", "lock", seconds=120)
        signing.ask()
        host.wait("the question", lambda: questions(host))
        assert not signing.up()
        signing.world.unlock()
        host.wait_for_unit(VALIDATOR, seconds=90)
        assert signing.row() == "continue"
        signing.signs()


OTHERS = ("stopped", "disabled", "second")


def several(signing: Signing, name: str) -> str:
    """Add a validator with a key of its own; return its unit."""
    signing.world.standin_validator(name, enabled=name != "disabled")
    signing.world.apply()
    number = len(signing.keys) + OTHERS.index(name)
    signing.world.import_keystores(name, dict([list(many(number + 1).items())[number]]))
    return f"validator@{name}.service"
