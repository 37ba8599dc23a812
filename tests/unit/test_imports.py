"""Keys into an archive: all or none, and never a key that is somewhere else."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import (
    age,
    contents,
    host,
    imports,
    interchange,
    keystore,
    networks,
    removal,
    web3signer,
)
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import Beacon, Record
from validator_supervisor.cli import import_job
from validator_supervisor.contents import Contents, Key, Remote
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.imports import KEYS_MAX, PASSWORD_MAX, Given, Request
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.keystore_crypto import Pbkdf2
from validator_supervisor.place import Directory
from validator_supervisor.store import ARCHIVE, Item, Store
from validator_supervisor.validators import Ethereum, Keys

IDENTITY = age.X25519Identity.generate()
CHAIN = networks.NETWORKS["hoodi"]
ROOT = bytes.fromhex(CHAIN.genesis_validators_root.removeprefix("0x"))
# One iteration: what is tested here is not the work.
QUICK = Pbkdf2(b"\x01" * 32, 1)
SECRETS = [number.to_bytes(32, "big") for number in (11, 12, 13)]


def given_key(number: int, password: bytes = b"password") -> Given:
    stored = keystore.encrypt(SECRETS[number], password, kdf=QUICK)
    return Given(f"key-{number}.json", stored, password)


GIVEN = [given_key(number) for number in range(3)]
KEYS = list(imports.opened(GIVEN))


def protection(*keys: str, root: bytes = ROOT, slot: int = 5) -> bytes:
    history = History(frozenset({(slot, b"")}), frozenset({(1, 2, b"")}))
    return interchange.text(Interchange(root, dict.fromkeys(keys, history))).encode()


@given(
    st.lists(
        st.builds(Given, st.text(max_size=20), st.binary(max_size=50), st.binary(max_size=20)),
        max_size=3,
    ),
    st.none() | st.binary(max_size=50),
    st.booleans(),
    st.booleans(),
    st.lists(st.binary(min_size=48, max_size=48).map(lambda raw: f"0x{raw.hex()}"), max_size=3),
)
def test_a_request_comes_through_the_pipe(
    every: list[Given], known: bytes | None, returned: bool, remote: bool, named: list[str]
) -> None:
    request = Request(tuple(every), known, returned, remote, tuple(named))
    back = imports.parse(imports.text(request))
    assert (back.web3signer, back.named) == (remote, tuple(named))
    assert [one.keystore for one in back.given] == [one.keystore for one in every]
    assert [one.password for one in back.given] == [one.password for one in every]
    assert (back.protection, back.returned) == (known, returned)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_request(raw: bytes) -> None:
    with pytest.raises(FormatError):
        imports.parse(raw)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
def test_passwords_keep_all_but_the_ends_of_lines(lines: list[bytes]) -> None:
    clean = [line.replace(b"\n", b"").rstrip(b"\r") or b"x" for line in lines]
    for end in (b"\n", b"\r\n"):
        assert imports.passwords(end.join(clean) + end, len(clean)) == clean
    assert imports.passwords(clean[0], 7) == clean[:1] * 7


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"a\nb", b"a\n\nb", b"a\nb\nc\n\n", b"x" * (PASSWORD_MAX + 1)]
)
def test_other_numbers_of_passwords_are_refused(raw: bytes) -> None:
    with pytest.raises(SupervisorError) as refused:
        imports.passwords(raw, 3)
    assert refused.value.code == "WrongPassword"


def test_the_file_with_the_wrong_password_is_named() -> None:
    wrong = replace(GIVEN[1], password=b"other")
    with pytest.raises(SupervisorError, match=r"key-1\.json: ") as refused:
        imports.opened([GIVEN[0], wrong])
    assert refused.value.code == "WrongPassword"
    assert "other" not in str(refused.value)


def test_the_same_key_twice_is_refused() -> None:
    again = replace(given_key(0, b"another"), file="again.json")
    with pytest.raises(SupervisorError, match=r"key-0\.json and again\.json hold the same key"):
        imports.opened([GIVEN[0], again])
    with pytest.raises(SupervisorError, match=f"more than {KEYS_MAX}"):
        imports.opened([GIVEN[0]] * (KEYS_MAX + 1))


@pytest.fixture
def validator(example: Applied) -> Ethereum:
    found = replace(example.config.ethereum[0], network="hoodi")
    assert isinstance(found, Ethereum)
    return found


@pytest.fixture
def store(tmp_path: Path, validator: Ethereum) -> Store:
    (tmp_path / "state" / validator.name).mkdir(parents=True)
    return Store(validator.name, tmp_path / "state")


@pytest.fixture
def node(tmp_path: Path) -> Directory:
    (tmp_path / "node").mkdir()
    return Directory("usb", tmp_path / "node")


class Says(Beacon):
    """A beacon node that knows these keys, or fails."""

    def __init__(self, known: dict[str, Record] | None = None, failure: str = "") -> None:
        super().__init__("http://127.0.0.1:1")
        self.known, self.failure = known or {}, failure

    def records(self, public_keys: Sequence[str]) -> dict[str, Record]:
        assert not isinstance(public_keys, dict)
        if self.failure:
            raise SupervisorError("BeaconFailed", self.failure)
        return self.known


def a_record(status: str, *, slashed: bool = False) -> Record:
    return Record(7, status, slashed, 1, 2, 3, f"0x{'00' * 32}")


def do(
    example: Applied,
    validator: Ethereum,
    store: Store,
    node: Directory | None = None,
    *given: Given,
    asked: dict[str, Beacon] | None = None,
    **options: object,
) -> imports.Imported:
    request = Request(given, **options)  # type: ignore[arg-type]
    nodes = [node] if node else []
    if asked is None:
        asked = {"local": Says()}
    return import_job.do(example, validator, store, IDENTITY, nodes, request, asked, CHAIN)


REMOTE = [f"0x{digit * 96}" for digit in "ab"]
SIGNER = Keys(web3signer="https://s")


@pytest.fixture
def signer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the Web3Signer lists."""
    there = [*REMOTE]
    monkeypatch.setattr(web3signer, "listed", lambda _: tuple(there))
    return there


