"""The five adapters: recorded arguments, where keys and databases are, what an end means."""

import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import bls, ending, ethereum, keystore, wallet
from validator_supervisor import run as process
from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import (
    DOPPELGANGER,
    EXPORT,
    HALTING,
    IMPORT,
    LOCKED,
    OTHER_CHAIN,
    SLASHED,
    Place,
    Setup,
    Signer,
)
from validator_supervisor.contents import Key
from validator_supervisor.errors import SupervisorError
from validator_supervisor.keystore_crypto import Scrypt
from validator_supervisor.validators import CLIENTS as NAMES
from validator_supervisor.validators import NO_CERTIFICATE, Ethereum, Keys, Release

D, K = "/var/lib/validator/main", "/run/validator-state/main/client"
STATE = Place(Path(D), Path(K))
KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]
FEE = "0x00000000219ab540356cBB839Cbe05303d7705Fa"
ONE, TWO = "http://127.0.0.1:13000", "http://127.0.0.1:5052"
FILE = Path("/x/e.json")

# The shortest run on mainnet, and what each of the settings adds; then the two commands about what
# was signed. From the clients' documentation: see docs/clients.md.
RUN = {
    "lighthouse": [
        "/c", "vc", "--network", "mainnet",
        "--validators-dir", f"{K}/validators", "--secrets-dir", f"{K}/secrets",
        "--disable-auto-discover", "--beacon-nodes", f"{ONE},{TWO}",
        "--suggested-fee-recipient", FEE, "--logfile-max-number", "0",
    ],
    "prysm": [
        "/c", "--accept-terms-of-use", "--mainnet", f"--datadir={D}/prysm",
        f"--wallet-dir={K}/wallet", f"--wallet-password-file={K}/password.txt",
        f"--beacon-rest-api-provider={ONE},{TWO}", f"--suggested-fee-recipient={FEE}",
    ],
    "teku": [
        "/c", "validator-client", "--network=mainnet", f"--data-path={D}/teku",
        f"--validator-keys={K}/keystores:{K}/passwords",
        f"--beacon-node-api-endpoints={ONE},{TWO}",
        f"--validators-proposer-default-fee-recipient={FEE}",
        "--log-destination=CONSOLE", "--log-color-enabled=false",
    ],
    "nimbus": [
        "/c", "--non-interactive", f"--data-dir={K}/data", f"--validators-dir={K}/validators",
        f"--secrets-dir={K}/secrets", f"--beacon-node={ONE}", f"--beacon-node={TWO}",
        "--beacon-node-mode=fallback", f"--suggested-fee-recipient={FEE}",
        "--doppelganger-detection=off",
    ],
    "lodestar": [
        "/c", "validator", "--network", "mainnet", "--dataDir", K,
        "--validatorsDbDir", f"{D}/validator-db", "--logFile", "none",
        "--beaconNodes", ONE, "--beaconNodes", TWO, "--suggestedFeeRecipient", FEE,
    ],
}  # fmt: skip
ADDED = {
    "lighthouse": [
        "--graffiti=hello", "--gas-limit=45000000", "--builder-proposals", "--distributed",
        "--enable-doppelganger-protection", "--metrics",
    ],
    "prysm": [
        "--graffiti=hello", "--suggested-gas-limit=45000000", "--enable-builder", "--distributed",
        "--enable-doppelganger", "--metrics",
    ],
    "teku": [
        "--validators-graffiti=hello",
        "--validators-builder-registration-default-gas-limit=45000000",
        "--validators-builder-registration-default-enabled=true",
        "--Xobol-dvt-integration-enabled=true", "--doppelganger-detection-enabled=true",
        "--metrics",
    ],
    "nimbus": [
        "--graffiti=hello", "--suggested-gas-limit=45000000", "--payload-builder=true",
        "--distributed", "--metrics",
    ],
    "lodestar": [
        "--graffiti=hello", "--defaultGasLimit=45000000", "--builder", "--distributed",
        "--doppelgangerProtectionEnabled", "--metrics",
    ],
}  # fmt: skip
PROTECTION = {
    "lighthouse": {
        command: [
            "/c", "--network", "mainnet", "account", "validator",
            "--validators-dir", f"{D}/lighthouse", "slashing-protection", command, str(FILE),
        ]
        for command in (EXPORT, IMPORT)
    },
    "prysm": {
        EXPORT: [
            "/c", "slashing-protection-history", "export", "--accept-terms-of-use",
            f"--datadir={D}/prysm", "--slashing-protection-export-dir=/x",
        ],
        IMPORT: [
            "/c", "slashing-protection-history", "import", "--accept-terms-of-use",
            f"--datadir={D}/prysm", f"--slashing-protection-json-file={FILE}",
        ],
    },
    "teku": {
        EXPORT: ["/c", "slashing-protection", "export", f"--data-path={D}/teku", f"--to={FILE}"],
        IMPORT: ["/c", "slashing-protection", "import", f"--data-path={D}/teku", f"--from={FILE}"],
    },
    "nimbus": {
        command: [
            "/nimbus_beacon_node", f"--data-dir={K}/data", f"--validators-dir={D}/nimbus",
            "slashingdb", command, str(FILE),
        ]
        for command in (EXPORT, IMPORT)
    },
    "lodestar": {
        command: [
            "/c", "validator", "slashing-protection", command, "--network", "mainnet",
            "--dataDir", K, "--validatorsDbDir", f"{D}/validator-db", "--logFile", "none",
            "--beaconNodes", ONE, "--beaconNodes", TWO, "--file", str(FILE),
        ]
        for command in (EXPORT, IMPORT)
    },
}  # fmt: skip
# The keystore is KEYS[0]; of the beacon nodes two take the first.
EXIT = {
    "lighthouse": [
        "/c", "--network", "mainnet", "account", "validator", "--validators-dir", f"{K}/validators",
        "exit", "--keystore", f"{K}/validators/{KEYS[0]}/voting-keystore.json",
        "--password-file", f"{K}/secrets/{KEYS[0]}", "--beacon-node", ONE,
        "--no-confirmation", "--no-wait",
    ],
    "teku": [
        "/c", "voluntary-exit", "--network=mainnet", f"--beacon-node-api-endpoint={ONE}",
        f"--validator-keys={K}/keystores:{K}/passwords", f"--validator-public-keys={KEYS[0]}",
        "--confirmation-enabled=false",
    ],
    "lodestar": [
        "/c", "validator", "voluntary-exit", "--network", "mainnet",
        "--dataDir", K, "--validatorsDbDir", f"{D}/validator-db", "--logFile", "none",
        "--beaconNodes", ONE, "--beaconNodes", TWO, "--pubkeys", KEYS[0], "--yes", "--force",
    ],
}  # fmt: skip
# Instead of where keystores are; Lighthouse and Nimbus are told in files.
URL = "https://signer:9000"
SIGNER = Signer(URL, "", tuple(KEYS))
REMOTE = {
    "prysm": (
        [f"--wallet-password-file={K}/password.txt"],
        [
            f"--validators-external-signer-url={URL}",
            f"--validators-external-signer-public-keys={KEYS[0]},{KEYS[1]}",
        ],
    ),
    "teku": (
        [f"--validator-keys={K}/keystores:{K}/passwords"],
        [
            f"--validators-external-signer-url={URL}",
            f"--validators-external-signer-public-keys={KEYS[0]},{KEYS[1]}",
            "--validators-external-signer-slashing-protection-enabled=true",
        ],
    ),
    "lodestar": (
        [],
        ["--externalSigner.url", URL, "--externalSigner.pubkeys", f"{KEYS[0]},{KEYS[1]}"],
    ),
}
every_client = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def main(example: Applied) -> Ethereum:
    return replace(
        example.config.ethereum[0],
        network="mainnet",
        fee_recipient=FEE,
        graffiti="",
        gas_limit=0,
        builder=False,
        args=(),
        release=Release(client="lodestar", binary="/c"),
    )


