import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config
from validator_supervisor.config import ANY, Applied, Config, Forward, Release
from validator_supervisor.document import SIZE_MAX, from_plain, parse
from validator_supervisor.errors import ConfigError, SupervisorError

NODE = "nodes:\n  helsinki:\n    host: hel.example.net\n    host_key: {key}\n"
VALIDATOR = """\
nodes: {{local: {{beacon: "127.0.0.1:5052"}}, far: {{}}}}
validators:
  main:
    kind: ethereum
    network: dev
    fee_recipient: "0x{zeros}"
    release: {{client: lodestar, binary: /usr/bin/lodestar}}
""".format(zeros="0" * 40)


def read(text: str) -> Config:
    return config.read(parse(f"version: 1\n{text}".encode(), "config.yaml"))


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.message.startswith("config.yaml:")
    return caught.value.message


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
    assert node.forwards == (
        Forward(5064, "proxy:5064", False),
        Forward("metrics.sock", "/run/metrics", False),
        Forward(8000, "0.0.0.0:9000", True),
        Forward("/run/control", "/run/remote", True),
    )


def test_defaults_of_a_node(host_key: str) -> None:
    node = read(NODE.format(key=host_key)).nodes["helsinki"]
    assert (node.port, node.user, node.identity) == (22, "validator-node", "helsinki")
    assert (node.beacon, node.forwards) == ({}, ())


def test_every_key_of_a_validator(example: Applied) -> None:
    main, other = example.config.validators["main"], example.config.validators["other"]
    assert (main.kind, main.network, main.enabled) == ("ethereum", "dev", True)
    assert main.release == Release("lodestar", "/usr/bin/lodestar")
    assert main.user == "validator_main"
    assert main.fee_recipient == "0x00000000219ab540356cBB839Cbe05303d7705Fa"
    assert main.nodes == ("helsinki", "local")
    assert (main.graffiti, main.args) == ("hello", ("--metrics",))
    assert main.environment_file == "/etc/main.env"
    assert (other.kind, other.enabled, other.user) == ("command", False, "somebody")
    assert other.command == ("/usr/bin/foo", "--bar")


def test_nodes_default_to_all_with_a_beacon_for_the_network() -> None:
    assert read(VALIDATOR).validators["main"].nodes == ("local",)


def test_version_is_needed_and_known() -> None:
    assert config.read(from_plain({}, "f")) == Config({}, {}, (13000, 14000))
    with pytest.raises(ConfigError, match="key version is missing"):
        config.read(parse(b"nodes: {}\n", "f"))
    with pytest.raises(ConfigError, match="version: expected the version"):
        config.read(parse(b"version: 2\n", "f"))


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "-a",
        "_a",
        "a.b",
        "a/b",
        "a b",
        "",
        "a" * 21,
        "a%i",
        "..",
        "ä",
        '"a\\nb"',
        '"a\\0"',
        "@",
    ],
)
@pytest.mark.parametrize("kind", ["nodes", "validators"])
def test_names_are_safe_in_units_users_and_paths(kind: str, name: str) -> None:
    shown = name if name.startswith('"') else f'"{name}"'
    assert "expected a name of 1 to 20" in refusal(f"{kind}: {{{shown}: {{kind: command}}}}")


@pytest.mark.parametrize("name", ["a", "0", "a" * 20, "a-b_c", "0-"])
def test_good_names(name: str) -> None:
    found = read(f'validators: {{"{name}": {{kind: command, command: [/bin/x]}}}}').validators
    assert found[name].user == f"validator_{name}"
    assert len(found[name].user) <= 31  # sysusers.d(5)


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
        "beacon: {mainnet: a:1}",
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
        "loki: 127.0.0.1:3100",
    ],
)
def test_hostile_and_wrong_values_of_a_node(line: str, host_key: str) -> None:
    text = NODE.format(key=host_key)
    if line.startswith("host:"):
        text = text.replace("host: hel.example.net\n", f"{line}\n")
    else:
        text += f"    {line}\n"
    assert f"nodes.helsinki.{line.split(':')[0]}" in refusal(text)


@pytest.mark.parametrize("key", ["port: 1", "user: a", "identity: a", "forwards: []"])
def test_keys_that_mean_nothing_on_this_host(key: str) -> None:
    assert "means nothing without host" in refusal(f"nodes: {{local: {{{key}}}}}")


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
def test_beacon_of_this_host(beacon: str, url: str) -> None:
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


def test_no_beacon_no_url() -> None:
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


def test_host_keys(key: Callable[..., str]) -> None:
    for kind in config.KEY_TYPES:
        found = read(NODE.format(key=f"'{key(kind)} a-comment'")).nodes["helsinki"]
        assert found.host_key == key(kind)
    assert read(NODE.format(key="first-use")).nodes["helsinki"].host_key == "first-use"


