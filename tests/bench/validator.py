"""A validator that is killed."""

from tests.bench.row import AtMost, Peer, Row, Sample
from tests.bench.scene import Scene

SLEEPER = {"kind": "command", "command": ["/usr/bin/sleep", "infinity"]}
UNIT, PLAIN = "validator@sleeper.service", "plain.service"
KILLS = 10


def kill(scene: Scene) -> list[Row]:
    """Measure the return after a kill -9 of the program, beside a unit without our helper."""
    validators = {**scene.validators, "sleeper": SLEEPER}
    with scene.configured(validators=validators):
        scene.host.wait_for_unit(UNIT)
        scene.run_unit(PLAIN, "/usr/bin/sleep", "infinity", RestartSec="1")
        try:
            found = scene.inside("killed.py", KILLS, UNIT, "sleep", 0, PLAIN, "sleep", 0)
        finally:
            scene.host.systemctl("stop", PLAIN, check=False)
    what = "kill -9 of a `kind: command` program until another runs; both wait RestartSec=1"
    ours, floor = Sample.median(found[UNIT]), Sample.median(found[PLAIN])
    return [Row("validator-kill", what, "s", ours, Peer("plain unit", floor), AtMost(1.2))]
