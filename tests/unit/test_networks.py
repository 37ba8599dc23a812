import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import networks
from validator_supervisor.errors import ConfigError
from validator_supervisor.networks import DEVELOPMENT, FORKS, NETWORKS, Chain

CHAIN = Chain("testnet", 1_700_000_000, 6, 32, "0x" + "ab" * 32, ("0x10000001", "0x20000001"))
OTHER = replace(CHAIN, genesis_time=1)


@pytest.mark.parametrize("network", [n for n, chain in NETWORKS.items() if chain != DEVELOPMENT])
def test_public_networks_are_complete(network: str) -> None:
    chain = NETWORKS[network]
    assert chain.network == network
    # Gloas does not have a version everywhere yet.
    assert len(chain.fork_versions) >= FORKS.index("GLOAS")
    assert len(set(chain.fork_versions)) == len(chain.fork_versions)
    assert chain.seconds_per_slot * chain.slots_per_epoch in (12 * 32, 5 * 16)
    # What is known can be written and read as what is pinned.
    (pin,) = json.loads(networks.dump_pins({network: chain})).values()
    assert pin["genesis_validators_root"] == chain.genesis_validators_root


@pytest.mark.parametrize(
    ("said", "chain"),
    [
        ([], None),
        ([None], None),
        ([CHAIN], CHAIN),
        ([CHAIN, None], None),
        ([CHAIN, CHAIN], CHAIN),
        ([CHAIN, None, CHAIN], CHAIN),
        ([CHAIN, OTHER], None),
        ([CHAIN, CHAIN, OTHER], None),
        # Believed is only what every one of them says.
        (
            [CHAIN, replace(CHAIN, fork_versions=CHAIN.fork_versions[:1])],
            replace(CHAIN, fork_versions=CHAIN.fork_versions[:1]),
        ),
        ([replace(CHAIN, fork_versions=(*CHAIN.fork_versions, "0xdeadbeef")), CHAIN, CHAIN], CHAIN),
        ([replace(CHAIN, seconds_per_slot=1), CHAIN, CHAIN], None),
        ([replace(CHAIN, slots_per_epoch=1), CHAIN, CHAIN], None),
        ([NETWORKS["mainnet"], NETWORKS["mainnet"]], None),
        ([NETWORKS["hoodi"]], None),
        ([CHAIN, replace(CHAIN, fork_versions=("0x10000001", "0x20000002"))], None),
    ],
)
def test_nodes_of_a_network_have_to_agree(said: list[Chain | None], chain: Chain | None) -> None:
    assert networks.agreed(said) == chain


def test_pins_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "chains.json"
    assert networks.load_pins(path) == {}
    pins = {"mine": CHAIN, "other": replace(OTHER, fork_versions=())}
    path.write_bytes(networks.dump_pins(pins))
    assert networks.load_pins(path) == pins


@given(st.data())
def test_damaged_pins_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(networks.dump_pins({"mine": CHAIN}))
    path = tmp_path_factory.mktemp("pins") / "chains.json"
    at = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.booleans())
    raw[at:] = b"" if cut else bytes([data.draw(st.integers(0, 255))]) + raw[at + 1 :]
    path.write_bytes(raw)
    try:
        (chain,) = networks.load_pins(path).values()
    except ConfigError:
        return
    # Another letter in its place may be as good: a name, a digit, white space.
    assert not cut
    assert isinstance(chain, Chain)
