import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import History, Interchange, text
from validator_supervisor.lift import Moment, ahead, lift, moment
from validator_supervisor.slashing import (
    Difference,
    Watermark,
    check_attestation,
    check_block,
    compare,
    merge,
    minify,
    watermark,
)

KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
ROOT = b"\x05" * 32
NUMBER = st.integers(0, 40)
SIGNING_ROOT = st.sampled_from([b"", b"\x07" * 32])
HISTORY = st.builds(
    History,
    st.frozensets(st.tuples(NUMBER, SIGNING_ROOT), max_size=4),
    st.frozensets(st.tuples(NUMBER, NUMBER, SIGNING_ROOT), max_size=4),
)
INTERCHANGE = st.builds(
    Interchange, st.just(ROOT), st.dictionaries(st.sampled_from([KEY, OTHER]), HISTORY)
)
NOW = st.builds(Moment, st.integers(0, 40 * 32), st.sampled_from([1, 8, 32]))


def signed(
    *votes: tuple[int, int], slots: tuple[int, ...] = (), key: str = KEY, root: bytes = b""
) -> Interchange:
    blocks = frozenset((slot, root) for slot in slots)
    return Interchange(
        ROOT, {key: History(blocks, frozenset((source, to, root) for source, to in votes))}
    )


@given(INTERCHANGE, INTERCHANGE, INTERCHANGE)
def test_merging_has_no_order(a: Interchange, b: Interchange, c: Interchange) -> None:
    assert text(merge(a, a)) == text(merge(a)) == text(a)
    assert text(merge(a, b)) == text(merge(b, a))
    assert text(merge(merge(a, b), c)) == text(merge(a, merge(b, c))) == text(merge(a, b, c))


@given(INTERCHANGE, INTERCHANGE)
def test_minifying_may_come_first(a: Interchange, b: Interchange) -> None:
    expected = text(minify(merge(a, b)))
    assert text(minify(merge(minify(a), minify(b)))) == expected
    assert text(minify(minify(merge(a, b)))) == expected


@given(INTERCHANGE, INTERCHANGE)
def test_merging_lowers_nothing(a: Interchange, b: Interchange) -> None:
    for result in (merge(a, b), minify(merge(a, b))):
        assert compare(a, result) == compare(b, result) == ()
        for key, history in result.keys.items():
            marks = [watermark(one.keys.get(key, History())) for one in (a, b)]
            for field in ("slot", "source", "target"):
                numbers = [getattr(mark, field) for mark in marks]
                known = [number for number in numbers if number is not None]
                assert getattr(watermark(history), field) == max(known, default=None)


@given(INTERCHANGE, NUMBER, NUMBER)
def test_at_or_below_a_watermark_nothing_is_signed(a: Interchange, one: int, two: int) -> None:
    for key, history in minify(a).keys.items():
        mark = watermark(history)
        refused = mark.slot is not None and one <= mark.slot
        assert bool(check_block(minify(a), key, one)) == refused
        # Complete documents refuse at least what conditions 1 to 5 say of each entry.
        assert bool(check_block(a, key, one)) >= (one in {s for s, _ in a.keys[key].blocks})
        refused = one > two
        if mark.source is not None and mark.target is not None:
            refused |= one < mark.source or two <= mark.target
        assert bool(check_attestation(minify(a), key, one, two)) == refused


def test_minified_takes_source_and_target_independently() -> None:
    (history,) = minify(signed((1, 9), (5, 6), slots=(3, 7), root=b"\x07" * 32)).keys.values()
    assert history == History(frozenset({(7, b"")}), frozenset({(5, 9, b"")}))
    (history,) = minify(signed((5, 2))).keys.values()
    assert history == History(frozenset(), frozenset({(5, 2, b"")}))
    assert minify(signed()).keys == {KEY: History()}


def test_chains_are_not_mixed() -> None:
    elsewhere = Interchange(b"\x06" * 32, {})
    for mixed in (merge, compare):
        with pytest.raises(SupervisorError) as caught:
            mixed(signed(), elsewhere)
        assert caught.value.code == "OtherChain"


def test_compare_names_what_is_below() -> None:
    old = signed((3, 5), slots=(9,))
    assert compare(old, signed((3, 5), slots=(9,))) == ()
    assert compare(old, signed((4, 6), slots=(10,))) == ()
    assert compare(old, signed((2, 6), slots=(10,))) == (Difference(KEY, "source_epoch", 3, 2),)
    assert compare(old, signed((4, 4), slots=(10,))) == (Difference(KEY, "target_epoch", 5, 4),)
    assert compare(old, signed((4, 6), slots=(8,))) == (Difference(KEY, "slot", 9, 8),)
    assert compare(old, signed((4, 6))) == (Difference(KEY, "slot", 9, None),)
    assert compare(old, signed((4, 6), key=OTHER)) == (Difference(KEY, "pubkey"),)
    assert compare(signed(), signed(key=OTHER)) == (Difference(KEY, "pubkey"),)


@pytest.mark.parametrize(
    ("slot", "word"), [(0, "not above"), (3, "has been"), (4, ""), (7, "has been"), (8, "")]
)
def test_blocks(slot: int, word: str) -> None:
    reason = check_block(signed(slots=(3, 7), root=b"\x07" * 32), KEY, slot)
    assert word in reason
    assert bool(reason) == bool(word)


