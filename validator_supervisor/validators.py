"""The validators of the configuration."""

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from validator_supervisor.document import Value
from validator_supervisor.kinds import ABSOLUTE, DOWNLOAD, NAME, NETWORK, URL, USER, WORDS
from validator_supervisor.nodes import Node
from validator_supervisor.projects import PROJECTS
from validator_supervisor.schema import (
    Kind,
    boolean,
    choice,
    either,
    integer,
    record,
    sequence,
    setting,
    table,
    text,
    union,
)

CLIENTS = (*PROJECTS,)
# Archives of other kinds than those that are unpacked; a file with another name is the program.
PACKED = (".zip", ".xz", ".bz2", ".zst", ".tar", ".deb", ".rpm")
# Directories that are more than one validator's, and those below which there is nothing to write.
SHARED = frozenset({"/", "/home", "/mnt", "/media", "/opt", "/root", "/srv", "/var", "/var/lib"})
SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/tmp",  # noqa: S108
    "/usr", "/var/cache", "/var/lib/systemd", "/var/lib/validator",
    "/var/lock", "/var/log", "/var/run", "/var/spool", "/var/tmp",  # noqa: S108
)  # fmt: skip
# What each source of a consensus key needs; the keys of the other one mean nothing.
SOURCES = {"ssm": ("region", "parameter"), "credential": ("credential",)}
# What decides about keys, chain and slashing protection is not a matter of further arguments.
OURS = frozenset(
    (
        "--network", "--graffiti", "--suggested-fee-recipient", "--data-dir", "-d", "--datadir",
        "--validators-dir", "--secrets-dir", "--config-file", "--distributed", "--home",
        # Lighthouse
        "--validator-dir", "--beacon-nodes", "--gas-limit", "--builder-proposals", "-t",
        "--enable-doppelganger-protection", "--init-slashing-protection", "--testnet-dir",
        "--disable-slashing-protection-web3signer",
        # Prysm
        "--validators-external-signer-key-file", "--remote-signer-url", "--remote-signer-keys",
        "--remote-signer-keys-file",
        "--wallet-dir", "--wallet-password-file", "--beacon-rpc-provider", "--beacon-grpc",
        "--beacon-rest-api-provider", "--beacon-rest", "--enable-doppelganger",
        "--enable-minimal-slashing-protection", "--enable-builder",
        # Teku, and the first two Prysm
        "--validators-external-signer-url", "--validators-external-signer-public-keys",
        "--validators-external-signer-slashing-protection-enabled",
        "--data-path", "--data-base-path", "--data-validator-path", "--validator-keys",
        "--beacon-node-api-endpoint", "--beacon-node-api-endpoints", "--validators-graffiti",
        "--validators-proposer-default-fee-recipient", "--doppelganger-detection-enabled",
        # Nimbus
        "--beacon-node", "--beacon-node-mode", "--doppelganger-detection", "--payload-builder",
        "--suggested-gas-limit", "--web3-signer-url", "--verifying-web3-signer",
        # Lodestar
        "--externalSigner.url", "--externalSigner.pubkeys", "--externalSigner.fetch",
        "--dataDir", "--validatorsDbDir", "--beaconNodes", "--server", "--suggestedFeeRecipient",
        "--keystoresDir", "--secretsDir", "--importKeystores", "--rcConfig", "--paramsFile",
        "--defaultGasLimit", "--builder", "--doppelgangerProtection", "--force",
        "--doppelgangerProtectionEnabled",
    )
)  # fmt: skip
# Where Lighthouse finds a network that it does not know.
DESCRIBED = "--testnet-dir="
# Clients that cannot be told what to believe of a Web3Signer, and what to do instead.
SYSTEM_WIDE = "have its authority among the system's (update-ca-certificates(8)), not here"
NO_CERTIFICATE = {
    "prysm": ("prysm takes none in any release so far", SYSTEM_WIDE),
    "teku": ("teku wants a truststore of Java's", SYSTEM_WIDE),
    "nimbus": ("nimbus believes the public authorities that it was built with", ""),
}
PUBLIC_KEYS = sequence(text(r"0x[0-9a-fA-F]{96}", "a public key, 0x and 96 hexadecimal digits"), 1)