def adopt(
    example: Applied, validator: Ethereum, store: Store, *named: str, **options: object
) -> imports.Imported:
    mine = replace(validator, keys=options.pop("keys", SIGNER))  # type: ignore[arg-type]
    return do(example, mine, store, None, web3signer=True, named=named, **options)  # type: ignore[arg-type]


def test_keys_of_a_web3signer(
    example: Applied, validator: Ethereum, store: Store, signer: list[str]
) -> None:
    done = adopt(example, validator, store, REMOTE[0], protection=protection(REMOTE[0], slot=9))
    assert done.keys == (REMOTE[0],)
    assert done.remarks == ()
    found = newest(store)
    assert found.keys == {REMOTE[0]: Remote()}
    assert set(found.manifest.files) == {contents.PROTECTION}
    assert found.protection
    assert found.protection.keys[REMOTE[0]].blocks == frozenset({(9, b"")})
    assert store.imported() == {REMOTE[0]}
    # All that are wanted is all that are not there yet.
    again = adopt(example, validator, store)
    assert again.keys == (REMOTE[1],)
    assert again.remarks == (f"nothing is known of what {REMOTE[1]} has signed",)
    assert newest(store).manifest.remote_keys == tuple(REMOTE)
    with pytest.raises(SupervisorError, match="no key that is wanted and not adopted yet"):
        adopt(example, validator, store)
    with pytest.raises(SupervisorError, match="is in this validator already"):
        adopt(example, validator, store, REMOTE[0])
    signer.append("0x" + "c" * 96)
    assert adopt(example, validator, store).keys == ("0x" + "c" * 96,)


def test_a_removed_key_of_a_web3signer_comes_back_when_that_is_said(
    example: Applied, validator: Ethereum, store: Store, signer: list[str]
) -> None:
    adopt(example, validator, store)
    gone = [REMOTE[0]]
    removal.remove(store, validator, IDENTITY, Found(), gone, int(time.time()))
    assert newest(store).keys == {REMOTE[1]: Remote()}
    # It is still in the signer: whoever adopts all is not to get it unawares.
    with pytest.raises(SupervisorError, match="was removed from this validator for good"):
        adopt(example, validator, store, *gone)
    for returned in (False, True):
        with pytest.raises(SupervisorError, match=f"skipped {gone[0]}") as refused:
            adopt(example, validator, store, returned=returned)
        assert refused.value.code == "NothingNew"
    added = "0x" + "c" * 96
    signer.append(added)
    done = adopt(example, validator, store, returned=True)
    assert done.keys == (added,)
    assert any(f"skipped {gone[0]}" in remark for remark in done.remarks)
    adopt(example, validator, store, *gone, returned=True)
    assert newest(store).manifest.removed_keys == {}


def test_keystores_and_a_web3signer_do_not_mix(
    example: Applied, validator: Ethereum, store: Store, signer: list[str]
) -> None:
    del signer
    remote = replace(validator, keys=SIGNER)
    with pytest.raises(SupervisorError, match="keys: of main names a Web3Signer"):
        do(example, remote, store, None, GIVEN[0])
    with pytest.raises(SupervisorError, match="keys: of main names no Web3Signer"):
        adopt(example, validator, store, keys="local")
    with pytest.raises(SupervisorError, match="names a Web3Signer"):
        do(example, remote, store, None, GIVEN[0], web3signer=True)
    assert store.items() == []
    do(example, validator, store, None, GIVEN[0])
    with pytest.raises(SupervisorError, match="its archive has 1 keystores"):
        adopt(example, validator, store)
    other = Store("main", store.directory.parent.parent / "other")
    other.directory.mkdir(parents=True)
    adopt(example, validator, other)
    with pytest.raises(SupervisorError, match="a Web3Signer has 2 keys of main"):
        do(example, validator, other, None, GIVEN[0])


