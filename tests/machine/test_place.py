"""Archives on nodes, on both releases: real sshd, the node's package, and hosts and nodes that lie."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab.world import World

BACKUPS = "/var/lib/validator-supervisor-node/supervisor-backups"
KEEPER = "validator-supervisor-node.service"
KEY = "/etc/credstore/validator-tunnel.helsinki"
# What the disk, the cut and the flood make the jobs say.
ANNOUNCED = [
    r"keep\[\d+\]: .* is not kept: (No space left on device|too much for one validator and day)",
    r"validator-supervisor-node\.service|Failed to start validator-supervisor-node",
    r"validator-tunnel@helsinki| (tunnel|ssh)\[\d+\]: ",
]
# As a job does it: the user, the credentials and a directory for temporary files.
DRIVER = """
import base64, json, os, sys
from pathlib import Path
from validator_supervisor import place
from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
asked = json.load(sys.stdin)
(where,) = [p for p in place.places(Applied.load(), Path(os.environ["CREDENTIALS_DIRECTORY"]),
                                    seconds=asked["seconds"]) if p.name == asked["place"]]
try:
    if asked["do"] == "put":
        where.put({name: base64.b64decode(data) for name, data in asked["files"].items()})
        answer = None
    elif asked["do"] == "fetch":
        found = where.fetch(asked["names"])
        answer = {name: base64.b64encode(data).decode() for name, data in found.items()}
    else:
        answer = where.names()
    print(json.dumps({"answer": answer}))
except SupervisorError as failure:
    print(json.dumps({"code": failure.code, "message": failure.message}))
"""
# sshd starts this in the place of sftp-server: it accepts everything and lies about it.
LIAR = """#!/usr/bin/python3
import os, struct, sys
mode = open("/etc/liar").read().strip()
take, give = sys.stdin.buffer, sys.stdout.buffer
def string(data): return struct.pack(">I", len(data)) + data
def send(kind, body):
    give.write(struct.pack(">IB", len(body) + 1, kind) + body); give.flush()
NAMES = [b"../../../etc/passwd", b"main.1." + b"0" * 32 + b".age\\nmain.2." + b"1" * 32 + b".age",
         b"/etc/passwd", b"..", b"main.1." + b"0" * 32 + b'.age"', b"\\x1b[2Jmain.9.x.age",
         b"main.7." + b"a" * 32 + b".age"]
listed = 0
while head := take.read(5):
    size, kind = struct.unpack(">IB", head)
    body = take.read(size - 1)
    if kind == 1:
        send(2, struct.pack(">I", 3)); continue
    number, rest = body[:4], body[4:]
    if mode == "babble":
        while True: os.write(2, b"x" * 65536)
    if mode == "silent":
        continue
    if kind == 16:  # realpath
        send(104, number + struct.pack(">I", 1) + string(b"/b") + string(b"/b") + struct.pack(">I", 0))
    elif kind in (7, 8, 17):  # stat: a directory where one is expected
        path = rest[4:]
        send(105, number + struct.pack(">II", 4, 0o100644 if path.endswith(b".age") else 0o40755))
    elif kind in (11, 3):
        send(102, number + string(b"h"))
    elif kind == 12:  # readdir
        listed += 1
        if mode == "names" and listed > 1:
            send(101, number + struct.pack(">I", 1) + string(b"") + string(b"")); continue
        names = NAMES if mode == "names" else [b"main.%d.%032x.age" % (i, listed) for i in range(500)]
        send(104, number + struct.pack(">I", len(names)) + b"".join(
            string(n) + string(n) + struct.pack(">II", 4, 0o100644) for n in names))
    elif kind == 5:  # read: there is always more
        send(103, number + string(b"y" * min(32768, struct.unpack(">I", rest[-4:])[0])))
    else:
        send(101, number + struct.pack(">I", 0) + string(b"") + string(b""))
"""


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A validator host with two nodes: helsinki, with our package, and a disk of its own."""
    with World.booted(request.param, ["helsinki"]) as booted:
        booted.node("helsinki", backups="supervisor-backups")
        nodes = booted.config["nodes"]
        assert isinstance(nodes, dict)
        nodes["disk"] = {"backups": "/srv/backups"}
        booted.apply()
        booted.authorize("helsinki")
        booted.host.write("/opt/driver.py", DRIVER)
        yield booted
        problems = {m.name: m.problems(ANNOUNCED) for m in [booted.host, *booted.nodes.values()]}
        assert not any(problems.values()), problems