def full(main: Ethereum) -> Ethereum:
    return replace(
        main, graffiti="hello", gas_limit=45_000_000, builder=True, distributed=True,
        args=("--metrics",),
    )  # fmt: skip


def test_every_client_that_can_be_configured_has_an_adapter() -> None:
    assert tuple(CLIENTS) == NAMES


@every_client
def test_recorded_arguments(name: str, main: Ethereum) -> None:
    client = CLIENTS[name]
    assert client.run(Setup(main, STATE, [ONE, TWO])) == RUN[name]
    words = client.run(Setup(full(main), STATE, [ONE, TWO], look_for_twin=True))
    if name == "nimbus":  # it has a word for yes and one for no
        assert words.pop(words.index("--doppelganger-detection=on"))
        words.insert(len(RUN[name]) - 1, "--doppelganger-detection=off")
    assert words == RUN[name] + ADDED[name]
    for command, expected in PROTECTION[name].items():
        assert client.protection(Setup(main, STATE, [ONE, TWO]), command, FILE) == expected


@every_client
def test_recorded_arguments_of_an_exit(name: str, main: Ethereum) -> None:
    client = CLIENTS[name]
    assert bool(client.exit) == (name in EXIT)
    assert bool(client.no_exit) == (name not in EXIT)
    if client.exit:
        assert client.exit(Setup(main, STATE, [ONE, TWO]), KEYS[0]) == EXIT[name]
        own = replace(main, network="ours", args=("--testnet-dir=/etc/ours", "--params.X", "0"))
        words = client.exit(Setup(own, STATE, [ONE]), KEYS[0])
        assert ("--testnet-dir=/etc/ours" in words) == (name != "teku")
        # The parameters of a development chain are Lodestar's.
        assert (words[-2:] == ["--params.X", "0"]) == (name == "lodestar")
        assert "mainnet" not in " ".join(words)


