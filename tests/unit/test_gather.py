"""What is found on this host and on nodes that lie, hide, or are away."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import age, claim, contents, gather
from validator_supervisor.claim import Claim
from validator_supervisor.contents import Key
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.place import UNREADABLE
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store

IDENTITY, STRANGER = age.X25519Identity.generate(), age.X25519Identity.generate()
KEY = "0x" + "ab" * 48
NOW = 1_800_000_000


def sealed(sequence: int, identity: age.X25519Identity = IDENTITY, **changed: object) -> bytes:
    values: dict[str, object] = {
        "validator": "main", "network": "dev", "host": "1" * 32, "boot": "2" * 32,
        "sequence": sequence, "created": NOW, "clean": False, "keys": {KEY: Key(b"{}", b"pw")},
        "removed_keys": {}, "protection": None,
    }  # fmt: skip
    return contents.seal(identity, **{**values, **changed})  # type: ignore[arg-type]


def said(sequence: int, validator: str = "main", identity: age.X25519Identity = IDENTITY) -> bytes:
    made = Claim(1, validator, "1" * 32, "2" * 32, sequence, NOW)
    return claim.seal(made, identity)


def named(raw: bytes, kind: str, sequence: int) -> str:
    return Item.of(raw, kind, "main", sequence).name


class Node:
    """A node: what it says it has, what it gives, and how it fails."""

    def __init__(self, name: str, files: dict[str, bytes] | None = None) -> None:
        self.name = name
        self.files = files or {}
        self.fetched: list[str] = []
        self.bad: set[str] = set()
        self.away: set[str] = set()
        self.failure: Exception | None = None
        self.held: threading.Event | None = None

    def names(self) -> list[str]:
        if self.held:
            self.held.wait(5)
        if self.failure:
            raise self.failure
        return list(self.files)

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        names = list(names)
        self.fetched += names
        for name in names:
            if name in self.bad:
                raise SupervisorError(UNREADABLE, f"{name} cannot be read", exit_status=TEMPORARY)
            if name in self.away:
                raise SupervisorError("Unreachable", "connection lost", exit_status=TEMPORARY)
        return {name: self.files[name] for name in names if self.files[name] != b"gone"}

    def put(self, files: dict[str, bytes]) -> None:
        raise AssertionError(files)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "main").mkdir()
    return Store("main", tmp_path)


def look(store: Store, *nodes: Node, seconds: float = 5) -> gather.Found:
    return gather.gather(store, nodes, IDENTITY, seconds)


def test_everything_that_verifies_is_found_and_where(store: Store) -> None:
    old, new = sealed(5), sealed(7)
    mine = store.add(old, ARCHIVE, 5)
    made = said(8)
    one = Node("one", {named(new, ARCHIVE, 7): new, mine.name: old})
    two = Node("two", {named(new, ARCHIVE, 7): new, named(made, CLAIM, 8): made})
    found = look(store, one, two)
    assert [(a.item.sequence, a.where) for a in found.archives] == [
        (7, ("one", "two")),
        (5, ("this host", "one")),
    ]
    assert [(c.claim.sequence, c.where) for c in found.claims] == [(8, ("two",))]
    assert (set(found.seen), found.unseen, found.refused) == ({"one", "two"}, {}, ())
    assert found.sequence == 8
    # What is here is not fetched again.
    assert mine.name not in one.fetched
    assert gather.Found().sequence == -1


@pytest.mark.parametrize(
    ("raw", "name", "reason"),
    [
        (b"junk", named(b"junk", ARCHIVE, 9), ""),
        (sealed(9), named(b"else", ARCHIVE, 9), "is not what its name says"),
        (b"", named(b"else", CLAIM, 9), "is not what its name says"),
        (said(9), named(said(9), ARCHIVE, 9), ""),
        (sealed(9, STRANGER), "", ""),
        (said(9, identity=STRANGER), "claim", "was not made with this identity"),
        (sealed(9, validator="other"), "", "is of other (ethereum)"),
        (said(9, "other"), "claim", "is of other"),
    ],
    ids=range(8),
)
def test_what_does_not_verify_is_refused_with_its_reason(
    store: Store, raw: bytes, name: str, reason: str
) -> None:
    if name in ("", "claim"):
        name = named(raw, name or ARCHIVE, 9)
    good = store.add(sealed(1), ARCHIVE, 1)
    found = look(store, Node("bad", {name: raw}))
    assert [one.item for one in found.archives] == [good]
    assert found.claims == ()
    ((refused),) = found.refused
    assert (refused.where, refused.name) == ("bad", name)
    assert reason in refused.reason
    assert refused.reason


@pytest.mark.parametrize("kind", [ARCHIVE, CLAIM])
def test_another_number_in_the_name_is_refused(store: Store, kind: str) -> None:
    raw = sealed(9) if kind == ARCHIVE else said(9)
    for number in (8, 10, (1 << 63) - 1):
        found = look(store, Node("bad", {named(raw, kind, number): raw}))
        assert [one.reason for one in found.refused] == [f"its name says {number}, and it says 9"]
        assert found.sequence == -1


def test_names_that_are_none_are_not_asked_for(store: Store) -> None:
    raw = sealed(3)
    names = ["../x", "", "main", "\n", "a" * 999, named(raw, ARCHIVE, 1 << 63)]
    names += [named(raw, ARCHIVE, 3).replace("main", "other"), f"main.{'9' * 20}.{'a' * 32}.age"]
    node = Node("bad", dict.fromkeys(names, raw))
    assert look(store, node).refused == ()
    assert node.fetched == []


def junk(number: int, *kinds: str) -> dict[str, bytes]:
    """Return files with the highest numbers, whose names are right."""
    top = (1 << 63) - 1
    raws = [(b"%d" % n, kind, top - n) for n in range(number) for kind in kinds]
    return {named(raw, kind, n): raw for raw, kind, n in raws}


def test_a_few_of_each_kind_are_asked_for_whatever_a_node_lists(store: Store) -> None:
    files = {named(sealed(n), ARCHIVE, n): b"" for n in range(400)}
    files |= {named(raw, ARCHIVE, n): raw for n in range(400, 404) for raw in [sealed(n)]}
    files |= {named(raw, CLAIM, n): raw for n in range(400) for raw in [said(n)]}
    node = Node("full", files)
    found = look(store, node)
    assert len(node.fetched) == 2 * gather.NEWEST
    assert len(found.archives) == len(found.claims) == gather.NEWEST


@pytest.mark.parametrize("number", [3, 62])
def test_junk_with_high_numbers_hides_nothing(store: Store, number: int) -> None:
    archive, made = sealed(5), said(8)
    good = {named(archive, ARCHIVE, 5): archive, named(made, CLAIM, 8): made}
    found = look(store, Node("shared", {**junk(number, ARCHIVE, CLAIM), **good}))
    assert [one.item.sequence for one in found.archives] == [5]
    assert [one.claim.sequence for one in found.claims] == [8]
    assert (found.seen, found.unseen) == (("shared",), {})
    assert len(found.refused) == 2 * number


@pytest.mark.parametrize("kind", [ARCHIVE, CLAIM])
def test_too_much_junk_to_see_through_is_not_seen(store: Store, kind: str) -> None:
    raw = sealed(5) if kind == ARCHIVE else said(5)
    files = {**junk(sum(gather.DEPTHS), kind), named(raw, kind, 5): raw}
    found = look(store, Node("shared", files))
    assert (found.seen, found.archives, found.claims) == ((), (), ())
    assert "63 newest" in found.unseen["shared"]


def test_archives_of_an_identity_before_are_not_fetched_for_one_that_opens(store: Store) -> None:
    old = {n: sealed(n, STRANGER) for n in range(100)}
    raw = sealed(200)
    files = {named(r, ARCHIVE, n): r for n, r in old.items()} | {named(raw, ARCHIVE, 200): raw}
    node = Node("one", files)
    assert [one.item.sequence for one in look(store, node).archives] == [200]
    assert len(node.fetched) == gather.NEWEST


def test_here_everything_is_searched(store: Store) -> None:
    good = store.add(sealed(1), ARCHIVE, 1)
    for number in range(2, 80):
        store.add(sealed(number, STRANGER), ARCHIVE, number)
    assert [one.item for one in look(store).archives] == [good]


def test_a_file_that_this_disk_does_not_give_is_named(store: Store) -> None:
    good = store.add(sealed(1), ARCHIVE, 1)
    bad = Item.of(b"x", ARCHIVE, "main", 2)
    (store.archives / bad.name).mkdir()
    found = look(store)
    assert [one.item for one in found.archives] == [good]
    assert [(one.where, one.name) for one in found.refused] == [(gather.HERE, bad.name)]


def test_a_file_that_goes_meanwhile_is_not_there(store: Store) -> None:
    found = look(store, Node("one", {named(sealed(3), ARCHIVE, 3): b"gone"}))
    assert found == gather.Found(seen=("one",))


def test_a_file_that_cannot_be_read_does_not_hide_the_others(store: Store) -> None:
    files = {named(raw, ARCHIVE, n): raw for n, raw in ((3, sealed(3)), (9, sealed(9)))}
    made = said(8)
    node = Node("one", {**files, named(made, CLAIM, 8): made})
    node.bad = {named(files[name], ARCHIVE, 9) for name in files if ".9." in name}
    found = look(store, node)
    assert [one.item.sequence for one in found.archives] == [3]
    assert [one.item.sequence for one in found.claims] == [8]
    ((refused),) = found.refused
    (bad,) = node.bad
    assert (refused.where, refused.name, "cannot be read" in refused.reason) == ("one", bad, True)
    assert (found.seen, found.unseen) == (("one",), {})


def test_a_node_that_goes_away_between_files_is_unseen(store: Store) -> None:
    files = {named(raw, ARCHIVE, n): raw for n, raw in ((3, sealed(3)), (9, sealed(9)))}
    node = Node("one", files)
    last, first = sorted(files)[::-1], sorted(files)[0]
    node.bad, node.away = {last[0]}, {first}
    found = look(store, node)
    assert (found.archives, found.refused, found.seen) == ((), (), ())
    assert found.unseen == {"one": "connection lost"}


def test_a_damaged_copy_does_not_hide_a_good_one(store: Store) -> None:
    raw = sealed(7)
    item = store.add(raw, ARCHIVE, 7)
    (store.archives / item.name).write_bytes(b"damaged")
    worse = Node("a", {item.name: b"also damaged"})
    found = look(store, worse, Node("b", {item.name: raw}))
    assert [one.item for one in found.archives] == [item]
    assert found.archives[0].raw == raw
    assert found.archives[0].where == ("b",)
    ((refused),) = found.refused
    assert (refused.where, refused.name) == ("this host, a", item.name)


def test_what_was_set_aside_takes_nobodys_place(store: Store) -> None:
    good = store.add(sealed(1), ARCHIVE, 1)
    for number in range(2, 7):
        store.quarantine(store.add(sealed(number), ARCHIVE, number))
    found = look(store)
    assert [one.item for one in found.archives] == [good]
    assert {one.reason for one in found.refused} == {"was set aside by a person"}


def test_nodes_that_fail_are_unseen(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    away, slow, odd = (
        Node("away"),
        Node("slow", {named(sealed(9), ARCHIVE, 9): sealed(9)}),
        Node("odd"),
    )
    away.failure = SupervisorError("Unreachable", "connection refused", exit_status=TEMPORARY)
    odd.failure = SupervisorError("NoSequence", "anything")
    slow.held = threading.Event()
    begun = time.monotonic()
    found = look(store, away, slow, odd, Node("good"), seconds=0.2)
    assert time.monotonic() - begun < 2
    slow.held.set()
    assert found.seen == ("good",)
    assert found.unseen == {
        "away": "connection refused",
        "slow": "no answer within 0.2 s",
        "odd": "anything",
    }
    assert found.archives == ()
    assert capsys.readouterr().err == ""


@given(
    files=st.dictionaries(
        st.tuples(st.integers(0, 1 << 70), st.sampled_from([ARCHIVE, CLAIM]), st.booleans()),
        st.binary(max_size=40),
        max_size=12,
    )
)
def test_nothing_that_a_node_makes_up_is_used(
    files: dict[tuple[int, str, bool], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store("main", tmp_path_factory.mktemp("state"))
    store.directory.mkdir()
    made = {
        named(raw if right else b"x", kind, number): raw
        for (number, kind, right), raw in files.items()
    }
    found = look(store, Node("bad", made))
    assert (found.archives, found.claims, found.sequence) == ((), (), -1)
