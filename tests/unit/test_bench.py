"""What ./bench decides and prints, without machines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import host
from lab.host import LabError

from tests.bench import __main__ as bench
from tests.bench import report
from tests.bench.row import AtMost, AtMostOver, AtMostTimes, Goal, Peer, Row, Sample
from tests.bench.scene import Scene

PEER = Peer("peer", Sample.median([2.0]))


def row(value: float, goal: Goal, peer: Peer | None = PEER, name: str = "x") -> Row:
    return Row(name, "what it is", "ms", Sample.median([value]), peer, goal)


def test_median_keeps_the_extremes_and_the_count() -> None:
    assert Sample.median([3.0, 1.0, 2.0], 1e3) == Sample(2000, 1000, 3000, 3)
    assert Sample.median([1.0, 2.0]).value == 1.5


def test_percentile_is_a_value_that_was_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert Sample.percentile(values, 99) == Sample(99, 1, 100, 100)
    assert Sample.percentile([5.0], 99).value == 5
    assert Sample.percentile([1.0, 2.0], 0).value == 1


def test_worst() -> None:
    assert Sample.worst([1.0, 4.0, 2.0]) == Sample(4, 1, 4, 3)


@pytest.mark.parametrize(
    ("goal", "met", "missed", "text"),
    [
        (AtMost(15), 15, 15.1, "≤ 15 ms"),
        (AtMostOver(0.25), 2.25, 2.26, "≤ peer + 0.25 ms"),
        (AtMostTimes(6), 12, 12.1, "≤ 6 times peer"),
    ],
)
def test_goals(goal: Goal, met: float, missed: float, text: str) -> None:
    assert row(met, goal).met
    assert not row(missed, goal).met
    assert row(met, goal).as_json()["goal"] == text


@pytest.mark.parametrize("goal", [AtMostOver(100), AtMostTimes(100)])
def test_a_comparison_without_a_peer_is_never_met(goal: AtMostOver | AtMostTimes) -> None:
    assert not row(0, goal, None).met


def test_ratio_and_difference() -> None:
    found = row(5, AtMost(9))
    assert (found.ratio, found.difference) == (2.5, 3)
    alone = row(5, AtMost(9), None)
    assert (alone.ratio, alone.difference) == (None, None)
    nothing = row(5, AtMost(9), Peer("nothing", Sample.median([0.0])))
    assert (nothing.ratio, nothing.difference) == (None, 5)


def test_table() -> None:
    many = Row("many", "a longer story", "s", Sample.median([0.1, 0.2, 1234.5]), None, AtMost(1),
               "a note")  # fmt: skip
    lines = report.as_text(
        [row(50.26, AtMost(9)), many],
        {"third": "it broke"},
        {"suite": "s", "load_average_before": 0.5},
    )
    assert [line.split() for line in lines[:3]] == [
        ["NAME", "OURS", "UNIT", "PEER", "RATIO", "DIFFERENCE", "GOAL", "MET"],
        ["x", "50.3", "ms", "peer", "2", "25.13", "+48.3", "≤", "9", "ms", "NO"],
        ["many", "0.2", "(0.1..1234,", "n=3)", "s", "-", "-", "-", "-", "≤", "1", "s", "yes"],
    ]
    assert lines[4:] == [
        "x: what it is",
        "many: a longer story; a note",
        "third could not be measured: it broke",
        "",
        "suite: s, load average before: 0.5",
        "1 of 2 goals met; missed: x",
    ]


def test_json() -> None:
    found = json.loads(
        json.dumps(report.as_json([row(1, AtMost(9))], {"y": "why"}, {"suite": "s"}))
    )
    sample = {"value": 1, "low": 1, "high": 1, "n": 1}
    assert found == {
        "suite": "s",
        "rows": [
            {
                "name": "x",
                "what": "what it is",
                "unit": "ms",
                "ours": sample,
                "peer": {"name": "peer", "value": 2, "low": 2, "high": 2, "n": 1},
                "ratio": 0.5,
                "difference": -1,
                "goal": "≤ 9 ms",
                "met": True,
                "note": "",
            }
        ],
        "failures": {"y": "why"},
    }


@pytest.mark.parametrize(
    ("values", "failures", "status"),
    [([1], {}, 0), ([1, 10], {}, 1), ([1], {"x": "why"}, 1), ([], {}, 0)],
)
def test_status(values: list[float], failures: dict[str, str], status: int) -> None:
    assert report.status([row(value, AtMost(9)) for value in values], failures) == status


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machines, and two subjects: `good` meets its goal, `bad` does not, `broken` fails."""

    def broken(_scene: Scene) -> list[Row]:
        raise LabError("no such machine")

    @contextmanager
    def up(_suite: str, _seconds: float) -> Iterator[None]:
        yield

    monkeypatch.setattr(Scene, "up", up)
    monkeypatch.setattr(host, "need", lambda _programs: None)
    monkeypatch.setattr(bench, "SUBJECTS", {
        "good": lambda _scene: [row(1, AtMost(9), name="good")],
        "bad": lambda _scene: [row(10, AtMost(9), name="bad")],
        "broken": broken,
    })  # fmt: skip


@pytest.mark.usefixtures("scene")
@pytest.mark.parametrize(
    ("words", "status", "rows", "failures"),
    [
        (["good"], 0, ["good"], []),
        (["bad", "good"], 1, ["good", "bad"], []),
        (["broken"], 1, [], ["broken"]),
        ([], 1, ["good", "bad"], ["broken"]),
    ],
)
def test_run(
    words: list[str],
    status: int,
    rows: list[str],
    failures: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "found.json"
    assert bench.main([*words, "--json", "--output", str(output)]) == status
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(output.read_text())
    assert [found["name"] for found in printed["rows"]] == rows
    assert printed["suite"] == "trixie"
    assert printed["failures"] == dict.fromkeys(failures, "no such machine")


@pytest.mark.usefixtures("scene")
def test_run_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["good"]) == 0
    assert capsys.readouterr().out.endswith("1 of 1 goals met\n")


@pytest.mark.parametrize("words", [["nothing"], ["--suite", "sid"]])
def test_what_is_not_there_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(words)
    assert stopped.value.code == 2
    assert words[-1] in capsys.readouterr().err
