"""Backups: what a new archive holds, its sequence, foreign claims, and what nodes get."""

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import age, backup, contents, host, slashing
from validator_supervisor import claim as claims
from validator_supervisor.applied import Applied
from validator_supervisor.claim import Claim
from validator_supervisor.cli import orders_job
from validator_supervisor.contents import Key
from validator_supervisor.errors import TEMPORARY, FormatError, SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store
from validator_supervisor.validators import Ethereum

IDENTITY = age.X25519Identity.generate()
KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
ROOT = b"\1" * 32
NOW = 1_800_000_000
# Slot 1000 of epoch 125 is now.
CHAIN = Chain("dev", NOW - 6000, 6, 8, f"0x{ROOT.hex()}")


def document(slot: int = 5, source: int = 1, target: int = 2, key: str = KEY) -> Interchange:
    blocks, attestations = frozenset({(slot, b"")}), frozenset({(source, target, b"")})
    return Interchange(ROOT, {key: History(blocks, attestations)})


def sealed(sequence: int, protection: Interchange | None = None, **changed: object) -> bytes:
    values: dict[str, object] = {
        "validator": "main", "network": "dev", "host": "1" * 32, "boot": "2" * 32,
        "sequence": sequence, "created": NOW, "clean": False, "keys": {KEY: Key(b"{}", b"pw")},
        "removed_keys": {OTHER: 5}, "protection": protection,
    }  # fmt: skip
    return contents.seal(IDENTITY, **{**values, **changed})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    return Store("main", tmp_path)


@pytest.fixture
def main(example: Applied) -> Ethereum:
    found = example.config.validators["main"]
    assert isinstance(found, Ethereum)
    return found


def add(
    store: Store, sequence: int, protection: Interchange | None = None, **changed: object
) -> Item:
    return store.add(sealed(sequence, protection, **changed), ARCHIVE, sequence)


def make(
    store: Store, main: Ethereum, protection: Interchange | None = None, **changed: object
) -> Item | None:
    values: dict[str, object] = {"clean": False, "now": NOW, **changed}
    return backup.make(store, main, IDENTITY, protection=protection, **values)  # type: ignore[arg-type]


def test_a_new_archive_has_the_keys_and_everything_that_is_known(
    store: Store, main: Ethereum
) -> None:
    add(store, 3, document(slot=90))
    add(store, 5, document(slot=7, source=3, target=9))
    item = make(store, main, document(slot=8, source=4, target=5), clean=True)
    assert item
    assert item.sequence == NOW
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.keys == {KEY: Key(b"{}", b"pw")}
    assert found.manifest.removed_keys == {OTHER: 5}
    assert found.manifest.clean
    assert found.manifest.host == host.host_id()
    assert found.protection == document(slot=90, source=4, target=9)


def test_nothing_new_is_no_archive(store: Store, main: Ethereum) -> None:
    add(store, 3, document())
    assert make(store, main) is None
    assert make(store, main, document(slot=4)) is None
    assert make(store, main, document(slot=6))
    assert make(store, main, document(slot=6)) is None
    assert make(store, main, remarks=["x"])
    assert make(store, main, remarks=["x"]) is None
    assert make(store, main, document(slot=6), clean=True)


def test_without_an_archive_that_opens_there_is_none_without_keys(
    store: Store, main: Ethereum, capsys: pytest.CaptureFixture[str]
) -> None:
    store.add(b"damaged", ARCHIVE, 9)
    with pytest.raises(SupervisorError, match="no archive of main on this host opens"):
        make(store, main, document(), clean=True)
    assert "main.9." in capsys.readouterr().err


def test_keys_that_a_client_makes_up_are_not_taken(store: Store, main: Ethereum) -> None:
    add(store, 3, document())
    made_up = {"0x" + f"{n:096x}": History(frozenset({(9, b"")})) for n in range(1000)}
    said = Interchange(ROOT, {**made_up, **document(slot=8).keys, OTHER: History()})
    assert make(store, main, said, clean=True)
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.protection
    # Keys that were removed are ours, too.
    assert found.protection.keys.keys() <= {KEY, OTHER}
    assert found.protection.keys[KEY] == document(slot=8).keys[KEY]
    assert found.manifest.clean


def test_an_archive_that_would_not_open_is_none(
    store: Store, main: Ethereum, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, 3, document())
    before = store.items()

    def refused(raw: bytes, *_: object) -> NoReturn:
        raise FormatError("Interchange", f"{len(raw)} bytes are too many")

    opened = contents.unseal(store.read(before[0]), IDENTITY, "main")
    monkeypatch.setattr(backup, "archives", lambda *_: iter([(before[0], opened)]))
    monkeypatch.setattr(contents, "unseal", refused)
    with pytest.raises(FormatError, match="are too many"):
        make(store, main, document(slot=8), clean=True)
    assert store.items() == before
    assert backup.last_clean(store) == ""


