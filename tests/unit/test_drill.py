"""validator-drill.service: what proves that a node's archive can be restored."""

from pathlib import Path

import pytest

from tests.unit.places import Unchanged as Place
from validator_supervisor import age, contents, copies, drill
from validator_supervisor.applied import Applied
from validator_supervisor.contents import Key
from validator_supervisor.copies import Restore
from validator_supervisor.store import ARCHIVE, Item, Store

IDENTITY = age.X25519Identity.generate()
KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
NOW = 1_800_000_000


def sealed(sequence: int, *keys: str, identity: age.X25519Identity = IDENTITY) -> bytes:
    return contents.seal(
        identity, validator="main", network="dev", host="1" * 32, boot="2" * 32, sequence=sequence,
        created=NOW - 50, clean=True, keys={key: Key(b"{}", b"pw") for key in keys},
        removed_keys={}, protection=None,
    )  # fmt: skip


def named(raw: bytes, sequence: int) -> str:
    return Item.of(raw, ARCHIVE, "main", sequence).name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    made = Store("main", tmp_path)
    made.add(sealed(5, KEY), ARCHIVE, 5)
    return made


def prove(example: Applied, store: Store, *places: Place, now: int = NOW) -> dict[str, Restore]:
    drill.run(example, places, IDENTITY, now, store.directory.parent)
    return copies.read("main", store.directory.parent).restores


def test_an_archive_that_restores_is_proven(example: Applied, store: Store) -> None:
    raw, old = sealed(7, KEY, OTHER), sealed(6)
    there = Place(files={named(raw, 7): raw, named(old, 6): old, "x": b""})
    assert prove(example, store, there) == {"helsinki": Restore(NOW, 7, NOW - 50)}
    assert [item.sequence for item in store.items()] == [5]


def test_what_does_not_restore_is_told_and_the_last_proof_is_kept(
    example: Applied, store: Store
) -> None:
    raw = sealed(7, KEY)
    there = Place(files={named(raw, 7): raw})
    prove(example, store, there)
    stranger = sealed(9, KEY, identity=age.X25519Identity.generate())
    for files, problem, why in (
        ({}, "", "there is no archive of main"),
        ({named(raw, 8): raw}, "", "its name says 8, and it says 7"),
        ({named(raw, 8): raw[:-1]}, "", "is not what its name says"),
        ({named(raw, 8): b""}, "", "is not what its name says"),
        ({named(stranger, 9): stranger}, "", "none of the keys opens"),
        ({named(b"x", 9): b"x"}, "", "the header is cut short"),
        ({named(sealed(9), 9): sealed(9)}, "", "is not what its name says"),
        ({}, "no route", "no route"),
    ):
        found = prove(example, store, Place(files=files, problem=problem), now=NOW + 9)
        assert found["helsinki"].time == NOW
        assert why in found["helsinki"].problem


def test_an_archive_without_our_keys_is_no_proof(example: Applied, store: Store) -> None:
    raw = sealed(7, OTHER)
    found = prove(example, store, Place(files={named(raw, 7): raw}))
    assert found["helsinki"] == Restore(problem=f"its newest archive lacks 1 of our keys, {KEY} "
                                        "among them")  # fmt: skip


def test_an_older_archive_than_was_given_is_no_proof(example: Applied, store: Store) -> None:
    old, raw = sealed(3, KEY), sealed(7, KEY)
    store.add(raw, ARCHIVE, 7)
    there = Place(files={named(old, 3): old})
    # What never was there is another problem, which the upload has.
    copies.change(store, lambda known: known.uploaded({"helsinki": ""}, NOW - 51))
    assert prove(example, store, there)["helsinki"] == Restore(NOW, 3, NOW - 50)
    copies.change(store, lambda known: known.uploaded({"helsinki": ""}, NOW - 50))
    found = prove(example, store, there, now=NOW + 9)["helsinki"]
    assert (found.time, found.problem) == (
        NOW, "its newest archive is 3, and it was given 7"
    )  # fmt: skip
    there.files[named(raw, 7)] = raw
    assert prove(example, store, there)["helsinki"] == Restore(NOW, 7, NOW - 50)


def test_each_node_is_proven_by_itself(
    example: Applied, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = sealed(7, KEY)
    good, bad = Place("good", {named(raw, 7): raw}), Place("bad")
    found = prove(example, store, good, bad)
    assert (found["good"].time, found["bad"].time) == (NOW, 0)
    said = capsys.readouterr().err
    assert "main: good: archive 7 of 2027-01-15 07:59:10 UTC can be restored" in said
    assert "main: a restore from bad is not proven: there is no archive of main" in said
    # It takes no backups any more.
    assert list(prove(example, store, good)) == ["good"]


def test_a_validator_that_never_ran_is_left_out(example: Applied, tmp_path: Path) -> None:
    assert drill.run(example, [Place()], IDENTITY, NOW, tmp_path) == []
