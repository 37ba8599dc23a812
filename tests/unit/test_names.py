import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor.bus import names
from validator_supervisor.bus.manager import unit_path
from validator_supervisor.kinds import NAME_PATTERN

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("main", "main"), ("a-b", "a_2db"), ("a_b", "a_5fb"), ("0a", "_30a"), ("a0", "a0")],
)
def test_names_are_escaped_as_sd_bus_does(name: str, escaped: str) -> None:
    assert names.validator_path(name) == f"/org/validatorsupervisor1/validator/{escaped}"
    assert names.node_path(name) == f"/org/validatorsupervisor1/node/{escaped}"


def test_path_of_a_unit_is_systemds() -> None:
    assert unit_path("validator@a-b.service") == (
        b"/org/freedesktop/systemd1/unit/validator_40a_2db_2eservice"
    )


@given(NAMES, NAMES)
def test_paths_are_valid_and_differ_as_names_do(one: str, two: str) -> None:
    paths = [names.validator_path(name) for name in (one, two)]
    for path in paths:
        # The D-Bus specification, "Valid Object Paths".
        assert re.fullmatch(r"(/[A-Za-z0-9_]+)+", path)
    assert (one == two) == (paths[0] == paths[1])
