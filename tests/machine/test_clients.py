"""The four clients that cannot run here, stood in for (lab/standin/others.py), on booted machines.

Each has keys and a database where its adapter says, signs, stops, is killed, and ends as it does
when it has found a twin.
"""

from collections.abc import Iterator

import pytest
from lab import standin
from lab.machine import Machine
from lab.signing import DATA, EPOCH, LATCH, NAME, VALIDATOR, Signing, highest
from lab.standin.beacon import slashable

ENVIRONMENT = f"/etc/validator-supervisor/{NAME}.env"


@pytest.fixture(scope="class")
def booted(request: pytest.FixtureRequest) -> Iterator[Signing]:
    """A host that has signed with another client."""
    assert request.cls
    with Signing.booted(request.cls.SUITE, near="/srv/backups") as signing:
        signing.start("--no-watch")
        signing.signs()
        yield signing
        assert slashable(signing.beacon.recorded()) == []
        assert signing.leaks() == []


@pytest.fixture(scope="class", params=[0, 1], ids=["first", "second"])
def client(request: pytest.FixtureRequest, booted: Signing) -> Iterator[str]:
    """A client that has taken the place of the one before."""
    booted.stop()
    assert request.cls
    name = str(request.cls.CLIENTS[request.param])
    validators = booted.world.config["validators"]
    assert isinstance(validators, dict)
    mine = validators[NAME]
    mine["release"] = {"client": name, "binary": f"{standin.PLACE}/{standin.PROGRAMS[name]}"}
    mine["args"] = ["--testnet-dir=/etc/dev"] if name == "lighthouse" else []
    booted.world.apply()
    booted.start()
    # It goes on from what the one before has signed, without a watch.
    assert booted.row() == "continue"
    invocation = booted.host.property(VALIDATOR, "InvocationID")
    said = booted.host.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")
    assert "change: another client was here, and has stopped" in said
    yield name
    assert booted.up()
    assert slashable(booted.beacon.recorded()) == []


@pytest.fixture
def host(booted: Signing, client: str) -> Iterator[Machine]:
    """The host, whose client runs before and after."""
    del client
    before = booted.host.output("cat", ENVIRONMENT)
    yield booted.host
    booted.host.write(ENVIRONMENT, f"{before}\n")
    booted.host.run("rm", "-f", LATCH)
    if not booted.up():
        booted.ask()
    booted.host.wait_for_unit(VALIDATOR, seconds=90)


def ends(signing: Signing, how: str) -> None:
    """Have the client end in one of its ways when it is started again, and kill it."""
    before = signing.host.output("cat", ENVIRONMENT)
    signing.host.write(ENVIRONMENT, f"{before}\nSTANDIN_END={how}\n")
    signing.kill()


class Ends:
    """Each release has a class of its own, so that both are tested at once.

    And clients of its own: what an adapter does is no matter of the release.
    """

    SUITE = ""
    CLIENTS = ("", "")

    def test_it_signs_stops_and_goes_on(self, booted: Signing, client: str, host: Machine) -> None:
        booted.signs()
        before = highest(booted.beacon)
        assert host.run("test", "-d", f"{DATA}/{client}", check=False).returncode == 0
        booted.stop()
        assert booted.clean() == booted.files()[0]
        assert host.property(VALIDATOR, "Result") == "success"
        booted.start()
        assert booted.row() == "continue"
        booted.signs()
        assert highest(booted.beacon) != before
        assert slashable(booted.beacon.recorded()) == []

    def test_a_killed_one_goes_on(self, booted: Signing, client: str, host: Machine) -> None:
        del client
        before = host.property(VALIDATOR, "MainPID")
        booted.kill()
        host.wait("a restart", lambda: host.property(VALIDATOR, "MainPID") not in ("0", before))
        host.wait_for_unit(VALIDATOR)
        booted.signs()

    def test_a_twin_halts_it_whatever_its_exit_status(
        self, booted: Signing, client: str, host: Machine
    ) -> None:
        del client
        ends(booted, "doppelganger")
        host.wait("the latch", lambda: booted.latch() == "doppelganger")
        booted.down()
        refused = host.run("systemctl", "start", VALIDATOR, check=False)
        assert refused.returncode != 0
        assert "its client says: " in host.output("cat", LATCH)
        host.run("rm", LATCH)

    def test_what_a_restart_may_mend_does_not_halt_it(
        self, booted: Signing, client: str, host: Machine
    ) -> None:
        del client
        restarts = int(host.property(VALIDATOR, "NRestarts"))
        ends(booted, "locked")
        host.wait("attempts", lambda: int(host.property(VALIDATOR, "NRestarts")) > restarts + 2)
        assert booted.latch() == ""
        said = host.journal("--boot", f"--unit={VALIDATOR}", "--grep=locked: its client says")
        assert said

    def test_a_power_cut_costs_what_its_adapter_says(
        self, booted: Signing, client: str, host: Machine
    ) -> None:
        booted.signs()
        booted.cut()
        host.wait_for_unit(VALIDATOR, seconds=90)
        durable = client in ("lighthouse", "prysm")
        assert booted.row() == ("continue" if durable else "power-cut")
        booted.signs(60 + EPOCH)


class TestBookworm(Ends):
    SUITE = "bookworm"
    CLIENTS = ("lighthouse", "teku")


class TestTrixie(Ends):
    SUITE = "trixie"
    CLIENTS = ("prysm", "nimbus")
