"""The configuration: YAML in, frozen dataclasses out; keys in validator-supervisor.yaml(5)."""

import base64
import binascii
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from validator_supervisor.document import Value, from_plain, parse
from validator_supervisor.errors import ConfigError, SupervisorError
from validator_supervisor.networks import NETWORKS

FILE = Path("/etc/validator-supervisor/config.yaml")
# What validator-apply.service has checked and accepted, as JSON; nothing else reads FILE.
APPLIED = Path("/etc/validator-supervisor/.applied")

# Beside it: what was applied before, while validator-apply.service is at work.
PREVIOUS = ".applied.before"

# "validator_NAME" is a user name of at most 31 characters (sysusers.d(5)); the socket paths of a
# node, with what ssh appends while it binds them, must fit sun_path (unix(7), 108 bytes).
NAME = r"[a-z0-9][a-z0-9_-]{0,19}"
HOST = r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,254}"
USER = r"[a-z_][a-z0-9_-]{0,30}"
PORT = (1, 65535)
# An address as seen from the node: HOST:PORT, with brackets around an IPv6 address.
BELOW_65536 = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
ADDRESS = rf"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):({BELOW_65536})"
SOCKET = r"[a-z0-9][a-z0-9-]{0,20}\.sock"
# Only what can stand unquoted in a unit file and in ssh's arguments.
PATH = r"(/[A-Za-z0-9._+@-]+)+"
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


@dataclass(frozen=True)
class Forward:
    """One forward of a tunnel; ``local`` is a port, a socket's name or, reverse, a path."""

    local: int | str
    remote: str
    reverse: bool


@dataclass(frozen=True)
class Node:
    """A public node; without ``host`` it is this machine and needs no tunnel."""

    name: str
    host: str
    port: int
    user: str
    identity: str
    host_key: str
    beacon: dict[str, str]
    forwards: tuple[Forward, ...]

    def beacon_for(self, network: str) -> str:
        """Return the beacon node's address for ``network``, as seen from the node, or ``""``."""
        return self.beacon.get(network) or self.beacon.get(ANY, "")


@dataclass(frozen=True)
class Release:
    """The client's program."""

    client: str
    binary: str


@dataclass(frozen=True)
class Validator:
    """One validator; ``kind`` says which of the groups of fields below it uses."""

    name: str
    kind: str
    enabled: bool
    user: str
    environment_file: str
    # command
    command: tuple[str, ...] = ()
    # ethereum
    network: str = ""
    release: Release = Release("", "")
    fee_recipient: str = ""
    graffiti: str = ""
    args: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """Everything there is."""

    nodes: dict[str, Node]
    validators: dict[str, Validator]
    port_range: tuple[int, int]


@dataclass(frozen=True)
class Applied:
    """The accepted configuration, and the loopback port of each beacon forward (NODE/NETWORK)."""

    config: Config
    ports: dict[str, int]

    def beacon_url(self, node: Node, network: str) -> str:
        """Return the URL at which this host reaches the node's beacon node, or ``""``."""
        address = node.beacon_for(network)
        if address and node.host:
            key = network if network in node.beacon else ANY
            return f"http://127.0.0.1:{self.ports[f'{node.name}/{key}']}"
        return address if not address or "://" in address else f"http://{address}"

    def beacons(self, validator: Validator) -> dict[str, str]:
        """Return the URL of each beacon node of ``validator`` by node, preferred first."""
        urls = {
            name: self.beacon_url(self.config.nodes[name], validator.network)
            for name in validator.nodes
        }
        return {name: url for name, url in urls.items() if url}