@every_client
def test_recorded_arguments_of_a_web3signer(name: str, main: Ethereum) -> None:
    gone, come = REMOTE.get(name, ([], []))
    words = CLIENTS[name].run(Setup(main, STATE, [ONE, TWO], signer=SIGNER))
    plain = RUN[name]
    at = plain.index(gone[0]) if gone else len(plain)
    assert words == plain[:at] + come + plain[at + len(gone) :]
    # More than the kernel takes in one argument.
    many = tuple(f"0x{number:096x}" for number in range(2500))
    words = CLIENTS[name].run(Setup(main, STATE, [ONE], signer=Signer(URL, "", many)))
    assert max(map(len, words)) < 128 << 10
    if name in REMOTE:
        assert all(any(key in word for word in words) for key in many)
        assert sum(many[0] in word for word in words) == 1


def test_exits_of_a_web3signer(main: Ethereum) -> None:
    able = {name for name, one in CLIENTS.items() if one.exit and not one.no_remote_exit}
    assert able == {"teku"}
    teku = CLIENTS["teku"].exit
    assert teku
    words = teku(Setup(main, STATE, [ONE], signer=Signer(URL, "", (KEYS[0],))), KEYS[0])
    assert words == [
        "/c", "voluntary-exit", "--network=mainnet", f"--beacon-node-api-endpoint={ONE}",
        f"--validators-external-signer-url={URL}",
        f"--validators-external-signer-public-keys={KEYS[0]}",
        f"--validator-public-keys={KEYS[0]}", "--confirmation-enabled=false",
    ]  # fmt: skip


def test_what_is_trusted(main: Ethereum) -> None:
    """Each client goes by a certificate in one way, or the configuration refuses it."""
    assert {name for name in CLIENTS if CLIENTS[name].trust} == {"lodestar"}
    assert {*CLIENTS} - {*NO_CERTIFICATE} == {"lighthouse", "lodestar"}
    known = replace(main, keys=Keys(web3signer=URL, certificate="/c.pem"))
    assert ethereum.environment(known) == {"NODE_EXTRA_CA_CERTS": "/c.pem"}
    assert ethereum.environment(replace(main, keys=Keys(web3signer=URL))) == {}
    assert ethereum.environment(main) == {}