def test_what_was_set_aside_stays_out(store: Store, main: Ethereum) -> None:
    add(store, 3, document(slot=5))
    store.quarantine(add(store, 4, document(slot=99)))
    assert make(store, main, document(slot=6))
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.protection == document(slot=6)


def test_the_final_backup_is_set_aside(store: Store, main: Ethereum) -> None:
    """After the next power cut the database alone cannot be believed."""
    earlier = add(store, 3, document(slot=5))
    add(store, 4, document(slot=5))
    orders_job.quarantine(store, earlier.name)
    assert store.running() == ""
    final = make(store, main, document(slot=6), clean=True)
    assert final
    orders_job.quarantine(store, final.name)
    assert store.running() == host.boot_id()
    assert store.quarantined() == {earlier.digest, final.digest}


def test_an_archive_under_another_sequence_is_none(store: Store) -> None:
    store.add(sealed(3), ARCHIVE, 7)
    assert backup.newest(store, IDENTITY) is None


def test_a_poisoned_watermark_is_left_out_and_the_rest_is_taken(
    store: Store, main: Ethereum, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, 3, document())
    history = History(
        frozenset({(1000, b""), (1 << 62, b"")}), frozenset({(120, 124, b""), (1, 1 << 62, b"")})
    )
    poisoned = Interchange(ROOT, {KEY: history, OTHER: History(frozenset({(9, b"")}))})
    assert make(store, main, poisoned, clean=True, chain=CHAIN)
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.protection
    mark = slashing.watermark(found.protection.keys[KEY])
    assert (mark.slot, mark.source, mark.target) == (1000, 120, 124)
    assert slashing.watermark(found.protection.keys[OTHER]).slot == 9
    assert not found.manifest.clean
    assert len(found.manifest.remarks) == 2
    assert "is over 2 epochs above" in capsys.readouterr().err
    # What is left out is left out again, and no news.
    assert make(store, main, poisoned, chain=CHAIN) is None


def test_another_chain_s_document_is_left_out(store: Store, main: Ethereum) -> None:
    add(store, 3, document())
    other = Interchange(b"\2" * 32, document(slot=99).keys)
    for chain in (None, CHAIN):
        make(store, main, other, clean=True, chain=chain)
        found = backup.newest(store, IDENTITY)
        assert found
        assert found.protection == document()
        assert not found.manifest.clean
        assert "another chain" in found.manifest.remarks[0]


def test_a_client_cannot_fill_the_manifest(store: Store, main: Ethereum) -> None:
    far = frozenset({(1 << 60, b"")})
    keys = {f"0x{number:096x}": History(far) for number in range(500)}
    add(store, 3, document(), removed_keys=dict.fromkeys(keys, 5))
    assert make(store, main, Interchange(ROOT, keys), chain=CHAIN)
    found = backup.newest(store, IDENTITY)
    assert found
    assert len(found.manifest.remarks) == backup.REMARKS_MAX + 1


def test_before_genesis_little_is_believed(store: Store, main: Ethereum) -> None:
    add(store, 3, document())
    chain = Chain("dev", NOW + 10, 6, 8, f"0x{ROOT.hex()}")
    make(store, main, document(slot=999), chain=chain)
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.protection == document()


NUMBERS = st.integers(0, 200)
DOCUMENTS = st.none() | st.builds(
    lambda slot, source, more, key: document(slot, source, source + more, key),
    NUMBERS, NUMBERS, NUMBERS, st.sampled_from([KEY, OTHER]),
)  # fmt: skip


@given(
    before=st.lists(DOCUMENTS, min_size=1, max_size=3),
    new=st.lists(st.tuples(DOCUMENTS, st.booleans()), max_size=4),
)
def test_an_archive_is_never_below_what_was_known(
    tmp_path_factory: pytest.TempPathFactory,
    main: Ethereum,
    before: list[Interchange | None],
    new: list[tuple[Interchange | None, bool]],
) -> None:
    root = tmp_path_factory.mktemp("store")
    (root / "main").mkdir()
    store = Store("main", root)
    for number, protection in enumerate(before):
        add(store, number, protection)
    known = [one for one in before if one]
    last = len(before) - 1
    for protection, clean in new:
        item = make(store, main, protection, clean=clean, now=0)
        assert item is None or item.sequence > last
        last = item.sequence if item else last
        known += [protection] if protection else []
        found = backup.newest(store, IDENTITY)
        assert found
        if item and known:
            # As a merge has every key and the highest of each.
            assert found.protection
            assert not slashing.compare(slashing.merge(*known), found.protection)


