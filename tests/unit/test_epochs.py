"""What the watch asks in each epoch: which keys are slashed, and what a restart would miss."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.rounds import (
    EPOCH,
    HELSINKI,
    KEYS,
    LIVENESS,
    LOCAL,
    SLOT,
    Chains,
    Clock,
    Fake,
    Look,
    Pass,
)
from validator_supervisor.errors import SupervisorError
from validator_supervisor.watch import HEALTHY_SECONDS

pytest_plugins = ("tests.unit.rounds",)
# Seconds of an epoch: a round in each.
EPOCH_SECONDS = 32 * 12


def test_every_healthy_node_is_asked_for_slashed_keys_once_in_an_epoch(
    look: Look, pass_by: Pass, world: Chains
) -> None:
    look()
    look()
    # At once, the first time.
    assert sorted(world.questions("slashed")) == sorted([(HELSINKI, KEYS), (LOCAL, KEYS)])
    pass_by(3 * EPOCH_SECONDS)
    for url in (HELSINKI, LOCAL):
        assert [asked for asked, _ in world.questions("slashed")].count(url) == 4


def test_a_node_that_has_failed_is_asked_again_soon(
    pass_by: Pass, world: Chains, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answer = Fake.slashed

    def fail(beacon: Fake, keys: Sequence[str]) -> dict[str, bool]:
        answer(beacon, keys)
        raise SupervisorError("BeaconFailed", "HTTP status 500")

    monkeypatch.setattr(Fake, "slashed", fail)
    pass_by(2 * LIVENESS + HEALTHY_SECONDS)
    assert [asked for asked, _ in world.questions("slashed")].count(LOCAL) == 3
    said = capsys.readouterr().err
    assert said.count(f"slashing of main, {LOCAL}: HTTP status 500") == 1
    monkeypatch.setattr(Fake, "slashed", answer)
    world.asked.clear()
    pass_by(LIVENESS)
    assert [asked for asked, _ in world.questions("slashed")].count(LOCAL) == 1


def test_a_key_becomes_slashed(
    pass_by: Pass, look: Look, world: Chains, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pass_by(60)
    world.slashed = {"": {KEYS[1]}}
    found = pass_by(EPOCH_SECONDS)
    assert found.halting
    # Of the network of main there is no other.
    assert [path.name for path in (places / "halt").iterdir()] == ["main"]
    assert f"main: key {KEYS[1]} is slashed" in found.status()
    assert found.slashed == {"main": [KEYS[1]]}
    # Two have said so, of which one was the first.
    assert "alone" not in capsys.readouterr().err
    (places / "halt" / "main").unlink()
    assert not look().halting
    found = pass_by(2 * EPOCH_SECONDS)
    assert not found.halting
    assert list((places / "halt").iterdir()) == []
    stored = json.loads((places / "slashed.json").read_text())
    assert stored == {"main": {KEYS[0]: False, KEYS[1]: True}}


def test_one_node_alone_halts_nothing(
    pass_by: Pass, world: Chains, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pass_by(60)
    world.slashed = {LOCAL: {KEYS[1]}}
    found = pass_by(3 * EPOCH_SECONDS)
    assert list((places / "halt").iterdir()) == []
    assert found.slashed == {}
    assert capsys.readouterr().err.count("is slashed, says local alone") == 1
    # Nor while the other is away; who has said it stays a witness.
    world.broken = {HELSINKI}
    pass_by(2 * EPOCH_SECONDS)
    assert list((places / "halt").iterdir()) == []
    world.broken, world.slashed = set(), {LOCAL: {KEYS[1]}, HELSINKI: {KEYS[1]}}
    assert pass_by(EPOCH_SECONDS).halting


def test_nothing_is_asked_about_who_does_not_run(
    pass_by: Pass, world: Chains, run_json: Path
) -> None:
    text = run_json.read_text()
    run_json.unlink()
    world.proposals = {EPOCH: {SLOT + 15}, EPOCH + 1: set()}
    assert pass_by(100).duties == {}
    assert world.questions("slashed") == world.questions("proposals") == []
    run_json.write_text(text)
    assert pass_by(LIVENESS).duties["main"].proposals == (SLOT + 15,)
    run_json.unlink()
    assert pass_by(LIVENESS).duties == {}


def test_other_keys_are_asked_about_at_once(pass_by: Pass, world: Chains, run_json: Path) -> None:
    run_json.write_text(json.dumps({"node": "local", "public_keys": KEYS * 3}))
    pass_by(10)
    run_json.write_text(json.dumps({"node": "local", "public_keys": KEYS[::-1]}))
    pass_by(LIVENESS)
    asked = [keys for url, keys in world.questions("slashed") if url == LOCAL]
    assert asked == [KEYS, KEYS[::-1]]


def test_duties_are_asked_of_one_node_once_in_an_epoch(
    pass_by: Pass, world: Chains, clock: Clock
) -> None:
    began = SLOT - SLOT % 32
    world.proposals = {EPOCH: {SLOT + 5, began}, EPOCH + 1: {began + 40}}
    world.members = {EPOCH}
    found = pass_by(20)
    left = found.duties["main"]
    assert (left.epoch, left.proposals) == (EPOCH + 1, (SLOT + 5, began + 40))
    assert left.sync_until == (EPOCH // 8 + 1) * 8
    genesis = world.chains[LOCAL].genesis_time
    assert left.next_proposal_usec == 1_000_000 * (genesis + 12 * (SLOT + 5))
    words = f"proposes in slot {SLOT + 5}, in the sync committee until epoch {left.sync_until}"
    assert f"duties known through epoch {EPOCH + 1}; main: {words}" in found.status()
    assert world.questions("proposals") == [(HELSINKI, EPOCH), (HELSINKI, EPOCH + 1)]
    # What has passed is no longer there.
    found = pass_by(6 * 12)
    assert found.duties["main"].proposals == (began + 40,)
    world.proposals = {EPOCH + 1: {began + 41}}
    world.asked.clear()
    assert world.questions("proposals") == []
    found = pass_by(EPOCH_SECONDS - 6 * 12)
    assert world.questions("proposals") == [(HELSINKI, EPOCH + 1), (HELSINKI, EPOCH + 2)]
    assert world.questions("period") == []
    assert (found.duties["main"].epoch, found.duties["main"].sync_until) == (EPOCH + 1, 0)
    del clock


def test_duties_that_are_not_said_are_not_known(
    pass_by: Pass, world: Chains, capsys: pytest.CaptureFixture[str]
) -> None:
    world.proposals = {EPOCH: {SLOT + 5}}
    assert pass_by(20).duties["main"].epoch == EPOCH
    # No more of it: what was known ends with its epoch.
    world.proposals = {1: set()}
    assert pass_by(EPOCH_SECONDS).duties == {}
    said = capsys.readouterr().err
    assert said.count("duties of main: HTTP status 400") == 1


def test_a_server_without_duties_is_not_held_to_them(
    pass_by: Pass, world: Chains, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pass_by(EPOCH_SECONDS).duties == {}
    assert world.questions("slashed")
    assert "duties" not in capsys.readouterr().err
