"""All keys from one host to another by one file: never on two, and never without what they signed.

The hosts of ``World`` have one identity; in common they have its nodes, or none.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from tests.unit import hosts
from tests.unit.hosts import CHAIN, IDENTITY, KEY, KEYSTORE, SLOTS, CutError, Host, Node, World
from validator_supervisor import (
    backup,
    contents,
    halt,
    handover,
    imports,
    interchange,
    keystore,
    orders,
    retirement,
    slashing,
    state,
    transfer,
)
from validator_supervisor.cli import adopt_job, import_job, orders_job, remove_job, retire_job
from validator_supervisor.cli.remove_job import Job
from validator_supervisor.contents import Contents, Key, Remote
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.imports import Given, Imported
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.keystore_crypto import Pbkdf2
from validator_supervisor.networks import Chain
from validator_supervisor.store import ARCHIVE, Item
from validator_supervisor.transfer import Request

CODE = b"abcd-efgh-ijkm-npqr-stuv-2345"
QUICK = Pbkdf2(b"\x01" * 32, 1)
GIVEN = [
    Given("k", keystore.encrypt(n.to_bytes(32, "big"), b"password", kdf=QUICK), b"password")
    for n in (12, 13)
]
(OTHER, THIRD) = imports.opened(GIVEN)
ROOT = bytes.fromhex(hosts.ROOT.removeprefix("0x"))
KEYS = {KEY: Key(KEYSTORE, b"pw"), OTHER: Key(GIVEN[0].keystore, b"password")}
MORE = {THIRD: Key(GIVEN[1].keystore, b"password")}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return three hosts; the first has signed for a while, and was stopped well."""
    # The work of opening a file is not what is tested here.
    seal = transfer.seal
    monkeypatch.setattr(transfer, "seal", partial(seal, work_factor=1))
    made = World(3)
    archived(made, made.hosts[0], KEYS)
    signed(made, made.hosts[0])
    made.here = made.hosts[0]
    yield made
    made.close()


@pytest.fixture
def one(world: World) -> Host:
    return world.hosts[0]


@pytest.fixture
def two(world: World) -> Host:
    return world.hosts[1]


def archived(world: World, at: Host, keys: dict[str, Key], *, clean: bool = False) -> None:
    """Have a host have keys, in an archive that is newer than all it has."""
    with world.at(at):
        store = world.store(at)
        sequence = backup.next_sequence(store, int(world.now))
        raw = contents.seal(
            IDENTITY, validator="main", network="dev", host=at.id, boot=at.boot_id, keys=keys,
            sequence=sequence, created=int(world.now), clean=clean, removed_keys={},
            protection=Interchange(ROOT, {KEY: History()}),
        )  # fmt: skip
        store.add_boot(at.boot_id)
        store.add(raw, ARCHIVE, sequence)


def signed(world: World, at: Host) -> None:
    """Start a host, have it sign for ten epochs after its lift, and stop it well."""
    world.start(at)
    before = len(world.blocks)
    for _ in range(12 * SLOTS):
        world.slot()
    assert len(world.blocks) > before
    world.stop(at)


def job(world: World, at: Host, *, shared: bool = True, down: bool = True) -> Job:
    nodes = world.nodes if shared else []
    return Job(world.applied, world.validator, world.store(at), IDENTITY, nodes, lambda: down)


def retired(world: World, at: Host, *, shared: bool = True) -> bytes:
    with world.at(at):
        retire_job.mark(job(world, at, shared=shared), int(world.now))
        return retire_job.seal(job(world, at, shared=shared), CODE)


def adopted(
    world: World, at: Host, raw: bytes, *, shared: bool = True, returned: bool = False
) -> Imported:
    with world.at(at):
        request = Request(CODE, raw, returned)
        return adopt_job.adopt(job(world, at, shared=shared), request, CHAIN)


def refused(world: World, at: Host, raw: bytes, **named: bool) -> SupervisorError:
    """Return why it is not adopted; nothing has changed."""
    before = state_of(world, at)
    with pytest.raises(SupervisorError) as found:
        adopted(world, at, raw, **named)
    assert state_of(world, at) == before
    return found.value


def state_of(world: World, at: Host) -> dict[str, bytes]:
    root = world.store(at).directory
    files = [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): path.read_bytes() for path in files}


