"""Backups on booted machines: made, uploaded, proven, and restored onto an empty host."""

import json
from collections.abc import Iterator

import pytest
from lab import images
from lab.keystores import many
from lab.signing import LATCH
from lab.world import PASSPHRASE, World

SERVICE, TIMER, PATH = (f"validator-backup@main.{kind}" for kind in ("service", "timer", "path"))
BACKUPS = "/var/lib/validator-supervisor-node/supervisor-backups"
HERE = "/var/lib/validator-state/main/archives"
NODE, DISK = "helsinki", "disk"
# What a cut, a full disk, a forged file and a halt make the jobs say.
ANNOUNCED = [
    r"Assertion failed for validator-identity\.service",
    r" validator\[\d+\]: (the clock|hint)",
    r" validator\[\d+\]: restore: there is no database",
    r"validator-tunnel@helsinki| (tunnel|ssh)\[\d+\]: | watch\[\d+\]: ",
    r" state\[\d+\]: ",
    r" drill\[\d+\]: main: a restore from (helsinki|disk) is not proven: ",
    r" backup\[\d+\]: (.*: is not what its name says|.*No space left|host f{32} has run main|hint)",
    r"validator-backup@main\.service|Failed to start validator-backup@main",
    r" halt\[\d+\]: |validator(-state)?@main\.service",
]


