"""The controller on D-Bus, beside systemd on the same bus."""

from tests.bench.row import AtMost, AtMostOver, AtMostTimes, Peer, Row, Sample
from tests.bench.scene import VALIDATOR, Scene

OURS = ("org.validatorsupervisor1", f"/org/validatorsupervisor1/validator/{VALIDATOR}",
        "org.validatorsupervisor1.Validator", "ActiveState")  # fmt: skip
SYSTEMD = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1",
           "org.freedesktop.systemd1.Manager", "Version")  # fmt: skip
READS = 60
# 200 a second, ours and systemd's in turn: what else runs on the machine meets both.
CLIENTS, PACED_CALLS, PACED_TURNS = 20, 500, 4
FLOOD_CALLS, FLOOD_CLIENTS = 100_000, 4


def read(scene: Scene) -> list[Row]:
    """Measure one read of a property by busctl."""
    found = scene.timed(READS, {
        "ours": ["busctl", "get-property", *OURS],
        "systemd": ["busctl", "get-property", *SYSTEMD],
    })  # fmt: skip
    ours, peer = (Sample.median(found[name], 1e3) for name in ("ours", "systemd"))
    what = "busctl get-property, wall time"
    return [Row("bus-read", what, "ms", ours, Peer("systemd1", peer), AtMostTimes(2))]


def load(scene: Scene) -> list[Row]:
    """Measure reads at a fixed pace."""
    found: dict[tuple[str, ...], list[float]] = {OURS: [], SYSTEMD: []}
    for _ in range(PACED_TURNS):
        for words, seconds in found.items():
            seconds += scene.inside("calls.py", "paced", PACED_CALLS, CLIENTS, *words)
    ours, peer = (Sample.percentile(seconds, 99, 1e3) for seconds in found.values())
    what = "99th percentile of 200 property reads a second from 20 clients, 10 s"
    return [Row("bus-load", what, "ms", ours, Peer("systemd1", peer), AtMost(50))]


def memory(scene: Scene) -> list[Row]:
    """Measure what 100,000 reads leave behind."""
    pid = scene.host.property("validator-supervisor.service", "MainPID")
    scene.inside("calls.py", "flood", 1000, FLOOD_CLIENTS, *OURS)
    before = scene.memory([pid])
    seconds = scene.inside("calls.py", "flood", FLOOD_CALLS, FLOOD_CLIENTS, *OURS, seconds=300)
    after = scene.memory([pid])
    what = "PSS of the controller after 100,000 property reads; the peer is itself before them"
    ours, peer = Sample.median(after, 1e-6), Sample.median(before, 1e-6)
    note = f"{FLOOD_CALLS / seconds:.0f} reads a second"
    return [Row("bus-memory", what, "MB", ours, Peer("before", peer), AtMostOver(1), note)]