def test_a_key_of_another_validator_is_not_adopted(
    example: Applied, validator: Ethereum, store: Store, signer: list[str]
) -> None:
    signer[:] = [KEYS[0], REMOTE[0]]
    item, raw = sealed(store, "other", [0])
    other = store.directory.parent / "other/archives"
    other.mkdir(parents=True)
    (other / item.name).write_bytes(raw)
    with pytest.raises(SupervisorError, match="two validators with one key"):
        adopt(example, validator, store)
    assert adopt(example, validator, store, REMOTE[0]).keys == (REMOTE[0],)


def newest(store: Store) -> Contents:
    item = store.items()[0]
    return contents.unseal(store.read(item), IDENTITY, store.validator)


def sealed(
    store: Store, name: str, keys: list[int], sequence: int = 5, **changed: object
) -> tuple[Item, bytes]:
    """Return an archive of some validator."""
    opened = imports.opened([GIVEN[number] for number in keys])
    facts: dict[str, object] = {
        "host": host.host_id(), "boot": host.boot_id(), "removed_keys": {}, "protection": None,
    } | changed  # fmt: skip
    raw = contents.seal(
        IDENTITY, validator=name, network="hoodi", sequence=sequence, created=9, clean=True,
        keys=opened, **facts,  # type: ignore[arg-type]
    )  # fmt: skip
    del store
    return Item.of(raw, ARCHIVE, name, sequence), raw


def test_the_first_keys(example: Applied, validator: Ethereum, store: Store) -> None:
    before = int(time.time())
    done = do(example, validator, store, None, *GIVEN[:2])
    assert set(done.keys) == set(KEYS[:2])
    assert len(done.remarks) == 2
    found = newest(store)
    assert found.manifest.sequence >= before
    assert not found.manifest.clean
    held = contents.local(found.keys)
    assert {n: k.password for n, k in held.items()} == dict.fromkeys(KEYS[:2], b"password")
    assert found.keys[KEYS[0]] == Key(GIVEN[0].keystore, b"password")
    # An entry for each: a key of which nothing is known is not one that may sign everything.
    assert found.protection
    assert found.protection.keys == {key: History() for key in KEYS[:2]}
    assert store.imported() == set(KEYS[:2])
    assert store.boots() == {host.boot_id()}
    with pytest.raises(SupervisorError, match="is in this validator already"):
        do(example, validator, store, None, GIVEN[1], GIVEN[2])
    assert newest(store) == found


def test_more_keys_keep_the_others_and_what_they_have_signed(
    example: Applied, validator: Ethereum, store: Store
) -> None:
    do(example, validator, store, None, GIVEN[0], protection=protection(KEYS[0], slot=70))
    first = newest(store)
    done = do(example, validator, store, None, GIVEN[1], protection=protection(*KEYS, slot=40))
    assert done.remarks == ()
    found = newest(store)
    assert found.manifest.sequence > first.manifest.sequence
    assert set(found.keys) == set(KEYS[:2])
    assert found.protection
    # Of the keys that were there the file says nothing that counts, and of others nothing at all.
    slots = {key: {slot for slot, _ in h.blocks} for key, h in found.protection.keys.items()}
    assert slots == {KEYS[0]: {70}, KEYS[1]: {40}}


def test_keys_that_are_slashed_or_out_are_skipped(
    example: Applied, validator: Ethereum, store: Store
) -> None:
    known = {
        KEYS[0]: a_record("withdrawal_possible"),
        KEYS[1]: a_record("active_exiting"),
        KEYS[2]: a_record("active_slashed", slashed=True),
        "0xothers": a_record("exited_unslashed"),
    }
    asked: dict[str, Beacon] = {"away": Says(failure="no"), "usb": Says(known)}
    done = do(example, validator, store, None, *GIVEN, asked=asked)
    # One that leaves must sign until it is out.
    assert done.keys == (KEYS[1],)
    assert set(newest(store).keys) == {KEYS[1]}
    assert store.imported() == {KEYS[1]}
    assert done.remarks[:2] == (
        f"skipped {KEYS[0]}: out (withdrawal_possible), says usb",
        f"skipped {KEYS[2]}: slashed (active_slashed), says usb",
    )


