"""Fixtures of the tests on booted machines."""

from collections.abc import Iterator

import pytest
from lab import images
from lab.machine import Machine
from lab.signing import LATCH, VALIDATOR, Signing
from lab.world import World


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One validator host and a node, helsinki, on Debian 13; nothing is configured."""
    with World.booted("trixie", ["helsinki"]) as booted:
        yield booted
        announced = getattr(request.module, "ANNOUNCED", [])
        problems = {m.name: m.problems(announced) for m in [booted.host, *booted.nodes.values()]}
        assert not any(problems.values()), problems


@pytest.fixture(scope="class", params=images.SUITES)
def signing(request: pytest.FixtureRequest) -> Iterator[Signing]:
    """A validator of each release, which has signed; its class may have NODES."""
    nodes = getattr(request.cls, "NODES", ["helsinki"])
    with Signing.booted(request.param, nodes) as booted:
        booted.start("--no-watch")
        booted.signs()
        yield booted
        booted.is_safe()
        assert booted.leaks() == []


@pytest.fixture
def host(signing: Signing) -> Iterator[Machine]:
    """The host of ``signing``; afterwards it runs, whatever a test has done."""
    began = signing.host.output("date", "+%H:%M:%S")
    yield signing.host
    signing.host.run("rm", "-f", LATCH)
    if not signing.up():
        signing.ask()
        signing.host.wait_for_unit(VALIDATOR, seconds=90)
    signing.is_safe()
    said = signing.host.journal("--boot", f"--since={began}", "--grep=Traceback")
    assert said == ""
