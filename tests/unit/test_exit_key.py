"""`validator-supervisor exit`, as root: who is asked, what is refused, what is typed."""

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.keystores import PUBLIC_KEYS

from validator_supervisor import journal, run
from validator_supervisor.applied import Applied
from validator_supervisor.bus import names
from validator_supervisor.cli import client, confirm, exit_key, main
from validator_supervisor.clients import CLIENTS
from validator_supervisor.errors import SupervisorError
from validator_supervisor.validators import Ethereum, Keys, Release

TREE = Path(__file__).resolve().parents[2]
KEY, OTHER = "0x" + "ab" * 48, "0x" + "cd" * 48
Ended = subprocess.CompletedProcess[bytes]


class Became(BaseException):
    """The process has become another one."""


class Host:
    """A host whose validator main runs with two keys; ``look`` is the end of the first job."""

    def __init__(self) -> None:
        self.properties: dict[str, object] = {"ActiveState": "active", "PublicKeys": [KEY, OTHER]}
        self.look = (0, b"", b"what it\x1b means\n")
        self.ran: list[Sequence[str]] = []
        self.became: Sequence[str] = []
        self.audited: list[dict[str, str]] = []

    def objects(self) -> client.Objects:
        return {names.validator_path("main"): {names.VALIDATOR: self.properties}}

    def run(self, argv: Sequence[str], *, seconds: float, check: bool) -> Ended:
        assert (seconds, check) == (exit_key.SECONDS, False)
        self.ran.append(argv)
        return subprocess.CompletedProcess(argv, *self.look)

    def become(self, argv: Sequence[str]) -> None:
        self.became = argv
        raise Became

    def audit(self, message: str, **fields: str) -> None:
        self.audited.append({"MESSAGE": message, **fields})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, example: Applied) -> Host:
    made = Host()
    monkeypatch.setattr(client, "Client", lambda: made)
    monkeypatch.setattr(Applied, "load", lambda: example)
    monkeypatch.setattr(exit_key, "started_with", lambda _: example)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setenv("SUDO_UID", "1000")
    for module, name in ((run, "run"), (run, "become"), (journal, "audit")):
        monkeypatch.setattr(module, name, getattr(made, name))
    return made


