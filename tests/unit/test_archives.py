"""`backup list`, `verify` and `restore`: what the job sees, shows and brings back."""

import io
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.places import Unchanged as Place
from validator_supervisor import age, backup, contents, host, identity
from validator_supervisor import claim as claims
from validator_supervisor.applied import Applied
from validator_supervisor.claim import Claim
from validator_supervisor.cli import archives, job
from validator_supervisor.contents import Key
from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.store import ARCHIVE, CLAIM, Item, Store

IDENTITY = age.X25519Identity.generate()
KEY = "0x" + "ab" * 48
NOW = 1_800_000_000
HEAD = ["VALIDATOR", "WHERE", "SEQUENCE", "MADE", "KIND", "KEYS", "SIZE", "STATE"]


def sealed(sequence: int) -> bytes:
    protection = Interchange(b"\1" * 32, {KEY: History(frozenset({(sequence, b"")}))})
    return contents.seal(
        IDENTITY, validator="main", network="dev", host="1" * 32, boot="2" * 32, sequence=sequence,
        created=NOW, clean=True, keys={KEY: Key(b"{}", b"p\xe4ssword")}, removed_keys={},
        protection=protection,
    )  # fmt: skip


def there(*sequences: int) -> Place:
    files = {}
    for number in sequences:
        raw = sealed(number)
        files[Item.of(raw, ARCHIVE, "main", number).name] = raw
    raw = claims.seal(Claim(1, "main", "1" * 32, "2" * 32, 99, NOW), IDENTITY)
    files[Item.of(raw, CLAIM, "main", 99).name] = raw
    return Place(files=files)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("main", tmp_path)