def newest(world: World, at: Host) -> Contents:
    found = backup.newest(world.store(at), IDENTITY)
    assert found
    return found


def no_start(world: World, at: Host, code: str) -> None:
    with pytest.raises(SupervisorError) as found:
        world.start(at)
    assert (found.value.code, found.value.exit_status) == (code, HALT)
    assert not at.given


def take_over(world: World, at: Host) -> None:
    with world.at(at):
        sequence = max(item.sequence for item in world.store(at).items())
        orders.give(world.store(at), orders.Orders.of(at.boot_id, take_over=True,
                                                      sequence=sequence))  # fmt: skip


def above(world: World, found: Interchange) -> None:
    """Assert that nothing which KEY has signed may be signed after a document."""
    mark = slashing.watermark(found.keys[KEY])
    assert mark.slot is not None
    assert mark.source is not None
    assert mark.target is not None
    assert mark.slot >= max(world.blocks)
    assert mark.source >= max(source for source, _ in world.attestations.values())
    assert mark.target >= max(world.attestations)


def test_the_file_has_everything_and_no_start_goes_on(world: World, one: Host) -> None:
    raw = retired(world, one)
    found = transfer.unseal(raw, CODE)
    assert set(found.contents.keys) == {KEY, OTHER}
    assert set(found.protection.keys) == {KEY, OTHER}
    above(world, found.protection)
    assert found.retired.host == one.id
    assert found.retired.time == int(world.now)
    store = world.store(one)
    assert found.retired.sequence == max(item.sequence for item in store.items())
    no_start(world, one, "Retired")
    world.power_cut(one, tail=True)
    no_start(world, one, "Retired")
    assert store.running() == ""


def test_what_was_not_stopped_well_is_not_retired(world: World, one: Host) -> None:
    world.start(one)
    for down in (False, True):
        with pytest.raises(SupervisorError, match="not stopped") as found:
            retire_job.mark(job(world, one, down=down), 1)
        assert found.value.code == "NotStopped"
    one.exports = False
    world.slot()
    world.stop(one)
    with pytest.raises(SupervisorError, match="not stopped well"):
        retire_job.mark(job(world, one), 1)
    assert world.store(one).retired() == 0
    # And it may start as before.
    one.exports = True
    world.start(one)


def test_without_its_word_there_is_no_file(world: World, one: Host) -> None:
    with pytest.raises(SupervisorError, match="may start here") as found:
        retire_job.seal(job(world, one), CODE)
    assert found.value.code == "NotRetired"


def test_an_archive_that_never_ran_or_does_not_open_is_none(world: World, one: Host) -> None:
    item = world.store(one).items()[0]
    newest_age = next(i for i in world.store(one).items() if i.kind == ARCHIVE)
    path = world.store(one).archives / newest_age.name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(SupervisorError, match="does not open") as found:
        retire_job.mark(job(world, one, shared=False), 1)
    assert found.value.code == "NotClean"
    path.unlink()
    # What is next is older than what a node has.
    with pytest.raises(SupervisorError, match=f"{newest_age.name} on honest, hostile is newer"):
        retire_job.mark(job(world, one), 1)
    path.write_bytes(whole)
    retire_job.mark(job(world, one), 1)
    world.store(one).clear_retired()
    archived(world, one, KEYS)
    with pytest.raises(SupervisorError, match="not stopped well"):
        retire_job.mark(job(world, one), 1)
    archived(world, one, {}, clean=True)
    with pytest.raises(SupervisorError, match="no keys"):
        retire_job.mark(job(world, one), 1)
    assert item


def test_none_of_a_host_that_has_nothing_or_another_runs(world: World, two: Host) -> None:
    with world.at(two):
        empty = job(world, two, shared=False)
        for do in (retire_job.look, lambda j: retire_job.mark(j, 1)):
            with pytest.raises(SupervisorError) as found:
                do(empty)
            assert found.value.code == "NoKeys"
        with pytest.raises(SupervisorError) as found:
            retire_job.look(job(world, two))
        assert found.value.code == "Moved"


def test_what_another_host_has_run_since_is_not_retired(world: World, one: Host, two: Host) -> None:
    archived(world, two, KEYS)
    with world.at(two):
        backup.upload(world.store(two), world.nodes, 5)
    for do in (retire_job.look, lambda j: retire_job.mark(j, 1)):
        with pytest.raises(SupervisorError) as found:
            do(job(world, one))
        assert found.value.code == "Moved"
    assert not world.store(one).retired()


