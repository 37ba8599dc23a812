"""The stand-ins and the crash points themselves, on booted machines."""

from collections.abc import Iterator

import pytest
from lab import crash, images, standin
from lab.client import PORT
from lab.crash import Point
from lab.keystores import PASSWORD, many
from lab.machine import Machine
from lab.standin import Beacon

DATA = "/var/lib/client"
UNIT = "standin-client.service"
# Slots, of a second each: long enough to be killed and started again in one epoch.
EPOCH = 12


@pytest.fixture(scope="module", params=images.SUITES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    layers = images.installed(request.param, "host", ["strace"])
    with Machine.boot(f"standin-{request.param}", layers) as booted:
        booted.run("ip", "link", "set", "lo", "up")
        standin.install(booted)
        yield booted


def start(machine: Machine, url: str, seed: str) -> None:
    words = standin.words(DATA, ["http://127.0.0.1:1", url])
    machine.run("systemd-run", "-q", f"--unit={UNIT}", "--collect",
                f"--setenv=STANDIN_SEED={seed}", "--setenv=STANDIN_EAGER=1", *words)  # fmt: skip


def remove_locks(machine: Machine) -> None:
    machine.run("sh", "-c", f"rm {DATA}/keystores/*/*.lock")


def test_client_and_beacon_node_and_what_a_lost_database_costs(machine: Machine) -> None:
    keys = many(4)
    standin.write_keys(machine, DATA, keys, PASSWORD)
    beacon = Beacon.in_machine(machine, PORT, "--slots-per-epoch", str(EPOCH))
    start(machine, beacon.url, "one")
    for key in keys:
        beacon.wait_for(key)
    # Killed with its database kept: nothing happens.
    machine.systemctl("kill", "--signal=KILL", UNIT)
    machine.wait_for_unit(UNIT, "inactive")
    remove_locks(machine)
    last = max(int(r["target"]) for r in beacon.recorded() if r["kind"] == "attestation")
    start(machine, beacon.url, "two")
    for key in keys:
        beacon.wait_for(key, last)
    assert beacon.slashable() == []
    assert {r["seed"] for r in beacon.recorded()} == {"one", "two"}
    # What it has not synced is gone after a cut, early in an epoch.
    last = max(int(r["target"]) for r in beacon.recorded() if r["kind"] == "attestation")
    beacon.wait_for(after=last)
    machine.systemctl("kill", "--signal=KILL", UNIT)
    machine.wait_for_unit(UNIT, "inactive")
    remove_locks(machine)
    assert standin.forget(machine, f"{DATA}/validator-db", 60) > 0
    start(machine, beacon.url, "three")
    machine.wait(
        "double votes", lambda: {"double vote"} <= {pair[0] for pair in beacon.slashable()}
    )
    machine.systemctl("stop", UNIT)
    assert machine.run("sh", "-c", f"ls {DATA}/keystores/*/*.lock", check=False).returncode != 0
    # The beacon node keeps its memory.
    recorded = beacon.recorded()
    machine.systemctl("stop", Beacon.unit())
    assert Beacon.in_machine(machine).recorded() == recorded
    machine.systemctl("stop", Beacon.unit())


def test_a_machine_that_was_cut_off_boots_again_with_its_disk(machine: Machine) -> None:
    machine.write("/var/lib/kept", "text")
    machine.write("/run/lost", "text")
    files = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")
    before = [machine.output("cat", file) for file in files]
    machine.cut()
    machine.boot_again()
    after = [machine.output("cat", file) for file in files]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert machine.output("cat", "/var/lib/kept") == "text"
    assert machine.run("cat", "/run/lost", check=False).returncode != 0


PROGRAM = """\
#!/usr/bin/python3
import os, sys
folder = os.environ["STATE_DIRECTORY"]
for name in ("a", "b"):
    with open(f"{folder}/.{name}.new", "w") as file:
        file.write("text")
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{folder}/.{name}.new", f"{folder}/{name}")
os.unlink(f"{folder}/a")
"""
ONESHOT = """\
[Service]
CapabilityBoundingSet=
DynamicUser=yes
ExecStart=-/usr/local/bin/writes %i
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateUsers=yes
ProtectProc=invisible
ProtectSystem=strict
StateDirectory=writes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
Type=oneshot
UMask=0077
"""
POINTS = ["fsync 1", "rename 1", "fsync 2", "rename 2", "unlink 1"]
LEFT = [".a.new", ".a.new", ".b.new a", ".b.new a", "a b"]


def test_every_crash_point_of_a_unit(machine: Machine) -> None:
    machine.write("/usr/local/bin/writes", PROGRAM, 0o755)
    machine.write("/run/systemd/system/writes@.service", ONESHOT)
    unit, folder = "writes@x.service", "/var/lib/private/writes"

    def names() -> str:
        return machine.output("ls", "-A", folder).replace("\n", " ")

    with crash.traced(machine, unit) as trace:
        crashes = trace.crashes(
            lambda: machine.systemctl("start", unit, check=False),
            lambda: machine.run("rm", "-rf", folder),
        )
        assert [(str(point), names()) for point in crashes] == list(zip(POINTS, LEFT, strict=True))
        # The next start is not struck again.
        machine.systemctl("start", unit)
        assert names() == "b"
        trace.arm(Point("rename", 2), "error=ENOSPC")
        machine.systemctl("start", unit, check=False)
        assert "INJECTED" in trace.text()
        assert names() == ".b.new a b"
    assert "strace" not in machine.systemctl("cat", unit)
    assert "zz-crash" not in machine.systemctl("cat", unit)


def test_every_crash_point_of_a_command(machine: Machine) -> None:
    machine.write("/usr/local/bin/writes", PROGRAM, 0o755)
    trace = crash.Trace(machine, "command", ["rename", "fsync"])
    crashes = trace.crashes(
        lambda: trace.run("env", "STATE_DIRECTORY=/tmp", "/usr/local/bin/writes")
    )
    assert [str(point) for point in crashes] == POINTS[:4]
