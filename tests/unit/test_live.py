import json
import os
import selectors
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from validator_supervisor.cli import live, status
from validator_supervisor.cli.live import Lines, Screen, frame
from validator_supervisor.cli.status import Problem, Report
from validator_supervisor.errors import SupervisorError

HEALTHY = Report("0.1.0", True, [], [], [])
SICK = Report("0.1.0", False, [], [], [Problem("node a", "is away", "wait")])
HOME, END = "\x1b[H\x1b[?7l", "\x1b[J\x1b[?7h"


def test_a_frame_overwrites_what_is_there() -> None:
    assert frame(["one", "two"], 80, 24) == f"{HOME}one\x1b[K\ntwo\x1b[K\n{END}"
    assert frame(["one", "two"], 2, 24) == f"{HOME}on\x1b[K\ntw\x1b[K\n{END}"


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (6, ["a", "b", "c", "d"]),
        (5, ["a", "b", "c", "d"]),
        (4, ["a", "b", "… 2 more lines"]),
        (3, ["a", "… 3 more lines"]),
        (2, ["… 4 more lines"]),
        (1, ["… 4 more lines"]),
    ],
)
def test_a_frame_is_never_higher_than_the_terminal(rows: int, shown: list[str]) -> None:
    drawn = frame(["a", "b", "c", "d"], 80, rows).removeprefix(HOME).removesuffix(END)
    assert drawn.split("\x1b[K\n") == [*shown, ""]


def test_lines_are_whole_reports_and_only_other_ones(capsys: pytest.CaptureFixture[str]) -> None:
    view = Lines(as_json=False)
    for shown in (HEALTHY, HEALTHY, SICK, SICK, HEALTHY):
        view.show(shown)
    texts = ["\n".join(status.as_text(shown, time.time())) for shown in (HEALTHY, SICK, HEALTHY)]
    assert capsys.readouterr() == ("\n\n".join(texts) + "\n", "")
    view.wait_for_controller()
    assert capsys.readouterr() == ("", f"validator-supervisor: {live.WAITING}\n")


def test_json_is_one_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    view = Lines(as_json=True)
    for shown in (HEALTHY, SICK, SICK):
        view.show(shown)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [status.as_json(HEALTHY), status.as_json(SICK)]
    assert '"problem":"is away","advice":"wait"' in lines[1]
    view.wait_for_controller()
    assert capsys.readouterr().out == ""


def test_a_screen_is_drawn_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A terminal that does not say its size has the usual one.
    sizes = iter([os.terminal_size((0, 0)), os.terminal_size((40, 3)), os.terminal_size((20, 9))])
    monkeypatch.setattr(os, "get_terminal_size", lambda _: next(sizes))
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1)
    view = Screen()
    view.show(HEALTHY)
    assert capsys.readouterr().out.count("\x1b[K\n") == 7
    view.show(HEALTHY)
    assert capsys.readouterr().out.count("\x1b[K\n") == 2
    view.wait_for_controller()
    assert capsys.readouterr().out == frame([live.WAITING[:20]], 20, 9)


class Script:
    """The bus: what each wait brings, and what each question is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *events: object) -> None:
        self.events: Iterator[object] = iter(events)
        self.starts = True
        self.waited: list[float | None] = []
        self.seen: list[object] = []
        self.clock: float | None = 10.0
        monkeypatch.setattr(status, "report", lambda objects, _: objects)
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def wait(self, seconds: float | None) -> bool:
        self.waited.append(seconds)
        event = next(self.events)
        if event == "interrupt":
            raise KeyboardInterrupt
        return event == "change"

    def objects(self) -> object:
        event = next(self.events)
        if isinstance(event, Exception):
            raise event
        return event

    def show(self, shown: object) -> None:
        # What has been stopped stays stopped.
        assert not self.starts
        self.seen.append(shown)

    def wait_for_controller(self) -> None:
        self.seen.append("waiting")


def follow(script: Script) -> None:
    with pytest.raises(KeyboardInterrupt):
        live.follow(script, script, script)  # type: ignore[arg-type]


def test_a_change_is_shown_and_the_clock_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, "A", "time", "change", "B", "time", "interrupt")
    follow(script)
    assert script.seen == ["A", "A", "B", "B"]
    assert script.waited == [10.0] * 4


def test_a_controller_that_goes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = SupervisorError(live.GONE[0], "not provided by any .service files")
    script = Script(monkeypatch, "A", "change", gone, "change", gone, "change", "B", "interrupt")
    follow(script)
    assert script.seen == ["A", "waiting", "B"]
    # Old times do not move on over the words that it is away.
    assert script.waited == [10.0, None, None, 10.0]


def test_another_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, "A", "change", SupervisorError("AccessDenied", "not you"))
    with pytest.raises(SupervisorError, match="not you"):
        live.follow(script, script, script)  # type: ignore[arg-type]


def test_only_a_pipe_is_watched_for_its_reader(tmp_path: Path) -> None:
    changes = live.Changes.__new__(live.Changes)
    changes._selector = selectors.DefaultSelector()
    with (tmp_path / "file").open("wb") as file:
        changes.notice_end_of_reader(file.fileno())
        assert not changes.wait(0)
    reading, writing = os.pipe()
    changes.notice_end_of_reader(writing)
    assert not changes.wait(0)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        changes.wait(0)
    changes._selector.close()
    os.close(writing)
