"""Teku (https://docs.teku.consensys.io/)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor.clients.client import (
    DOPPELGANGER,
    EXPORT,
    LOCKED,
    SLASHED,
    Client,
    Place,
    Setup,
    Sign,
)

if TYPE_CHECKING:
    from validator_supervisor.contents import Key

# Of another network it asks its beacon nodes.
NETWORKS = (
    "mainnet", "hoodi", "sepolia", "ephemery", "minimal", "gnosis", "chiado", "lukso",
    "plataberget",
)  # fmt: skip


def _run(setup: Setup) -> list[str]:
    validator, place = setup.validator, setup.place
    words = [validator.release.binary, "validator-client"]
    if validator.network in NETWORKS:
        words += [f"--network={validator.network}"]
    words += [f"--data-path={_database(place)}"]
    words += _keys(setup)
    if setup.signer:
        # It is on by itself, and a variable could turn it off.
        words += ["--validators-external-signer-slashing-protection-enabled=true"]
    words += [f"--beacon-node-api-endpoints={','.join(setup.beacons)}"]
    words += [f"--validators-proposer-default-fee-recipient={validator.fee_recipient}"]
    words += ["--log-destination=CONSOLE", "--log-color-enabled=false"]
    if validator.graffiti:
        words += [f"--validators-graffiti={validator.graffiti}"]
    if validator.gas_limit:
        gas = f"--validators-builder-registration-default-gas-limit={validator.gas_limit}"
        words += [gas]
    if validator.builder:
        words += ["--validators-builder-registration-default-enabled=true"]
    if validator.distributed:
        words += ["--Xobol-dvt-integration-enabled=true"]
    if setup.look_for_twin:
        words += ["--doppelganger-detection-enabled=true"]
    return [*words, *validator.args]


def _keys(setup: Setup) -> list[str]:
    place, signer = setup.place, setup.signer
    if not signer:
        return [f"--validator-keys={place.keys / 'keystores'}:{place.keys / 'passwords'}"]
    words = [f"--validators-external-signer-url={signer.url}"]
    return words + [f"--validators-external-signer-public-keys={k}" for k in signer.joined()]


def _protection(setup: Setup, command: str, file: Path) -> list[str]:
    words = [setup.validator.release.binary, "slashing-protection", command]
    words += [f"--data-path={_database(setup.place)}"]
    return [*words, f"--to={file}" if command == EXPORT else f"--from={file}"]


def _exit(setup: Setup, key: str) -> list[str]:
    validator = setup.validator
    words = [validator.release.binary, "voluntary-exit"]
    if validator.network in NETWORKS:
        words += [f"--network={validator.network}"]
    words += [f"--beacon-node-api-endpoint={setup.beacons[0]}"]
    words += _keys(setup)
    # Without this word it is all of them.
    return [*words, f"--validator-public-keys={key}", "--confirmation-enabled=false"]


def _install(place: Place, keys: Mapping[str, "Key"]) -> None:
    keystores, passwords = place.keys / "keystores", place.keys / "passwords"
    for directory in (keystores, passwords):
        directory.mkdir(parents=True, exist_ok=True)
    for name, key in keys.items():
        (keystores / f"{name}.json").write_bytes(key.keystore)
        (passwords / f"{name}.txt").write_bytes(key.password)


def _empty(place: Place) -> None:
    _database(place).mkdir(exist_ok=True)


def _database(place: Place) -> Path:
    # A file for each key is in validator/slashprotection below it, where others may not look.
    return place.state / "teku"


def _locks(place: Place) -> list[Path]:
    return sorted((place.keys / "keystores").glob("0x*.json.lock"))


# Its database is a file for each key, written with O_SYNC and renamed, but the directory is not
# synced (data/dataexchange/.../SyncDataAccessor.java). A JVM that is asked to stop exits with 143.
# Status 2 says that a restart will not help: for a twin, a slashed key, and much else.
CLIENT = Client(
    run=_run,
    protection=_protection,
    install=_install,
    database=_database,
    locks=_locks,
    exit=_exit,
    durable=False,
    stop_seconds=30,
    empty=_empty,
    stopped=143,
    signs=(
        Sign(DOPPELGANGER, r"Validator doppelganger detected"),
        Sign(DOPPELGANGER, r"Detected \d+ validators doppelganger"),
        Sign(SLASHED, r"Validator\(s\) with public key\(s\) .* got slashed\.\s+Shutting down"),
        Sign(LOCKED, r"Keystore file .*\.lock already in use"),
    ),
)