@every_client
def test_a_web3signer_is_laid_out_again_and_with_no_secret(name: str, place: Place) -> None:
    client = CLIENTS[name]
    for _ in range(2):
        client.delegate(place, Signer(URL, "/c.pem", tuple(KEYS)))
    expected = {
        "lighthouse": {"validators/validator_definitions.yml"},
        "nimbus": {f"validators/{key}/remote_keystore.json" for key in KEYS},
    }.get(name, set())
    assert {file for file in files(place.keys) if "slashing_protection" not in file} == expected
    if name == "lighthouse":
        (raw,) = [path.read_text() for path in place.keys.rglob("*.yml")]
        assert json.loads(raw) == [
            {
                "enabled": True, "type": "web3signer", "url": URL, "voting_public_key": key,
                "root_certificate_path": "/c.pem",
            }
            for key in KEYS
        ]  # fmt: skip
        client.delegate(place, SIGNER)
        assert "root_certificate_path" not in next(place.keys.rglob("*.yml")).read_text()
    if name == "nimbus":
        for key in KEYS:
            file = place.keys / f"validators/{key}/remote_keystore.json"
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert json.loads(file.read_text()) == {
                "version": 1, "type": "web3signer", "pubkey": key, "remote": URL,
            }  # fmt: skip
    if name in ("lighthouse", "nimbus"):
        client.empty(place)
        link = next(path for path in place.keys.rglob("slashing_protection*"))
        link.write_text("signed")
        assert (client.database(place) / link.name).read_text() == "signed"


@every_client
def test_the_files_of_an_exit_are_those_that_are_laid_out(
    name: str, place: Place, keys: dict[str, Key], main: Ethereum
) -> None:
    client, (key, *_) = CLIENTS[name], keys
    client.install(place, {key: keys[key]})
    words = client.exit(Setup(main, place, [ONE]), key) if client.exit else []
    for word in words:
        for path in re.findall(rf"{place.keys}[^:]*", word):
            assert Path(path).exists(), word


@every_client
def test_values_that_look_like_options_stay_values(name: str, main: Ethereum) -> None:
    words = CLIENTS[name].run(Setup(replace(main, graffiti="--force $(id)"), STATE, [ONE]))
    assert [word for word in words if "--force" in word] == [
        next(word for word in ADDED[name] if "graffiti" in word).replace("hello", "--force $(id)")
    ]


def test_networks_that_a_client_does_not_know(main: Ethereum) -> None:
    own = replace(main, network="ours", args=("--testnet-dir=/etc/ours", "--metrics"))
    words = {name: client.run(Setup(own, STATE, [ONE])) for name, client in CLIENTS.items()}
    assert words["lighthouse"][1:3] == ["vc", "--testnet-dir=/etc/ours"]
    assert words["lighthouse"].count("--testnet-dir=/etc/ours") == 1
    tool = CLIENTS["lighthouse"].protection(Setup(own, STATE, []), EXPORT, FILE)
    assert tool[1] == "--testnet-dir=/etc/ours"
    assert words["prysm"][2].startswith("--datadir=")
    assert words["teku"][2].startswith("--data-path=")
    # It would take mainnet for what it is not told.
    assert words["lodestar"][2:4] == ["--network", "ours"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "state", tmp_path / "keys")
    for directory in (made.state, made.keys):
        directory.mkdir()
    return made


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    made = {}
    for number in (1, 2):
        secret = bytes([number]) * 32
        password = f"pw {number}".encode()
        stored = keystore.encrypt(secret, password, kdf=Scrypt(bytes(32), n=2))
        made[f"0x{bls.public_key(secret).hex()}"] = Key(stored, password)
    return made


def files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


LAID_OUT = {
    "lighthouse": [
        "validators/{}/voting-keystore.json", "secrets/{}", "validators/validator_definitions.yml",
        "validators/slashing_protection.sqlite",
    ],
    "prysm": ["wallet/direct/accounts/all-accounts.keystore.json", "password.txt"],
    "teku": ["keystores/{}.json", "passwords/{}.txt"],
    "nimbus": [
        "validators/{}/keystore.json", "secrets/{}", "validators/slashing_protection.sqlite3",
    ],
    "lodestar": ["keystores/{}/voting-keystore.json", "secrets/{}"],
}  # fmt: skip


@every_client
def test_keys_are_laid_out_in_memory_alone_and_again(
    name: str, place: Place, keys: dict[str, Key]
) -> None:
    for _ in range(2):
        CLIENTS[name].install(place, keys)
    expected = {word.format(key) for word in LAID_OUT[name] for key in keys}
    assert files(place.keys) == expected
    assert files(place.state) == set()
    stored = {path.read_bytes() for path in place.keys.rglob("*") if path.is_file()}
    if name != "prysm":
        assert stored >= {part for key in keys.values() for part in (key.keystore, key.password)}


