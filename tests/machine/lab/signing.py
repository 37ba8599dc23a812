"""A validator that signs with the stand-in client, and what shows that it has never signed twice.

The oracle is the stand-in beacon node: it has seen every signature, and knows a slashable pair. And
no start may leave a database below what was seen there, whatever has happened before.
"""

import contextlib
import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from lab import images, standin
from lab.host import RUNS, LabError
from lab.keystores import PASSWORD, many
from lab.machine import Machine
from lab.standin import Beacon
from lab.standin.beacon import Message, slashable
from lab.standin.client import Database
from lab.world import World

NAME = "main"
VALIDATOR, STATE = f"validator@{NAME}.service", f"validator-state@{NAME}.service"
BACKUP, IDENTITY = f"validator-backup@{NAME}.service", "validator-identity.service"
DATA, KEPT = f"/var/lib/validator/{NAME}", f"/var/lib/validator-state/{NAME}"
DATABASE = f"{DATA}/validator-db"
GIVEN = f"/run/validator-state/{NAME}"
LATCH = f"/var/lib/validator-supervisor/halted/{NAME}"
AT_NODE = "/var/lib/validator-supervisor-node/supervisor-backups"
CLOCK = "/run/systemd/timesync/synchronized"
# Slots of a second.
EPOCH = 6
WATCH = "/usr/lib/python3/dist-packages/validator_supervisor/watch.py"
PEERS = ("faketime", "strace")
# What its monotonic clock counts from.
BOOTED = "import time; print(time.time() - time.monotonic())"

# The highest slot, source and target of a key; -1 where it has none.
Marks = dict[str, tuple[int, int, int]]


def highest(beacon: Beacon) -> Marks:
    """Return the highest numbers of everything that the beacon node has seen, by key."""
    return highest_of(beacon.recorded())


def highest_of(records: Iterable[Message]) -> Marks:
    """Return the highest numbers of some messages, by key."""
    found: Marks = {}
    for record in records:
        slot, source, target = found.get(str(record["key"]), (-1, -1, -1))
        if record["kind"] == "block":
            slot = max(slot, int(record["slot"]))
        else:
            source, target = max(source, int(record["source"])), max(target, int(record["target"]))
        found[str(record["key"])] = slot, source, target
    return found


