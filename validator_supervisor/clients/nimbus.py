"""Nimbus (https://nimbus.guide/): ``nimbus_validator_client``.

``nimbus_beacon_node``, which comes with it in the same directory, reads and writes its database.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from validator_supervisor.clients.client import (
    DOPPELGANGER,
    LOCKED,
    OTHER_CHAIN,
    SLASHED,
    Client,
    Place,
    Setup,
    Sign,
    Signer,
)

if TYPE_CHECKING:
    from validator_supervisor.contents import Key

TOOLS = "nimbus_beacon_node"
PROTECTION = "slashing_protection.sqlite3"


def _run(setup: Setup) -> list[str]:
    validator, place = setup.validator, setup.place
    # Which network it is it asks its beacon nodes.
    words = [validator.release.binary, "--non-interactive", *_data(place)]
    words += [f"--validators-dir={place.keys / 'validators'}"]
    words += [f"--secrets-dir={place.keys / 'secrets'}"]
    words += [f"--beacon-node={url}" for url in setup.beacons]
    # Else it asks all of them at once, and prefers none.
    words += ["--beacon-node-mode=fallback"]
    words += [f"--suggested-fee-recipient={validator.fee_recipient}"]
    # It would look for a twin at each start.
    words += [f"--doppelganger-detection={'on' if setup.look_for_twin else 'off'}"]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    if validator.gas_limit:
        words += [f"--suggested-gas-limit={validator.gas_limit}"]
    if validator.builder:
        words += ["--payload-builder=true"]
    if validator.distributed:
        words += ["--distributed"]
    return [*words, *validator.args]


def _data(place: Place) -> list[str]:
    # It changes the mode of this directory, which must not be ours.
    return [f"--data-dir={place.keys / 'data'}"]


def _protection(setup: Setup, command: str, file: Path) -> list[str]:
    program = str(Path(setup.validator.release.binary).with_name(TOOLS))
    words = [program, *_data(setup.place), f"--validators-dir={_database(setup.place)}"]
    return [*words, "slashingdb", command, str(file)]


def _install(place: Place, keys: Mapping[str, "Key"]) -> None:
    validators, secrets = _directories(place)
    for name, key in keys.items():
        folder = validators / name
        folder.mkdir(exist_ok=True)
        files = {folder / "keystore.json": key.keystore, secrets / name: key.password}
        for path, content in files.items():
            path.write_bytes(content)
            path.chmod(0o600)
    _link(place)


def _delegate(place: Place, signer: Signer) -> None:
    validators, _ = _directories(place)
    for name in signer.keys:
        folder = validators / name
        folder.mkdir(exist_ok=True)
        # Every release knows the first version.
        known = {"version": 1, "type": "web3signer", "pubkey": name, "remote": signer.url}
        path = folder / "remote_keystore.json"
        path.write_text(json.dumps(known))
        path.chmod(0o600)
    _link(place)


def _directories(place: Place) -> tuple[Path, Path]:
    validators, secrets = place.keys / "validators", place.keys / "secrets"
    for directory in (validators, secrets, place.keys / "data"):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    return validators, secrets


def _link(place: Place) -> None:
    # It looks for its database beside its keys, which are in memory; SQLite follows a link.
    link = place.keys / "validators" / PROTECTION
    link.unlink(missing_ok=True)
    link.symlink_to(_database(place) / PROTECTION)


def _empty(place: Place) -> None:
    _database(place).mkdir(exist_ok=True)


def _database(place: Place) -> Path:
    return place.state / "nimbus"


# SQLite with a write-ahead log; whether each transaction is synced is for who compiles it to say.
CLIENT = Client(
    run=_run,
    protection=_protection,
    install=_install,
    delegate=_delegate,
    database=_database,
    durable=False,
    stop_seconds=20,
    empty=_empty,
    no_exit="its own command needs the keystore that the client has locked, and a terminal",
    # beacon_chain/nimbus_binary_common.nim: QuitDoppelganger, QuitSlashing
    statuses={129: DOPPELGANGER, 198: SLASHED},
    signs=(
        Sign(DOPPELGANGER, r"\b(FTL|FAT|WRN)\b.*Doppelganger detection triggered"),
        Sign(SLASHED, r"\b(FTL|FAT)\b.*A known validator is slashed"),
        Sign(LOCKED, r"Unable to lock keystore file"),
        Sign(OTHER_CHAIN, r"Invalid database genesis validator root"),
    ),
)
