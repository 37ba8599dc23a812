"""Tunnels on booted machines, with real sshd on both ends."""

import re
import time
from collections.abc import Callable

import pytest
from lab.machine import Machine
from lab.world import World

UNIT = "validator-tunnel@helsinki.service"
# These tests make the tunnel fail: what it and systemd say of that is read by each test.
ANNOUNCED = [
    r" (tunnel|host-key|ssh)\[\d+\]: ",
    r"systemd\[1\]: (validator-tunnel@helsinki|Failed to start validator-tunnel@helsinki)",
    r"watch\[\d+\]: http://127\.0\.0\.1:13000",
]


@pytest.fixture(autouse=True)
def tunnel(world: World) -> None:
    """Each test starts with helsinki configured, authorised and connected."""
    if not world.config["nodes"]:
        world.host.write("/root/echo.py", ECHO)
        world.node(
            "helsinki",
            beacon={"dev": "127.0.0.1:9596"},
            forwards=[
                {"local": "metrics.sock", "remote": "127.0.0.1:9100"},
                {"local": 5064, "remote": "localhost:5064", "reverse": True},
            ],
        )
    world.nodes["helsinki"].write("/root/echo.py", ECHO)
    world.apply()
    world.authorize("helsinki")
    world.host.systemctl("start", "validator.target")
    world.host.systemctl("reset-failed", UNIT, check=False)
    world.host.systemctl("start", UNIT, check=False)
    world.host.wait_for_unit(UNIT)


ECHO = """
import socket, sys, threading
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    threading.Thread(target=lambda c=connection: (c.sendall(b"echo " + c.recv(99)), c.close())).start()
"""
ASK = """
import socket, sys
where = sys.argv[1]
family = socket.AF_UNIX if where.startswith("/") else socket.AF_INET
s = socket.socket(family); s.settimeout(5)
s.connect(where if family == socket.AF_UNIX else ("127.0.0.1", int(where)))
s.sendall(b"hello"); print(s.recv(99).decode())
"""


def ask(machine: Machine, where: str) -> str:
    done = machine.run("python3", "-c", ASK, where, check=False)
    return str(done.stdout.strip())


def echoes(machine: Machine, where: str) -> Callable[[], bool]:
    return lambda: ask(machine, where) == "echo hello"


def serve(machine: Machine, port: int) -> None:
    machine.run("systemctl", "stop", f"echo-{port}.service", check=False)
    machine.run(
        "systemd-run",
        "-q",
        f"--unit=echo-{port}",
        "--collect",
        "python3",
        "/root/echo.py",
        str(port),
    )


def test_ready_means_that_every_forward_stands(world: World) -> None:
    host, node = world.host, world.nodes["helsinki"]
    assert host.property(UNIT, "Type") == "notify"
    for port in (9596, 9100):
        serve(node, port)
    serve(host, 5064)
    host.systemctl("restart", UNIT)  # returns when READY
    # The servers may still be starting; the forwards may not.
    for where in ("13000", "/run/validator-tunnel/helsinki/metrics.sock"):
        host.wait(f"an echo through {where}", echoes(host, where))
    node.wait("an echo through the reverse forward", lambda: ask(node, "5064") == "echo hello")
    status = host.property(UNIT, "StatusText")
    assert re.fullmatch(
        r"connected to helsinki\.example port 22 since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, 3 forwards",
        status,
    )


def test_no_python_is_left_running(world: World) -> None:
    host = world.host
    group = host.property(UNIT, "ControlGroup")
    pids = host.wait(
        "one process", lambda: host.output("cat", f"/sys/fs/cgroup{group}/cgroup.procs").split()
    )
    host.wait("only ssh", lambda: host.output(
        "cat", f"/sys/fs/cgroup{group}/cgroup.procs").split() == [host.property(UNIT, "MainPID")])  # fmt: skip
    assert host.output("cat", f"/proc/{pids[0]}/comm") == "ssh"


def test_killed_ssh_is_back_at_once_over_its_stale_sockets(world: World) -> None:
    host = world.host
    before = host.property(UNIT, "MainPID")
    host.run("kill", "-KILL", before)
    host.wait("another ssh", lambda: host.property(UNIT, "MainPID") not in (before, "0"))
    host.wait_for_unit(UNIT, seconds=5)


