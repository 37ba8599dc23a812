"""config.py: the file as a whole."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config
from validator_supervisor.config import Backup, Config
from validator_supervisor.document import SIZE_MAX, from_plain, parse
from validator_supervisor.errors import ConfigError
from validator_supervisor.nodes import ANY
from validator_supervisor.validators import Command, ConsensusKey, Cosmos, Ethereum

Read = Callable[[str], Config]
Refusal = Callable[[str], str]
# The example of the design, with values where that has an ellipsis.
DESIGN = """\
version: 1
nodes:                               # may be empty; nothing needs a bastion
  local:                             # no host: no tunnel
    beacon: http://127.0.0.1:5052
    backups: /mnt/usb/backups
  helsinki:
    host: hel.example.net
    port: 2222                       # default 22
    user: somebody
    identity: helsinki               # ssh key, a systemd credential
    host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBMTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMT
    beacon: {mainnet: "lighthouse:5052", hoodi: "127.0.0.1:5053"}    # as seen from the node
    loki: 127.0.0.1:3100             # omit: no log upload
    backups: supervisor-backups      # directory on the node; omit: none there
    control_port: 8000               # reverse tunnel to validator-remote@NODE.socket; omit: none
    forwards: [{local: 5064, remote: "validator-proxy:5064", reverse: true}]