@pytest.fixture
def run(example: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the job's program at places that the test gives."""
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(identity, "load", lambda: IDENTITY)
    monkeypatch.setattr(archives, "Store", lambda name: Store(name, tmp_path))

    def run(*words: str, nodes: Iterable[Place] = ()) -> int:
        monkeypatch.setattr(archives, "places", lambda *_: list(nodes))
        return archives.main(words)

    return run


def test_a_table_says_where_what_is_and_whether_it_verifies(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("restore", "main", nodes=[there(5, 7)]) == 0
    capsys.readouterr()
    node, bad = there(7), Place("local", problem="not mounted")
    damaged = Item.of(b"x", ARCHIVE, "main", 9).name
    node.files[damaged] = b"\33[2J"
    assert run("list", nodes=[node, bad]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].split() == HEAD
    assert [line.split()[:2] for line in lines[1:4]] == [["main", "this"]] * 3
    assert "\33" not in shown
    assert [line for line in lines if "helsinki" in line and "damaged" in line]
    assert lines[-1] == "local was not reached: not mounted"
    assert run("verify", "main", nodes=[node]) == 1
    assert run("verify", "main", nodes=[there(7)]) == 0
    assert run("verify", "main", nodes=[bad]) == 1
    capsys.readouterr()
    assert run("list", "--json", nodes=[node, bad]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unreachable"] == {"local": "not mounted"}
    newest = next(row for row in found["archives"] if row["where"] == "helsinki" and row["clean"])
    assert (newest["sequence"], newest["keys"], newest["created"]) == (7, 1, NOW)


def test_a_node_that_has_only_older_ones_is_named(
    run: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = there(5, 7), replace(there(5), name="local")
    assert run("verify", nodes=[new, old]) == 1
    said = "local has no good copy of the newest archive of main, 7"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert run("list", "--json", nodes=[new, old]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lacking"] == [{"validator": "main", "where": "local", "sequence": 7}]
    # What this host has counts as well; a node that is away is told of by itself.
    assert run("verify", nodes=[old]) == 0
    store.directory.mkdir()
    store.add(sealed(7), ARCHIVE, 7)
    assert run("verify", nodes=[old]) == 1
    capsys.readouterr()
    assert run("verify", nodes=[new, Place("away", problem="no route")]) == 1
    assert "away has no" not in capsys.readouterr().out
    old.files = dict.fromkeys(old.files, b"x")
    assert run("verify", nodes=[old]) == 1
    assert said in capsys.readouterr().out


def test_where_there_is_nothing_verify_says_so(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", nodes=[Place()]) == 1
    assert run("list", nodes=[Place()]) == 0
    assert "there is no archive of main anywhere" in capsys.readouterr().err


def test_an_empty_host_gets_what_verifies(
    run: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    node, away = there(5, 7), Place("away", problem="no route")
    other = Item.of(b"x", ARCHIVE, "main", 8).name
    node.files[other] = b"x"
    assert run("restore", "main", nodes=[node, away]) == 0
    assert [item.sequence for item in store.items()] == [99, 7, 5]
    assert {item.name for item in store.items()} == set(node.files) - {other}
    found = backup.newest(store, IDENTITY)
    assert found
    assert found.keys == {KEY: Key(b"{}", b"p\xe4ssword")}
    said = capsys.readouterr()
    assert "restored archive 7 of main with 1 keys" in said.out
    assert "take-over main" in said.out
    assert other in said.err
    assert "away was not reached: no route" in said.err
    # Again, it changes nothing.
    assert run("restore", "main", nodes=[node]) == 0
    assert [item.sequence for item in store.items()] == [99, 7, 5]


@pytest.mark.parametrize(
    ("words", "nodes", "why"),
    [
        (("--from", "nowhere"), [Place()], "nowhere is no node that takes backups"),
        ((), [], "no node takes backups"),
        ((), [Place()], "no archive of main that verifies"),
        ((), [Place(problem="no route")], "not reached: helsinki"),
    ],
)
def test_what_cannot_be_restored(
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    nodes: list[Place],
    why: str,
) -> None:
    assert run("restore", "main", *words, nodes=nodes) == 1
    assert why in capsys.readouterr().err


def test_a_host_that_may_have_signed_is_not_restored(
    run: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.directory.mkdir()
    store.set_running(host.boot_id())
    assert run("restore", "main", nodes=[there(7)]) == 1
    assert "may have signed since" in capsys.readouterr().err
    assert store.items() == []


@pytest.mark.parametrize("raw", [sealed(6), b"x", b""])
def test_a_file(
    run: Callable[..., int],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raw: bytes,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    good = len(raw) > 1
    assert run("restore", "main", "--from", "-") == (0 if good else 1)
    assert [item.sequence for item in store.items()] == ([6] if good else [])
    assert ("restored archive 6" in capsys.readouterr().out) == good


def test_files_for_other_use(
    run: Callable[..., int], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("unpack", "main", nodes=[there(5, 7)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[f"validators/{KEY}/password.txt"].encode("latin-1") == b"p\xe4ssword"
    assert found[f"validators/{KEY}/keystore.json"] == "{}"
    assert '"slot": "7"' in found["slashing-protection.json"]
    assert not store.directory.exists()


def test_a_job_is_shut_in_like_the_unit(example: Applied) -> None:
    argv = job.command(example, "archives", ["list"])
    assert argv[:5] == ["/usr/bin/systemd-run", "--quiet", "--collect", "--pipe", "--wait"]
    assert argv[-3:] == ["--", "/usr/lib/validator-supervisor/archives", "list"]
    lines = argv[argv.index("-p") + 1 : -3 : 2]
    unit = (Path(__file__).parents[2] / "units/validator-backup@.service").read_text().splitlines()
    sandbox = [line for line in unit if "=" in line and not line.startswith("#")]
    sandbox = sandbox[sandbox.index("CapabilityBoundingSet=") :]
    assert f"Environment={host.BOOT}={host.boot_id()}" in lines
    own = ("Environment", "Exec", "Notify", "Runtime", "State", "Timeout", "Type")
    assert [line for line in sandbox if not line.startswith(own)] == [
        line for line in lines if line in sandbox
    ]
    assert "LoadCredential=ssh.helsinki:validator-tunnel.key-1" in lines


def test_a_job_needs_root_and_an_identity(
    example: Applied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 5)
    with pytest.raises(SupervisorError, match="only root may"):
        job.become(example, "archives", [])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(job, "UNLOCKED", tmp_path / "none")
    with pytest.raises(SupervisorError, match="the identity is locked"):
        job.become(example, "archives", [])
