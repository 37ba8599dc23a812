"""The machines that everything is measured on: a host with two nodes and one validator."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import standin
from lab.host import LabError
from lab.keystores import many
from lab.world import FEE_RECIPIENT, World

INSIDE = Path(__file__).parent / "inside"
PROGRAMS = "/root/bench"
PEERS = ("age", "autossh", "restic", "zstd")
NODES = ("helsinki", "lisbon")
BEACON = 9596
# The database is the stand-in client's; else it sleeps: what is measured is what we need for it,
# not what a client needs.
CLIENT = "/usr/local/bin/client"
SLEEP = f"""#!/bin/sh
case $2 in slashing-protection) exec {standin.CLIENT} "$@" ;; esac
exec sleep infinity
"""
VALIDATOR = "dev"
KEYS = 8
BACKUPS = "supervisor-backups"
OURS = ("validator-supervisor.service", "validator-watch.service",
        *(f"validator-tunnel@{name}.service" for name in NODES))  # fmt: skip
# All of ours are in it, those that come and go too; and the client.
SLICE = "validator.slice"


class Scene:
    """A configured world with everything up, and what subjects do with it."""

    def __init__(self, world: World, seconds: float) -> None:
        self.world = world
        self.host = world.host
        self.seconds = seconds

    @classmethod
    @contextlib.contextmanager
    def up(cls, suite: str, seconds: float) -> Iterator["Scene"]:
        """Boot, install, configure, and wait until all of it is healthy."""
        with World.booted(suite, NODES, peers=PEERS) as world:
            scene = cls(world, seconds)
            for machine in (world.host, *world.nodes.values()):
                for file in sorted(INSIDE.glob("*.py")):
                    machine.write(f"{PROGRAMS}/{file.name}", file.read_text())
            scene._configure()
            scene.start()
            yield scene

    def _configure(self) -> None:
        world, host = self.world, self.host
        standin.install(host)
        host.write(CLIENT, SLEEP, 0o755)
        for name, node in world.nodes.items():
            node.run("systemd-run", "--quiet", "--unit=beacon", "python3",
                     f"{PROGRAMS}/beacon.py", str(BEACON))  # fmt: skip
            world.node(name, beacon={"dev": f"127.0.0.1:{BEACON}"}, backups=BACKUPS)
        world.validator(VALIDATOR, **self.ethereum)
        world.apply()
        for name in NODES:
            world.authorize(name)
        world.init_identity()
        world.unlock()
        world.import_keystores(VALIDATOR, many(KEYS))
        # On a chain with the times of mainnet the watch for a twin takes a quarter of an hour.
        host.run("validator-supervisor", "start", VALIDATOR, "--no-watch", "--confirm", VALIDATOR,
                 seconds=120)  # fmt: skip

    @property
    def ethereum(self) -> dict[str, object]:
        """Return what is configured of a validator that runs the client."""
        release = {"client": "lodestar", "binary": CLIENT}
        return {"kind": "ethereum", "network": "dev", "fee_recipient": FEE_RECIPIENT,
                "release": release}  # fmt: skip

    @property
    def validators(self) -> dict[str, object]:
        """Return what is configured as validators."""
        found = self.world.config["validators"]
        assert isinstance(found, dict)
        return found

    def start(self) -> None:
        """Start everything, unlock, and wait until all of it is healthy."""
        self.host.systemctl("start", "--no-block", "validator.target")
        self.world.unlock()
        for unit in (*OURS, f"validator@{VALIDATOR}.service"):
            self.host.wait_for_unit(unit, seconds=60)
        self.host.wait("everything to be healthy", self._attests, 120)

    def _attests(self) -> bool:
        (validator,) = self.world.status()["validators"]  # type: ignore[misc]
        return bool(validator["AttestingKeys"] == KEYS)  # type: ignore[has-type]

    @contextlib.contextmanager
    def configured(self, **changes: Mapping[str, object]) -> Iterator[None]:
        """Apply another configuration, and the first one again at the end."""
        before = self.world.config
        self.world.config = {**before, **changes}
        try:
            self.world.apply()
            yield
        finally:
            self.world.config = before
            self.world.apply()

    def inside(self, program: str, *words: object, seconds: float = 120) -> Any:
        """Run one of the programs of ``inside/`` on the host, and return what it prints."""
        argv = ["python3", f"{PROGRAMS}/{program}", *(str(word) for word in words)]
        return json.loads(self.host.output(*argv, seconds=seconds))

    def timed(
        self, repeats: int, programs: Mapping[str, Sequence[str]], seconds: float = 120
    ) -> dict[str, list[float]]:
        """Return the wall times of programs on the host, in seconds, run in turn.

        All of it together must not take longer than ``seconds``.
        """
        words = ("timed.py", repeats, json.dumps(programs))
        found: dict[str, list[float]] = self.inside(*words, seconds=seconds)
        return found

    def run_unit(self, name: str, *words: str, **properties: str) -> None:
        """Start a service on the host that is always started again, as ours are."""
        settings = {"Restart": "always", "StartLimitIntervalSec": "0", "Type": "exec", **properties}
        self.host.run("systemd-run", "--quiet", "--collect", f"--unit={name}",
                      *(f"--property={key}={value}" for key, value in settings.items()),
                      *words)  # fmt: skip

    def group(self, unit: str) -> str:
        """Return the folder of a unit's control group."""
        return f"/sys/fs/cgroup{self.host.property(unit, 'ControlGroup')}"

    def processes(self, unit: str) -> list[str]:
        """Return the processes of a unit."""
        return self.host.output("cat", f"{self.group(unit)}/cgroup.procs").split()

    def memory(self, processes: Sequence[str]) -> list[int]:
        """Return the proportional set size of processes in bytes."""
        found: list[int] = self.inside("memory.py", *processes)
        return found

    def every_process(self) -> list[str]:
        """Return all processes of ours: those in our slice, but for the client."""
        client = set(self.processes(f"validator@{VALIDATOR}.service"))
        words = ["find", self.group(SLICE), "-name", "cgroup.procs", "-exec", "cat", "{}", "+"]
        return [pid for pid in self.host.output(*words).split() if pid not in client]

    def cpu_seconds(self, units: Sequence[str]) -> list[float]:
        """Return the processor time that units have used so far, in seconds."""
        text = self.host.output("cat", *(f"{self.group(unit)}/cpu.stat" for unit in units))
        used = [line.split()[1] for line in text.splitlines() if line.startswith("usage_usec ")]
        if len(used) != len(units):
            raise LabError(f"no processor time of {', '.join(units)} can be read")
        return [int(usec) / 1e6 for usec in used]