class Signing:
    """One host with the validator, and its oracle; several of these may share a network."""

    def __init__(self, world: World, beacon: Beacon, suite: str) -> None:
        self.world = world
        self.beacon = beacon
        self.suite = suite
        self.keys: list[str] = []
        self.near = ""

    @property
    def host(self) -> Machine:
        """Return the host."""
        return self.world.host

    @classmethod
    @contextlib.contextmanager
    def booted(
        cls,
        suite: str,
        nodes: Sequence[str] = ("helsinki",),
        *,
        keys: int = 2,
        epoch: int = EPOCH,
        near: str = "",
        environment: Mapping[str, str] | None = None,
        peers: Sequence[str] = (),
    ) -> Iterator["Signing"]:
        """Boot a host and nodes with a chain; import keys; nothing is started yet.

        ``peers`` are packages of Debian that the host has more than others.
        With ``near`` there are no nodes: the host reaches the chain itself, and this directory of
        its own takes the backups.
        """
        with (
            World.booted(suite, [] if near else nodes, peers=[*PEERS, *peers]) as world,
            tempfile.TemporaryDirectory(prefix="chain-", dir=RUNS) as folder,
            world.standin_beacon(Path(folder), "--slots-per-epoch", str(epoch)) as beacon,
        ):
            signing = cls(world, beacon, suite)
            signing.prepare(keys, near, environment)
            yield signing

    def prepare(
        self, keys: int = 2, near: str = "", environment: Mapping[str, str] | None = None
    ) -> None:
        """Do what comes before the first start; what the words mean says ``booted``."""
        # Over boots, too.
        self.host.run("mkdir", "-p", "/var/log/journal")
        self.host.systemctl("restart", "systemd-journald")
        # With epochs as short as these, heads are old after the usual ten seconds.
        self.host.run("sed", "-i", "s/^HEALTHY_SECONDS, .*/HEALTHY_SECONDS, UNHEALTHY_SECONDS = 2, 1.5/",
                      WATCH)  # fmt: skip
        self.near = near
        self.configure(environment)
        self.world.init_identity()
        self.world.unlock()
        if keys:
            self.imports(keys)

    def configure(self, environment: Mapping[str, str] | None = None) -> None:
        """Configure the validator and the nodes, and let the host into them."""
        world = self.world
        for name in world.nodes:
            world.node(name, beacon={"dev": world.chain_address}, backups="supervisor-backups")
        if self.near:
            self.host.run("install", "-d", "-o", "validator-state", self.near)
            beacon = f"http://{world.chain_address}"
            world.config["nodes"] = {"near": {"beacon": beacon, "backups": self.near}}
        world.config["backup"] = {"stop_timeout": "10s", "interval": "1h"}
        world.standin_validator(NAME, environment)
        world.apply()
        for name in world.nodes:
            world.authorize(name)
        self.host.systemctl("start", "validator.target")

    def imports(self, count: int) -> None:
        """Import so many keys in all."""
        fresh = {key: text for key, text in many(count).items() if key not in self.keys}
        self.world.import_keystores(NAME, fresh)
        self.keys += fresh

    @contextlib.contextmanager
    def another(self, name: str) -> Iterator["Signing"]:
        """Boot one more host beside this one, with the same identity and the same nodes."""
        world = self.world
        layers = images.installed(self.suite, "host", PEERS)
        space = world.network.add(name)
        with Machine.boot(f"{name}-{world.network.prefix}", layers, namespace=space) as machine:
            for one in (machine, self.host, *world.nodes.values()):
                one.write("/etc/hosts", world.network.hosts())
            other = Signing(World(world.network, machine, world.nodes), self.beacon, self.suite)
            other.keys = list(self.keys)
            sealed = "/etc/validator-supervisor/identity.age"
            machine.write(sealed, self.host.output("cat", sealed) + "\n", 0o600)
            other.configure()
            other.world.unlock()
            yield other

    @contextlib.contextmanager
    def elsewhere(self, name: str, near: str) -> Iterator["Signing"]:
        """Boot one more host beside this one, with nothing in common: no keys yet, either.

        It reaches the chain itself, and ``near``, a directory of its own, takes the backups.
        """
        network = self.world.network
        layers = images.installed(self.suite, "host", PEERS)
        space = network.add(name)
        with Machine.boot(f"{name}-{network.prefix}", layers, namespace=space) as machine:
            machine.write("/etc/hosts", network.hosts())
            other = Signing(World(network, machine, {}), self.beacon, self.suite)
            other.prepare(0, near)
            other.keys = list(self.keys)
            yield other

    @contextlib.contextmanager
    def copied(self, name: str) -> Iterator["Signing"]:
        """Boot a copy of this host's disk as it is now, as another machine with its address."""
        network = self.world.network
        layers = images.installed(self.suite, "host", PEERS)
        space = network.add(name)
        with tempfile.TemporaryDirectory(prefix="copy-", dir=RUNS) as folder:
            upper = Path(folder) / "root"
            shutil.copytree(upper_of(self.host), upper, symlinks=True)
            own(upper_of(self.host), upper)
            with Machine.overlay(layers, upper) as root:
                machine = Machine.start(f"{name}-{network.prefix}", root, space, [])
                try:
                    machine.write("/etc/hosts", network.hosts())
                    world = World(network, machine, self.world.nodes)
                    world.config = self.world.config
                    clone = Signing(world, self.beacon, self.suite)
                    clone.keys = list(self.keys)
                    yield clone
                finally:
                    machine.stop()
                    Machine.remove_group(machine.name)

    # What a person does.

    def start(self, *orders: str) -> None:
        """Start it, and wait until it runs; ``orders`` as typed."""
        self.ask(*orders)
        self.host.wait_for_unit(VALIDATOR, seconds=90)

    def ask(self, *orders: str) -> None:
        """Start it, and wait for nothing."""
        if orders:
            argv = ["validator-supervisor", "start", NAME, *orders, "--confirm", NAME]
            self.host.run(*argv)
        else:
            self.host.systemctl("start", "--no-block", VALIDATOR)

    def take_over(self) -> str:
        """Take over, without a watch, and wait until it runs."""
        argv = ["validator-supervisor", "take-over", NAME, "--no-watch", "--confirm", NAME]
        said = self.host.output(*argv)
        self.host.wait_for_unit(VALIDATOR, seconds=90)
        return said

    def stop(self) -> None:
        """Stop it, and wait for the final backup."""
        self.host.systemctl("stop", VALIDATOR)
        self.down()

    def down(self, seconds: float = 60) -> None:
        """Wait until it is down, and its keys are gone."""
        for unit in (VALIDATOR, STATE):
            self.host.wait(f"end of {unit}", partial(self.is_down, unit), seconds)

    def waits(self, why: str, seconds: float = 60) -> None:
        """Wait until its state says why it does not start."""
        said = partial(self.host.property, STATE, "StatusText")
        self.host.wait(f"a start that waits: {why}", lambda: why in said(), seconds)

    def up(self) -> bool:
        """Whether it runs."""
        return self.host.property(VALIDATOR, "ActiveState") == "active"

    def is_down(self, unit: str = VALIDATOR) -> bool:
        """Whether a unit has ended."""
        return self.host.property(unit, "ActiveState") in ("inactive", "failed")

    # What goes wrong.

    def kill(self, unit: str = VALIDATOR) -> None:
        """Kill every process of a unit."""
        self.host.run("systemctl", "kill", "--signal=KILL", unit, check=False)

    def cut(self, lost: float = 0) -> int:
        """Cut the host's power, lose what its client has not synced, boot, unlock.

        ``lost`` is how many seconds of it; return how many messages were lost.
        """
        self.host.cut()
        began = time.time()
        self.host.boot_again()
        self.host.write("/etc/hosts", self.world.network.hosts())
        forgotten = standin.forget(self.host, DATABASE, lost + time.time() - began) if lost else 0
        self.unlock()
        return forgotten

    def unlock(self) -> None:
        """Unlock after a boot, whose own question it answers."""
        self.world.unlock()

    # What is seen.

    def signs(self, seconds: float = 60) -> None:
        """Wait until every key has signed something from now on."""
        began = time.time()

        def silent() -> set[str]:
            new = {str(r["key"]) for r in self.beacon.recorded() if float(r["time"]) > began}
            return set(self.keys) - new

        self.host.wait("a signature of every key", lambda: not silent(), seconds)

    def marks(self, before: float = math.inf) -> Marks:
        """Return at or below which numbers the client's database signs nothing, by key.

        As it was at a time (of its own that have been lost since, nothing is known).
        """
        text = self.host.run("cat", f"{DATABASE}/log", check=False).stdout
        lines = text.splitlines(keepends=True)
        if before < math.inf:
            lines = [line for line in lines if json.loads(line)["time"] < before]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "log").write_text("".join(lines))
            database = Database(Path(folder))
            database.close()
        return {key: (h.slot, h.source, h.target) for key, h in database.keys.items()}

    def is_safe(self) -> None:
        """Assert that nothing was signed twice, and that nothing that was signed is forgotten."""
        self._is_safe(self.beacon.recorded())

    def _is_safe(self, records: Sequence[Message]) -> None:
        # What it signs meanwhile is in its database first.
        assert self._below(self.marks(), highest_of(records)) == {}
        assert slashable(records) == []

    def has_started_safely(self) -> None:
        """Assert that the database it runs with began at or above all that was signed by then.

        What the client has signed since would hide it. And ``is_safe``.
        """
        since = self.host.property(VALIDATOR, "ActiveEnterTimestampMonotonic")
        began = int(since) / 1e6 + float(self.host.output("python3", "-c", BOOTED))
        records = self.beacon.recorded()
        seen = highest_of(r for r in records if float(r["time"]) < began)
        assert self._below(self.marks(began), seen) == {}
        self._is_safe(records)

    def _below(self, marks: Marks, seen: Marks) -> dict[str, object]:
        return {
            key: (marks.get(key), numbers)
            for key, numbers in seen.items()
            if key in self.keys
            and any(m < n for m, n in zip(marks.get(key, (-1, -1, -1)), numbers, strict=True))
        }

    def row(self) -> str:
        """Return the row of the table that the last start has taken."""
        said = self.host.property(STATE, "StatusText")
        found = re.search(r"handed over: ([a-z-]+),", said)
        return found[1] if found else said

    def latch(self) -> str:
        """Return the code of the halt that holds it; nothing where none does."""
        return self.host.run("cat", LATCH, check=False).stdout.partition("\n")[0]

    def files(self, machine: Machine | None = None, kind: str = "age") -> list[str]:
        """Return the names of archives or claims, the newest first; of a node if one is given."""
        place = AT_NODE if machine else f"{KEPT}/archives"
        names = (machine or self.host).run("find", place, "-name", f"{NAME}.*.{kind}").stdout
        found = [Path(line).name for line in names.split()]
        return sorted(found, key=lambda name: int(name.split(".")[1]), reverse=True)

    def clean(self) -> str:
        """Return the name of the newest archive of a validator that had stopped."""
        return self.host.run("cat", f"{KEPT}/clean", check=False).stdout.strip()

    def running(self) -> bool:
        """Whether the marker says that it may have signed since."""
        return self.host.run("test", "-e", f"{KEPT}/running", check=False).returncode == 0

    def leaks(self) -> list[str]:
        """Return where a keystore's password is, but in memory that is never swapped."""
        # It is in no argument of those who look for it either.
        look = "grep -lsF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
        found = self.host.run("sh", "-c", look, check=False, stdin=PASSWORD).stdout.split()
        found += ["the journal"] if PASSWORD in self.host.journal("--output=export") else []
        for path in upper_of(self.host).rglob("*"):
            if path.is_file() and not path.is_symlink() and not {"apt", "journal"} & {*path.parts}:
                with contextlib.suppress(OSError):
                    found += [str(path)] if PASSWORD.encode() in path.read_bytes() else []
        return found

    def state_said(self, since: str = "") -> str:
        """Return what the state's job has said in this boot."""
        more = [f"--since={since}"] if since else []
        return self.host.journal("--boot", f"--unit={STATE}", *more)


def upper_of(machine: Machine) -> Path:
    """Return where a machine's writes go."""
    for line in Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[1] == str(machine.root):
            (found,) = re.findall(r"upperdir=([^,]+)", fields[3])
            return Path(found)
    raise LabError(f"{machine.name} has no disk")


def own(one: Path, other: Path) -> None:
    """Give everything in a copy of a tree the owners it has there."""
    import os

    for path in [one, *one.rglob("*")]:
        status = path.lstat()
        target = other / path.relative_to(one)
        if os.path.lexists(target):
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
            if not path.is_symlink():
                target.chmod(status.st_mode & 0o7777)
