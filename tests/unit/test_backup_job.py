"""validator-backup@NAME.service: what a backup does while a validator runs, and while none does."""

from pathlib import Path

import pytest

from tests.unit.places import Place
from validator_supervisor import age, backup, backup_job, contents, copies, host, slashing
from validator_supervisor import claim as claims
from validator_supervisor.applied import Applied
from validator_supervisor.claim import Claim
from validator_supervisor.contents import Contents, Key
from validator_supervisor.errors import HALT, TEMPORARY, SupervisorError
from validator_supervisor.interchange import History, Interchange, text
from validator_supervisor.networks import Chain
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store
from validator_supervisor.validators import Ethereum

IDENTITY = age.X25519Identity.generate()
KEY = "0x" + "ab" * 48
NOW = 1_800_000_000


def document(slot: int) -> Interchange:
    return Interchange(b"\1" * 32, {KEY: History(frozenset({(slot, b"")}))})


@pytest.fixture(autouse=True)
def chains(monkeypatch: pytest.MonkeyPatch) -> list[Chain]:
    known = [Chain("dev", NOW - 6000, 6, 8, f"0x{'01' * 32}")]

    def chain_of(applied: Applied, validator: Ethereum) -> Chain:
        del applied, validator
        if not known:
            raise SupervisorError("NoChain", "no beacon node", exit_status=TEMPORARY)
        return known[0]

    monkeypatch.setattr("validator_supervisor.chain.chain_of", chain_of)
    return known


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "state" / "main").mkdir(parents=True)
    made = Store("main", tmp_path / "state")
    raw = contents.seal(
        IDENTITY, validator="main", network="dev", host=host.host_id(), boot=host.boot_id(),
        sequence=5, created=5, clean=True, keys={KEY: Key(b"{}", b"pw")}, removed_keys={},
        protection=document(3),
    )  # fmt: skip
    made.add(raw, ARCHIVE, 5)
    return made


@pytest.fixture
def running(store: Store) -> Store:
    store.add_boot(host.boot_id())
    # As it is when the client was started before a power cut and again after it.
    store.set_running("9" * 32)
    return store


def run(example: Applied, store: Store, *places: Place, now: int = NOW) -> copies.Copies:
    main = example.config.validators["main"]
    assert isinstance(main, Ethereum)
    clients = store.directory.parent.parent / "clients"
    return backup_job.run(example, main, store, places, IDENTITY, now, clients)


def exported(store: Store, raw: str) -> None:
    directory = store.directory.parent.parent / "clients" / "main" / "export"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "slashing-protection.json").write_text(raw)


def newest(store: Store) -> Contents:
    found = backup.newest(store, IDENTITY)
    assert found
    return found


def kinds(store: Store) -> list[str]:
    return [item.kind for item in store.items()]


def test_a_running_validator_is_backed_up(example: Applied, running: Store) -> None:
    exported(running, text(document(9)))
    there = Place()
    done = run(example, running, there)
    found = newest(running)
    assert found.protection == slashing.minify(document(9))
    assert found.manifest.sequence == NOW
    assert not found.manifest.clean
    assert found.manifest.remarks == (
        "lodestar: what it has signed since its last exit cannot be read while it runs",
    )
    assert [Item.parse(name).sequence for name in there.files] == [NOW]  # type: ignore[union-attr]
    assert (done.last, done.last_clean) == (NOW, 0)
    assert not done.uploads["helsinki"].problem
    status = backup_job.status(done)
    assert status == "newest archive of 2027-01-15 08:00:00 UTC, on this host and helsinki"


def test_where_nothing_has_changed_there_is_a_claim(example: Applied, running: Store) -> None:
    run(example, running)
    run(example, running, now=NOW + 10)
    # The archive says who runs it; a claim beside it so soon says nothing more.
    assert kinds(running) == [CLAIM, ARCHIVE, ARCHIVE]
    run(example, running, now=NOW + 20)
    assert kinds(running) == [CLAIM, ARCHIVE, ARCHIVE]
    run(example, running, now=NOW + 5)
    assert kinds(running) == [CLAIM, CLAIM, ARCHIVE, ARCHIVE]
    run(example, running, now=NOW + 5 + backup_job.CLAIM_SECONDS)
    assert kinds(running) == [CLAIM, CLAIM, CLAIM, ARCHIVE, ARCHIVE]


