"""Slashed keys: when they halt, on whose word, and that the moment is seen once, and not missed."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import durable, halt, slashed
from validator_supervisor.applied import Applied
from validator_supervisor.halt import Halt
from validator_supervisor.slashed import Judgement, Slashings, judge
from validator_supervisor.validators import Ethereum

A, B, C = (f"0x{digit * 96}" for digit in "abc")
CONFIG = """\
version: 1
nodes:
  a: {{beacon: {{hoodi: "127.0.0.1:1", sepolia: "127.0.0.1:3"}}}}
  b: {{beacon: {{hoodi: "127.0.0.1:{port}", sepolia: "127.0.0.1:4"}}}}
validators:
  main: {{{common}, network: hoodi, on_slashed: {reach}}}
  second: {{{common}, network: hoodi}}
  far: {{{common}, network: sepolia}}
  other: {{kind: command, command: [/usr/bin/foo]}}
"""
COMMON = (
    "kind: ethereum, fee_recipient: '0x00000000000000000000000000000000000000fe', "
    "release: {client: lodestar, binary: /usr/bin/lodestar}"
)
URL_A, URL_B = "http://127.0.0.1:1", "http://127.0.0.1:2"
WORDS = st.dictionaries(st.sampled_from([A, B, C]), st.booleans())
SAID = st.dictionaries(st.sampled_from(["x", "y", "z"]), WORDS)


@given(WORDS, SAID, st.sets(st.sampled_from([A, B, C])), st.integers(1, 2))
def test_only_what_was_not_slashed_and_is_by_enough_halts(
    known: Mapping[str, bool], said: Mapping[str, Mapping[str, bool]], keys: set[str], needed: int
) -> None:
    found = judge(known, said, sorted(keys), needed)
    for key in (A, B, C):
        votes = sum(words.get(key, False) for words in said.values())
        assert (key in found.fresh) == (key in keys and known.get(key) is False and votes >= needed)
        assert (key in found.before) == (key in keys and key not in known and votes >= needed)
        assert (key in found.alone) == (
            key in keys and not known.get(key, False) and 0 < votes < needed
        )
        # Slashed is for ever, and becomes known by its halt, or because it always was.
        expected = (key in keys and known.get(key, False)) or key in found.before
        assert found.known.get(key, False) == expected
    assert set(found.known) <= keys


@given(st.lists(SAID, max_size=6))
def test_a_key_halts_once(rounds: list[dict[str, dict[str, bool]]]) -> None:
    known: Mapping[str, bool] = {A: False}
    halts = 0
    for said in rounds:
        found = judge(known, said, [A], 2)
        halts += len(found.fresh)
        known = {**found.known, **dict.fromkeys(found.fresh, True)}
    assert halts == any(sum(w.get(A, False) for w in said.values()) >= 2 for said in rounds)


def test_who_lies_from_the_beginning_hides_nothing() -> None:
    lie, truth = {A: True}, {A: False}
    first = judge({}, {"x": lie, "y": truth}, [A], 2)
    assert first == Judgement({A: False}, (), (), (A,))
    # In any order.
    assert judge(judge({}, {"x": lie}, [A], 2).known, {"x": lie, "y": truth}, [A], 2) == first
    assert judge(first.known, {"x": lie, "y": lie}, [A], 2).fresh == (A,)


@given(st.binary(max_size=200))
def test_any_record_is_read_or_begun_anew(raw: bytes) -> None:
    found = slashed.parse(raw)
    assert slashed.parse(slashed.dump(found)) == found


@pytest.mark.parametrize(
    "stored",
    [[], 5, {"main": []}, {"main": {A: 1}}, {"main": {A: "true"}}, {"main": {"0x": True}},
     {"main": {A.upper(): True}}, {"../x": {}}, {"main": {A: None}}],
)  # fmt: skip
def test_a_damaged_record_is_an_error_and_empty(
    stored: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slashed.parse(json.dumps(stored).encode()) == {}
    assert "slashed.json" in capsys.readouterr().err
    assert slashed.parse(b'{"main": {}, "main": {}}') == {}
    assert slashed.parse(b"") == {}


def test_names_of_some_are_enough() -> None:
    assert slashed.names([A]) == f"key {A} is slashed"
    assert slashed.names([A, B]) == f"keys {A}, {B} are slashed"
    assert slashed.names([A, B, C, "0xd"]) == f"keys {A}, {B} and 2 more are slashed"
    assert len(halt.text(halt.SLASHED, slashed.names([A] * 1000))) < halt.REASON_MAX


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "halt").mkdir()
    monkeypatch.setattr(slashed, "RECORD", tmp_path / "slashed.json")
    monkeypatch.setattr(halt, "REQUESTS", tmp_path / "halt")
    return tmp_path


class Scene:
    """The part of the watch that is tested, and what happens around it."""

    def __init__(self, applied: Applied, place: Path) -> None:
        self.applied = applied
        self.place = place
        self.watch = Slashings(applied)

    def again(self) -> None:
        """Start the watch again."""
        self.watch = Slashings(self.applied)

    def say(
        self,
        url: str,
        *keys: str,
        ran: Sequence[str] = (A, B),
        last: bool = True,
        name: str = "main",
    ) -> None:
        """Have a beacon node say that these are slashed, of all that run."""
        validator = self.applied.config.validators[name]
        assert isinstance(validator, Ethereum)
        words = {key: key in keys for key in ran}
        self.watch.hear(validator, url, ran, words, last=last)

    def both(self, *keys: str) -> None:
        """Have both nodes say it."""
        self.say(URL_A, *keys, last=False)
        self.say(URL_B, *keys)

    def asked(self) -> dict[str, Halt]:
        """Return the requests that are there."""
        return {p.name: halt.parse(p.read_bytes()) for p in (self.place / "halt").iterdir()}

    def halts(self) -> None:
        """Do what validator-halt.service does."""
        for path in (self.place / "halt").iterdir():
            path.unlink()
        self.watch.settle()

    def record(self) -> dict[str, dict[str, bool]]:
        """Return what is on the disk."""
        found: dict[str, dict[str, bool]] = json.loads((self.place / "slashed.json").read_text())
        return found


@pytest.fixture
def scene(make: Callable[[str], Applied], places: Path) -> Callable[..., Scene]:
    def scene(reach: str = "validator", port: int = 2) -> Scene:
        return Scene(make(CONFIG.format(common=COMMON, reach=reach, port=port)), places)

    return scene


Make = Callable[..., Scene]


def test_two_nodes_halt_and_are_named(scene: Make, capsys: pytest.CaptureFixture[str]) -> None:
    it = scene()
    it.both()
    assert it.asked() == {}
    assert it.record() == {"main": {A: False, B: False}}
    it.say(URL_A, B)
    assert it.asked() == {}
    it.say(URL_B, B)
    assert it.asked() == {"main": Halt("slashed", f"key {B} is slashed, say a, b")}
    assert it.watch.slashed == {"main": [B]}
    assert f"main: key {B} is slashed, say a, b" in capsys.readouterr().err


def test_one_of_two_is_a_warning_once(scene: Make, capsys: pytest.CaptureFixture[str]) -> None:
    it = scene()
    it.both()
    for _ in range(4):
        it.say(URL_A, A, last=False)
        it.say(URL_B)
    said = capsys.readouterr().err
    assert said.count(f"slashing of main: key {A} is slashed, says a alone") == 1
    assert it.asked() == {}
    assert it.watch.slashed == {}
    assert it.record() == {"main": {A: False, B: False}}


def test_nothing_is_said_of_one_before_the_other_has_answered(
    scene: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene()
    it.both()
    it.say(URL_A, A, last=False)
    assert "alone" not in capsys.readouterr().err
    validator = it.applied.config.ethereum[0]
    it.watch.hear(validator, URL_B, (A, B), None, last=True)
    assert "says a alone" in capsys.readouterr().err


def test_the_only_node_is_enough_and_the_same_one_twice_is_one(scene: Make) -> None:
    # Two nodes of the configuration that are one beacon node.
    it = scene(port=1)
    it.say(URL_A)
    it.say(URL_A, A)
    assert set(it.asked()) == {"main"}
    it = scene()
    it.say(URL_A)
    it.say(URL_A, A)
    it.say(URL_A, A)
    it.watch.settle()
    assert not it.watch.halting


def test_slashed_when_first_seen_does_not_halt(
    scene: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene()
    for _ in range(3):
        it.both(A)
    assert it.asked() == {}
    assert it.record() == {"main": {A: True, B: False}}
    assert it.watch.slashed == {"main": [A]}
    assert capsys.readouterr().err.count("no halt: so it was when first seen") == 1
    it.again()
    it.both(A)
    assert it.asked() == {}
    it.both(A, B)
    assert it.asked()["main"].reason.startswith(f"key {B} is slashed")


@pytest.mark.parametrize(
    ("reach", "halted"),
    [("validator", ["main"]), ("network", ["main", "second"]), ("alert", [])],
)
def test_how_far_it_reaches(
    scene: Make, reach: str, halted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene(reach)
    it.both()
    it.both(A)
    assert sorted(it.asked()) == halted
    assert f"main: key {A} is slashed, say a, b\n" in capsys.readouterr().err
    assert it.watch.slashed == {"main": [A]}
    if reach == "network":
        assert it.asked()["second"].reason == f"main: key {A} is slashed, say a, b"
    it.halts()
    it.both(A)
    assert it.asked() == {}
    assert it.record() == {"main": {A: True, B: False}}


def test_it_is_known_to_be_slashed_once_it_has_halted_and_not_before(scene: Make) -> None:
    it = scene()
    it.both()
    it.both(A)
    assert it.watch.halting
    assert it.record()["main"][A] is False
    # Killed, or the power is cut: the request may be gone, or not.
    for request in (it.place / "halt" / "main", it.place / "none"):
        request.unlink(missing_ok=True)
        it.again()
        it.both(A)
        assert set(it.asked()) == {"main"}
        assert it.record()["main"][A] is False
    it.both(A)
    it.halts()
    assert not it.watch.halting
    assert it.record()["main"][A] is True
    # Resumed.
    it.again()
    it.both(A)
    assert it.asked() == {}


def test_another_key_meanwhile_is_in_the_same_request(scene: Make) -> None:
    it = scene()
    it.both()
    it.both(A)
    it.both(A, B)
    assert it.asked()["main"].reason == f"keys {A}, {B} are slashed, say a, b"
    it.halts()
    assert it.record() == {"main": {A: True, B: True}}


def test_a_request_that_cannot_be_written_is_tried_again(
    scene: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene("network")
    it.both()
    (it.place / "halt").rmdir()
    it.both(A)
    it.watch.settle()
    assert it.watch.halting
    assert capsys.readouterr().err.count("No such file or directory") == 1
    assert it.record()["main"][A] is False
    (it.place / "halt").mkdir()
    it.watch.settle()
    assert sorted(it.asked()) == ["main", "second"]


def test_a_record_that_cannot_be_written_costs_no_halt(
    scene: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    it = scene()

    def full(*given: object) -> None:
        del given
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write", full)
        it.both()
        it.both(A)
        assert set(it.asked()) == {"main"}
        assert capsys.readouterr().err.count("No space left") == 1
        it.halts()
        it.both(A)
    assert it.asked() == {}
    it.both(A)
    assert it.record() == {"main": {A: True, B: False}}


def test_it_is_written_when_something_changes_alone(
    scene: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []

    def write(path: Path, data: bytes, mode: int) -> None:
        del path, mode
        written.append(data)

    monkeypatch.setattr(durable, "write", write)
    it = scene()
    for _ in range(3):
        it.both()
        it.watch.settle()
    assert len(written) == 1
    (it.place / "slashed.json").write_bytes(written[0])
    it.again()
    it.both()
    assert len(written) == 1


def test_who_is_not_configured_is_forgotten_and_so_is_who_does_not_run(scene: Make) -> None:
    path = scene().place / "slashed.json"
    path.write_text(json.dumps({"gone": {A: True}, "main": {A: True, C: True}, "other": {A: True}}))
    it = scene()
    assert it.watch.slashed == {"main": [A, C]}
    it.both(A)
    assert it.record() == {"main": {A: True, B: False}}


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "huge"])
def test_what_is_no_record_is_none(
    scene: Make, places: Path, kind: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(slashed, "SIZE_MAX", 10)
    path = places / "slashed.json"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("{}" + " " * 10)
    it = scene()
    assert it.watch.slashed == {}
    assert str(path) in capsys.readouterr().err


def test_validators_are_judged_each_for_itself(scene: Make) -> None:
    it = scene()
    it.both()
    for url in (URL_A, URL_B):
        it.say(url, name="second")
    it.say(URL_A, A)
    it.say(URL_B, A, name="second")
    assert it.asked() == {}
    it.say(URL_A, A, name="second")
    assert set(it.asked()) == {"second"}
