"""The whole story with a real client, on both releases."""

from pathlib import Path

from lab.world import World

MAIN = "validator@mainnet.service"
ANNOUNCED = [
    r"Main process exited|Failed with result|Failed to start",
    r"Timeout, server .* not responding|Connection .* closed|ssh: connect|remote forward",
    r"http://127\.0\.0\.1:1300\d: |no healthy beacon node",
    r"liveness of mainnet",
    r"no keystore in|import keys first",  # until they are imported
    r"validator-node@.*: Permission denied",  # until the node has let the host in
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
        world.chain(tmp_path),
    ):
        host = world.host
        for name in world.nodes:
            world.node(name, beacon={"dev": world.chain_address})
        world.lodestar_validator("mainnet")
        world.apply()
        for name in world.nodes:
            world.authorize(name)
        world.import_keys("mainnet")
        host.systemctl("start", "validator.target")

        # systemctl, busctl and our own command line all show it.
        epoch = world.wait_for_attestation("mainnet")
        assert host.property(MAIN, "ActiveState") == "active"
        assert "through helsinki" in host.property(MAIN, "StatusText")
        assert attribute(world, "ConnectedNode") == '"helsinki"'
        assert attribute(world, "PublicKeys").startswith('4 "0x')
        assert world.status()["healthy"] is True
        status = host.output("validator-supervisor", "status")
        assert "4 of 4 keys attested in epoch" in status
        assert "Published attestations" in host.journal(f"--unit={MAIN}")

        # The client is killed: it starts again over the locks that it has left.
        before = host.property(MAIN, "MainPID")
        host.run("kill", "-KILL", before)
        host.wait("another client", lambda: host.property(MAIN, "MainPID") not in (before, "0"))
        host.wait_for_unit(MAIN)
        assert "left by a client that was killed" in host.journal(f"--unit={MAIN}")
        epoch = world.wait_for_attestation("mainnet", epoch + 1)

        # Everything of ours is killed at once: everything comes back by itself.
        host.run("systemctl", "kill", "--signal=KILL", "validator@*", "validator-*", check=False)
        host.wait_for_unit(MAIN, seconds=60)
        epoch = world.wait_for_attestation("mainnet", epoch + 1)

        # One node falls silent: the client goes on through the other.
        world.network.cut("helsinki")
        epoch = world.wait_for_attestation("mainnet", epoch + 2)
        host.systemctl("restart", MAIN)
        host.wait("the other node", lambda: attribute(world, "ConnectedNode") == '"lisbon"')
        problems = world.status()["problems"]
        assert [p["subject"] for p in problems] == ["node helsinki"]  # type: ignore[attr-defined]
        world.network.heal("helsinki")
        host.wait_for_unit("validator-tunnel@helsinki.service", seconds=40)

        epoch = world.wait_for_attestation("mainnet", epoch + 1)

        # The operator's stop is graceful, lasts, and start undoes it.
        host.run("validator-supervisor", "stop", "mainnet")
        host.wait_for_unit(MAIN, "inactive")
        assert host.property(MAIN, "Result") == "success"
        host.run("systemctl", "daemon-reload")
        world.apply()
        assert host.property(MAIN, "ActiveState") == "inactive"
        host.run("validator-supervisor", "start", "mainnet")
        host.wait_for_unit(MAIN)
        world.wait_for_attestation("mainnet", epoch + 1)

        assert host.problems(ANNOUNCED) == []


def attribute(world: World, name: str) -> str:
    """Return a property of the validator as busctl prints it, without its type."""
    line = world.host.output("busctl", "get-property", "org.validatorsupervisor1",
                             "/org/validatorsupervisor1/validator/mainnet",
                             "org.validatorsupervisor1.Validator", name)  # fmt: skip
    return line.split(" ", 1)[1]
