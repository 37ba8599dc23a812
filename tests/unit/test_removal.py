"""Keys out of a validator: gone for good or still there, and never without what they signed."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.hosts import CHAIN, IDENTITY, KEY, ROOT, SLOTS, CutError, Host, World
from validator_supervisor import (
    backup,
    contents,
    handover,
    imports,
    interchange,
    keystore,
    liveness,
    removal,
    slashing,
    state,
)
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon
from validator_supervisor.cli import import_job, remove_job
from validator_supervisor.cli.remove_job import Job
from validator_supervisor.contents import Contents, Key
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.imports import Given, Request
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.keystore_crypto import Pbkdf2
from validator_supervisor.liveness import Clock
from validator_supervisor.store import ARCHIVE, Item

OTHER = "0x" + "cd" * 48
NEVER = "0x" + "ef" * 48


@pytest.fixture
def world() -> Iterator[World]:
    """Return a host with two keys that has signed for a while and was stopped well."""
    made = World(2)
    one = made.hosts[0]
    with made.at(one):
        store = made.store(one)
        raw = contents.seal(
            IDENTITY, validator="main", network="dev", host=one.id, boot=one.boot_id, sequence=2,
            created=int(made.now), clean=False, removed_keys={}, protection=None,
            keys={KEY: Key(b"{}", b"pw"), OTHER: Key(b"{}", b"pw")},
        )  # fmt: skip
        store.add(raw, ARCHIVE, 2)
    made.start(one)
    for _ in range(12 * SLOTS):
        made.slot()
    made.stop(one)
    made.here = one
    yield made
    made.close()


@pytest.fixture
def one(world: World) -> Host:
    return world.hosts[0]


def job(world: World, one: Host, *, down: bool = True) -> Job:
    return Job(world.applied, world.validator, world.store(one), IDENTITY, world.nodes,
               lambda: down)  # fmt: skip


def newest(world: World, one: Host) -> Contents:
    found = backup.newest(world.store(one), IDENTITY)
    assert found
    return found


def marks(world: World) -> slashing.Watermark:
    """Return what KEY has signed, by the oracle."""
    return slashing.Watermark(
        max(world.blocks),
        max(source for source, _ in world.attestations.values()),
        max(world.attestations),
    )


def remove(world: World, one: Host, *keys: str) -> dict[str, object]:
    return remove_job.remove(job(world, one), keys or (KEY,), CHAIN)


@given(st.lists(st.text(max_size=120) | st.from_regex(r"(0[xX])?[0-9a-fA-F]{96}", fullmatch=True)))
@also(["0x" + "AB" * 48, "ab" * 48, "0X" + "ab" * 48])
@also(["ab " * 32])
@also(["\u0660" * 96])
def test_keys_are_read_strictly_and_each_once(words: list[str]) -> None:
    try:
        found = removal.parse(words)
    except SupervisorError as refused:
        assert refused.code == "InvalidPublicKey"
        assert refused.message.isprintable()
        return
    assert len(set(found)) == len(found) <= len(words)
    assert set(found) == {"0x" + word[-96:].lower() for word in words}


def test_there_is_a_number_of_keys_at_once() -> None:
    with pytest.raises(SupervisorError, match="more than 1000 keys"):
        removal.parse([KEY] * 1001)


def test_the_key_goes_and_what_it_has_signed_stays(world: World, one: Host) -> None:
    before = newest(world, one)
    assert before.manifest.clean
    done = remove(world, one)
    found = newest(world, one)
    assert set(found.keys) == {OTHER}
    assert found.manifest.removed_keys == {KEY: int(world.now)}
    assert found.manifest.clean
    assert found.protection == before.protection
    assert (done["keys"], done["left"], done["remarks"]) == ((KEY,), 1, ())
    assert all(done["archive"] in node.files for node in world.nodes)
    written = interchange.parse(str(done["protection"]).encode()).interchange
    assert set(written.keys) == {KEY}
    assert written.genesis_validators_root.hex() == ROOT.removeprefix("0x")
    mark = slashing.watermark(written.keys[KEY])
    assert (mark.slot, mark.source, mark.target) == tuple(vars(marks(world)).values())
    assert written == slashing.minify(written)


def test_no_start_has_it_any_more(world: World, one: Host) -> None:
    remove(world, one)
    world.start(one)
    given, keys = handover.read(one.runtime)
    assert set(keys) == {OTHER}
    # What it has signed still counts, for the day on which it returns.
    assert KEY in given.required.keys
    assert given.row == "continue"
    world.stop(one)
    world.power_cut(one, tail=True)
    world.nodes[0].files.clear()
    world.start(one)
    assert set(handover.read(one.runtime)[1]) == {OTHER}
    world.stop(one)
    assert newest(world, one).manifest.removed_keys


def test_again_makes_nothing_and_says_the_same(world: World, one: Host) -> None:
    first = remove(world, one)
    items = world.store(one).items()
    world.now += 100
    # While it runs without them, too.
    again = remove_job.remove(job(world, one, down=False), (KEY,), CHAIN)
    assert again == first
    assert world.store(one).items() == items
    with pytest.raises(SupervisorError) as refused:
        remove_job.remove(job(world, one, down=False), (KEY, OTHER), CHAIN)
    assert refused.value.code == "NotStopped"
    both = remove(world, one, KEY, OTHER)
    assert both["left"] == 0
    removed = newest(world, one).manifest.removed_keys
    assert removed == {KEY: int(world.now) - 100, OTHER: int(world.now)}
    assert both["remarks"] == ()


def test_nothing_is_removed_while_it_may_sign(world: World, one: Host) -> None:
    before = world.store(one).items()
    with pytest.raises(SupervisorError) as refused:
        remove_job.remove(job(world, one, down=False), (KEY,), CHAIN)
    assert refused.value.code == "NotStopped"
    world.store(one).set_running(one.boot_id)
    with pytest.raises(SupervisorError, match="was not stopped well") as refused:
        remove(world, one)
    assert refused.value.code == "NotStopped"
    assert world.store(one).items() == before


def test_a_final_backup_that_lacks_something_is_no_stop(world: World, one: Host) -> None:
    world.start(one)
    for _ in range(2 * SLOTS):
        world.slot()
    one.exports = False
    world.stop(one)
    with pytest.raises(SupervisorError, match="was not stopped well"):
        remove(world, one)


@pytest.mark.parametrize(
    ("key", "hint"),
    [(NEVER, "status --json"), (KEY[:-1] + "c", f"did you mean {KEY}?"),
     (OTHER[:9] + "7" + OTHER[10:], f"did you mean {OTHER}?")],
)  # fmt: skip
def test_a_key_that_it_never_had(world: World, one: Host, key: str, hint: str) -> None:
    before = world.store(one).items()
    for do in (remove_job.look, remove_job.remove):
        with pytest.raises(SupervisorError) as refused:
            do(job(world, one), (KEY, key))
        assert refused.value.code == "UnknownKey"
        assert hint in refused.value.hint
    assert world.store(one).items() == before


def test_what_is_shown_before(world: World, one: Host) -> None:
    world.nodes[0].away = True
    assert remove_job.look(job(world, one), (KEY,)) == {
        "present": (KEY,), "removed": (), "left": 1, "unseen": {"honest": "away"},
    }  # fmt: skip
    done = remove(world, one)
    assert done["remarks"] == ("it is not on honest yet: away",)
    shown = remove_job.look(job(world, one), (OTHER, KEY))
    assert (shown["present"], shown["removed"], shown["left"]) == ((OTHER,), (KEY,), 0)


def test_what_another_host_runs_loses_no_keys_here(world: World, one: Host) -> None:
    raw = contents.seal(
        IDENTITY, validator="main", network="dev", host="7" * 32, boot="8" * 32, clean=True,
        sequence=1 << 40, created=int(world.now), keys={KEY: Key(b"{}", b"pw")}, removed_keys={},
        protection=None,
    )  # fmt: skip
    item = Item.of(raw, ARCHIVE, "main", 1 << 40)
    world.nodes[0].files[item.name] = raw
    with pytest.raises(SupervisorError, match="host 7777") as refused:
        remove(world, one)
    assert refused.value.code == "Moved"
    assert not newest(world, one).manifest.removed_keys


def test_without_an_archive_here_the_nodes_are_needed(world: World, one: Host) -> None:
    store = world.store(one)
    for item in store.items():
        (store.archives / item.name).unlink()
    world.nodes[0].away = True
    world.nodes[1].files.clear()
    with pytest.raises(SupervisorError) as refused:
        remove(world, one)
    assert (refused.value.code, refused.value.exit_status) == ("NodesUnseen", TEMPORARY)
    world.nodes[0].away = False
    remove(world, one)
    assert set(newest(world, one).keys) == {OTHER}
    world.nodes[0].files.clear()
    for item in store.items():
        (store.archives / item.name).unlink()
    world.nodes[1].files.clear()
    with pytest.raises(SupervisorError) as refused:
        remove(world, one)
    assert refused.value.code == "NoKeys"


@pytest.mark.parametrize("cut", range(8))
def test_cut_off_it_is_there_or_gone_and_its_history_stays(
    world: World, one: Host, cut: int
) -> None:
    mark = tuple(vars(marks(world)).values())
    world.cut_in = cut
    try:
        remove(world, one)
        assert world.cut_in is not None, "it has more steps than are cut here"
        world.cut_in = None
    except CutError:
        world.power_cut(one, tail=False)
    found = newest(world, one)
    assert (KEY in found.keys) != (KEY in found.manifest.removed_keys)
    assert OTHER in found.keys
    assert found.protection
    kept = slashing.watermark(found.protection.keys[KEY])
    assert (kept.slot, kept.source, kept.target) == mark
    # A start goes by it, and the same command goes on.
    world.start(one)
    assert set(handover.read(one.runtime)[1]) == set(found.keys)
    world.stop(one)
    done = remove(world, one)
    assert set(newest(world, one).keys) == {OTHER}
    written = interchange.parse(str(done["protection"]).encode()).interchange
    assert slashing.compare(Interchange(written.genesis_validators_root, {
        KEY: found.protection.keys[KEY]}), written) == ()  # fmt: skip


def test_nothing_on_a_node_is_newer(world: World, one: Host) -> None:
    raw = contents.seal(
        IDENTITY, validator="main", network="dev", host=one.id, boot=one.boot_id, clean=True,
        sequence=1 << 40, created=int(world.now), keys={KEY: Key(b"{}", b"pw")}, removed_keys={},
        protection=newest(world, one).protection,
    )  # fmt: skip
    item = Item.of(raw, ARCHIVE, "main", 1 << 40)
    world.nodes[0].files[item.name] = raw
    assert remove(world, one)["left"] == 0
    assert newest(world, one).manifest.sequence == (1 << 40) + 1
    assert newest(world, one).manifest.removed_keys


def test_its_boot_is_known_before_the_archive(world: World, one: Host) -> None:
    world.power_cut(one, tail=False)
    assert one.boot_id not in world.store(one).boots()
    remove(world, one)
    # Else the next start would take it for that of a copy of this host.
    assert one.boot_id in world.store(one).boots()
    world.power_cut(one, tail=False)
    world.start(one)


def test_a_start_at_the_same_time_does_not_hand_it_over(world: World, one: Host) -> None:
    real = state.considered

    def meanwhile(*given: object) -> state.Prepared:
        world.patches.setattr(state, "considered", real)
        remove(world, one)
        return real(*given)  # type: ignore[arg-type]

    world.patches.setattr(state, "considered", meanwhile)
    with pytest.raises(SupervisorError) as refused:
        world.start(one)
    assert (refused.value.code, refused.value.exit_status) == ("ArchivesChanged", TEMPORARY)
    assert not one.given
    assert world.store(one).running() == ""
    world.start(one)
    assert set(handover.read(one.runtime)[1]) == {OTHER}


def test_a_full_disk_changes_nothing(
    world: World, one: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = newest(world, one)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("validator_supervisor.durable.write", full)
    with pytest.raises(OSError, match="No space"):
        remove(world, one)
    monkeypatch.undo()
    assert newest(world, one) == before


def test_returned_it_is_imported_with_what_it_had_signed(world: World, one: Host) -> None:
    stored = keystore.encrypt(b"\x01" * 32, b"password", kdf=Pbkdf2(b"\x01" * 32, 1))
    (key,) = imports.opened([Given("k", stored, b"password")])
    store = world.store(one)
    known = Interchange(bytes.fromhex(ROOT[2:]), {key: History(frozenset({(7, b"")}))})
    request = Request((Given("k", stored, b"password"),), interchange.text(known).encode())

    def imported(request: Request) -> None:
        import_job.do(
            world.applied, world.validator, store, IDENTITY, world.nodes, request, {}, CHAIN
        )

    imported(request)
    remove(world, one, key)
    with pytest.raises(SupervisorError) as refused:
        imported(replace(request, protection=None))
    assert refused.value.code == "RemovedKey"
    imported(replace(request, protection=None, returned=True))
    found = newest(world, one)
    assert key in found.keys
    assert not found.manifest.removed_keys
    assert found.protection
    assert found.protection.keys[key] == History(frozenset({(7, b"")}))
    assert key in store.imported()


def test_of_archives_without_a_chain_the_nodes_say_it(world: World, one: Host) -> None:
    bare = replace(newest(world, one), protection=None)
    found, remarks = removal.protection([KEY], [bare], CHAIN)
    assert found.keys == {KEY: History()}
    assert len(remarks) == 1
    with pytest.raises(SupervisorError) as refused:
        removal.protection([KEY], [bare], None)
    assert refused.value.code == "NoChain"


@pytest.mark.parametrize("live", [False, True])
def test_the_watch(example: Applied, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    asked: list[object] = []

    def watched(beacons: list[Beacon], *given: object) -> None:
        asked.extend([*beacons, *given])
        if live:
            raise SupervisorError("Doppelganger", "somebody", exit_status=HALT)

    monkeypatch.setattr(liveness, "watch", watched)
    monkeypatch.setattr("validator_supervisor.chain.chain_of", lambda *_: CHAIN)
    monkeypatch.setattr(Applied, "load", lambda: example)
    status = remove_job.main(["watch", "main", KEY])
    assert status == (HALT if live else 0)
    *beacons, known, keys, clock, _ = asked
    assert beacons
    assert (known, keys) == (CHAIN, (KEY,))
    assert isinstance(clock, Clock)
    # It ends with whoever waits.
    reading, writing = os.pipe()
    with open(reading) as stream:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", stream)
        began = time.monotonic()
        clock.sleep(0.05)
        assert time.monotonic() - began >= 0.04
        os.close(writing)
        with pytest.raises(SupervisorError, match="nobody waits"):
            clock.sleep(100)


def test_hostile_words_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert remove_job.main(["remove", "main", "\x1b[2J\n0x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert err.count("\n") <= 2