def _all_or_listed() -> Kind[tuple[str, ...] | str]:
    word = choice("all")

    def read(value: Value) -> tuple[str, ...] | str:
        return PUBLIC_KEYS.read(value) if isinstance(value.data, tuple) else word.read(value)

    return Kind(read, {"anyOf": [word.schema, PUBLIC_KEYS.schema]})


def _own_user(value: Value, user: str) -> str:
    # The other jobs' users are validator-JOB; what one of them may do is not a validator's.
    if user == "root" or user.startswith("validator-"):
        raise value.error(f"a validator does not run as {user}")
    return user


def _own_home(value: Value, home: str) -> str:
    below = [place for place in SYSTEM if Path(home).is_relative_to(place)]
    # The other jobs' directories have the names of their users.
    if home.startswith("/var/lib/validator-"):
        below = [home]
    if home in SHARED or below:
        raise value.error(f"{below[0] if below else home} is not for a validator to write to")
    return home


def _further(value: Value, words: tuple[str, ...]) -> tuple[str, ...]:
    for item in value.items():
        word = item.string()
        if word.split("=")[0] in OURS and not word.startswith(DESCRIBED):
            raise item.error("is the supervisor's to say")
    return words


def _short(value: Value, graffiti: str) -> str:
    if len(graffiti.encode()) > 32:
        raise value.error("expected at most 32 bytes")
    return graffiti


def _program(value: Value, words: tuple[str, ...]) -> tuple[str, ...]:
    ABSOLUTE.read(value.items()[0])
    return words


def _unpackable(value: Value, url: str) -> str:
    if url.endswith(PACKED):
        raise value.error("expected a .tar.gz, or the program itself")
    return url


@dataclass(frozen=True, kw_only=True)
class Release:
    """A client's program: a file that is there, or a version to download with its SHA-256."""

    client: str = setting(choice(*CLIENTS), "the client")
    binary: str = setting(ABSOLUTE, "the program on this host", "")
    version: str = setting(
        text(r"v?[0-9][0-9A-Za-z.+-]{0,40}", "a version"), "the release to download", ""
    )
    sha256: str = setting(text(r"[0-9a-f]{64}", "64 hexadecimal digits"), "its checksum", "")
    url: str = setting(
        DOWNLOAD.then(_unpackable), "where it is; default: where the project has it", ""
    )
    signature: str = setting(
        choice("pgp", "none"), "whether it is signed; default: as the project has it", ""
    )
    signed_by: str = setting(
        text(r"[0-9A-F]{40}", "a fingerprint, 40 hexadecimal digits in capitals"),
        "the key that signs it, instead of the project's",
        "",
    )


def _one_program(value: Value, release: Release) -> Release:
    if bool(release.binary) == bool(release.version):
        raise value.error("expected binary, or version and sha256")
    if bool(release.version) != bool(release.sha256):
        raise value.error("version and sha256 belong together")
    if release.version:
        _from_its_project(value.mapping(), release)
    for name in ("url", "signature", "signed_by"):
        if release.binary and name in value.mapping():
            raise value.mapping()[name].error("means nothing for a program that is there")
    return release


def _from_its_project(members: dict[str, Value], release: Release) -> None:
    """Refuse what a client's project does not publish, or does not sign."""
    project = PROJECTS[release.client]
    if "{build}" in (release.url or project.url) and "+" not in release.version:
        raise members["version"].error("expected VERSION+COMMIT, as the name of the file has them")
    if release.signature == "none" and release.signed_by:
        raise members["signed_by"].error("means nothing without a signature")
    if release.signature == "pgp" and not (project.fingerprints or release.signed_by):
        message = f"the project of {release.client} signs no releases"
        raise members["signature"].error(message, "if somebody else does: signed_by")


