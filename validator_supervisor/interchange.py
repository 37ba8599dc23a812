"""What a host's keys have signed: EIP-3076's interchange format, version 5.

https://eips.ethereum.org/EIPS/eip-3076, section "JSON Representation". The JSON Schema there looks
at the first member of each list only, so everything is checked here.

Read strictly, because what is skipped may be signed again:

- A member that the EIP does not know is refused, and so is one that is missing. No client that we
  know of writes the one, and Lighthouse refuses it; it could narrow what the entry beside it means.
- Numbers are decimal strings without sign, space or leading zero, below 2^64 - 1 (that one is
  FAR_FUTURE_EPOCH and nothing's slot). Every client writes them so, and no two spellings are one
  number.
- Hexadecimal may have upper or lower case, and ``0x`` or not; keys differ in nothing else.
- ``"signing_root": null`` means none: the strictest reading, and what a library writes for an
  optional that is empty. A list that is null is refused: "nothing was signed" is the laxest.
- An attestation whose source is above its target is kept. No client should have signed it, but
  raising both watermarks to it is safe, and the official vectors import it.
- Several entries of one key are one entry with everything that is in any of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from validator_supervisor.errors import FormatError
from validator_supervisor.strict_json import (
    JsonError,
    collector_paused,
    each,
    load,
    members,
    shown,
)

VERSION = "5"
# FAR_FUTURE_EPOCH of the consensus specification: the end of what never ends.
NUMBER_END = 2**64 - 1
# A thousand keys with four months of attestations each. Reading takes five times as much memory
# where every entry has its signing root, and up to 25 times for the worst that can be made up.
SIZE_MAX = 128 << 20

# A signing root is 32 bytes, or empty where it is not known.
Block = tuple[int, bytes]
Attestation = tuple[int, int, bytes]

DOCUMENT = frozenset({"metadata", "data"})
METADATA = frozenset({"interchange_format_version", "genesis_validators_root"})
METADATA_4 = METADATA | {"interchange_format"}
ENTRY = frozenset({"pubkey", "signed_blocks", "signed_attestations"})
BLOCK = frozenset({"slot"})
BLOCK_ROOT = BLOCK | {"signing_root"}
ATTESTATION = frozenset({"source_epoch", "target_epoch"})
ATTESTATION_ROOT = ATTESTATION | {"signing_root"}


@dataclass(frozen=True)
class History:
    """What one key has signed: blocks (slot, root), attestations (source, target, root)."""

    blocks: frozenset[Block] = frozenset()
    attestations: frozenset[Attestation] = frozenset()


@dataclass(frozen=True)
class Interchange:
    """A document; keys are ``0x`` and 96 lower-case digits, the root is 32 bytes."""

    genesis_validators_root: bytes
    keys: dict[str, History]


@dataclass(frozen=True)
class Parsed:
    """What was read, and one line for a person on each thing that was not taken as it stood."""

    interchange: Interchange
    remarks: tuple[str, ...] = ()


def text(interchange: Interchange) -> str:
    """Return the document: keys and entries sorted, an entry a line; equal ones are equal bytes."""
    root = interchange.genesis_validators_root.hex()
    entries = [_key_text(key, history) for key, history in sorted(interchange.keys.items())]
    return (
        '{\n  "metadata": {\n'
        f'    "interchange_format_version": "{VERSION}",\n'
        f'    "genesis_validators_root": "0x{root}"\n'
        f'  }},\n  "data": [{_lines(entries, "  ")}]\n}}\n'
    )


def _key_text(key: str, history: History) -> str:
    blocks = (f'"slot": "{slot}"{_root_text(root)}' for slot, root in sorted(history.blocks))
    attestations = (
        f'"source_epoch": "{source}", "target_epoch": "{target}"{_root_text(root)}'
        for source, target, root in sorted(history.attestations)
    )
    return (
        f'{{\n      "pubkey": "{key}",\n'
        f'      "signed_blocks": [{_lines(map("{{{}}}".format, blocks), "      ")}],\n'
        f'      "signed_attestations": [{_lines(map("{{{}}}".format, attestations), "      ")}]\n'
        "    }"
    )


def _root_text(root: bytes) -> str:
    return f', "signing_root": "0x{root.hex()}"' if root else ""


def _lines(entries: Iterable[str], indent: str) -> str:
    joined = f",\n{indent}  ".join(entries)
    return f"\n{indent}  {joined}\n{indent}" if joined else ""


def parse(raw: bytes) -> Parsed:
    """Read a document of version 5, or upgrade one of version 4 with a remark.

    Lodestar below 1.8 writes version 4, ``interchange_format: complete``, which is version 5 with
    that member more, and with entries whose key is the name of something in its database. Where
    such an entry holds nothing it is left out with a remark; where it does hold something, whose
    signatures these are is not known, and the document is refused. Other versions are refused.

    Raises FormatError (``InvalidInterchange``), one printable line, with the place.
    """
    if len(raw) > SIZE_MAX:
        raise FormatError("Interchange", f"is larger than {SIZE_MAX >> 20} MiB")
    try:
        with collector_paused():
            return _Reader().document(load(raw))
    except JsonError as wrong:
        raise FormatError("Interchange", str(wrong), wrong.hint) from None


def public_key(value: object) -> str:
    """Return a public key (48 bytes) as this module has it. Raises FormatError."""
    try:
        return "0x" + _hexadecimal(value, 48).hex()
    except JsonError as wrong:
        raise FormatError("PublicKey", str(wrong)) from None


def _hexadecimal(value: object, size: int) -> bytes:
    if type(value) is str:
        digits = value[2:] if value[:2] in ("0x", "0X") else value
        try:
            found = bytes.fromhex(digits)
        except ValueError:
            found = b""
        # It skips spaces: both lengths count.
        if len(found) == size and len(digits) == 2 * size:
            return found
    raise JsonError(f"expected {size} bytes in hexadecimal, found {shown(value)}")


def _signing_root(value: object) -> bytes:
    return b"" if value is None else _hexadecimal(value, 32)


class _Numbers(dict[object, int]):
    """The numbers of a document; a thousand keys attest in the same epochs."""

    def __missing__(self, digits: object) -> int:
        # Digits of other scripts are decimal as well, but come back as others.
        if type(digits) is str and digits.isdecimal() and len(digits) <= 20:
            number = int(digits)
            if number < NUMBER_END and str(number) == digits:
                self[digits] = number
                return number
        raise JsonError(
            f"expected a decimal number in quotes, below 2^64 - 1, found {shown(digits)}"
        )


class _Reader:
    """Reads one document."""

    def __init__(self) -> None:
        self.numbers = _Numbers()
        self.remarks: list[str] = []
        self.blocks: dict[str, set[Block]] = {}
        self.attestations: dict[str, set[Attestation]] = {}

    def document(self, value: object) -> Parsed:
        document = members(value, DOCUMENT)
        try:
            version, root = self.metadata(document["metadata"])
        except JsonError as wrong:
            raise wrong.inside("metadata") from None
        each(document["data"], "data", self.upgraded if version == "4" else self.entry)
        keys = {
            key: History(frozenset(blocks), frozenset(self.attestations[key]))
            for key, blocks in self.blocks.items()
        }
        return Parsed(Interchange(root, keys), tuple(self.remarks))

    def metadata(self, value: object) -> tuple[object, bytes]:
        # Of another version neither members nor their meaning is known: it is looked at first.
        version = (
            value.get("interchange_format_version", VERSION) if type(value) is dict else VERSION
        )
        if version == "4":
            found = members(value, METADATA_4)
            if found["interchange_format"] != "complete":
                form = shown(found["interchange_format"])
                raise JsonError(f'expected "complete", found {form}', place="interchange_format")
            self.remarks.append("version 4 of the format is read as version 5")
        else:
            if version != VERSION:
                message = f'expected "{VERSION}", found {shown(version)}'
                raise JsonError(message, place="interchange_format_version")
            found = members(value, METADATA)
        try:
            return version, _hexadecimal(found["genesis_validators_root"], 32)
        except JsonError as wrong:
            hint = "a client that has never reached a beacon node does not know it"
            raise JsonError(wrong.message, hint, place="genesis_validators_root") from None

    def upgraded(self, value: object) -> None:
        """Read an entry of version 4, whose key may be none."""
        entry = members(value, ENTRY)
        key = entry["pubkey"]
        empty = entry["signed_blocks"] == [] == entry["signed_attestations"]
        if empty and type(key) is str and not _is_public_key(key):
            self.remarks.append(f"left out: the entry of {shown(key)}, no public key, is empty")
        else:
            self.entry(value)

    def entry(self, value: object) -> None:
        try:
            entry = members(value, ENTRY)
        except JsonError as wrong:
            # Dirk leaves empty lists out, which the EIP does not allow.
            hint = 'where it is empty: "signed_blocks": [] or "signed_attestations": []'
            raise JsonError(wrong.message, hint, place=wrong.place) from None
        try:
            key = "0x" + _hexadecimal(entry["pubkey"], 48).hex()
        except JsonError as wrong:
            raise wrong.inside("pubkey") from None
        # Several entries of one key are all of that key.
        blocks = each(entry["signed_blocks"], "signed_blocks", self.block)
        self.blocks.setdefault(key, set()).update(blocks)
        attestations = each(entry["signed_attestations"], "signed_attestations", self.attestation)
        self.attestations.setdefault(key, set()).update(attestations)

    def block(self, value: object) -> Block:
        entry = members(value, BLOCK, BLOCK_ROOT)
        try:
            return self.numbers[entry["slot"]], _signing_root(entry.get("signing_root"))
        except (JsonError, TypeError):  # TypeError: lists and objects cannot be looked up
            raise self.located(entry) from None

    def attestation(self, value: object) -> Attestation:
        entry = members(value, ATTESTATION, ATTESTATION_ROOT)
        numbers = self.numbers
        try:
            return (
                numbers[entry["source_epoch"]],
                numbers[entry["target_epoch"]],
                _signing_root(entry.get("signing_root")),
            )
        except (JsonError, TypeError):
            raise self.located(entry) from None

    def located(self, entry: dict[str, object]) -> JsonError:
        """Return what is wrong in an entry, with its place."""
        for name, value in entry.items():
            try:
                if name == "signing_root":
                    _signing_root(value)
                else:
                    self.numbers.__missing__(value)
            except JsonError as wrong:
                return wrong.inside(name)
        raise AssertionError("an entry that was refused has a member that is")


def _is_public_key(value: str) -> bool:
    try:
        return bool(public_key(value))
    except FormatError:
        return False
