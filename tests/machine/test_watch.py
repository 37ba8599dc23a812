"""The watch on both releases, among beacon nodes that do what no real one does."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from lab import images
from lab.machine import Machine
from lab.world import World

UNIT = "validator-watch.service"
URL = "http://127.0.0.1:{}"
PORTS = {"good": 7001, "garbage": 7002, "silent": 7003, "endless": 7004, "elsewhere": 7005,
         "behind": 7006, "headers": 7007, "mine": 7008}  # fmt: skip
NETWORKS = {"elsewhere": "hoodi", "mine": "devnet-7"}
PINS = "/var/lib/validator-watch/chains.json"
# The good one turns bad in the end, and the one of a network of its own becomes another.
ANNOUNCED = [
    r"watch\[\d+\]: http://127\.0\.0\.1:7001: HTTP status 503",
    r"watch\[\d+\]: http://127\.0\.0\.1:7008: (is on another chain: genesis_time|Connection refused)",
]
PROBLEMS = {
    "good": "",
    "garbage": "does not speak HTTP: SSH-2.0-OpenSSH_9.2",
    "silent": "timed out",
    "endless": "answer is too long",
    "elsewhere": "is on another chain: CONFIG_NAME is development, not hoodi",
    "behind": "head is 50 slots behind the clock",
    "headers": "got more than 100 headers",
    "mine": "",
}
# A stand-in: argv is its port and what it is.
NODE = """
import http.server, json, os, socket, sys, threading, time
port, kind = int(sys.argv[1]), sys.argv[2]
genesis = int(time.time()) - 100_000
SPEC = {"CONFIG_NAME": "development", "SECONDS_PER_SLOT": "1", "SLOTS_PER_EPOCH": "8"}

