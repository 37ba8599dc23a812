"""The configuration: YAML in, frozen dataclasses out; keys in validator-supervisor.yaml(5)."""

from dataclasses import dataclass, replace
from pathlib import Path

from validator_supervisor import eip55, schema
from validator_supervisor.document import SIZE_MAX, Value, parse, read_bytes
from validator_supervisor.kinds import DURATION, KEY_SERVER
from validator_supervisor.nodes import NODES, Node, plain
from validator_supervisor.schema import Schema, boolean, integer, record, sequence, setting
from validator_supervisor.validators import (
    VALIDATORS,
    ConsensusKey,
    Ethereum,
    Release,
    Validator,
    with_nodes,
)

FILE = Path("/etc/validator-supervisor/config.yaml")
SCHEMA_URL = "file:///usr/share/doc/validator-supervisor/config.schema.json"


def _range(value: Value, bounds: tuple[int, ...]) -> tuple[int, ...]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise value.error("expected [LOWEST, HIGHEST]")
    return bounds


@dataclass(frozen=True, kw_only=True)
class Backup:
    """When backups are made and how many are kept; times in seconds."""

    interval: int = setting(DURATION, "between two backups; default: 1h", 3600)
    keep: int = setting(integer(1, 100_000, "archives"), "archives that are kept", 48)
    stop_timeout: int = setting(DURATION, "for the upload of the last one; default: 20s", 20)
    identity_on_nodes: bool = setting(boolean(), "whether nodes keep it", False, idle=True)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything there is."""

    version: int = setting(integer(1, 1, "the version of this format"), "of this format")
    nodes: dict[str, Node] = setting(NODES, "bastions and beacon nodes; may be empty", {})
    port_range: tuple[int, int] = setting(
        sequence(integer(1024, 65535, "a port")).then(_range),
        "loopback ports for forwards that need one: lowest, highest",
        (13000, 14000),
    )
    validators: dict[str, Validator] = setting(VALIDATORS, "what runs here", {})
    backup: Backup = setting(record(Backup), "backups", Backup())
    # keys.openpgp.org has many keys without their names, which gpgv refuses.
    key_server: str = setting(
        KEY_SERVER,
        "where keys are that sign releases; which ones, their fingerprints say",
        "https://keyserver.ubuntu.com/pks/lookup?op=get&options=mr&search=0x{fingerprint}",
    )

    @property
    def ethereum(self) -> list[Ethereum]:
        """The validators that are Ethereum clients."""
        return [v for v in self.validators.values() if isinstance(v, Ethereum)]


EMPTY = Config(version=1)


def load(path: Path = FILE) -> Value:
    """Read and parse the file. Raises ConfigError."""
    return parse(read_bytes(path, SIZE_MAX, follow=True), str(path))


def check_addresses(document: Value, config: Config) -> None:
    """Check the checksums of addresses (EIP-55). Raises ConfigError."""
    for validator in config.ethereum:
        if eip55.wrong(validator.fee_recipient):
            members = document.mapping()["validators"].mapping()[validator.name].mapping()
            member = members["fee_recipient"]
            raise member.error(
                "the address has a wrong checksum (EIP-55): a letter or digit may be mistyped",
                f"if it is right all the same, write it in small letters: "
                f"{validator.fee_recipient.lower()}",
            )


def read(document: Value) -> Config:
    """Check a whole document. Raises ConfigError at the first thing that is wrong."""
    if document.data == {}:
        return EMPTY
    config = record(Config).read(document)
    found = document.mapping().get("validators")
    members = found.mapping() if found and found.data else {}
    validators = {
        name: with_nodes(members[name], validator, config.nodes)
        for name, validator in config.validators.items()
    }
    config = replace(config, validators=validators)
    _one_network_each(members, config)
    return config


def _one_network_each(members: dict[str, Value], config: Config) -> None:
    """Refuse one beacon address for two networks: a beacon node is on one."""
    seen: dict[tuple[str, str], Ethereum] = {}
    for validator in config.ethereum:
        for name in validator.nodes:
            node = config.nodes[name]
            # An address of this host is the same beacon node, whichever node names it.
            place = (name if node.host else "", plain(node.beacon_for(validator.network)))
            other = seen.setdefault(place, validator)
            if other.network != validator.network:
                raise members[validator.name].error(
                    f"the beacon node of {name} is on {other.network}, for {other.name}",
                    "give the node one address per network: beacon: {NETWORK: HOST:PORT}",
                )


def json_schema() -> Schema:
    """Return the JSON Schema of the whole file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_URL,
        "title": "validator-supervisor.yaml(5)",
        **record(Config).schema,
    }


def idle(document: Value, config: Config) -> list[str]:
    """Return the keys of a document that has been read which no job uses yet."""
    records: list[tuple[Value, type]] = [(document, Config)]
    top = document.mapping()
    records += [(top["nodes"].mapping()[name], Node) for name in config.nodes]
    records += [(top["backup"], Backup)] if "backup" in top else []
    for validator in config.validators.values():
        member = top["validators"].mapping()[validator.name]
        records.append((member, type(validator)))
        inner = {"release": Release, "key": ConsensusKey}
        records += [(v, inner[n]) for n, v in member.mapping().items() if n in inner]
    return [value.key for member, record in records for value in schema.idle(record, member)]
