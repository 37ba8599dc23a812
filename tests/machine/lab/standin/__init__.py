"""Stand-ins for a validator client and a beacon node: what they need to run, and what they saw.

They are programs of their own, `client.py` and `beacon.py`, with nothing but the standard library,
so that they run in any machine.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab.client import GET, PORT
from lab.host import LabError, run
from lab.machine import Machine
from lab.standin.beacon import Message, Pair, slashable

FOLDER = Path(__file__).parent
PLACE = "/usr/local/lib/standin"
CLIENT, BEACON = f"{PLACE}/client", f"{PLACE}/beacon"
# The program of each client that is stood in for by others.py; Nimbus has a second one.
PROGRAMS = {
    "lighthouse": "lighthouse",
    "prysm": "validator",
    "teku": "teku",
    "nimbus": "nimbus_validator_client",
}


def install(machine: Machine) -> None:
    """Put the programs into a machine: CLIENT, BEACON, and those of PROGRAMS."""
    others = dict.fromkeys([*PROGRAMS.values(), "nimbus_beacon_node"], "others")
    for name, file in {"client": "client", "beacon": "beacon", **others}.items():
        machine.write(f"{PLACE}/{name}", (FOLDER / f"{file}.py").read_text(), 0o755)


class Beacon:
    """A running stand-in for a beacon node."""

    def __init__(self, get: Callable[[str], str], url: str) -> None:
        self._get = get
        # As seen from where it runs.
        self.url = url

    @classmethod
    def in_machine(cls, machine: Machine, port: int = PORT, *words: str) -> "Beacon":
        """Start it as a unit in a machine, on the loopback; ``words`` are more options.

        What it has seen is in /var/lib/standin and survives the unit and a boot.
        """
        url = f"http://127.0.0.1:{port}"
        machine.run("systemd-run", "-q", f"--unit={cls.unit(port)}", "--collect",
                    "--property=StateDirectory=standin", BEACON, "--port", str(port),
                    "--record", f"/var/lib/standin/{port}", *words)  # fmt: skip
        beacon = cls(
            lambda path: machine.run("python3", "-c", GET, f"{url}{path}", check=False).stdout, url
        )
        beacon.wait()
        return beacon

    @staticmethod
    def unit(port: int = PORT) -> str:
        """Return the name of its unit in a machine."""
        return f"standin-beacon-{port}.service"

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, namespace: Path, address: str, folder: Path, *words: str
    ) -> Iterator["Beacon"]:
        """Start it in a namespace, as ``Chain.started`` does a real one."""
        inside = ["ip", "netns", "exec", namespace.name]
        folder.mkdir(parents=True, exist_ok=True)
        argv = [*inside, "/usr/bin/python3", "-B", FOLDER / "beacon.py", "--address", address,
                "--port", PORT, "--record", folder / "record", *words]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)  # fmt: skip
        url = f"http://{address}:{PORT}"

        def get(path: str) -> str:
            return run([*inside, "python3", "-c", GET, f"{url}{path}"], check=False).stdout

        try:
            beacon = cls(get, url)
            beacon.wait()
            yield beacon
        finally:
            process.kill()
            process.wait(30)

    def wait(self, seconds: float = 15) -> None:
        """Wait until it answers."""
        end = time.monotonic() + seconds
        while not self._get("/eth/v1/node/syncing"):
            if time.monotonic() > end:
                raise LabError("the stand-in beacon node does not start")
            time.sleep(0.1)

    def says(self, **changed: object) -> None:
        """Have it say something else (lab/standin/beacon.py, Said)."""
        if not self._get(f"/says?{quote(json.dumps(changed))}"):
            raise LabError("the stand-in beacon node does not answer")

    def recorded(self) -> list[Message]:
        """Return every signed message that it was sent, oldest first."""
        found: list[Message] = self._data("/recorded")
        return found

    def slash(self, key: str) -> None:
        """Have it say that a key is slashed, from now on and after it was started again."""
        self._data(f"/standin/slash/{key}")

    def propose(self, key: str, slot: int) -> None:
        """Have it say that a key proposes in a slot."""
        self._data(f"/standin/propose/{key}/{slot}")

    def sync(self, key: str, last: int) -> None:
        """Have it say that a key is in the sync committee, up to an epoch."""
        self._data(f"/standin/sync/{key}/{last}")

    def slashable(self) -> list[Pair]:
        """Return the pairs of messages that would be slashed."""
        return slashable(self.recorded())

    def wait_for(self, key: str = "0x", after: int = -1, seconds: float = 30) -> Message:
        """Wait for an attestation, of ``key`` or any, to a target above ``after``; return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for record in self.recorded():
                mine = record["kind"] == "attestation" and str(record["key"]).startswith(key)
                if mine and int(record["target"]) > after:
                    return record
            time.sleep(0.2)
        raise LabError(f"no attestation of {key} above {after} within {seconds:g} s")

    def _data(self, path: str) -> Any:
        answer = self._get(path)
        if not answer:
            raise LabError("the stand-in beacon node does not answer")
        return json.loads(answer)["data"]


def write_keys(machine: Machine, folder: str, keystores: Mapping[str, str], password: str) -> None:
    """Write keystores and passwords as the client has them: `keystores` and `secrets`."""
    for key, text in keystores.items():
        machine.write(f"{folder}/keystores/{key}/voting-keystore.json", text, 0o640)
        machine.write(f"{folder}/secrets/{key}", password, 0o640)


def forget(machine: Machine, database: str, seconds: float) -> int:
    """Take the last seconds off a stopped client's database, as a power cut does without fsync.

    Return how many messages it forgets.
    """
    lines = machine.run("cat", f"{database}/log").stdout.splitlines(keepends=True)
    now = float(machine.output("date", "+%s.%N"))
    kept = [line for line in lines if json.loads(line)["time"] < now - seconds]
    # In place: it stays its owner's.
    machine.run("sh", "-c", 'cat >"$0"', f"{database}/log", stdin="".join(kept))
    return len(lines) - len(kept)


def words(data: str, beacons: Sequence[str]) -> list[str]:
    """Return the command line of a client whose everything is below ``data``."""
    return [CLIENT, "validator", "--network", "dev", "--dataDir", data, "--beaconNodes", *beacons]