def test_again_gives_the_same_with_another_code(world: World, one: Host) -> None:
    first = retired(world, one)
    world.now += 1000
    other = CODE[:-1] + b"6"
    with world.at(one):
        assert retire_job.look(job(world, one))["retired"] == int(world.now) - 1000
        retire_job.mark(job(world, one), int(world.now))
        again = retire_job.seal(job(world, one), other)
    assert transfer.unseal(again, other) == transfer.unseal(first, CODE)


@pytest.mark.parametrize("cut", range(6))
def test_cut_off_anywhere_it_is_retired_or_as_before(world: World, one: Host, cut: int) -> None:
    world.cut_in = cut
    try:
        retired(world, one)
    except CutError:
        pass
    finally:
        world.cut_in = None
    if world.store(one).retired():
        no_start(world, one, "Retired")
    else:
        signed(world, one)
    raw = retired(world, one)
    adopted(world, world.hosts[1], raw, shared=False)


def test_a_start_at_the_same_time_does_not_go_on(world: World, one: Host) -> None:
    real = state.considered

    def meanwhile(*given: object) -> state.Prepared:
        world.patches.setattr(state, "considered", real)
        retire_job.mark(job(world, one), int(world.now))
        return real(*given)  # type: ignore[arg-type]

    def late(*given: object) -> state.Prepared:
        found = real(*given)  # type: ignore[arg-type]
        world.patches.setattr(state, "considered", real)
        retire_job.mark(job(world, one), int(world.now))
        return found

    world.patches.setattr(state, "considered", late)
    with pytest.raises(SupervisorError, match="retired, or adopted, meanwhile") as found:
        world.start(one)
    assert found.value.exit_status == TEMPORARY
    assert world.store(one).running() == ""
    world.store(one).clear_retired()
    world.patches.setattr(state, "considered", meanwhile)
    no_start(world, one, "Retired")


def test_a_word_that_cannot_be_read_is_one(world: World, one: Host) -> None:
    for text in ("", "x", "0", "1 2", "-1"):
        (world.store(one).directory / "retired").write_text(text)
        if text:
            with pytest.raises(SupervisorError) as found:
                world.start(one)
            assert found.value.code == "InvalidState"
    world.store(one).set_retired(7)
    assert world.store(one).retired() == 7


@pytest.mark.parametrize("shared", [True, False])
def test_the_other_host_goes_on(world: World, one: Host, two: Host, *, shared: bool) -> None:
    raw = retired(world, one, shared=shared)
    done = adopted(world, two, raw, shared=shared)
    assert set(done.keys) == {KEY, OTHER}
    found = newest(world, two)
    assert found.manifest.host == two.id
    assert found.manifest.sequence > transfer.unseal(raw, CODE).retired.sequence
    assert found.protection
    above(world, found.protection)
    if not shared:
        # Here there is nothing else to know it from.
        world.nodes[:] = [Node("far")]
    world.now += SLOTS * 2 * 2
    world.start(two)
    given, keys = handover.read(two.runtime)
    assert (given.row, given.other_host) == ("restore", True)
    assert set(keys) == {KEY, OTHER}
    above(world, given.required)
    for _ in range(12 * SLOTS):
        world.slot()
    assert two.signed
    world.stop(two)
    if shared:
        # The first has two reasons; each is enough.
        no_start(world, one, "Retired")
        world.store(one).clear_retired()
        no_start(world, one, "Moved")
    else:
        no_start(world, one, "Retired")


@pytest.mark.parametrize("shared", [True, False])
def test_and_back_by_another_file(world: World, one: Host, two: Host, *, shared: bool) -> None:
    first = retired(world, one, shared=shared)
    adopted(world, two, first, shared=shared)
    far, near = [Node("far")], world.nodes[:]
    if not shared:
        world.nodes[:] = far
    signed(world, two)
    second = retired(world, two)
    world.nodes[:] = near
    done = adopted(world, one, second, shared=shared)
    assert done.remarks == ()
    assert world.store(one).retired() == 0
    signed(world, one)
    # The first file is of before: nobody goes by it any more.
    for at in (one, two):
        if shared or at is one:
            assert refused(world, at, first, shared=shared).code == "Moved"


