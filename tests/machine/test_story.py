"""The whole story with a real client, on both releases."""

import json
from pathlib import Path

from lab.client import Chain
from lab.keystores import PASSWORD, keystores
from lab.world import World

# Lodestar starts three times to import and compare, which a busy machine takes its time for.
LONG = 180
MAIN, STATE = "validator@mainnet.service", "validator-state@mainnet.service"
ANNOUNCED = [
    r"Main process exited|Failed with result|Failed to start",
    r"channel \d+: open failed",  # a node that is cut off from the chain
    r"Timeout, server .* not responding|Connection .* closed|ssh: connect|remote forward",
    r"http://127\.0\.0\.1:1300\d: |no healthy beacon node",
    r"(liveness|slashing|duties) of mainnet",
    r"it has no keys|hint: validator-supervisor import-keystore",  # until they are imported
    # Before there is an identity; and where the target is started without one that is unlocked.
    r"(Assertion|Dependency) failed for|failed with result 'dependency'",
    r"Control process exited, code=killed",  # with what it belongs to
    r"validator-node@.*: Permission denied",  # until the node has let the host in
    r"restore: there is no database",  # after the import, and when it was lost
    r"is not reached|is put on|is not on|not uploaded",  # while a node is cut off
]
TWIN = [
    r"somebody else signs with \d of 4 keys|hint: find it and switch it off",
    r"mainnet is halted|Doppelganger\(s\) detected",
    r"assertion",
]


class TestBookworm:
    """In a class of its own, so that both releases are tested at once."""

    def test_a_validator_attests_and_keeps_attesting(self, tmp_path: Path) -> None:
        story("bookworm", tmp_path)


class TestTrixie:
    def test_a_validator_attests_and_keeps_attesting(self, tmp_path: Path) -> None:
        story("trixie", tmp_path)


def story(suite: str, tmp_path: Path) -> None:
    with (
        World.booted(suite, ["helsinki", "lisbon"], client=True) as world,
        world.chain(tmp_path) as chain,
    ):
        for name in world.nodes:
            world.node(name, beacon={"dev": world.chain_address}, backups="supervisor-backups")
        world.lodestar_validator("mainnet")
        world.apply()
        for name in world.nodes:
            world.authorize(name)
        world.import_interop("mainnet")
        world.host.systemctl("start", "validator.target")

        epoch = it_attests(world)
        epoch = kills_are_survived(world, epoch)
        epoch = a_node_falls_silent(world, epoch)
        epoch = stops_are_clean(world, epoch)
        assert world.host.problems(ANNOUNCED) == []
        epoch = a_twin_halts_it(world, epoch, chain, tmp_path / "twin")
        assert world.host.problems([*ANNOUNCED, *TWIN]) == []
        if suite == "trixie":  # it is the client that counts, and there is one
            epoch = its_client_finds_a_twin(world, epoch, chain, tmp_path / "found")
            assert world.host.problems([*ANNOUNCED, *TWIN, "power-cut: "]) == []
        the_power_fails(world, epoch)
        # While there are still nodes that take the final backup.
        stop(world)
        assert clean_on(world) == {"this host", "helsinki", "lisbon"}
        assert world.host.problems([*ANNOUNCED, "power-cut: "]) == []


def it_attests(world: World) -> int:
    host = world.host
    # The keys are new here: two epochs are watched before the first signature.
    watching(world)
    # An order comes too late now, and would wait for another start.
    late = host.run("validator-supervisor", "start", "mainnet", "--no-watch",
                    "--confirm", "mainnet", check=False)  # fmt: skip
    assert (late.returncode, "mainnet is starting already" in late.stderr) == (1, True)
    host.wait_for_unit(MAIN, seconds=LONG)
    # systemctl, busctl and our own command line all show it.
    epoch = world.wait_for_attestation("mainnet", seconds=LONG)
    assert "through helsinki" in host.property(MAIN, "StatusText")
    assert attribute(world, "ConnectedNode") == '"helsinki"'
    assert attribute(world, "PublicKeys").startswith('4 "0x')
    assert world.status()["healthy"] is True
    assert "4 of 4 keys attested in epoch" in host.output("validator-supervisor", "status")
    assert "Published attestations" in host.journal(f"--unit={MAIN}")
    # Neither a key nor what opens it is on a disk.
    secrets = [
        PASSWORD,
        *(json.loads(text)["crypto"]["cipher"]["message"] for text in keystores().values()),
    ]
    words = [word for secret in secrets for word in ("-e", secret)]
    found = host.run("grep", "-rlF", *words, "/var", "/etc", "/root", "/tmp", check=False)
    assert (found.returncode, found.stdout) == (1, "")
    return epoch


def kills_are_survived(world: World, epoch: int) -> int:
    host = world.host
    # The client is killed: it starts again over the locks that it has left.
    before = host.property(MAIN, "MainPID")
    host.run("kill", "-KILL", before)
    host.wait("another client", lambda: host.property(MAIN, "MainPID") not in (before, "0"))
    host.wait_for_unit(MAIN, seconds=LONG)
    assert "left by a client that was killed" in host.journal(f"--unit={MAIN}")
    epoch = world.wait_for_attestation("mainnet", epoch + 1, LONG)

    # Everything of ours is killed at once: everything comes back by itself.
    host.run("systemctl", "kill", "--signal=KILL", "validator@*", "validator-*", check=False)
    host.wait_for_unit(MAIN, seconds=LONG)
    return world.wait_for_attestation("mainnet", epoch + 1, LONG)