def test_wrong_host_keys(key: Callable[..., str], host_key: str) -> None:
    kind, blob = host_key.split()
    for wrong in (
        "''",
        kind,
        blob,
        f"ssh-rsa {blob}",
        f"{kind} {blob[:-1]}",
        f"{kind} !!!!",
        f"{kind} AAAA",
        f"'{kind} {blob} a b'",
        f'"{kind} {blob}\\nssh-rsa AAAA"',
        key("ssh-dss"),
        "any",
        "5",
        "[]",
    ):
        assert "helsinki.host_key: expected" in refusal(NODE.format(key=wrong))
    assert "key host_key is missing" in refusal("nodes: {a: {host: b}}")


@pytest.mark.parametrize("bounds", ["[1]", "[2000, 1999]", "[1, 2, 3]", "[0, 5]", "[2000, 65536]"])
def test_wrong_port_ranges(bounds: str) -> None:
    assert "port_range" in refusal(f"port_range: {bounds}")


def test_ports_of_two_forwards_do_not_meet(host_key: str) -> None:
    forward = "    forwards: [{local: 5000, remote: 'a:1'}]\n"
    second = NODE.format(key=host_key).replace("nodes:\n", "").replace("helsinki", "zurich")
    text = NODE.format(key=host_key) + forward + second + forward
    assert "nodes helsinki and zurich both use 5000" in refusal(text)
    # Sockets are each in the directory of their own tunnel; a reverse forward listens far away.
    assert read(text.replace("5000", "a.sock"))
    assert read(text.replace("'a:1'", "'a:1', reverse: true"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kind: cosmos", "main.kind: expected one of"),
        ("network: mainnet", "main.network: expected one of dev"),
        ("fee_recipient: 0x00", "main.fee_recipient"),
        (f'fee_recipient: "0x{"g" * 40}"', "main.fee_recipient"),
        ("release: {client: lodestar}", "key binary is missing"),
        ("release: {client: nimbus, binary: /a}", "release.client: expected one of lodestar"),
        ("release: {client: lodestar, binary: lodestar}", "release.binary"),
        ("release: {client: lodestar, binary: /a/../b}", "release.binary: expected /b"),
        ("release: {client: lodestar, binary: //a}", "release.binary"),
        ("release: {client: lodestar, binary: '/a b'}", "release.binary"),
        ("graffiti: " + "a" * 33, "expected at most 32 bytes"),
        ("graffiti: " + "ä" * 17, "expected at most 32 bytes"),
        ('graffiti: "a\\nb"', "main.graffiti"),
        ('args: ["a\\0b"]', "main.args[0]"),
        ("args: --metrics", "main.args: expected a list"),
        ("args: [5]", "main.args[0]: expected a string"),
        ("nodes: [local, local]", "main.nodes[0]: node local stands here twice"),
        ("nodes: [far]", "node far has no beacon for dev"),
        ("nodes: [lokal]", "main.nodes[0]: expected one of local, far"),
        ("nodes: []", "no node has a beacon for dev"),
        ("enabled: 1", "main.enabled: expected true or false"),
        ("enabled: yes", "main.enabled: expected true or false"),
        ("user: root", "does not run as root"),
        ("user: validator-tunnel", "does not run as validator-tunnel"),
        ("user: validator-supervisor", "does not run as"),
        ("user: '0'", "main.user: expected a Unix user"),
        ('user: "a\\nExecStartPre=id"', "main.user: expected a Unix user"),
        ("environment_file: relative", "main.environment_file"),
        ('environment_file: "/a\\nUser=root"', "main.environment_file"),
        ("environment_file: '-/a'", "main.environment_file"),
        ("environment_file: /a%i", "main.environment_file"),
        ("environment_file: /a/", "main.environment_file"),
        ("command: [/bin/x]", "main.command: unknown key"),
        ("gas_limit: 1", "main.gas_limit: unknown key"),
    ],
)
def test_hostile_and_wrong_values_of_a_validator(line: str, words: str) -> None:
    kept = [item for item in VALIDATOR.splitlines() if not item.strip().startswith(line.split()[0])]
    if line.startswith("nodes"):
        kept = VALIDATOR.splitlines()
    assert words in refusal("\n".join([*kept, f"    {line}"]) + "\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("[]", "expected [PROGRAM"),
        ("/bin/x", "expected a list"),
        ("[x]", "expected an absolute path"),
        ("[/bin/x, 5]", "command[1]: expected a string"),
        ('[/bin/x, "a\\nb"]', "command[1]: expected a string"),
        ("[/bin/../x]", "command[0]: expected /x"),
    ],
)
def test_wrong_commands(command: str, words: str) -> None:
    assert words in refusal(f"validators: {{a: {{kind: command, command: {command}}}}}")


def test_keys_of_another_kind_are_unknown() -> None:
    text = "validators: {a: {kind: command, command: [/bin/x], network: dev}}"
    assert "validators.a.network: unknown key" in refusal(text)


