"""`validator-supervisor authorize NODE`: the command that lets this host in, to run on the node."""

import shlex
from pathlib import Path

from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.nodes import Node
from validator_supervisor.run import run
from validator_supervisor.tunnel import forwards

STORE = Path("/etc/credstore")


def command(node: Node, applied: Applied, key: str) -> list[str]:
    """Return the arguments of validator-supervisor-node(8) for exactly the node's forwards."""
    words = ["validator-supervisor-node", "add-validator", key]
    for forward in forwards(node, applied):
        if forward.remote.startswith("/"):
            raise SupervisorError(
                "NotPermitted",
                f"validator-supervisor-node permits no Unix socket such as {forward.remote}",
                "give remote: an address, or let the key in by hand (sshd(8), AUTHORIZED_KEYS)",
            )
        option = "--permit-listen" if forward.reverse else "--permit-open"
        words.append(f"{option}={forward.remote}")
    return words


def public_key(identity: str) -> str:
    """Return the public key of a plain credential. Raises SupervisorError."""
    path = STORE / f"validator-tunnel.{identity}"
    hint = f"make it with: ssh-keygen -t ed25519 -N '' -C '' -f {path}"
    try:
        if not path.exists():
            raise SupervisorError("NoIdentity", f"{path} is not there", hint)
    except PermissionError:
        raise SupervisorError("AccessDenied", f"{path} cannot be read", "be root") from None
    return run(["/usr/bin/ssh-keygen", "-y", "-f", str(path)], seconds=10).stdout.decode().strip()


def line(applied: Applied, name: str) -> str:
    """Return the command line to show. Raises SupervisorError."""
    node = applied.config.nodes.get(name)
    if node is None or not node.host:
        raise SupervisorError("UnknownNode", f"no node {name} with a host is applied")
    return shlex.join(command(node, applied, public_key(node.identity)))