@every_client
def test_a_database_is_a_directory_of_its_own_on_disk(name: str, place: Place) -> None:
    client = CLIENTS[name]
    others = {other.database(place) for known, other in CLIENTS.items() if known != name}
    assert client.database(place).is_relative_to(place.state)
    assert client.database(place) not in others
    # A second time, as after a crash, changes nothing.
    for _ in range(2):
        client.empty(place)
    assert client.database(place).is_dir() or name == "lodestar"


def test_what_lighthouse_knows_of_its_keys(place: Place, keys: dict[str, Key]) -> None:
    CLIENTS["lighthouse"].install(place, keys)
    definitions = json.loads((place.keys / "validators/validator_definitions.yml").read_text())
    assert [one["voting_public_key"] for one in definitions] == list(keys)
    for one in definitions:
        key = keys[one["voting_public_key"]]
        assert (one["enabled"], one["type"]) == (True, "local_keystore")
        assert Path(one["voting_keystore_path"]).read_bytes() == key.keystore
        assert Path(one["voting_keystore_password_path"]).read_bytes() == key.password


@pytest.mark.parametrize(
    ("name", "file"),
    [("lighthouse", "slashing_protection.sqlite"), ("nimbus", "slashing_protection.sqlite3")],
)
def test_databases_beside_keys_are_links_to_the_disk(name: str, file: str, place: Place) -> None:
    CLIENTS[name].install(place, {})
    CLIENTS[name].empty(place)
    link = place.keys / "validators" / file
    link.write_text("signed")
    assert link.is_symlink()
    assert (CLIENTS[name].database(place) / file).read_text() == "signed"


def test_nimbus_finds_the_modes_that_it_insists_on(place: Place, keys: dict[str, Key]) -> None:
    before = os.umask(0)
    try:
        CLIENTS["nimbus"].install(place, keys)
    finally:
        os.umask(before)
    for key in keys:
        for path in (place.keys / f"validators/{key}/keystore.json", place.keys / f"secrets/{key}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("validators", "secrets", "data"):
        assert stat.S_IMODE((place.keys / name).stat().st_mode) == 0o700


def test_prysm_gets_a_wallet_with_every_key(place: Place, keys: dict[str, Key]) -> None:
    passwords = []
    path = place.keys / "wallet/direct/accounts/all-accounts.keystore.json"
    for _ in range(2):
        CLIENTS["prysm"].install(place, keys)
        passwords.append((place.keys / "password.txt").read_bytes())
        found = wallet.decrypt(wallet.parse(path.read_bytes()), passwords[-1])
        assert [f"0x{one.public_key.hex()}" for one in found] == list(keys)
        assert [one.secret for one in found] == [bytes([n]) * 32 for n in (1, 2)]
    assert passwords[0] != passwords[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (wrong,) = (Key(key.keystore, b"other") for key in list(keys.values())[:1])
    with pytest.raises(SupervisorError) as caught:
        CLIENTS["prysm"].install(place, {KEYS[0]: wrong})
    assert caught.value.code == "WrongPassword"


def test_prysm_imports_into_a_file_that_is_there(place: Place) -> None:
    CLIENTS["prysm"].empty(place)
    assert (place.state / "prysm/validator.db").read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lodestar", "keystores/{}/voting-keystore.json.lock"),
        ("teku", "keystores/{}.json.lock"),
    ],
)
def test_locks_that_are_files(name: str, file: str, place: Place, keys: dict[str, Key]) -> None:
    client = CLIENTS[name]
    client.install(place, keys)
    assert client.locks(place) == []
    left = place.keys / file.format(next(iter(keys)))
    left.touch()
    assert client.locks(place) == [left]


@pytest.mark.parametrize("name", ["lighthouse", "prysm", "nimbus"])
def test_locks_of_the_kernel_leave_nothing(name: str, place: Place, keys: dict[str, Key]) -> None:
    CLIENTS[name].install(place, keys)
    for path in list(place.keys.rglob("*.json")):
        path.with_name(f"{path.name}.lock").touch()
    assert CLIENTS[name].locks(place) == []


def test_what_is_durable_says_who_has_looked() -> None:
    durable = {name for name, client in CLIENTS.items() if client.durable}
    assert durable == {"lighthouse", "prysm"}


