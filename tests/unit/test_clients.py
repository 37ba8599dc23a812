from dataclasses import replace
from pathlib import Path

from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS

STATE = Path("/var/lib/validator/main")
KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]


def test_recorded_arguments_of_lodestar(example: Applied) -> None:
    main = example.config.ethereum[0]
    urls = ["http://127.0.0.1:13000", "http://127.0.0.1:5052"]
    assert CLIENTS["lodestar"].run(main, STATE, urls) == [
        "/usr/bin/lodestar", "validator",
        "--network", "dev",
        "--dataDir", "/var/lib/validator/main",
        "--beaconNodes", "http://127.0.0.1:13000",
        "--beaconNodes", "http://127.0.0.1:5052",
        "--suggestedFeeRecipient", "0x00000000219ab540356cBB839Cbe05303d7705Fa",
        "--graffiti=hello",
        "--metrics",
    ]  # fmt: skip


def test_lodestar_without_what_is_optional(example: Applied) -> None:
    main = replace(example.config.ethereum[0], graffiti="", args=())
    words = CLIENTS["lodestar"].run(main, STATE, ["http://127.0.0.1:1"])
    assert not [word for word in words if "graffiti" in word]
    assert words[-2:] == ["--suggestedFeeRecipient", main.fee_recipient]


def test_values_that_look_like_options_stay_values(example: Applied) -> None:
    main = replace(example.config.ethereum[0], graffiti="--force $(id)")
    words = CLIENTS["lodestar"].run(main, STATE, [])
    assert "--graffiti=--force $(id)" in words


def test_public_keys_of_lodestar_are_names_of_keystores(tmp_path: Path) -> None:
    lodestar = CLIENTS["lodestar"]
    assert lodestar.public_keys(tmp_path) == []
    (tmp_path / "keystores").touch()
    assert lodestar.public_keys(tmp_path) == []
    (tmp_path / "keystores").unlink()
    for name in (*reversed(KEYS), "0xzz", KEYS[0][:-1], KEYS[0] + "0", "..x", "0x\n", "tmp"):
        (tmp_path / "keystores" / name).mkdir(parents=True)
    assert lodestar.public_keys(tmp_path) == KEYS


def test_locks_of_lodestar(tmp_path: Path) -> None:
    lodestar = CLIENTS["lodestar"]
    assert lodestar.locks(tmp_path) == []
    for key in KEYS:
        (tmp_path / "keystores" / key).mkdir(parents=True)
    lock = tmp_path / "keystores" / KEYS[1] / "voting-keystore.json.lock"
    lock.touch()
    (lock.parent / "voting-keystore.json").touch()
    (tmp_path / "validator-db").mkdir()
    (tmp_path / "validator-db/LOCK").touch()
    assert lodestar.locks(tmp_path) == [lock]
