"""Marks: which are ours, and whose is the newest that no person has accepted."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from validator_supervisor import age, chain, gather, host, marks
from validator_supervisor.claim import Claim
from validator_supervisor.marks import Mark, Own
from validator_supervisor.store import CLAIM, Item, Store

US, THEM = "a" * 32, "b" * 32
NOW, BEFORE, NEVER = "1" * 32, "2" * 32, "3" * 32
OWN = Own(US, NOW, frozenset({NOW, BEFORE}))
IDENTITY = age.X25519Identity.generate()


def found(*every: tuple[int, str, str, int]) -> gather.Found:
    """Claims: sequence, host, boot and time."""
    return gather.Found(claims=tuple(
        gather.Seen(Item(number, "main", f"{number:032x}", CLAIM),
                    Claim(1, "main", by, boot, number, when), ("one",))
        for number, by, boot, when in every))  # fmt: skip


@pytest.mark.parametrize(
    ("one", "is_foreign"),
    [
        ((99, US, NOW, 50), False),
        ((19, US, BEFORE, 50), False),
        ((99, US, BEFORE, 50), True),  # a copy of our disk: that boot is over
        ((9, US, NEVER, 50), False),  # a clone that has given up
        ((10, US, NEVER, 50), True),
        ((9, THEM, NOW, 50), False),  # from where it was moved
        ((10, THEM, NOW, 50), True),
    ],
)
def test_a_claim_is_foreign_when_it_is_not_ours_and_not_accepted(
    one: tuple[int, str, str, int], is_foreign: bool
) -> None:
    own = replace(OWN, accepted=9)
    theirs = marks.foreign(own, found(one, (20, US, NOW, 60)))
    assert (theirs.sequence if theirs else 0) == (one[0] if is_foreign else 0)


def test_the_newest_of_others_is_named() -> None:
    theirs = marks.foreign(OWN, found((11, THEM, NOW, 1), (12, THEM, NOW, 2), (13, US, NOW, 3)))
    assert theirs == Mark(12, THEM, NOW, 2, f"main.12.{12:032x}.claim", ("one",))


def test_an_earlier_boot_that_goes_on_is_a_clone_of_this_disk() -> None:
    over = [(10, US, BEFORE, 100), (11, US, NOW, 200)]
    assert marks.foreign(OWN, found(*over)) is None
    again = marks.foreign(OWN, found(*over, (12, US, BEFORE, 210)))
    assert again
    assert (again.host, again.sequence) == (US, 12)


def test_a_first_start_in_a_boot_tells_a_clone_by_a_clock_that_is_right() -> None:
    alive = found((10, US, BEFORE, 1000))
    assert marks.foreign(OWN, alive) is None
    assert marks.foreign(replace(OWN, began=1000 - marks.CLOCKS_SECONDS), alive) is None
    assert marks.foreign(replace(OWN, began=999 - marks.CLOCKS_SECONDS), alive)


def test_ours_is_known_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("main", tmp_path)
    store.directory.mkdir()
    store.add_boot(BEFORE)
    store.accept(7)
    monkeypatch.setattr(host, "boot_age", lambda: 30)
    monkeypatch.setattr(time, "time", lambda: 1030.5)
    monkeypatch.setattr(chain, "SYNCHRONISED", tmp_path / "none")
    own = Own.of(store)
    assert (own.boots, own.accepted, own.began) == (frozenset({BEFORE}), 7, 0)
    monkeypatch.setattr(chain, "SYNCHRONISED", tmp_path)
    assert Own.of(store).began == 1000


def test_what_a_node_has_shown_is_kept(tmp_path: Path) -> None:
    store = Store("main", tmp_path)
    store.directory.mkdir()
    theirs = marks.foreign(OWN, found((12, THEM, NOW, 2)))
    assert theirs
    marks.remember(store, IDENTITY, theirs)
    marks.remember(store, IDENTITY, theirs)
    assert len(store.items()) == 1
    again = marks.foreign(OWN, gather.gather(store, [], IDENTITY))
    assert again == replace(theirs, name=store.items()[0].name, where=(gather.HERE,))
