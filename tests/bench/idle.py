"""What we need while nothing happens: two healthy nodes, one validator that attests, unlocked."""

import time

from tests.bench import autossh
from tests.bench.row import AtMost, Peer, Row, Sample
from tests.bench.scene import NODES, OURS, SLICE, VALIDATOR, Scene

INTERPRETER = "interpreter.service"
# Control groups of others that work for us.
OTHERS = {"systemd": "init.scope", "dbus-daemon": "dbus.service"}
CLIENT, BACKUP = f"validator@{VALIDATOR}.service", f"validator-backup@{VALIDATOR}.service"
# backup.interval, by default: how often it runs while nothing happens.
BACKUP_SECONDS = 3600


def first_backup(scene: Scene) -> None:
    """Wait for the backup a minute after the start: the next one is in an hour."""

    def made() -> bool:
        timer = scene.host.property(BACKUP.replace(".service", ".timer"), "LastTriggerUSec")
        return bool(timer) and scene.host.property(BACKUP, "ActiveState") == "inactive"

    scene.host.wait("the first backup", made, 120)


def memory(scene: Scene) -> list[Row]:
    """Measure the memory of everything but the client."""
    program = "import time; print('asleep', flush=True); time.sleep(1e6)"
    scene.run_unit(INTERPRETER, "/usr/bin/python3", "-c", program)
    try:
        said = f"--unit={INTERPRETER}"
        scene.host.wait("the interpreter", lambda: "asleep" in scene.host.journal(said))
        first_backup(scene)
        used = {u: sum(scene.memory(scene.processes(u))) / 1e6 for u in (*OURS, INTERPRETER)}
        all_of_it = sum(scene.memory(scene.every_process())) / 1e6
    finally:
        scene.host.systemctl("stop", INTERPRETER, check=False)
    peer = Peer("python3, asleep", Sample.median([used.pop(INTERPRETER)]))
    note = ", ".join(f"{unit.removesuffix('.service')} {value:.3g}" for unit, value in used.items())
    every, controller = Sample.median([all_of_it]), Sample.median([used[OURS[0]]])
    return [
        Row("idle-memory/all", "PSS of every process in our slice, without the client", "MB",
            every, peer, AtMost(60), note),
        Row("idle-memory/controller", "PSS of the controller", "MB",
            controller, peer, AtMost(22)),
    ]  # fmt: skip


def cpu(scene: Scene) -> list[Row]:
    """Measure processor time, in percent of one processor, beside tunnels of the peer."""
    with autossh.connected(scene, *NODES):
        theirs = [autossh.unit(name) for name in NODES]
        first_backup(scene)
        units = [*OURS, *theirs, *OTHERS.values(), SLICE, CLIENT]
        before, started = scene.cpu_seconds(units), time.monotonic()
        time.sleep(scene.seconds)
        after, passed = scene.cpu_seconds(units), time.monotonic() - started
    percent = [100 * (b - a) / passed for a, b in zip(before, after, strict=True)]
    used = dict(zip(units, percent, strict=True))
    note = ", ".join(f"{unit.removesuffix('.service')} {used[unit]:.2g}" for unit in OURS)
    note += " beside them " + ", ".join(f"{n} {used[unit]:.2g}" for n, unit in OTHERS.items())
    backup = int(scene.host.property(BACKUP, "CPUUsageNSec")) / 1e9
    note += f"; the hourly backup takes {backup:.2g} s, {100 * backup / BACKUP_SECONDS:.2g} %"
    # Jobs that come and go as well.
    here = used[SLICE] - used[CLIENT] + 100 * backup / BACKUP_SECONDS
    ours = Sample.median([here])
    peer = Sample.median([sum(used[unit] for unit in theirs)])
    what = f"processor time of our slice in {scene.seconds:g} s, without the client, and of backups"
    return [Row("idle-cpu", what, "%", ours, Peer("two autossh", peer), AtMost(0.1), note)]
