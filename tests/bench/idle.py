"""What we need while nothing happens: two healthy nodes, one validator that attests."""

import time

from tests.bench import autossh
from tests.bench.row import AtMost, Peer, Row, Sample
from tests.bench.scene import NODES, OURS, Scene

INTERPRETER = "interpreter.service"
# Control groups of others that work for us.
OTHERS = {"systemd": "init.scope", "dbus-daemon": "dbus.service"}


def memory(scene: Scene) -> list[Row]:
    """Measure the memory of everything but the client."""
    program = "import time; print('asleep', flush=True); time.sleep(1e6)"
    scene.run_unit(INTERPRETER, "/usr/bin/python3", "-c", program)
    try:
        said = f"--unit={INTERPRETER}"
        scene.host.wait("the interpreter", lambda: "asleep" in scene.host.journal(said))
        used = {u: sum(scene.memory(scene.processes(u))) / 1e6 for u in (*OURS, INTERPRETER)}
    finally:
        scene.host.systemctl("stop", INTERPRETER, check=False)
    peer = Peer("python3, asleep", Sample.median([used.pop(INTERPRETER)]))
    note = ", ".join(f"{unit.removesuffix('.service')} {value:.3g}" for unit, value in used.items())
    every, controller = Sample.median([sum(used.values())]), Sample.median([used[OURS[0]]])
    return [
        Row("idle-memory/all", "PSS of all our processes, without the client", "MB",
            every, peer, AtMost(60), note),
        Row("idle-memory/controller", "PSS of the controller", "MB",
            controller, peer, AtMost(22)),
    ]  # fmt: skip


def cpu(scene: Scene) -> list[Row]:
    """Measure processor time, in percent of one processor, beside tunnels of the peer."""
    with autossh.connected(scene, *NODES):
        theirs = [autossh.unit(name) for name in NODES]
        units = [*OURS, *theirs, *OTHERS.values()]
        before, started = scene.cpu_seconds(units), time.monotonic()
        time.sleep(scene.seconds)
        after, passed = scene.cpu_seconds(units), time.monotonic() - started
    percent = [100 * (b - a) / passed for a, b in zip(before, after, strict=True)]
    used = dict(zip(units, percent, strict=True))
    note = ", ".join(f"{unit.removesuffix('.service')} {used[unit]:.2g}" for unit in OURS)
    note += " beside them " + ", ".join(f"{n} {used[unit]:.2g}" for n, unit in OTHERS.items())
    ours = Sample.median([sum(used[unit] for unit in OURS)])
    peer = Sample.median([sum(used[unit] for unit in theirs)])
    what = f"processor time of all our units in {scene.seconds:g} s, without the client"
    return [Row("idle-cpu", what, "%", ours, Peer("two autossh", peer), AtMost(0.1), note)]