class Node(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        bad = kind == "good" and os.path.exists("/run/bad")
        head = int(time.time()) - genesis - (50 if kind == "behind" else 0)
        answers = {
            "/eth/v1/node/syncing": {"head_slot": str(head), "is_syncing": False},
            "/eth/v1/node/peer_count": {"connected": "7"},
            "/eth/v1/config/spec": SPEC,
            "/eth/v1/beacon/genesis": {
                "genesis_time": str(genesis), "genesis_validators_root": "0x" + "ab" * 32},
        }
        body = json.dumps({"data": answers[self.path]}).encode()
        self.send_response(503 if bad else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if bad:
            with open("/run/bad-answers", "a") as file:
                file.write("x")

def talk(connection):
    connection.recv(65536)
    try:
        if kind == "garbage":
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\\r\\n")
        elif kind == "silent":
            time.sleep(3600)
        elif kind == "headers":
            connection.sendall(b"HTTP/1.1 200 OK\\r\\n")
            while True:
                connection.sendall(b"a: b\\r\\n" * 1000)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
            while True:
                connection.sendall(b"[" * 65536)
    except OSError:
        pass
    connection.close()

if kind in ("good", "elsewhere", "behind", "mine"):
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Node).serve_forever()
server = socket.create_server(("127.0.0.1", port))
while True:
    threading.Thread(target=talk, args=[server.accept()[0]], daemon=True).start()
"""


def begin(world: World) -> None:
    """Start every node, and the watch."""
    host = world.host
    host.write("/root/node.py", NODE)
    for kind, port in PORTS.items():
        host.run("systemd-run", "-q", f"--unit=node-{kind}", "python3", "/root/node.py",
                 str(port), kind)  # fmt: skip
    world.config["nodes"] = {
        kind: {"beacon": {NETWORKS.get(kind, "dev"): f"127.0.0.1:{port}"}}
        for kind, port in PORTS.items()
    }
    world.apply()
    host.systemctl("start", "validator.target")
    host.wait_for_unit(UNIT)


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    """Both releases at once: most of the time is the watch's own pauses."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        booted = [stack.enter_context(World.booted(suite)) for suite in images.SUITES]
        list(pool.map(begin, booted))
        yield booted
        assert [world.host.problems(ANNOUNCED) for world in booted] == [[], []]


Readings = dict[str, dict[str, object]]


def readings(machine: Machine) -> Readings:
    stored = json.loads(machine.output("cat", "/run/validator-watch/results.json"))
    found = {reading["url"]: reading for reading in stored["beacons"]}
    return {kind: found[URL.format(port)] for kind, port in PORTS.items()}


def problems(machine: Machine) -> dict[str, object]:
    return {kind: reading["problem"] for kind, reading in readings(machine).items()}


def looked(machine: Machine) -> bool:
    return "not looked at yet" not in problems(machine).values()


def is_healthy(machine: Machine) -> bool:
    return bool(readings(machine)["good"]["healthy"])


def newer(machine: Machine, than: object) -> bool:
    return readings(machine)["good"]["head_slot"] != than


def test_each_node_has_its_own_problem(worlds: list[World]) -> None:
    for world in worlds:
        host = world.host
        host.wait("a look at each", partial(looked, host), 15)
        # A slot may begin between the answer and the look.
        said = {
            k: str(words).replace("head is 51 slots", "head is 50 slots")
            for k, words in problems(host).items()
        }
        assert said == PROBLEMS
        found = readings(host)
        assert [kind for kind in found if found[kind]["healthy"]] == ["good", "mine"]
        assert found["good"]["peers"] == 7
        nodes = {node["Name"]: node for node in world.status()["nodes"]}  # type: ignore[attr-defined]
        assert [kind for kind in PORTS if nodes[kind]["BeaconHealthy"]] == ["good", "mine"]
        assert nodes["good"]["BeaconLatencyUSec"] > 0
        status = host.property(UNIT, "StatusText")
        assert status.startswith("2 of 8 beacon nodes healthy")
        assert PROBLEMS["elsewhere"] in status


def test_the_good_one_is_looked_at_while_the_others_misbehave(worlds: list[World]) -> None:
    slots = [readings(world.host)["good"]["head_slot"] for world in worlds]
    for world, before in zip(worlds, slots, strict=True):
        world.host.wait("a newer reading", partial(newer, world.host, before), 15)
        good = readings(world.host)["good"]
        assert good["healthy"]
        assert 0 < int(str(good["latency_usec"])) < 1_000_000


def test_its_memory_and_threads_stay_bounded(worlds: list[World]) -> None:
    for world in worlds:
        pid = world.host.property(UNIT, "MainPID")
        status = dict(line.split(":\t", 1) for line in world.host.output(
            "cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)  # fmt: skip
        # The peak of all that it has read until now.
        assert int(status["VmHWM"].split()[0]) < 64 << 10
        assert int(status["Threads"]) <= 1 + 16
        assert len(world.host.output("ls", f"/proc/{pid}/fd").split()) < 40


def test_it_is_a_user_of_its_own_with_no_secret(worlds: list[World]) -> None:
    for world in worlds:
        host, pid = world.host, world.host.property(UNIT, "MainPID")
        assert host.output("stat", "-c", "%U", f"/proc/{pid}") == "validator-watch"
        assert "LoadCredential" not in host.systemctl("cat", UNIT)
        assert host.output("id", "-Gn", "validator-watch") == "validator-watch"
        assert "CapEff:\t0000000000000000" in host.output("cat", f"/proc/{pid}/status")


def fall(world: World) -> list[tuple[object, object, int]]:
    """Turn the good node bad; return what was known of it, and how often it was bad by then."""
    host = world.host
    host.write("/run/bad-answers", "")
    host.write("/run/bad", "")
    seen: list[tuple[object, object, int]] = []
    end = time.monotonic() + 45
    while not seen or seen[-1][0]:
        assert time.monotonic() < end, seen
        reading = readings(host)["good"]
        given = len(host.output("cat", "/run/bad-answers"))
        if not seen or seen[-1][1] != reading["failures"]:
            seen.append((reading["healthy"], reading["failures"], given))
        time.sleep(0.3)
    return seen


def test_three_failures_in_a_row_and_not_two(worlds: list[World]) -> None:
    with ThreadPoolExecutor() as pool:
        for seen in pool.map(fall, worlds):
            assert [(healthy, failures) for healthy, failures, _ in seen] == [
                (True, 0), (True, 1), (True, 2), (False, 3)]  # fmt: skip
            assert seen[2][2] == 2
            assert seen[3][2] >= 3
    for world in worlds:
        assert readings(world.host)["good"]["problem"] == "HTTP status 503"


def test_it_is_healthy_again_soon_after_it_comes_back(worlds: list[World]) -> None:
    for world in worlds:
        world.host.run("rm", "/run/bad")
        host = world.host
        host.wait("the good one", partial(is_healthy, host), 5)
        assert readings(host)["good"]["problem"] == ""
        said = host.journal(f"--unit={UNIT}")
        assert len(re.findall(r"127\.0\.0\.1:7001 is healthy", said)) == 2


def test_a_network_of_ones_own_is_pinned(worlds: list[World]) -> None:
    for world in worlds:
        host = world.host
        (pinned,) = json.loads(host.output("cat", PINS)).values()
        assert pinned["network"] == "development"
        assert host.output("stat", "-c", "%U %a", PINS) == "validator-watch 644"
        # It begins anew, with another genesis, and the watch does as well.
        host.systemctl("stop", "node-mine")
        host.run("systemd-run", "-q", "--unit=node-mine-again", "python3", "/root/node.py",
                 str(PORTS["mine"]), "mine")  # fmt: skip
        host.systemctl("restart", UNIT)
        host.wait("a look", partial(looked, host), 15)
        problem = str(problems(host)["mine"])
        assert problem.startswith("is on another chain: genesis_time is ")
        assert problem.endswith(f", not {pinned['genesis_time']}")
        # A person says that it is another one.
        host.run("rm", PINS)
        host.systemctl("restart", UNIT)
        host.wait("a look", partial(looked, host), 15)
        assert problems(host)["mine"] == ""
