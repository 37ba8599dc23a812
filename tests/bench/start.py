"""Programs of ours that come and go: how long each takes."""

from tests.bench.row import AtMost, AtMostOver, AtMostTimes, Peer, Row, Sample
from tests.bench.scene import Scene

PYTHON = ["/usr/bin/python3", "-c", "pass"]
BARE = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]
GENERATOR = "/usr/lib/systemd/system-generators/validator-supervisor-generator"
HELPER = "/usr/lib/validator-supervisor/validator"
COMMAND = {"kind": "command", "command": ["/usr/bin/true"], "enabled": False}
MANY = 50
REPEATS = 20


def status(scene: Scene) -> list[Row]:
    """Measure what an operator types most."""
    found = scene.timed(REPEATS, {
        "ours": ["validator-supervisor", "status"],
        "tree": ["busctl", "tree", "org.validatorsupervisor1"],
    })  # fmt: skip
    ours, peer = (Sample.median(found[name], 1e3) for name in ("ours", "tree"))
    what = "validator-supervisor status, wall time"
    return [Row("status", what, "ms", ours, Peer("busctl tree", peer), AtMostTimes(6))]


def generator(scene: Scene) -> list[Row]:
    """Measure the generator, which every daemon-reload waits for."""
    rows = [_generator(scene, "generator/2+1", "2 nodes and 1 validator")]
    key = scene.world.host_key("helsinki")
    nodes = {
        f"n{i}": {"host": f"n{i}.invalid", "host_key": key, "beacon": {"dev": "127.0.0.1:9596"}}
        for i in range(MANY)
    }
    # Nothing of this is started while validator.target is not.
    scene.host.systemctl("stop", "validator.target")
    try:
        with scene.configured(nodes=nodes, validators={f"v{i}": COMMAND for i in range(MANY)}):
            rows.append(_generator(scene, "generator/50+50", "50 nodes and 50 validators"))
    finally:
        scene.start()
    return rows


def _generator(scene: Scene, name: str, size: str) -> Row:
    argv = [GENERATOR, "@NEW@", "@NEW@", "@NEW@"]
    found = scene.timed(REPEATS, {"ours": argv, "python": PYTHON, "bare": BARE})
    ours, floor = (Sample.median(found[key], 1e3) for key in ("ours", "python"))
    bare = Sample.median(found["bare"], 1e3)
    what = f"the systemd generator with {size}, wall time"
    note = f"python3 -I -S -c pass takes {bare.value:.3g} ms"
    return Row(name, what, "ms", ours, Peer("python3 -c pass", floor), AtMost(100), note)


def helpers(scene: Scene) -> list[Row]:
    """Measure how long our helpers take until the program they are for can begin."""
    state = "/var/lib/validator/true"
    places = [f"{kind}_DIRECTORY={state}" for kind in ("STATE", "RUNTIME")]
    with scene.configured(validators={**scene.validators, "true": COMMAND}):
        scene.host.run("mkdir", "-p", state)
        found = scene.timed(REPEATS, {
            "version": ["validator-supervisor", "--version"],
            "python": PYTHON,
            "helper": ["env", *places, HELPER, "true"],
            "true": ["env", *places, "/usr/bin/true"],
        })  # fmt: skip
    samples = {name: Sample.median(times, 1e3) for name, times in found.items()}
    goal = AtMostOver(100)
    return [
        Row("helper-start/version", "validator-supervisor --version, wall time", "ms",
            samples["version"], Peer("python3 -c pass", samples["python"]), goal),
        Row("helper-start/validator", "the helper of a `kind: command` validator that becomes true",
            "ms", samples["helper"], Peer("true", samples["true"]), goal),
    ]  # fmt: skip
