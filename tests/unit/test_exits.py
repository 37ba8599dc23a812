"""Voluntary exits: what would count, what it means, and the job that has the client sign one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import exits, run
from validator_supervisor.applied import Applied
from validator_supervisor.beacon import FAR_FUTURE_EPOCH, Beacon, Record, Syncing
from validator_supervisor.cli import exit_job
from validator_supervisor.cli.exit_job import EXIT, LOOK, SLOTS, SLOTS_FAILED, Task
from validator_supervisor.contents import Key, Remote
from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.exits import Seen
from validator_supervisor.liveness import Clock
from validator_supervisor.networks import Chain
from validator_supervisor.validators import Keys, Release

CHAIN = Chain("dev", 1000, 6, 8, "0x" + "01" * 32)
LENGTH = 48
KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
TO = "0x00000000219ab540356cBB839Cbe05303d7705Fa"
ADDRESS = "0x01" + "00" * 11 + TO[2:].lower()
GOOD = Record(12, "active_ongoing", False, 10, FAR_FUTURE_EPOCH, FAR_FUTURE_EPOCH, ADDRESS)
GONE = replace(GOOD, status="active_exiting", exit_epoch=306, withdrawable_epoch=562)
NOW = 300


def refusal(seen: Seen, epoch: int = NOW) -> tuple[str, str]:
    with pytest.raises(SupervisorError) as caught:
        exits.check(seen, CHAIN, epoch)
    assert (caught.value.code, caught.value.exit_status) == ("WouldNotCount", 1)
    return caught.value.message, caught.value.hint


def test_an_exit_that_counts() -> None:
    exits.check(Seen(GOOD, 256), CHAIN, NOW)
    exits.check(Seen(GOOD, 290), CHAIN, NOW)
    exits.check(Seen(replace(GOOD, activation_epoch=NOW), 0), CHAIN, NOW)


@pytest.mark.parametrize(
    ("seen", "message", "hint"),
    [
        (Seen(replace(GOOD, slashed=True), 0), "slashed", ""),
        (Seen(replace(GOOD, slashed=True, exit_epoch=5), 0), "slashed", ""),
        (Seen(GOOD, 291), "has not been active for 291 epochs", "from epoch 301 (1970-01-01 04:17"),
        (Seen(replace(GOOD, activation_epoch=301), 0), "not active yet", "from epoch 301 ("),
        (Seen(replace(GOOD, activation_epoch=301), 9), "not active yet", "from epoch 310 ("),
        (Seen(replace(GOOD, activation_epoch=FAR_FUTURE_EPOCH), 9), "not active yet", ""),
        (Seen(replace(GOOD, status="withdrawal_done"), 256), "not active (withdrawal_done)", ""),
        (Seen(GOOD, 256, [400, 390]), "waits for 2 partial", "not before epoch 400 ("),
        (Seen(GOOD, FAR_FUTURE_EPOCH), "has not been", f"from epoch {FAR_FUTURE_EPOCH + 10} on"),
    ],
)
def test_an_exit_that_does_not(seen: Seen, message: str, hint: str) -> None:
    said = refusal(seen)
    assert message in said[0]
    assert hint in said[1]
    assert bool(hint) == bool(said[1])


EPOCHS = st.integers(0, 400) | st.integers(FAR_FUTURE_EPOCH - 2, FAR_FUTURE_EPOCH)
RECORDS = st.builds(
    Record, EPOCHS, st.sampled_from(["active_ongoing", "pending_queued", "exited_slashed"]),
    st.booleans(), EPOCHS, EPOCHS, EPOCHS, st.sampled_from([ADDRESS, "0x00" + "00" * 31,
                                                             "0xff" + "ff" * 31]),
)  # fmt: skip


@given(RECORDS, EPOCHS, st.lists(EPOCHS, max_size=3), st.integers(0, 400))
def test_counts_where_the_specification_takes_it(
    record: Record, period: int, partial: list[int], epoch: int
) -> None:
    """process_voluntary_exit, for one that is not exiting already; and every answer has words."""
    seen = Seen(record, period, partial)
    counts = (
        record.status.startswith("active")
        and not record.slashed
        and record.activation_epoch + period <= epoch
        and not partial
    )
    if counts:
        exits.check(seen, CHAIN, epoch)
    else:
        refusal(seen, epoch)
    told = exits.meaning("main", KEY, seen, CHAIN, epoch)
    told += exits.told("main", KEY, record, CHAIN, epoch)
    assert all(line.isprintable() for line in told)
    json.dumps(exits.as_json(KEY, record, CHAIN))


def test_where_the_money_goes() -> None:
    def words(credentials: str) -> str:
        record = replace(GOOD, credentials=credentials)
        return "\n".join(exits.meaning("main", KEY, Seen(record, 0), CHAIN, NOW))

    assert f"goes to {TO} some time" in words(ADDRESS)
    assert f"goes to {TO} some time" in words("0x02" + ADDRESS[4:])
    assert "THE BALANCE IS STUCK" in words("0x00" + "11" * 31)
    assert "credentials say: 0x03" in words("0x03" + "11" * 31)
    assert "not before epoch 305 (1970-01-01 04:20:40 UTC)" in words(ADDRESS)


def test_what_is_told_of_an_exit() -> None:
    assert exits.told("main", KEY, GONE, CHAIN, NOW) == [
        f"{KEY} leaves: active_exiting, out from epoch 306 (1970-01-01 04:21:28 UTC) on",
        "main must go on running until then",
    ]
    (line,) = exits.told("main", KEY, GONE, CHAIN, 306)
    assert line.startswith(f"{KEY} is out since epoch 306 (")
    assert exits.as_json(KEY, GONE, CHAIN) == {
        "key": KEY, "status": "active_exiting", "exit_epoch": 306, "exit_time": 1000 + 306 * LENGTH,
    }  # fmt: skip
    # A date that no calendar has.
    assert exits.as_json(KEY, replace(GONE, exit_epoch=1 << 62), CHAIN)["exit_time"] is None


@dataclass
class Node:
    """A node that says the records one after the other, the last one for ever."""

    records: list[Record | None]
    url: str = "http://node"
    is_syncing: bool = False
    age: int = 256
    partial: Sequence[int] = ()
    asked: int = 0

    def chain(self) -> Chain:
        return CHAIN

    def syncing(self) -> Syncing:
        return Syncing(CHAIN.slot(WHEN), self.is_syncing, False, False)

    def record(self, key: str) -> Record | None:
        assert key == KEY
        self.asked += 1
        found = self.records[min(self.asked, len(self.records)) - 1]
        if found is None and self.age < 0:
            raise SupervisorError("BeaconFailed", "away", exit_status=TEMPORARY)
        return found

    def exit_age(self) -> int:
        return self.age

    def partial_withdrawals(self, index: int) -> Sequence[int]:
        assert index == GOOD.index
        return self.partial


WHEN = CHAIN.genesis_time + NOW * LENGTH
AWAY = -1


@dataclass
class Job:
    """A task with these nodes, its client and its clock."""

    task: Task
    well: bool = True
    now: float = WHEN
    ran: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def tool(self, task: Task, node: str) -> tuple[bool, str]:
        assert task is self.task
        self.ran.append(node)
        return self.well, "its words"

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def look(self) -> Record | None:
        return exit_job.look(self.task, self.now, self.told.append)

    def leave(self) -> Record:
        clock = Clock(lambda: self.now, self.sleep)
        return exit_job.leave(self.task, clock, self.tool, self.told.append)


@pytest.fixture
def job(example: Applied, tmp_path: Path) -> Callable[..., Job]:
    def job(*nodes: Node, **values: Any) -> Job:
        beacons = {f"node{n}": cast(Beacon, node) for n, node in enumerate(nodes)}
        mine, secret = example.config.ethereum[0], Key(b'{"crypto": 1}', b"pw")
        return Job(Task(mine, KEY, secret, CHAIN, beacons, tmp_path), **values)

    return job


Made = Callable[..., Job]


def failure(call: Callable[[], object], code: str, status: int) -> SupervisorError:
    with pytest.raises(SupervisorError) as caught:
        call()
    assert (caught.value.code, caught.value.exit_status) == (code, status)
    return caught.value


def test_a_look_tells_and_does_nothing(job: Made) -> None:
    looked = job(Node([GOOD]))
    assert looked.look() is None
    assert "is final" in looked.told[0]
    assert job(Node([GONE])).look() == GONE
    failure(job(Node([replace(GONE, slashed=True)])).look, "WouldNotCount", 1)
    failure(job(Node([GOOD], partial=[5])).look, "WouldNotCount", 1)


def test_the_first_node_that_can_be_believed_counts(job: Made) -> None:
    behind, away = Node([GONE], is_syncing=True), Node([None], age=AWAY)
    looked = job(behind, away, Node([GOOD]))
    assert looked.look() is None
    problem = failure(job(behind, away).look, "NoBeacon", TEMPORARY)
    assert "node0: is synchronising" in problem.message
    assert "node1: away" in problem.message
    unknown = failure(job(Node([None])).look, "WouldNotCount", 1)
    assert "no such validator, says node0" in unknown.message


def test_a_key_leaves_when_the_chain_says_so(job: Made) -> None:
    # The first answer is that of the checks.
    leaving = job(Node([GOOD, GOOD, None, GOOD, GONE]))
    assert leaving.leave() == GONE
    assert leaving.ran == ["node0"]
    assert leaving.now == WHEN + 3 * CHAIN.seconds_per_slot


def test_any_node_may_show_it(job: Made) -> None:
    leaving = job(Node([GOOD, None], age=256), Node([GONE]))
    assert leaving.leave() == GONE
    assert leaving.now == WHEN


def test_a_client_that_says_that_all_is_well_is_not_believed(job: Made) -> None:
    leaving = job(Node([GOOD]))
    problem = failure(leaving.leave, "NoExit", TEMPORARY)
    assert "its words" in problem.message
    assert leaving.now == WHEN + SLOTS * CHAIN.seconds_per_slot
    # One that has failed may have published before.
    leaving = job(Node([GOOD]), well=False)
    failure(leaving.leave, "NoExit", TEMPORARY)
    assert leaving.now == WHEN + SLOTS_FAILED * CHAIN.seconds_per_slot
    leaving = job(Node([GOOD, GONE]), well=False)
    assert leaving.leave() == GONE


def test_slots_of_any_length_end_the_wait(job: Made) -> None:
    made = job(Node([GOOD]))
    made.task = replace(made.task, chain=replace(CHAIN, seconds_per_slot=1 << 60))
    assert exit_job.waited(made.task, Clock(lambda: made.now, made.sleep), 900) is None
    assert made.now == WHEN + 900


def test_nothing_is_signed_where_it_would_not_count_or_is_done(job: Made) -> None:
    done = job(Node([GONE]))
    assert (done.leave(), done.ran) == (GONE, [])
    young = job(Node([GOOD], age=291))
    failure(young.leave, "WouldNotCount", 1)
    slashed = job(Node([replace(GONE, slashed=True)]))
    failure(slashed.leave, "WouldNotCount", 1)
    assert young.ran == slashed.ran == []


@pytest.fixture
def tool(job: Made, tmp_path: Path) -> Callable[[str], tuple[Job, tuple[bool, str]]]:
    """Runs a script in the place of the client's program."""

    def tool(script: str) -> tuple[Job, tuple[bool, str]]:
        program = tmp_path.with_name(f"{tmp_path.name}-client")
        program.write_text(f"#!{sys.executable}\nimport os, sys\n{script}\n")
        program.chmod(0o755)
        made = job(Node([GOOD], "http://one"), Node([GOOD], "http://two"))
        release = replace(made.task.validator.release, binary=str(program))
        made.task = replace(made.task, validator=replace(made.task.validator, release=release))
        return made, exit_job.tool(made.task, "node1")

    return tool


