from dataclasses import replace
from pathlib import Path

from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Place
from validator_supervisor.contents import Key

STATE = Place(Path("/var/lib/validator/main"), Path("/run/validator-state/main/client"))
KEYS = ["0x" + "ab" * 48, "0x" + "cd" * 48]


def test_recorded_arguments_of_lodestar(example: Applied) -> None:
    main = example.config.ethereum[0]
    urls = ["http://127.0.0.1:13000", "http://127.0.0.1:5052"]
    assert CLIENTS["lodestar"].run(main, STATE, urls) == [
        "/usr/bin/lodestar", "validator",
        "--network", "dev",
        "--dataDir", "/var/lib/validator/main",
        "--validatorsDbDir", "/var/lib/validator/main/validator-db",
        "--beaconNodes", "http://127.0.0.1:13000",
        "--beaconNodes", "http://127.0.0.1:5052",
        "--keystoresDir", "/run/validator-state/main/client/keystores",
        "--secretsDir", "/run/validator-state/main/client/secrets",
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


def test_recorded_arguments_of_lodestars_slashing_protection(example: Applied) -> None:
    main, lodestar = example.config.ethereum[0], CLIENTS["lodestar"]
    for command, words in (("export", lodestar.export), ("import", lodestar.load)):
        assert words(main, STATE, ["http://127.0.0.1:1"], Path("/x.json")) == [
            "/usr/bin/lodestar", "validator", "slashing-protection", command,
            "--network", "dev",
            "--dataDir", "/var/lib/validator/main",
            "--validatorsDbDir", "/var/lib/validator/main/validator-db",
            "--beaconNodes", "http://127.0.0.1:1",
            "--file", "/x.json",
            "--metrics",
        ]  # fmt: skip


def test_keys_of_lodestar_are_laid_out_for_it_and_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "state", tmp_path / "keys")
    keys = {name: Key(name.encode(), b"pw " + name.encode()) for name in KEYS}
    for _ in range(2):
        CLIENTS["lodestar"].install(place, keys)
    for name in KEYS:
        keystore = place.keys / "keystores" / name / "voting-keystore.json"
        assert keystore.read_bytes() == name.encode()
        assert (place.keys / "secrets" / name).read_bytes() == b"pw " + name.encode()
    assert not place.state.exists()


def test_locks_of_lodestar(tmp_path: Path) -> None:
    lodestar, place = CLIENTS["lodestar"], Place(tmp_path / "state", tmp_path)
    assert lodestar.locks(place) == []
    for key in KEYS:
        (tmp_path / "keystores" / key).mkdir(parents=True)
    lock = tmp_path / "keystores" / KEYS[1] / "voting-keystore.json.lock"
    lock.touch()
    (lock.parent / "voting-keystore.json").touch()
    assert lodestar.locks(place) == [lock]
    assert lodestar.database(place) == tmp_path / "state/validator-db"
    # LevelDB's writes are not synced: a power cut loses the last ones.
    assert not lodestar.durable