RELEASE: Kind[Release] = record(Release).then(_one_program)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where the keys are: in this host's own keystores, or behind a Web3Signer."""

    web3signer: str = setting(URL, "the signer's URL")
    certificate: str = setting(ABSOLUTE, "its certificate, or its authority's (PEM)", "")
    public_keys: tuple[str, ...] | str = setting(
        _all_or_listed(), "which of its keys may be adopted, and sign: all, or a list", "all"
    )


def _trusted(value: Value, keys: Keys) -> Keys:
    if keys.certificate and not keys.web3signer.startswith("https:"):
        raise value.mapping()["certificate"].error("means nothing without https://")
    return keys


def in_the_clear(keys: Keys | str) -> bool:
    """Whether what is to be signed goes over a network that everybody on the way can change."""
    if isinstance(keys, str) or keys.web3signer.startswith("https:"):
        return False
    try:
        host = urlsplit(keys.web3signer).hostname or ""
        return host != "localhost" and not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """What every validator has."""

    name: str = ""
    kind: str = setting(choice("ethereum", "cosmos", "command"), "what runs")
    enabled: bool = setting(boolean(), "whether it starts by itself", True)
    user: str = setting(USER.then(_own_user), "its Unix user; default: validator_NAME", "")
    environment_file: str = setting(ABSOLUTE, "a file of variables (systemd.exec(5))", "")


@dataclass(frozen=True, kw_only=True)
class Ethereum(Supervised):
    """A validator client and its keys."""

    network: str = setting(NETWORK, "the chain")
    fee_recipient: str = setting(
        text(r"0x[0-9a-fA-F]{40}", "an address, 0x and 40 hexadecimal digits"),
        "the address that gets the fees; EIP-55 is checked when its case is mixed",
    )
    release: Release = setting(RELEASE, "the client's program")
    nodes: tuple[str, ...] = setting(
        sequence(NAME, 1),
        "beacon nodes, preferred first; default: all that have one for the network",
        (),
    )
    args: tuple[str, ...] = setting(WORDS.then(_further), "further arguments of the client", ())
    graffiti: str = setting(text().then(_short), "text in proposed blocks, at most 32 bytes", "")
    keys: Keys | str = setting(
        either(choice("local"), record(Keys).then(_trusted)), "where the keys are", "local"
    )
    gas_limit: int = setting(integer(21_000, 1 << 40, "gas"), "the limit to ask for", 0)
    builder: bool = setting(boolean(), "whether blocks may come from builders", False)
    distributed: bool = setting(boolean(), "whether it is part of a cluster", False)
    doppelganger: str = setting(
        choice("auto", "always", "off"),
        "when the client itself looks for a twin first; auto: once after keys have come",
        "auto",
    )
    on_slashed: str = setting(
        choice("validator", "network", "alert"), "what a slashing stops", "validator"
    )
    require_nodes: int = setting(
        integer(0, 100, "nodes"), "nodes whose archives must be seen first", 0
    )


@dataclass(frozen=True, kw_only=True)
class ConsensusKey:
    """The consensus key of a Cosmos node and how it gets it."""

    source: str = setting(choice(*SOURCES), "where the key is kept", idle=True)
    region: str = setting(
        text(r"[a-z0-9-]{1,40}", "an AWS region"), "of the parameter", "", idle=True
    )
    parameter: str = setting(
        text(r"[A-Za-z0-9_./:-]{1,2048}", "an SSM parameter"), "that holds it", "", idle=True
    )
    credential: str = setting(NAME, "that holds it", "", idle=True)
    mode: str = setting(choice("signer", "fifo"), "how the node gets it", "signer", idle=True)
    active: bool = setting(boolean(), "false: the key on disk is used", True)


def _one_source(value: Value, key: ConsensusKey) -> ConsensusKey:
    members = value.mapping()
    for source, names in SOURCES.items():
        for name in names:
            if source != key.source and name in members:
                raise members[name].error(f"means nothing for source {key.source}")
            if source == key.source and name not in members:
                raise value.error(f"key {name} is missing")
    return key


