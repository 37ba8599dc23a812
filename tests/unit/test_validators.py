"""validators.py: what runs here."""

from collections.abc import Callable

import pytest

from validator_supervisor.applied import Applied
from validator_supervisor.config import Config
from validator_supervisor.schema import settings
from validator_supervisor.validators import (
    RECORDS,
    Command,
    ConsensusKey,
    Cosmos,
    Ethereum,
    Keys,
    Release,
    in_the_clear,
)

Read = Callable[[str], Config]
Refusal = Callable[[str], str]
HASH = "a" * 64
PUBLIC_KEY = "0x" + "Ab" * 48
VALIDATOR = """\
nodes: {{local: {{beacon: "127.0.0.1:5052"}}, far: {{}}}}
validators:
  main:
    kind: ethereum
    network: dev
    fee_recipient: "0x{zeros}"
    release: {{client: lodestar, binary: /usr/bin/lodestar}}
""".format(zeros="0" * 40)
HUB = """\
validators:
  hub:
    kind: cosmos
    home: /data/hub
    daemon: gaiad
    key: {source: credential, credential: hub}
"""


def test_every_key_of_a_validator(example: Applied) -> None:
    (main,) = example.config.ethereum
    other = example.config.validators["other"]
    assert (main.kind, main.network, main.enabled) == ("ethereum", "dev", True)
    assert main.release == Release(client="lodestar", binary="/usr/bin/lodestar")
    assert main.user == "validator_main"
    assert main.fee_recipient == "0x00000000219ab540356cBB839Cbe05303d7705Fa"
    assert main.nodes == ("helsinki", "local")
    assert (main.graffiti, main.args) == ("hello", ("--metrics",))
    assert main.environment_file == "/etc/main.env"
    assert (main.keys, main.gas_limit, main.builder) == ("local", 60_000_000, True)
    assert (main.distributed, main.require_nodes) == (False, 1)
    assert (main.doppelganger, main.on_slashed) == ("off", "network")
    assert (other.kind, other.enabled, other.user) == ("command", False, "somebody")
    assert isinstance(other, Command)
    assert other.command == ("/usr/bin/foo", "--bar")
    assert other.home == "/home/somebody/foo"
    hub = example.config.validators["hub"]
    assert isinstance(hub, Cosmos)
    assert (hub.kind, hub.home, hub.daemon, hub.args) == (
        "cosmos",
        "/data/hub",
        "gaiad",
        ("--trace",),
    )
    assert hub.rpc == ("http://127.0.0.1:26657", "https://rpc.example.net/hub")
    assert hub.key == ConsensusKey(
        source="ssm", region="eu-west-1", parameter="/hub/key", mode="fifo", active=False
    )


def test_nodes_default_to_all_with_a_beacon_for_the_network(read: Read) -> None:
    assert read(VALIDATOR).ethereum[0].nodes == ("local",)