def test_a_silent_cut_is_noticed_and_healed(world: World) -> None:
    host = world.host
    world.network.cut("helsinki")
    try:
        started = time.monotonic()
        host.wait(
            "the cut to be noticed",
            lambda: host.property(UNIT, "ActiveState") != "active",
            seconds=20,
        )
        assert time.monotonic() - started < 17  # twice five seconds, and what was under way
    finally:
        world.network.heal("helsinki")
    # The node gives the port of the reverse forward back after 15 s at most.
    host.wait_for_unit(UNIT, seconds=40)


def test_changed_host_key_is_a_state_of_its_own_and_tried_again_later(world: World) -> None:
    host, node = world.host, world.nodes["helsinki"]
    node.run("sh", "-c", "cp -a /etc/ssh /root/ssh && rm /etc/ssh/ssh_host_ed25519_key* && "
             "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key && "
             "systemctl restart ssh")  # fmt: skip
    try:
        host.run("systemctl", "restart", UNIT, check=False)
        host.wait_for_unit(UNIT, "failed")
        assert host.property(UNIT, "ExecMainStatus") == "79"
        offered = world.host_key("helsinki").split()[1]
        said = host.journal(f"--unit={UNIT}", "--lines=30")
        assert offered in said, "the operator is shown the key that was offered"
        assert "host key of helsinki.example has changed" in host.property(UNIT, "StatusText")
        assert property_of(world, "TunnelState") == "host-key-changed"
        timer = "validator-tunnel@helsinki.timer"
        host.wait_for_unit(timer)
        left = host.property(timer, "NextElapseUSecMonotonic")
        assert left not in ("", "infinity")
        seconds = host.output("systemctl", "list-timers", timer, "--no-legend")
        assert re.search(r"4min|5min", seconds), seconds
        # An operator's stop also ends the next attempt.
        host.systemctl("stop", UNIT)
        host.wait_for_unit(timer, "inactive")
        # The timer itself: with a short time it tries again.
        host.systemctl("start", UNIT, check=False)
        host.wait_for_unit(UNIT, "failed")
    finally:
        node.run("sh", "-c", "rm -r /etc/ssh && mv /root/ssh /etc/ssh && systemctl restart ssh")
    drop_in = f"/run/systemd/system/{timer}.d/short.conf"
    host.write(drop_in, "[Timer]\nOnActiveSec=\nOnActiveSec=1s\n")
    host.systemctl("daemon-reload")
    host.systemctl("restart", timer)
    host.wait_for_unit(UNIT)
    host.run("rm", drop_in)
    host.systemctl("daemon-reload")


def property_of(world: World, name: str) -> str:
    line = world.host.output("busctl", "get-property", "org.validatorsupervisor1",
                             "/org/validatorsupervisor1/node/helsinki",
                             "org.validatorsupervisor1.Node", name)  # fmt: skip
    return line.split(" ", 1)[1].strip('"')


def change(world: World, **keys: object) -> None:
    world.config["nodes"]["helsinki"].update(keys)  # type: ignore[index]
    world.apply()


def test_first_use_pins_and_then_refuses_another_key(world: World) -> None:
    host = world.host
    pinned = world.config["nodes"]["helsinki"]["host_key"]  # type: ignore[index]
    stored = "/var/lib/validator-tunnel/helsinki/host-key"
    try:
        change(world, host_key="first-use")
        host.wait_for_unit(UNIT)
        host.wait("the pin", lambda: host.run("cat", stored, check=False).stdout.strip() == pinned)
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFp8y6WxWgrB+ketbe01+BLmApeKNE5s/gPggs1w2wEF"
        host.write(stored, other + "\n")
        host.run("systemctl", "restart", UNIT, check=False)
        host.wait_for_unit(UNIT, "failed")
        assert host.property(UNIT, "ExecMainStatus") == "79"
        host.write(stored, "")
        host.run("systemctl", "restart", UNIT, check=False)
        host.wait("a damaged pin to be refused",
                  lambda: "holds no host key" in host.property(UNIT, "StatusText"))  # fmt: skip
        host.run("rm", stored)
    finally:
        change(world, host_key=pinned)
    host.wait_for_unit(UNIT)


