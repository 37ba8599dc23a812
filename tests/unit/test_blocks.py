from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.age.blocks import AT_ONCE, Blocks, cut, ending

PIECES = st.lists(st.binary(max_size=12))


@given(PIECES, st.integers(1, 7))
def test_cut_keeps_every_byte(blocks: list[bytes], size: int) -> None:
    pieces = list(cut(blocks, size))
    assert b"".join(pieces) == b"".join(blocks)
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


def test_a_block_of_the_size_is_not_copied() -> None:
    block = bytes(1000)
    (piece,) = cut([block], 1000)
    assert piece is block


def test_pieces_are_of_bytes_and_do_not_change_afterwards() -> None:
    block = bytearray(b"abcd")
    # A caller may well reuse a buffer, whatever the types say.
    pieces = cut(cast("list[bytes]", [block, block]), 4)
    first = next(pieces)
    block[:] = b"efgh"
    assert [first, *pieces] == [b"abcd", b"efgh"]


def test_the_last_is_marked() -> None:
    assert list(ending(iter([]))) == [(b"", True)]
    assert list(ending(iter([b"a"]))) == [(b"a", True)]
    assert list(ending(iter([b"a", b"b"]))) == [(b"a", False), (b"b", True)]


@given(PIECES, st.integers(1, 9), st.integers(0, 9))
def test_lines_then_lengths_then_the_rest(blocks: list[bytes], limit: int, size: int) -> None:
    whole = b"".join(blocks)
    source = Blocks(blocks)
    assert source.peek(size) == whole[:size]
    line = source.line(limit)
    assert line == whole[: len(line)]
    assert b"\n" not in line[:-1]
    assert len(line) <= limit
    assert line.endswith(b"\n") or len(line) == min(limit, len(whole))
    taken = source.take(size)
    assert taken == whole[len(line) : len(line) + size]
    assert b"".join(source.rest()) == whole[len(line) + len(taken) :]
    assert source.take(size) == b""


def test_a_large_block_is_not_copied_whole() -> None:
    source = Blocks([bytes(3 * AT_ONCE + 1)])
    assert source.take(5) == bytes(5)
    assert [len(block) for block in source.rest()] == [AT_ONCE - 5, AT_ONCE, AT_ONCE, 1]
