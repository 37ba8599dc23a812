import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import journal
from validator_supervisor.errors import SupervisorError


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def test_one_entry_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    journal.log(journal.ERROR, "a\n<0>forged\r\x1b[2J\0\u2028b ä→")
    assert capsys.readouterr() == ("", "a?<0>forged??[2J??b ä→\n")


def test_priority_is_for_the_journal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    journal.log(journal.WARNING, "careful")
    journal.log(journal.NOTICE, "\n<3>no")
    assert capsys.readouterr().err == "<4>careful\n<5>?<3>no\n"


def test_message_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    journal.log(journal.INFO, "x" * 1_000_000)
    assert capsys.readouterr().err == "x" * journal.MESSAGE_MAX + "\n"


def test_lone_surrogates_are_written() -> None:
    # What json(3) makes of \ud800; to a stream in UTF-8 it would be an error.
    journal.printable("\ud800").encode()


@given(st.text())
def test_printable_text_keeps_its_length_and_is_printable(text: str) -> None:
    shown = journal.printable(text)
    assert len(shown) == len(text)
    assert shown.isprintable()
    assert all(new in (old, "?") for old, new in zip(text, shown, strict=True))


def test_failure_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    journal.error(SupervisorError("Code", "it failed", "do this"))
    journal.error(SupervisorError("Code", "it failed again"))
    assert capsys.readouterr().err == "it failed\nhint: do this\nit failed again\n"


def test_audit_has_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []
    package, module = ModuleType("pystemd"), ModuleType("pystemd.journal")
    monkeypatch.setattr(module, "sendv", lambda **fields: sent.append(fields), raising=False)
    monkeypatch.setitem(sys.modules, "pystemd", package)
    monkeypatch.setitem(sys.modules, "pystemd.journal", module)
    journal.audit("Start by uid 5", VALIDATOR_METHOD="Start")
    assert sent == [
        {
            "MESSAGE": "Start by uid 5",
            "PRIORITY": "5",
            "SYSLOG_IDENTIFIER": "validator-supervisor",
            "VALIDATOR_METHOD": "Start",
        }
    ]
