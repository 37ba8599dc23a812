"""Slashed keys on both releases: what halts, what does not, and what a compromised watch can do."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from lab import images, standin
from lab.keystores import many
from lab.machine import Machine
from lab.standin import Beacon, beacon
from lab.world import World

WATCH, PATH, HALT = "validator-watch.service", "validator-halt.path", "validator-halt.service"
LATCHES = "/var/lib/validator-supervisor/halted"
REQUESTS = "/run/validator-watch/halt"
RECORD = "/var/lib/validator-watch/slashed.json"
PORTS = {"near": 7001, "far": 7002}
# Slots of a second.
EPOCH = 8
OBJECT = "/org/validatorsupervisor1/validator/main"
# As in lab/signing.py: with such epochs, heads are old after the usual ten seconds.
EAGER = "s/^HEALTHY_SECONDS, .*/HEALTHY_SECONDS, UNHEALTHY_SECONDS = 2, 1.5/"
CODE = "/usr/lib/python3/dist-packages/validator_supervisor/watch.py"
ANNOUNCED = [
    r"(main|other) is halted|is slashed|are no request of the watch|Assertion failed",
    r"Main process exited|Failed with result|Failed to start|restore: |killed: once more",
    # The stand-ins go down with the machine.
    r"http://127\.0\.0\.1:700\d|(liveness|slashing|duties) of (main|other)",
    r"no healthy beacon node|cannot be read|the clock",
]
GENESIS = beacon.GENESIS


class Slashing:
    """A host with two validators, and two beacon nodes that a test has say what it wants."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.host
        self.beacons: dict[str, Beacon] = {}
        self.keys = list(many(8))

    def prepare(self) -> None:
        """Configure all of it, and start it."""
        world, host = self.world, self.host
        host.run("mkdir", "-p", "/var/log/journal")
        host.systemctl("restart", "systemd-journald")
        host.run("sed", "-i", EAGER, CODE)
        self.start_beacons()
        world.config["nodes"] = {
            name: {"beacon": {"dev": f"127.0.0.1:{port}"}} for name, port in PORTS.items()
        }
        for name in ("main", "other"):
            # Not before they have keys.
            world.standin_validator(name, enabled=False)
        world.apply()
        host.systemctl("start", "validator.target")
        world.init_identity()
        world.unlock()
        texts = many(8)
        world.import_keystores("main", {key: texts[key] for key in self.keys[:7]})
        world.import_keystores("other", {key: texts[key] for key in self.keys[7:]})
        self.run("main", "other")

    def start_beacons(self) -> None:
        """Start both beacon nodes; what they were told before they say again."""
        standin.install(self.host)
        for name, port in PORTS.items():
            words = ("--slots-per-epoch", str(EPOCH))
            self.beacons[name] = Beacon.in_machine(self.host, port, *words)

    def run(self, *names: str) -> None:
        """Have validators run, and everything known of their keys."""
        for name in names:
            if not self.up(name):
                self.host.run(
                    "validator-supervisor", "start", name, "--no-watch", "--confirm", name
                )
        for name in names:
            self.host.wait_for_unit(unit(name), seconds=90)
        self.host.wait("a record", lambda: {"main", "other"} <= set(self.record()), 60)

    def reaches(self, how: str) -> None:
        """Say how far a slashing of ``main`` reaches."""
        validators = self.world.config["validators"]
        assert isinstance(validators, dict)
        validators["main"]["on_slashed"] = how
        self.world.apply()

    def slash(self, key: str, *nodes: str) -> None:
        """Have beacon nodes say that a key is slashed."""
        for node in nodes or PORTS:
            self.beacons[node].slash(key)

    def up(self, name: str) -> bool:
        """Whether a validator runs."""
        return self.host.property(unit(name), "ActiveState") == "active"

    def latch(self, name: str) -> str:
        """Return what holds a validator down."""
        return self.host.run("cat", f"{LATCHES}/{name}", check=False).stdout

    def halted(self, name: str) -> None:
        """Wait until a validator is latched and down, with its keys."""
        self.host.wait("a latch", partial(self.latch, name), 40)
        for one in (unit(name), f"validator-state@{name}.service"):
            self.host.wait(f"the end of {one}", lambda one=one: ended(self.host, one))  # type: ignore[misc]

    def record(self) -> dict[str, dict[str, bool]]:
        """Return what the watch has written down."""
        found: dict[str, dict[str, bool]] = json.loads(
            self.host.run("cat", RECORD, check=False).stdout or "{}"
        )
        return found

    def remembers(self, key: str) -> None:
        """Wait until a key is written down as slashed."""
        self.host.wait("the record", lambda: self.record()["main"].get(key))

    def resumes(self, *names: str) -> None:
        """Clear halts, start again, and see that nothing halts for two epochs."""
        for name in names:
            self.host.run("validator-supervisor", "resume", name, "--yes")
        self.run(*names)
        time.sleep(2 * EPOCH + 2)
        assert [name for name in names if not self.up(name) or self.latch(name)] == []

    def results(self) -> dict[str, dict[str, object]]:
        """Return what the watch says of slashed keys."""
        stored = json.loads(self.host.output("cat", "/run/validator-watch/results.json"))
        found: dict[str, dict[str, object]] = stored["slashed"]
        return found


