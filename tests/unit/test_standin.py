"""The stand-ins of the machine tests: they must be able to show a failure."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.keystores import PASSWORD, PUBLIC_KEYS, many
from lab.standin import beacon, client
from lab.standin.beacon import Message, slashable
from lab.standin.client import Chain, ClientError, Database, History, Options, Signer

from validator_supervisor import interchange, keystore

KEY, OTHER = "0x" + "a1" * 48, "0x" + "b2" * 48
CLIENT = Path(client.__file__)
CHAIN = Chain(genesis=0, seconds=1, slots=8, root="0x" + "5a" * 32)


def vote(source: int, target: int, root: str = "0x1", key: str = KEY) -> Message:
    return {"key": key, "kind": "attestation", "source": source, "target": target, "root": root}


def block(slot: int, root: str = "0x1", key: str = KEY) -> Message:
    return {"key": key, "kind": "block", "slot": slot, "root": root}


@pytest.mark.parametrize(
    ("records", "names"),
    [
        ([], []),
        ([vote(1, 2), vote(1, 2)], []),
        ([vote(1, 2), vote(1, 2, "0x2")], ["double vote"]),
        ([vote(1, 2), vote(0, 2)], ["double vote"]),
        ([vote(1, 2), vote(1, 2, "0x2", OTHER)], []),
        ([vote(1, 2), vote(1, 2, "0x2", KEY.upper().replace("X", "x"))], ["double vote"]),
        ([vote(2, 3), vote(1, 4)], ["surround"]),
        ([vote(1, 4), vote(2, 3)], ["surround"]),
        ([vote(1, 3), vote(1, 4)], []),
        ([vote(1, 3), vote(2, 4)], []),
        ([vote(1, 5), vote(5, 6)], []),
        ([block(7), block(7)], []),
        ([block(7), block(7, "0x2")], ["double block"]),
        ([block(7), block(7, "0x2"), block(7, "0x3")], ["double block"] * 3),
        ([block(7), block(8, "0x2"), vote(7, 7)], []),
    ],
)
def test_slashable(records: list[Message], names: list[str]) -> None:
    assert [name for name, _, _ in slashable(records)] == names


EPOCHS = st.integers(0, 6)
VOTES = st.lists(st.builds(vote, EPOCHS, EPOCHS, st.sampled_from(["0x1", "0x2"])), max_size=8)


@given(VOTES)
def test_slashable_is_what_the_specification_says(votes: list[Message]) -> None:
    """is_slashable_attestation_data of the consensus specification, pair by pair."""

    def pair(a: Message, b: Message) -> bool:
        differ = (a["source"], a["target"], a["root"]) != (b["source"], b["target"], b["root"])
        double = differ and a["target"] == b["target"]
        return double or (
            int(a["source"]) < int(b["source"]) and int(b["target"]) < int(a["target"])
        )

    assert bool(slashable(votes)) == any(pair(a, b) for a in votes for b in votes)


@given(st.lists(st.builds(vote, EPOCHS, EPOCHS), max_size=12))
def test_what_a_history_lets_pass_is_never_slashable(wanted: list[Message]) -> None:
    history, signed = History(), []
    for number, message in enumerate(wanted):
        message = {**message, "root": f"0x{number}"}
        if history.may_attest(int(message["source"]), int(message["target"])):
            history.add(dict(message))
            signed.append(message)
    assert slashable(signed) == []


def signed(folder: Path, slots: range, seed: str, *, lag: int = 0) -> list[Message]:
    """Let a client work on a database for some slots, as eagerly as it can."""
    with closing(Database(folder)) as database:
        database.belongs_to(CHAIN.root)
        signer = Signer(database, CHAIN, [KEY, OTHER], seed, lag, eager=True)
        return [message for slot in slots for message in signer.sign(slot)]  # type: ignore[misc]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), st.integers(0, 3)), max_size=6))
def test_a_client_that_keeps_its_database_never_signs_a_slashable_pair(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int, int]]
) -> None:
    """Restarts at any slot, even earlier ones, with another head each time."""
    folder = tmp_path_factory.mktemp("database")
    records: list[Message] = []
    for number, (start, count, lag) in enumerate(runs):
        records += signed(folder, range(start, start + count), f"head {number}", lag=lag)
    assert slashable(records) == []


@given(st.integers(0, 100))
def test_a_client_whose_database_is_rolled_back_does(
    tmp_path_factory: pytest.TempPathFactory, start: int
) -> None:
    folder = tmp_path_factory.mktemp("database")
    before = signed(folder, range(start), "one")
    kept = (folder / "log").read_bytes()
    lost = signed(folder, range(start, start + 16), "one")
    (folder / "log").write_bytes(kept)
    again = signed(folder, range(start, start + 16), "two")
    assert "double vote" in {name for name, _, _ in slashable(before + lost + again)}


def test_a_client_with_another_source_is_surrounded_when_rolled_back(tmp_path: Path) -> None:
    records = signed(tmp_path / "a", range(40, 48), "one")  # 4 → 5
    records += signed(tmp_path / "b", range(48, 56), "two", lag=2)  # 3 → 6
    assert {name for name, _, _ in slashable(records)} == {"surround"}


def document(slots: list[int], epochs: list[tuple[int, int]], key: str = KEY) -> bytes:
    blocks = [{"slot": str(slot)} for slot in slots]
    votes = [{"source_epoch": str(s), "target_epoch": str(t)} for s, t in epochs]
    data = [{"pubkey": key, "signed_blocks": blocks, "signed_attestations": votes}]
    metadata = {"interchange_format_version": "5", "genesis_validators_root": CHAIN.root}
    return json.dumps({"metadata": metadata, "data": data}).encode()


def slashing(folder: Path, verb: str, file: Path, version: str = "4") -> int:
    argv = [sys.executable, str(CLIENT), "validator", "slashing-protection", verb,
            "--network", "dev", f"--dataDir={folder}", "--validatorsDbDir", f"{folder}/db",
            "--file", str(file), "--params.SECONDS_PER_SLOT", "2"]  # fmt: skip
    return subprocess.run(argv, env={"STANDIN_VERSION": version}, timeout=30).returncode


def test_import_sets_the_bounds_and_the_last_one_wins(tmp_path: Path) -> None:
    signed(tmp_path / "db", range(8), "one")
    file = tmp_path / "file"
    file.write_bytes(document([100], [(9, 10)]))
    assert slashing(tmp_path, "import", file) == 0
    assert [r for r in signed(tmp_path / "db", range(8, 88), "one") if r["key"] == KEY] == []
    file.write_bytes(document([], [(1, 2)]))
    assert slashing(tmp_path, "import", file) == 0
    (first, *_) = [r for r in signed(tmp_path / "db", range(24, 32), "one") if r["key"] == KEY]
    assert first["target"] == 3


def test_a_complete_import_bounds_by_its_lowest_as_lodestar_does() -> None:
    entry = json.loads(document([5, 9], [(1, 2), (6, 7)]))["data"][0]
    history = client.imported(entry)
    assert (history.slot, history.source, history.target) == (5, 1, 2)
    assert history.may_attest(4, 5)
    assert not history.may_attest(3, 7)
    assert not history.may_attest(5, 8)


@pytest.mark.parametrize("version", ["4", "5"])
def test_export_is_what_the_importer_of_the_library_reads(tmp_path: Path, version: str) -> None:
    messages = signed(tmp_path / "db", range(200), "one")
    assert slashing(tmp_path, "export", tmp_path / "file", version) == 0
    raw = (tmp_path / "file").read_bytes()
    plain = json.loads(raw)
    assert plain["metadata"]["interchange_format_version"] == version
    assert (client.BOGUS[0] in raw.decode()) == (version == "4")
    read = interchange.parse(raw).interchange
    found = {(key, slot) for key, history in read.keys.items() for slot, _ in history.blocks}
    assert found == {(m["key"], m["slot"]) for m in messages if m["kind"] == "block"}
    for key, history in read.keys.items():
        targets = {target for _, target, _ in history.attestations}
        assert targets == {m["target"] for m in messages if m["key"] == key and "target" in m}


def test_nobody_knows_the_chain_of_an_empty_database(tmp_path: Path) -> None:
    assert slashing(tmp_path, "export", tmp_path / "file") == 1
    (tmp_path / "file").write_bytes(document([1], []))
    assert slashing(tmp_path, "import", tmp_path / "file") == 1


def test_another_chain_and_a_database_in_use_are_refused(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "db")) as database:
        database.belongs_to("0x" + "77" * 32)
        assert slashing(tmp_path, "export", tmp_path / "file") == 1
    (tmp_path / "file").write_bytes(document([1], []))
    assert slashing(tmp_path, "import", tmp_path / "file") == 1
    assert slashing(tmp_path, "export", tmp_path / "file") == 0


def test_a_torn_line_at_the_end_is_not_there(tmp_path: Path) -> None:
    signed(tmp_path, range(16), "one")
    log = tmp_path / "log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-5])
    with closing(Database(tmp_path)):
        pass
    assert log.read_bytes() == whole[: whole[:-1].rfind(b"\n") + 1]
    log.write_bytes(b"{]\n" + whole)
    with pytest.raises(ClientError, match="Corruption"):
        Database(tmp_path)


def test_options() -> None:
    words = "validator --beaconNodes a,b c --beaconNodes=d --force --params.X 1 --dataDir D"
    options = Options(words.split())
    assert options.command == ["validator"]
    assert options.all("beaconNodes") == ["a", "b", "c", "d"]
    assert options.folder("secretsDir", "secrets") == Path("D/secrets")
    with pytest.raises(ClientError, match="file"):
        options.path("file")


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[tuple[str, Callable[[], list[Message]]]]:
    """The stand-in beacon node, its address, and what it has recorded."""
    options = beacon.parse(["--port", "0", "--record", str(tmp_path / "record")])
    server = beacon.Server(("127.0.0.1", 0), beacon.Chain(options))
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()

    def recorded() -> list[Message]:
        return [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]

    yield f"http://127.0.0.1:{server.server_address[1]}", recorded
    server.shutdown()
    server.server_close()


def test_the_beacon_node_says_of_keys_what_it_was_told(tmp_path: Path) -> None:
    from urllib.request import Request, urlopen

    def answers(*told: str) -> list[object]:
        options = beacon.parse(["--port", "0", "--record", str(tmp_path / "record")])
        server = beacon.Server(("127.0.0.1", 0), beacon.Chain(options))
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"

        def said(path: str, body: object = None) -> object:
            raw = None if body is None else json.dumps(body).encode()
            with urlopen(Request(url + path, raw), timeout=5) as answer:
                return json.loads(answer.read())["data"]

        try:
            for words in told:
                said(f"/standin/{words}")
            index = str(beacon.index_of(KEY))
            states = "/eth/v1/beacon/states/head/validators"
            return [
                [one["validator"]["slashed"] for one in said(states, {"ids": [KEY, OTHER]})],  # type: ignore[attr-defined]
                [one["validator"]["slashed"] for one in said(f"{states}?id={KEY}&id={OTHER}")],  # type: ignore[attr-defined]
                said("/eth/v1/validator/duties/proposer/2"),
                said("/eth/v1/validator/duties/sync/3", [index]),
                said("/eth/v1/validator/duties/sync/4", [index]),
            ]
        finally:
            server.shutdown()
            server.server_close()

    assert answers() == [[False, False], [False, False], [], [], []]
    told = answers(f"slash/{KEY}", f"propose/{KEY}/17", f"propose/{KEY}/24", f"sync/{KEY}/3")
    assert told[:2] == [[True, False]] * 2
    assert [one["slot"] for one in told[2]] == ["17"]  # type: ignore[attr-defined]
    assert len(told[3]) == 1  # type: ignore[arg-type]
    assert told[4] == []
    # Also after it was started again.
    assert answers() == told


def started(folder: Path, url: str, **environment: str) -> "subprocess.Popen[bytes]":
    for key in (KEY, OTHER):
        (folder / "keystores" / key).mkdir(parents=True, exist_ok=True)
        (folder / "keystores" / key / "voting-keystore.json").write_text('{"crypto": {"a": 1}}')
        (folder / "secrets").mkdir(exist_ok=True)
        (folder / "secrets" / key).write_text("password")
    argv = [sys.executable, str(CLIENT), "validator", "--network", "dev", "--dataDir", str(folder),
            "--beaconNodes", "http://127.0.0.1:1", url]  # fmt: skip
    return subprocess.Popen(argv, env={"STANDIN_EAGER": "1", **environment},
                            stdout=subprocess.DEVNULL)  # fmt: skip


def wait(ready: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_client_signs_is_killed_and_starts_once_its_locks_are_gone(
    tmp_path: Path, chain: tuple[str, Callable[[], list[Message]]]
) -> None:
    url, recorded = chain
    process = started(tmp_path, url, STANDIN_SEED="one")
    wait(lambda: len(recorded()) >= 2)
    assert started(tmp_path, url).wait(15) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait(15)
    locks = list(tmp_path.glob("keystores/*/voting-keystore.json.lock"))
    assert len(locks) == 2
    assert started(tmp_path, url).wait(15) == 1
    for lock in locks:
        lock.unlink()
    (tmp_path / "validator-db/log").unlink()
    process = started(tmp_path, url, STANDIN_SEED="two")
    wait(lambda: len({(r["seed"], r["key"]) for r in recorded() if r["kind"] != "block"}) == 4)
    begun = time.monotonic()
    process.terminate()
    assert process.wait(15) == 0
    assert time.monotonic() - begun < 1
    assert not list(tmp_path.glob("keystores/*/*.lock"))
    votes = [r for r in recorded() if r["kind"] == "attestation"]
    epochs = {seed: {r["target"] for r in votes if r["seed"] == seed} for seed in ("one", "two")}
    # An epoch is eight seconds long: its end may have been in between.
    if epochs["one"] & epochs["two"]:
        assert {name for name, _, _ in slashable(votes)} == {"double vote"}


def test_keystores_for_any_number_of_keys() -> None:
    made = many(14)
    assert [key[2:] for key in list(made)[12:]] == list(PUBLIC_KEYS[:2])
    key, text = next(iter(made.items()))
    opened = keystore.decrypt(keystore.parse(text.encode()), PASSWORD)
    assert f"0x{opened.public_key.hex()}" == key
