"""Starts and stops one after another: what each of them costs, and what a clean stop is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hosts import IDENTITY, KEY, SECONDS, SLOTS, CutError, Host, World
from validator_supervisor import backup, contents, handover, orders, state, web3signer
from validator_supervisor.contents import Remote
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.orders import Orders
from validator_supervisor.store import ARCHIVE
from validator_supervisor.validators import Keys


@pytest.fixture
def world() -> Iterator[World]:
    made = World(2)
    yield made
    made.close()


@pytest.fixture
def one(world: World) -> Host:
    return world.hosts[0]


def epochs(world: World, number: int) -> None:
    for _ in range(number * SLOTS):
        world.slot()


def started(world: World, one: Host) -> Host:
    """Return a host that has signed for a while."""
    world.start(one)
    epochs(world, 3)
    assert world.attestations
    return one


def row(one: Host) -> str:
    return handover.read(one.runtime)[0].row


def mark(one: Host) -> dict[str, int]:
    found = json.loads(one.log.read_text())[KEY]
    assert isinstance(found, dict)
    return found


def reboot(world: World, one: Host, *, tail: bool = False) -> None:
    world.power_cut(one, tail=tail)


def test_a_clean_stop_and_a_reboot_cost_nothing(world: World, one: Host) -> None:
    started(world, one)
    world.stop(one)
    assert world.store(one).running() == ""
    before = mark(one)
    reboot(world, one)
    world.start(one)
    assert row(one) == "continue"
    assert mark(one) == before


def test_a_power_cut_costs_one_lift_however_often_it_is_started(world: World, one: Host) -> None:
    started(world, one)
    reboot(world, one, tail=True)
    world.start(one)
    lifted = mark(one)
    for _ in range(3):
        world.export(one)
        world.now += 5 * SLOTS * SECONDS
        world.start(one)
        assert mark(one) == lifted
    # Also where the state itself is started again, hours later, after a stop that was not clean.
    epochs(world, 4)
    (one.runtime / handover.FILE).unlink()
    world.stop(one)
    before = mark(one)
    world.start(one)
    assert (row(one), mark(one)) == ("power-cut", before)


def test_a_stop_before_the_lift_of_a_power_cut_is_not_clean(world: World, one: Host) -> None:
    started(world, one)
    one.synced = one.log.read_text()
    epochs(world, 2)
    last = mark(one)
    reboot(world, one, tail=True)
    with world.at(one), pytest.raises(CutError):
        # Keys are handed over, and the client is never prepared: no beacon node is healthy.
        world.command = stopped  # type: ignore[method-assign]
        world.patches.setattr("validator_supervisor.run.run", stopped)
        world.start(one)
    world.patches.setattr("validator_supervisor.run.run", World.command.__get__(world))
    one.given = True
    world.stop(one)
    assert world.store(one).running()
    world.start(one)
    assert row(one) == "power-cut"
    assert mark(one)["target"] >= last["target"]
    epochs(world, 3)


def stopped(*_: object, **__: object) -> None:
    raise CutError


def test_an_export_of_before_the_start_is_not_clean(world: World, one: Host) -> None:
    started(world, one)
    # The export after the exit never runs: its unit's time was up.
    one.running = False
    one.exports = False
    with world.at(one):
        # state.stop alone, as world.stop would ask the client.
        said = state.stop(world.job(one), one.runtime, 5)
    assert said.startswith("final backup (not clean)")
    assert world.store(one).running()
    made = backup.newest(world.store(one), IDENTITY)
    assert made
    assert not made.manifest.clean
    assert made.manifest.remarks == ("the client has not exported what it has signed at last",)


def test_a_stop_without_what_was_handed_over_is_not_clean(world: World, one: Host) -> None:
    started(world, one)
    (one.runtime / handover.FILE).unlink()
    world.stop(one)
    assert world.store(one).running()


def test_a_first_stop_that_is_not_clean_makes_its_archive(world: World, one: Host) -> None:
    started(world, one)
    one.exports = False
    world.stop(one)
    found = backup.newest(world.store(one), IDENTITY)
    assert found
    assert not found.manifest.clean
    assert backup.last_clean(world.store(one)) == ""


def test_a_newer_mark_of_ours_hides_nobody(world: World) -> None:
    one, other = world.hosts
    started(world, one)
    reboot(world, one)
    take_over(world, other)
    other.running = False
    # A start that was cut off, or a stop after a halt, has left a claim that is newer.
    with world.at(one):
        backup.claim(world.store(one), "main", IDENTITY, int(world.now) + 1000)
    for _ in range(2):
        with pytest.raises(SupervisorError, match="has run it since") as caught:
            world.start(one)
        assert (caught.value.code, caught.value.exit_status) == ("Moved", HALT)
    take_over(world, one)
    assert row(one) == "restore"


def take_over(world: World, one: Host, **given: object) -> None:
    with world.at(one):
        shown = world.newest_of_others(one)
        order = Orders.of(one.boot_id, take_over=True, sequence=shown, **given)
        orders.give(world.store(one), order)
    world.start(one)


def test_a_take_over_holds_for_what_was_shown(world: World) -> None:
    one, other = world.hosts
    started(world, one)
    with world.at(other):
        shown = world.newest_of_others(other)
        order = Orders.of(other.boot_id, take_over=True, sequence=shown)
        orders.give(world.store(other), order)
    with world.at(one):
        backup.claim(world.store(one), "main", IDENTITY, int(world.now))
        backup.upload(world.store(one), world.nodes, 5)
    with pytest.raises(SupervisorError, match="has run it since"):
        world.start(other)


def test_an_order_counts_once(world: World) -> None:
    one, other = world.hosts
    started(world, one)
    reboot(world, one)
    world.cut_in = 8
    with pytest.raises(CutError):
        take_over(world, other)
    with world.at(other):
        assert orders.look(world.store(other), other.boot_id) is None


def test_an_order_that_comes_meanwhile_is_kept(
    world: World, one: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.at(one):
        given = Orders.of(one.boot_id, no_watch=True)
        monkeypatch.setattr(state, "ordered", lambda _store: Orders.of(one.boot_id))
        orders.give(world.store(one), given)
        with pytest.raises(SupervisorError) as caught:
            state.start(world.job(one), one.runtime)
        assert (caught.value.code, caught.value.exit_status) == ("OrdersChanged", TEMPORARY)
        assert orders.look(world.store(one), one.boot_id) == given


@pytest.mark.parametrize("cut", range(14))
def test_a_full_disk_at_each_write_of_a_start(world: World, one: Host, cut: int) -> None:
    started(world, one)
    world.stop(one)
    one.log.unlink()
    written = list(mark_files(one))

    def full() -> None:
        world.cut_in = cut

    full()
    try:
        world.start(one)
    except CutError:
        one.given = one.running = False
    world.cut_in = None
    assert set(written) <= set(mark_files(one))
    if not one.running:
        world.start(one)
    epochs(world, 5)
    assert mark(one)["slot"] > 0


def mark_files(one: Host) -> Iterator[Path]:
    yield from (one.disk / "state/main/archives").glob("main.*")


def test_what_was_handed_over_by_halves_is_replaced(world: World, one: Host) -> None:
    world.start(one)
    given, keys = handover.read(one.runtime)
    handover.write(one.runtime, given, {"0x" + "cd" * 48: keys[KEY]})
    assert handover.read(one.runtime)[1].keys() == {"0x" + "cd" * 48}


def test_a_start_that_nobody_wants_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    wanted = iter((True, True, False))
    monkeypatch.setattr("time.sleep", lambda _: None)

    def away() -> str:
        raise SupervisorError("NodesUnseen", "away", exit_status=TEMPORARY)

    with pytest.raises(SupervisorError, match="while it waited") as caught:
        state.wait(away, said.append, 2, lambda: next(wanted))
    assert caught.value.exit_status == TEMPORARY
    assert said == ["away", "away"]
    # Its keys would be in memory for nobody.
    with pytest.raises(SupervisorError, match="while it waited"):
        state.wait(lambda: "handed over", said.append, 2, lambda: False)
    assert state.wait(lambda: "handed over", said.append, 2) == "handed over"


def moved(world: World, one: Host) -> None:
    with pytest.raises(SupervisorError, match="has run it since") as caught:
        world.start(one)
    assert (caught.value.code, caught.value.exit_status) == ("Moved", HALT)


def test_what_a_node_has_shown_counts_while_it_is_away(world: World) -> None:
    one, other = world.hosts
    started(world, one)
    reboot(world, one)
    take_over(world, other)
    epochs(world, 3)
    moved(world, one)
    for node in world.nodes:
        node.away = True
    moved(world, one)


def test_what_comes_during_a_take_over_is_not_accepted_by_it(world: World) -> None:
    one, other = world.hosts
    started(world, one)

    def claims() -> None:
        with world.at(one):
            store = world.store(one)
            backup.claim(store, "main", IDENTITY, int(world.now) + 5)
            backup.upload(store, world.nodes, 5)

    world.meanwhile = claims
    with pytest.raises(SupervisorError, match="starts it at the same time"):
        take_over(world, other)
    # Now it is known, and only another take-over goes on after it.
    moved(world, other)
    reboot(world, one)
    take_over(world, other)
    assert row(other) == "restore"


def test_a_damaged_archive_is_mended_before_anything_is_added(world: World, one: Host) -> None:
    started(world, one)
    world.stop(one)
    before = backup.newest(world.store(one), IDENTITY)
    assert before
    for item in world.store(one).items()[:2]:
        (world.store(one).archives / item.name).write_bytes(b"damaged")
    world.start(one)
    after = backup.newest(world.store(one), IDENTITY)
    assert after == before
    for node in world.nodes:
        node.away = True
    one.log.unlink()
    world.stop(one)
    last = backup.newest(world.store(one), IDENTITY)
    assert last
    assert last.protection == before.protection


OTHER = "0x" + "cd" * 48


class Signer:
    """A Web3Signer: the keys that it lists, or None while it is away."""

    def __init__(self, world: World) -> None:
        self.there: tuple[str, ...] | None = (KEY, OTHER)
        world.validator = replace(world.validator, keys=Keys(web3signer="https://s"))
        world.patches.setattr(web3signer, "listed", self.listed)
        one = world.hosts[0]
        with world.at(one):
            raw = contents.seal(
                IDENTITY, validator="main", network="dev", host=one.id, boot=one.boot_id,
                sequence=2, created=int(world.now), clean=False,
                keys={KEY: Remote(), OTHER: Remote()}, removed_keys={}, protection=None,
            )  # fmt: skip
            world.store(one).add(raw, ARCHIVE, 2)

    def listed(self, keys: Keys) -> tuple[str, ...]:
        if self.there is None:
            raise SupervisorError("NoSigner", keys.web3signer, exit_status=TEMPORARY)
        return self.there


@pytest.fixture
def signer(world: World) -> Signer:
    return Signer(world)


def handed(one: Host) -> set[str]:
    return set(handover.read(one.runtime)[1])


def test_keys_of_a_web3signer_are_handed_over_by_name(
    world: World, one: Host, signer: Signer
) -> None:
    del signer
    started(world, one)
    assert handover.read(one.runtime)[1] == {KEY: Remote(), OTHER: Remote()}
    world.stop(one)
    assert backup.last_clean(world.store(one))
    world.start(one)
    assert row(one) == "continue"
    found = backup.newest(world.store(one), IDENTITY)
    assert found
    assert found.keys == {KEY: Remote(), OTHER: Remote()}


def test_a_key_that_the_signer_has_lost_is_lifted_and_watched_when_it_is_back(
    world: World, one: Host, signer: Signer
) -> None:
    started(world, one)
    world.stop(one)
    signer.there = (KEY,)
    for _ in range(2):
        # The others go on, and pay nothing for it.
        world.start(one)
        assert (row(one), handed(one)) == ("continue", {KEY})
        assert world.store(one).imported() == {OTHER}
        world.stop(one)
    signer.there = (KEY, OTHER)
    world.start(one)
    assert (row(one), handed(one)) == ("restore", {KEY, OTHER})
    assert world.store(one).imported() == set()


def test_a_key_that_the_configuration_leaves_out_does_not_sign(
    world: World, one: Host, signer: Signer
) -> None:
    signer.there = (KEY, OTHER)
    keys = Keys(web3signer="https://s", public_keys=(OTHER,))
    world.validator = replace(world.validator, keys=keys)
    world.start(one)
    assert handed(one) == {OTHER}


def test_a_signer_that_is_away_changes_nothing(world: World, one: Host, signer: Signer) -> None:
    for there in (None, ()):
        signer.there = there
        with pytest.raises(SupervisorError) as caught:
            world.start(one)
        assert (caught.value.code, caught.value.exit_status) == ("NoSigner", TEMPORARY)
        assert world.store(one).running() == ""
        assert not (one.runtime / handover.FILE).exists()


def test_another_host_halts_whether_or_not_the_signer_is_there(
    world: World, one: Host, signer: Signer
) -> None:
    started(world, one)
    signer.there = None
    with pytest.raises(SupervisorError) as caught:
        world.start(world.hosts[1])
    assert (caught.value.code, caught.value.exit_status) == ("Moved", HALT)


def test_a_configuration_that_has_them_elsewhere_is_refused(
    world: World, one: Host, signer: Signer
) -> None:
    del signer
    world.validator = replace(world.validator, keys="local")
    with pytest.raises(SupervisorError, match="a Web3Signer has 2 keys of main") as caught:
        world.start(one)
    assert caught.value.code == "OtherKeys"
