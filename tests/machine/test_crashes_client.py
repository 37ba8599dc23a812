"""Crash points with a real client: Lodestar, whose LevelDB the stand-in only imitates.

What it must not forget is what the chain has seen: in which epochs each key was live, and who has
proposed which block. A start's database is what Lodestar itself exports before it runs.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.client import KEPT, VALIDATORS, Chain
from lab.crash import Point, points, traced
from lab.crash import struck as was_struck
from lab.keystores import PUBLIC_KEYS
from lab.signing import CLOCK, DATA, DATABASE, NAME, VALIDATOR
from lab.world import World

pytestmark = pytest.mark.long

PLACE = "/mnt/backups"
KEYS = dict(zip(range(KEPT, VALIDATORS), PUBLIC_KEYS, strict=True))
SLOTS = 8
# How much of LevelDB's log a power cut takes: some signatures, not a whole import.
TAIL = 300


class Real:
    """A validator host with Lodestar, and what its chain has seen of it."""

    def __init__(self, world: World, chain: Chain) -> None:
        self.world = world
        self.host = world.host
        self.chain = chain
        self.targets = dict.fromkeys(KEYS, -1)
        self.blocks = dict.fromkeys(KEYS, -1)
        self._looked = 0
        self._proposed: set[tuple[int, int]] = set()

    def look(self) -> None:
        """Ask the chain, while the client is down, what it has seen of each key so far.

        While it runs a key may be live for a block that is not in the chain yet.
        """
        for index, target in self.live().items():
            self.targets[index] = max(self.targets[index], target)

    def live(self) -> dict[int, int]:
        """Return an epoch in or after which each key has attested, as far as the chain knows."""
        head = int(self.chain.get("/eth/v1/node/syncing")["head_slot"])  # type: ignore[index]
        for slot in range(self._looked, head + 1):
            header = self.chain.get(f"/eth/v1/beacon/headers/{slot}")
            if isinstance(header, dict):
                proposer = int(header["header"]["message"]["proposer_index"])
                if proposer in self.blocks:
                    self.blocks[proposer] = slot
                    self._proposed.add((proposer, slot // SLOTS))
        self._looked = head + 1
        epoch = head // SLOTS
        # A block alone makes a key live, too; and Lodestar counts the epoch of the block that an
        # attestation is in.
        return {
            index: one - 1
            for one in (epoch - 1, epoch)
            for index in self.chain.live(one, KEYS)
            if (index, one) not in self._proposed
        }

    def starts(self, *orders: str) -> None:
        """Have it run, whatever has happened; its database is at or above all that was seen."""
        if self.host.property(VALIDATOR, "ActiveState") != "active":
            if orders:
                self.host.run("validator-supervisor", "start", NAME, *orders, "--confirm", NAME)
            else:
                self.host.systemctl("start", "--no-block", VALIDATOR)
            self.host.wait_for_unit(VALIDATOR, seconds=120)
        text = self.host.output("cat", f"{DATA}/export/slashing-protection.json")
        said = {one["pubkey"]: one for one in json.loads(text)["data"]}
        for index, key in KEYS.items():
            mine = said[f"0x{key}"]
            targets = [int(one["target_epoch"]) for one in mine["signed_attestations"]]
            assert max(targets, default=-1) >= self.targets[index]
            slots = [int(one["slot"]) for one in mine["signed_blocks"]]
            assert max(slots, default=-1) >= self.blocks[index]

    def ends(self) -> None:
        """Stop it, however badly, and look what it has signed."""
        self.host.run("systemctl", "stop", VALIDATOR, check=False, seconds=120)
        self.look()

    def attests(self) -> None:
        """Wait until every key has attested in a later epoch than was seen."""
        known = max(self.targets.values())

        def all_live() -> bool:
            live = self.live()
            return all(live.get(index, -1) > known for index in KEYS)

        self.host.wait("an attestation of every key", all_live, 120)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Lodestar, attesting."""
    folder: Path = tmp_path_factory.mktemp("chain")
    with (
        World.booted("trixie", client=True, peers=("strace",)) as world,
        world.chain(folder) as chain,
    ):
        world.host.run("install", "-d", "-o", "validator-state", PLACE)
        beacon = f"http://{world.chain_address}"
        world.config["nodes"] = {"near": {"beacon": beacon, "backups": PLACE}}
        world.lodestar_validator(NAME)
        world.apply()
        world.import_interop(NAME)
        # A lift by a verified clock is an epoch lower.
        world.host.write(CLOCK, "")
        found = Real(world, chain)
        found.starts("--no-watch")
        world.host.systemctl("start", "validator.target")
        found.attests()
        yield found


def strike(
    real: Real, number: int, directive: str, prepare: Callable[[], object], *orders: str
) -> list[str]:
    """Kill what a directive of the validator's unit runs at so many points of it."""
    struck: list[str] = []
    begins = directive == "ExecStart"

    def once(point: Point | None = None) -> str:
        """Start it, attest, end it, and return what strace has seen of the directive."""
        if begins:
            prepare()
            trace.arm(point)
        real.starts(*orders)
        real.attests()
        if not begins:
            trace.arm(point)
        real.ends()
        trace.disarm()
        return trace.text()

    with traced(real.host, VALIDATOR, directive, 0 if begins else 1) as trace:
        real.ends()
        every = points(once())
        for point in sorted(random.Random(1515).sample(every, number), key=every.index):
            if was_struck(once(point)):
                struck.append(str(point))
            real.starts()
            real.ends()
    return [f"{len(every)} points", *struck]


def test_the_start(real: Real) -> None:
    """Import into an empty database, export, and Lodestar's own beginning."""
    lose = lambda: real.host.run("rm", "-rf", DATABASE)  # noqa: E731
    struck = strike(real, 5, "ExecStart", lose, "--no-watch")
    print(f"start with Lodestar: {len(struck) - 1} kills survived of {struck}")
    assert len(struck) > 3


def test_the_export(real: Real) -> None:
    struck = strike(real, 3, "ExecStopPost", lambda: None)
    print(f"export with Lodestar: {len(struck) - 1} kills survived of {struck}")
    assert len(struck) > 2


def test_cuts(real: Real) -> None:
    """The end of LevelDB's log is lost with the power: it was never synced."""
    host = real.host
    for _ in range(2):
        real.starts()
        real.attests()
        host.cut()
        host.boot_again()
        real.look()
        host.write("/etc/hosts", real.world.network.hosts())
        host.write(CLOCK, "")
        shorter = f'f=$(ls -t {DATABASE}/*.log | head -1); truncate -s -{TAIL} "$f"'
        host.run("sh", "-c", f'{shorter} || truncate -s 0 "$f"')
        real.world.unlock()
        host.wait_for_unit(VALIDATOR, seconds=120)
        real.starts()
        assert "power-cut: " in host.journal(f"--unit={VALIDATOR}", "--boot")
    real.attests()
    print("2 cuts survived with Lodestar")
