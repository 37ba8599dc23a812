"""Lodestar (https://chainsafe.github.io/lodestar/)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from validator_supervisor.clients.client import Client, Place
from validator_supervisor.contents import Key
from validator_supervisor.validators import Ethereum


def _run(validator: Ethereum, place: Place, beacons: Sequence[str]) -> list[str]:
    words = [validator.release.binary, "validator"]
    words += _common(validator, place, beacons)
    words += ["--keystoresDir", str(place.keys / "keystores")]
    words += ["--secretsDir", str(place.keys / "secrets")]
    words += ["--suggestedFeeRecipient", validator.fee_recipient]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    return [*words, *validator.args]


def _common(validator: Ethereum, place: Place, beacons: Sequence[str]) -> list[str]:
    words = ["--network", validator.network]
    words += ["--dataDir", str(place.state)]
    words += ["--validatorsDbDir", str(_database(place))]
    for url in beacons:
        words += ["--beaconNodes", url]
    return words


def _export(validator: Ethereum, place: Place, beacons: Sequence[str], file: Path) -> list[str]:
    return _protection("export", validator, place, beacons, file)


def _load(validator: Ethereum, place: Place, beacons: Sequence[str], file: Path) -> list[str]:
    return _protection("import", validator, place, beacons, file)


def _protection(
    command: str, validator: Ethereum, place: Place, beacons: Sequence[str], file: Path
) -> list[str]:
    words = [validator.release.binary, "validator", "slashing-protection", command]
    words += _common(validator, place, beacons)
    # Among the arguments are the parameters of a development chain.
    return [*words, "--file", str(file), *validator.args]


def _install(place: Place, keys: Mapping[str, Key]) -> None:
    (place.keys / "secrets").mkdir(parents=True, exist_ok=True)
    for name, key in keys.items():
        folder = place.keys / "keystores" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "voting-keystore.json").write_bytes(key.keystore)
        (place.keys / "secrets" / name).write_bytes(key.password)


def _database(place: Place) -> Path:
    return place.state / "validator-db"


def _locks(place: Place) -> list[Path]:
    return sorted((place.keys / "keystores").glob("0x*/voting-keystore.json.lock"))


# It stops in half a second, but loses a SIGTERM that comes in its first seconds. LevelDB's writes
# are not synced (packages/db/src/controller/level.ts).
CLIENT = Client(
    run=_run,
    export=_export,
    load=_load,
    install=_install,
    database=_database,
    locks=_locks,
    durable=False,
    stop_seconds=20,
)
