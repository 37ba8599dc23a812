from collections.abc import Callable

import pytest

from validator_supervisor import nearest
from validator_supervisor.bus import names
from validator_supervisor.bus.interface import VALIDATOR
from validator_supervisor.cli import client, main, switch
from validator_supervisor.errors import TEMPORARY, SupervisorError

Called = tuple[str, str, str, tuple[object, ...]]
ROOT = "/org/validatorsupervisor1"


class Fake:
    """A controller with the validators main and a-b and the nodes helsinki and local."""

    def __init__(self) -> None:
        self.made: list[Called] = []
        self.refuses: dict[str, SupervisorError] = {}
        self.values: dict[tuple[str, str], object] = {}
        self.stuck = False

    def call(
        self, path: str, interface: str, method: str, signature: str = "", *body: object
    ) -> tuple[object, ...]:
        assert interface == VALIDATOR.name
        known = VALIDATOR.method(method)
        assert known
        assert known.signature == signature
        self.made.append((path, method, signature, body))
        name = path.rpartition("/")[2]
        if name not in ("main", "a_2db"):
            raise SupervisorError(client.UNKNOWN, f"no object {path}")
        if name in self.refuses:
            raise self.refuses[name]
        key = {"SetEnabled": "Enabled", "Prefer": "PreferredNode"}.get(method)
        if key and not self.stuck:
            self.values[path, key] = body[0]
        # What runs already is not started again, and main runs.
        return ((name == "main") == (method == "Stop"),) if known.reply else ()

    def objects(self) -> client.Objects:
        problem = "disk full" if self.stuck else ""
        found: client.Objects = {ROOT: {names.MANAGER: {"ApplyProblem": problem}}}
        for node in ("helsinki", "local"):
            found[f"{ROOT}/node/{node}"] = {names.NODE: {"Name": node}}
        for name in ("main", "a-b"):
            path = names.validator_path(name)
            own = {key: value for (of, key), value in self.values.items() if of == path}
            found[path] = {VALIDATOR.name: {"Name": name, **own}}
        return found


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(client, "Client", lambda: made)
    return made


Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "method", "signature", "body", "said"),
    [
        ("start main", "Start", "", (), "main is running already\n"),
        ("stop main", "Stop", "", (), ""),
        ("restart main", "Restart", "", (), ""),
        ("enable main", "SetEnabled", "b", (True,), "main is enabled\n"),
        ("disable main", "SetEnabled", "b", (False,), "main is disabled\n"),
        ("connect main helsinki", "Prefer", "s", ("helsinki",), "main: helsinki is preferred\n"),
        ("connect main --clear", "Prefer", "s", ("",), "main: no node is preferred\n"),
        ("connect --clear main", "Prefer", "s", ("",), "main: no node is preferred\n"),
    ],
)
def test_each_command_is_one_call(
    fake: Fake, capsys: Captured, words: str, method: str, signature: str, body: object, said: str
) -> None:
    assert main.main(words.split()) == 0
    assert fake.made == [(f"{ROOT}/validator/main", method, signature, body)]
    assert capsys.readouterr() == (said, "")


def test_several_validators_in_their_order_and_each_once(fake: Fake, capsys: Captured) -> None:
    assert main.main(["start", "a-b", "main", "a-b"]) == 0
    assert [path.rpartition("/")[2] for path, *_ in fake.made] == ["a_2db", "main"]
    assert capsys.readouterr() == ("main is running already\n", "")
    assert main.main(["stop", "a-b"]) == 0
    assert capsys.readouterr().out == "a-b is stopped already\n"


def test_one_that_fails_does_not_keep_the_others(fake: Fake, capsys: Captured) -> None:
    fake.refuses["main"] = SupervisorError("Refused", "\x1b[2J no", "wait", exit_status=3)
    assert main.main(["enable", "mian", "main", "a-b"]) == 1
    assert capsys.readouterr() == (
        "a-b is enabled\n",
        "validator-supervisor: there is no validator mian\n  → did you mean main?\n"
        "validator-supervisor: main: ?[2J no\n  → wait\n",
    )
    assert main.main(["enable", "main", "mian"]) == 3


def test_a_controller_that_does_not_answer_is_asked_once(fake: Fake, capsys: Captured) -> None:
    fake.refuses["main"] = SupervisorError("NoController", "no answer", exit_status=TEMPORARY)
    assert main.main(["stop", "main", "a-b"]) == 75
    assert len(fake.made) == 1
    assert capsys.readouterr() == ("", "validator-supervisor: no answer\n")


def test_an_unknown_validator_leads_to_the_nearest(fake: Fake, capsys: Captured) -> None:
    del fake
    for words in ("start Mian", "connect mein helsinki", "restart mains", "disable MAIN"):
        assert main.main(words.split()) == 1
        out, err = capsys.readouterr()
        name = words.split()[1]
        assert out == ""
        assert err == (
            f"validator-supervisor: there is no validator {name}\n  → did you mean main?\n"
        )
    assert main.main(["stop", "zzzzzz"]) == 1
    assert capsys.readouterr().err.endswith("  → known: a-b, main\n")


def test_an_unknown_node_leads_to_the_nearest(fake: Fake, capsys: Captured) -> None:
    fake.refuses["main"] = SupervisorError(f"{names.ERROR}UnknownNode", "there is no node helsniki")
    assert main.main(["connect", "main", "helsniki"]) == 1
    assert capsys.readouterr().err == (
        "validator-supervisor: main: there is no node helsniki\n  → did you mean helsinki?\n"
    )


def test_another_refusal_is_shown_as_it_is(fake: Fake, capsys: Captured) -> None:
    fake.refuses["main"] = SupervisorError(client.DENIED, "not you", client.GROUPS)
    assert main.main(["connect", "main", "helsinki"]) == 1
    assert capsys.readouterr().err == f"validator-supervisor: main: not you\n  → {client.GROUPS}\n"


@pytest.mark.parametrize(
    ("typed", "known", "words"),
    [
        ("man", ["main", "other"], "did you mean main?"),
        ("x", ["b", "a"], "known: a, b"),
        ("x", [], "none is configured"),
    ],
)
def test_nearest(typed: str, known: list[str], words: str) -> None:
    hint: Callable[[str, list[str]], str] = nearest.hint
    assert hint(typed, known) == words


def test_a_change_that_does_not_take_effect_is_a_failure(
    fake: Fake, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switch, "SECONDS", 0.2)
    fake.stuck = True
    assert main.main(["disable", "main"]) == 1
    assert capsys.readouterr() == (
        "",
        "validator-supervisor: main: is not in effect: disk full\n"
        "  → journalctl -u validator-override\n",
    )
