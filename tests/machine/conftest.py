"""Fixtures of the tests on booted machines."""

from collections.abc import Iterator

import pytest
from lab.world import World


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One validator host and a node, helsinki, on Debian 13; nothing is configured."""
    with World.booted("trixie", ["helsinki"]) as booted:
        yield booted
        announced = getattr(request.module, "ANNOUNCED", [])
        problems = {m.name: m.problems(announced) for m in [booted.host, *booted.nodes.values()]}
        assert not any(problems.values()), problems
