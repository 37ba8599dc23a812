import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import bech32
from validator_supervisor.errors import FormatError

# BIP 173, "Test vectors".
VALID = [
    "A12UEL5L",
    "a12uel5l",
    "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
    "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
    "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
    "?1ezyfcl",
]
INVALID = [
    "\x201nwldj5",
    "\x7f1axkwrx",
    "\x801eym55h",
    "pzry9x0s0muk",
    "1pzry9x0s0muk",
    "x1b4n0q5v",
    "li1dgmt3",
    "de1lg7wt\xff",
    "A1G7SGD8",
    "10a06t8",
    "1qzzfhee",
    "A12uEL5L",
    "",
    "1",
    "a1",
]


@pytest.mark.parametrize("text", VALID)
def test_valid(text: str) -> None:
    prefix, data = bech32.decode(text)
    assert prefix == text.rpartition("1")[0]
    assert bech32.encode(prefix, data) == text


def test_data() -> None:
    text = "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"
    assert bech32.decode(text)[1].hex() == "00443214c74254b635cf84653a56d7c675be77df"


@pytest.mark.parametrize("text", INVALID)
def test_invalid(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        bech32.decode(text)
    assert caught.value.code == "InvalidBech32"


def checked(words: list[int]) -> str:
    """Return the text of groups of five bits that need not be whole bytes."""
    return "a1" + "".join(bech32.ALPHABET[word] for word in [*words, *bech32._checksum("a", words)])


@pytest.mark.parametrize("words", [[0], [0, 1], [31, 31], [0, 0, 0], [0] * 6, [0, 0, 0, 1]])
def test_what_is_left_over_is_short_and_zero(words: list[int]) -> None:
    with pytest.raises(FormatError, match="whole number"):
        bech32.decode(checked(words))


def test_left_over_zeros() -> None:
    assert bech32.decode(checked([0, 0])) == ("a", b"\0")
    assert bech32.decode(checked([31, 28])) == ("a", b"\xff")


@given(st.binary(max_size=100), st.sampled_from(["age", "AGE-SECRET-KEY-", "a1b"]))
def test_round_trip(data: bytes, prefix: str) -> None:
    assert bech32.decode(bech32.encode(prefix, data)) == (prefix, data)


@given(st.binary(min_size=1, max_size=32), st.data())
def test_a_mistyped_letter_is_noticed(data: bytes, choice: st.DataObject) -> None:
    text = bech32.encode("age", data)
    at = choice.draw(st.integers(4, len(text) - 1))
    other = choice.draw(st.sampled_from(bech32.ALPHABET.replace(text[at], "")))
    with pytest.raises(FormatError):
        bech32.decode(text[:at] + other + text[at + 1 :])


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        prefix, data = bech32.decode(text)
    except FormatError as wrong:
        assert not text or len(text) < 4 or text not in str(wrong)
    else:
        assert bech32.encode(prefix, data) == text
