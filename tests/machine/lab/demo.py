"""./demo: a validator host and two nodes, and a validator that attests."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab import host
from lab.__main__ import prepare
from lab.host import RUNS, LabError, run, say
from lab.machine import ENVIRONMENT, Machine
from lab.world import World

STATE = Path("/run/validator-supervisor-demo.json")
PREFIX = "vsdemo"
NODES = ("helsinki", "lisbon")
SUITE = os.environ.get("DEMO_SUITE", "trixie")
USAGE = "usage: ./demo [shell [host|helsinki|lisbon] | status | stop]"


def start() -> int:
    """Build, boot, configure, and show the status until the client has attested."""
    if STATE.exists():
        say("the demo is up already: ./demo status, ./demo shell, ./demo stop")
        return 0
    started = time.monotonic()
    prepare()
    world_of = World.booted(SUITE, NODES, PREFIX, client=True)
    stack = contextlib.ExitStack()
    try:
        say(f"booting a validator host and {len(NODES)} nodes (Debian {SUITE})")
        world = stack.enter_context(world_of)
        say("starting a development chain behind the nodes (Lodestar)")
        chain = stack.enter_context(world.chain(RUNS / "chain"))
        machines = {"host": world.host, **world.nodes}
        pids = {name: machine.leader for name, machine in machines.items()}
        STATE.write_text(json.dumps({"machines": pids, "chain": chain.process.pid}))
        configure(world)
        say("starting validator.target: new keys are watched for two epochs before they sign")
        world.host.systemctl("start", "validator.target")
        show_until_attested(world, started)
    except BaseException as failure:
        stack.close()
        STATE.unlink(missing_ok=True)
        if isinstance(failure, LabError):
            say(f"the demo cannot go on: {failure}")
            return 1
        raise
    say("the machines stay up: ./demo shell [host|helsinki|lisbon], ./demo status, ./demo stop")
    sys.stdout.flush()
    os._exit(0)  # what is on the stack is for ./demo stop


def configure(world: World) -> None:
    """Do what README.md's quick start does."""
    for name in NODES:
        world.node(name, beacon={"dev": world.chain_address})
    world.lodestar_validator("dev")
    say("configuration, in /etc/validator-supervisor/config.yaml:")
    world.apply()
    print(json.dumps(world.config, indent=2))
    for name in NODES:
        say(f"letting the host into {name}")
        world.authorize(name)
    say("making an identity, unlocking it, importing four keystores of the development chain")
    world.import_interop("dev")


def show_until_attested(world: World, started: float, seconds: float = 300) -> None:
    """Print the status every few seconds until the beacon node has seen every key attest."""
    end = time.monotonic() + seconds
    while True:
        print(world.host.output("validator-supervisor", "status"), "\n", flush=True)
        validators = world.status()["validators"]
        assert isinstance(validators, list)
        if any(v["AttestedEpoch"] for v in validators):
            say(f"attested {time.monotonic() - started:.0f} s after ./demo was typed")
            return
        if time.monotonic() > end:
            raise LabError("the validator did not attest")
        time.sleep(3)


def state() -> dict[str, dict[str, int]]:
    """Return what ``start`` has written."""
    if not STATE.exists():
        raise LabError("the demo is not up: ./demo")
    found = json.loads(STATE.read_text())
    assert isinstance(found, dict)
    return found


def enter(name: str, *argv: str) -> int:
    """Become a program in a machine."""
    machines = state()["machines"]
    if name not in machines:
        raise LabError(f"no machine {name}; there are {', '.join(machines)}")
    words = [
        "nsenter",
        "-t",
        str(machines[name]),
        "-a",
        *ENVIRONMENT,
        f"TERM={os.environ.get('TERM', 'dumb')}",
    ]
    sys.stdout.flush()
    os.execvp(words[0], [*words, *argv])


def stop() -> int:
    """Power everything off and remove it."""
    if not STATE.exists():
        say("the demo is not up")
        return 0
    found = json.loads(STATE.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(found["chain"], signal.SIGKILL)
    for pid in found["machines"].values():
        run(["kill", "-s", "RTMIN+4", str(pid)], check=False)
    end = time.monotonic() + 90
    while any(Path(f"/proc/{pid}").exists() for pid in found["machines"].values()):
        if time.monotonic() > end:
            for pid in found["machines"].values():
                run(["kill", "-KILL", str(pid)], check=False)
        time.sleep(0.2)
    clean()
    STATE.unlink()
    say("stopped")
    return 0


def clean() -> None:
    """Remove the mounts, folders, namespaces and control groups of the demo's machines."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = Path(line.split()[1])
        if target.is_relative_to(RUNS):
            run(["umount", target], check=False)
    shutil.rmtree(RUNS, ignore_errors=True)
    for name in ("host", *NODES):
        Machine.remove_group(f"{name}-{PREFIX}")
    for line in run(["ip", "netns", "list"], check=False).stdout.splitlines():
        if line.startswith(f"{PREFIX}-"):
            run(["ip", "netns", "delete", line.split()[0]], check=False)


def main(words: Sequence[str]) -> int:
    """Run one of the demo's commands."""
    try:
        if not words:
            host.need(host.PACKAGES)
            return start()
        if words[0] == "shell" and len(words) <= 2:
            return enter(words[1] if len(words) == 2 else "host", "bash", "-l")
        if words == ["status"]:
            return enter("host", "validator-supervisor", "status")
        if words == ["stop"]:
            return stop()
    except LabError as failure:
        say(str(failure))
        return 1
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
