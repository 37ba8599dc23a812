"""What measures identity and start: `state.py scrypt|make|restart WORD…`.

``scrypt FACTOR`` does what a passphrase costs, and nothing else. ``make VALIDATOR KEYS ARCHIVES
FOLDER`` writes archives of this host and prints their names. ``restart REPEATS {NAME: [UNIT,
STOP…]}`` stops units and starts UNIT, or kills its client where nothing is to be stopped, in turn,
and prints the seconds until another client runs.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CLIENT = "sleep"
LONGEST = 60.0
# Half the bytes of a keystore: what is in it compresses as badly as this.
KEYSTORE = 300


def scrypt(factor: str) -> None:
    """Derive a key at a work factor of age."""
    work = 1 << int(factor)
    memory = 128 * 8 * (work + 3)
    hashlib.scrypt(b"passphrase", salt=bytes(16), n=work, r=8, p=1, maxmem=memory, dklen=32)


def make(validator: str, keys: str, archives: str, folder: str) -> None:
    """Write archives of as many keys, with the watermarks of each."""
    from validator_supervisor import contents, host, identity
    from validator_supervisor.interchange import History, Interchange
    from validator_supervisor.store import ARCHIVE, Item

    chance = random.Random(3)
    names = [f"0x{chance.randbytes(48).hex()}" for _ in range(int(keys))]
    secrets = {
        key: contents.Key(chance.randbytes(KEYSTORE).hex().encode(), chance.randbytes(16))
        for key in names
    }
    now = int(time.time())
    Path(folder).mkdir()
    made = []
    for number in range(int(archives)):
        marks = History(
            frozenset({(1000 + number, b"")}), frozenset({(30 + number, 31 + number, b"")})
        )
        raw = contents.seal(
            identity.load(), validator=validator, network="dev", host=host.host_id(),
            boot=host.boot_id(), sequence=now + number, created=now, clean=False, keys=secrets,
            removed_keys={}, protection=Interchange(b"\x5a" * 32, dict.fromkeys(names, marks)),
        )  # fmt: skip
        made.append(Item.of(raw, ARCHIVE, validator, now + number).name)
        (Path(folder) / made[-1]).write_bytes(raw)
    print(json.dumps(made))


def client(unit: str) -> str:
    """Return the process of a unit's client, ``""`` where it does not run."""
    argv = ["systemctl", "show", unit, "--property=ControlGroup", "--value"]
    group = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        pids = Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split() if group else []
        clients = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == CLIENT]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return clients[0] if clients else ""


def seconds(unit: str, *stop: str) -> float:
    """Return how long it takes until another client runs."""
    before = client(unit)
    if stop:
        subprocess.run(["systemctl", "stop", *stop], check=True)
    begun = time.monotonic()
    if stop:
        subprocess.run(["systemctl", "start", "--no-block", unit], check=True)
    else:
        os.kill(int(before), signal.SIGKILL)
    while client(unit) in ("", before):
        if time.monotonic() - begun > LONGEST:
            sys.exit(f"{unit} does not run within {LONGEST:g} s")
        time.sleep(0.005)
    return time.monotonic() - begun


def restart(repeats: str, text: str) -> None:
    """Measure each in turn, once for the caches before."""
    cases = json.loads(text)
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(int(repeats) + 1):
        for name, case in cases.items():
            passed = seconds(*case)
            if turn:
                found[name].append(passed)
    print(json.dumps(found))


WHAT: dict[str, Callable[..., None]] = {"scrypt": scrypt, "make": make, "restart": restart}

if __name__ == "__main__":
    WHAT[sys.argv[1]](*sys.argv[2:])