def unit(name: str) -> str:
    return f"validator@{name}.service"


def ended(host: Machine, one: str) -> bool:
    return host.property(one, "ActiveState") in ("inactive", "failed")


def kill(host: Machine, one: str) -> None:
    """Kill a unit's process, and wait until another one is there."""
    before = host.property(one, "MainPID")
    host.run("kill", "-KILL", before)
    host.wait("another process", lambda: host.property(one, "MainPID") not in ("0", before))
    host.wait_for_unit(one)


@pytest.fixture(scope="module", params=images.SUITES)
def it(request: pytest.FixtureRequest) -> Iterator[Slashing]:
    with World.booted(request.param) as world:
        found = Slashing(world)
        found.prepare()
        yield found
        assert world.host.problems(ANNOUNCED) == []


def value(it: Slashing, name: str) -> int:
    words = it.host.output("busctl", "get-property", "org.validatorsupervisor1", OBJECT,
                           "org.validatorsupervisor1.Validator", name)  # fmt: skip
    return int(words.removeprefix("t "))


def test_duties_are_told(it: Slashing) -> None:
    host, key = it.host, it.keys[0]
    host.wait("duties", lambda: value(it, "DutiesKnownUntilUSec") > time.time() * 1e6)
    assert value(it, "NextProposalUSec") == value(it, "SyncCommitteeUntilUSec") == 0
    # It is asked about once in an epoch, in its second slot: here the one before.
    slot = ((int(time.time()) - GENESIS) // EPOCH + 2) * EPOCH + 2
    it.beacons["near"].propose(key, slot)
    it.beacons["near"].sync(key, slot // EPOCH)
    host.wait("a proposal", lambda: value(it, "NextProposalUSec") == (GENESIS + slot) * 1_000_000)
    until = value(it, "SyncCommitteeUntilUSec") // 1_000_000 - GENESIS
    # The end of a period of eight epochs.
    assert until % (8 * EPOCH) == 0
    assert slot < until + EPOCH <= slot + 9 * EPOCH
    assert f"main: proposes in slot {slot}" in host.property(WATCH, "StatusText")
    # It passes, which nobody has to say.
    time.sleep(max(0, GENESIS + slot + 1 - time.time()))
    host.wait("its end", lambda: value(it, "NextProposalUSec") == 0, 5)
    assert value(it, "DutiesKnownUntilUSec") > time.time() * 1e6


def test_one_lying_node_of_two_halts_nothing(it: Slashing) -> None:
    it.slash(it.keys[0], "near")
    said = f"{it.keys[0]} is slashed, says near alone"
    it.host.wait("a warning", lambda: said in it.host.journal(f"--unit={WATCH}"))
    time.sleep(2 * EPOCH + 2)
    assert it.host.journal(f"--unit={WATCH}").count(said) == 1
    assert it.up("main")
    assert it.results() == {}
    assert it.record()["main"][it.keys[0]] is False


def test_two_nodes_halt_it_over_restarts_and_a_boot(it: Slashing) -> None:
    host, key = it.host, it.keys[1]
    it.slash(key)
    it.halted("main")
    assert it.latch("main") == f"slashed\nkey {key} is slashed, say near, far\n"
    assert host.output("stat", "-c", "%U %a", f"{LATCHES}/main") == "root 644"
    it.remembers(key)
    assert it.results()["main"] == {"count": 1, "keys": [key]}
    assert host.output("ls", "-A", REQUESTS) == ""
    assert it.up("other")
    for _ in range(2):
        refused = host.run("systemctl", "start", unit("main"), check=False)
        assert refused.returncode != 0
        assert "Assertion failed" in refused.stderr
        host.systemctl("restart", WATCH)
    host.stop()
    host.boot_again()
    it.start_beacons()
    it.world.unlock()
    it.run("other")
    assert ended(host, unit("main"))
    assert it.latch("main").startswith("slashed\n")
    it.resumes("main")
    assert it.results()["main"] == {"count": 1, "keys": [key]}


def test_a_watch_that_dies_in_between_loses_nothing(it: Slashing) -> None:
    host, key = it.host, it.keys[2]
    # Nobody carries the request out.
    host.systemctl("mask", "--runtime", "--now", PATH)
    it.slash(key)
    host.wait_for_text(f"{REQUESTS}/main", 40)
    assert it.record()["main"][key] is False
    for _ in range(2):
        kill(host, WATCH)
    assert it.up("main")
    assert host.output("ls", REQUESTS) == "main"
    host.systemctl("unmask", "--runtime", PATH)
    host.systemctl("start", PATH)
    it.halted("main")
    it.remembers(key)
    it.resumes("main")


def test_it_reaches_the_whole_network(it: Slashing) -> None:
    pid = it.host.property(unit("main"), "MainPID")
    it.reaches("network")
    it.host.wait_for_unit(WATCH)
    assert it.host.property(unit("main"), "MainPID") == pid, "the watch alone has to know"
    it.slash(it.keys[3])
    for name in ("main", "other"):
        it.halted(name)
    assert it.latch("other") == f"slashed\nmain: key {it.keys[3]} is slashed, say near, far\n"
    it.remembers(it.keys[3])
    it.resumes("main", "other")
    it.reaches("validator")


def test_an_alert_halts_nothing(it: Slashing) -> None:
    it.reaches("alert")
    it.slash(it.keys[4])
    it.remembers(it.keys[4])
    assert it.keys[4] in str(it.results()["main"])
    errors = it.host.journal(f"--unit={WATCH}", "--priority=err")
    assert f"main: key {it.keys[4]} is slashed, say near, far" in errors
    time.sleep(EPOCH)
    assert it.up("main")
    assert it.up("other")
    it.reaches("validator")


def as_watch(it: Slashing, script: str) -> str:
    return it.host.as_user("validator-watch", "sh", "-c", script, check=False).stdout


def test_what_is_no_request_is_removed_and_followed_nowhere(it: Slashing) -> None:
    host = it.host
    host.wait_for_unit(WATCH)
    before = host.output("sha256sum", "/etc/shadow", "/etc/passwd")
    as_watch(
        it,
        f"""cd {REQUESTS}; umask 0
        ln -s /etc/shadow main; ln -s /nowhere other; mkfifo x; mkdir y
        ln {RECORD} z; printf 'slashed\\nx\\n' >unknown; cp unknown 'a b'; cp unknown Main
        printf 'slashed\\nx\\n' >"$(printf 'main\\n.')"; printf 'x' >"$(printf '\\377\\033[2J')"
        truncate -s 1T huge; ln -s {LATCHES} w""",
    )
    host.wait("an empty directory", lambda: host.output("ls", "-A", REQUESTS) == "", 60)
    for text in ("moved\\nx", "", "unknown\\nx", "slashedx\\n", "\\377"):
        as_watch(it, f"printf '{text}' >{REQUESTS}/.a; mv {REQUESTS}/.a {REQUESTS}/main")
        host.wait("an empty directory", lambda: host.output("ls", "-A", REQUESTS) == "", 60)
    assert [it.latch("main"), it.latch("other"), host.output("ls", "-A", LATCHES)] == ["", "", ""]
    assert host.output("sha256sum", "/etc/shadow", "/etc/passwd") == before
    assert it.up("main")
    assert it.up("other")
    assert host.property(PATH, "ActiveState") == "active"


def test_what_cannot_be_removed_stops_nothing_and_does_not_turn(it: Slashing) -> None:
    host = it.host
    as_watch(it, f"mkdir -p {REQUESTS}/stays/in")
    host.wait("a failure", lambda: "status=75" in host.journal(f"--unit={HALT}", "--boot"))
    began = int(host.property(HALT, "NRestarts"))
    time.sleep(11)
    assert 1 <= int(host.property(HALT, "NRestarts")) - began <= 4
    # Requests are heard beside it, all the same, of one that does not run as well.
    it.slash(it.keys[5])
    it.halted("main")
    assert host.property(PATH, "ActiveState") == "active"
    as_watch(it, f"rm -r {REQUESTS}/stays")
    host.wait_for_unit(HALT, "inactive")
    it.remembers(it.keys[5])
    it.resumes("main")


def test_one_that_does_not_run_is_latched(it: Slashing) -> None:
    host = it.host
    host.run("validator-supervisor", "stop", "other")
    host.wait_for_unit(unit("other"), "inactive")
    as_watch(
        it,
        f"printf 'slashed\\na \\033[31mreason\\n' >{REQUESTS}/.o; mv {REQUESTS}/.o {REQUESTS}/other",
    )
    host.wait("a latch", lambda: it.latch("other"))
    assert it.latch("other") == "slashed\na ?[31mreason\n"
    assert host.run("systemctl", "start", unit("other"), check=False).returncode != 0
    host.run("validator-supervisor", "resume", "other", "--yes")
    it.run("other")


@pytest.mark.parametrize(
    "argv",
    [
        ["systemctl", "stop", unit("main")],
        ["systemctl", "start", HALT],
        ["systemctl", "stop", PATH],
        ["sh", "-c", f"echo slashed >{LATCHES}/main"],
        ["sh", "-c", "echo slashed >/run/validator/main/halt"],
        ["busctl", "call", "org.validatorsupervisor1", OBJECT,
         "org.validatorsupervisor1.Validator", "Stop"],
        ["cat", "/var/lib/validator/main/validator-db/log"],
        ["ls", "/run/validator-state/main/keys"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_compromised_watch_can_do_nothing_else(it: Slashing, argv: Sequence[str]) -> None:
    done = it.host.as_user("validator-watch", *argv, check=False)
    assert done.returncode != 0, done.stdout
    assert it.up("main")
    assert it.latch("main") == ""


def test_a_watch_gone_mad_is_heard_and_has_nothing_else_done(it: Slashing) -> None:
    host = it.host
    host.wait_for_unit(HALT, "inactive")
    flood = f"while :; do echo x >{REQUESTS}/junk; sleep 0.01; done"
    host.run(
        "systemd-run", "-q", "--unit=mad", "--property=User=validator-watch", "sh", "-c", flood
    )
    try:
        began = host.output("date", "+%H:%M:%S")
        time.sleep(11)
        said = host.journal(f"--unit={HALT}", "--boot", f"--since={began}")
        assert 2 <= said.count("1 things in") <= 6
        it.slash(it.keys[6])
        it.halted("main")
    finally:
        host.systemctl("stop", "mad.service")
    host.wait("the end of it", lambda: host.output("ls", "-A", REQUESTS) == "")
    host.wait_for_unit(HALT, "inactive")
    it.remembers(it.keys[6])
    it.resumes("main")
