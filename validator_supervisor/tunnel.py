"""SSH tunnels: the arguments of ssh(1), the pin of a host key, and when a tunnel stands.

The main process of a tunnel's unit is the stock ssh. Local forwards are its arguments: with
``ExitOnForwardFailure`` its control socket appears only after they are bound. Reverse forwards are
added over that socket, because the reply to each says whether the node accepted it.
"""

import base64
import hashlib
import os
import re
import time
from pathlib import Path

from validator_supervisor import durable
from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.nodes import FIRST_USE, Forward, Node

# What a tunnel's credential holds where there is no ssh key.
NO_IDENTITY = "none"
HOST_KEY_HELPER = "/usr/lib/validator-supervisor/host-key"
# The exit status that the unit does not restart: the host key is not the pinned one.
HOST_KEY_CHANGED = 79
# A loopback socket answers in microseconds; the node's reply to a forward is one round trip.
POLL_SECONDS = 0.02


def forwards(node: Node, applied: Applied) -> list[Forward]:
    """Return every forward of the tunnel: one for each beacon address, then the configured."""
    beacons = [
        Forward(local=applied.ports[f"{node.name}/{network}"], remote=address)
        for network, address in node.beacon.items()
    ]
    return beacons + list(node.forwards)


def specification(forward: Forward, directory: Path) -> str:
    """Return the argument of ssh's ``-L`` or ``-R``."""
    local = forward.local
    if forward.reverse:
        target = f"127.0.0.1:{local}" if isinstance(local, int) else local
        return f"{forward.remote}:{target}"
    listener = f"127.0.0.1:{local}" if isinstance(local, int) else str(directory / local)
    return f"{listener}:{forward.remote}"


def connection_options(pin: str) -> dict[str, str]:
    """Return the options of every connection to a node; ``pin`` is ``""`` before the first."""
    options = {
        "BatchMode": "yes",
        # A bastion that is there answers within a second; validators that use it wait this long
        # for one that is not.
        "ConnectTimeout": "5",
        "ForwardAgent": "no",
        "GlobalKnownHostsFile": "none",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PermitLocalCommand": "no",
        "PreferredAuthentications": "publickey",
        # A silent cut is noticed after 10 to 15 s.
        "ServerAliveCountMax": "2",
        "ServerAliveInterval": "5",
        "StrictHostKeyChecking": "yes",
        "TCPKeepAlive": "yes",
        "UpdateHostKeys": "no",
    }
    if pin:
        kind = pin.split()[0]
        # An RSA key signs with SHA-2 (RFC 8332); its old algorithm is refused by everyone.
        options["HostKeyAlgorithms"] = "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
    return options


def argv(node: Node, applied: Applied, directory: Path, credentials: Path, pin: str) -> list[str]:
    """Return ssh's arguments; ``pin`` is the pinned host key or ``""`` before the first contact."""
    options = connection_options(pin) | {
        "ClearAllForwardings": "no",
        "ControlMaster": "yes",
        "ControlPath": str(directory / "control"),
        "ControlPersist": "no",
        "ExitOnForwardFailure": "yes",
        "IdentityFile": str(credentials / "identity"),
        "KnownHostsCommand": f"{HOST_KEY_HELPER} {node.name} %H %t %K {pin}".rstrip(),
        "LogLevel": "INFO",
        # Sockets for the group of the tunnels, and over those that a killed ssh has left.
        "StreamLocalBindMask": "0117",
        "StreamLocalBindUnlink": "yes",
        "UserKnownHostsFile": "none",
    }
    words = ["/usr/bin/ssh", "-N", "-T", "-F", "none", "-p", str(node.port), "-l", node.user]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    for forward in forwards(node, applied):
        if not forward.reverse:
            words += ["-L", specification(forward, directory)]
    return [*words, "--", node.host]


def forward_argv(node: Node, directory: Path, forward: Forward) -> list[str]:
    """Return the arguments that add a reverse forward to the standing connection."""
    control = f"ControlPath={directory / 'control'}"
    specified = specification(forward, directory)
    return ["/usr/bin/ssh", "-F", "none", "-o", control, "-O", "forward", "-R", specified,
            "--", node.host]  # fmt: skip


def check_identity(node: Node, credentials: Path) -> None:
    """Raise SupervisorError ``NoIdentity`` where systemd has found no key for the node."""
    if (credentials / "identity").read_bytes().strip() in (b"", NO_IDENTITY.encode()):
        path = f"/etc/credstore/validator-tunnel.{node.identity}"
        raise SupervisorError(
            "NoIdentity",
            f"there is no ssh key {path}",
            f"make it with: ssh-keygen -t ed25519 -N '' -C '' -f {path}",
        )


def fingerprint(key: str) -> str:
    """Return the fingerprint of ``TYPE BASE64`` as ssh-keygen(1) prints it."""
    kind, blob = key.split()[:2]
    digest = base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
    return f"{kind} SHA256:{digest}"


def pinned(node: Node, state: Path) -> str:
    """Return the host key this node must show, ``""`` before a first contact.

    Raises SupervisorError ``HostKeyUnreadable`` when the stored pin is damaged: a lost pin must
    not become a new first contact.
    """
    if node.host_key != FIRST_USE:
        return node.host_key
    path = state / "host-key"
    try:
        stored = path.read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    if not re.fullmatch(r"[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+", stored):
        raise SupervisorError(
            "HostKeyUnreadable", f"{path} holds no host key", "write `TYPE BASE64` into it"
        )
    return stored


def offer(kind: str, key: str, pin: str, directory: Path, state: Path) -> str:
    """Answer ssh's question for known keys when the node offers ``kind key``.

    Returns the key to accept. A first contact pins the offered key; another key than the pinned
    one is written down for the next start of the tunnel, and ssh refuses it.
    """
    offered = f"{kind} {key}"
    if not pin:
        # Public, and who takes backups to the node reads it.
        durable.write(state / "host-key", offered.encode() + b"\n", 0o644)
        return offered
    if offered != pin:
        (directory / "host-key-changed").write_text(offered)
    return pin


def take_changed(directory: Path) -> str:
    """Return the key that the last attempt was offered instead of the pinned one, once."""
    path = directory / "host-key-changed"
    try:
        offered = path.read_text()
    except FileNotFoundError:
        return ""
    path.unlink()
    return offered


def changed_message(node: Node, offered: str, pin: str, state: Path) -> SupervisorError:
    """Return the error that a changed host key is."""
    where = "host_key: in config.yaml" if node.host_key != FIRST_USE else str(state / "host-key")
    return SupervisorError(
        "HostKeyChanged",
        f"host key of {node.host} has changed: pinned is {fingerprint(pin)}, "
        f"offered was {fingerprint(offered)}; next attempt in 5 minutes",
        f"if the node's operator confirms the new key, change {where}: `{offered}`",
    )


def wait_for_control(directory: Path, ssh: int) -> bool:
    """Wait until process ``ssh`` listens on its control socket; False when it ended before."""
    while not (directory / "control").exists():
        try:
            os.kill(ssh, 0)
        except ProcessLookupError:
            return False
        time.sleep(POLL_SECONDS)
    return True


def standing(node: Node, count: int) -> str:
    """Return the StatusText of a tunnel that stands."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    plural = "" if count == 1 else "s"
    return f"connected to {node.host} port {node.port} since {since}, {count} forward{plural}"