@pytest.mark.parametrize("name", ["a", "0", "a" * 20, "a-b_c", "0-"])
def test_good_names(name: str, read: Read) -> None:
    found = read(f'validators: {{"{name}": {{kind: command, command: [/bin/x]}}}}').validators
    assert found[name].user == f"validator_{name}"
    assert len(found[name].user) <= 31  # sysusers.d(5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kind: cosmo", "main.kind: expected one of ethereum, cosmos, command"),
        ("kind: [command]", "main.kind: expected one of"),
        ("kind: cosmos", "means nothing for kind cosmos"),
        ("network: mainet", "main.network: mainet is too like"),
        ("network: 1", "main.network: expected a network"),
        ("fee_recipient: 0x00", "main.fee_recipient"),
        (f'fee_recipient: "0x{"g" * 40}"', "main.fee_recipient"),
        ("release: {client: lodestar}", "main.release: expected binary, or version and sha256"),
        ("release: {binary: /a}", "main.release: key client is missing"),
        ("release: {client: nimbuss, binary: /a}", "did you mean nimbus?"),
        ("release: lodestar", "main.release: expected a mapping"),
        ("release: {client: teku, binary: /a, version: v1}", "expected binary, or version and"),
        ("release: {client: teku, version: v1}", "version and sha256 belong together"),
        ("release: {client: teku, binary: /a, sha256: HASH}", "version and sha256 belong together"),
        ("release: {client: teku, sha256: HASH}", "expected binary, or version and sha256"),
        (
            "release: {client: teku, version: 1, sha256: HASH}",
            "release.version: expected a version",
        ),
        ("release: {client: teku, version: v1/2, sha256: HASH}", "release.version: expected"),
        ("release: {client: teku, version: ../1, sha256: HASH}", "release.version: expected"),
        ("release: {client: teku, version: latest, sha256: HASH}", "release.version: expected"),
        ('release: {client: teku, version: "1\\n", sha256: HASH}', "release.version: expected"),
        ("release: {client: teku, version: v1, sha256: abc}", "release.sha256: expected 64"),
        ("release: {client: teku, version: v1, sha256: HASHa}", "release.sha256: expected 64"),
        (f"release: {{client: teku, version: v1, sha256: {'G' * 64}}}", "release.sha256: expected"),
        (f"release: {{client: teku, version: v1, sha256: {'A' * 64}}}", "release.sha256: expected"),
        ("release: {client: teku, version: v1, sha1: HASH}", "release.sha1: unknown key"),
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
        ("nodes: []", "main.nodes: expected at least 1 item(s)"),
        ("nodes: local", "main.nodes: expected a list"),
        ("nodes: [../local]", "main.nodes[0]: expected a name"),
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
        ("command: [/bin/x]", "main.command: means nothing for kind ethereum"),
        ("gas_limit: 1", "main.gas_limit: expected gas (21000 to 1099511627776)"),
        ("gas_limit: 20999", "main.gas_limit: expected gas"),
        ("gas_limit: 0", "main.gas_limit: expected gas"),
        ("gas_limit: 1099511627777", "main.gas_limit: expected gas"),
        ("gas_limit: '30000000'", "main.gas_limit: expected gas"),
        ("gas_limit: 3e7", "main.gas_limit: expected gas"),
        ("gas_limit: 30_000_000", "main.gas_limit: expected gas"),
        ("gas_limit: true", "main.gas_limit: expected gas"),
        ("builder: 1", "main.builder: expected true or false"),
        ("builder: on", "main.builder: expected true or false"),
        ("distributed: {}", "main.distributed: expected true or false"),
        ("doppelganger: on", "main.doppelganger: expected one of auto, always, off"),
        ("doppelganger: false", "main.doppelganger: expected one of auto, always, off"),
        ("doppelganger: OFF", "main.doppelganger: expected one of"),
        ("doppelganger: never", "main.doppelganger: expected one of"),
        ("doppelganger:", "main.doppelganger: expected one of"),
        ("on_slashed: stop", "main.on_slashed: expected one of validator, network, alert"),
        ("on_slashed: [alert]", "main.on_slashed: expected one of"),
        ("require_nodes: -1", "main.require_nodes: expected nodes (0 to 100)"),
        ("require_nodes: 101", "main.require_nodes: expected nodes"),
        ("keys: remote", "main.keys: expected one of local"),
        ("keys: [local]", "main.keys: expected one of local"),
        ("keys:", "main.keys: expected one of local"),
        ("keys: {}", "main.keys: key web3signer is missing"),
        ("keys: {certificate: /a}", "main.keys: key web3signer is missing"),
        ("keys: {web3signer: signer:9000}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'file:///etc/passwd'}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://user:word@s:1'}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://s/?a=b'}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://s/#a'}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://s /a'}", "main.keys.web3signer: expected a URL"),
        ('keys: {web3signer: "https://s\\n"}', "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://'}", "main.keys.web3signer: expected a URL"),
        ("keys: {web3signer: 'https://s', certificate: a}", "main.keys.certificate: expected an"),
        ("keys: {web3signer: 'https://s', certificate: /a/../b}", "keys.certificate: expected /b"),
        ("keys: {web3signer: 'http://s', certificate: /c}", "certificate: means nothing without"),
        ("keys: {web3signer: 'https://s', public_keys: some}", "keys.public_keys: expected one of"),
        ("keys: {web3signer: 'https://s', public_keys: []}", "public_keys: expected at least 1"),
        ("keys: {web3signer: 'https://s', public_keys: [0xab]}", "public_keys[0]: expected a publ"),
        ("keys: {web3signer: 'https://s', public_keys: [all]}", "public_keys[0]: expected a publi"),
        ("keys: {web3signer: 'https://s', password: a}", "main.keys.password: unknown key"),
    ],
)
def test_hostile_and_wrong_values_of_a_validator(line: str, words: str, refusal: Refusal) -> None:
    line = line.replace("HASH", "a" * 64)
    kept = [item for item in VALIDATOR.splitlines() if not item.strip().startswith(line.split()[0])]
    if line.startswith("nodes"):
        kept = VALIDATOR.splitlines()
    assert words in refusal("\n".join([*kept, f"    {line}"]) + "\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("[]", "expected at least 1 item(s)"),
        ("/bin/x", "expected a list"),
        ("[x]", "expected an absolute path"),
        ("[/bin/x, 5]", "command[1]: expected a string"),
        ('[/bin/x, "a\\nb"]', "command[1]: expected a string"),
        ("[/bin/../x]", "command[0]: expected /x"),
    ],
)
def test_wrong_commands(command: str, words: str, refusal: Refusal) -> None:
    assert words in refusal(f"validators: {{a: {{kind: command, command: {command}}}}}")


