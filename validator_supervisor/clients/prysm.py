"""Prysm (https://prysm.offchainlabs.com/): ``validator``."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor.clients.client import (
    DOPPELGANGER,
    EXPORT,
    LOCKED,
    OTHER_CHAIN,
    Client,
    Place,
    Setup,
    Sign,
)

if TYPE_CHECKING:
    from validator_supervisor.contents import Key

# Of another network its arguments say where it is described: --chain-config-file.
NETWORKS = ("mainnet", "sepolia", "holesky", "hoodi")
# What it exports has this name, in a directory that is given.
EXPORTED = "slashing_protection.json"


def _run(setup: Setup) -> list[str]:
    validator, place = setup.validator, setup.place
    words = [validator.release.binary, "--accept-terms-of-use"]
    if validator.network in NETWORKS:
        words += [f"--{validator.network}"]
    words += [f"--datadir={_database(place)}"]
    words += [f"--wallet-dir={place.keys / 'wallet'}"]
    if setup.signer:
        words += [f"--validators-external-signer-url={setup.signer.url}"]
        every = setup.signer.joined()
        words += [f"--validators-external-signer-public-keys={keys}" for keys in every]
    else:
        words += [f"--wallet-password-file={place.keys / 'password.txt'}"]
    # It uses all that are healthy.
    words += [f"--beacon-rest-api-provider={','.join(setup.beacons)}"]
    words += [f"--suggested-fee-recipient={validator.fee_recipient}"]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    if validator.gas_limit:
        words += [f"--suggested-gas-limit={validator.gas_limit}"]
    if validator.builder:
        words += ["--enable-builder"]
    if validator.distributed:
        words += ["--distributed"]
    if setup.look_for_twin:
        words += ["--enable-doppelganger"]
    return [*words, *validator.args]


def _protection(setup: Setup, command: str, file: Path) -> list[str]:
    # No network: it is in the database, and not every release knows the names of all.
    words = [setup.validator.release.binary, "slashing-protection-history", command]
    words += ["--accept-terms-of-use", f"--datadir={_database(setup.place)}"]
    if command == EXPORT:
        return [*words, f"--slashing-protection-export-dir={file.parent}"]
    return [*words, f"--slashing-protection-json-file={file}"]


def _empty(place: Place) -> None:
    # Only into a database that is there it imports; bbolt takes an empty file for a new one.
    _database(place).mkdir(parents=True, exist_ok=True)
    (_database(place) / "validator.db").touch(0o600)


def _install(place: Place, keys: Mapping[str, "Key"]) -> None:
    """Lay out a wallet, which has all keys in one file, under a password of its own.

    Raises SupervisorError where a keystore does not open.
    """
    # Only where there is a wallet: opening keystores needs much.
    from validator_supervisor import keystore, wallet
    from validator_supervisor.keystore_crypto import Pbkdf2

    accounts = place.keys / "wallet/direct/accounts"
    accounts.mkdir(parents=True, exist_ok=True)
    password = secrets.token_hex(32)
    (place.keys / "password.txt").write_text(password)
    opened = [keystore.decrypt(keystore.parse(key.keystore), key.password) for key in keys.values()]
    # It is random and in memory, as the keys are: no work makes it better.
    path = accounts / "all-accounts.keystore.json"
    path.write_bytes(wallet.seal(opened, password, Pbkdf2(secrets.token_bytes(32), c=1024)))
    path.chmod(0o600)


def _database(place: Place) -> Path:
    return place.state / "prysm"


# bbolt syncs each transaction, and a signature waits for its own
# (validator/db/kv/attester_protection.go). Since version 7 it exits with 0 for a twin as well.
CLIENT = Client(
    run=_run,
    protection=_protection,
    install=_install,
    database=_database,
    durable=True,
    stop_seconds=20,
    empty=_empty,
    exported=EXPORTED,
    no_exit="its own command asks a beacon node of Prysm over gRPC, and no other",
    signs=(
        Sign(DOPPELGANGER, r"Duplicate instances exists in the network"),
        Sign(LOCKED, r"cannot obtain database lock"),
        Sign(OTHER_CHAIN, r"genesis validators root (received )?from (the )?beacon node"),
    ),
)