@given(
    there=st.lists(st.integers(0, (1 << 63) - 2), max_size=4),
    seen=st.integers(0, (1 << 63) - 2),
    now=st.integers(0, (1 << 33) - 1),
)
def test_a_sequence_is_above_every_other(
    tmp_path_factory: pytest.TempPathFactory, there: list[int], seen: int, now: int
) -> None:
    root = tmp_path_factory.mktemp("store")
    (root / "main").mkdir()
    store = Store("main", root)
    for number in there:
        store.add(b"%d" % number, CLAIM if number % 2 else ARCHIVE, number)
    found = backup.next_sequence(store, now, seen)
    assert found >= now
    assert all(found > number for number in [*there, seen])


def test_after_the_last_sequence_there_is_none(store: Store) -> None:
    store.add(b"x", CLAIM, backup.SEQUENCE_MAX)
    with pytest.raises(SupervisorError, match="no sequence is above"):
        backup.next_sequence(store, NOW)


def test_a_claim_is_ours(store: Store) -> None:
    add(store, NOW + 5)
    item = backup.claim(store, "main", IDENTITY, NOW)
    made = claims.unseal(store.read(item), IDENTITY)
    assert made == Claim(1, "main", host.host_id(), host.boot_id(), NOW + 6, NOW)
    assert item.sequence == NOW + 6


class Directory:
    """A place in memory."""

    def __init__(self, name: str, problem: str = "", wait: float = 0) -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.puts = 0
        self._problem = problem
        self._wait = wait

    def names(self) -> list[str]:
        time.sleep(self._wait)
        if self._problem:
            raise SupervisorError("Unreachable", self._problem, exit_status=TEMPORARY)
        return list(self.files)

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self.files[name] for name in names}

    def put(self, files: dict[str, bytes]) -> None:
        new = {name: raw for name, raw in files.items() if name not in self.names()}
        self.puts += bool(new)
        self.files |= new


def test_each_place_gets_what_it_lacks(store: Store, main: Ethereum) -> None:
    add(store, 1)
    clean = make(store, main, document(), clean=True, now=2)
    last = make(store, main, document(slot=6), now=3)
    claim = backup.claim(store, "main", IDENTITY, 4)
    backup.claim(store, "main", IDENTITY, 1)
    assert clean
    assert last
    good, bad = Directory("good"), Directory("bad", "connection refused")
    good.files["main.1.x"] = b"old"
    assert backup.upload(store, [good, bad], 5) == {"good": "", "bad": "connection refused"}
    newer = backup.claim(store, "main", IDENTITY, 5)
    assert set(good.files) == {"main.1.x", clean.name, last.name, store.items()[1].name}
    assert backup.upload(store, [good], 5) == {"good": ""}
    assert newer.name in good.files
    assert backup.upload(store, [good], 5) == {"good": ""}
    assert good.puts == 2
    assert claim.sequence == 4


def test_a_slow_place_holds_nobody_up(store: Store) -> None:
    add(store, 1)
    good, slow = Directory("good"), Directory("slow", wait=2)
    begun = time.monotonic()
    found = backup.upload(store, [slow, good], 0.2)
    assert found == {"slow": "no answer within 0.2 s", "good": ""}
    assert time.monotonic() - begun < 1
    assert threading.current_thread() is threading.main_thread()


def test_what_the_disk_has_damaged_is_not_copied(store: Store) -> None:
    good, damaged = add(store, 1), add(store, 2)
    (store.archives / damaged.name).write_bytes(b"x")
    there = Directory("there")
    assert backup.upload(store, [there], 5) == {"there": ""}
    assert set(there.files) == {good.name}
    store.quarantine(good)
    empty = Directory("empty")
    assert backup.upload(store, [empty], 5) == {"empty": ""}
    assert empty.files == {}


def test_what_a_crash_has_left_is_removed(store: Store) -> None:
    item = add(store, 1)
    for directory in (store.directory, store.archives):
        (directory / ".x.12.new").touch()
    backup.tidy(store)
    assert [path.name for path in store.archives.iterdir()] == [item.name]


class CutError(Exception):
    """The power is gone."""


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_cut_at_any_point_loses_nothing(
    store: Store, main: Ethereum, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    add(store, 1, document(slot=5))
    count = 0

    def failing(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            raise CutError
        return real(*arguments)

    owner: object = os if call == "fsync" else Path
    real = getattr(owner, call)
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, failing)
        try:
            make(store, main, document(slot=9), clean=True)
            backup.claim(store, "main", IDENTITY, NOW)
        except CutError:
            pass
    after = backup.newest(store, IDENTITY)
    assert after
    assert after.protection in (document(slot=5), document(slot=9))
    backup.tidy(store)
    last = max(item.sequence for item in store.items())
    again = make(store, main, document(slot=9), clean=True)
    assert again
    assert again.sequence > last
    assert not list(store.archives.glob(".*"))