def test_keys_of_another_kind_are_unknown(refusal: Refusal) -> None:
    text = "validators: {a: {kind: command, command: [/bin/x], network: dev}}"
    assert "validators.a.network: means nothing for kind command" in refusal(text)


def test_one_user_for_each_validator(refusal: Refusal) -> None:
    one, two = (f"{name}: {{kind: command, command: [/x], user: u}}" for name in "ab")
    assert "a runs as u already" in refusal(f"validators: {{{one}, {two}}}")
    taken = "b: {kind: command, command: [/x], user: validator_c}"
    assert "b runs as validator_c already" in refusal(
        f"validators: {{{taken}, c: {{kind: command, command: [/x]}}}}"
    )


def test_releases(read: Read) -> None:
    for words, release in (
        ("binary: /usr/bin/x", Release(client="teku", binary="/usr/bin/x")),
        (
            f"version: v24.1.0-rc.1+b, sha256: {HASH}",
            Release(client="teku", version="v24.1.0-rc.1+b", sha256=HASH),
        ),
        (f"version: 24.1, sha256: {HASH}", Release(client="teku", version="24.1", sha256=HASH)),
    ):
        text = VALIDATOR.replace(
            "client: lodestar, binary: /usr/bin/lodestar", f"client: teku, {words}"
        )
        assert read(text).ethereum[0].release == release


def test_keys_of_a_web3signer(read: Read) -> None:
    def keys(words: str) -> Keys | str:
        return read(f"{VALIDATOR}    keys: {words}\n").ethereum[0].keys

    url = "https://signer.example.net:9000/path"
    assert keys("local") == "local"
    assert keys(f"{{web3signer: '{url}'}}") == Keys(web3signer=url, public_keys="all")
    assert keys(
        f"{{web3signer: '{url}', certificate: /etc/c.pem, public_keys: [{PUBLIC_KEY}]}}"
    ) == Keys(web3signer=url, certificate="/etc/c.pem", public_keys=(PUBLIC_KEY,))
    assert keys(f"{{web3signer: '{url}', public_keys: all}}") == keys(f"{{web3signer: '{url}'}}")


