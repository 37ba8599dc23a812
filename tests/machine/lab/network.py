"""Hosts on a switch, all in network namespaces made here.

Addresses are from TEST-NET-1 (RFC 5737), which exists nowhere else.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from lab.host import run


class Network:
    """A switch, and a namespace with one interface for each host."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.switch = f"{prefix}-switch"
        self.addresses: dict[str, str] = {}

    @classmethod
    @contextlib.contextmanager
    def made(cls, prefix: str = "") -> Iterator["Network"]:
        """Make a network and remove it at the end."""
        network = cls(prefix or f"vs{secrets.token_hex(3)}")
        network.remove()
        network._make()
        try:
            yield network
        finally:
            network.remove()

    def _make(self) -> None:
        run(["ip", "netns", "add", self.switch])
        run(["ip", "-n", self.switch, "link", "add", "switch", "type", "bridge"])
        run(["ip", "-n", self.switch, "link", "set", "switch", "up"])

    def add(self, name: str) -> Path:
        """Add a host and return the path of its namespace."""
        space = f"{self.prefix}-{name}"
        address = f"192.0.2.{10 + len(self.addresses)}"
        self.addresses[name] = address
        run(["ip", "netns", "add", space])
        run(["ip", "-n", self.switch, "link", "add", name, "type", "veth",
             "peer", "name", "eth0", "netns", space])  # fmt: skip
        run(["ip", "-n", self.switch, "link", "set", name, "master", "switch", "up"])
        run(["ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0"])
        run(["ip", "-n", space, "link", "set", "lo", "up"])
        run(["ip", "-n", space, "link", "set", "eth0", "up"])
        return Path("/run/netns") / space

    def cut(self, name: str) -> None:
        """Drop everything to and from a host without a word: no reset, no lost carrier."""
        self._port(name, "0")

    def heal(self, name: str) -> None:
        """Undo ``cut``."""
        self._port(name, "3")

    def slow(self, name: str, rate: str) -> None:
        """Let a host send only so much, as tc(8) writes it; ``""``: as much as it likes."""
        inside = ["ip", "netns", "exec", f"{self.prefix}-{name}", "tc", "qdisc"]
        run([*inside, "del", "dev", "eth0", "root"], check=False)
        if rate:
            run([*inside, "add", "dev", "eth0", "root", "tbf", "rate", rate,
                 "burst", "1600", "limit", "200000"])  # fmt: skip

    def _port(self, name: str, state: str) -> None:
        run(
            [
                "ip",
                "netns",
                "exec",
                self.switch,
                "bridge",
                "link",
                "set",
                "dev",
                name,
                "state",
                state,
            ]
        )

    def hosts(self) -> str:
        """Return /etc/hosts for everybody."""
        lines = [f"{address} {name}.example {name}\n" for name, address in self.addresses.items()]
        return "127.0.0.1 localhost\n" + "".join(lines)

    def remove(self) -> None:
        """Remove every namespace of this network."""
        for line in run(["ip", "netns", "list"], check=False).stdout.splitlines():
            name = line.split()[0]
            if name.startswith(f"{self.prefix}-"):
                run(["ip", "netns", "delete", name], check=False)
