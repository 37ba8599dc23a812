"""The chains we know."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Chain:
    """A chain; ``network`` is CONFIG_NAME of its specification, time is in Unix seconds."""

    network: str
    genesis_time: int
    seconds_per_slot: int
    slots_per_epoch: int
    genesis_validators_root: str

    def slot(self, now: float) -> int:
        """Return the slot at ``now``."""
        return max(0, int(now - self.genesis_time) // self.seconds_per_slot)


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
        ),
        "hoodi": Chain(
            "hoodi",
            1742213400,
            12,
            32,
            "0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f",
        ),
        "sepolia": Chain(
            "sepolia",
            1655733600,
            12,
            32,
            "0xd8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078",
        ),
        "gnosis": Chain(
            "gnosis",
            1638993340,
            5,
            16,
            "0xf5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47",
        ),
        "chiado": Chain(
            "chiado",
            1665396300,
            5,
            16,
            "0x9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e",
        ),
        "dev": DEVELOPMENT,
    }
)
