"""Claims: who runs a validator, and nobody else can say so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import age, claim
from validator_supervisor.claim import Claim
from validator_supervisor.errors import FormatError

IDENTITY, OTHER = age.X25519Identity.generate(), age.X25519Identity.generate()
CLAIM = Claim(1, "main", "1" * 32, "2" * 32, 7, 1_800_000_000)


def test_a_claim_is_what_was_sealed() -> None:
    raw = claim.seal(CLAIM, IDENTITY)
    assert claim.unseal(raw, IDENTITY) == CLAIM
    assert IDENTITY.secret not in raw


def test_only_the_identity_makes_one() -> None:
    with pytest.raises(FormatError, match="not made with this identity"):
        claim.unseal(claim.seal(CLAIM, OTHER), IDENTITY)


@given(st.integers(0, 300), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, flip: int) -> None:
    raw = bytearray(claim.seal(CLAIM, IDENTITY))
    raw[place % (len(raw) - 1)] ^= flip
    with pytest.raises(FormatError):
        claim.unseal(bytes(raw), IDENTITY)


@given(st.binary(max_size=400))
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        claim.unseal(raw, IDENTITY)


def test_a_long_one_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="is no claim"):
        claim.unseal(claim.seal(CLAIM, IDENTITY) + b"\n" * 5000, IDENTITY)


@pytest.mark.parametrize("wrong", [{"version": 2}, {"host": "x"}, {"sequence": -1}, {"time": -1}])
def test_a_genuine_one_that_says_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        claim.unseal(claim.seal(replace(CLAIM, **wrong), IDENTITY), IDENTITY)  # type: ignore[arg-type]