def load(path: Path = FILE) -> Value:
    """Read and parse the file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            # One byte more than is allowed, so that the parser can refuse it.
            return parse(file.read((1 << 20) + 1), str(path))
    except OSError as failure:
        raise ConfigError(str(path), failure.strerror or "cannot be read") from None


def applied(path: Path = APPLIED) -> Applied:
    """Return what is applied; an empty configuration where nothing ever was.

    Raises SupervisorError ``NotApplied`` when the file is damaged.
    """
    try:
        stored = json.loads(path.read_bytes())
        ports = from_plain(stored["ports"], str(path)).mapping()
        return Applied(
            read(from_plain(stored["config"], str(path))),
            {key: port.integer(*PORT, "a port") for key, port in ports.items()},
        )
    except FileNotFoundError:
        return Applied(read(from_plain({}, str(path))), {})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as failure:
        raise SupervisorError(
            "NotApplied", f"{path} is damaged: {failure}", "systemctl start validator-apply"
        ) from None


def applied_text(document: Value, ports: dict[str, int]) -> bytes:
    """Return the bytes of the applied file."""
    stored = {"config": document.plain(), "ports": ports}
    return json.dumps(stored, indent=1, sort_keys=True).encode() + b"\n"


def assign_ports(config: Config, before: dict[str, int]) -> dict[str, int]:
    """Give each beacon forward a port, and keep every port that was given before.

    Raises ConfigError when ``port_range`` is too small.
    """
    low, high = config.port_range
    tunnels = [node for node in config.nodes.values() if node.host]
    wanted = [f"{node.name}/{network}" for node in tunnels for network in node.beacon]
    taken = {f.local for node in tunnels for f in node.forwards if isinstance(f.local, int)}
    kept = {key: before[key] for key in wanted if low <= before.get(key, 0) <= high}
    ports = {key: port for key, port in kept.items() if port not in taken}
    taken |= set(ports.values())
    free = (port for port in range(low, high + 1) if port not in taken)
    for key in wanted:
        if key not in ports:
            port = next(free, None)
            if port is None:
                raise ConfigError(str(FILE), f"port_range {low} to {high} is too small")
            ports[key] = port
    return ports


def read(document: Value) -> Config:
    """Check a whole document. Raises ConfigError at the first thing that is wrong."""
    top = document.section("version", "nodes", "port_range", "validators")
    if top.members:
        top.need("version", lambda v: v.integer(1, 1, "the version of this format"))
    nodes = top.get("nodes", _nodes, dict[str, Node]())
    ports = top.get("port_range", _port_range, (13000, 14000))
    validators = top.get("validators", lambda v: _validators(v, nodes), dict[str, Validator]())
    _local_ports(document, nodes)
    return Config(nodes, validators, ports)


def _named(value: Value) -> list[tuple[str, Value]]:
    for name, member in value.mapping().items():
        Value(name, member.file, member.line, member.column, member.key).string(
            NAME, "a name of 1 to 20 of a-z, 0-9, - and _ that begins with a letter or digit"
        )
    return list(value.mapping().items())


def _port_range(value: Value) -> tuple[int, int]:
    bounds = [item.integer(1024, 65535, "a port") for item in value.items()]
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise value.error("expected [LOWEST, HIGHEST]")
    return bounds[0], bounds[1]


def _nodes(value: Value) -> dict[str, Node]:
    return {name: _node(name, member) for name, member in _named(value)}


def _node(name: str, value: Value) -> Node:
    keys = value.section(
        "host", "port", "user", "identity", "host_key", "beacon", "forwards"
    )  # fmt: skip
    host = keys.get("host", lambda v: v.string(HOST, "a host name or address"), "")
    if not host:
        for key in ("port", "user", "identity", "host_key", "forwards"):
            if key in keys.members:
                raise keys.members[key].error("means nothing without host")
    beacon = keys.get("beacon", lambda v: _beacon(v, local=not host), dict[str, str]())
    if not host:
        return Node(name, "", 0, "", "", "", beacon, ())
    return Node(
        name,
        host,
        keys.get("port", lambda v: v.integer(*PORT, "a port"), 22),
        keys.get("user", lambda v: v.string(USER, "a Unix user"), "validator-node"),
        keys.get("identity", lambda v: v.string(NAME, "the name of a credential"), name),
        keys.need("host_key", _host_key),
        beacon,
        keys.get("forwards", lambda v: tuple(_forward(item) for item in v.items()), ()),
    )


def _host_key(value: Value) -> str:
    hint = "ssh-keyscan HOST shows it; compare it with the node's own ssh_host_ed25519_key.pub"
    words = value.string().split()
    if words == [FIRST_USE]:
        return FIRST_USE
    try:
        blob = base64.b64decode(words[1], validate=True)
        stated = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
    except (IndexError, binascii.Error, UnicodeDecodeError):
        stated = ""
    if len(words) not in (2, 3) or words[0] not in KEY_TYPES or stated != words[0]:
        raise value.error("expected first-use or a public key (TYPE BASE64)", hint)
    return f"{words[0]} {words[1]}"


def _beacon(value: Value, *, local: bool) -> dict[str, str]:
    if isinstance(value.data, dict):
        for network, member in value.data.items():
            if network not in NETWORKS:
                raise member.error("unknown network", f"known: {', '.join(NETWORKS)}")
        return {network: _address(member, local) for network, member in value.data.items()}
    return {ANY: _address(value, local)}


def _address(value: Value, local: bool) -> str:
    if local:
        return value.string(rf"(https?://)?{ADDRESS}/?", "URL or HOST:PORT").rstrip("/")
    return value.string(rf"(http://)?{ADDRESS}/?", "HOST:PORT").removeprefix("http://").rstrip("/")


def _forward(value: Value) -> Forward:
    keys = value.section("local", "remote", "reverse")
    reverse = keys.get("reverse", Value.boolean, False)

    def local(v: Value) -> int | str:
        if isinstance(v.data, str):
            what = "an absolute path" if reverse else "NAME.sock"
            return v.string(PATH if reverse else SOCKET, f"a port or {what}")
        return v.integer(*PORT, "a port")

    remote = keys.need("remote", lambda v: v.string(f"{ADDRESS}|{PATH}", "HOST:PORT or a path"))
    return Forward(keys.need("local", local), remote, reverse)


def _local_ports(document: Value, nodes: dict[str, Node]) -> None:
    seen: dict[tuple[str, int | str], str] = {}
    for node in nodes.values():
        for forward in node.forwards:
            if not forward.reverse:
                scope = "" if isinstance(forward.local, int) else node.name
                if (scope, forward.local) in seen:
                    other = seen[scope, forward.local]
                    raise document.error(f"nodes {other} and {node.name} both use {forward.local}")
                seen[scope, forward.local] = node.name


def _validators(value: Value, nodes: dict[str, Node]) -> dict[str, Validator]:
    found: dict[str, Validator] = {}
    for name, member in _named(value):
        validator = _validator(name, member, nodes)
        for other in found.values():
            if other.user == validator.user:
                raise member.error(f"{other.name} runs as {other.user} already")
        found[name] = validator
    return found


COMMON = ("kind", "enabled", "user", "environment_file")
ETHEREUM = ("network", "release", "fee_recipient", "graffiti", "args", "nodes")


def _validator(name: str, value: Value, nodes: dict[str, Node]) -> Validator:
    kind = value.section(*COMMON, "command", *ETHEREUM).need(
        "kind", lambda v: v.choice("ethereum", "command")
    )
    keys = value.section(*COMMON, *(ETHEREUM if kind == "ethereum" else ("command",)))
    common = (
        name,
        kind,
        keys.get("enabled", Value.boolean, True),
        keys.get("user", _user, f"validator_{name}"),
        keys.get("environment_file", _path, ""),
    )
    if kind == "command":
        return Validator(*common, command=keys.need("command", _command))
    network = keys.need("network", lambda v: v.choice(*NETWORKS))
    usable = tuple(n.name for n in nodes.values() if n.beacon_for(network))
    chosen = keys.get("nodes", partial(_chosen, nodes=nodes, network=network), usable)
    if not chosen:
        raise value.error(f"no node has a beacon for {network}", "add beacon: to a node")
    return Validator(
        *common,
        network=network,
        release=keys.need("release", _release),
        fee_recipient=keys.need("fee_recipient", _fee_recipient),
        graffiti=keys.get("graffiti", _graffiti, ""),
        args=keys.get("args", lambda v: tuple(item.string() for item in v.items()), ()),
        nodes=chosen,
    )


def _user(value: Value) -> str:
    user = value.string(USER, "a Unix user")
    # The other jobs' users are validator-JOB; what one of them may do is not a validator's.
    if user == "root" or user.startswith("validator-"):
        raise value.error(f"a validator does not run as {user}")
    return user


def _path(value: Value) -> str:
    path = value.string(PATH, "an absolute path of letters, digits and . _ + @ -")
    if os.path.normpath(path) != path:
        raise value.error(f"expected {os.path.normpath(path)}")
    return path


def _command(value: Value) -> tuple[str, ...]:
    words = value.items()
    if not words:
        raise value.error("expected [PROGRAM, ARGUMENT…]")
    return (_path(words[0]), *(word.string() for word in words[1:]))


def _release(value: Value) -> Release:
    keys = value.section("client", "binary")
    return Release(keys.need("client", lambda v: v.choice("lodestar")), keys.need("binary", _path))


def _fee_recipient(value: Value) -> str:
    return value.string(r"0x[0-9a-fA-F]{40}", "an address, 0x and 40 hexadecimal digits")


def _graffiti(value: Value) -> str:
    if len(value.string().encode()) > 32:
        raise value.error("expected at most 32 bytes")
    return value.string()


def _chosen(value: Value, *, nodes: dict[str, Node], network: str) -> tuple[str, ...]:
    names = [item.choice(*nodes) for item in value.items()]
    for item, name in zip(value.items(), names, strict=True):
        if not nodes[name].beacon_for(network):
            raise item.error(f"node {name} has no beacon for {network}")
        if names.count(name) > 1:
            raise item.error(f"node {name} stands here twice")
    return tuple(names)
