"""`--when-safe`: what is near, and how long it is waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.bus import names
from validator_supervisor.cli import when_safe
from validator_supervisor.cli.when_safe import CLEAR_SECONDS, near
from validator_supervisor.errors import TEMPORARY, SupervisorError

NOW = 1_800_000_000.0


def seen(
    proposal: float = 0, committee: float = 0, known: float = NOW + 300, state: str = "active"
) -> dict[str, object]:
    return {
        "ActiveState": state,
        "NextProposalUSec": int(proposal * 1e6),
        "SyncCommitteeUntilUSec": int(committee * 1e6),
        "DutiesKnownUntilUSec": int(known * 1e6),
    }


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (seen(), ""),
        (seen(proposal=NOW + 100), ""),
        (seen(proposal=NOW + 29), "it proposes a block"),
        (seen(proposal=NOW - 5), "it proposes a block"),
        (seen(proposal=NOW - 31), ""),
        (seen(committee=NOW + 1), "it is in a sync committee"),
        (seen(committee=NOW - 1), ""),
        (seen(known=NOW + 29), "what it has to do is not known yet"),
        (seen(known=0), "what it has to do is not known yet"),
        (seen(known=0, state="inactive"), ""),
        (seen(committee=NOW + 99, state="failed"), ""),
    ],
)
def test_what_is_near(found: dict[str, object], why: str) -> None:
    duty = near(found, NOW)
    assert (duty.why if duty else "") == why


@given(st.floats(0, 2**40), st.floats(0, 2**40), st.floats(0, 2**40))
def test_where_nothing_is_near_nothing_is_due(
    proposal: float, committee: float, known: float
) -> None:
    if near(seen(proposal, committee, known), NOW) is None:
        assert not NOW <= proposal <= NOW + CLEAR_SECONDS - 1
        assert committee <= NOW + 1
        assert known >= NOW + CLEAR_SECONDS - 1


class Client:
    """The bus, where each look finds the next of some states."""

    def __init__(self, *states: dict[str, object]) -> None:
        self.states = list(states)

    def objects(self) -> dict[str, dict[str, dict[str, object]]]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {names.validator_path("main"): {names.VALIDATOR: {"Name": "main", **state}}}


def wait(client: Client, name: str = "main", seconds: float = 60) -> list[float]:
    clock = [NOW]

    def tick() -> float:
        clock[0] += 1
        return clock[0]

    when_safe.wait(client, name, seconds, tick)  # type: ignore[arg-type]
    return clock


def test_it_waits_until_nothing_is_near(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(when_safe, "POLL_SECONDS", 0)
    busy = seen(proposal=NOW + 10)
    client = Client(busy, busy, seen(known=0), seen())
    wait(client)
    assert client.states == [seen()]
    assert capsys.readouterr().err == (
        "main: it proposes a block until 2027-01-15 08:00:40 UTC: waiting\n"
        "main: what it has to do is not known yet: waiting\n"
    )


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (seen(committee=NOW + 9999), "it is in a sync committee until 2027-01-15 10:46:39 UTC"),
        (seen(known=0), "what it has to do is not known yet: not done"),
    ],
)
def test_it_gives_up(monkeypatch: pytest.MonkeyPatch, state: dict[str, object], says: str) -> None:
    monkeypatch.setattr(when_safe, "POLL_SECONDS", 0)
    with pytest.raises(SupervisorError, match=says) as caught:
        wait(Client(state))
    assert (caught.value.code, caught.value.exit_status) == ("NotSafe", TEMPORARY)


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(when_safe, "POLL_SECONDS", 0)
    with pytest.raises(SupervisorError, match="there is no validator mian"):
        wait(Client(seen()), "mian")
