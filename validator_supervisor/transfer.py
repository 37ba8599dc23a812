"""Transfer files: all keys of a validator that has ended on one host, for another one.

An archive (archive.py) that a code opens instead of an identity, with ``retired.json`` more. Nobody
who does not know the code can make one, or change it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from validator_supervisor import age, contents, document, identity
from validator_supervisor.contents import KIND, RETIRED, Contents
from validator_supervisor.errors import ConfigError, FormatError, SupervisorError
from validator_supervisor.interchange import Interchange
from validator_supervisor.manifest import COUNT, ID, TIME
from validator_supervisor.schema import Kind, boolean, integer, record, setting, text

VERSION = 1
# 10,000 keys with what they have signed are a third of it.
FILE_MAX = 64 << 20
# Of a request's first line: a code, and nothing that could be longer.
LINE_MAX = 1024
GROUP = f"[{identity.LETTERS}]{{{identity.GROUP}}}"
CODE = re.compile(f"{GROUP}(-{GROUP}){{{identity.GROUPS - 1}}}")


@dataclass(frozen=True)
class Retired:
    """That a host has ended a validator for good, and up to where what it has made of it goes."""

    version: int = setting(integer(VERSION, VERSION, "the format's version"), "of the format")
    time: int = setting(TIME, "when, in Unix seconds")
    host: str = setting(ID, "the host whose validator it was")
    sequence: int = setting(COUNT, "the highest of its archives and claims")
    accepted: int = setting(COUNT, "up to where it had accepted that other hosts ran it; or 0")
    genesis_validators_root: str = setting(
        text("0x[0-9a-f]{64}", "32 bytes in hexadecimal"), "which chain it is"
    )


@dataclass(frozen=True)
class Transfer:
    """A file that was verified: it has keys, and of each what it has signed."""

    contents: Contents
    protection: Interchange
    retired: Retired


@dataclass(frozen=True)
class Request:
    """What a person gives to `adopt`; ``returned``: keys that were removed here, too."""

    code: bytes = field(repr=False)
    raw: bytes = field(repr=False)
    returned: bool = False


RECORDS: Kind[Retired] = record(Retired)
FLAG = boolean()


def make_code() -> bytes:
    """Return a new code of 120 bits."""
    return identity.generate_passphrase().encode()


def parse_code(typed: bytes) -> bytes:
    """Return the code that was typed. Raises SupervisorError ``WrongCode`` without quoting."""
    found = typed.decode("ascii", "replace").strip().lower()
    if not CODE.fullmatch(found):
        shape = f"{identity.GROUPS} groups of {identity.GROUP}"
        message = f"that is no transfer code: it has {shape} letters and digits, and dashes between"
        raise SupervisorError("WrongCode", message)
    return found.encode()


def seal(
    code: bytes, last: Contents, protection: Interchange, retired: Retired, work_factor: int = 18
) -> bytes:
    """Return the file of a validator's last archive. Raises FormatError, SupervisorError."""
    by = last.manifest
    raw = contents.seal(
        age.Passphrase(code, work_factor),
        validator=by.validator,
        network=by.network,
        host=by.host,
        boot=by.boot,
        sequence=by.sequence,
        created=by.created,
        clean=by.clean,
        keys=last.keys,
        removed_keys=by.removed_keys,
        protection=protection,
        remarks=by.remarks,
        retired=json.dumps(asdict(retired)).encode() + b"\n",
    )
    if len(raw) > FILE_MAX:
        raise SupervisorError("TooManyKeys", f"the file would have more than {FILE_MAX} bytes")
    return raw


def unseal(raw: bytes, code: bytes) -> Transfer:
    """Open a file and verify all of it.

    Raises SupervisorError: ``WrongCode``, ``NotRetired`` where it does not say that the other host
    has ended for good, and FormatError.
    """
    try:
        manifest, files = contents.unpacked(raw, age.Passphrase(code))
    except SupervisorError as failure:
        if failure.code == "WrongPassphrase":
            raise SupervisorError("WrongCode", "the transfer code is wrong") from None
        if failure.code == "NoMatch":
            message = "no transfer code opens it: it is encrypted to a key"
            raise FormatError("Transfer", message, "`retire` makes what can be adopted") from None
        raise
    if manifest.kind != KIND:
        raise FormatError("Transfer", f"is of kind {manifest.kind}, not {KIND}")
    if RETIRED not in files:
        message = "it does not say that its host has ended the validator for good"
        raise SupervisorError("NotRetired", message, "`retire` makes what can be adopted")
    return _complete(contents.of(manifest, files), _record(files))


def _record(files: Mapping[str, bytes]) -> Retired:
    try:
        return RECORDS.read(document.parse_json(files[RETIRED], RETIRED))
    except ConfigError as failure:
        raise FormatError("Transfer", failure.message, failure.hint) from None


def _complete(found: Contents, retired: Retired) -> Transfer:
    """Raise FormatError where a part is missing, or does not fit the others."""
    by, protection = found.manifest, found.protection
    if not by.clean:
        raise FormatError("Transfer", "it was made before the validator had stopped")
    if by.host != retired.host or by.sequence > retired.sequence:
        raise FormatError("Transfer", f"{RETIRED} is of another host, or of an older archive")
    if contents.remote(found.keys):
        raise FormatError("Transfer", "it has keys of a Web3Signer, which holds them itself")
    if protection is None or not found.keys or not found.keys.keys() <= protection.keys.keys():
        raise FormatError("Transfer", "there is no key, or one of which nothing is said")
    if f"0x{protection.genesis_validators_root.hex()}" != retired.genesis_validators_root:
        raise FormatError("Transfer", f"{RETIRED} is of another chain than what was signed")
    return Transfer(found, protection, retired)


def dump(request: Request) -> bytes:
    """Return a request as it goes through the pipe to the job: a secret."""
    head = {"code": request.code.decode(), "returned": request.returned}
    return json.dumps(head).encode() + b"\n" + request.raw


def parse(piped: bytes) -> Request:
    """Return the request that came through the pipe. Raises FormatError (``InvalidRequest``)."""
    line, _, raw = piped.partition(b"\n")
    if len(line) > LINE_MAX or len(raw) > FILE_MAX:
        raise FormatError("Request", "is too long")
    try:
        head = document.parse_json(line, "request").section("code", "returned")
        code = head.need("code", lambda value: value.string(CODE.pattern, "a code"))
        return Request(code.encode(), raw, head.need("returned", FLAG.read))
    except ConfigError:
        # What it says may quote the code.
        raise FormatError("Request", "is none") from None
