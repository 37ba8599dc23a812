"""`validator-supervisor exit` on booted machines: with Lodestar, and refusals with the stand-ins.

And, because that chain is there, a key that is slashed.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest
from lab import standin
from lab.client import KEPT, Chain
from lab.keystores import PUBLIC_KEYS
from lab.machine import Machine
from lab.signing import LATCH, NAME, VALIDATOR, Signing
from lab.standin.beacon import GENESIS
from lab.terminal import Terminal
from lab.world import World

KEYS = [f"0x{key}" for key in PUBLIC_KEYS]
ENVIRONMENT = f"/etc/validator-supervisor/{NAME}.env"
NEVER = str((1 << 64) - 1)
EPOCH = 6  # slots of a second: lab/signing.py


def leaves(
    host: Machine, key: str, *words: str, seconds: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Have a key exit, as a script does; the exit status may be any."""
    argv = ["validator-supervisor", "exit", NAME, key, *words]
    return host.run(*argv, check=False, seconds=seconds)


def statuses(chain: Chain) -> dict[str, str]:
    """Return what the chain says of the validators that are ours."""
    ids = "&".join(f"id={key}" for key in KEYS)
    data = chain.get(f"/eth/v1/beacon/states/head/validators?{ids}")
    assert isinstance(data, list)
    return {one["validator"]["pubkey"]: one["status"] for one in data}


@pytest.fixture(scope="class")
def lodestar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Chain]]:
    """A validator with four keys that attests."""
    young = ["--params.SHARD_COMMITTEE_PERIOD", "0"]
    with (
        World.booted("trixie", client=True) as world,
        world.chain(tmp_path_factory.mktemp("chain"), *young) as chain,
    ):
        world.config["nodes"] = {"local": {"beacon": f"http://{world.chain_address}"}}
        world.lodestar_validator(NAME, *young)
        world.apply()
        world.import_interop(NAME)
        world.host.run("validator-supervisor", "start", NAME, "--no-watch", "--confirm", NAME)
        world.host.systemctl("start", "validator.target")
        world.host.wait_for_unit(VALIDATOR, seconds=150)
        world.wait_for_attestation(NAME, seconds=150)
        yield world, chain


@pytest.fixture(scope="class")
def ready() -> Iterator[Signing]:
    """A validator with two keys."""
    with Signing.booted("bookworm", near="/srv/backups") as signing:
        signing.start("--no-watch")
        signing.signs()
        yield signing


class TestLodestar:
    """The real client, on a chain where a validator may leave in the epoch it has come in."""

    def test_one_of_four_keys_leaves(self, lodestar: tuple[World, Chain]) -> None:
        host, chain = lodestar[0].host, lodestar[1]
        started = host.property(VALIDATOR, "MainPID")
        unknown = leaves(host, f"{KEYS[0][:-1]}0", "--confirm", f"{KEYS[0][:-1]}0")
        assert unknown.returncode == 1
        assert f"did you mean {KEYS[0]}?" in unknown.stderr
        # Neither a terminal nor the key, and another key.
        assert "there is no terminal to ask on" in leaves(host, KEYS[0]).stderr
        assert "nothing is changed" in leaves(host, KEYS[0], "--confirm", KEYS[1]).stderr
        assert set(statuses(chain).values()) == {"active_ongoing"}

        done = leaves(host, KEYS[0], "--confirm", KEYS[0], "--json")
        assert done.returncode == 0, done.stderr
        # Interop validators have the credentials of a BLS key.
        assert "THE BALANCE IS STUCK" in done.stderr
        said = json.loads(done.stdout)
        assert (said["key"], said["status"]) == (KEYS[0], "active_exiting")
        assert said["exit_time"] == chain.genesis + said["exit_epoch"] * 16
        assert statuses(chain) == {
            key: "active_exiting" if key == KEYS[0] else "active_ongoing" for key in KEYS
        }

        again = leaves(host, KEYS[0])
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.startswith(f"{KEYS[0]} leaves: active_exiting, out from epoch ")
        assert statuses(chain)[KEYS[1]] == "active_ongoing"
        # It goes on as if nothing had been, and nothing is left among its keys.
        assert host.property(VALIDATOR, "MainPID") == started
        left = host.run("find", f"/run/validator-state/{NAME}/client", "-name", "exit-*").stdout
        assert left == ""
        entry = host.output("journalctl", "VALIDATOR_METHOD=Exit", "--output=json", "--quiet")
        assert json.loads(entry)["VALIDATOR_ARGUMENTS"] == KEYS[0]
        assert json.loads(entry)["VALIDATOR_CALLER_UID"] == "0"

    def test_as_a_person_types_it(self, lodestar: tuple[World, Chain]) -> None:
        host, chain = lodestar[0].host, lodestar[1]
        terminal = Terminal(host, f"validator-supervisor exit {NAME} {KEYS[1]}")
        terminal.answer("Type the first 10 characters of the key", KEYS[1][:10])
        assert terminal.end(300) == 0, terminal.shown
        assert f"{NAME} must go on running until then" in terminal.shown
        assert statuses(chain)[KEYS[1]] == "active_exiting"
        assert statuses(chain)[KEYS[2]] == "active_ongoing"
        assert host.property(VALIDATOR, "ActiveState") == "active"

    def test_a_key_that_is_slashed_halts_it(self, lodestar: tuple[World, Chain]) -> None:
        """What slashes it is real: the chain is shown two blocks of its for one slot."""
        host, chain = lodestar[0].host, lodestar[1]
        chain.slash(KEPT + 2)
        host.wait("the chain", lambda: "slashed" in statuses(chain)[KEYS[2]], 60)
        # It is looked at once in an epoch, which has sixteen seconds here.
        host.wait_for_unit(VALIDATOR, "inactive", 60)
        reason = host.output("cat", LATCH)
        assert reason.startswith("slashed\n")
        assert KEYS[2] in reason
        host.systemctl("start", VALIDATOR, check=False)
        assert host.property(VALIDATOR, "ActiveState") == "inactive"
        assert not {KEYS[0], KEYS[1], KEYS[3]} & {key for key in KEYS if key in reason}