port_range: [13000, 14000]           # loopback ports for forwards that need one
validators:
  mainnet:
    kind: ethereum                   # ethereum | cosmos | command
    network: mainnet
    fee_recipient: "0x00000000219ab540356cBB839Cbe05303d7705Fa"
    release: {client: lighthouse, version: v8.0.0, sha256: SHA256}
    keys: local                      # or {web3signer: URL, certificate: FILE, public_keys: all}
    nodes: [local, helsinki]         # order of preference; default: all with a beacon for it
    builder: false
    doppelganger: auto               # auto | always | off
    on_slashed: validator            # validator | network | alert
    # also: enabled, user, args, environment_file, graffiti, gas_limit, distributed
  hub:
    kind: cosmos
    home: /data/hub                  # DAEMON_HOME, anywhere
    daemon: gaiad                    # DAEMON_NAME
    rpc: [http://127.0.0.1:26657]
    key: {source: ssm, region: eu-west-1, parameter: /hub/priv_validator_key, mode: signer, active: true}
  other:
    kind: command
    command: [/usr/bin/foo, --bar]
backup: {interval: 1h, keep: 48, stop_timeout: 20s, identity_on_nodes: false}
""".replace("SHA256", "0123456789abcdef" * 4)  # noqa: E501
ALSO = """\
    enabled: false
    user: eth
    args: [--metrics]
    environment_file: /etc/eth.env
    graffiti: hello
    gas_limit: 45000000
    distributed: true
"""


def test_version_is_needed_and_known() -> None:
    assert config.read(from_plain({}, "f")) == Config(version=1)
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
def test_names_are_safe_in_units_users_and_paths(kind: str, name: str, refusal: Refusal) -> None:
    shown = name if name.startswith('"') else f'"{name}"'
    assert "expected a name of 1 to 20" in refusal(f"{kind}: {{{shown}: {{kind: command}}}}")


@pytest.mark.parametrize("bounds", ["[1]", "[2000, 1999]", "[1, 2, 3]", "[0, 5]", "[2000, 65536]"])
def test_wrong_port_ranges(bounds: str, refusal: Refusal) -> None:
    assert "port_range" in refusal(f"port_range: {bounds}")


def test_load_reads_names_and_limits_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: No such file"):
        config.load(path)
    path.write_bytes(b"#" * (SIZE_MAX + 1))
    with pytest.raises(ConfigError, match="larger than"):
        config.load(path)
    with pytest.raises(ConfigError, match=r"is not a regular file|Is a directory"):
        config.load(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        config.load(tmp_path / "fifo")
    # Tools that manage configurations put links there.
    (tmp_path / "link").symlink_to(path)
    path.write_text("version: 1\n")
    assert config.load(tmp_path / "link").plain() == {"version": 1}
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
    document = parse(data.draw(st.sampled_from([text, DESIGN])).encode(), "config.yaml").plain()
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    if isinstance(place, dict) and data.draw(st.integers(0, 4)) == 0:
        del place[key]
    else:
        place[key] = data.draw(LEAF)
    try:
        found = config.read(from_plain(json.loads(json.dumps(document)), "config.yaml"))
        config.idle(from_plain(document, "config.yaml"), found)
    except ConfigError as failure:
        assert failure.message.startswith("config.yaml")


@given(
    st.dictionaries(
        st.sampled_from(["version", "nodes", "validators", "backup", "port_range", "x"]), LEAF
    )
)
def test_any_document_is_read_or_refused(data: dict[str, object]) -> None:
    try:
        config.read(from_plain(data, "config.yaml"))
    except ConfigError as failure:
        assert failure.message.startswith("config.yaml")


def test_the_example_of_the_design_is_read() -> None:
    found = config.read(parse(DESIGN.encode(), "config.yaml"))
    assert list(found.nodes) == ["local", "helsinki"]
    local, helsinki = found.nodes.values()
    assert (local.beacon, local.backups) == ({ANY: "http://127.0.0.1:5052"}, "/mnt/usb/backups")
    assert helsinki.beacon == {"mainnet": "lighthouse:5052", "hoodi": "127.0.0.1:5053"}
    assert (helsinki.loki, helsinki.backups) == ("127.0.0.1:3100", "supervisor-backups")
    assert (helsinki.control_port, len(helsinki.forwards)) == (8000, 1)
    mainnet, hub, other = found.validators.values()
    assert isinstance(mainnet, Ethereum)
    assert (mainnet.release.version, mainnet.release.sha256) == ("v8.0.0", "0123456789abcdef" * 4)
    assert mainnet.nodes == ("local", "helsinki")
    assert isinstance(hub, Cosmos)
    assert hub.key == ConsensusKey(
        source="ssm", region="eu-west-1", parameter="/hub/priv_validator_key"
    )
    assert isinstance(other, Command)
    assert found.backup == Backup()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: v8.0.0, sha256: " + "0123456789abcdef" * 4, "binary: /usr/bin/lighthouse"),
        ("keys: local", "keys: {web3signer: 'https://s:9000', certificate: /c, public_keys: all}"),
        ("host_key: ssh-ed25519 AAAA", "host_key: first-use #"),
        (
            'beacon: {mainnet: "lighthouse:5052", hoodi: "127.0.0.1:5053"}',
            "beacon: lighthouse:5052",
        ),
        ("    builder: false\n", ALSO),
        ("doppelganger: auto", "doppelganger: always"),
        ("doppelganger: auto", "doppelganger: off"),
        ("on_slashed: validator", "on_slashed: network"),
        ("on_slashed: validator", "on_slashed: alert"),
        ("    nodes: [local, helsinki]", "   "),
        ("    user: somebody\n", ""),
        ("mode: signer, active: true", "mode: fifo, active: false"),
    ],
)
def test_what_the_design_says_in_its_comments_is_read(old: str, new: str) -> None:
    assert old in DESIGN
    config.read(parse(DESIGN.replace(old, new).encode(), "config.yaml"))


def test_the_keys_of_the_design_s_last_comment(read: Read) -> None:
    text = DESIGN.replace("    builder: false\n", ALSO).removeprefix("version: 1\n")
    (found,) = read(text).ethereum
    assert (found.enabled, found.user, found.args) == (False, "eth", ("--metrics",))
    assert (found.environment_file, found.graffiti) == ("/etc/eth.env", "hello")
    assert (found.gas_limit, found.distributed) == (45_000_000, True)


@pytest.mark.parametrize(
    ("old", "wrong", "words"),
    [
        ("nodes:  ", "nodse:", "config.yaml:2:1: nodse: unknown key (did you mean nodes?)"),
        ("validators:", "validator:", "validator: unknown key (did you mean validators?)"),
        ("port_range:", "port_rnge:", "port_rnge: unknown key (did you mean port_range?)"),
        ("    host:", "    hots:", "nodes.helsinki.hots: unknown key (did you mean host?)"),
        ("host_key:", "hostkey:", "nodes.helsinki.hostkey: unknown key (did you mean host_key?)"),
        ("loki:", "lokki:", "nodes.helsinki.lokki: unknown key (did you mean loki?)"),
        ("backups: s", "backup: s", "nodes.helsinki.backup: unknown key (did you mean backups?)"),
        ("control_port:", "controlport:", "controlport: unknown key (did you mean control_port?)"),
        ("reverse:", "revers:", "forwards[0].revers: unknown key (did you mean reverse?)"),
        ("network:", "netwrok:", "validators.mainnet.netwrok: unknown key (did you mean network?)"),
        ("fee_recipient:", "fee_recepient:", "unknown key (did you mean fee_recipient?)"),
        ("doppelganger:", "doppelgänger:", "unknown key (did you mean doppelganger?)"),
        ("    daemon:", "    deamon:", "validators.hub.deamon: unknown key (did you mean daemon?)"),
        ("sha256:", "sha265:", "release.sha265: unknown key (did you mean sha256?)"),
        ("parameter:", "paramter:", "hub.key.paramter: unknown key (did you mean parameter?)"),
        ("command: [", "comand: [", "other.comand: unknown key (did you mean command?)"),
        ("interval:", "intervall:", "backup.intervall: unknown key (did you mean interval?)"),
        ("keep:", "zzz:", "backup.zzz: unknown key (known: identity_on_nodes, interval, keep"),
    ],
)
def test_an_unknown_key_is_told_the_nearest_one(
    old: str, wrong: str, words: str, refusal: Refusal
) -> None:
    assert old in DESIGN
    text = DESIGN.replace(old, wrong, 1).removeprefix("version: 1\n")
    # ``refusal`` puts it back.
    assert words in refusal(text)


@pytest.mark.parametrize(
    "value",
    [
        "interval: 1", "interval: '1'", "interval: 0s", "interval: 01h", "interval: 1.5h",
        "interval: -1h", "interval: 1w", "interval: 1 h", "interval: 1h30min", "interval: h",
        "interval: 1H", "interval: 1000000s", "interval:", "interval: [1h]", 'interval: "1h\\n"',
        "interval: \u0661h", "stop_timeout: 20", "stop_timeout: 20sec", "stop_timeout: 20ms",
        "stop_timeout: true", "keep: 0", "keep: -1", "keep: 100001", "keep: '48'", "keep: 48d",
        "keep: all", "keep: 1.5", "identity_on_nodes: 1", "identity_on_nodes: yes",
        "identity_on_nodes:",
    ],
)  # fmt: skip
def test_wrong_values_of_the_backups(value: str, refusal: Refusal) -> None:
    assert f"backup.{value.split(':')[0]}: expected" in refusal(f"backup: {{{value}}}")


def test_values_of_the_backups(read: Read, refusal: Refusal) -> None:
    for words, seconds in (
        ("1s", 1), ("20s", 20), ("1m", 60), ("5min", 300), ("1h", 3600), ("2d", 172_800),
        ("999999d", 999_999 * 86400),
    ):  # fmt: skip
        assert read(f"backup: {{interval: {words}}}").backup == Backup(interval=seconds)
        assert read(f"backup: {{stop_timeout: {words}}}").backup == Backup(stop_timeout=seconds)
    assert read("backup: {keep: 100000}").backup.keep == 100_000
    assert read("backup: {}").backup == read("").backup == Backup()
    for wrong in ("backup:", "backup: []", "backup: 1h"):
        assert "backup: expected a mapping" in refusal(wrong)


ETHEREUM = (
    "{{kind: ethereum, network: {}, fee_recipient: '0x" + "0" * 40 + "', "
    "release: {{client: lodestar, binary: /x}}}}"
)
TWO = f"validators: {{m: {ETHEREUM.format('mainnet')}, h: {ETHEREUM.format('hoodi')}}}\n"


@pytest.mark.parametrize(
    "nodes",
    [
        "a: {beacon: 'x:1'}",
        "a: {host: h, host_key: first-use, beacon: 'x:1'}",
        # Two names for one beacon node of this host.
        "a: {beacon: 'x:1'}, b: {beacon: 'http://x:1/'}",
        "a: {beacon: {mainnet: 'x:1'}}, b: {beacon: {hoodi: 'x:1'}}",
        "a: {beacon: {mainnet: 'x:1'}}, b: {beacon: 'x:1'}",
    ],
)
def test_a_beacon_node_is_on_one_network(nodes: str, refusal: Refusal) -> None:
    message = refusal(f"nodes: {{{nodes}}}\n{TWO}")
    assert "validators.h: the beacon node of" in message
    assert "is on mainnet, for m (give the node one address per network" in message


@pytest.mark.parametrize(
    "nodes",
    [
        "a: {beacon: {mainnet: 'x:1', hoodi: 'x:2'}}",
        "a: {beacon: {mainnet: 'x:1'}}, b: {beacon: {hoodi: 'y:1'}}",
        # As seen from each node.
        "a: {host: h, host_key: first-use, beacon: {mainnet: 'x:1'}},"
        " b: {host: i, host_key: first-use, beacon: {hoodi: 'x:1'}}",
        "a: {host: h, host_key: first-use, beacon: {mainnet: 'x:1', hoodi: 'x:2'}}",
    ],
)
def test_two_networks_with_a_beacon_node_each(nodes: str, read: Read) -> None:
    found = read(f"nodes: {{{nodes}}}\n{TWO}")
    assert [validator.network for validator in found.ethereum] == ["mainnet", "hoodi"]
    assert all(validator.nodes for validator in found.ethereum)


def test_one_network_for_two_validators_is_fine(read: Read) -> None:
    assert (
        len(read(f"nodes: {{a: {{beacon: 'x:1'}}}}\n{TWO.replace('hoodi', 'mainnet')}").ethereum)
        == 2
    )


def test_what_no_job_uses_yet_is_named() -> None:
    document = parse(DESIGN.encode(), "config.yaml")
    assert sorted(config.idle(document, config.read(document))) == [
        "nodes.helsinki.control_port",
        "nodes.helsinki.loki",
        "validators.hub.key.parameter",
        "validators.hub.key.region",
        "validators.hub.key.source",
        "validators.hub.rpc",
    ]
    said = DESIGN.replace("identity_on_nodes: false", "identity_on_nodes: true")
    said = said.replace("on_slashed: validator", "on_slashed: network")
    document = parse(said.encode(), "config.yaml")
    found = config.idle(document, config.read(document))
    assert "backup.identity_on_nodes" in found
    assert "validators.mainnet.on_slashed" not in found
    for text in (b"", b"version: 1\n", b"version: 1\nnodes:\nvalidators:\n"):
        document = parse(text, "config.yaml")
        assert config.idle(document, config.read(document)) == []


def test_a_mistyped_address_is_refused_with_its_line(text: str) -> None:
    right, typed = "cBB839Cbe05303d7705Fa", "cBB839Cbe05303d7705FA"
    assert right in text
    document = parse(text.encode(), "config.yaml")
    config.check_addresses(document, config.read(document))
    document = parse(text.replace(right, typed).encode(), "config.yaml")
    with pytest.raises(ConfigError, match="wrong checksum") as caught:
        config.check_addresses(document, config.read(document))
    line = text[: text.index(right)].count("\n") + 1
    place = f"config.yaml:{line}:5: validators.main.fee_recipient: "
    assert caught.value.message.startswith(place)
    assert f"0x00000000219ab540356{typed.lower()}" in caught.value.hint


def test_an_address_in_one_case_has_no_checksum(text: str) -> None:
    address = "00000000219ab540356cBB839Cbe05303d7705Fa"
    for written in (address.lower(), address.upper()):
        document = parse(text.replace(address, written).encode(), "config.yaml")
        config.check_addresses(document, config.read(document))


def test_keys_in_errors_are_on_one_line(refusal: Refusal) -> None:
    for key in ('"a\\nSTATUS=x"', '"\\e[2J"', '"' + "x" * 100_000 + '"'):
        for text in (f"{key}: 1", f"nodes: {{{key}: {{}}}}", f"backup: {{{key}: 1}}"):
            assert len(refusal(text)) < 500
    for name in ("\ud800", "a\0b", "a\nb"):
        with pytest.raises(ConfigError) as caught:
            config.read(from_plain({"version": 1, name: 1}, "config.yaml"))
        assert str(caught.value).isprintable()
