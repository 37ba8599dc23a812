"""eip55.py: addresses with a checksum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import eip55

# The vectors of https://eips.ethereum.org/EIPS/eip-55.
UPPER = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
]
LOWER = [
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
]
MIXED = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("address", [*UPPER, *LOWER, *MIXED])
def test_vectors_of_the_eip(address: str) -> None:
    assert eip55.checksummed(address) == address
    assert eip55.checksummed(address.lower()) == address
    assert eip55.checksummed("0x" + address[2:].upper()) == address
    assert not eip55.wrong(address)


@pytest.mark.parametrize("address", MIXED)
def test_one_letter_in_the_other_case_is_wrong(address: str) -> None:
    for index, letter in enumerate(address[2:], 2):
        other = address[:index] + letter.swapcase() + address[index + 1 :]
        assert eip55.wrong(other) is letter.isalpha()


@pytest.mark.parametrize("address", MIXED)
def test_two_digits_that_changed_places_are_wrong(address: str) -> None:
    # The checksum is of 4 bits at most in each letter: by chance one in 4,000 is not noticed.
    for index in range(2, 41):
        one, other = address[index], address[index + 1]
        swapped = address[:index] + other + one + address[index + 2 :]
        assert eip55.wrong(swapped) is (one != other)


@pytest.mark.parametrize("address", [*UPPER, *LOWER, *MIXED])
def test_one_case_is_no_checksum(address: str) -> None:
    assert not eip55.wrong(address.lower())
    assert not eip55.wrong("0x" + address[2:].upper())


@given(st.from_regex(r"0x[0-9a-fA-F]{40}", fullmatch=True))
def test_a_checksum_changes_nothing_but_the_case(address: str) -> None:
    found = eip55.checksummed(address)
    assert found.lower() == address.lower()
    assert eip55.checksummed(found) == found
    assert not eip55.wrong(found)
