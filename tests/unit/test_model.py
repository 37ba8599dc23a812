import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import __version__
from validator_supervisor.applied import Applied
from validator_supervisor.bus import model
from validator_supervisor.bus.interface import INTERFACES, MANAGER, NODE, VALIDATOR
from validator_supervisor.bus.model import IDENTITY, Run, UnitState, Values, World
from validator_supervisor.copies import Copies, Restore, Upload
from validator_supervisor.duties import Duties
from validator_supervisor.overrides import Override
from validator_supervisor.tunnel import HOST_KEY_CHANGED
from validator_supervisor.watch import Attesting, Reading

ROOT = "/org/validatorsupervisor1"
HELSINKI, LOCAL = "http://127.0.0.1:13000", "http://127.0.0.1:5052"
KEY = "0x" + "ab" * 48
UP = {
    "validator-tunnel@helsinki.service": UnitState("active", "running", "connected", 5),
    "validator@main.service": UnitState("active", "running", "running lodestar", 6, 2, 0),
}


@pytest.fixture
def world(example: Applied) -> World:
    return World(
        example,
        UP,
        {
            HELSINKI: Reading(HELSINKI, True, "", 1, 2000, peers=40),
            LOCAL: Reading(LOCAL, False, "away"),
        },
        {"main": Attesting(9, 1, 1)},
        {"main": Run("helsinki", (KEY,))},
    )


def manager(world: World) -> Values:
    return model.objects(world)[ROOT][MANAGER.name]


def node(world: World, name: str = "helsinki") -> Values:
    return model.objects(world)[f"{ROOT}/node/{name}"][NODE.name]


def validator(world: World, name: str = "main") -> Values:
    return model.objects(world)[f"{ROOT}/validator/{name}"][VALIDATOR.name]


def with_unit(world: World, unit: str, **changed: object) -> World:
    state = replace(world.unit(unit), **changed)  # type: ignore[arg-type]
    return replace(world, units={**world.units, unit: state})


def test_every_object_has_every_property_of_its_interface(world: World) -> None:
    tables = {table.name: [prop.name for prop in table.properties] for table in INTERFACES}
    for empty in (world, World(world.applied)):
        for interfaces in model.objects(empty).values():
            for name, values in interfaces.items():
                assert list(values) == tables[name]


def test_objects_are_those_of_the_configuration(
    world: World, make: Callable[[str], Applied]
) -> None:
    assert list(model.objects(world)) == [
        ROOT,
        f"{ROOT}/node/local",
        f"{ROOT}/node/helsinki",
        f"{ROOT}/validator/main",
        f"{ROOT}/validator/other",
        f"{ROOT}/validator/hub",
    ]
    assert list(model.objects(World(make("")))) == [ROOT]


def test_a_running_validator(world: World) -> None:
    assert validator(world) == {
        "Name": "main",
        "Kind": "ethereum",
        "Network": "dev",
        "Enabled": True,
        "ActiveState": "active",
        "SubState": "running",
        "StatusText": "running lodestar",
        "StartProblem": "",
        "SilentUntil": 0,
        "HaltReason": "",
        "SinceUSec": 6,
        "ConnectedNode": "helsinki",
        "PreferredNode": "",
        "Overridden": [],
        "Release": "lodestar",
        "WantedRelease": "",
        "ReleaseState": "none",
        "ReleaseStatus": "",
        "PublicKeys": [KEY],
        "Restarts": 2,
        "LastExitStatus": 0,
        "AttestedEpoch": 9,
        "AttestingKeys": 1,
        "NextProposalUSec": 0,
        "SyncCommitteeUntilUSec": 0,
        "DutiesKnownUntilUSec": 0,
        "BackupState": "inactive",
        "BackupEndedUSec": 0,
        "BackupProblem": "",
        "LastBackupUSec": 0,
        "LastCleanBackupUSec": 0,
    }


def test_duties_are_shown_as_times(world: World) -> None:
    due = Duties(11, (321,), 16, 321_000_000, 512_000_000, 384_000_000)
    found = validator(replace(world, duties={"main": due}))
    assert found["NextProposalUSec"] == 321_000_000
    assert found["SyncCommitteeUntilUSec"] == 512_000_000
    assert found["DutiesKnownUntilUSec"] == 384_000_000


def test_what_is_overridden_is_shown(world: World) -> None:
    given = {"main": Override(enabled=False, prefer="local"), "other": Override(enabled=True)}
    changed = replace(world, applied=replace(world.applied, overrides=given))
    main, other = validator(changed), validator(changed, "other")
    assert (main["PreferredNode"], main["Overridden"]) == ("local", ["enabled", "prefer"])
    assert main["Enabled"] is False
    assert (other["PreferredNode"], other["Overridden"]) == ("", ["enabled"])
    assert other["Enabled"] is True


def test_a_validator_of_another_kind_has_no_network_and_no_client(world: World) -> None:
    for name, kind in (("other", "command"), ("hub", "cosmos")):
        found = validator(world, name)
        assert (found["Kind"], found["Network"], found["Release"]) == (kind, "", "")


def test_a_validator_that_is_down_is_connected_to_nothing(world: World) -> None:
    down = with_unit(world, "validator@main.service", active="activating", sub="auto-restart")
    assert validator(down)["ConnectedNode"] == ""
    assert validator(World(world.applied), "other")["ActiveState"] == "inactive"