@pytest.mark.parametrize("client", ["prysm", "teku", "nimbus"])
def test_certificates_that_a_client_cannot_go_by(client: str, read: Read, refusal: Refusal) -> None:
    text = VALIDATOR.replace("client: lodestar", f"client: {client}")
    keys = "    keys: {web3signer: 'https://s'%s}\n"
    assert read(f"{text}{keys % ''}").ethereum[0].keys == Keys(web3signer="https://s")
    said = refusal(f"{text}{keys % ', certificate: /c.pem'}")
    assert f"main.keys.certificate: {client} " in said
    assert ("update-ca-certificates(8)" in said) == (client != "nimbus")


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("https://signer", False), ("http://127.0.0.1:9000", False), ("http://[::1]:9000", False),
        ("http://localhost/x", False), ("http://signer:9000", True), ("http://10.0.0.1", True),
        ("http://127.0.0.1.example:1", True), ("http://[::1", True), ("http://localhost.a", True),
    ],
)  # fmt: skip
def test_what_goes_over_a_network_in_the_clear(url: str, clear: bool) -> None:
    assert in_the_clear(Keys(web3signer=url)) == clear
    assert not in_the_clear("local")


@pytest.mark.parametrize("word", ["auto", "always", "off", '"off"'])
def test_words_of_doppelganger(word: str, read: Read) -> None:
    # ``off`` is a truth value in YAML 1.1, and a word here.
    found = read(f"{VALIDATOR}    doppelganger: {word}\n").ethereum[0].doppelganger
    assert found == word.strip('"')


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("home: data/hub", "hub.home: expected an absolute path"),
        ("home: ~/hub", "hub.home: expected an absolute path"),
        ("daemon: bin/gaiad", "hub.daemon: expected a program's name"),
        ("daemon: /usr/bin/gaiad", "hub.daemon: expected a program's name"),
        ("daemon: ''", "hub.daemon: expected a program's name"),
        ('daemon: "a b"', "hub.daemon: expected a program's name"),
        ('daemon: "a\\nb"', "hub.daemon: expected a program's name"),
        ("daemon: a%i", "hub.daemon: expected a program's name"),
        ("daemon: .", "hub.daemon: expected a program's name"),
        ("daemon: ..", "hub.daemon: expected a program's name"),
        ("daemon: " + "a" * 61, "hub.daemon: expected a program's name"),
        ("daemon: 5", "hub.daemon: expected a program's name"),
        ("rpc: http://127.0.0.1:26657", "hub.rpc: expected a list"),
        ("rpc: [127.0.0.1:26657]", "hub.rpc[0]: expected a URL"),
        ("rpc: ['tcp://127.0.0.1:26657']", "hub.rpc[0]: expected a URL"),
        ("rpc: ['http://a:1', 'http://u@a:1']", "hub.rpc[1]: expected a URL"),
        ('rpc: ["http://a:1\\n"]', "hub.rpc[0]: expected a URL"),
        ("rpc: [5]", "hub.rpc[0]: expected a URL"),
        ("args: start", "hub.args: expected a list"),
        ('args: ["a\\nb"]', "hub.args[0]: expected a string"),
        ("network: mainnet", "hub.network: means nothing for kind cosmos"),
        ("graffiti: a", "hub.graffiti: means nothing for kind cosmos"),
        ("command: [/bin/x]", "hub.command: means nothing for kind cosmos"),
        ("deamon: gaiad", "hub.deamon: unknown key (did you mean daemon?)"),
        ("key: ssm", "hub.key: expected a mapping"),
        ("key:", "hub.key: expected a mapping"),
        ("key: {}", "hub.key: key source is missing"),
        ("key: {source: disk}", "hub.key.source: expected one of ssm, credential"),
        ("key: {source: ssm, region: eu}", "hub.key: key parameter is missing"),
        ("key: {source: ssm, parameter: /a}", "hub.key: key region is missing"),
        ("key: {source: credential}", "hub.key: key credential is missing"),
        (
            "key: {source: credential, credential: a, region: eu}",
            "hub.key.region: means nothing for source credential",
        ),
        (
            "key: {source: ssm, region: eu, parameter: /a, credential: a}",
            "hub.key.credential: means nothing for source ssm",
        ),
        ("key: {source: credential, credential: ../a}", "hub.key.credential: expected a name"),
        ("key: {source: ssm, region: EU, parameter: /a}", "hub.key.region: expected an AWS"),
        ("key: {source: ssm, region: 'a.b/c', parameter: /a}", "hub.key.region: expected an AWS"),
        ("key: {source: ssm, region: '', parameter: /a}", "hub.key.region: expected an AWS"),
        ("key: {source: ssm, region: eu, parameter: 'a b'}", "hub.key.parameter: expected an"),
        ("key: {source: ssm, region: eu, parameter: 'a?b'}", "hub.key.parameter: expected an"),
        ("key: {source: ssm, region: eu, parameter: ''}", "hub.key.parameter: expected an"),
        ("key: {source: credential, credential: a, mode: file}", "hub.key.mode: expected one of"),
        ("key: {source: credential, credential: a, active: no}", "hub.key.active: expected true"),
        ("key: {source: credential, credential: a, secret: b}", "hub.key.secret: unknown key"),
    ],
)
def test_hostile_and_wrong_values_of_a_cosmos_validator(
    line: str, words: str, refusal: Refusal
) -> None:
    name = line.split(":")[0]
    kept = [item for item in HUB.splitlines() if not item.strip().startswith(f"{name}:")]
    assert words in refusal("\n".join([*kept, f"    {line}"]) + "\n")