def refused(host: Host, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.main(["exit", *words]) == 1
    assert host.became == []
    assert host.audited == []
    return capsys.readouterr().err


def test_a_key_that_is_typed_exits(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Became):
        main.main(["exit", "main", KEY[2:].upper(), "--confirm", KEY.upper(), "--json"])
    assert [argv[-4:] for argv in host.ran] == [["look", "main", KEY, "json"]]
    assert host.became[-4:] == ["exit", "main", KEY, "json"]
    assert host.became[-5] == "/usr/lib/validator-supervisor/exit"
    # What it means goes to standard error: the result is for a program.
    assert capsys.readouterr() == ("", "what it? means\n")
    (entry,) = host.audited
    assert entry["MESSAGE"].endswith("validator/main by uid 1000: asked")
    assert (entry["VALIDATOR_METHOD"], entry["VALIDATOR_ARGUMENTS"]) == ("Exit", KEY)


def test_a_person_types_the_beginning(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(confirm, "typed", lambda *words, what: asked.append((*words, what)))
    with pytest.raises(Became):
        main.main(["exit", "main", KEY])
    assert asked == [(KEY[:10], f"--confirm {KEY}", "the first 10 characters of the key")]
    assert host.became[-1] == "text"


@pytest.mark.parametrize("wrong", [OTHER, KEY[:10], KEY[:-1], "main", "", "yes"])
def test_another_word_changes_nothing(
    wrong: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "was not typed" in refused(host, capsys, "main", KEY, "--confirm", wrong)


def test_what_the_look_refuses_or_finds_done(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.look = (75, b"", b"validator-supervisor: no node\n")
    assert main.main(["exit", "main", KEY, "--confirm", KEY]) == 75
    assert capsys.readouterr() == ("", "validator-supervisor: no node\n")
    host.look = (0, b'{"status": "active_exiting"}\n', b"")
    assert main.main(["exit", "main", KEY, "--confirm", KEY]) == 0
    assert capsys.readouterr() == ('{"status": "active_exiting"}\n', "")
    assert host.became == []


def test_keys_of_a_web3signer_leave_where_the_client_can(
    host: Host,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    example: Applied,
) -> None:
    def runs(name: str) -> None:
        mine = replace(example.config.ethereum[0], keys=Keys(web3signer="https://s"),
                       release=Release(client=name, binary="/c"))  # fmt: skip
        changed = replace(example.configured, validators={"main": mine})
        monkeypatch.setattr(
            exit_key, "started_with", lambda _: replace(example, configured=changed)
        )

    words = {
        "lodestar": "lodestar exits no key of a Web3Signer: its own command signs with keystores",
        "lighthouse": "lighthouse exits no key of a Web3Signer: its own command needs the keystore",
        "prysm": "prysm exits no key of a Web3Signer: its own command asks a beacon node of Prysm",
        "nimbus": "nimbus exits no key of a Web3Signer: its own command needs the keystore",
    }
    for name, said in words.items():
        runs(name)
        shown = refused(host, capsys, "main", KEY, "--confirm", KEY)
        assert said in shown
        assert "change release: to one of teku\n" in shown
    runs("teku")
    with pytest.raises(Became):
        main.main(["exit", "main", KEY, "--confirm", KEY])


def test_refusals_before_anything_is_asked(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "did you mean main?" in refused(host, capsys, "mian", KEY)
    assert "takes no keystores" in refused(host, capsys, "hub", KEY)
    near = f"{KEY[:-1]}0"
    assert f"did you mean {KEY}?" in refused(host, capsys, "main", near)
    # Of two keys that have nothing in common a quarter of the characters are in order.
    theirs, far = (f"0x{key}" for key in PUBLIC_KEYS[:2])
    host.properties["PublicKeys"] = [theirs]
    far = refused(host, capsys, "main", far)
    assert "main has no key" in far
    assert "did you mean" not in far
    host.properties["PublicKeys"] = [KEY]
    host.properties["ActiveState"] = "activating"
    assert "validator-supervisor start main" in refused(host, capsys, "main", KEY)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root may" in refused(host, capsys, "main", KEY)
    assert host.ran == []


@pytest.mark.parametrize("name", ["prysm", "nimbus"])
def test_a_client_without_a_command(
    name: str,
    host: Host,
    example: Applied,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = replace(example.config.ethereum[0], release=Release(client=name, binary="/c"))
    configured = replace(example.configured, validators={"main": other})
    monkeypatch.setattr(exit_key, "started_with", lambda _: replace(example, configured=configured))
    said = refused(host, capsys, "main", KEY)
    assert f"{name} exits no key: {CLIENTS[name].no_exit}" in said
    assert "lighthouse, teku, lodestar" in said


@pytest.fixture
def mine(example: Applied) -> Ethereum:
    return example.config.ethereum[0]


def lines(argv: Sequence[str]) -> list[str]:
    return [word for option, word in itertools.pairwise(argv) if option == "-p"]


def test_the_job_has_the_confinement_of_the_validator(mine: Ethereum) -> None:
    unit = (TREE / "units/validator@.service").read_text().partition("[Service]\n")[2]
    confined = re.compile(
        r"^(?:Capability|Device|Keyring|LimitCORE|Lock|NoNew|Private|Protect|RemoveIPC|Restrict[A-Z]"
        r"|Slice|SystemCall|UMask).*",
        re.MULTILINE,
    )
    theirs = confined.findall(unit)
    assert len(theirs) > 20
    assert list(exit_key.SANDBOX) == theirs
    assert set(theirs) < set(lines(exit_key.command(mine, ["look"])))


def test_the_job_is_the_validator_s_user_and_writes_to_no_disk(mine: Ethereum) -> None:
    found = lines(exit_key.command(mine, ["look"]))
    assert "User=validator_main" in found
    assert [line for line in found if "Paths=" in line or "Directory=" in line] == [
        "ReadWritePaths=/run/validator-state/main/client"
    ]
    assert "EnvironmentFile=/etc/main.env" in found
    bare = lines(exit_key.command(replace(mine, environment_file=""), ["look"]))
    assert not [line for line in bare if line.startswith("EnvironmentFile")]


def test_an_unknown_validator_of_the_controller(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Applied, but the controller does not have it yet.
    monkeypatch.setattr(host, "objects", dict)
    with pytest.raises(SupervisorError) as caught:
        exit_key.exit_key(client.Client(), "main", KEY, None, as_json=False)
    assert caught.value.code == "UnknownValidator"


def test_a_key_in_any_case() -> None:
    assert exit_key.normal(KEY) == exit_key.normal(KEY[2:]) == exit_key.normal(KEY.upper()) == KEY
