"""What an operator sees who has nothing but busctl(1)."""

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.bus.served import Served
from validator_supervisor import __version__

SERVICE = "org.validatorsupervisor1"
ROOT = "/org/validatorsupervisor1"
MAIN = f"{ROOT}/validator/main"
FAR = f"{ROOT}/node/far_2daway"
Busctl = Callable[..., subprocess.CompletedProcess[str]]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.strip()


def test_tree(busctl: Busctl) -> None:
    done = busctl("tree", "--list", SERVICE)
    assert done.stdout.splitlines() == [
        "/",
        "/org",
        ROOT,
        f"{ROOT}/node",
        FAR,
        f"{ROOT}/node/local",
        f"{ROOT}/validator",
        f"{ROOT}/validator/_30a_5fb",
        MAIN,
    ]
    assert (done.stderr, done.returncode) == ("", 0)


def test_introspection_of_a_validator(busctl: Busctl) -> None:
    done = busctl("introspect", SERVICE, MAIN)
    assert (done.stderr, done.returncode) == ("", 0)
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows[".Start"] == ["method", "-", "b", "-"]
    assert rows[".Kind"] == ["property", "s", '"ethereum"', "emits-change"]
    assert rows[".Name"] == ["property", "s", '"main"', "const"]
    assert rows[".PublicKeys"] == ["property", "as", "0", "emits-change"]
    assert rows[".Enabled"] == ["property", "b", "true", "emits-change"]
    assert "org.freedesktop.DBus.ObjectManager" not in rows


def test_introspection_of_a_node_and_of_the_root(busctl: Busctl) -> None:
    # What changes all the time says nothing of signals: busctl shows a dash.
    (latency,) = [
        line.split()[1:]
        for line in busctl("introspect", SERVICE, FAR).stdout.splitlines()
        if line.startswith(".BeaconLatencyUSec")
    ]
    assert latency == ["property", "t", "0", "-"]
    root = busctl("introspect", SERVICE, ROOT).stdout
    assert ".GetManagedObjects" in root
    assert ".InterfacesAdded" in root
    assert ".Reload" in root


def test_properties(busctl: Busctl) -> None:
    manager, node, validator = (f"{SERVICE}.{n}" for n in ("Manager", "Node", "Validator"))
    assert busctl("get-property", SERVICE, ROOT, manager, "Version").stdout == (
        f's "{__version__}"\n'
    )
    done = busctl("get-property", SERVICE, FAR, node, "Host", "TunnelState", "TunnelSinceUSec")
    assert done.stdout == 's "h"\ns "stopped"\nt 0\n'
    done = busctl("get-property", SERVICE, MAIN, validator, "Restarts", "LastExitStatus")
    assert done.stdout == "u 0\ni 0\n"


def test_managed_objects_as_json(busctl: Busctl) -> None:
    done = busctl(
        "--json=short", "call", SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager",
        "GetManagedObjects",
    )  # fmt: skip
    (managed,) = json.loads(done.stdout)["data"]
    assert sorted(managed) == [
        FAR, f"{ROOT}/node/local", f"{ROOT}/validator/_30a_5fb", MAIN,
    ]  # fmt: skip
    assert managed[MAIN][f"{SERVICE}.Validator"]["Release"] == {"type": "s", "data": "lodestar"}


def test_calls(busctl: Busctl, served: Served) -> None:
    assert busctl("call", SERVICE, MAIN, f"{SERVICE}.Validator", "Start").stdout == "b true\n"
    done = busctl("call", SERVICE, ROOT, f"{SERVICE}.Manager", "Reload")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert served.did == [(MAIN, "Start", ()), (ROOT, "Reload", ())]
    assert served.audited == [
        f"Start() of {MAIN} by uid {os.getuid()}: done",
        f"Reload() of {ROOT} by uid {os.getuid()}: done",
    ]


def test_an_error_of_ours_is_shown_with_its_message(busctl: Busctl) -> None:
    done = busctl("call", SERVICE, f"{ROOT}/node/local", f"{SERVICE}.Node", "Reconnect")
    assert "node local is this host" in refusal(done)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((MAIN, f"{SERVICE}.Validator", "Start", "s", "x"), "Start takes (), not (s)"),
        ((MAIN, f"{SERVICE}.Validator", "Start", "b", "true"), "Start takes (), not (b)"),
        ((f"{ROOT}/validator/none", f"{SERVICE}.Validator", "Start"), "no object"),
        ((MAIN, f"{SERVICE}.Node", "Reconnect"), "has no interface"),
        ((MAIN, "a.B", "Start"), "no interface a.B"),
        ((MAIN, f"{SERVICE}.Validator", "Destroy"), "has no method Destroy"),
    ],
)
def test_refused_calls(
    busctl: Busctl, served: Served, words: tuple[str, ...], message: str
) -> None:
    assert message in refusal(busctl("call", SERVICE, *words))
    assert served.did == []


def test_refused_properties(busctl: Busctl) -> None:
    name = f"{SERVICE}.Validator"
    none = refusal(busctl("get-property", SERVICE, MAIN, name, "None"))
    assert "has no property None" in none
    read_only = refusal(busctl("set-property", SERVICE, MAIN, name, "Enabled", "b", "false"))
    assert "Enabled is read-only" in read_only
    other = refusal(busctl("get-property", SERVICE, MAIN, f"{SERVICE}.Node", "Host"))
    assert "has no interface" in other