@pytest.mark.parametrize("name", ["kind", "home", "daemon", "key"])
def test_keys_that_a_cosmos_validator_needs(name: str, refusal: Refusal) -> None:
    kept = [item for item in HUB.splitlines() if not item.strip().startswith(f"{name}:")]
    assert f"validators.hub: key {name} is missing" in refusal("\n".join(kept))


@pytest.mark.parametrize("name", ["kind", "network", "fee_recipient", "release"])
def test_keys_that_an_ethereum_validator_needs(name: str, refusal: Refusal) -> None:
    kept = [item for item in VALIDATOR.splitlines() if not item.strip().startswith(f"{name}:")]
    assert f"validators.main: key {name} is missing" in refusal("\n".join(kept))


def command(home: str, name: str = "a") -> str:
    return f'{name}: {{kind: command, command: [/bin/x], home: "{home}"}}'


@pytest.mark.parametrize(
    "home",
    [
        "/", "/home", "/mnt", "/media", "/opt", "/root", "/srv", "/var", "/var/lib",
        "/bin", "/boot/efi", "/dev/shm", "/etc", "/etc/x", "/lib/x", "/lib64/x", "/proc/1", "/run",
        "/run/user/1000", "/sbin", "/sys/x", "/tmp", "/tmp/x", "/usr", "/usr/local/x",
        "/var/cache/x", "/var/lib/systemd", "/var/lib/systemd/x", "/var/lib/validator",
        "/var/lib/validator/a",
        "/var/lib/validator-supervisor", "/var/lib/validator-tunnel/x", "/var/lib/validator-state",
        "/var/lock", "/var/log/x", "/var/run/x", "/var/spool/cron", "/var/tmp/x",
    ],
)  # fmt: skip
def test_homes_that_are_the_systems_or_shared(home: str, refusal: Refusal) -> None:
    message = refusal(f"validators: {{{command(home)}}}")
    shared = "not for a validator to write to" in message
    assert shared or (home == "/" and "validators.a.home: expected an absolute path" in message)
    if home != "/":
        # However it is written.
        for other in (f"{home}/", f"{home}/.", f"/x/..{home}", f"/{home}"):
            assert "validators.a.home" in refusal(f"validators: {{{command(other)}}}")


@pytest.mark.parametrize(
    "home",
    ["/data/hub/", "/data//hub", "/data/./hub", "/data/../hub", "/data/hub/..", "data", "/a b",
     "/a%h", "/a:b", "/a\\nReadWritePaths=/", "/a\\\\x", "/$HOME", "~", "/é", "/a;b", "'/a'", ""],
)  # fmt: skip
def test_homes_that_are_no_plain_path(home: str, refusal: Refusal) -> None:
    assert "validators.a.home: expected" in refusal(f"validators: {{{command(home)}}}")


