"""Who has stopped a validator, and whether its start is still wanted."""

import pytest

from validator_supervisor import stopped
from validator_supervisor.errors import SupervisorError


class Fake:
    """A systemd with one job for every unit."""

    def __init__(self, job: str) -> None:
        self._job = job

    def active(self, unit: str) -> str:
        raise AssertionError(unit)

    def job(self, unit: str) -> str:
        assert unit == "validator@main.service"
        return self._job


@pytest.mark.parametrize(
    ("job", "wanted"), [("start", True), ("restart", True), ("", False), ("stop", False)]
)
def test_a_start_is_wanted_as_long_as_its_validator_waits(job: str, wanted: bool) -> None:
    assert stopped.wanted(lambda: Fake(job), "main") is wanted


def test_a_systemd_that_says_nothing_ends_nothing() -> None:
    def none() -> Fake:
        raise SupervisorError("NoBus", "no system bus")

    assert stopped.wanted(none, "main")