def test_where_every_key_is_out_nothing_is_imported(
    example: Applied, validator: Ethereum, store: Store
) -> None:
    known = dict.fromkeys(KEYS, a_record("exited_slashed", slashed=True))
    with pytest.raises(SupervisorError, match="no key is left: skipped 0x") as refused:
        do(example, validator, store, None, *GIVEN, asked={"usb": Says(known)})
    assert refused.value.code == "KeysGone"
    assert store.items() == []


def test_without_a_beacon_node_keys_are_imported_and_it_is_said(
    example: Applied, validator: Ethereum, store: Store
) -> None:
    for number, asked in enumerate([{}, {"usb": Says(failure="no")}]):
        done = do(example, validator, store, None, GIVEN[number], asked=dict(asked))
        assert done.keys == (KEYS[number],)
        assert "no beacon node was asked whether a key is slashed or out" in done.remarks


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (protection(KEYS[0], root=b"\x07" * 32), "OtherChain"),
        (protection(KEYS[1]), "UnknownKeys"),
        (protection(), "UnknownKeys"),
        (protection(KEYS[0], slot=10**9), "Ahead"),
        (b"{}", "InvalidInterchange"),
    ],
)
def test_slashing_protection_that_cannot_be_right(
    example: Applied, validator: Ethereum, store: Store, raw: bytes, code: str
) -> None:
    with pytest.raises(SupervisorError) as refused:
        do(example, validator, store, None, GIVEN[0], protection=raw)
    assert refused.value.code == code
    assert store.items() == []
    assert store.imported() == set()


def test_a_key_of_another_validator_here_or_on_a_node_is_refused(
    example: Applied, validator: Ethereum, store: Store, node: Directory, tmp_path: Path
) -> None:
    other = Store("other", tmp_path / "state")
    other.directory.mkdir()
    item, raw = sealed(store, "other", [0])
    other.add(raw, ARCHIVE, item.sequence)
    with pytest.raises(SupervisorError, match=r"is in validator other .*this host"):
        do(example, validator, store, node, GIVEN[0])
    item, raw = sealed(store, "gone", [1], host="7" * 32)
    node.put({item.name: raw})
    with pytest.raises(SupervisorError, match=r"is in validator gone .*usb"):
        do(example, validator, store, node, GIVEN[1])
    assert set(do(example, validator, store, node, GIVEN[2]).keys) == {KEYS[2]}


def test_a_removed_key_comes_back_only_when_it_is_said(
    example: Applied, validator: Ethereum, store: Store
) -> None:
    item, raw = sealed(store, validator.name, [1], removed_keys={KEYS[0]: 3, KEYS[2]: 4})
    store.add_boot(host.boot_id())
    store.add(raw, ARCHIVE, item.sequence)
    with pytest.raises(SupervisorError, match="was removed from this validator") as refused:
        do(example, validator, store, None, GIVEN[0])
    assert "--returned" in refused.value.hint
    do(example, validator, store, None, GIVEN[0], returned=True)
    assert newest(store).manifest.removed_keys == {KEYS[2]: 4}
    assert set(newest(store).keys) == set(KEYS[:2])


def test_what_another_host_runs_gets_no_keys_here(
    example: Applied, validator: Ethereum, store: Store, node: Directory
) -> None:
    item, raw = sealed(store, validator.name, [1], host="7" * 32)
    node.put({item.name: raw})
    with pytest.raises(SupervisorError, match="host 7777") as refused:
        do(example, validator, store, node, GIVEN[0])
    assert "take-over" in refused.value.hint
    assert store.items() == []


def test_keys_on_a_node_are_not_lost_under_a_newer_archive(
    example: Applied, validator: Ethereum, store: Store, node: Directory
) -> None:
    store.add_boot(host.boot_id())
    item, raw = sealed(store, validator.name, [1], sequence=1 << 40)
    node.put({item.name: raw})
    do(example, validator, store, node, GIVEN[0])
    assert set(newest(store).keys) == set(KEYS[:2])
    assert newest(store).manifest.sequence == (1 << 40) + 1


def test_without_the_nodes_there_is_no_first_archive(
    example: Applied, validator: Ethereum, store: Store, tmp_path: Path
) -> None:
    away = Directory("away", tmp_path / "unmounted")
    with pytest.raises(SupervisorError) as refused:
        do(example, validator, store, away, GIVEN[0])
    assert (refused.value.code, refused.value.exit_status) == ("NodesUnseen", 75)
    item, raw = sealed(store, validator.name, [1])
    store.add_boot(host.boot_id())
    store.add(raw, ARCHIVE, item.sequence)
    done = do(example, validator, store, away, GIVEN[0])
    assert any("away was not looked at" in remark for remark in done.remarks)