def test_one_user_for_each_validator() -> None:
    one, two = (f"{name}: {{kind: command, command: [/x], user: u}}" for name in "ab")
    assert "a runs as u already" in refusal(f"validators: {{{one}, {two}}}")
    taken = "b: {kind: command, command: [/x], user: validator_c}"
    assert "b runs as validator_c already" in refusal(
        f"validators: {{{taken}, c: {{kind: command, command: [/x]}}}}"
    )


def test_ports_are_kept_and_new_ones_are_free(make: Callable[[str], Applied]) -> None:
    def nodes(*names: str) -> Config:
        text = "".join(
            f"  {name}: {{host: h, host_key: first-use, beacon: 'a:1'}}\n" for name in names
        )
        return make(f"version: 1\nport_range: [2000, 2002]\nnodes:\n{text}").config

    first = config.assign_ports(nodes("a", "b"), {})
    assert first == {"a/": 2000, "b/": 2001}
    assert config.assign_ports(nodes("b"), first) == {"b/": 2001}
    assert config.assign_ports(nodes("c", "b"), first) == {"c/": 2000, "b/": 2001}
    assert config.assign_ports(nodes("a"), {"a/": 1999}) == {"a/": 2000}
    with pytest.raises(ConfigError, match="2000 to 2002 is too small"):
        config.assign_ports(
            Config(
                make("version: 1").config.nodes | nodes("a", "b", "c", "d").nodes, {}, (2000, 2002)
            ),
            {},
        )


def test_a_configured_port_is_never_given_to_a_beacon(make: Callable[[str], Applied]) -> None:
    def ports(forward: str, before: dict[str, int]) -> dict[str, int]:
        text = "version: 1\nport_range: [2000, 2002]\nnodes:\n  a: {host: h, host_key: first-use"
        return config.assign_ports(make(f"{text}, beacon: 'a:1'{forward}}}\n").config, before)

    taken = ", forwards: [{local: 2000, remote: 'a:1'}]"
    assert ports("", {}) == {"a/": 2000}
    assert ports(taken, {}) == {"a/": 2001}
    # Also not when it was given before the forward was configured.
    assert ports(taken, {"a/": 2000}) == {"a/": 2001}


def test_applied_file_survives_the_way_there_and_back(tmp_path: Path, text: str) -> None:
    document = parse(text.encode(), "config.yaml")
    wanted = config.read(document)
    ports = config.assign_ports(wanted, {})
    path = tmp_path / ".applied"
    path.write_bytes(config.applied_text(document, ports))
    assert config.applied(path) == Applied(wanted, ports)


def test_nothing_applied_is_an_empty_configuration(tmp_path: Path) -> None:
    assert config.applied(tmp_path / "none") == Applied(Config({}, {}, (13000, 14000)), {})


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
        b'{"config": {"version": 2}, "ports": {}}',
        b'{"config": {"version": 1.0}, "ports": {}}',
        b'{"config": ' + b"[" * 100_000,
    ],
)
def test_damaged_applied_file_is_an_expected_failure(tmp_path: Path, stored: bytes) -> None:
    path = tmp_path / ".applied"
    path.write_bytes(stored)
    with pytest.raises(SupervisorError, match=str(path)):
        config.applied(path)


def test_truncated_applied_file_is_an_expected_failure(tmp_path: Path, text: str) -> None:
    document = parse(text.encode(), "config.yaml")
    raw = config.applied_text(document, {})
    path = tmp_path / ".applied"
    for end in range(len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(SupervisorError):
            config.applied(path)


def test_load_reads_names_and_limits_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match=r"config\.yaml: No such file"):
        config.load(path)
    path.write_bytes(b"#" * (SIZE_MAX + 1))
    with pytest.raises(ConfigError, match="larger than"):
        config.load(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path)
    path.write_text("version: 1\n")
    assert config.load(path).plain() == {"version": 1}


HOSTILE = st.sampled_from(
    [
        "",
        "a\nb",
        "\0",
        "-oX=y",
        "%i",
        "$(x)",
        "a b",
        "../x",
        "/x/../y",
        "x" * 300,
        "{}",
        "ä",
        "@",
        ":",
    ]
) | st.text(max_size=20)
LEAF: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | HOSTILE | st.just([]) | st.just({})
)


@given(data=st.data())
def test_any_change_of_any_value_is_read_or_refused(text: str, data: st.DataObject) -> None:
    document = parse(text.encode(), "config.yaml").plain()
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(LEAF)
    try:
        config.read(from_plain(json.loads(json.dumps(document)), "config.yaml"))
    except ConfigError as failure:
        assert failure.message.startswith("config.yaml")


@given(st.dictionaries(st.sampled_from(["version", "nodes", "validators", "x"]), LEAF))
def test_any_document_is_read_or_refused(data: dict[str, object]) -> None:
    try:
        config.read(from_plain(data, "config.yaml"))
    except ConfigError as failure:
        assert failure.message.startswith("config.yaml")