@pytest.fixture(scope="module", params=images.SUITES)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A validator that attests, with a node and a disk that take its backups."""
    with World.booted(request.param, [NODE]) as booted:
        folder = tmp_path_factory.mktemp("beacon")
        with booted.standin_beacon(folder) as beacon:
            booted.node(NODE, backups="supervisor-backups", beacon={"dev": booted.chain_address})
            nodes = booted.config["nodes"]
            assert isinstance(nodes, dict)
            nodes[DISK] = {"backups": "/srv/backups"}
            booted.host.run("install", "-d", "-o", "validator-state", "/srv/backups")
            booted.config["backup"] = {"interval": "1h", "keep": 5}
            booted.standin_validator("main")
            booted.apply()
            booted.authorize(NODE)
            booted.init_identity()
            booted.unlock()
            booted.import_keystores("main", many(3))
            booted.host.run("validator-supervisor", "start", "main")
            beacon.wait_for(seconds=120)
            yield booted
            assert beacon.slashable() == []
        problems = {m.name: m.problems(ANNOUNCED) for m in [booted.host, *booted.nodes.values()]}
        assert not any(problems.values()), problems


def names(world: World, where: str) -> list[str]:
    machine = world.nodes[NODE] if where == BACKUPS else world.host
    return sorted(machine.output("ls", where).split())


def sequence(name: str) -> int:
    return int(name.split(".")[1])


def cli(world: World, *words: str, check: bool = True) -> "tuple[int, str, str]":
    done = world.host.run("validator-supervisor", *words, check=check, seconds=240)
    return done.returncode, done.stdout, done.stderr


def node(world: World, name: str = NODE) -> dict[str, object]:
    found = world.status()["nodes"]
    assert isinstance(found, list)
    return next(one for one in found if one["Name"] == name)


def test_a_running_validator_is_backed_up_everywhere(world: World) -> None:
    host = world.host
    for unit in (TIMER, PATH, "validator-drill.timer"):
        assert host.property(unit, "ActiveState") == "active", unit
    assert cli(world, "backup", "now", "main")[1].startswith("main: newest archive is of 20")
    newest = [name for name in names(world, HERE) if name.endswith(".age")][-1]
    assert newest in names(world, BACKUPS)
    assert newest in names(world, "/srv/backups")
    status = json.loads(host.output("cat", "/var/lib/validator-state/main/status.json"))["copies"]
    assert {node for node, one in status["uploads"].items() if not one["problem"]} == {NODE, DISK}
    assert host.output("stat", "--format=%a %U", f"{HERE}/{newest}") == "600 validator-state"
    assert node(world)["UploadProblem"] == ""
    assert int(str(node(world)["LastUploadUSec"])) > 0


def made_now(world: World) -> list[str]:
    """Back up, and return what is new here; it is on every node, too."""
    before = names(world, HERE)
    assert cli(world, "backup", "now", "main")[0] == 0
    new = [name for name in names(world, HERE) if name not in before]
    for where in (BACKUPS, "/srv/backups"):
        assert set(new) <= set(names(world, where)), where
    return new


def kinds(found: list[str]) -> list[str]:
    return [name.split(".")[-1] for name in found]


def test_a_claim_is_made_only_where_nothing_has_changed(world: World) -> None:
    host = world.host
    cli(world, "backup", "now", "main")
    # The client signs in every slot; no export says so while it runs.
    forget_claims(world)
    assert kinds(made_now(world)) == ["claim"]
    # A claim of five minutes ago says the same.
    assert made_now(world) == []
    # After a crash the export says more than any archive.
    exported = "/var/lib/validator/main/export/slashing-protection.json"

    def when() -> str:
        return host.run("stat", "--format=%.9Y", exported, check=False).stdout

    before = when()
    host.systemctl("kill", "--signal=KILL", "validator@main.service")
    host.wait("an export", lambda: when() not in ("", before), 60)
    host.wait_for_unit("validator@main.service", "active", 60)
    forget_claims(world)
    # It says itself who runs the validator; without any claim, the next one says it again.
    assert kinds(made_now(world)) == ["age"]
    assert kinds(made_now(world)) == ["claim"]


def interval(world: World, text: str) -> None:
    world.config["backup"] = {"interval": text, "keep": 5}
    world.apply()


def test_the_timer_makes_backups(world: World) -> None:
    host = world.host
    # A minute after the start, and so for the first time before any interval.
    host.wait("the first", lambda: host.property(TIMER, "LastTriggerUSec") not in ("", "n/a"), 90)
    interval(world, "10s")
    try:
        for _ in range(2):
            forget_claims(world)

            def claim() -> list[str]:
                return [name for name in names(world, HERE) if name.endswith(".claim")]

            (new,) = host.wait("a claim that nobody has asked for", claim, 60)
            machine = world.nodes[NODE]
            machine.wait("its upload", lambda new=new: new in names(world, BACKUPS), 60)  # type: ignore[misc]
    finally:
        interval(world, "1h")


def test_it_is_listed_and_verified(world: World) -> None:
    status, shown, _ = cli(world, "backup", "verify")
    assert status == 0, shown
    head, *rows = shown.splitlines()
    assert head.split() == [
        "VALIDATOR",
        "WHERE",
        "SEQUENCE",
        "MADE",
        "KIND",
        "KEYS",
        "SIZE",
        "STATE",
    ]
    assert all(row.startswith("main") and row.endswith("verified") for row in rows), shown
    verified = json.loads(cli(world, "backup", "verify", "--json")[1])
    assert (verified["unreachable"], verified["lacking"]) == ({}, [])
    assert not any(row["problem"] for row in verified["archives"])
    for where in ("this host", NODE, DISK):
        assert any(where in line and "verified" in line for line in shown.splitlines()), shown
    found = json.loads(cli(world, "backup", "list", "main", "--json")[1])
    assert {row["where"] for row in found["archives"]} == {"this host", NODE, DISK}
    assert all(row["keys"] == 3 for row in found["archives"] if row["kind"] == "age")
    # Nobody but root opens archives.
    user = world.host.as_user("nobody", "validator-supervisor", "backup", "list", check=False)
    assert (user.returncode, "only root" in user.stderr) == (1, True)
    done = cli(world, "backup", "list", "mian", check=False)
    assert (done[0], "did you mean main?" in done[2]) == (1, True)


def test_a_restore_is_proven(world: World) -> None:
    host = world.host
    host.systemctl("start", "validator-drill", seconds=120)
    assert host.property("validator-drill", "StatusText") in (
        "", "every node has what can be restored"
    )  # fmt: skip
    host.wait("the proof", lambda: node(world)["LastProvenRestoreUSec"])
    assert node(world)["RestoreProblem"] == ""
    assert "restore proven" in cli(world, "status")[1]


LIES = {
    "altered": (
        "printf X | dd of=$new bs=1 seek=700 conv=notrunc status=none",
        "not what its name",
    ),
    "truncated": ("truncate --size=-1 $new", "is not what its name says"),
    "older": ("rm $new", "and it was given"),
    "hidden": ("rm *.age", "there is no archive of main"),
}


@pytest.mark.parametrize("where", [NODE, DISK])
@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_lies_is_found_out(world: World, where: str, lie: str) -> None:
    host = world.host
    if lie == "older":
        two_archives(world)
    # They would put right what is to be found out.
    host.systemctl("stop", TIMER, PATH)
    host.wait_for_unit(SERVICE, "inactive")
    assert cli(world, "backup", "verify")[0] == 0
    machine, folder = (host, "/srv/backups") if where == DISK else (world.nodes[NODE], BACKUPS)
    newest = [name for name in names(world, HERE) if name.endswith(".age")][-1]
    words, said = LIES[lie]
    machine.run("sh", "-ec", f"cp -a {folder} /root/kept; cd {folder}; new={newest}; {words}")
    try:
        status, shown, _ = cli(world, "backup", "verify", check=False)
        lack = f"{where} has no good copy of the newest archive of main, {sequence(newest)}"
        assert (status, lack in shown.splitlines()) == (1, True), shown
        found = json.loads(cli(world, "backup", "list", "main", "--json")[1])
        (row,) = [r for r in found["archives"] if r["name"] == newest and r["where"] == where] or [
            {}
        ]
        assert ("is not what its name says" in row.get("problem", "")) == (lie in DAMAGES)
        # The copies of the others are not to blame.
        assert not [r for r in found["archives"] if r["problem"] and r["where"] != where]
        host.systemctl("start", "validator-drill", seconds=120)
        host.wait("the problem", lambda: said in str(node(world, where)["RestoreProblem"]))
        other = NODE if where == DISK else DISK
        assert node(world, other)["RestoreProblem"] == ""
        # A problem of the node, in words.
        assert f"a restore is not proven: {node(world, where)['RestoreProblem']}" in (
            " ".join(cli(world, "status")[1].split())
        )
    finally:
        machine.run("sh", "-ec", f"rm -f {folder}/*; cp -a /root/kept/. {folder}; rm -r /root/kept")
        host.systemctl("start", PATH)
    host.systemctl("start", "validator-drill", seconds=120)
    host.wait("no problem", lambda: not node(world, where)["RestoreProblem"])


DAMAGES = ("altered", "truncated")


def two_archives(world: World) -> None:
    """Have at least two archives on every node: each crash adds to what the client exports."""
    host = world.host
    while sum(name.endswith(".age") for name in names(world, BACKUPS)) < 2:
        host.systemctl("kill", "--signal=KILL", "validator@main.service")
        host.wait_for_unit("validator@main.service", "active", 60)
        cli(world, "backup", "now", "main")


def test_a_node_that_is_cut_off_during_an_upload_gets_it_when_it_is_back(world: World) -> None:
    host, machine = world.host, world.nodes[NODE]
    # Everything again, over a link so slow that it takes seconds.
    machine.run("sh", "-c", f"rm -f {BACKUPS}/*")

    def there() -> bool:
        """Whether the newest archive and the newest claim of this host are on the node."""
        here, remote = names(world, HERE), names(world, BACKUPS)
        newest = [[name for name in here if name.endswith(kind)][-1] for kind in (".age", ".claim")]
        return set(newest) <= set(remote)

    world.network.slow("host", "24kbit")
    try:
        host.systemctl("start", "--no-block", SERVICE)
        machine.wait("a part", lambda: ".part" in machine.output("ls", "-A", BACKUPS), 60)
        world.network.cut(NODE)
        host.wait_for_unit(SERVICE, "inactive", 150)
        assert not there()
        assert node(world)["UploadProblem"]
        assert NODE in host.property(SERVICE, "StatusText")
    finally:
        world.network.slow("host", "")
        world.network.heal(NODE)
    # With the tunnel, and not with the timer.
    machine.wait("the upload", there, 90)
    host.wait("no problem", lambda: not node(world)["UploadProblem"], 30)
    assert cli(world, "backup", "verify")[0] == 0
    # What broke off is not left.
    assert ".part" not in machine.output("ls", "-A", BACKUPS)


def forget_claims(world: World) -> None:
    """Have the next backup make something: a claim is made every five minutes only."""
    world.host.run("sh", "-c", f"rm -f {HERE}/*.claim")


def test_a_node_that_was_away_gets_what_it_missed(world: World) -> None:
    host = world.host
    world.network.cut(NODE)
    try:
        host.wait_for_unit(f"validator-tunnel@{NODE}.service", "activating", 60)
        forget_claims(world)
        before = set(names(world, HERE))
        assert cli(world, "backup", "now", "main")[0] == 0
        missed = set(names(world, HERE)) - before
        assert missed
        assert NODE in host.property(SERVICE, "StatusText")
        assert host.property(SERVICE, "ActiveState") == "inactive"
        assert node(world)["UploadProblem"]
    finally:
        world.network.heal(NODE)
    # With the tunnel, and not with the timer; a newer one may have come instead.
    last = max(map(sequence, missed))
    host.wait("the upload", lambda: max(map(sequence, names(world, BACKUPS))) >= last, 30)
    host.wait("no problem", lambda: not node(world)["UploadProblem"], 30)


def test_a_full_disk_is_a_failure_that_passes(world: World) -> None:
    host = world.host
    forget_claims(world)
    before = names(world, HERE)
    host.run(
        "sh",
        "-ec",
        f"""
        cp -a {HERE} /root/kept
        mount -t tmpfs -o size=1m,mode=0700,uid=$(id -u validator-state) tmpfs {HERE}
        cp -a /root/kept/* {HERE}; rm -r /root/kept
        cat /dev/zero >{HERE}/fill || true""",
    )
    try:
        status, _, said = cli(world, "backup", "now", "main", check=False)
        assert (status, "No space left" in said) == (1, True)
        assert node(world)["UploadProblem"] == ""
        assert host.property(SERVICE, "ActiveState") == "failed"
        assert names(world, HERE) == sorted([*before, "fill"])
    finally:
        host.run("umount", HERE)
    assert names(world, HERE) == before
    assert cli(world, "backup", "now", "main")[0] == 0
    assert host.property(SERVICE, "ActiveState") == "inactive"


def test_a_full_disk_of_a_node_is_its_problem(world: World) -> None:
    host = world.host
    before = names(world, "/srv/backups")
    host.run("sh", "-ec", """
        mv /srv/backups /srv/kept; mkdir /srv/backups
        mount -t tmpfs -o size=1m,mode=0700,uid=$(id -u validator-state) tmpfs /srv/backups
        cat /dev/zero >/srv/backups/fill 2>/dev/null || true""")  # fmt: skip
    try:
        forget_claims(world)
        assert cli(world, "backup", "now", "main")[0] == 0
        assert "No space left" in str(node(world, DISK)["UploadProblem"])
        assert f"backups: {DISK}: " in " ".join(cli(world, "status")[1].split())
        # Nothing half, and the other node has everything.
        assert host.output("ls", "-A", "/srv/backups") == "fill"
        assert node(world)["UploadProblem"] == ""
        host.run("rm", "/srv/backups/fill")
        assert cli(world, "backup", "now", "main")[0] == 0
        assert node(world, DISK)["UploadProblem"] == ""
        assert cli(world, "backup", "verify")[0] == 0
    finally:
        host.run("sh", "-ec", "umount /srv/backups; rmdir /srv/backups; mv /srv/kept /srv/backups")
    assert names(world, "/srv/backups") == before
    assert cli(world, "backup", "now", "main")[0] == 0


def test_a_node_keeps_the_newest(world: World) -> None:
    two_archives(world)
    machine = world.nodes[NODE]
    # Each day's first stays a month, and all of the last day.
    machine.run("sh", "-ec", f"""
        cd {BACKUPS}; days=200
        for file in $(ls *.age | sort -t. -k2n); do
            touch -d "$days days ago" $file; days=$((days - 10)); done
        echo 1 >/etc/validator-supervisor-node/keep""")  # fmt: skip
    before = [name for name in names(world, BACKUPS) if name.endswith(".age")]
    assert len(before) > 1
    try:
        machine.systemctl("start", "validator-supervisor-node.service")
        left = [name for name in names(world, BACKUPS) if name.endswith(".age")]
        assert left == before[-1:]
    finally:
        machine.run("rm", "/etc/validator-supervisor-node/keep")
    # The host sends again only what is of use: the newest, and the newest of a stop.
    assert cli(world, "backup", "verify")[0] == 0
    cli(world, "backup", "now", "main")
    assert len([name for name in names(world, BACKUPS) if name.endswith(".age")]) <= 3


def test_locked_nothing_is_backed_up(world: World) -> None:
    host = world.host
    host.run("validator-supervisor", "lock", seconds=120)
    for words in (["backup", "now", "main"], ["backup", "list"], ["backup", "restore", "main"]):
        done = cli(world, *words, check=False)
        assert (done[0], "the identity is locked" in done[2]) == (1, True), words
    for unit in (TIMER, PATH, "validator-drill.timer"):
        assert host.property(unit, "ActiveState") == "inactive", unit
    host.systemctl("start", SERVICE)
    assert host.property(SERVICE, "ConditionResult") == "no"
    world.unlock()
    host.wait_for_unit("validator@main.service", "active", 60)
    assert host.property(TIMER, "ActiveState") == "active"


# What another host would put on a node.
FORGE = """
import sys, time
from pathlib import Path
from validator_supervisor import claim, identity
from validator_supervisor.store import CLAIM, Item
now = int(time.time())
raw = claim.seal(claim.Claim(1, "main", "f" * 32, "1" * 32, now, now), identity.load())
Path(sys.argv[1], Item.of(raw, CLAIM, "main", now).name).write_bytes(raw)
"""


def test_a_foreign_claim_halts(world: World) -> None:
    host = world.host
    host.write("/opt/forge.py", FORGE)
    host.run("/usr/bin/python3", "/opt/forge.py", "/srv/backups")
    status, _, said = cli(world, "backup", "now", "main", check=False)
    assert (status, f"host {'f' * 32} has run main since" in said) == (1, True)
    host.wait_for_unit("validator@main.service", "inactive", 30)
    host.wait_for_unit("validator-state@main.service", "inactive", 30)
    assert host.output("cat", LATCH).startswith("foreign")
    # No key is left in memory, and nothing starts it.
    assert host.run("find", "/run/validator-state", "-type", "f").stdout == ""
    cli(world, "start", "main", check=False)
    assert host.property("validator@main.service", "ActiveState") != "active"
    host.run("sh", "-c", f"rm /srv/backups/*.claim {LATCH}")
    host.systemctl("reset-failed")


def test_an_empty_host_is_restored(world: World) -> None:
    host = world.host
    kit = host.output("sh", "-c", "validator-supervisor recovery-kit --kit /root/kit >&2;"
                      " sed -n '/BEGIN AGE/,/END AGE/p' /root/kit")  # fmt: skip
    clean = [name for name in names(world, BACKUPS) if name.endswith(".age")][-1]
    host.systemctl("stop", "validator.target")
    host.wait_for_unit("validator-state@main.service", "inactive", 60)
    # Another machine: nothing of this one is left but the node and the kit.
    host.run("sh", "-c", "rm -r /var/lib/validator-state/* /var/lib/validator/main/* "
             "/etc/validator-supervisor/identity.age")  # fmt: skip
    assert host.problems(ANNOUNCED) == []
    host.cut()
    host.boot_again()
    host.write("/etc/hosts", world.network.hosts())
    host.write("/root/identity.age", f"{kit}\n", 0o600)
    world.typed(PASSPHRASE, "init-identity", "--from", "/root/identity.age", "--passphrase-fd", "0")
    world.unlock()
    # Somebody has run it, and this disk does not know that it was this host.
    host.wait("a latch", lambda: host.run("cat", LATCH, check=False).stdout.startswith("moved"))
    host.wait_for_unit("validator-state@main.service", "failed", 60)
    status, shown, _ = cli(world, "backup", "restore", "main", "--from", NODE)
    assert (status, "with 3 keys" in shown, "take-over main" in shown) == (0, True, True)
    assert clean in names(world, HERE)
    assert cli(world, "start", "main", check=False)[0] == 1
    assert host.property("validator@main.service", "ActiveState") != "active"
    # For other use: in memory only, unless it is forced.
    assert cli(world, "backup", "restore", "main", "--to", "/root/x", check=False)[0] == 1
    cli(world, "backup", "restore", "main", "--to", "/run/unpacked")
    files = host.output("find", "/run/unpacked", "-type", "f", "-perm", "0600").split()
    assert len(files) == 7
    again = cli(world, "backup", "restore", "main", "--to", "/run/unpacked", check=False)
    assert "is not an empty directory" in again[2]
    host.run("rm", "-r", "/run/unpacked")
    host.run("cp", f"{HERE}/{clean}", "/root/archive.age")
    cli(world, "backup", "restore", "main", "--from", "/root/archive.age", "--to", "/run/one")
    host.run("rm", "-r", "/run/one")
