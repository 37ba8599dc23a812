from collections.abc import Callable

import pytest

from validator_supervisor import __version__, config
from validator_supervisor.cli import authorize, client, main
from validator_supervisor.config import Applied
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError

Called = tuple[str, str, str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Called]:
    made: list[Called] = []

    class Client:
        def call(self, path: str, interface: str, method: str) -> tuple[bool]:
            made.append((path, interface, method))
            return (not path.endswith("twice"),)

    monkeypatch.setattr(client, "Client", Client)
    return made


def test_start_and_stop_name_the_object(
    calls: list[Called], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["start", "main"]) == 0
    assert main.main(["stop", "a-b"]) == 0
    interface = "org.validatorsupervisor1.Validator"
    assert calls == [
        ("/org/validatorsupervisor1/validator/main", interface, "Start"),
        ("/org/validatorsupervisor1/validator/a_2db", interface, "Stop"),
    ]
    assert capsys.readouterr().out == ""
    assert main.main(["start", "twice"]) == 0
    assert main.main(["stop", "twice"]) == 0
    assert capsys.readouterr().out == "twice is running already\ntwice is stopped already\n"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[SupervisorError], None]:
    def refuse(failure: SupervisorError) -> None:
        class Client:
            def call(self, path: str, interface: str, method: str) -> tuple[bool]:
                del path, interface, method
                raise failure

        monkeypatch.setattr(client, "Client", Client)

    return refuse


Refusing = Callable[[SupervisorError], None]


@pytest.mark.parametrize("method", ["start", "stop"])
def test_an_unknown_validator_is_named(
    refusing: Refusing, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    refusing(SupervisorError(client.UNKNOWN, "no object /org/validatorsupervisor1/validator/x"))
    given = main._parser().parse_args([method, "x"])
    with pytest.raises(SupervisorError) as caught:
        given.run(given)
    assert caught.value.code == "UnknownValidator"
    assert main.main([method, "x"]) == 1
    assert capsys.readouterr() == (
        "",
        "validator-supervisor: there is no validator x\n  → validator-supervisor status\n",
    )


def test_another_refusal_is_shown_as_it_is(
    refusing: Refusing, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing(SupervisorError(client.DENIED, "not you", client.GROUPS, exit_status=TEMPORARY))
    assert main.main(["start", "x"]) == 75
    assert capsys.readouterr().err == f"validator-supervisor: not you\n  → {client.GROUPS}\n"


def test_failure_is_shown_with_its_hint_and_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise SupervisorError("NoBus", "no \x1b[2Jbus\n", "wait", exit_status=TEMPORARY)

    monkeypatch.setattr(client, "Client", away)
    assert main.main(["status"]) == 75
    assert capsys.readouterr() == ("", "validator-supervisor: no ?[2Jbus?\n  → wait\n")


def test_authorize_prints_one_line(
    example: Applied, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "applied", lambda: example)
    monkeypatch.setattr(authorize, "line", lambda _, name: f"command for {name}")
    assert main.main(["authorize", "helsinki"]) == 0
    assert capsys.readouterr().out == "command for helsinki\n"
    monkeypatch.undo()
    monkeypatch.setattr(config, "applied", lambda: example)
    assert main.main(["authorize", "none"]) == 1
    assert "no node none" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("words", [[], ["start"], ["start", "a", "b"], ["unknown"], ["--x"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    assert caught.value.code == REFUSED == 1
    out, err = capsys.readouterr()
    usage, message = err.splitlines()
    assert out == ""
    assert usage.startswith("usage: validator-supervisor ")
    assert message.startswith("validator-supervisor")
