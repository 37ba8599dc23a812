"""Another database takes the place of one: crashes anywhere, and clients that do it badly."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.hosts import KEY, CutError, World
from validator_supervisor import durable, interchange, preparation, run, slashing
from validator_supervisor.chain import Time
from validator_supervisor.database import PENDING, Database, readable
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import SupervisorError
from validator_supervisor.handover import Handover
from validator_supervisor.interchange import Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.preparation import CHANGE
from validator_supervisor.slashing import Watermark

CHAIN = Chain("dev", 1_700_000_000, 12, 32, "0x" + "01" * 32)
OLD = json.dumps({KEY: {"slot": 50, "source": 5, "target": 6}})


@pytest.fixture
def world() -> Iterator[World]:
    made = World(1)
    yield made
    made.close()


@pytest.fixture
def database(world: World) -> Database:
    return world.database(world.hosts[0])


def marks(slot: int, source: int, target: int) -> Interchange:
    return Interchange(b"\1" * 32, {KEY: slashing.minified(Watermark(slot, source, target))})


WANTED = marks(60, 7, 8)


def aside(database: Database) -> Path:
    return database.path.with_name("validator-db.before")


def test_what_it_says_is_asked_once_for_each_state(world: World, database: Database) -> None:
    assert readable(database) == (None, "there is no database")
    database.path.write_text(OLD)
    assert database.read() == marks(50, 5, 6)
    world.hosts[0].exports = False
    assert database.read() == marks(50, 5, 6)
    database.path.write_text(OLD + " ")
    os.utime(database.path, (1, 1))
    said, problem = readable(database)
    assert (said, problem) == (None, "the database cannot be read: the client says no")
    # Nothing of before is left to be taken for it.
    assert not (world.hosts[0].data / "export/slashing-protection.json").exists()


def test_a_client_that_runs_makes_the_export_stale(world: World, database: Database) -> None:
    stale = world.hosts[0].data / "export/stale"
    database.path.write_text(OLD)
    database.read()
    for change in (OLD, OLD + " "):
        database.begin()
        assert stale.exists()
        database.path.write_text(change)
        database.read()
        assert not stale.exists()


def test_it_is_moved_aside_and_the_new_one_compared(world: World, database: Database) -> None:
    aside(database).write_text("of long ago")
    database.path.write_text(OLD)
    database.replace(WANTED)
    assert database.read() == WANTED
    assert aside(database).read_text() == OLD
    assert database.pending() is None
    assert (world.hosts[0].data / "export/slashing-protection.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", ["", "of long ago"])
@pytest.mark.parametrize("cut", range(14))
def test_a_crash_anywhere_loses_neither(
    world: World, database: Database, cut: int, before: str
) -> None:
    if before:
        aside(database).write_text(before)
    database.path.write_text(OLD)
    for again in (cut, cut // 2, None):
        world.cut_in = again
        try:
            database.replace(WANTED)
            break
        except CutError:
            # It is whole, here or beside; and what is to be imported is known once it has gone.
            kept = [path for path in (database.path, aside(database)) if path.exists()]
            assert OLD in [path.read_text() for path in kept]
            if not database.path.exists() or database.path.read_text() != OLD:
                assert database.pending() == WANTED or database.read() == WANTED
            if database.pending() is None and database.path.read_text() != OLD:
                break  # it was done
    world.cut_in = None
    assert database.read() == WANTED
    assert database.pending() is None


def test_what_was_imported_is_on_the_disk_before_it_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may not have synced it."""
    pending: list[Interchange | None] = []
    monkeypatch.setattr(durable, "sync_tree", lambda _: pending.append(database.pending()))
    database.replace(WANTED)
    assert pending == [WANTED]


@pytest.mark.parametrize("habit", ["nothing", "lower", "other key"])
def test_an_import_that_does_not_do_it_fails(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch, habit: str
) -> None:
    def command(argv: list[str], **named: object) -> None:
        if "import" not in argv:
            world.command(argv, **named)
        elif habit == "nothing":
            database.path.write_text("{}")
        elif habit == "lower":
            database.path.write_text(OLD)
        else:
            database.path.write_text(OLD.replace("ab", "cd"))

    database.path.write_text(OLD)
    with monkeypatch.context() as patched:
        patched.setattr(run, "run", command)
        for _ in range(2):
            with pytest.raises(SupervisorError) as caught:
                database.replace(WANTED)
            assert caught.value.code == "ImportFailed"
            assert aside(database).read_text() == OLD
            assert database.pending() == WANTED
    database.replace(WANTED)
    assert database.read() == WANTED
    assert aside(database).read_text() == OLD


def test_what_is_pending_and_damaged_is_said(world: World, database: Database) -> None:
    (world.hosts[0].data / PENDING).write_text("{")
    with pytest.raises(SupervisorError):
        database.pending()
    (world.hosts[0].data / PENDING).write_text(interchange.text(WANTED))
    assert database.pending() == WANTED


@pytest.fixture
def other(world: World, database: Database) -> Path:
    """The database of another client, which has exported OLD at its end."""
    database.path.write_text(OLD)
    database.read()
    database.path.unlink()
    path = world.hosts[0].data / "lighthouse"
    path.mkdir()
    return path


def test_a_client_inherits_what_another_has_exported(
    world: World, database: Database, other: Path
) -> None:
    assert database.read() is None
    assert database.inherited() == marks(50, 5, 6)
    stale = world.hosts[0].data / "export/stale"
    stale.touch()
    assert database.inherited() is None  # it may have signed more
    stale.unlink()
    database.path.write_text(OLD)
    assert database.inherited() is None  # it is not new here
    database.path.unlink()
    other.rmdir()
    assert database.inherited() is None  # this is a loss
    assert database.read() is None
    assert not (world.hosts[0].data / "export/slashing-protection.json").exists()


@pytest.mark.parametrize("cut", range(20))
def test_a_crash_in_a_change_of_client_loses_nothing(
    world: World, database: Database, other: Path, cut: int
) -> None:
    wanted = database.inherited()
    assert wanted
    for again in (cut, cut // 2, None):
        world.cut_in = again
        try:
            database.replace(wanted)
            break
        except CutError:
            if not other.exists() and database.pending() is None:
                break  # it was done
            assert (database.pending() or database.inherited()) == wanted
    world.cut_in = None
    assert database.read() == wanted
    # Who comes back later begins anew.
    assert not other.exists()
    assert other.with_name("lighthouse.before").is_dir()
    assert database.pending() is None


def given(row: str, known: Interchange) -> Handover:
    return Handover(row, other_host=False, floor=known, required=known, chain=CHAIN, earliest=0)


@pytest.mark.parametrize("row", [CONTINUE, POWER_CUT, RESTORE])
def test_only_what_has_stopped_well_is_inherited_without_a_lift(
    world: World, database: Database, other: Path, row: str
) -> None:
    del other
    asked: list[str] = []

    def now() -> Time:
        asked.append("the time")
        return Time(CHAIN.genesis_time + 7 * 384)

    known = marks(40, 4, 5)
    handover = given(row, known)
    planned = preparation.look(handover, database, now)
    assert planned.wanted
    assert not slashing.compare(marks(50, 5, 6), planned.wanted)
    assert (planned.row, planned.wanted, asked) == (CHANGE, marks(50, 5, 6), [])
    # More is known than it has exported: what was in between is not.
    handover = given(row, marks(60, 7, 8))
    assert preparation.look(handover, database, now).row == RESTORE
    (world.hosts[0].data / "export/stale").touch()
    handover = given(row, known)
    assert preparation.look(handover, database, now).row == RESTORE
