"""The peer of our tunnels: autossh(1) with its best options, under systemd as ours."""

import contextlib
from collections.abc import Iterator

from tests.bench.scene import BEACON, NODES, Scene

NAME = "autossh"
KNOWN_HOSTS = "/root/known_hosts"
FIRST_PORT = 15000
# AUTOSSH_GATETIME=0: a first attempt that fails is no reason to give up. AUTOSSH_POLL and
# AUTOSSH_FIRST_POLL only matter to its monitor port, which -M 0 switches off in favour of
# ServerAliveInterval; they are as low as our own interval in case that changes.
ENVIRONMENT = {"AUTOSSH_GATETIME": "0", "AUTOSSH_POLL": "5", "AUTOSSH_FIRST_POLL": "5"}
# Ours, from validator_supervisor/tunnel.py, but for what only we have.
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "5",
    "ExitOnForwardFailure": "yes",
    "GlobalKnownHostsFile": "none",
    "HostKeyAlgorithms": "ssh-ed25519",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "PreferredAuthentications": "publickey",
    "ServerAliveCountMax": "2",
    "ServerAliveInterval": "5",
    "StrictHostKeyChecking": "yes",
    "TCPKeepAlive": "yes",
    "UpdateHostKeys": "no",
    "UserKnownHostsFile": KNOWN_HOSTS,
}


def unit(node: str) -> str:
    """Return the name of the unit of the peer's tunnel to a node."""
    return f"{NAME}-{node}.service"


def port(node: str) -> int:
    """Return the local port that the peer's tunnel forwards to the beacon node."""
    return FIRST_PORT + NODES.index(node)


@contextlib.contextmanager
def connected(scene: Scene, *nodes: str) -> Iterator[None]:
    """Connect to nodes with the keys, the account and the target of our own tunnels."""
    lines = [f"{name}.example {scene.world.host_key(name)}\n" for name in NODES]
    scene.host.write(KNOWN_HOSTS, "".join(lines))
    try:
        for node in nodes:
            scene.run_unit(unit(node), *_argv(node), RestartSec="100ms")
        for node in nodes:
            scene.inside("moments.py", "answered", port(node))
        yield
    finally:
        scene.host.systemctl("stop", *(unit(node) for node in nodes), check=False)


def _argv(node: str) -> list[str]:
    words = ["env", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
    words += ["/usr/bin/autossh", "-M", "0", "-N", "-T", "-F", "none"]
    words += ["-i", f"/etc/credstore/validator-tunnel.{node}", "-l", "validator-node"]
    for name, value in OPTIONS.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "-L", f"127.0.0.1:{port(node)}:127.0.0.1:{BEACON}", f"{node}.example"]
