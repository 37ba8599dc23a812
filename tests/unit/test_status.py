import json
import time
from collections.abc import Mapping

import pytest

from validator_supervisor.bus.interface import MANAGER, NODE, VALIDATOR
from validator_supervisor.cli import status

Objects = dict[str, dict[str, dict[str, object]]]
NOW = 2_000_000_000.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def node(name: str, **changed: object) -> dict[str, object]:
    return {
        "Name": name,
        "Host": "hel.example.net",
        "TunnelState": "connected",
        "StatusText": "connected to hel.example.net",
        "TunnelSinceUSec": int((NOW - 90) * 1e6),
        "BeaconHealthy": True,
        "BeaconProblem": "",
        "BeaconLatencyUSec": 23_500,
        "BeaconPeers": 52,
    } | changed


def validator(name: str, **changed: object) -> dict[str, object]:
    return {
        "Name": name,
        "Kind": "ethereum",
        "Network": "dev",
        "Enabled": True,
        "ActiveState": "active",
        "SubState": "running",
        "StatusText": "running lodestar",
        "StartProblem": "",
        "SilentUntil": 0,
        "HaltReason": "",
        "SinceUSec": int((NOW - 7200) * 1e6),
        "ConnectedNode": "helsinki",
        "PreferredNode": "",
        "Overridden": [],
        "Release": "lodestar",
        "PublicKeys": ["0x00", "0x01"],
        "Restarts": 0,
        "LastExitStatus": 0,
        "AttestedEpoch": 9,
        "AttestingKeys": 1,
    } | changed


def manager(**changed: object) -> dict[str, object]:
    return {"Version": "0.1.0", "Healthy": True, "ApplyProblem": ""} | changed


def objects(*, nodes: list[dict[str, object]], validators: list[dict[str, object]]) -> Objects:
    found: Objects = {"/": {MANAGER.name: manager()}}
    found |= {f"/n/{i}": {NODE.name: item} for i, item in enumerate(nodes)}
    return found | {f"/v/{i}": {VALIDATOR.name: item} for i, item in enumerate(validators)}


def screen(found: Objects, said: Mapping[str, str] | None = None) -> list[str]:
    shown = status.report(found, lambda unit: (said or {}).get(unit, ""))
    return status.as_text(shown, NOW)


def problem(found: Objects, said: Mapping[str, str] | None = None) -> tuple[str, str, str]:
    (found_problem,) = status.report(found, lambda unit: (said or {}).get(unit, "")).problems
    return found_problem.subject, found_problem.problem, found_problem.advice


def test_screen_of_a_healthy_host() -> None:
    nodes = [node("local", Host="", TunnelState="none"), node("helsinki")]
    assert screen(objects(nodes=nodes, validators=[validator("main")])) == [
        "validator-supervisor 0.1.0: healthy",
        "",
        "NODES",
        "  helsinki  hel.example.net  connected since 2033-05-18 03:31:50 (1 min)"
        "  beacon node healthy, 23 ms, 52 peers",
        "  local     this host        no tunnel                                  "
        "  beacon node healthy, 23 ms, 52 peers",
        "",
        "VALIDATORS",
        "  main  ethereum dev  running since 2033-05-18 01:33:20 (2 h)  through helsinki"
        "  1 of 2 keys attested in epoch 9",
    ]