class TestRefusals:
    """What a node says of a key that is not ready; the stand-ins of the client and the node."""

    @pytest.fixture
    def key(self, ready: Signing) -> Iterator[str]:
        """A key of which nothing special is said, before and after."""
        key = ready.keys[0]
        before = ready.host.output("cat", ENVIRONMENT)
        yield key
        ready.host.write(ENVIRONMENT, f"{before}\n")
        ready.beacon.says(**{key: {}}, syncing={}, partial=None)
        ready.host.wait("the node", lambda: ready.world.status()["healthy"])

    def refused(self, signing: Signing, key: str, *words: str, status: int = 1) -> str:
        done = leaves(signing.host, key, "--confirm", key)
        assert (done.returncode, done.stdout) == (status, "")
        for word in words:
            assert word in done.stderr
        return done.stderr

    def epoch(self, signing: Signing) -> int:
        return (int(signing.host.output("date", "+%s")) - GENESIS) // EPOCH

    def test_what_would_not_count(self, ready: Signing, key: str) -> None:
        came = self.epoch(ready) - 100
        ready.beacon.says(**{key: {"activation_epoch": str(came)}})
        when = f"it counts from epoch {came + 256} (20"
        self.refused(ready, key, "has not been active for 256 epochs yet", when)
        ready.beacon.says(**{key: {"activation_epoch": NEVER, "status": "pending_queued"}})
        self.refused(ready, key, "it is not active yet (pending_queued)")
        index = int(key[2:12], 16)
        until = self.epoch(ready) + 50
        waiting = [{"validator_index": str(index), "amount": "1", "withdrawable_epoch": str(until)}]
        ready.beacon.says(**{key: {}}, partial=waiting)
        self.refused(ready, key, "it waits for 1 partial withdrawals", f"epoch {until} (")

    def test_a_node_that_is_behind_is_not_believed(self, ready: Signing, key: str) -> None:
        ready.beacon.says(syncing={"is_syncing": True, "head_slot": "5"})
        self.refused(ready, key, "no healthy beacon node", "is synchronising", status=75)

    def test_what_the_client_says_proves_nothing(self, ready: Signing, key: str) -> None:
        before = ready.host.output("cat", ENVIRONMENT)
        ready.host.write(ENVIRONMENT, f"{before}\nSTANDIN_EXIT=lost\n")
        said = self.refused(ready, key, "no beacon node shows an exit after 64 s", status=75)
        # It was given one key of two.
        assert f"Submitted voluntary exit for {key} 1/1, of 1" in said
        ready.host.write(ENVIRONMENT, f"{before}\nSTANDIN_EXIT=refused\n")
        self.refused(ready, key, "after 8 s", "Voluntary exit errored", status=75)

    def test_only_while_it_runs(self, ready: Signing, key: str) -> None:
        del key
        other = ready.keys[1]
        ready.stop()
        self.refused(ready, other, f"{NAME} does not run", f"validator-supervisor start {NAME}")
        ready.start()

    @pytest.mark.parametrize("client", ["lighthouse", "nimbus", "teku"])
    def test_other_clients(self, client: str, ready: Signing, key: str) -> None:
        validators = ready.world.config["validators"]
        assert isinstance(validators, dict)
        before = dict(validators[NAME])
        program = f"{standin.PLACE}/{standin.PROGRAMS[client]}"
        validators[NAME]["release"] = {"client": client, "binary": program}
        validators[NAME]["args"] = ["--testnet-dir=/etc/dev"] if client == "lighthouse" else []
        again(ready)
        if client == "nimbus":
            self.refused(ready, key, "nimbus exits no key", "lighthouse, teku, lodestar")
        else:
            done = leaves(ready.host, key, "--confirm", key)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(f"{key} leaves: active_exiting")
        validators[NAME] = before
        again(ready)


def again(ready: Signing) -> None:
    """Start it with the configuration of now."""
    ready.stop()
    ready.world.apply()
    ready.start()
