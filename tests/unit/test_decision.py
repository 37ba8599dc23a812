"""The table of what makes a start safe, row by row."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import decision, marks
from validator_supervisor.claim import Claim
from validator_supervisor.contents import AnyKey, Contents, Key
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE, Decision, Situation
from validator_supervisor.errors import HALT, REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.gather import Archive, Found, Refused, Seen
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.lift import Moment
from validator_supervisor.manifest import Manifest
from validator_supervisor.store import ARCHIVE, CLAIM, Item

KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
ROOT = b"\1" * 32
US, THEM, BOOT, LATER = "a" * 32, "b" * 32, "1" * 32, "2" * 32
NOW = Moment(8000, 8)
HERE = Situation(US, LATER, frozenset({BOOT, LATER}), "", True, False, ROOT)


def marked(slot: int = 7990, source: int = 997, target: int = 998) -> History:
    return History(frozenset({(slot, b"")}), frozenset({(source, target, b"")}))


def archive(
    sequence: int = 10,
    host: str = US,
    boot: str = BOOT,
    keys: tuple[str, ...] = (KEY,),
    protection: Interchange | None = None,
    digest: str = "0",
) -> Archive:
    manifest = Manifest(1, "main", "ethereum", "dev", host, boot, sequence, 0, False, keys, {}, {})
    known = protection or Interchange(ROOT, {KEY: marked()})
    item = Item(sequence, "main", digest * 32, ARCHIVE)
    held: dict[str, AnyKey] = {key: Key(b"", b"") for key in keys}
    return Archive(item, Contents(manifest, known, held), b"", ("this host",))


def claimed(sequence: int, host: str = THEM, boot: str = BOOT) -> Seen:
    item = Item(sequence, "main", "0" * 32, CLAIM)
    return Seen(item, Claim(1, "main", host, boot, sequence, 0), ("helsinki",))


def found(*archives: Archive, claims: tuple[Seen, ...] = (), **changed: object) -> Found:
    values: dict[str, object] = {"seen": ("helsinki",), **changed}
    return Found(archives, claims, **values)  # type: ignore[arg-type]


def decided(situation: Situation, what: Found) -> Decision:
    return decision.decide(situation, what, NOW)


def refused(situation: Situation, what: Found) -> SupervisorError:
    with pytest.raises(SupervisorError) as caught:
        decided(situation, what)
    return caught.value


@pytest.mark.parametrize(
    ("changed", "row", "elsewhere"),
    [
        ({}, CONTINUE, False),
        ({"running": LATER}, CONTINUE, False),
        ({"running": BOOT}, POWER_CUT, False),
        ({"running": BOOT, "durable": True}, CONTINUE, False),
        ({"database": False}, RESTORE, False),
        ({"database": False, "running": BOOT}, RESTORE, False),
        ({"take_over": 0}, RESTORE, True),
        ({"take_over": 99, "running": BOOT, "database": False}, RESTORE, True),
    ],
)
def test_rows(changed: dict[str, object], row: str, elsewhere: bool) -> None:
    made = decided(replace(HERE, **changed), found(archive()))  # type: ignore[arg-type]
    assert (made.row, made.other_host) == (row, elsewhere)


@pytest.mark.parametrize(
    ("sequence", "host", "boot", "accepted", "moved"),
    [
        (9, THEM, BOOT, -1, True),  # ours is newer, and proves nothing
        (10, THEM, BOOT, -1, True),
        (11, THEM, BOOT, -1, True),
        (11, US, "9" * 32, -1, True),  # a clone
        (11, US, BOOT, -1, False),
        (11, US, LATER, -1, False),
        (9, THEM, BOOT, 9, False),
        (9, THEM, BOOT, 8, True),
        (11, THEM, BOOT, 20, True),  # it is newer than all of ours, whatever was accepted
        ((1 << 63) - 1, THEM, BOOT, 20, True),
    ],
)
@pytest.mark.parametrize("kind", [ARCHIVE, CLAIM])
def test_who_has_run_it(
    sequence: int, host: str, boot: str, accepted: int, moved: bool, kind: str
) -> None:
    mine, theirs = archive(), archive(sequence, host, boot, digest="1")
    every = found(*sorted((mine, theirs), key=lambda one: -one.item.sequence))
    if kind == CLAIM:
        every = found(mine, claims=(claimed(sequence, host, boot),))
    situation = replace(HERE, accepted=accepted)
    if not moved:
        assert decided(situation, every).row == CONTINUE
        return
    failure = refused(situation, every)
    assert (failure.code, failure.exit_status) == ("Moved", HALT)
    # A take-over is bound to what was shown.
    assert decided(replace(situation, take_over=sequence), every).row == RESTORE
    assert refused(replace(situation, take_over=sequence - 1), every).code == "Moved"


def test_the_message_names_who_and_where() -> None:
    assert f"host {THEM} has run it since" in str(
        refused(HERE, found(archive(), claims=(claimed(11),)))
    )
    clone = claimed(11, US, "9" * 32)
    assert "a copy of this host" in str(refused(HERE, found(archive(), claims=(clone,))))
    assert "on helsinki" in str(refused(HERE, found(archive(), claims=(clone,))))


def test_a_replayed_old_archive_lowers_nothing() -> None:
    old = archive(5, protection=Interchange(ROOT, {KEY: marked(1, 1, 2)}))
    made = decided(HERE, found(archive(), old))
    assert made.floor == Interchange(ROOT, {KEY: marked()})
    assert made.newest.manifest.sequence == 10


def test_the_floor_is_the_highest_of_everything_and_has_every_key() -> None:
    high = archive(5, protection=Interchange(ROOT, {KEY: marked(7999, 1, 2), OTHER: marked()}))
    new = "0x" + "ef" * 48
    made = decided(HERE, found(archive(keys=(KEY, new)), high))
    assert made.floor.keys == {KEY: marked(7999), OTHER: marked(), new: History()}
    # Of a new key nobody knows what was signed elsewhere.
    assert made.other_host


@pytest.mark.parametrize(
    ("situation", "what", "code", "status"),
    [
        (HERE, found(), "LostHistory", HALT),
        (replace(HERE, database=False), found(), "LostHistory", HALT),
        (replace(HERE, boots=frozenset()), found(), "LostHistory", HALT),
        (replace(HERE, boots=frozenset(), database=False), found(), "NoKeys", REFUSED),
        (HERE, found(unseen={"n": "away"}), "NodesUnseen", TEMPORARY),
        (replace(HERE, require_nodes=2), found(archive()), "NodesUnseen", TEMPORARY),
        (
            replace(HERE, database=False),
            found(archive(), unseen={"n": "away"}),
            "NodesUnseen",
            TEMPORARY,
        ),
        (replace(HERE, root=b"\2" * 32), found(archive()), "OtherChain", HALT),
        (
            HERE,
            found(archive(), archive(5, protection=Interchange(ROOT, {KEY: marked(1, 1, 1003)}))),
            "Ahead",
            HALT,
        ),
    ],
)
def test_refusals(situation: Situation, what: Found, code: str, status: int) -> None:
    failure = refused(situation, what)
    assert (failure.code, failure.exit_status) == (code, status)


def test_an_intact_database_waits_for_nobody() -> None:
    away = found(archive(), unseen={"n": "away"}, seen=())
    assert decided(HERE, away).row == CONTINUE
    assert decided(replace(HERE, running=BOOT), away).row == POWER_CUT
    assert decided(replace(HERE, database=False, take_over=0), away).row == RESTORE


def test_without_an_archive_the_reasons_are_told() -> None:
    bad = Refused("this host", "main.9.x.age", "is damaged")
    assert "main.9.x.age on this host is damaged" in str(refused(HERE, found(refused=(bad,))))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 12), st.sampled_from([US, THEM]), st.sampled_from([BOOT, "9" * 32])
        ),
        max_size=5,
    ),
    st.integers(-1, 12),
)
def test_nothing_foreign_that_is_not_accepted_passes(
    claims: list[tuple[int, str, str]], accepted: int
) -> None:
    every = found(archive(), claims=tuple(claimed(*one) for one in claims))
    theirs = [n for n, host, boot in claims if host != US or boot != BOOT]
    found_foreign = marks.foreign(replace(HERE, accepted=accepted).own, every)
    if any(number > accepted for number in theirs):
        assert found_foreign
        assert found_foreign.sequence == max(theirs)
