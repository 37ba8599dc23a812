"""nodes.py: bastions and beacon nodes."""

from collections.abc import Callable

import pytest

from validator_supervisor.applied import Applied
from validator_supervisor.config import Config
from validator_supervisor.nodes import ANY, KEY_TYPES, Forward

Read = Callable[[str], Config]
Refusal = Callable[[str], str]
NODE = "nodes:\n  helsinki:\n    host: hel.example.net\n    host_key: {key}\n"


def test_every_key_of_a_node(example: Applied, host_key: str) -> None:
    node = example.config.nodes["helsinki"]
    assert (node.host, node.port, node.user, node.identity) == (
        "hel.example.net",
        2222,
        "somebody",
        "key-1",
    )
    assert node.host_key == host_key
    assert node.beacon == {"dev": "lighthouse:5052"}
    assert (node.loki, node.backups, node.control_port) == (
        "127.0.0.1:3100",
        "supervisor-backups",
        8001,
    )
    assert node.forwards == (
        Forward(local=5064, remote="proxy:5064"),
        Forward(local="metrics.sock", remote="/run/metrics"),
        Forward(local=8000, remote="0.0.0.0:9000", reverse=True),
        Forward(local="/run/control", remote="/run/remote", reverse=True),
    )


def test_defaults_of_a_node(host_key: str, read: Read) -> None:
    node = read(NODE.format(key=host_key)).nodes["helsinki"]
    assert (node.port, node.user, node.identity) == (22, "validator-node", "helsinki")
    assert (node.beacon, node.forwards) == ({}, ())


@pytest.mark.parametrize(
    "line",
    [
        "host: -oProxyCommand=id",
        'host: "a b"',
        'host: "a\\nb"',
        "host: a%h",
        "host: user@host",
        "host: $(id)",
        "host: " + "a" * 256,
        "host: 5",
        "port: 0",
        "port: 65536",
        "port: true",
        'port: "22"',
        "user: -l",
        "user: Root",
        'user: "a b"',
        "user: a;b",
        "identity: ../secret",
        "identity: a:b",
        "beacon: lighthouse",
        "beacon: lighthouse:0",
        "beacon: lighthouse:65536",
        "beacon: lighthouse:99999",
        "beacon: https://lighthouse:5052",
        "beacon: 127.0.0.1:5052/eth",
        "beacon: a@b:5052",
        'beacon: "a:5052 -R 1:2:3"',
        "beacon: -x:5052",
        'beacon: "a b:5052"',
        'forwards: [{local: 1, remote: "a b:1"}]',
        'beacon: "[::1%eth0]:5052"',
        "beacon: {mainnet: a}",
        "beacon: [a:1]",
        "beacon: {dev: {a: 1}}",
        "forwards: [{local: 1}]",
        "forwards: [{remote: a:1}]",
        "forwards: [{local: 0, remote: a:1}]",
        "forwards: [{local: x, remote: a:1}]",
        "forwards: [{local: ../x.sock, remote: a:1}]",
        "forwards: [{local: /run/x.sock, remote: a:1}]",
        "forwards: [{local: x.sock, remote: a:1, reverse: true}]",
        "forwards: [{local: 1, remote: a:70000}]",
        'forwards: [{local: 1, remote: "/a b"}]',
        'forwards: [{local: 1, remote: "/a:1"}]',
        "forwards: [{local: 1, remote: a:1, reverse: maybe}]",
        "forwards: {local: 1}",
        "beacon: {hoodi: 'a:1', mainnet: 'http://a:1/'}",
        "beacon: {mainet: 'a:1'}",
        "beacon:",
        "loki: lighthouse",
        "loki: https://loki:3100",
        "loki: {dev: 'a:1'}",
        "loki: 'a:3100/loki/api/v1/push'",
        'loki: "a:1\\nb"',
        "loki: 5",
        "backups: ../x",
        "backups: a/../../x",
        "backups: a/..",
        "backups: ..",
        "backups: a//b",
        "backups: a/",
        "backups: ''",
        'backups: "a b"',
        'backups: "a\\nb"',
        "backups: $(id)",
        "backups: a%h",
        "backups: ~/x",
        "backups: [a]",
        "control_port: 0",
        "control_port: 65536",
        "control_port: 'a:1'",
        "control_port: true",
        "control_port: x.sock",
    ],
)
def test_hostile_and_wrong_values_of_a_node(line: str, host_key: str, refusal: Refusal) -> None:
    text = NODE.format(key=host_key)
    if line.startswith("host:"):
        text = text.replace("host: hel.example.net\n", f"{line}\n")
    else:
        text += f"    {line}\n"
    assert f"nodes.helsinki.{line.split(':')[0]}" in refusal(text)


@pytest.mark.parametrize(
    "key",
    ["port: 1", "user: a", "identity: a", "forwards: []", "control_port: 1", "host_key: first-use"],
)
def test_keys_that_mean_nothing_on_this_host(key: str, refusal: Refusal) -> None:
    assert "means nothing without host" in refusal(f"nodes: {{local: {{{key}}}}}")


