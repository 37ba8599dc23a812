"""What validator-state@NAME hands over to validator@NAME: keys in memory, and how to start.

Everything lies in /run/validator-state/NAME, on ramfs, readable for the validator's group; the
directory ``client`` there is the validator's own, for the layout that its client wants.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from validator_supervisor import interchange, networks
from validator_supervisor.applied import Applied
from validator_supervisor.contents import AnyKey, Key, Remote
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.document import Value, parse_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.schema import boolean, choice, integer, record

ROOT = Path("/run/validator-state")
FILE, KEYS, CLIENT = "handover.json", "keys", "client"
# In place of a keystore and its password: a Web3Signer has the key.
REMOTE = "remote"
# What was in effect at the start, and the ssh keys, which nobody else may read.
APPLIED, SSH = "applied.json", "ssh"
TIME = integer(0, 1 << 33, "a time")


@dataclass(frozen=True)
class Handover:
    """How to start: the database must be at or above ``required``, and was, if it is whole, at or
    above ``floor``; ``earliest`` is a time that has passed, ``began`` when this boot did (seconds
    of CLOCK_BOOTTIME, which nobody sets), ``now`` what a person has said the time is (0: nothing),
    ``typed`` seconds after the boot: time goes on since.
    """

    row: str
    other_host: bool
    floor: Interchange
    required: Interchange
    chain: Chain
    earliest: int
    now: int = 0
    typed: int = 0
    no_watch: bool = False
    began: int = 0


def keep(directory: Path, applied: Path, credentials: Path) -> None:
    """Keep what a stop will need, for it comes when both may be gone or changed."""
    _for_group(directory / APPLIED, applied.read_bytes() if applied.exists() else b"")
    own = directory / SSH
    own.mkdir(mode=0o700, exist_ok=True)
    # Without a node that has a tunnel there is none.
    for path in credentials.iterdir() if credentials.is_dir() else ():
        kept = own / path.name
        kept.unlink(missing_ok=True)
        kept.write_bytes(path.read_bytes())
        # ssh refuses a key that others can read.
        kept.chmod(0o400)


def kept(directory: Path) -> tuple[Applied, Path]:
    """Return what was in effect at the start, and the directory of the ssh keys."""
    return Applied.load(directory / APPLIED), directory / SSH


def write(directory: Path, handover: Handover, keys: Mapping[str, AnyKey]) -> None:
    """Write everything, instead of what an attempt before has left; the file comes last."""
    (directory / FILE).unlink(missing_ok=True)
    if (directory / KEYS).exists():
        shutil.rmtree(directory / KEYS)
    for name, key in keys.items():
        place = directory / KEYS / name
        place.mkdir(parents=True)
        if isinstance(key, Key):
            _for_group(place / "keystore.json", key.keystore)
            _for_group(place / "password.txt", key.password)
        else:
            _for_group(place / REMOTE, b"")
        place.chmod(0o750)
    if keys:
        (directory / KEYS).chmod(0o750)
    own = directory / CLIENT
    own.mkdir(exist_ok=True)
    own.chmod(0o770)
    stored = {
        **asdict(handover),
        "floor": interchange.text(handover.floor),
        "required": interchange.text(handover.required),
    }
    _for_group(directory / FILE, json.dumps(stored).encode())


def _for_group(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o640)


def _key(place: Path) -> AnyKey:
    if (place / REMOTE).exists():
        return Remote()
    return Key((place / "keystore.json").read_bytes(), (place / "password.txt").read_bytes())


def read(directory: Path) -> tuple[Handover, dict[str, AnyKey]]:
    """Return what was handed over. Raises SupervisorError ``NoHandover``."""
    try:
        raw = (directory / FILE).read_bytes()
        places = sorted((directory / KEYS).iterdir()) if (directory / KEYS).exists() else []
        keys = {place.name: _key(place) for place in places}
    except OSError as failure:
        message = f"{directory}: nothing was handed over: {failure.strerror}"
        raise SupervisorError(
            "NoHandover", message, "systemctl restart validator-state@NAME"
        ) from None
    return _handover(parse_json(raw, FILE)), keys


def _handover(value: Value) -> Handover:
    section = value.section(
        "row",
        "other_host",
        "floor",
        "required",
        "chain",
        "earliest",
        "began",
        "now",
        "typed",
        "no_watch",
    )
    return Handover(
        row=section.need("row", choice(CONTINUE, POWER_CUT, RESTORE).read),
        other_host=section.need("other_host", boolean().read),
        floor=section.need("floor", _interchange),
        required=section.need("required", _interchange),
        chain=section.need("chain", record(networks.Chain).read),
        earliest=section.need("earliest", TIME.read),
        began=section.need("began", TIME.read),
        now=section.need("now", TIME.read),
        typed=section.need("typed", TIME.read),
        no_watch=section.need("no_watch", boolean().read),
    )


def _interchange(value: Value) -> Interchange:
    if not isinstance(value.data, str):
        raise value.error("expected an interchange document")
    return interchange.parse(value.data.encode()).interchange