def test_the_same_host_takes_its_own_back(world: World, one: Host) -> None:
    raw = retired(world, one)
    adopted(world, one, raw)
    assert world.store(one).retired() == 0
    signed(world, one)
    assert refused(world, one, raw).code == "Moved"


def test_a_take_over_is_a_persons_word(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    world.now += 100
    take_over(world, one)
    world.start(one)
    assert handover.read(one.runtime)[0].row == "restore"
    assert world.store(one).retired() == 0
    world.now += 100
    world.slot()
    world.stop(one)
    assert refused(world, two, raw).code == "Moved"


def test_a_third_host_is_refused(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    adopted(world, two, raw)
    with world.at(two):
        backup.upload(world.store(two), world.nodes, 5)
    wrong = refused(world, world.hosts[2], raw)
    assert wrong.code == "Moved"
    assert f"host {two.id}" in wrong.message
    # The second, which has not started yet, may be asked once more.
    adopted(world, two, raw)
    signed(world, two)
    assert refused(world, two, raw).code == "Moved"


def test_a_host_that_the_first_never_knew_is_not_accepted(
    world: World, one: Host, two: Host
) -> None:
    """Two have adopted one file, and only one of them was on the nodes."""
    raw = retired(world, one)
    adopted(world, two, raw)
    with world.at(two):
        backup.upload(world.store(two), world.nodes, 5)
    third, near = world.hosts[2], world.nodes[:]
    adopted(world, third, raw, shared=False)
    world.nodes[:] = [Node("far")]
    world.now += 1000
    signed(world, third)
    later = retired(world, third)
    world.nodes[:] = near
    wrong = refused(world, one, later)
    assert wrong.code == "Moved"
    assert f"host {two.id}" in wrong.message


def test_only_the_keys_of_the_file_come_back(world: World, one: Host, two: Host) -> None:
    adopted(world, two, retired(world, one), shared=False)
    near = world.nodes[:]
    world.nodes[:] = [Node("far")]
    signed(world, two)
    with world.at(two):
        remove_job.remove(job(world, two), (OTHER,), CHAIN)
    back = retired(world, two)
    world.nodes[:] = near
    done = adopted(world, one, back, shared=False)
    assert any(OTHER in line and "not in the file" in line for line in done.remarks)
    found = newest(world, one)
    assert set(found.keys) == {KEY}
    # Its tombstone has come with the file.
    assert set(found.manifest.removed_keys) == {OTHER}


def test_tombstones_hold_unless_the_keys_are_returned(world: World, one: Host, two: Host) -> None:
    archived(world, two, {**MORE, KEY: KEYS[KEY]})
    raw = retired(world, one)
    with world.at(two):
        alone = job(world, two, shared=False)
        remove_job.remove(alone, (KEY,), CHAIN)
    wrong = refused(world, two, raw, shared=False)
    assert wrong.code == "RemovedKey"
    adopted(world, two, raw, shared=False, returned=True)
    found = newest(world, two)
    assert set(found.keys) == {KEY, OTHER, THIRD}
    assert not found.manifest.removed_keys


def test_a_key_that_is_here_already_is_refused(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    world.now += 1000
    # Of before the retirement: it ran here once, and may run here still.
    with world.at(two):
        sealed = contents.seal(
            IDENTITY, validator="main", network="dev", host=two.id, boot=two.boot_id, keys=KEYS,
            sequence=5, created=5, clean=False, removed_keys={}, protection=None,
        )  # fmt: skip
        world.store(two).add_boot(two.boot_id)
        world.store(two).add(sealed, ARCHIVE, 5)
    assert refused(world, two, raw, shared=False).code == "DuplicateKey"
    # Of after it.
    archived(world, two, KEYS)
    assert refused(world, two, raw, shared=False).code == "Moved"


def test_a_key_of_another_validator_is_refused(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    with world.at(two):
        sealed = contents.seal(
            IDENTITY, validator="other", network="dev", host=two.id, boot=two.boot_id, keys=KEYS,
            sequence=5, created=5, clean=False, removed_keys={}, protection=None,
        )  # fmt: skip
    world.nodes[0].files[Item.of(sealed, ARCHIVE, "other", 5).name] = sealed
    wrong = refused(world, two, raw)
    assert wrong.code == "DuplicateKey"
    assert "validator other" in wrong.message


def test_what_does_not_fit_the_validator_is_refused(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    with pytest.raises(SupervisorError) as found, world.at(two):
        elsewhere = replace(job(world, two), validator=replace(world.validator, network="hoodi"))
        adopt_job.adopt(elsewhere, Request(CODE, raw), CHAIN)
    assert found.value.code == "OtherNetwork"
    other = Chain("dev", CHAIN.genesis_time, 2, 4, "0x" + "02" * 32)
    with pytest.raises(SupervisorError) as found, world.at(two):
        adopt_job.adopt(job(world, two), Request(CODE, raw), other)
    assert found.value.code == "OtherChain"
    with pytest.raises(SupervisorError) as found, world.at(two):
        adopt_job.adopt(job(world, two, down=False), Request(CODE, raw), CHAIN)
    assert found.value.code == "NotStopped"
    for node in world.nodes:
        node.away = True
    assert refused(world, two, raw).code == "NodesUnseen"
    assert adopted(world, two, raw, shared=False)


def forged(raw: bytes, **changes: object) -> bytes:
    """Return a file that somebody who knows the code has changed."""
    given = transfer.unseal(raw, CODE)
    found = replace(given.contents, **changes)  # type: ignore[arg-type]
    return transfer.seal(CODE, found, found.protection or given.protection, given.retired)


def test_a_keystore_with_another_key_or_password_is_refused(
    world: World, one: Host, two: Host
) -> None:
    raw = retired(world, one)
    keys = {KEY: KEYS[OTHER], OTHER: KEYS[KEY]}
    swapped = forged(raw, keys={**keys, KEY: MORE[THIRD]})
    assert refused(world, two, swapped).code == "InvalidKeystore"
    wrong = forged(raw, keys={**KEYS, KEY: Key(KEYS[KEY].keystore, b"other")})
    assert refused(world, two, wrong).code == "WrongPassword"
    assert "other" not in refused(world, two, wrong).message


def test_what_is_far_ahead_is_refused(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    far = History(frozenset({(1 << 40, b"")}), frozenset({(1 << 40, 1 << 40, b"")}))
    root = transfer.unseal(raw, CODE).protection.genesis_validators_root
    poisoned = forged(raw, protection=Interchange(root, dict.fromkeys(KEYS, far)))
    assert refused(world, two, poisoned).code == "Ahead"


@pytest.mark.parametrize("cut", range(8))
@pytest.mark.parametrize("back", [False, True])
def test_an_adoption_that_is_cut_off_is_repeated(
    world: World, one: Host, two: Host, cut: int, *, back: bool
) -> None:
    raw, at = retired(world, one), one if back else two
    world.cut_in = cut
    done = False
    try:
        adopted(world, at, raw)
        done = True
    except CutError:
        pass
    finally:
        world.cut_in = None
    store = world.store(at)
    there = {item for item in store.items() if item.kind == ARCHIVE}
    if not done and (store.retired() or not there):
        with pytest.raises(SupervisorError):
            world.start(at)
    adopted(world, at, raw)
    assert not store.retired()
    assert store.imported() == KEYS.keys()
    world.now += 1000
    world.start(at)
    assert handover.read(at.runtime)[0].row == "restore"


def test_a_full_disk_adopts_nothing(
    world: World, one: Host, two: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = retired(world, one)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("validator_supervisor.durable.write", full)
    with pytest.raises(OSError, match="No space"):
        adopted(world, two, raw)
    monkeypatch.undo()
    assert not [item for item in world.store(two).items() if item.kind == ARCHIVE]


def test_nothing_is_imported_into_what_is_retired(world: World, one: Host) -> None:
    retired(world, one)
    request = imports.Request((GIVEN[1],))
    with pytest.raises(SupervisorError) as found:
        import_job.do(world.applied, world.validator, world.store(one), IDENTITY, world.nodes,
                      request, {}, CHAIN)  # fmt: skip
    assert found.value.code == "Retired"
    assert halt.RETIRED_HINT in found.value.hint


def test_other_keys_of_the_host_stay_beside(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    with world.at(two):
        known = interchange.text(
            Interchange(bytes.fromhex(CHAIN.genesis_validators_root[2:]),
                        {THIRD: History(frozenset({(7, b"")}))})
        ).encode()  # fmt: skip
        import_job.do(world.applied, world.validator, world.store(two), IDENTITY, [],
                      imports.Request((GIVEN[1],), known), {}, CHAIN)  # fmt: skip
    done = adopted(world, two, raw, shared=False)
    assert done.remarks == ()
    assert set(newest(world, two).keys) == {KEY, OTHER, THIRD}
    assert world.store(two).imported() == {KEY, OTHER, THIRD}


def test_keys_that_left_come_back_by_no_other_file(world: World, one: Host, two: Host) -> None:
    """Another file is adopted where its own keys have left: an older archive still has those."""
    gone = retired(world, one)
    assert gone
    near, world.nodes[:] = world.nodes[:], []
    archived(world, two, MORE)
    signed(world, two)
    raw = retired(world, two, shared=False)
    world.nodes[:] = near
    world.now += 100
    done = adopted(world, one, raw)
    assert done.keys == (THIRD,)
    assert sum("left with another one" in line for line in done.remarks) == len(KEYS)
    assert set(newest(world, one).manifest.removed_keys) == set(KEYS)
    with world.at(one), pytest.raises(SupervisorError) as found:
        imports.check([KEY], newest(world, one), {}, returned=False)
    assert found.value.code == "RemovedKey"
    # The archive that says so is set aside: what is left lifts, and watches.
    item = next(item for item in world.store(one).items() if item.kind == ARCHIVE)
    with world.at(one):
        orders_job.quarantine(world.store(one), item.name)
    world.start(one)
    given, keys = handover.read(one.runtime)
    assert set(keys) == set(KEYS)
    assert given.row == "restore"


def test_a_file_speaks_for_no_host_that_a_node_has_seen(world: World, one: Host, two: Host) -> None:
    raw = retired(world, one)
    archived(world, two, MORE)
    world.nodes[0].away = True
    assert refused(world, two, raw).code == "NodesUnseen"
    world.nodes[0].away = False
    assert adopted(world, two, raw)


def test_what_cannot_be_kept_has_accepted_nothing(
    world: World, one: Host, two: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = retirement.record
    monkeypatch.setattr(
        retirement, "record", lambda *given: replace(honest(*given), sequence=(1 << 63) - 1)
    )
    raw = retired(world, one)
    assert refused(world, two, raw, shared=False).code == "NoSequence"
    assert world.store(two).accepted() == -1


def test_keys_of_a_web3signer_do_not_retire(world: World, one: Host) -> None:
    with world.at(one):
        store = world.store(one)
        sequence = backup.next_sequence(store, int(world.now))
        raw = contents.seal(
            IDENTITY, validator="main", network="dev", host=one.id, boot=one.boot_id,
            keys={KEY: Remote()}, sequence=sequence, created=int(world.now), clean=True,
            removed_keys={}, protection=Interchange(ROOT, {KEY: History()}),
        )  # fmt: skip
        store.add(raw, ARCHIVE, sequence)
    for act in (retire_job.look, lambda one: retire_job.mark(one, 1)):
        with pytest.raises(SupervisorError, match="a Web3Signer has keys of main"), world.at(one):
            act(job(world, one))
    assert world.store(one).retired() == 0


def test_nothing_is_removed_from_what_is_retired(world: World, one: Host) -> None:
    retired(world, one)
    before = state_of(world, one)
    with world.at(one), pytest.raises(SupervisorError) as found:
        remove_job.remove(job(world, one), (KEY,), CHAIN)
    assert found.value.code == "Retired"
    assert state_of(world, one) == before


def test_a_retirement_during_an_import_ends_it(
    world: World, one: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = import_job.elsewhere

    def elsewhere(*given: object) -> object:
        world.store(one).set_retired(1)
        return looked(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(import_job, "elsewhere", elsewhere)
    before = world.store(one).items()
    with world.at(one), pytest.raises(SupervisorError) as found:
        import_job.do(world.applied, world.validator, world.store(one), IDENTITY, world.nodes,
                      imports.Request((GIVEN[1],)), {}, CHAIN)  # fmt: skip
    assert found.value.code == "Retired"
    assert world.store(one).items() == before
