"""Addresses with a checksum in the case of their letters (EIP-55)."""


def checksummed(address: str) -> str:
    """Return ``0x`` and 40 hexadecimal digits in the case that EIP-55 gives them."""
    from Cryptodome.Hash import keccak  # imported here: only a new configuration needs it

    digits = address.removeprefix("0x").lower()
    digest = keccak.new(digest_bits=256, data=digits.encode()).hexdigest()
    cased = (d.upper() if int(h, 16) >= 8 else d for d, h in zip(digits, digest, strict=False))
    return "0x" + "".join(cased)


def wrong(address: str) -> bool:
    """Whether an address has a checksum, and it is not the right one."""
    digits = address.removeprefix("0x")
    return digits not in (digits.lower(), digits.upper()) and address != checksummed(address)