@pytest.fixture(autouse=True)
def empty(world: World) -> None:
    """Each test starts with an empty directory on the node."""
    node = world.nodes["helsinki"]
    node.run("sh", "-c", f"find {BACKUPS} -mindepth 1 -delete")
    node.systemctl("start", KEEPER)


def archive(data: bytes, sequence: int, kind: str = "age", validator: str = "main") -> str:
    return f"{validator}.{sequence}.{hashlib.sha256(data).hexdigest()[:32]}.{kind}"


def ask(world: World, do: str, place: str = "helsinki", seconds: float = 20, **words: Any) -> Any:
    """Have validator-state do something with a place; what it answers."""
    asked = json.dumps({"do": do, "place": place, "seconds": seconds, **words})
    done = world.host.run(
        "systemd-run", "-q", "--pipe", "--wait", "--collect", "-p", "User=validator-state",
        "-p", "LoadCredential=ssh.helsinki:validator-tunnel.helsinki", "-p", "PrivateTmp=yes",
        "-p", "ProtectSystem=strict", "-p", "ReadWritePaths=-/srv/backups", "-p", "NoNewPrivileges=yes",
        "-p", "CapabilityBoundingSet=", "-p", "MemoryMax=1G", "-p", "SystemCallFilter=@system-service",
        "/usr/bin/python3", "/opt/driver.py", stdin=asked, seconds=180,
    )  # fmt: skip
    return json.loads(done.stdout)


def put(world: World, files: dict[str, bytes], **words: Any) -> Any:
    coded = {name: base64.b64encode(data).decode() for name, data in files.items()}
    return ask(world, "put", files=coded, **words)


def fetch(world: World, *names: str, **words: Any) -> dict[str, bytes]:
    answer = ask(world, "fetch", names=names, **words)
    assert "answer" in answer, answer
    return {name: base64.b64decode(data) for name, data in answer["answer"].items()}


def names(world: World, **words: Any) -> list[str]:
    answer = ask(world, "names", **words)
    assert "answer" in answer, answer
    return sorted(answer["answer"])


def listing(world: World) -> list[str]:
    # What goes away meanwhile makes it fail.
    argv = ["find", BACKUPS, "-mindepth", "1", "-printf", "%f %u %g %m\n"]
    return sorted(world.nodes["helsinki"].run(*argv, check=False).stdout.splitlines())


def kept(world: World, name: str) -> bool:
    return f"{name} root validator-backup 440" in listing(world)


