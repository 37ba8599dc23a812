"""A stand-in for Web3Signer on a host's loopback, over TLS with a certificate of its own."""

import json
import tempfile
from pathlib import Path

from lab.client import NODE
from lab.host import run
from lab.machine import Machine
from lab.standin import FOLDER, PLACE

UNIT = "standin-web3signer.service"
PORT = 9000
URL = f"https://127.0.0.1:{PORT}"
DIRECTORY = "/srv/web3signer"
CERTIFICATE = "/etc/validator-supervisor/web3signer.pem"


class Web3Signer:
    """The stand-in on one machine, which has Lodestar; interop keys are named by their number."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.write(f"{PLACE}/web3signer.mjs", (FOLDER / "web3signer.mjs").read_text())
        with tempfile.TemporaryDirectory() as name:
            key, certificate = Path(name) / "key.pem", Path(name) / "certificate.pem"
            run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650",
                 "-subj", "/CN=signer", "-addext", "subjectAltName=IP:127.0.0.1",
                 "-keyout", key, "-out", certificate])  # fmt: skip
            machine.write(f"{DIRECTORY}/key.pem", key.read_text(), 0o600)
            for path in (f"{DIRECTORY}/certificate.pem", CERTIFICATE):
                machine.write(path, certificate.read_text())

    def has(self, *numbers: int) -> None:
        """Have it have these keys, from its next answer on."""
        self.machine.write(f"{DIRECTORY}/keys", "".join(f"{number}\n" for number in numbers))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        node = f"/opt/lodestar/node_modules/{NODE}/bin/node"
        self.machine.run("systemd-run", "-q", f"--unit={UNIT}", "--collect", node,
                         f"{PLACE}/web3signer.mjs", "/opt/lodestar", DIRECTORY, str(PORT))  # fmt: skip
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"]
        self.machine.wait(
            "the signer", lambda: not self.machine.run(*probe, check=False).returncode
        )

    def stop(self) -> None:
        """Stop it."""
        self.machine.systemctl("stop", UNIT)

    def signed(self) -> dict[str, set[str]]:
        """Return what kinds of messages it has signed, by key."""
        found: dict[str, set[str]] = {}
        for line in self._lines("signed"):
            one = json.loads(line)
            found.setdefault(one["key"], set()).add(one["type"])
        return found

    def refused(self) -> list[str]:
        """Return the requests that were not as its API has them."""
        return self._lines("refused")

    def _lines(self, file: str) -> list[str]:
        return self.machine.run("cat", f"{DIRECTORY}/{file}", check=False).stdout.splitlines()