def test_screen_of_nothing() -> None:
    lines = screen(objects(nodes=[], validators=[]))
    assert lines[2:] == ["NODES", "  none", "", "VALIDATORS", "  none"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"AttestedEpoch": 0}, "not attested yet"),
        ({"ActiveState": "inactive", "SubState": "dead", "Enabled": False}, "disabled"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "auto-restart"),
        ({"PreferredNode": "lisbon", "Overridden": ["prefer"]}, "  prefers lisbon (override)"),
        ({"Overridden": ["enabled"]}, "  enabled (override)"),
        ({"Overridden": ["enabled"], "Enabled": False}, "(2 h)  through helsinki"),
        ({"Overridden": ["enabled"], "Enabled": False}, "  disabled (override)"),
        (
            {"Overridden": ["enabled", "prefer", "release"], "PreferredNode": "lisbon"},
            "  enabled (override), prefers lisbon (override), release (override)",
        ),
    ],
)
def test_rows_of_validators(changed: dict[str, object], words: str) -> None:
    (row,) = [
        line
        for line in screen(objects(nodes=[], validators=[validator("main", **changed)]))
        if line.startswith("  main  ")
    ]
    assert words in row


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("somebody@h: Permission denied (publickey).", "`validator-supervisor authorize a`"),
        ("Could not resolve hostname h", "name server"),
        ("connect to host h port 22: Connection refused", "sshd running"),
        ("Connection timed out", "firewall"),
        ("Timeout, server h not responding.", "is the node up"),
        ("a refuses the reverse forward 0.0.0.0:1", "`validator-supervisor authorize a`"),
        ("bind [127.0.0.1]:5: Address already in use", "`ss -ltnp`"),
        ("Host key verification failed.", "host_key:"),
        ("cannot listen to port: 5064", "`ss -ltnp`"),
        ("open failed: administratively prohibited", "`validator-supervisor authorize a`"),
        ("there is no ssh key /etc/credstore/validator-tunnel.key-1", "ssh-keygen -t ed25519"),
        ("there is no ssh key /etc/credstore/x", "journalctl -u validator-tunnel@a"),
        # Nothing is left that guesses at exit status 243.
        ("Failed to set up credentials", "journalctl -u validator-tunnel@a.service"),
        ("something else", "journalctl -u validator-tunnel@a.service"),
    ],
)
def test_what_ssh_said_leads_to_advice(words: str, advice: str) -> None:
    found = objects(nodes=[node("a", TunnelState="connecting")], validators=[])
    subject, said, hint = problem(found, {"validator-tunnel@a.service": words})
    assert (subject, said) == ("node a", words)
    assert advice in hint


def test_problems_of_nodes() -> None:
    def one(**changed: object) -> tuple[str, str, str]:
        return problem(objects(nodes=[node("a", **changed)], validators=[]))

    assert one(TunnelState="failed", StatusText="bad")[1] == "bad"
    assert one(TunnelState="stopped")[2] == "systemctl start validator-tunnel@a.service"
    changed = one(TunnelState="host-key-changed", StatusText="host key of h has changed")
    assert changed[1] == "host key of h has changed"
    assert "ask the node's operator" in changed[2]
    for state in ("connected", "none"):
        words = one(TunnelState=state, BeaconHealthy=False, BeaconProblem="HTTP status 503")
        assert words[1:] == (
            "beacon node: HTTP status 503",
            "does it run, at the address that beacon: names, as seen from the node?",
        )


def test_a_forbidden_forward_explains_a_beacon_that_is_away() -> None:
    found = objects(nodes=[node("a", BeaconHealthy=False, BeaconProblem="closed")], validators=[])
    heard = "channel 2: open failed: administratively prohibited: open failed"
    assert problem(found, {"validator-tunnel@a.service": heard}) == (
        "node a",
        f"beacon node: {heard}",
        "permit it: `validator-supervisor authorize a`",
    )
    # Other words of ssh explain nothing about a beacon node.
    assert problem(found, {"validator-tunnel@a.service": "Connection refused"})[1:] == (
        "beacon node: closed",
        "does it run, at the address that beacon: names, as seen from the node?",
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (["one"], "one"),
        (["older", "newer"], "newer"),
        (["Connection refused, first", "Connection refused, last", "tail"],
         "Connection refused, last"),
        (["there is no ssh key /a", "hint: make it with: ssh-keygen"], "there is no ssh key /a"),
        (["Permission denied", "Connection timed out"], "Connection timed out"),
    ],
)  # fmt: skip
def test_the_line_that_tells_most_is_the_newest_with_advice(lines: list[str], words: str) -> None:
    assert status.telling("\n".join(lines)) == words
    found = objects(nodes=[node("a", TunnelState="failed", StatusText="down")], validators=[])
    said = {"validator-tunnel@a.service": "\n".join(lines)}
    assert problem(found, said)[1] == (words or "down")


def test_a_change_that_is_not_applied_comes_first() -> None:
    found = objects(nodes=[node("a", TunnelState="stopped")], validators=[])
    found["/"] = {MANAGER.name: manager(ApplyProblem="config.yaml:3:1: nodes: \x1b[2J")}
    assert screen(found)[-5:-2] == [
        "PROBLEMS",
        "  the changed configuration: config.yaml:3:1: nodes: ?[2J",
        "    → journalctl -u validator-apply; edit, then `systemctl reload validator-supervisor`; "
        "until then the configuration before it counts",
    ]
    assert not status.report(found, str).healthy


@pytest.mark.parametrize(("peers", "words"), [(0, "0 peers"), (1, "1 peer"), (2, "2 peers")])
def test_peers(peers: int, words: str) -> None:
    (row,) = [
        line
        for line in screen(objects(nodes=[node("a", BeaconPeers=peers)], validators=[]))
        if line.startswith("  a")
    ]
    assert row.endswith(f" ms, {words}")