def sftp(world: World, batch: str) -> tuple[int, str]:
    """Do what a compromised host can: any sftp commands with its key; (status, what was said)."""
    done = world.host.run(
        "sftp", "-b", "-", "-i", KEY, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "validator-backup@helsinki.example:supervisor-backups/",
        stdin=batch, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_put_names_fetch(world: World) -> None:
    node = world.nodes["helsinki"]
    one, two = b"one" * 1000, b"two"
    first, second = archive(one, 1), archive(two, 2, "claim")
    assert names(world) == []
    assert put(world, {first: one, second: two}) == {"answer": None}
    assert names(world) == sorted([first, second])
    absent = archive(b"?", 3)
    assert fetch(world, first, absent, second) == {first: one, second: two}
    for name in (first, second):
        node.wait(f"{name} kept", lambda name=name: kept(world, name))  # type: ignore[misc]
    # Again: there already, and nothing is written.
    before = node.output("stat", "-c", "%i %Y", f"{BACKUPS}/{first}")
    assert put(world, {first: b"another", second: two}) == {"answer": None}
    assert node.output("stat", "-c", "%i %Y", f"{BACKUPS}/{first}") == before
    assert fetch(world, first) == {first: one}
    assert [line for line in listing(world) if ".part" in line] == []
    # Every upload on its own, right after another: each is kept without waiting for the timer.
    for number in range(10, 16):
        data = b"%d" % number
        assert put(world, {archive(data, number): data}) == {"answer": None}
    for number in range(10, 16):
        name = archive(b"%d" % number, number)
        node.wait(f"{name} kept", lambda name=name: kept(world, name))  # type: ignore[misc]


def test_compromised_host(world: World) -> None:
    node = world.nodes["helsinki"]
    data = b"good" * 100
    name = archive(data, 1)
    put(world, {name: data})
    node.wait("kept", lambda: kept(world, name))
    refused = (
        f"rm {name}", f"rename {name} x", f"rename -l {name} x", f"put /etc/hostname {name}",
        f"put /etc/hostname y\nrename y {name}", f"put /etc/hostname y\nrename -l y {name}",
        f"chmod 777 {name}", f"reput /etc/passwd {name}", f"ln {name} z", f"ln -s {name} z",
        "mkdir d", "rmdir ../supervisor-backups", "rename ../supervisor-backups ../other",
        "put /etc/hostname /x", "chmod 777 .", f"chown 0 {name}", f"cp {name} z",
    )  # fmt: skip
    for batch in refused:
        status, said = sftp(world, batch + "\n")
        assert status == 1, (batch, said)
        assert kept(world, name), batch
    assert fetch(world, name) == {name: data}
    # What is not kept yet it can write over, and not remove.
    assert sftp(world, "put /etc/hostname y\n")[0] == 0
    assert sftp(world, "rm y\n")[0] == 1
    found = {line.split()[0] for line in listing(world)}
    assert found == {name, "y"}
    wrong = archive(b"?", 5)
    assert sftp(world, f"put /etc/hostname {wrong}\nput /etc/hostname .{wrong}.part\n")[0] == 0
    assert wrong in names(world)
    node.systemctl("start", KEEPER)
    assert not kept(world, wrong)


def test_old_litter_goes(world: World) -> None:
    node = world.nodes["helsinki"]
    data = b"x"
    name = archive(data, 1)
    put(world, {name: data})
    node.wait("kept", lambda: kept(world, name))
    assert sftp(world, "put /etc/hostname y\n")[0] == 0
    node.run("python3", "-c", TOMORROW)
    assert [line.split()[0] for line in listing(world)] == [name]


# The keeper, a day and a second later.
TOMORROW = """
import importlib.util, time
from importlib.machinery import SourceFileLoader
loader = SourceFileLoader("keep", "/usr/lib/validator-supervisor-node/keep")
spec = importlib.util.spec_from_loader("keep", loader)
keep = importlib.util.module_from_spec(spec)
import sys; sys.modules["keep"] = keep; sys.dont_write_bytecode = True
loader.exec_module(keep)
keep.round_of(keep.Directory(keep.BACKUPS), keep.setting(), time.time() + 86401)
"""


def test_interrupted_uploads(world: World) -> None:
    host, node = world.host, world.nodes["helsinki"]
    data = b"\0" * (40 << 20)
    name = archive(data, 1)
    host.run("sh", "-c", "head -c 40M /dev/zero >/srv/large")
    argv = ["sftp", "-q", "-l", "8000", "-b", "/srv/batch", "-i", KEY, "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "validator-backup@helsinki.example"]  # fmt: skip
    host.write("/srv/batch", f"cd supervisor-backups\nput /srv/large .{name}.part\n")
    host.run("systemd-run", "-q", "--unit=upload", "--collect", *argv)
    node.wait("a part", lambda: any(".part" in line for line in listing(world)))
    host.run("systemctl", "kill", "--signal=KILL", "upload.service", check=False)
    assert names(world) == []
    # The same again replaces the part; it is never seen under its name before it is whole.
    small = b"small"
    assert put(world, {archive(small, 2): small}) == {"answer": None}
    assert names(world) == [archive(small, 2)]
    # Half an upload, and the node is gone.
    host.run("sh", "-c", f"sleep 0.3; exec {' '.join(argv)} & exit 0", check=False)
    world.network.cut("helsinki")
    started = time.monotonic()
    answer = put(world, {name: data}, seconds=15)
    assert answer["code"] == "Unreachable", answer
    assert time.monotonic() - started < 18
    world.network.heal("helsinki")
    assert put(world, {name: data}) == {"answer": None}
    node.wait("kept", lambda: kept(world, name))
    assert fetch(world, name) == {name: data}


def test_cut_in_the_middle(world: World) -> None:
    host, node = world.host, world.nodes["helsinki"]
    data = bytes(range(256)) * (240 << 10)  # 60 MiB
    name = archive(data, 3)
    asked = json.dumps({"do": "put", "place": "helsinki", "seconds": 12,
                        "files": {name: base64.b64encode(data).decode()}})  # fmt: skip
    host.write("/srv/asked", asked)
    # A slow node: the upload takes seconds.
    node.run("systemd-run", "-q", "--unit=slow", "sh", "-c",
             "while :; do pkill -STOP -x -u validator-backup sshd sshd-session; sleep 0.05;"
             " pkill -CONT -u validator-backup; sleep 0.01; done")  # fmt: skip
    host.run("sh", "-c", "systemd-run -q --unit=put --collect -p User=validator-state"
             " -p LoadCredential=ssh.helsinki:validator-tunnel.helsinki -p StandardInput=file:/srv/asked"
             " -p StandardOutput=file:/srv/answer /usr/bin/python3 /opt/driver.py")  # fmt: skip
    node.wait("a part", lambda: any(".part" in line for line in listing(world)))
    world.network.cut("helsinki")
    host.wait("the end", lambda: host.run("systemctl", "is-active", "put", check=False).returncode)
    world.network.heal("helsinki")
    node.systemctl("stop", "slow.service")
    node.run("pkill", "-CONT", "-u", "validator-backup", check=False)
    assert json.loads(host.output("cat", "/srv/answer"))["code"] == "Unreachable"
    assert host.run("pgrep", "-u", "validator-state", check=False).stdout == ""
    assert not kept(world, name)
    assert put(world, {name: data}) == {"answer": None}
    node.wait("kept", lambda: kept(world, name))


def test_full_disk(world: World) -> None:
    node = world.nodes["helsinki"]
    node.run(
        "mount", "-t", "tmpfs", "-o", "size=2m,mode=3770,gid=validator-backup", "full", BACKUPS
    )
    try:
        node.systemctl("restart", "validator-supervisor-node.path")
        small, large = b"s" * 1000, bytes(3 << 20)
        assert put(world, {archive(small, 1): small}) == {"answer": None}
        node.wait("kept", lambda: kept(world, archive(small, 1)))
        answer = put(world, {archive(large, 2): large})
        assert answer["code"] == "Unreachable", answer
        assert names(world) == [archive(small, 1)]
        assert fetch(world, archive(small, 1)) == {archive(small, 1): small}
    finally:
        node.run("umount", "-l", BACKUPS)
        node.systemctl("restart", "validator-supervisor-node.path")
        node.systemctl("reset-failed", KEEPER, check=False)


def test_host_key_and_identity(world: World) -> None:
    host, nodes = world.host, world.config["nodes"]
    assert isinstance(nodes, dict)
    right = nodes["helsinki"]["host_key"]
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/other")
    wrong = " ".join(host.output("cat", "/root/other.pub").split()[:2])
    try:
        nodes["helsinki"]["host_key"] = wrong
        world.apply()
        answer = ask(world, "names")
        assert answer == {
            "code": "Unreachable",
            "message": "helsinki: it has shown another host key than the pinned one",
        }
        # Pinned by the tunnel, and only by it.
        host.systemctl("stop", "validator-tunnel@helsinki.service")
        host.run(
            "rm", "-rf", "/var/lib/validator-tunnel/helsinki", "/root/other", "/root/other.pub"
        )
        nodes["helsinki"]["host_key"] = "first-use"
        world.write_config()
        assert put(world, {archive(b"x", 1): b"x"})["code"] == "Unreachable"
        world.apply()
        host.run("rm", "-rf", "/var/lib/validator-tunnel/helsinki")
        host.systemctl("stop", "validator-tunnel@helsinki.service")
        assert "not connected to yet" in ask(world, "names")["message"]
        assert host.run("test", "-e", "/var/lib/validator-tunnel/helsinki", check=False).returncode
        # A first attempt may fail while the node still has the forwards of the one before.
        host.systemctl("start", "--no-block", "validator-tunnel@helsinki.service")
        host.wait_for_unit("validator-tunnel@helsinki.service")
        assert names(world) == []
    finally:
        nodes["helsinki"]["host_key"] = right
        world.apply()


def test_flood(world: World) -> None:
    node = world.nodes["helsinki"]
    good = b"good"
    name = archive(good, 1)
    put(world, {name: good})
    node.wait("kept", lambda: kept(world, name))
    node.run("validator-supervisor-node", "keep", "5")
    # Newer in name, and each what its name says: they come as somebody's who has the key.
    flood = {archive(b"%d" % i, 10**15 + i): b"%d" % i for i in range(300)}
    assert put(world, flood, seconds=60) == {"answer": None}
    node.wait("all kept", lambda: all(" root " in line for line in listing(world)), seconds=60)
    assert len(names(world)) == 301
    assert fetch(world, name) == {name: good}
    # A day later 5 are left, and the first of the day: the good one.
    node.run("python3", "-c", TOMORROW)
    left = names(world)
    assert name in left
    assert len(left) == 6
    node.run("rm", "/etc/validator-supervisor-node/keep")
    # More litter than there may be goes at once.
    litter = "".join(f"put /etc/hostname junk{i}\n" for i in range(1100))
    assert sftp(world, litter)[0] == 0
    node.wait("less", lambda: len(listing(world)) <= 1006, seconds=30)
    assert fetch(world, name) == {name: good}


@pytest.mark.parametrize("mode", ["names", "million", "endless", "silent", "babble"])
def test_malicious_node(world: World, mode: str) -> None:
    node = world.nodes["helsinki"]
    conf = "/etc/ssh/sshd_config.d/validator-supervisor-node.conf"
    good = node.output("cat", conf)
    node.write("/usr/local/bin/liar", LIAR, 0o755)
    node.write("/etc/liar", mode)
    changed = good.replace("ChrootDirectory /var/lib/validator-supervisor-node", "")
    changed = "\n".join("    ForceCommand /usr/local/bin/liar" if "internal-sftp" in line else line
                        for line in changed.split("\n"))  # fmt: skip
    try:
        node.write(conf, changed + "\n")
        node.run("usermod", "-s", "/bin/sh", "validator-backup")
        node.systemctl("reload", "ssh")
        time.sleep(0.5)
        one = "main.7." + "a" * 32 + ".age"
        started = time.monotonic()
        if mode == "names":
            # A name with a new line in it is two; of each, only what has our form is taken.
            others = [f"main.{i + 1}.{str(i) * 32}.age" for i in range(2)]
            assert names(world) == [*others, one]
        elif mode == "endless":
            # The files are to blame, until they take too long.
            answer = ask(world, "fetch", names=[one, one.replace(".7.", ".8.")], seconds=20)
            assert answer["code"] in ("Unreadable", "Unreachable"), answer
        else:
            answer = ask(world, "names", seconds=8)
            assert answer["code"] == "Unreachable", answer
        assert time.monotonic() - started < 25
        # Nothing is left behind.
        assert world.host.run("pgrep", "-u", "validator-state", check=False).stdout == ""
    finally:
        node.write(conf, good + "\n")
        node.run("usermod", "-s", "/usr/sbin/nologin", "validator-backup")
        node.systemctl("reload", "ssh")


def test_disk_of_this_host(world: World) -> None:
    data = b"data"
    name = archive(data, 1)
    answer = put(world, {name: data}, place="disk")
    assert answer["code"] == "Unreachable"
    assert "/srv/backups: No such file or directory" in answer["message"]
    world.host.run("install", "-d", "-o", "validator-state", "/srv/backups")
    assert put(world, {name: data}, place="disk") == {"answer": None}
    assert put(world, {name: b"other"}, place="disk") == {"answer": None}
    assert names(world, place="disk") == [name]
    assert fetch(world, name, archive(b"", 2), place="disk") == {name: data}
    assert world.host.output("ls", "-A", "/srv/backups") == name


def test_confinement(world: World) -> None:
    node = world.nodes["helsinki"]
    done = node.run("systemd-analyze", "security", "--threshold=20", KEEPER, check=False)
    assert done.returncode == 0, done.stdout[-400:]
    for unit in ("validator-supervisor-node.path", "validator-supervisor-node.timer"):
        assert node.property(unit, "ActiveState") == "active"