def test_a_stopped_validator_claims_nothing(example: Applied, store: Store) -> None:
    there = Place()
    run(example, store, there)
    assert kinds(store) == [ARCHIVE]
    assert list(there.files) == [store.items()[0].name]
    # After a power cut, before a start has looked at anything.
    store.set_running("9" * 32)
    run(example, store, there)
    assert kinds(store) == [ARCHIVE]


def test_a_foreign_claim_halts_whom_it_concerns(example: Applied, running: Store) -> None:
    raw = claims.seal(Claim(1, "main", "f" * 32, "1" * 32, NOW + 3, NOW), IDENTITY)
    item = Item.of(raw, CLAIM, "main", NOW + 3)
    there = Place(files={item.name: raw})
    with pytest.raises(SupervisorError, match=f"host {'f' * 32} has run main since") as failure:
        run(example, running, there)
    assert failure.value.exit_status == HALT
    # It is kept here: where the node is away next time, it still counts.
    assert running.items()[0] == item
    assert list(there.files) == [item.name]
    with pytest.raises(SupervisorError, match="has run main since"):
        run(example, running, Place(problem="no route"))
    running.clear_running()
    run(example, running, there)


def test_a_clone_of_this_host_halts(example: Applied, running: Store) -> None:
    raw = claims.seal(Claim(1, "main", host.host_id(), "8" * 32, NOW + 3, NOW), IDENTITY)
    item = Item.of(raw, CLAIM, "main", NOW + 3)
    with pytest.raises(SupervisorError, match="a clone of this host"):
        run(example, running, Place(files={item.name: raw}))


def test_a_node_that_is_away_is_no_failure(example: Applied, running: Store) -> None:
    away, good = Place("helsinki", problem="no route"), Place("local")
    done = run(example, running, away, good)
    assert done.uploads["helsinki"].problem == "no route"
    assert backup_job.status(done).endswith("this host and local; helsinki: no route")
    away.problem = ""
    later = run(example, running, away, now=NOW + 1)
    # What it has missed, and a claim.
    assert good.files.items() < away.files.items()
    # It takes no backups any more.
    assert list(later.uploads) == ["helsinki"]


@pytest.mark.parametrize("raw", ["", "[]", "{", "\0"])
def test_a_hostile_export_is_a_remark(
    example: Applied, running: Store, raw: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(running, raw)
    run(example, running)
    found = newest(running)
    assert found.protection == slashing.minify(document(3))
    assert "cannot be read" in found.manifest.remarks[1]
    assert "cannot be read" in capsys.readouterr().err


def test_without_a_chain_no_export_is_believed(
    example: Applied, running: Store, chains: list[Chain]
) -> None:
    exported(running, text(document(9)))
    chains.clear()
    run(example, running)
    found = newest(running)
    assert found.protection == slashing.minify(document(3))
    assert "which chain it is on is not known now" in found.manifest.remarks[1]


def test_a_link_for_an_export_is_not_followed(example: Applied, running: Store) -> None:
    exported(running, "")
    file = running.directory.parent.parent / "clients/main/export/slashing-protection.json"
    file.unlink()
    file.symlink_to("/etc/shadow")
    run(example, running)
    assert newest(running).protection == slashing.minify(document(3))


def test_old_archives_go(example: Applied, running: Store) -> None:
    for slot in range(10, 30):
        exported(running, text(document(slot)))
        run(example, running, now=NOW + slot)
    assert kinds(running).count(ARCHIVE) == example.config.backup.keep
    assert newest(running).protection == slashing.minify(document(29))


def test_before_the_first_archive_there_is_nothing_to_say() -> None:
    assert backup_job.status(copies.Copies()) == "nothing to back up yet"