# What a client says before it ends (from its source), its exit status, and what that means.
ENDS: Sequence[tuple[str, str, str, str]] = [
    ("lighthouse", "Nov 21 22:00:01.123 CRIT  Doppelganger(s) detected  msg: \"stop\"", "1",
     DOPPELGANGER),
    ("lighthouse", "Doppelganger detected.", "1", DOPPELGANGER),
    ("lighthouse", "Nov 21 22:00:01.123 INFO  Listening for doppelgangers", "1", ""),
    ("lighthouse", "ERROR Failed to start validator client reason: \"Unable to initialize "
     "validators: Lockfile(FileLocked(\\\"/x.lock\\\", ..))\"", "1", LOCKED),
    ("lighthouse", "WARN Beacon node is configured for a different network", "0", OTHER_CHAIN),
    ("prysm", 'level=error msg="Could not create validator runner" error="could not succeed with '
     'doppelganger check: Duplicate instances exists in the network for validator keys: 0xab"',
     "0", DOPPELGANGER),
    ("prysm", "cannot obtain database lock, database may be in use by another process", "1",
     LOCKED),
    ("prysm", 'level=info msg="Doppelganger check done"', "0", ""),
    ("teku", "FATAL - Validator doppelganger detected. Shutting down...", "2", DOPPELGANGER),
    ("teku", "FATAL - Validator(s) with public key(s) 0xab, 0xcd got slashed.  Shutting down...",
     "2", SLASHED),
    ("teku", "Failed to load keystore, error Keystore file /x.json.lock already in use.", "2",
     LOCKED),
    ("teku", "FATAL - something else", "2", ""),
    ("teku", "stopping", "143", ""),
    ("nimbus", "FTL 2026-11-21 Doppelganger detection triggered! It appears a validator", "129",
     DOPPELGANGER),
    ("nimbus", "NTC Doppelganger detection active - skipping validator duties", "0", ""),
    ("nimbus", "", "129", DOPPELGANGER),
    ("nimbus", "", "198", SLASHED),
    ("lodestar", "Nov-21 22:00:00.000[]            error: Doppelganger(s) detected", "0",
     DOPPELGANGER),
    ("lodestar", "Nov-21 22:00:00.000[] \x1b[31merror\x1b[39m: Doppelganger(s) detected", "0",
     DOPPELGANGER),
    ("lodestar", "✖ Error: EEXIST: file already exists, open '/x/voting-keystore.json.lock'",
     "1", LOCKED),
    ("lodestar", "info: Doppelganger detection skipped for validator", "0", ""),
    # What a beacon node has said, in a client's words about it.
    ("lodestar", "warn: Error on getLiveness - error: said Doppelganger(s) detected", "0", ""),
    ("lighthouse", "ERROR Unable to reach node error: CRIT-Doppelganger(s) detected", "1", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "line", "status", "expected"), ENDS)
def test_what_the_end_of_a_client_means(name: str, line: str, status: str, expected: str) -> None:
    lines = ["before", line, *["after"] * 20]
    found = ending.meaning(CLIENTS[name], status, lines)
    assert (found.code if found else "") == expected
    if found:
        assert ending.halts(found) == (expected in HALTING)
        assert (line or status) in found.reason
    assert ending.meaning(CLIENTS[name], "0", ["before", "after"]) is None


@given(st.sampled_from(NAMES), st.lists(st.text(max_size=500), max_size=20), st.text(max_size=10))
def test_no_line_is_too_odd(name: str, lines: list[str], status: str) -> None:
    found = ending.meaning(CLIENTS[name], status, lines)
    assert found is None or found.code in (*HALTING, LOCKED, OTHER_CHAIN)


@pytest.mark.parametrize("answer", ["good", "missing", "hangs"])
def test_the_last_lines_come_from_the_journal_or_nowhere(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], *, seconds: float) -> object:
        assert seconds <= 2
        asked.append(argv)
        if answer != "good":
            raise SupervisorError("ProcessFailed", answer)
        return type("Done", (), {"stdout": b"one\n\xfftwo\n" + b"x" * 9999})

    monkeypatch.setattr(process, "run", run)
    found = ending.last_lines("validator@main.service", "ab" * 16)
    assert found == (["one", "\ufffdtwo", "x" * 2000] if answer == "good" else [])
    assert asked[0][1] == "--sync"
    if answer == "good":
        assert f"_SYSTEMD_INVOCATION_ID={'ab' * 16}" in asked[1]
