"""The chains we know, and what must hold before another is believed to be one.

Public networks are known beforehand. Any other is what its beacon nodes say it is, once they agree;
from then on it is pinned: a node that says something else is on another chain.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

from validator_supervisor import document
from validator_supervisor.schema import integer, record, sequence, setting, table, text

# What validator-watch has pinned, by network.
PINS = Path("/var/lib/validator-watch/chains.json")
# In the order in which they come; the specification has the version of each as NAME_FORK_VERSION.
FORKS = ("GENESIS", "ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU", "GLOAS")
COUNT = integer(0, (1 << 64) - 1, "a number")
POSITIVE = integer(1, (1 << 64) - 1, "a number")
VERSION = text(r"0x[0-9a-f]{8}", "a fork version")
# CONFIG_NAME, as the specification has it.
NAME = text(r"[a-z0-9][a-z0-9-]{0,31}", "a network: 1 to 32 of a-z, 0-9 and -")


@dataclass(frozen=True)
class Chain:
    """A chain; ``network`` is CONFIG_NAME of its specification, time is in Unix seconds.

    ``fork_versions`` are those of FORKS, as far as they are known.
    """

    network: str = setting(text(r".{1,64}", "CONFIG_NAME"), "CONFIG_NAME")
    genesis_time: int = setting(COUNT, "Unix seconds")
    seconds_per_slot: int = setting(POSITIVE, "seconds")
    slots_per_epoch: int = setting(POSITIVE, "slots")
    genesis_validators_root: str = setting(text(r"0x[0-9a-f]{64}", "a root"), "root")
    fork_versions: tuple[str, ...] = setting(sequence(VERSION), "in the order of FORKS", ())

    def slot(self, now: float) -> int:
        """Return the slot at ``now``."""
        return max(0, int(now - self.genesis_time) // self.seconds_per_slot)


def difference(known: Chain, said: Chain) -> str:
    """Return what shows that ``said`` is another chain than ``known``, or ``""``."""
    pairs = [
        ("CONFIG_NAME", said.network, known.network),
        ("genesis_time", said.genesis_time, known.genesis_time),
        ("SECONDS_PER_SLOT", said.seconds_per_slot, known.seconds_per_slot),
        ("SLOTS_PER_EPOCH", said.slots_per_epoch, known.slots_per_epoch),
        ("genesis_validators_root", said.genesis_validators_root, known.genesis_validators_root),
    ]
    # Either side may know of a fork that the other has not heard of yet.
    versions = zip(FORKS, said.fork_versions, known.fork_versions, strict=False)
    pairs += [(f"{fork}_FORK_VERSION", said, known) for fork, said, known in versions]
    return next(
        (f"{name} is {there}, not {here}" for name, there, here in pairs if there != here), ""
    )


def agreed(said: Sequence[Chain | None]) -> Chain | None:
    """Return the chain that two nodes of a network, or its only one, say it is, if all agree.

    ``said`` has every node of the network; None is one that has not answered. A public network
    under another name is none of these.
    """
    answers = [chain for chain in said if chain]
    if not answers or len(answers) < min(2, len(said)):
        return None
    # What only some of them know of nobody has agreed about.
    common = min(len(chain.fork_versions) for chain in answers)
    same = {replace(chain, fork_versions=chain.fork_versions[:common]) for chain in answers}
    public = {chain.genesis_validators_root for chain in NETWORKS.values()}
    chain = same.pop()
    return None if same or chain.genesis_validators_root in public else chain


def load_pins(path: Path = PINS) -> dict[str, Chain]:
    """Return the pinned chains by network. Raises ConfigError where the file is damaged."""
    if not path.exists():
        return {}
    return table(NAME, record(Chain)).read(document.read_json(path))


def dump_pins(pins: Mapping[str, Chain]) -> bytes:
    """Return the bytes of the file of pins."""
    return json.dumps({name: asdict(chain) for name, chain in pins.items()}, indent=1).encode()


def versions(hexadecimal: str) -> tuple[str, ...]:
    """Return the fork versions that are written one after the other, without ``0x``."""
    return tuple(f"0x{version}" for version in hexadecimal.split())


# Each one is another: there is nothing to know beforehand.
DEVELOPMENT = Chain("", 0, 0, 0, "")

# From the networks' own repositories: metadata/ of eth-clients/{mainnet,hoodi,sepolia} and of
# gnosischain/configs.
NETWORKS = MappingProxyType(
    {
        "mainnet": Chain(
            "mainnet",
            1606824023,
            12,
            32,
            "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95",
            versions("00000000 01000000 02000000 03000000 04000000 05000000 06000000"),
        ),
        "hoodi": Chain(
            "hoodi",
            1742213400,
            12,
            32,
            "0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f",
            versions("10000910 20000910 30000910 40000910 50000910 60000910 70000910"),
        ),
        "sepolia": Chain(
            "sepolia",
            1655733600,
            12,
            32,
            "0xd8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078",
            versions("90000069 90000070 90000071 90000072 90000073 90000074 90000075 90000076"),
        ),
        "gnosis": Chain(
            "gnosis",
            1638993340,
            5,
            16,
            "0xf5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47",
            versions("00000064 01000064 02000064 03000064 04000064 05000064 06000064"),
        ),
        "chiado": Chain(
            "chiado",
            1665396300,
            5,
            16,
            "0x9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e",
            versions("0000006f 0100006f 0200006f 0300006f 0400006f 0500006f 0600006f"),
        ),
        "dev": DEVELOPMENT,
    }
)