@dataclass(frozen=True, kw_only=True)
class Cosmos(Supervised):
    """A Cosmos node in cosmovisor's layout of folders."""

    home: str = setting(ABSOLUTE.then(_own_home), "DAEMON_HOME, anywhere")
    daemon: str = setting(
        text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", "a program's name"), "DAEMON_NAME"
    )
    key: ConsensusKey = setting(record(ConsensusKey).then(_one_source), "the consensus key")
    args: tuple[str, ...] = setting(WORDS.then(_further), "further arguments of start", ())
    rpc: tuple[str, ...] = setting(sequence(URL), "RPC servers of the chain", (), idle=True)


@dataclass(frozen=True, kw_only=True)
class Command(Supervised):
    """Any program."""

    command: tuple[str, ...] = setting(
        sequence(text(), 1).then(_program), "the program, an absolute path, and its arguments"
    )
    home: str = setting(ABSOLUTE.then(_own_home), "a directory of its user's that it writes to", "")


Validator = Ethereum | Cosmos | Command


def _named(value: Value, found: dict[str, Validator]) -> dict[str, Validator]:
    named = {
        name: replace(validator, name=name, user=validator.user or f"validator_{name}")
        for name, validator in found.items()
    }
    _apart(value, list(named.values()))
    for name, validator in named.items():
        problem, hint = untrusted(validator)
        if problem:
            keys = value.mapping()[name].mapping()["keys"]
            raise keys.mapping()["certificate"].error(problem, hint)
    return named


def untrusted(validator: Validator) -> tuple[str, str]:
    """Return why its client cannot go by the certificate of its Web3Signer, or ``""``; a hint."""
    if isinstance(validator, Ethereum) and isinstance(validator.keys, Keys):
        client = validator.release.client
        if validator.keys.certificate and client in NO_CERTIFICATE:
            return NO_CERTIFICATE[client]
    return "", ""


def _apart(value: Value, validators: list[Validator]) -> None:
    """Refuse two validators that would have access to each other's files."""
    users: dict[str, str] = {}
    homes: dict[str, str] = {}
    for one in validators:
        here, home = value.mapping()[one.name], home_of(one)
        if one.user in users:
            raise here.error(f"{users[one.user]} runs as {one.user} already")
        if home in homes:
            raise here.error(f"{home} is {homes[home]}'s already")
        users[one.user] = one.name
        homes |= {home: one.name} if home else {}
    for home, name in homes.items():
        for above in map(str, Path(home).parents):
            if above in homes:
                here = value.mapping()[name]
                raise here.error(f"{home} is {homes[above]}'s already, which has {above}")


def home_of(validator: Validator) -> str:
    """Return the directory outside of ours that a validator writes to, or ``""``."""
    return validator.home if isinstance(validator, Cosmos | Command) else ""


def with_nodes(value: Value, validator: Validator, nodes: dict[str, Node]) -> Validator:
    """Return the validator with its default nodes. Raises ConfigError at a node without beacon."""
    if not isinstance(validator, Ethereum):
        return validator
    network = validator.network
    if not validator.nodes:
        usable = tuple(node.name for node in nodes.values() if node.beacon_for(network))
        if not usable:
            raise value.error(f"no node has a beacon for {network}", "add beacon: to a node")
        return replace(validator, nodes=usable)
    for item in value.mapping()["nodes"].items():
        name = item.choice(*nodes)
        if not nodes[name].beacon_for(network):
            raise item.error(f"node {name} has no beacon for {network}")
        if validator.nodes.count(name) > 1:
            raise item.error(f"node {name} stands here twice")
    return validator


RECORDS = {"ethereum": Ethereum, "cosmos": Cosmos, "command": Command}
VALIDATORS: Kind[dict[str, Validator]] = table(NAME, union("kind", RECORDS)).then(_named)
