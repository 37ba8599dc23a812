"""Lighthouse (https://lighthouse-book.sigmaprime.io/)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor.clients.client import (
    DOPPELGANGER,
    LOCKED,
    OTHER_CHAIN,
    Client,
    Place,
    Setup,
    Sign,
    Signer,
)
from validator_supervisor.validators import DESCRIBED, Ethereum

if TYPE_CHECKING:
    from validator_supervisor.contents import Key

# Of another network its arguments say where it is described.
NETWORKS = ("mainnet", "gnosis", "chiado", "sepolia", "holesky", "hoodi")
PROTECTION = "slashing_protection.sqlite"
KEYSTORE = "voting-keystore.json"


def _run(setup: Setup) -> list[str]:
    validator, place = setup.validator, setup.place
    words = [validator.release.binary, "vc", *_network(validator)]
    words += ["--validators-dir", str(_validators(place)), "--secrets-dir", str(_secrets(place))]
    # What is there is said in validator_definitions.yml; found anew it would be rewritten.
    words += ["--disable-auto-discover"]
    words += ["--beacon-nodes", ",".join(setup.beacons)]
    words += ["--suggested-fee-recipient", validator.fee_recipient]
    # Its log goes to the journal, and not to memory as well.
    words += ["--logfile-max-number", "0"]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    if validator.gas_limit:
        words += [f"--gas-limit={validator.gas_limit}"]
    if validator.builder:
        words += ["--builder-proposals"]
    if validator.distributed:
        words += ["--distributed"]
    if setup.look_for_twin:
        words += ["--enable-doppelganger-protection"]
    return [*words, *(word for word in validator.args if not word.startswith(DESCRIBED))]


def _network(validator: Ethereum) -> list[str]:
    if validator.network in NETWORKS:
        return ["--network", validator.network]
    return [word for word in validator.args if word.startswith(DESCRIBED)]


def _protection(setup: Setup, command: str, file: Path) -> list[str]:
    words = [setup.validator.release.binary, *_network(setup.validator), "account", "validator"]
    words += ["--validators-dir", str(_database(setup.place))]
    return [*words, "slashing-protection", command, str(file)]


def _exit(setup: Setup, key: str) -> list[str]:
    words = [setup.validator.release.binary, *_network(setup.validator), "account", "validator"]
    words += ["--validators-dir", str(_validators(setup.place)), "exit"]
    words += ["--keystore", str(_validators(setup.place) / key / KEYSTORE)]
    words += ["--password-file", str(_secrets(setup.place) / key)]
    # It takes one. What becomes of the exit it would wait for without an end.
    return [*words, "--beacon-node", setup.beacons[0], "--no-confirmation", "--no-wait"]


def _install(place: Place, keys: Mapping[str, "Key"]) -> None:
    validators, secrets = _directories(place)
    definitions: list[dict[str, object]] = []
    for name, key in keys.items():
        folder = validators / name
        folder.mkdir(exist_ok=True)
        keystore, password = folder / KEYSTORE, secrets / name
        keystore.write_bytes(key.keystore)
        password.write_bytes(key.password)
        definitions.append(
            {
                "enabled": True,
                "voting_public_key": name,
                "type": "local_keystore",
                "voting_keystore_path": str(keystore),
                "voting_keystore_password_path": str(password),
            }
        )
    _define(place, definitions)


def _delegate(place: Place, signer: Signer) -> None:
    _directories(place)
    known: dict[str, object] = {"enabled": True, "type": "web3signer", "url": signer.url}
    if signer.certificate:
        known["root_certificate_path"] = signer.certificate
    _define(place, [{**known, "voting_public_key": key} for key in signer.keys])


def _directories(place: Place) -> tuple[Path, Path]:
    for directory in (_validators(place), _secrets(place)):
        directory.mkdir(parents=True, exist_ok=True)
    return _validators(place), _secrets(place)


def _define(place: Place, definitions: list[dict[str, object]]) -> None:
    validators = _validators(place)
    # YAML, which JSON is.
    (validators / "validator_definitions.yml").write_text(json.dumps(definitions, indent=1))
    # It looks for its database beside its keys, which are in memory; SQLite follows a link.
    link = validators / PROTECTION
    link.unlink(missing_ok=True)
    link.symlink_to(_database(place) / PROTECTION)


def _validators(place: Place) -> Path:
    return place.keys / "validators"


def _secrets(place: Place) -> Path:
    return place.keys / "secrets"


def _empty(place: Place) -> None:
    _database(place).mkdir(exist_ok=True)


def _database(place: Place) -> Path:
    return place.state / "lighthouse"


# It stops within 15 seconds (lighthouse/environment/src/lib.rs). SQLite's journal is a file that
# is deleted, synchronous=FULL, one transaction for each signature
# (validator_client/slashing_protection/src/slashing_database.rs). Every failure is status 1.
CLIENT = Client(
    run=_run,
    protection=_protection,
    install=_install,
    delegate=_delegate,
    database=_database,
    durable=True,
    stop_seconds=20,
    empty=_empty,
    exit=_exit,
    no_remote_exit="its own command needs the keystore",
    signs=(
        Sign(DOPPELGANGER, r"\b(CRIT|ERROR|ERRO)\s+Doppelganger\(s\) detected"),
        Sign(DOPPELGANGER, r"^Doppelganger detected\.$"),
        Sign(LOCKED, r"\bLockfile\(FileLocked\(|SQLError\(\"database is locked\"\)"),
        Sign(OTHER_CHAIN, r"Beacon node is configured for a different network"),
        Sign(OTHER_CHAIN, r"spec type of the beacon node does not match"),
    ),
)
