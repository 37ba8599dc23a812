"""Keys that a Web3Signer has, with Lodestar and a stand-in that signs as the real one does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.client import KEPT, Chain
from lab.keystores import PUBLIC_KEYS, keystores
from lab.web3signer import CERTIFICATE, URL, Web3Signer
from lab.world import World

from validator_supervisor import age, contents
from validator_supervisor.contents import Contents, Remote

NAME = "main"
VALIDATOR, STATE = f"validator@{NAME}.service", f"validator-state@{NAME}.service"
KEYS = [f"0x{key}" for key in PUBLIC_KEYS]
FIRST = KEPT
LONG = 150
STRANGE = f"has not adopted, key {KEYS[2]}"
ANNOUNCED = [
    r"has not adopted, ",
    r"does not have, and so nothing signs with, ",
    r"restore: ",
    r"(liveness|slashing|duties) of main: ",  # a development chain that is busy
    # It is unlocked before it has keys; later it is stopped while it waits for the signer.
    r"it has no keys",
    r"hint: validator-supervisor import-keystore",
    r"it was stopped while it waited for its start",
    r"validator-state@main\.service: Failed with result 'exit-code'",
    r"Failed to start validator-state@main\.service",
    r"Dependency failed for validator@main\.service",
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Chain, Web3Signer]]:
    """A validator whose first two keys were adopted of the three that its signer has."""
    with (
        World.booted("trixie", client=True) as world,
        world.chain(tmp_path_factory.mktemp("chain")) as chain,
    ):
        signer = Web3Signer(world.host)
        signer.has(FIRST, FIRST + 1, FIRST + 2)
        signer.start()
        world.config["nodes"] = {"local": {"beacon": f"http://{world.chain_address}"}}
        world.lodestar_validator(NAME)
        validators = world.config["validators"]
        assert isinstance(validators, dict)
        validators[NAME]["keys"] = {"web3signer": URL, "certificate": CERTIFICATE}
        world.init_identity()
        world.apply()
        world.unlock()
        said = imported(world, *KEYS[:2])
        assert all(f"imported {key}" in said for key in KEYS[:2])
        world.host.run("validator-supervisor", "start", NAME, "--no-watch", "--confirm", NAME)
        world.host.systemctl("start", "validator.target")
        world.host.wait_for_unit(VALIDATOR, seconds=LONG)
        world.wait_for_attestation(NAME, seconds=LONG)
        yield world, chain, signer
        assert signer.refused() == []
        assert world.host.problems(ANNOUNCED) == []


def imported(world: World, *words: str) -> str:
    argv = ["validator-supervisor", "import-keystore", NAME, "--web3signer", *words]
    return world.host.run(*argv, seconds=LONG).stdout


def archives(world: World) -> list[Contents]:
    """Return what is in each archive of the host."""
    secret = age.identities(world.host.output("cat", "/run/validator-identity/identity").encode())
    kept = Path(f"/proc/{world.host.leader}/root/var/lib/validator-state/{NAME}/archives")
    return [
        contents.unseal(path.read_bytes(), secret[0], NAME)
        for path in sorted(kept.iterdir())
        if path.name.endswith(".age")
    ]


def said_since_start(world: World, unit: str) -> str:
    invocation = world.host.property(unit, "InvocationID")
    return world.host.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")


def down(world: World) -> None:
    world.host.run("validator-supervisor", "stop", NAME, seconds=LONG)
    for unit in (VALIDATOR, STATE):
        world.host.wait_for_unit(unit, "inactive", LONG)


def attested(world: World) -> int:
    """Wait for an attestation of every key in an epoch that is not over yet; return it."""
    now = int(world.status()["validators"][0]["AttestedEpoch"])  # type: ignore[index]
    return world.wait_for_attestation(NAME, now + 1, LONG)


def test_what_was_adopted_attests_and_nothing_else(
    ready: tuple[World, Chain, Web3Signer],
) -> None:
    world, chain, signer = ready
    epoch = attested(world)
    numbers = range(FIRST, FIRST + 4)
    assert chain.live(epoch, numbers) == {FIRST, FIRST + 1}
    assert set(signer.signed()) == set(KEYS[:2])
    assert all("ATTESTATION" in kinds for kinds in signer.signed().values())
    assert STRANGE in world.host.journal(f"--unit={STATE}")
    assert world.status()["validators"][0]["PublicKeys"] == sorted(KEYS[:2])  # type: ignore[index]

    # No archive has a keystore, and the client has none to lose.
    found = archives(world)
    assert found
    for one in found:
        assert one.manifest.remote_keys == one.manifest.public_keys == tuple(sorted(KEYS[:2]))
        assert set(one.keys.values()) == {Remote()}
        assert set(one.manifest.files) == {"slashing-protection.json"}
    handed = world.host.output("find", f"/run/validator-state/{NAME}", "-type", "f").split()
    assert [path for path in handed if "keystore" in path or "password" in path] == []

    # What it is not for says so.
    text = next(iter(keystores().values()))
    world.host.write("/root/keystore.json", text, 0o600)
    argv = ["import-keystore", NAME, "/root/keystore.json", "--password-fd", "0"]
    assert f"a Web3Signer has the keys of {NAME}" in world.refused("word", *argv)
    out = world.refused("", "exit", NAME, KEYS[0], "--confirm", KEYS[0])
    assert "lodestar exits no key of a Web3Signer" in out


def test_a_signer_that_is_away_is_waited_for(ready: tuple[World, Chain, Web3Signer]) -> None:
    world, _, signer = ready
    host = world.host
    # While the client runs: it goes on when the signer is back, without us.
    process = host.property(VALIDATOR, "MainPID")
    before = attested(world)
    signer.stop()
    host.wait("a failure", lambda: "ECONNREFUSED" in said_since_start(world, VALIDATOR), LONG)
    signer.start()
    attested(world)
    assert host.property(VALIDATOR, "MainPID") == process

    # While it is down: the start waits, and says for what. It watches nothing again.
    down(world)
    signer.stop()
    host.run("validator-supervisor", "start", NAME)
    words = f"Web3Signer {URL}: Connection refused"
    host.wait("the word", lambda: words in host.property(STATE, "StatusText"), LONG)
    argv = ["validator-supervisor", "start", NAME, "--explain", "--json"]
    explained = json.loads(host.run(*argv, check=False).stdout)
    assert (explained["row"], explained["reason"]) == ("refused", words)
    # A stop ends that, too.
    assert host.run("validator-supervisor", "stop", NAME).stdout == ""
    host.wait_for_unit(STATE, "failed")
    host.run("validator-supervisor", "start", NAME)
    host.wait("the word", lambda: words in host.property(STATE, "StatusText"), LONG)
    signer.start()
    host.wait_for_unit(VALIDATOR, seconds=LONG)
    assert "2 keys handed over: continue" in said_since_start(world, STATE)
    assert "watching for a twin" not in said_since_start(world, VALIDATOR)
    assert world.wait_for_attestation(NAME, before + 2, LONG) > before


def test_a_key_that_comes_and_one_that_goes(ready: tuple[World, Chain, Web3Signer]) -> None:
    world, chain, signer = ready
    host = world.host
    down(world)
    # All that are wanted; the one that goes meanwhile does not keep the others from signing.
    assert f"imported {KEYS[2]}" in imported(world)
    signer.has(FIRST + 1, FIRST + 2)
    host.run("validator-supervisor", "start", NAME)
    host.wait(
        "the watch",
        lambda: "watching for a twin" in host.property(VALIDATOR, "StatusText"),
        LONG,
    )
    gone = f"does not have, and so nothing signs with, key {KEYS[0]}"
    assert gone in said_since_start(world, STATE)
    assert "2 keys handed over: restore, keys were imported" in said_since_start(world, STATE)
    host.wait_for_unit(VALIDATOR, seconds=LONG)
    epoch = world.wait_for_attestation(NAME, 0, LONG)
    assert chain.live(epoch, range(FIRST, FIRST + 4)) == {FIRST + 1, FIRST + 2}
    explained = host.output("validator-supervisor", "start", NAME, "--explain")
    assert f"note: Web3Signer {URL} {gone}" in explained