def a_node_falls_silent(world: World, epoch: int) -> int:
    host = world.host
    world.network.cut("helsinki")
    epoch = world.wait_for_attestation("mainnet", epoch + 2, LONG)
    host.systemctl("restart", MAIN, seconds=LONG)
    host.wait("the other node", lambda: attribute(world, "ConnectedNode") == '"lisbon"')
    problems = world.status()["problems"]
    assert [p["subject"] for p in problems] == ["node helsinki"]  # type: ignore[attr-defined]
    world.network.heal("helsinki")
    host.wait_for_unit("validator-tunnel@helsinki.service", seconds=40)
    return world.wait_for_attestation("mainnet", epoch + 1, LONG)


def stops_are_clean(world: World, epoch: int) -> int:
    host = world.host
    # The operator's stop ends with a backup on every node, lasts, and start undoes it.
    stop(world)
    assert host.property(MAIN, "Result") == "success"
    assert clean_on(world) == {"this host", "helsinki", "lisbon"}
    host.run("systemctl", "daemon-reload")
    world.apply()
    assert host.property(MAIN, "ActiveState") == "inactive"
    host.run("validator-supervisor", "start", "mainnet")
    host.wait_for_unit(MAIN, seconds=LONG)
    epoch = world.wait_for_attestation("mainnet", epoch + 1, LONG)

    # Locked, no key is left in memory; unlocked, it comes back by itself, and nothing is watched.
    host.run("validator-supervisor", "lock", seconds=LONG)
    assert host.property(MAIN, "ActiveState") == "inactive"
    assert host.run("ls", "/run/validator-state", check=False).stdout == ""
    world.unlock()
    host.wait_for_unit(MAIN, seconds=LONG)
    return world.wait_for_attestation("mainnet", epoch + 1, LONG)


def a_twin_halts_it(world: World, epoch: int, chain: Chain, folder: Path) -> int:
    """Lose the database while somebody else signs with the same keys."""
    host = world.host
    stop(world)
    host.run("rm", "-r", "/var/lib/validator/mainnet/validator-db")
    with chain.twin(keystores().values(), PASSWORD, folder):
        host.wait(
            "the twin", lambda: "Published attestations" in (folder / "log").read_text(), LONG
        )
        host.systemctl("start", "--no-block", MAIN)
        watching(world)
        host.wait("the halt", lambda: "doppelganger" in attribute(world, "HaltReason"), LONG)
    host.wait_for_unit(STATE, "inactive", LONG)
    assert "Published" not in since_start(world)
    assert host.systemctl("start", MAIN, check=False) == ""
    assert host.property(MAIN, "ActiveState") != "active"

    # A person has switched the other one off; it is watched once more, and attests.
    host.run("validator-supervisor", "resume", "mainnet", "--yes")
    host.systemctl("start", "--no-block", MAIN)
    watching(world)
    host.wait_for_unit(MAIN, seconds=LONG)
    return world.wait_for_attestation("mainnet", epoch + 1, LONG)


def its_client_finds_a_twin(world: World, epoch: int, chain: Chain, folder: Path) -> int:
    """Have the client look for a twin at each start: it finds one, exits with 0, and is halted."""
    host = world.host
    stop(world)
    validators = world.config["validators"]
    assert isinstance(validators, dict)
    validators["mainnet"]["doppelganger"] = "always"
    world.apply()
    with chain.twin(keystores().values(), PASSWORD, folder):
        host.wait(
            "the twin", lambda: "Published attestations" in (folder / "log").read_text(), LONG
        )
        host.run("validator-supervisor", "start", "mainnet")
        host.wait(
            "the halt",
            lambda: "doppelganger: its client says" in attribute(world, "HaltReason"),
            LONG,
        )
    host.wait_for_unit(STATE, "inactive", LONG)
    assert "Published" not in since_start(world)

    # Over a power cut, and until a person says so.
    host.cut()
    host.boot_again()
    world.unlock()
    assert "doppelganger" in attribute(world, "HaltReason")
    assert host.systemctl("start", MAIN, check=False) == ""
    assert host.property(MAIN, "ActiveState") != "active"
    host.run("validator-supervisor", "resume", "mainnet", "--yes")
    host.run("validator-supervisor", "start", "mainnet")
    host.wait_for_unit(MAIN, seconds=LONG)
    return world.wait_for_attestation("mainnet", epoch + 1, LONG)


def the_power_fails(world: World, epoch: int) -> None:
    host = world.host
    host.cut()
    host.boot_again()
    assert host.property(MAIN, "ActiveState") != "active"
    world.unlock()
    host.wait_for_unit(MAIN, seconds=LONG)
    assert "power-cut: " in since_start(world)
    world.wait_for_attestation("mainnet", epoch + 1, LONG)


def stop(world: World) -> None:
    world.host.run("validator-supervisor", "stop", "mainnet")
    world.host.wait_for_unit(MAIN, "inactive", LONG)
    world.host.wait_for_unit(STATE, "inactive", LONG)


def watching(world: World) -> None:
    host = world.host
    host.wait("the watch", lambda: "watching for a twin" in host.property(MAIN, "StatusText"), LONG)


def since_start(world: World) -> str:
    """Return what the newest start has said."""
    invocation = world.host.property(MAIN, "InvocationID")
    return world.host.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")


def clean_on(world: World) -> set[str]:
    """Return where a clean archive is."""
    argv = ["validator-supervisor", "backup", "list", "mainnet"]
    lines = world.host.output(*argv, seconds=LONG).splitlines()
    return {
        where
        for line in lines
        for where in ("this host", *world.nodes)
        if where in line and "clean" in line and line.endswith("verified")
    }


def attribute(world: World, name: str) -> str:
    """Return a property of the validator as busctl prints it, without its type."""
    line = world.host.output("busctl", "get-property", "org.validatorsupervisor1",
                             "/org/validatorsupervisor1/validator/mainnet",
                             "org.validatorsupervisor1.Validator", name)  # fmt: skip
    return line.split(" ", 1)[1]