@pytest.mark.parametrize(
    "home",
    ["/data", "/data/hub", "/home/x", "/home/x/y", "/root/x", "/srv/x", "/mnt/x", "/media/x/y",
     "/opt/x", "/var/lib/x", "/var/x", "/tmpx", "/usrx", "/etcetera", "/runner", "/...", "/a..b"],
)  # fmt: skip
def test_homes_that_are_a_validators_own(home: str, read: Read) -> None:
    found = read(f"validators: {{{command(home)}}}").validators["a"]
    assert isinstance(found, Command)
    assert found.home == home


@pytest.mark.parametrize(
    ("one", "other"),
    [("/data", "/data"), ("/data", "/data/a"), ("/data/a", "/data"), ("/data/a/b/c", "/data/a")],
)
def test_no_home_is_in_another_ones(one: str, other: str, refusal: Refusal) -> None:
    inner, outer = sorted((one, other), key=len, reverse=True)
    hub = HUB.replace("/data/hub", other)
    for text in (
        f"validators: {{{command(one)}, {command(other, 'b')}}}",
        f"{hub}  {command(one)}\n",
    ):
        message = refusal(text)
        assert f": {inner} is " in message
        assert "'s already" in message
        assert outer in message


def test_homes_beside_each_other(read: Read) -> None:
    homes = ["/data/a", "/data/ab", "/data/b", "/home/x"]
    text = ", ".join(command(home, f"v{i}") for i, home in enumerate(homes))
    assert len(read(f"validators: {{{text}, n: {{kind: command, command: [/x]}}}}").validators) == 5


def test_several_of_all_kinds(read: Read) -> None:
    text = VALIDATOR + "".join(line + "\n" for line in HUB.splitlines()[1:])
    second = text.split("validators:\n")[1].replace("main:", "main-2:").replace("hub:", "hub-2:")
    second = second.replace("/data/hub", "/data/hub-2")
    found = read(f"{text}{second}  {command('/srv/a')}\n  {command('/srv/b', 'b')}\n").validators
    assert {name: type(validator) for name, validator in found.items()} == {
        "main": Ethereum,
        "hub": Cosmos,
        "main-2": Ethereum,
        "hub-2": Cosmos,
        "a": Command,
        "b": Command,
    }
    assert len({validator.user for validator in found.values()}) == 6
    assert [validator.name for validator in found.values()] == list(found)


@pytest.mark.parametrize("text", ["", "validators:\n", "validators: {}\n", "validators: ~\n"])
def test_there_may_be_no_validator(text: str, read: Read) -> None:
    assert read(text).validators == {}


def test_no_node_is_needed_by_what_asks_none(read: Read, refusal: Refusal) -> None:
    assert read(f"nodes:\n{HUB}  {command('/srv/a')}\n").nodes == {}
    alone = VALIDATOR.replace(VALIDATOR.splitlines()[0], "nodes:")
    assert "validators.main: no node has a beacon for dev (add beacon: to a node)" in refusal(alone)


@pytest.mark.parametrize("kind", RECORDS)
def test_keys_of_another_kind_mean_nothing(kind: str, refusal: Refusal) -> None:
    mine = settings(RECORDS[kind])
    others = {name for record in RECORDS.values() for name in settings(record)} - set(mine)
    assert others
    for name in others:
        words = f"validators.a.{name}: means nothing for kind {kind}"
        assert words in refusal(f"validators: {{a: {{kind: {kind}, {name}: 1}}}}")


@pytest.mark.parametrize(
    "argument",
    [
        "--network",
        "--network=mainnet",
        "--dataDir=/data/other",
        "--home",
        "--beaconNodes=http://x:1",
    ],
)
def test_further_arguments_do_not_undo_what_was_checked(argument: str, refusal: Refusal) -> None:
    hub = HUB.rstrip() + f"\n    args: [--x, '{argument}']\n"
    assert "args[1]: is the supervisor's to say" in refusal(hub)