def test_the_client_is_given_one_key_and_nothing_is_left(
    tool: Callable[[str], tuple[Job, tuple[bool, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LODESTAR_PRESET", "minimal")
    there = tmp_path / "keystores" / OTHER
    there.mkdir(parents=True)
    made, (well, words) = tool(
        "place = sys.argv[sys.argv.index('--dataDir') + 1]\n"
        "urls = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == '--beaconNodes']\n"
        "print(os.environ['LODESTAR_PRESET'], *urls, *os.listdir(place + '/keystores'), place)"
    )
    assert well
    preset, *urls, only, place = words.split()
    assert (preset, urls, only) == ("minimal", ["http://two", "http://one"], KEY)
    assert Path(place).is_relative_to(made.task.place)
    assert [path.name for path in tmp_path.iterdir()] == ["keystores"]


def test_a_key_of_a_web3signer_is_given_by_name(
    job: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = job(Node([GOOD], "http://one"))
    mine = replace(made.task.validator, keys=Keys(web3signer="https://s/"),
                   release=Release(client="teku", binary="/bin/true"))  # fmt: skip
    task = replace(made.task, validator=mine, secret=Remote())
    ran: list[Sequence[str]] = []

    def runs(argv: Sequence[str], **_: object) -> "subprocess.CompletedProcess[bytes]":
        # Nothing is laid out for it.
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        ran.append(argv)
        return subprocess.CompletedProcess(argv, 0, b"", b"")

    monkeypatch.setattr(run, "run", runs)
    assert exit_job.tool(task, "node0")[0]
    assert "--validators-external-signer-url=https://s" in ran[0]
    assert f"--validators-external-signer-public-keys={KEY}" in ran[0]
    for name in ("lodestar", "nimbus"):
        other = replace(mine, release=Release(client=name, binary="/bin/true"))
        refused = replace(task, validator=other)
        failure(lambda refused=refused: exit_job.tool(refused, "node0"), "NotSupported", 1)  # type: ignore[misc]
    assert len(ran) == 1


def test_last_words_of_a_client(tool: Callable[[str], tuple[Job, tuple[bool, str]]]) -> None:
    _, (well, words) = tool(
        "print('one\\n\\ntwo \\x1b[31m')\nprint('x' * 999, file=sys.stderr)\nsys.exit(3)"
    )
    assert not well
    assert words == f"one | two ?[31m | {'x' * 300}"
    assert exit_job.last_words(b"\n \n") == "nothing"


def test_a_client_that_hangs_or_is_not_there(
    job: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = job(Node([GOOD]))
    failure(lambda: exit_job.tool(made.task, "node0"), "NoProgram", 1)

    def hangs(argv: Sequence[str], **given: object) -> None:
        assert given["seconds"] == exit_job.TOOL_SECONDS
        raise SupervisorError("ProcessFailed", f"{argv[0]} did not end")

    monkeypatch.setattr(run, "run", hangs)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert exit_job.tool(made.task, "node0") == (False, "/usr/bin/lodestar did not end")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("command", [LOOK, EXIT])
def test_what_the_job_prints(
    command: str,
    form: str,
    job: Made,
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = job(Node([GONE]))
    monkeypatch.setattr(exit_job, "prepared", lambda *_: made.task)
    monkeypatch.setattr(time, "time", lambda: WHEN)
    program = helper("exit")
    undumpable: list[int] = []
    monkeypatch.setattr(program.prctl, "set_dumpable", undumpable.append)
    assert program.main(command, "main", KEY, form) == 0
    assert undumpable == [0]
    out, err = capsys.readouterr()
    assert err == ""
    if form == "json":
        expected: Mapping[str, object] = exits.as_json(KEY, GONE, CHAIN)
        assert json.loads(out) == expected
    else:
        assert out.splitlines() == exits.told("main", KEY, GONE, CHAIN, NOW)


def test_what_the_job_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*_: object) -> Task:
        raise SupervisorError("NoBeacon", "no healthy\x1b beacon node", exit_status=TEMPORARY)

    monkeypatch.setattr(exit_job, "prepared", away)
    assert exit_job.main(LOOK, "main", KEY, "text") == TEMPORARY
    assert capsys.readouterr() == ("", "validator-supervisor: no healthy? beacon node\n")


def test_what_is_told_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    exit_job._tell("one\x1b[2J\ntwo")
    assert capsys.readouterr() == ("", "one?[2J?two\n")
