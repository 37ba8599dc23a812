"""Archives for another identity: nothing that the one before has said is forgotten."""

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from validator_supervisor import age, backup, claim, contents, host
from validator_supervisor.claim import Claim
from validator_supervisor.cli.reencrypt_job import reencrypt
from validator_supervisor.contents import Contents, Key
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store

OLD, NEW = age.X25519Identity.generate(), age.X25519Identity.generate()
KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
NOW = 1_800_000_000


def document(slot: int) -> Interchange:
    return Interchange(b"\1" * 32, {KEY: History(frozenset({(slot, b"")}))})


def sealed(
    sequence: int, slot: int, identity: age.X25519Identity = OLD, **changed: object
) -> bytes:
    values: dict[str, object] = {
        "validator": "main", "network": "dev", "host": host.host_id(), "boot": host.boot_id(),
        "sequence": sequence, "created": NOW, "clean": True, "keys": {KEY: Key(b"{}", b"pw")},
        "removed_keys": {OTHER: 5}, "protection": document(slot),
    }  # fmt: skip
    return contents.seal(identity, **{**values, **changed})  # type: ignore[arg-type]


class Node:
    """A node in memory."""

    name = "one"

    def __init__(self, *files: tuple[bytes, str, int], problem: str = "") -> None:
        self.files = {Item.of(raw, kind, "main", n).name: raw for raw, kind, n in files}
        self.problem = problem

    def names(self) -> list[str]:
        if self.problem:
            raise SupervisorError("Unreachable", self.problem, exit_status=TEMPORARY)
        return list(self.files)

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        return {name: self.files[name] for name in names}

    def put(self, files: dict[str, bytes]) -> None:
        raise AssertionError(files)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store("main", tmp_path)
    made.directory.mkdir()
    return made


def opened(store: Store, item: Item | None) -> Contents:
    assert item
    assert item == next(one for one in store.items() if one.kind == ARCHIVE)
    return contents.unseal(store.read(item), NEW, "main")


def test_what_only_a_node_has_is_in_it(store: Store) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    node = Node((sealed(7, 900, keys={KEY: Key(b"[]", b"pw")}), ARCHIVE, 7))
    found = opened(store, reencrypt(store, [node], OLD, NEW, 5))
    assert found.protection == document(900)
    assert found.manifest.sequence == 8
    assert found.keys == {KEY: Key(b"[]", b"pw")}
    assert found.manifest.removed_keys == {OTHER: 5}
    # It does not run here: nobody is told that it does.
    assert [one.kind for one in store.items()] == [ARCHIVE, ARCHIVE]


def test_what_an_interrupted_rotation_has_made_is_in_it(store: Store) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    store.add(sealed(9, 500, NEW), ARCHIVE, 9)
    assert opened(store, reencrypt(store, [], OLD, NEW, NOW)).protection == document(500)


def test_who_runs_it_is_said_to_the_new_identity_too(store: Store) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    store.add_boot(host.boot_id())
    store.set_running(host.boot_id())
    reencrypt(store, [], OLD, NEW, NOW)
    (item,) = (one for one in store.items() if one.kind == CLAIM)
    assert claim.unseal(store.read(item), NEW).host == host.host_id()


@pytest.mark.parametrize("kind", [ARCHIVE, CLAIM])
def test_it_is_not_forgotten_that_another_host_has_run_it(store: Store, kind: str) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    before = store.items()
    theirs = Claim(1, "main", "1" * 32, "2" * 32, 7, NOW)
    raw = claim.seal(theirs, OLD) if kind == CLAIM else sealed(7, 9, host="1" * 32, boot="2" * 32)
    with pytest.raises(SupervisorError, match=f"host {'1' * 32} runs main"):
        reencrypt(store, [Node((raw, kind, 7))], OLD, NEW, NOW)
    assert store.items() == before
    store.accept(7)
    backup.claim(store, "main", OLD, NOW)
    assert reencrypt(store, [Node((raw, kind, 7))], OLD, NEW, NOW)


def test_a_node_that_is_away_may_say_it(store: Store) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    with pytest.raises(SupervisorError, match="one: no route") as caught:
        reencrypt(store, [Node(problem="no route")], OLD, NEW, NOW)
    assert (caught.value.code, caught.value.exit_status) == ("NodesUnseen", TEMPORARY)
    assert len(store.items()) == 1


def test_many_archives_of_the_old_one_are_no_hindrance(store: Store) -> None:
    store.add(sealed(3, 100), ARCHIVE, 3)
    raw = sealed(5, 100)
    every = ((sealed(5, 100, created=NOW + n), ARCHIVE, 5) for n in range(70))
    node = Node((raw, ARCHIVE, 5), *itertools.islice(every, 70))
    assert opened(store, reencrypt(store, [node], OLD, NEW, NOW)).protection == document(100)


def test_without_an_archive_there_is_none(store: Store) -> None:
    assert reencrypt(store, [Node()], OLD, NEW, NOW) is None
    assert backup.newest(store, NEW) is None
