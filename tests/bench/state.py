"""The identity and the start of a validator: what safety costs."""

import json

from lab.world import PASSPHRASE

from tests.bench.row import AtMostOver, AtMostTimes, Peer, Row, Sample
from tests.bench.scene import BACKUPS, NODES, PROGRAMS, VALIDATOR, Scene
from validator_supervisor.age.recipients import WORK_FACTOR

UNIT, STATE = f"validator@{VALIDATOR}.service", f"validator-state@{VALIDATOR}.service"
PLAIN = "plain.service"
PROGRAM = ["/usr/bin/python3", f"{PROGRAMS}/state.py"]
# What a node has its backups in, as root sees it.
THERE = f"/var/lib/validator-supervisor-node/{BACKUPS}"
MANY = "many"
KEYS, ARCHIVES = 100, 3
REPEATS = 5
# Each takes seconds.
FEW = 3


def unlock(scene: Scene) -> list[Row]:
    """Measure an unlock beside scrypt alone, with the same work factor."""
    # Stopped by a person, it is not started by an unlock.
    scene.host.run("validator-supervisor", "stop", VALIDATOR, seconds=120)
    try:
        found = scene.timed(FEW, {
            "lock": ["validator-supervisor", "lock"],
            "ours": ["sh", "-euc", f"echo '{PASSPHRASE}' |"
                     " validator-supervisor unlock --passphrase-fd 0"],
            "floor": [*PROGRAM, "scrypt", str(WORK_FACTOR)],
        }, seconds=600)  # fmt: skip
    finally:
        scene.host.run("validator-supervisor", "start", VALIDATOR, seconds=120)
    ours, floor = Sample.median(found["ours"]), Sample.median(found["floor"])
    what = "validator-supervisor unlock, wall time"
    peer = Peer("scrypt in python3", floor)
    return [Row("unlock", what, "s", ours, peer, AtMostTimes(1.25))]


def decision(scene: Scene) -> list[Row]:
    """Measure a decision with archives of 100 keys here, and as many others on a node."""
    host, (name, *_) = scene.host, NODES
    archives = f"/var/lib/validator-state/{MANY}/archives"
    node = scene.world.nodes[name]
    with scene.configured(validators={**scene.validators, MANY: scene.ethereum}):
        try:
            made = [*PROGRAM, "make", MANY, str(KEYS), str(2 * ARCHIVES), "/root/made"]
            files = json.loads(host.output(*made, seconds=120))
            owner = ["install", "-o", "validator-state", "-g", "validator-state"]
            host.run(*owner, "-d", "-m", "0711", f"/var/lib/validator-state/{MANY}")
            host.run(*owner, "-d", "-m", "0700", archives)
            # Turn and turn about: each place has some that are newer than some of the other.
            host.run(*owner, "-m", "0600", *[f"/root/made/{f}" for f in files[::2]], archives)
            put = [f"put /root/made/{file} {BACKUPS}/{file}\n" for file in files[1::2]]
            host.run("sh", "-euc", connection(name), stdin="".join(put))
            found = scene.timed(REPEATS, {
                "ours": ["validator-supervisor", "start", "--explain", MANY],
                "network": ["sh", "-euc", network(name, files[1::2])],
                # What every such command needs, whatever it does.
                "job": ["systemd-run", "-q", "--pipe", "--wait", "--collect",
                        "-p", "User=validator-state", "/usr/bin/python3", "-c", "pass"],
            }, seconds=300)  # fmt: skip
        finally:
            host.run("sh", "-c", f"rm -rf /root/made /var/lib/validator-state/{MANY}")
            node.run("sh", "-c", f"rm -f {THERE}/{MANY}.*")
    ours, floor = Sample.median(found["ours"]), Sample.median(found["network"])
    what = (f"start --explain with {ARCHIVES} local and {ARCHIVES} remote archives of {KEYS} keys, "
            "wall time")  # fmt: skip
    job = Sample.median(found["job"])
    note = f"an empty job as validator-state takes {job.value:.3g} s"
    peer = Peer("sftp: ls, get", floor)
    return [Row("decision", what, "s", ours, peer, AtMostOver(2), note)]


def connection(name: str) -> str:
    """Return the sftp command that connects to a node as our jobs do."""
    key = f"/etc/credstore/validator-tunnel.{name}"
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    account = f"validator-backup@{name}.example"
    return f"sftp -q -b - -i {key} {options} -o LogLevel=ERROR {account}"


def network(name: str, files: list[str]) -> str:
    """Return a line that asks every node at once what it has, and then one for files."""
    asks = " & ".join(f"echo 'ls -1 {BACKUPS}' | {connection(node)} >/dev/null" for node in NODES)
    gets = "\\n".join(f"get {BACKUPS}/{file} @NEW@" for file in files)
    return f"{asks} & wait; printf '{gets}\\n' | {connection(name)} >/dev/null"


def restart(scene: Scene) -> list[Row]:
    """Measure a start on the host and in the boot of the last one, until the client runs."""
    # A transient one is gone once it is stopped. As long after a crash as ours.
    path = f"/run/systemd/system/{PLAIN}"
    again = f"Restart=always\nRestartSec={scene.host.property(UNIT, 'RestartUSec')}\n"
    scene.host.write(path, f"[Service]\nExecStart=/usr/bin/sleep infinity\n{again}")
    scene.host.systemctl("daemon-reload")
    try:
        found = scene.inside("state.py", "restart", FEW, json.dumps({
            "start": [UNIT, UNIT, STATE], "plain start": [PLAIN, PLAIN],
            "crash": [UNIT], "plain crash": [PLAIN],
        }), seconds=600)  # fmt: skip
        ask = f"echo 'ls -1 {BACKUPS}' | {connection(NODES[0])} >/dev/null"
        once = Sample.median(scene.timed(REPEATS, {"once": ["sh", "-euc", ask]})["once"])
    finally:
        scene.host.systemctl("stop", PLAIN, check=False)
        scene.host.run("rm", path)
        scene.host.systemctl("daemon-reload")
    what = "until the client runs (it sleeps; its database is the stand-in's), after "
    note = f"one connection by sftp takes {once.value:.3g} s"
    return [
        Row(f"restart/{name}", f"{how} {what}{of}", "s", Sample.median(found[name]),
            Peer("plain unit", Sample.median(found[f"plain {name}"])), AtMostOver(1), note)
        for name, how, of in (
            ("start", "systemctl start", "a stop of it and of its state"),
            ("crash", "a restart by systemd", "the client was killed"),
        )
    ]  # fmt: skip
