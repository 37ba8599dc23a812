"""The preferred beacon node is lost: Lodestar goes on through another, in two slots of two seconds.

So many of the chain's validators are ours that there is a duty in every slot, and so few that the
chain goes on without them.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from lab import keystores
from lab.client import GET, SECONDS_PER_SLOT, Chain
from lab.machine import Machine
from lab.world import World

MAIN = "validator@mainnet.service"
VALIDATORS, OURS = 160, 40
SLOTS_PER_EPOCH = 8
LIMIT = 2 * SECONDS_PER_SLOT
# In a slot, when an attestation is begun at the latest.
ATTESTED = 1 / 3
WORDS = re.compile(r"(slot|count)=(\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
METRICS = 5064


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[World, Chain]]:
    kept = f"{OURS}..{VALIDATORS - 1}"
    with (
        World.booted("trixie", ["helsinki", "lisbon"], client=True, urgent=True) as world,
        world.chain(tmp_path, validators=VALIDATORS, kept=kept, urgent=True) as chain,
    ):
        for name in world.nodes:
            world.node(name, beacon={"dev": world.chain_address})
        world.lodestar_validator("mainnet", "--metrics", "--metrics.port", str(METRICS))
        world.apply()
        for name in world.nodes:
            world.authorize(name)
        world.init_identity()
        world.unlock()
        world.import_keystores("mainnet", keystores.many(OURS))
        world.host.run("validator-supervisor", "start", "mainnet", "--no-watch",
                       "--confirm", "mainnet")  # fmt: skip
        world.host.systemctl("start", "validator.target")
        world.host.wait_for_unit(MAIN, seconds=180)
        # What was lifted attests from the next epoch on; to aggregate makes it live before that.
        world.host.wait("an epoch of attestations", lambda: attests(world.host, chain), 180)
        yield world, chain


def slot(chain: Chain, when: float) -> int:
    return int(when - chain.genesis) // SECONDS_PER_SLOT


def time_of(chain: Chain, slot: int) -> float:
    """Return when an attestation of a slot is due."""
    return chain.genesis + (slot + ATTESTED) * SECONDS_PER_SLOT


def now(host: Machine) -> float:
    return float(host.output("date", "+%s.%N"))


class Published(NamedTuple):
    """What the client says when the attestations of a slot are published."""

    when: float
    slot: int
    keys: int


def published(host: Machine, since: float) -> list[Published]:
    argv = ["journalctl", f"--unit={MAIN}", f"--since=@{since:.6f}", "--output=json", "--quiet",
            "--grep=Published attestations"]  # fmt: skip
    found = []
    for line in host.run(*argv, check=False).stdout.splitlines():
        entry = json.loads(line)
        # In colours it is no text to journalctl, but numbers of bytes.
        said = dict(WORDS.findall(COLOUR.sub("", bytes(entry["MESSAGE"]).decode())))
        when = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        found.append(Published(when, int(said["slot"]), int(said["count"])))
    return found


def attests(host: Machine, chain: Chain) -> bool:
    """Tell whether there was an epoch in which every key has attested."""
    keys: Counter[int] = Counter()
    for one in published(host, chain.genesis):
        keys[one.slot // SLOTS_PER_EPOCH] += one.keys
    return OURS in keys.values()


def score(host: Machine) -> float:
    """Return what the client thinks of its first node: only at 10 it asks no other."""
    argv = ["python3", "-c", GET, f"http://127.0.0.1:{METRICS}/metrics"]
    said = host.run(*argv, check=False).stdout
    found = re.search(r'^vc_rest_api_client_urls_score\{urlIndex="0"\} (\S+)', said, re.MULTILINE)
    return float(found[1]) if found else 0


def lose(world: World, how: str) -> None:
    """Lose helsinki: its link, without a word, or what is at its end of the tunnel."""
    if how == "link":
        world.network.cut("helsinki")
    else:
        world.nodes["helsinki"].systemctl("stop", "ssh.socket", "ssh.service")
        world.nodes["helsinki"].run("pkill", "-KILL", "sshd")


def find(world: World, how: str) -> None:
    if how == "link":
        world.network.heal("helsinki")
    else:
        world.nodes["helsinki"].systemctl("start", "ssh.service")
    world.host.wait_for_unit("validator-tunnel@helsinki.service", seconds=60)
    world.host.wait("helsinki", lambda: world.status()["healthy"], 60)
    world.host.wait("the client to trust it", lambda: score(world.host) == 10, 60)


def two_epochs(world: World, chain: Chain, how: str) -> tuple[float, int]:
    """Lose helsinki; return the seconds to the first attestation, and how many have never come.

    Of those that were due two slots later, or before it, none may be missing.
    """
    host = world.host
    began = slot(chain, now(host)) // SLOTS_PER_EPOCH
    lose(world, how)
    cut = now(host)
    due: dict[int, int] = {}
    for epoch in (began, began + 1):
        due |= chain.duties(epoch, range(OURS))
    # A second more for the last one to be published, and its line to be in the journal.
    end = time_of(chain, max(due)) + 2 * SECONDS_PER_SLOT
    host.wait("two epochs", lambda: now(host) > end, 60)
    every = published(host, time_of(chain, min(due)) - SECONDS_PER_SLOT)
    done = {one.slot: one.keys for one in every}
    missed = {one: keys - done.get(one, 0) for one, keys in due.items() if keys != done.get(one)}
    late = [one for one in missed if not cut <= time_of(chain, one) < cut + LIMIT]
    assert late == [], (how, cut, missed, every)
    # One that was begun before it, when the block came early, went through helsinki.
    first = min(one.when for one in every if min(one.when, time_of(chain, one.slot)) >= cut)
    return round(first - cut, 1), sum(missed.values())


def test_the_preferred_node_is_lost(
    world: tuple[World, Chain], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, chain = world
    lab.host.wait("the client to trust helsinki", lambda: score(lab.host) == 10, 60)
    started = lab.host.property(MAIN, "MainPID")
    seen: dict[str, list[tuple[float, int]]] = {"link": [], "node": []}
    for turn in range(20 if request.config.getoption("--long") else 5):
        how = ("link", "node")[turn % 2]
        seen[how].append(two_epochs(lab, chain, how))
        find(lab, how)
    with capsys.disabled():
        print(f"\nseconds to the first attestation, attestations missed: {seen}")
    assert lab.host.property(MAIN, "MainPID") == started