@pytest.mark.parametrize(
    ("source", "target", "word"),
    [
        (9, 8, "above target"), (2, 12, "surrounds the signed 3 → 4"), (7, 11, ""),
        (5, 9, "same target"), (6, 10, "same target"), (7, 8, "is surrounded"),
        (1, 4, "surrounds"), (1, 2, "below 2"), (2, 2, "not above 3"), (3, 5, ""),
        (10, 11, ""), (5, 11, "surrounds the signed 6 → 10"), (6, 11, ""), (11, 11, ""),
    ],
)  # fmt: skip
def test_attestations(source: int, target: int, word: str) -> None:
    history = signed((2, 3), (3, 4), (4, 9), (6, 10))
    reason = check_attestation(history, KEY, source, target)
    assert word in reason
    assert bool(reason) == bool(word), reason
    assert check_attestation(history, OTHER, source, target) == (
        reason if "above t" in reason else ""
    )


def test_a_moment() -> None:
    assert moment(1000, 12, 32, 1000) == Moment(0, 32)
    assert moment(1000, 12, 32, 1000 + 12 * 31 + 11).epoch == 0
    assert moment(1000, 12, 32, 1000 + 12 * 32).epoch == 1
    for words in ((1000, 12, 32, 999), (0, 0, 32, 5), (0, 12, 0, 5), (0, 1, 1, 2**64)):
        with pytest.raises(SupervisorError):
            moment(*words)


@pytest.mark.parametrize(
    ("slot", "other", "mark"),
    [
        (0, False, (1, 0, 0)), (0, True, (32, 0, 1)), (31, False, (32, 0, 0)),
        (32, False, (33, 0, 1)), (32, True, (64, 1, 2)), (643, False, (644, 19, 20)),
        (643, True, (675, 20, 21)),
    ],
)  # fmt: skip
def test_what_a_lift_lifts_to(slot: int, other: bool, mark: tuple[int, int, int]) -> None:
    lifted = lift(signed(), Moment(slot, 32), other_host=other)
    assert watermark(lifted.keys[KEY]) == Watermark(*mark)


def test_a_person_may_lift_to_another_source() -> None:
    for source in (0, 7, 20):
        lifted = lift(signed(), Moment(640, 32), source=source)
        assert watermark(lifted.keys[KEY]) == Watermark(641, source, 20)


def test_a_lift_writes_nothing_that_is_not_read_again() -> None:
    last = 2**64 - 2
    now = moment(0, 1, 1, last - 32)
    assert watermark(lift(signed(), now, other_host=True).keys[KEY]).slot == last
    with pytest.raises(SupervisorError, match="above what a document can hold"):
        moment(0, 1, 1, last - 31)


@given(INTERCHANGE, NOW, st.booleans(), st.none() | NUMBER)
def test_a_lift_lowers_nothing(
    a: Interchange, now: Moment, other: bool, source: int | None
) -> None:
    if ahead(a, now) or (source or 0) > now.epoch:
        with pytest.raises(SupervisorError):
            lift(a, now, source=source, other_host=other)
        return
    lifted = lift(a, now, source=source, other_host=other)
    assert compare(a, lifted) == ()
    assert lifted.keys.keys() == a.keys.keys()
    # It can be lifted again at once, and merging what was there changes nothing.
    assert lift(lifted, now, source=source, other_host=other) == lifted
    assert minify(merge(lifted, a)) == lifted
    for key in lifted.keys:
        assert check_block(lifted, key, now.slot + 1)
        for target in (now.epoch, max(now.epoch - 1, 0)):
            assert check_attestation(lifted, key, target, target)
        mark = watermark(lifted.keys[key])
        assert mark.slot is not None
        assert mark.source is not None
        assert mark.target is not None
        assert mark.source >= (max(now.epoch - 1 + other, 0) if source is None else source)
        assert mark.target >= now.epoch + other
        assert not check_block(lifted, key, mark.slot + 1)


@pytest.mark.parametrize(
    ("mark", "fields"),
    [
        ((640 + 64, 22, 22), []), ((640 + 65, 22, 22), ["slot"]), ((0, 23, 22), ["source_epoch"]),
        ((0, 22, 23), ["target_epoch"]),
        ((2**64 - 2,) * 3, ["slot", "source_epoch", "target_epoch"]),
    ],
)  # fmt: skip
def test_what_is_ahead(mark: tuple[int, int, int], fields: list[str]) -> None:
    slot, source, target = mark
    poisoned = signed((source, target), slots=(slot,))
    assert [found.field for found in ahead(poisoned, Moment(640, 32))] == fields
    if fields:
        with pytest.raises(SupervisorError, match=f"{KEY}: {fields[0]}"):
            lift(poisoned, Moment(640, 32))


def test_an_epoch_may_be_short() -> None:
    now = Moment(800, 8)
    lifted = lift(signed(), now, other_host=True)
    assert ahead(lifted, now) == ()
    assert ahead(signed(slots=(833,)), now) == (Difference(KEY, "slot", 800, 833),)