def test_host_keys(key: Callable[..., str], read: Read) -> None:
    for kind in KEY_TYPES:
        found = read(NODE.format(key=f"'{key(kind)} a-comment'")).nodes["helsinki"]
        assert found.host_key == key(kind)
    assert read(NODE.format(key="first-use")).nodes["helsinki"].host_key == "first-use"


def test_wrong_host_keys(key: Callable[..., str], host_key: str, refusal: Refusal) -> None:
    kind, blob = host_key.split()
    for wrong in (
        "''",
        kind,
        blob,
        f"ssh-rsa {blob}",
        f"{kind} {blob[:-1]}",
        f"{kind} !!!!",
        f"{kind} AAAA",
        f"{kind} ö",
        f"'{kind} {blob} a b'",
        f'"{kind} {blob}\\nssh-rsa AAAA"',
        key("ssh-dss"),
        "any",
        "5",
        "[]",
    ):
        assert "helsinki.host_key: expected" in refusal(NODE.format(key=wrong))
    assert "key host_key is missing" in refusal("nodes: {a: {host: b}}")


def test_ports_of_two_forwards_do_not_meet(host_key: str, read: Read, refusal: Refusal) -> None:
    forward = "    forwards: [{local: 5000, remote: 'a:1'}]\n"
    second = NODE.format(key=host_key).replace("nodes:\n", "").replace("helsinki", "zurich")
    text = NODE.format(key=host_key) + forward + second + forward
    assert "nodes helsinki and zurich both use 5000" in refusal(text)
    # Sockets are each in the directory of their own tunnel; a reverse forward listens far away.
    assert read(text.replace("5000", "a.sock"))
    assert read(text.replace("'a:1'", "'a:1', reverse: true"))


def test_every_key_of_a_node_that_is_this_host(example: Applied) -> None:
    node = example.config.nodes["local"]
    assert (node.host, node.identity, node.forwards) == ("", "", ())
    assert node.beacon == {ANY: "http://127.0.0.1:5052"}
    assert (node.loki, node.backups) == ("http://127.0.0.1:3100", "/mnt/usb/backups")


def test_addresses_behind_a_tunnel_lose_what_the_tunnel_does(read: Read) -> None:
    node = read(NODE.format(key="first-use") + "    loki: http://loki:3100/\n").nodes["helsinki"]
    assert node.loki == "loki:3100"
    node = read("nodes: {local: {loki: 'https://loki.example.net:443/'}}").nodes["local"]
    assert node.loki == "https://loki.example.net:443"


def test_a_directory_for_backups(read: Read, refusal: Refusal) -> None:
    # On a node it is relative to the user's home there, if it is relative; here it has none.
    for path in ("backups", "a/b.c", "/srv/backups", "...", "a..b"):
        found = read(NODE.format(key="first-use") + f"    backups: {path}\n")
        assert found.nodes["helsinki"].backups == path
    assert read("nodes: {local: {backups: /srv/b}}").nodes["local"].backups == "/srv/b"
    for path in ("backups", "a/b", "./b", "/a/./b", "/srv/../etc", "/a//b", "/a/", "/"):
        assert "nodes.local.backups: expected" in refusal(f"nodes: {{local: {{backups: {path}}}}}")


@pytest.mark.parametrize("text", ["", "nodes:\n", "nodes: {}\n", "nodes: ~\nvalidators:\n"])
def test_there_may_be_no_node(text: str, read: Read) -> None:
    assert read(text).nodes == {}


@pytest.mark.parametrize("text", ["nodes: []", "nodes: ''", "nodes: 0", "nodes: false"])
def test_no_nodes_are_a_mapping_all_the_same(text: str, refusal: Refusal) -> None:
    assert "nodes: expected a mapping" in refusal(text)


def test_nothing_below_a_node_is_no_node(refusal: Refusal) -> None:
    assert "nodes.a: expected a mapping, found nothing" in refusal("nodes: {a: }")


def test_two_networks_of_a_node_have_two_addresses(read: Read, refusal: Refusal) -> None:
    words = "nodes.a.beacon: two networks have one address"
    for other in ("'x:1'", "'http://x:1'", "'x:1/'"):
        beacon = f"{{mainnet: 'x:1', hoodi: {other}}}"
        assert words in refusal(f"nodes: {{a: {{beacon: {beacon}}}}}")
        assert words in refusal(f"nodes: {{a: {{host: h, host_key: first-use, beacon: {beacon}}}}}")
    assert len(read("nodes: {a: {beacon: {mainnet: 'x:1', hoodi: 'x:2'}}}").nodes["a"].beacon) == 2


def test_a_network_has_its_own_address_or_that_of_any(read: Read) -> None:
    nodes = read("nodes: {a: {beacon: {hoodi: 'x:1'}}, b: {beacon: 'y:1'}, c: {}}").nodes
    assert [node.beacon_for("hoodi") for node in nodes.values()] == ["x:1", "y:1", ""]
    assert [node.beacon_for("mainnet") for node in nodes.values()] == ["", "y:1", ""]