def test_a_node_and_its_beacon(world: World) -> None:
    assert node(world) == {
        "Name": "helsinki",
        "Host": "hel.example.net",
        "TunnelState": "connected",
        "StatusText": "connected",
        "TunnelSinceUSec": 5,
        "BeaconHealthy": True,
        "BeaconProblem": "",
        "BeaconLatencyUSec": 2000,
        "BeaconPeers": 40,
        "TakesBackups": True,
        "LastUploadUSec": 0,
        "UploadProblem": "",
        "LastProvenRestoreUSec": 0,
        "RestoreProblem": "",
    }
    local = node(world, "local")
    assert (local["TunnelState"], local["BeaconHealthy"], local["BeaconProblem"]) == (
        "none", False, "away",
    )  # fmt: skip


def test_a_node_without_a_beacon_is_not_healthy_and_has_no_problem(
    make: Callable[[str], Applied],
) -> None:
    found = node(World(make("version: 1\nnodes: {a: {}}")), "a")
    assert (found["BeaconHealthy"], found["BeaconProblem"]) == (False, "")


@pytest.mark.parametrize(
    ("active", "status", "word"),
    [
        ("active", 0, "connected"),
        ("activating", 0, "connecting"),
        ("failed", 255, "failed"),
        ("failed", HOST_KEY_CHANGED, "host-key-changed"),
        ("activating", HOST_KEY_CHANGED, "connecting"),
        ("inactive", 0, "stopped"),
        ("deactivating", 0, "stopped"),
    ],
)
def test_words_for_a_tunnel(world: World, active: str, status: int, word: str) -> None:
    unit = "validator-tunnel@helsinki.service"
    assert node(with_unit(world, unit, active=active, exit_status=status))["TunnelState"] == word


def test_copies_of_archives(world: World) -> None:
    unit = UnitState("failed", "failed", "disk full", 7)
    known = Copies(
        last=3, last_clean=2, ended=6,
        uploads={"helsinki": Upload(4, "away")},
        restores={"helsinki": Restore(5, 1, 1, "lacks keys")},
    )  # fmt: skip
    units = {**world.units, "validator-backup@main.service": unit}
    world = replace(world, units=units, copies={"main": known})
    found = validator(world)
    assert (found["BackupState"], found["BackupProblem"]) == ("failed", "disk full")
    assert (found["BackupEndedUSec"], found["LastBackupUSec"]) == (7, 3_000_000)
    assert validator(replace(world, units={}))["BackupEndedUSec"] == 6
    assert found["LastCleanBackupUSec"] == 2_000_000
    assert validator(world, "hub")["BackupState"] == "none"
    there = node(world)
    assert (there["LastUploadUSec"], there["UploadProblem"]) == (4_000_000, "away")
    assert (there["LastProvenRestoreUSec"], there["RestoreProblem"]) == (5_000_000, "lacks keys")


def test_healthy_is_every_tunnel_and_every_enabled_validator(world: World) -> None:
    assert manager(world) == {
        "Version": __version__,
        "Locked": True,
        "UnlockProblem": "",
        "Healthy": True,
        "ApplyProblem": "",
    }
    for unit in UP:
        assert manager(with_unit(world, unit, active="activating"))["Healthy"] is False


def test_what_a_validator_has_published_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"node": "a-b_0", "public_keys": [KEY]}))
    assert model.read_run(path) == Run("a-b_0", (KEY,))


@pytest.mark.parametrize(
    "stored",
    [
        {},
        [],
        None,
        {"node": "a"},
        {"public_keys": []},
        {"node": 5, "public_keys": []},
        {"node": "A", "public_keys": []},
        {"node": "a" * 21, "public_keys": []},
        {"node": "\x1b[2J", "public_keys": []},
        {"node": "\0", "public_keys": []},
        {"node": "a", "public_keys": KEY},
        {"node": "a", "public_keys": {KEY: KEY}},
        {"node": "a", "public_keys": [KEY, KEY + "\n"]},
        {"node": "a", "public_keys": [KEY.upper()]},
        {"node": "a", "public_keys": [KEY], "x": 1.5},
        {"node": "a", "public_keys": [KEY] * 20_000},
    ],
)
def test_nothing_of_a_run_counts_where_anything_is_unexpected(
    tmp_path: Path, stored: object
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(stored))
    assert model.read_run(path) == Run()


@given(st.binary(max_size=100))
def test_any_run_is_read_or_ignored(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(raw)
    model.read_run(path)


def test_a_validator_cannot_hold_the_controller_up(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert model.read_run(path) == Run()
    os.mkfifo(path)
    assert model.read_run(path) == Run()
    path.unlink()
    path.symlink_to("/dev/zero")
    assert model.read_run(path) == Run()


def test_why_it_is_locked(world: World) -> None:
    wrong = with_unit(world, IDENTITY, active="failed", status="the passphrase is wrong")
    assert manager(wrong)["UnlockProblem"] == "the passphrase is wrong"
    assert manager(wrong)["Locked"] is True
    # Another is on its way.
    assert manager(replace(wrong, offered=True))["UnlockProblem"] == ""
    mute = with_unit(world, IDENTITY, active="failed")
    assert manager(mute)["UnlockProblem"] == f"{IDENTITY} has failed"
    assert manager(replace(world, offer_problem="x"))["UnlockProblem"] == "x"
    up = replace(with_unit(world, IDENTITY, active="active"), unlocked=True, offer_problem="x")
    assert (manager(up)["Locked"], manager(up)["UnlockProblem"]) == (False, "")
