"""Claims: which host runs a validator. A claim holds no secret; its MAC says that it is ours.

Every start, backup and reconnect puts one on every node: the host that sees another's newer one
must not sign.
"""

import hmac
import json
from dataclasses import asdict, dataclass

from validator_supervisor import age, document
from validator_supervisor.age.recipients import hkdf
from validator_supervisor.errors import ConfigError, FormatError
from validator_supervisor.kinds import NAME
from validator_supervisor.manifest import COUNT, ID, TIME
from validator_supervisor.schema import Kind, integer, record, setting

VERSION = 1
SIZE_MAX = 4096
MAC_SIZE = 64  # hexadecimal digits of HMAC-SHA256


@dataclass(frozen=True)
class Claim:
    """Host and boot that run a validator since ``time`` (Unix seconds)."""

    version: int = setting(integer(VERSION, VERSION, "the format's version"), "of the format")
    validator: str = setting(NAME, "the name in config.yaml")
    host: str = setting(ID, "the host that runs it")
    boot: str = setting(ID, "that host's boot")
    sequence: int = setting(COUNT, "as those of archives")
    time: int = setting(TIME, "Unix seconds")


CLAIMS: Kind[Claim] = record(Claim)


def seal(claim: Claim, identity: age.X25519Identity) -> bytes:
    """Return the bytes of a claim: a line of JSON, and its MAC in hexadecimal."""
    line = json.dumps(asdict(claim)).encode()
    return line + b"\n" + _mac(line, identity) + b"\n"


def unseal(raw: bytes, identity: age.X25519Identity) -> Claim:
    """Return the claim that ``raw`` is. Raises FormatError (``InvalidClaim``)."""
    line, separator, mac = raw.rstrip(b"\n").rpartition(b"\n")
    if len(raw) > SIZE_MAX or not separator or len(mac) != MAC_SIZE:
        raise FormatError("Claim", "is no claim")
    if not hmac.compare_digest(mac, _mac(line, identity)):
        raise FormatError("Claim", "was not made with this identity")
    try:
        return CLAIMS.read(document.parse_json(line, "claim"))
    except ConfigError as failure:
        raise FormatError("Claim", failure.message, failure.hint) from None


def _mac(line: bytes, identity: age.X25519Identity) -> bytes:
    key = hkdf(identity.secret, b"", b"validator-supervisor claim v1")
    return hmac.digest(key, line, "sha256").hex().encode()
