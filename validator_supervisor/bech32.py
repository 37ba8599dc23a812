"""Bech32 (BIP 173) without its limit of length, as age writes keys."""

from collections.abc import Iterable

from validator_supervisor.errors import FormatError

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
CHECKSUM = 6


def encode(prefix: str, data: bytes) -> str:
    """Return the text, in the case of ``prefix``, which must not be mixed."""
    words = _regrouped(data, 8, 5)
    text = "".join(ALPHABET[word] for word in [*words, *_checksum(prefix.lower(), words)])
    return f"{prefix}1{text.upper() if prefix.isupper() else text}"


def decode(text: str) -> tuple[str, bytes]:
    """Return prefix, as it is written, and data; raise ``FormatError`` (Bech32).

    A message never holds the text: it may be a secret key.
    """
    if text not in (text.lower(), text.upper()) or not (text.isascii() and text.isprintable()):
        raise FormatError("Bech32", "letters of both cases, or characters that are none")
    prefix, separator, rest = text.rpartition("1")
    if not (prefix and separator) or " " in prefix or len(rest) < CHECKSUM:
        raise FormatError("Bech32", "no prefix, or too short")
    words = [ALPHABET.find(letter) for letter in rest.lower()]
    if min(words) < 0:
        raise FormatError("Bech32", "a character that is not of the alphabet")
    if _remainder([*_expanded(prefix.lower()), *words]) != 1:
        raise FormatError("Bech32", "the checksum does not fit: it is mistyped")
    return prefix, _whole(words[:-CHECKSUM])


def _whole(words: list[int]) -> bytes:
    """Return the bytes in groups of five bits, with fewer than five bits, all zero, left over."""
    spare = len(words) * 5 % 8
    if spare >= 5 or (words and words[-1] & ((1 << spare) - 1)):
        raise FormatError("Bech32", "not a whole number of bytes")
    return bytes(_regrouped(words, 5, 8)[: len(words) * 5 // 8])


def _regrouped(values: Iterable[int], size: int, into: int) -> list[int]:
    """Return groups of ``into`` bits for those of ``size`` bits, zeros added at the end."""
    bits = "".join(f"{value:0{size}b}" for value in values)
    return [int(bits[at : at + into].ljust(into, "0"), 2) for at in range(0, len(bits), into)]


def _expanded(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _checksum(prefix: str, words: list[int]) -> list[int]:
    remainder = _remainder([*_expanded(prefix), *words, *[0] * CHECKSUM]) ^ 1
    return [remainder >> 5 * (CHECKSUM - 1 - at) & 31 for at in range(CHECKSUM)]


def _remainder(words: Iterable[int]) -> int:
    """Return the checksum polynomial's remainder ("polymod" of BIP 173)."""
    remainder = 1
    for word in words:
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ word
        for bit, factor in enumerate(GENERATOR):
            if top >> bit & 1:
                remainder ^= factor
    return remainder
