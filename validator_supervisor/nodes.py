"""The nodes of the configuration: bastions and beacon nodes."""

import base64
import re
from dataclasses import dataclass, replace

from validator_supervisor.document import Value
from validator_supervisor.kinds import (
    ABSOLUTE,
    ADDRESS_PATTERN,
    NAME,
    NETWORK,
    PATH_PATTERN,
    PORT,
    USER,
)
from validator_supervisor.schema import (
    Kind,
    boolean,
    either,
    record,
    sequence,
    setting,
    settings,
    table,
    text,
)

HOST = r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,254}"
SOCKET = r"[a-z0-9][a-z0-9-]{0,20}\.sock"
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
FIRST_USE = "first-use"
ANY = ""  # the network of a beacon address that serves whatever validator asks
# The account for tunnels that the package validator-supervisor-node makes.
DEFAULT_USER = "validator-node"
# The keys of a node that is this host.
LOCAL = ("beacon", "loki", "backups")


def _host_key(value: Value, words: str) -> str:
    hint = "ssh-keyscan HOST shows it; compare it with the node's own ssh_host_ed25519_key.pub"
    parts = words.split()
    if parts == [FIRST_USE]:
        return FIRST_USE
    try:
        blob = base64.b64decode(parts[1], validate=True)
        stated = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
    except (IndexError, ValueError):  # no second word, or no base64
        stated = ""
    if len(parts) not in (2, 3) or parts[0] not in KEY_TYPES or stated != parts[0]:
        raise value.error("expected first-use or a public key (TYPE BASE64)", hint)
    return f"{parts[0]} {parts[1]}"


def _port_or_path() -> Kind[int | str]:
    name = text(f"{SOCKET}|{PATH_PATTERN}", "a port, NAME.sock or, reverse, an absolute path")

    def read(value: Value) -> int | str:
        return name.read(value) if isinstance(value.data, str) else PORT.read(value)

    return Kind(read, {"anyOf": [PORT.schema, name.schema]})


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One forward of a tunnel; ``local`` is a port, a socket's name or, reverse, a path."""

    local: int | str = setting(_port_or_path(), "the end on this host")
    remote: str = setting(
        text(f"{ADDRESS_PATTERN}|{PATH_PATTERN}", "HOST:PORT or a path"), "the end on the node"
    )
    reverse: bool = setting(boolean(), "whether the node listens", False)


def _forward(value: Value, forward: Forward) -> Forward:
    if isinstance(forward.local, str) and forward.local.startswith("/") is not forward.reverse:
        what = "an absolute path" if forward.reverse else "NAME.sock"
        raise value.mapping()["local"].error(f"expected a port or {what}, found {forward.local}")
    return forward


SERVICE = text(rf"(https?://)?{ADDRESS_PATTERN}/?", "HOST:PORT or, on this host, a URL")


def _no_way_up(value: Value, path: str) -> str:
    if ".." in path.split("/"):
        raise value.error("expected a directory without ..")
    return path


def _any(value: Value, address: str) -> dict[str, str]:
    del value
    return {ANY: address}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A public node; without ``host`` it is this machine and needs no tunnel.

    ``beacon`` has an address by network; that of ``ANY`` serves every network.
    """

    name: str = ""
    host: str = setting(text(HOST, "a host name or address"), "absent: this host, no tunnel", "")
    port: int = setting(PORT, "of its sshd", 22)
    user: str = setting(USER, "whom to log in as", DEFAULT_USER)
    identity: str = setting(NAME, "ssh key: a credential; default: the node's name", "")
    host_key: str = setting(
        text().then(_host_key), "its public host key, or first-use to pin what it shows first", ""
    )
    beacon: dict[str, str] = setting(
        either(SERVICE.then(_any), table(NETWORK, SERVICE)),
        "its beacon node, as seen from the node: an address, or one per network",
        {},
    )
    loki: str = setting(SERVICE, "where logs are pushed to, as seen from the node", "", idle=True)
    backups: str = setting(
        text(r"/?[A-Za-z0-9._+@-]+(/[A-Za-z0-9._+@-]+)*", "a directory").then(_no_way_up),
        "the directory on the node that takes backups",
        "",
    )
    control_port: int = setting(PORT, "where the node lets operators in", 0, idle=True)
    forwards: tuple[Forward, ...] = setting(
        sequence(record(Forward).then(_forward)), "further forwards", ()
    )

    def beacon_for(self, network: str) -> str:
        """Return the beacon node's address for ``network``, as seen from the node, or ``""``."""
        return self.beacon.get(network) or self.beacon.get(ANY, "")


def _node(value: Value, node: Node) -> Node:
    members = value.mapping()
    services = {m: members[m] for m in ("beacon", "loki") if m in members}
    if len(node.beacon) > 1:
        _one_network(members["beacon"], node.beacon)
    if not node.host:
        for name in settings(Node):
            if name in members and name not in LOCAL:
                raise members[name].error("means nothing without host")
        if node.backups:
            ABSOLUTE.read(members["backups"])
        beacon = {network: address.rstrip("/") for network, address in node.beacon.items()}
        return replace(node, beacon=beacon, loki=node.loki.rstrip("/"))
    if not node.host_key:
        raise value.error("key host_key is missing")
    for member in services.values():
        _no_tls(member)
    beacon = {network: plain(address) for network, address in node.beacon.items()}
    return replace(node, beacon=beacon, loki=plain(node.loki))


def _one_network(value: Value, beacon: dict[str, str]) -> None:
    if len({plain(address) for address in beacon.values()}) < len(beacon):
        raise value.error("two networks have one address, and a beacon node is on one")


def _no_tls(value: Value) -> None:
    for member in value.data.values() if isinstance(value.data, dict) else (value,):
        if member.string().startswith("https://"):
            # The certificate is for the node's own name, not for this end of the forward.
            raise member.error("expected HOST:PORT; the tunnel encrypts")


def plain(address: str) -> str:
    """Return HOST:PORT of an address or URL."""
    return re.sub(r"^https?://|/$", "", address)


def _named(value: Value, found: dict[str, Node]) -> dict[str, Node]:
    nodes = {
        name: replace(node, name=name, identity=node.identity or name if node.host else "")
        for name, node in found.items()
    }
    _local_ports(value, nodes)
    return nodes


def _local_ports(value: Value, nodes: dict[str, Node]) -> None:
    seen: dict[tuple[str, int | str], str] = {}
    for node in nodes.values():
        for forward in node.forwards:
            if forward.reverse:
                continue
            # A socket is in the node's own directory.
            end = ("" if isinstance(forward.local, int) else node.name, forward.local)
            if end in seen:
                here = value.mapping()[node.name]
                raise here.error(f"nodes {seen[end]} and {node.name} both use {forward.local}")
            seen[end] = node.name


NODES: Kind[dict[str, Node]] = table(NAME, record(Node).then(_node)).then(_named)
