"""Lodestar (https://chainsafe.github.io/lodestar/)."""

import re
from collections.abc import Sequence
from pathlib import Path

from validator_supervisor.clients.client import Client
from validator_supervisor.validators import Ethereum


def _run(validator: Ethereum, state: Path, beacons: Sequence[str]) -> list[str]:
    words = [validator.release.binary, "validator"]
    words += ["--network", validator.network]
    words += ["--dataDir", str(state)]
    for url in beacons:
        words += ["--beaconNodes", url]
    words += ["--suggestedFeeRecipient", validator.fee_recipient]
    if validator.graffiti:
        words += [f"--graffiti={validator.graffiti}"]
    return [*words, *validator.args]


def _public_keys(state: Path) -> list[str]:
    keystores = state / "keystores"
    names = [path.name for path in keystores.iterdir()] if keystores.is_dir() else []
    return sorted(name for name in names if re.fullmatch(r"0x[0-9a-f]{96}", name))


def _locks(state: Path) -> list[Path]:
    return sorted((state / "keystores").glob("0x*/voting-keystore.json.lock"))


# It stops in half a second, but loses a SIGTERM that comes in its first seconds.
CLIENT = Client(run=_run, public_keys=_public_keys, locks=_locks, stop_seconds=10)
