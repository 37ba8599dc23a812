"""applied.py: what is in effect."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from validator_supervisor import config
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.config import Config
from validator_supervisor.document import SIZE_MAX, from_plain, parse
from validator_supervisor.errors import ConfigError, SupervisorError
from validator_supervisor.nodes import ANY
from validator_supervisor.overrides import Override

Read = Callable[[str], Config]
NODE = "nodes:\n  helsinki:\n    host: hel.example.net\n    host_key: {key}\n"


@pytest.mark.parametrize(
    ("beacon", "url"),
    [
        ("127.0.0.1:5052", "http://127.0.0.1:5052"),
        ("http://127.0.0.1:5052/", "http://127.0.0.1:5052"),
        ("https://beacon.example.net:443", "https://beacon.example.net:443"),
        ("'[::1]:65535'", "http://[::1]:65535"),
        ("{dev: 'a:1'}", "http://a:1"),
    ],
)
def test_beacon_of_this_host(beacon: str, url: str, read: Read) -> None:
    found = read(f"nodes: {{local: {{beacon: {beacon}}}}}")
    assert Applied(found, {}).beacon_url(found.nodes["local"], "dev") == url


def test_beacon_behind_a_tunnel_is_its_forwarded_port(make: Callable[[str], Applied]) -> None:
    node = NODE.format(key="first-use")
    applied = make(
        f"version: 1\nport_range: [2000, 2001]\n{node}    beacon: http://lighthouse:5052/"
    )
    helsinki = applied.config.nodes["helsinki"]
    assert helsinki.beacon == {ANY: "lighthouse:5052"}
    assert applied.ports == {"helsinki/": 2000}
    assert applied.beacon_url(helsinki, "dev") == "http://127.0.0.1:2000"


def test_no_beacon_no_url(read: Read) -> None:
    found = read("nodes: {a: {}, b: {beacon: {dev: 'x:1'}}}")
    applied = Applied(found, {})
    assert applied.beacon_url(found.nodes["a"], "dev") == ""
    assert applied.beacon_url(found.nodes["b"], "mainnet") == ""


def test_beacons_keep_the_order_of_preference(example: Applied) -> None:
    assert example.beacons(example.config.validators["main"]) == {
        "helsinki": "http://127.0.0.1:13000",
        "local": "http://127.0.0.1:5052",
    }
    assert example.beacons(example.config.validators["other"]) == {}


def test_ports_are_kept_and_new_ones_are_free(make: Callable[[str], Applied]) -> None:
    def nodes(*names: str) -> Config:
        text = "".join(
            f"  {name}: {{host: h, host_key: first-use, beacon: 'a:1'}}\n" for name in names
        )
        return make(f"version: 1\nport_range: [2000, 2002]\nnodes:\n{text}").config

    first = assign_ports(nodes("a", "b"), {})
    assert first == {"a/": 2000, "b/": 2001}
    assert assign_ports(nodes("b"), first) == {"b/": 2001}
    assert assign_ports(nodes("c", "b"), first) == {"c/": 2000, "b/": 2001}
    assert assign_ports(nodes("a"), {"a/": 1999}) == {"a/": 2000}
    with pytest.raises(ConfigError, match="2000 to 2002 is too small"):
        assign_ports(replace(nodes(), nodes={name: nodes(name).nodes[name] for name in "abcd"}), {})


def test_a_configured_port_is_never_given_to_a_beacon(make: Callable[[str], Applied]) -> None:
    def ports(forward: str, before: dict[str, int]) -> dict[str, int]:
        text = "version: 1\nport_range: [2000, 2002]\nnodes:\n  a: {host: h, host_key: first-use"
        return assign_ports(make(f"{text}, beacon: 'a:1'{forward}}}\n").config, before)

    taken = ", forwards: [{local: 2000, remote: 'a:1'}]"
    assert ports("", {}) == {"a/": 2000}
    assert ports(taken, {}) == {"a/": 2001}
    # Also not when it was given before the forward was configured.
    assert ports(taken, {"a/": 2000}) == {"a/": 2001}


def test_applied_file_survives_the_way_there_and_back(tmp_path: Path, text: str) -> None:
    document = parse(text.encode(), "config.yaml")
    wanted = config.read(document)
    ports = assign_ports(wanted, {})
    path = tmp_path / ".applied"
    given = {"main": Override(enabled=False, prefer="local"), "gone": Override(prefer="x")}
    before = Applied(wanted, ports, given, document)
    path.write_bytes(before.text())
    after = Applied.load(path)
    assert (after.configured, after.ports) == (wanted, ports)
    assert after.overrides == given
    assert after.config == before.config != wanted
    assert after.document.plain() == document.plain()
    assert after.text() == before.text()


def test_nothing_applied_is_an_empty_configuration(tmp_path: Path) -> None:
    nothing = Applied.load(tmp_path / "none")
    assert nothing == Applied(Config(version=1), {})
    (tmp_path / "nothing").write_bytes(nothing.text())
    assert Applied.load(tmp_path / "nothing").config == nothing.config


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b"\xff",
        b"\0" * 10,
        b'{"config": {}}',
        b'{"config": {}, "ports": []}',
        b'{"config": {}, "ports": {"a/": "x"}}',
        b'{"config": {}, "ports": {"a/": 0}}',
        b'{"config": [], "ports": {}}',
        b'{"config": {}, "ports": {}, "overrides": []}',
        b'{"config": {}, "ports": {}, "overrides": 0}',
        b'{"config": {}, "ports": {}, "overrides": {"version": 2}}',
        b'{"config": {}, "ports": {}, "overrides": {"version": 1, "validators": {"a": 1}}}',
        b'{"config": {}, "ports": {}, "overrides": {"version": 1, "x": 1}}',
        # A forward that was given no port.
        b'{"config": {"version": 1, "nodes": {"a": {"host": "h", "host_key": "first-use",'
        b' "beacon": "x:1"}}}, "ports": {"b/": 2000}}',
        b'{"config": {"version": 2}, "ports": {}}',
        b'{"config": {"version": 1.0}, "ports": {}}',
        b'{"config": ' + b"[" * 100_000,
    ],
)
def test_damaged_applied_file_is_an_expected_failure(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / ".applied"
    path.write_bytes(stored)
    with pytest.raises(SupervisorError, match=str(path)):
        Applied.load(path)


def test_truncated_applied_file_is_an_expected_failure(tmp_path: Path, text: str) -> None:
    document = parse(text.encode(), "config.yaml")
    wanted = config.read(document)
    raw = Applied(wanted, assign_ports(wanted, {}), {}, document).text()
    path = tmp_path / ".applied"
    path.write_bytes(raw)
    assert Applied.load(path).configured == wanted
    for end in range(len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(SupervisorError):
            Applied.load(path)


def test_a_file_of_before_there_were_overrides(tmp_path: Path, text: str) -> None:
    document = parse(text.encode(), "config.yaml")
    wanted = config.read(document)
    stored = json.loads(Applied(wanted, assign_ports(wanted, {}), {}, document).text())
    del stored["overrides"]
    (tmp_path / ".applied").write_text(json.dumps(stored))
    loaded = Applied.load(tmp_path / ".applied")
    assert (loaded.config, loaded.overrides) == (wanted, {})


def test_what_is_no_file_is_an_expected_failure(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="is damaged"):
        Applied.load(tmp_path)
    path = tmp_path / ".applied"
    path.symlink_to(path)
    with pytest.raises(SupervisorError, match="is damaged") as caught:
        Applied.load(path)
    assert caught.value.code == "NotApplied"
    assert caught.value.hint == "systemctl start validator-apply"


def test_the_order_of_the_file_is_kept(tmp_path: Path) -> None:
    # That of the nodes is the default order of preference.
    text = (
        "version: 1\nnodes: {z: {beacon: 'z:1'}, a: {beacon: 'a:1'}, m: {beacon: 'm:1'}}\n"
        "validators: {w: {kind: ethereum, network: dev, fee_recipient: '0x" + "0" * 40 + "', "
        "release: {client: lodestar, binary: /x}}, b: {kind: command, command: [/x]}}\n"
    )
    document = parse(text.encode(), "config.yaml")
    (tmp_path / ".applied").write_bytes(Applied(config.read(document), {}, {}, document).text())
    loaded = Applied.load(tmp_path / ".applied")
    assert loaded.configured == config.read(document)
    assert loaded.config.ethereum[0].nodes == ("z", "a", "m")
    assert list(loaded.config.validators) == ["w", "b"]


def test_a_large_configuration_is_loaded_again(tmp_path: Path) -> None:
    validator = {"kind": "command", "command": ["/x", *["a" * 200] * 100]}
    many = {f"v{i}": validator for i in range(60)}
    document = from_plain({"version": 1, "validators": many}, "config.yaml")
    path = tmp_path / ".applied"
    path.write_bytes(Applied(config.read(document), {}, {}, document).text())
    assert path.stat().st_size > SIZE_MAX
    assert len(Applied.load(path).config.validators) == 60


def test_two_networks_behind_one_bastion_have_a_port_each(make: Callable[[str], Applied]) -> None:
    node = NODE.format(key="first-use")
    beacon = "    beacon: {hoodi: 'x:1', mainnet: 'y:1'}\n"
    applied = make(f"version: 1\nport_range: [2000, 2002]\n{node}{beacon}")
    helsinki = applied.config.nodes["helsinki"]
    assert applied.ports == {"helsinki/hoodi": 2000, "helsinki/mainnet": 2001}
    assert applied.beacon_url(helsinki, "hoodi") == "http://127.0.0.1:2000"
    assert applied.beacon_url(helsinki, "mainnet") == "http://127.0.0.1:2001"
    assert applied.beacon_url(helsinki, "sepolia") == ""


def test_a_validator_uses_the_beacon_of_its_own_network(make: Callable[[str], Applied]) -> None:
    validator = (
        "{{kind: ethereum, network: {}, fee_recipient: '0x" + "0" * 40 + "', "
        "release: {{client: lodestar, binary: /x}}}}"
    )
    m = f"m: {validator.format('mainnet')}".replace("}}", "}, nodes: [local, helsinki]}")
    h = f"h: {validator.format('hoodi')}".replace("}}", "}, nodes: [helsinki]}")
    nodes = NODE.format(key="first-use") + "    beacon: {hoodi: 'x:1', mainnet: 'y:1'}\n"
    applied = make(f"version: 1\n{nodes}  local: {{beacon: 'z:1'}}\nvalidators: {{{m}, {h}}}\n")
    assert [applied.beacons(validator) for validator in applied.config.ethereum] == [
        {"local": "http://z:1", "helsinki": "http://127.0.0.1:13001"},
        {"helsinki": "http://127.0.0.1:13000"},
    ]


def test_a_port_that_two_forwards_have_had_is_given_to_one(make: Callable[[str], Applied]) -> None:
    nodes = "".join(f"  {n}: {{host: h, host_key: first-use, beacon: 'a:1'}}\n" for n in "ab")
    wanted = make(f"version: 1\nport_range: [2000, 2001]\nnodes:\n{nodes}").config
    assert assign_ports(wanted, {"a/": 2000, "b/": 2000}) == {"a/": 2000, "b/": 2001}
