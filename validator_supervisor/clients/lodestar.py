"""Lodestar (https://chainsafe.github.io/lodestar/)."""

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
)

if TYPE_CHECKING:
    from validator_supervisor.contents import Key


def _run(setup: Setup) -> list[str]:
    validator = setup.validator
    words = [validator.release.binary, "validator"]
    words += _common(setup)
    words += ["--suggestedFeeRecipient", validator.fee_recipient]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    if validator.gas_limit:
        words += [f"--defaultGasLimit={validator.gas_limit}"]
    if validator.builder:
        words += ["--builder"]
    if validator.distributed:
        words += ["--distributed"]
    if setup.signer:
        # With --externalSigner.fetch it would be whatever is there at the time.
        words += ["--externalSigner.url", setup.signer.url]
        for keys in setup.signer.joined():
            words += ["--externalSigner.pubkeys", keys]
    if setup.look_for_twin:
        # Its first name, which every release knows.
        words += ["--doppelgangerProtectionEnabled"]
    return [*words, *validator.args]


def _common(setup: Setup) -> list[str]:
    words = ["--network", setup.validator.network]
    # Its cache of keys, which has no option, is in memory with them; its log would be there, too.
    words += ["--dataDir", str(setup.place.keys)]
    words += ["--validatorsDbDir", str(_database(setup.place))]
    words += ["--logFile", "none"]
    for url in setup.beacons:
        words += ["--beaconNodes", url]
    return words


def _protection(setup: Setup, command: str, file: Path) -> list[str]:
    words = [setup.validator.release.binary, "validator", "slashing-protection", command]
    words += _common(setup)
    # Among the arguments are the parameters of a development chain.
    return [*words, "--file", str(file), *setup.validator.args]


def _exit(setup: Setup, key: str) -> list[str]:
    words = [setup.validator.release.binary, "validator", "voluntary-exit", *_common(setup)]
    # Without this word it is all of them. 1.5.1 needs to be forced while the client runs; newer
    # ones force themselves.
    words += ["--pubkeys", key, "--yes", "--force"]
    return [*words, *setup.validator.args]


def _install(place: Place, keys: Mapping[str, "Key"]) -> None:
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
# are not synced (packages/db/src/controller/level.ts). Having found a twin it exits with 0
# (packages/validator/src/services/doppelgangerService.ts).
CLIENT = Client(
    run=_run,
    protection=_protection,
    install=_install,
    database=_database,
    locks=_locks,
    exit=_exit,
    no_remote_exit="its own command signs with keystores alone",
    # Of Node.js, which believes those besides its own.
    trust="NODE_EXTRA_CA_CERTS",
    durable=False,
    stop_seconds=20,
    signs=(
        # A line of its own, with and without colours: others are about the words of a node.
        Sign(DOPPELGANGER, r"^\S+ \S+\s+(\x1b\[\d+m)?error(\x1b\[\d+m)?: Doppelganger\(s\) det"),
        Sign(LOCKED, r"Database already in use by another process"),
        Sign(LOCKED, r"EEXIST.*voting-keystore\.json\.lock|voting-keystore\.json' already in use"),
        Sign(OTHER_CHAIN, r"Not the same genesisValidatorRoot|NotEqualParamsError"),
    ),
)