@pytest.mark.parametrize(
    ("keys", "said", "advice"),
    [
        ({"host": "nowhere.invalid"}, "Could not resolve hostname", "name server"),
        ({"port": 2022}, "Connection refused", "is sshd running"),
        ({"user": "nobody"}, "Permission denied", "authorize helsinki"),
        (
            {"forwards": [{"local": 5064, "remote": "localhost:5065", "reverse": True}]},
            "refuses the reverse forward localhost:5065",
            "authorize helsinki",
        ),
        (
            {"forwards": [{"local": 22222, "remote": "127.0.0.1:9100"}]},
            "cannot listen to port: 22222|Could not request local forwarding",
            "ss -ltnp",
        ),
    ],
    ids=["name", "port", "account", "refused-forward", "port-in-use"],
)
def test_what_is_wrong_and_what_to_do_is_said(
    world: World, keys: dict[str, object], said: str, advice: str
) -> None:
    before = dict(world.config["nodes"]["helsinki"])  # type: ignore[index]
    serve(world.host, 22222)
    world.host.wait("the port to be taken", lambda: ask(world.host, "22222") == "echo hello")
    try:
        change(world, **keys)

        def problem() -> bool:
            (found,) = [p for p in world.status()["problems"]  # type: ignore[attr-defined]
                        if p["subject"] == "node helsinki"] or [{"problem": "", "advice": ""}]  # fmt: skip
            return bool(re.search(said, found["problem"])) and advice in found["advice"]

        world.host.wait(f"status to say {said}", problem, seconds=20)
        assert world.host.property(UNIT, "ActiveState") != "active"
    finally:
        world.config["nodes"]["helsinki"] = before  # type: ignore[index]
        world.apply()
    # Nothing gives up: it stands again as soon as it can.
    world.host.wait_for_unit(UNIT, seconds=40)


def test_missing_identity_is_said(world: World) -> None:
    host = world.host
    path = "/etc/credstore/validator-tunnel.helsinki"
    host.run("mv", path, "/root/identity")
    try:
        host.run("systemctl", "restart", UNIT, check=False)
        host.wait("status to say where the key belongs", lambda: any(
            path in p["problem"] and "ssh-keygen" in p["advice"]
            for p in world.status()["problems"]), seconds=10)  # type: ignore[attr-defined]  # fmt: skip
    finally:
        host.run("mv", "/root/identity", path)
    host.wait_for_unit(UNIT)


def test_node_down_at_boot_comes_up_later(world: World) -> None:
    host, node = world.host, world.nodes["helsinki"]
    node.systemctl("stop", "ssh.service", "ssh.socket", check=False)
    host.systemctl("stop", "validator.target")
    host.wait_for_unit(UNIT, "inactive")
    host.systemctl("start", "validator.target")
    host.wait("attempts", lambda: int(host.property(UNIT, "NRestarts")) > 2)
    node.systemctl("start", "ssh.service")
    host.wait_for_unit(UNIT)


def test_an_operators_stop_is_clean_and_lasts(world: World) -> None:
    host = world.host
    host.systemctl("stop", UNIT)
    assert host.property(UNIT, "ActiveState") == "inactive"
    assert host.property(UNIT, "Result") == "success"
    host.systemctl("daemon-reload")
    world.apply()
    assert host.property(UNIT, "ActiveState") == "inactive"


def test_beside_the_ancestors_layout(world: World) -> None:
    """An sshd on port 2222 with the ordinary account `somebody`, and our drop-in installed."""
    node = world.nodes["helsinki"]
    node.run("useradd", "--create-home", "--password", "*", "somebody")
    key = world.host.output("ssh-keygen", "-y", "-f", "/etc/credstore/validator-tunnel.helsinki")
    node.write("/home/somebody/.ssh/authorized_keys", key + "\n")
    node.run("chown", "-R", "somebody:", "/home/somebody/.ssh")
    node.run("systemd-run", "-q", "--unit=sshd-2222", "/usr/sbin/sshd", "-D", "-p", "2222")
    before = dict(world.config["nodes"]["helsinki"])  # type: ignore[index]
    try:
        change(world, port=2222, user="somebody")
        world.host.wait("connection on port 2222",
                        lambda: "port 2222 since" in world.host.property(UNIT, "StatusText"))  # fmt: skip
    finally:
        world.config["nodes"]["helsinki"] = before  # type: ignore[index]
        world.apply()
        node.systemctl("stop", "sshd-2222")
    world.host.wait_for_unit(UNIT)