def test_a_disabled_validator_says_it_once_where_nothing_overrides() -> None:
    off = validator("main", Enabled=False, ActiveState="inactive", SubState="dead")
    assert screen(objects(nodes=[], validators=[off]))[-1].count("disabled") == 1
    over = off | {"Overridden": ["enabled"]}
    assert screen(objects(nodes=[], validators=[over]))[-1].count("disabled") == 1


def test_problems_of_validators() -> None:
    def one(**changed: object) -> tuple[str, str, str]:
        found = objects(nodes=[], validators=[validator("main", **changed)])
        return problem(found, {"validator@main.service": "no keystore"})

    dead = {"ActiveState": "inactive", "SubState": "dead"}
    assert one(**dead) == (
        "validator main", "is stopped", "systemctl start validator@main.service",
    )  # fmt: skip
    crashed = one(ActiveState="activating", SubState="auto-restart", LastExitStatus=7, Restarts=3)
    assert crashed[1] == "no keystore (exited with 7 3 times)"
    disabled = objects(nodes=[], validators=[validator("main", Enabled=False, **dead)])
    assert status.report(disabled, str).problems == []


def test_health_is_the_absence_of_problems() -> None:
    found = objects(nodes=[node("a", TunnelState="stopped")], validators=[])
    assert not status.report(found, str).healthy
    assert screen(found)[0] == "validator-supervisor 0.1.0: 1 problem(s)"


def test_terminal_is_not_commanded() -> None:
    # ssh, a beacon node and a client have their say here.
    evil = "\x1b]0;owned\x07\x1b[2J\r\nPROBLEMS\n  none\u202e"
    nodes = [
        node("a", BeaconHealthy=False, BeaconProblem=evil),
        node("b", TunnelState="failed", StatusText=evil),
    ]
    validators = [validator("main", ActiveState="failed", SubState=evil)]
    lines = screen(
        objects(nodes=nodes, validators=validators),
        {"validator@main.service": evil, "validator-tunnel@b.service": ""},
    )
    assert len(lines) == 16
    assert all(line.isprintable() for line in lines)


def test_json_has_every_property() -> None:
    found = objects(nodes=[node("a", TunnelState="stopped")], validators=[validator("main")])
    shown = json.loads(json.dumps(status.as_json(status.report(found, str))))
    assert shown["healthy"] is False
    assert shown["nodes"] == [node("a", TunnelState="stopped")]
    assert shown["validators"] == [validator("main")]
    assert shown["problems"][0]["subject"] == "node a"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "(0 s)"), (59, "(59 s)"), (60, "(1 min)"), (3599, "(59 min)"), (3600, "(1 h)"),
     (86399, "(23 h)"), (86400, "(1 d)"), (-5, "(0 s)")],
)  # fmt: skip
def test_how_long_ago(seconds: int, words: str) -> None:
    assert status.since(int((NOW - seconds) * 1e6), NOW).endswith(words)


def test_columns_are_aligned_and_not_padded() -> None:
    assert status.columns([["a", "bb", ""], ["ccc", "d", ""]]) == ["  a    bb", "  ccc  d"]
    assert status.columns([]) == []
    # What is empty everywhere takes no room.
    assert status.columns([["a", "", "b"], ["cc", "", "d"]]) == ["  a   b", "  cc  d"]


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("moved: the newest archive is of another host", "validator-supervisor take-over main`"),
        ("foreign-claim: another host", "validator-supervisor take-over main`"),
        ("doppelganger: seen in epoch 7", "validator-supervisor resume main`"),
        ("retired: its keys left this host", "`take-over main` or `adopt main FILE`"),
    ],
)
def test_a_halt_is_a_problem_before_all_others(reason: str, advice: str) -> None:
    mine = validator("main", ActiveState="failed", SubState="failed", HaltReason=reason)
    shown = status.report(objects(nodes=[], validators=[mine]), lambda _: "something else")
    (problem,) = shown.problems
    assert problem.problem == f"halted: {reason}"
    assert advice in problem.advice
    assert "main  ethereum dev  halted" in "\n".join(status.as_text(shown, NOW))


def test_a_watch_is_told_as_what_it_is() -> None:
    words = "watching for a twin in epoch 18, 2 to go"
    mine = validator("main", ActiveState="activating", SubState="start", StatusText=words)
    found = objects(nodes=[], validators=[mine])
    shown = problem(found, {"validator@main.service": "restore: there is no database"})
    assert shown[1] == words
    assert shown[2].startswith("nothing to do")
