"""Tunnels that are killed and cut, beside autossh to the same node."""

import time
from concurrent.futures import ThreadPoolExecutor

from lab.host import LabError

from tests.bench import autossh
from tests.bench.row import AtMost, AtMostOver, Peer, Row, Sample
from tests.bench.scene import Scene

NODE = "helsinki"
UNIT = f"validator-tunnel@{NODE}.service"
# The first of port_range, which the first node's beacon forward gets.
PORT = 13000
# After more than five short-lived ssh autossh pauses before it tries again, so it is started anew
# before that.
BATCHES, KILLS = 4, 5
# How long the link stays away after both have noticed: in the middle of an attempt to connect, and
# just after one of ours has given up (ConnectTimeout=5), when it pauses.
ROUNDS = (1.0, 5.0)


def kill(scene: Scene) -> list[Row]:
    """Measure the return after a kill -9 of ssh."""
    words = (UNIT, "ssh", PORT, autossh.unit(NODE), "ssh", autossh.port(NODE))
    found: dict[str, list[float]] = {UNIT: [], autossh.unit(NODE): []}
    for _ in range(BATCHES):
        with autossh.connected(scene, NODE):
            for unit, seconds in scene.inside("killed.py", KILLS, *words).items():
                found[unit] += seconds
    ours, peer = (Sample.median(seconds) for seconds in found.values())
    what = "kill -9 of ssh until the forward answers; the goal is a difference"
    goal = AtMostOver(0.2)
    return [Row("tunnel-kill", what, "s", ours, Peer("autossh", peer), goal)]


def cut(scene: Scene) -> list[Row]:
    """Measure a link that is cut without a word: until it is noticed, and until it is healed."""
    noticed, back = [], []
    with autossh.connected(scene, NODE):
        for away in ROUNDS:
            seen, usable = _round(scene, away)
            noticed.append(seen)
            back.append(usable)
    rows = []
    for name, what, found, limit in (
        ("tunnel-cut/noticed", "silent cut until ssh ends, worst of all", noticed, 15),
        ("tunnel-cut/back", "link back until the forward answers, worst of all", back, 2),
    ):
        ours, peer = (Sample.worst([pair[i] for pair in found]) for i in (0, 1))
        rows.append(Row(name, what, "s", ours, Peer("autossh", peer), AtMost(limit)))
    return rows


def _round(scene: Scene, away: float) -> tuple[list[float], list[float]]:
    """Cut and heal once; return [ours, autossh] of when it was noticed and when it was usable."""
    ports = (PORT, autossh.port(NODE))
    scene.inside("moments.py", "answered", *ports)
    scene.host.wait_for_unit(UNIT)
    pids = [_ssh(scene, UNIT), _ssh(scene, autossh.unit(NODE))]
    with ThreadPoolExecutor(1) as pool:
        ends = pool.submit(scene.inside, "moments.py", "ended", *pids)
        scene.world.network.cut(NODE)
        cut = time.monotonic()
        try:
            noticed = [moment - cut for moment in ends.result()]
            answers = pool.submit(scene.inside, "moments.py", "answered", *ports)
            time.sleep(away)
        finally:
            scene.world.network.heal(NODE)
            healed = time.monotonic()
        usable = [moment - healed for moment in answers.result()]
    return noticed, usable


def _ssh(scene: Scene, unit: str) -> str:
    for pid in scene.processes(unit):
        if scene.host.output("cat", f"/proc/{pid}/comm") == "ssh":
            return pid
    raise LabError(f"{unit} has no ssh")
