import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config, generator
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.clients import CLIENTS as ADAPTERS
from validator_supervisor.document import from_plain, parse
from validator_supervisor.errors import ConfigError
from validator_supervisor.overrides import Override
from validator_supervisor.validators import CLIENTS

DROP_IN = "50-config.conf"


def test_units_of_the_example(example: Applied, tmp_path: Path) -> None:
    units = "/usr/lib/systemd/system"
    header = generator.HEADER
    assert generator.units(example, tmp_path) == {
        "validator-tunnel@helsinki.service.d/50-config.conf": header
        + "[Service]\nLoadCredential=identity:validator-tunnel.key-1\n"
        "SetCredential=identity:none\n",
        "validator.target.wants/validator-tunnel@helsinki.service": f"{units}/"
        "validator-tunnel@.service",
        "validator@main.service.d/50-config.conf": header
        + "[Unit]\nAfter=validator-tunnel@helsinki.service\nAfter=validator-state@main.service\n"
        "BindsTo=validator-state@main.service\n\n"
        "[Service]\nUser=validator_main\nMemoryMax=75%\nMemorySwapMax=0\n"
        "ExecStopPost=/usr/lib/validator-supervisor/export %i\n"
        "ReadWritePaths=-/run/validator-state/%i\nTimeoutStartSec=infinity\n"
        "TimeoutStopSec=20\nEnvironmentFile=/etc/main.env\n",
        # What the job needs that has the keys: their reader's group, ways to the archives.
        "validator-state@main.service.d/50-config.conf": header
        + "[Unit]\nAfter=validator-tunnel@helsinki.service\n\n"
        "[Service]\nGroup=validator_main\nLoadCredential=ssh.helsinki:validator-tunnel.key-1\n"
        "SetCredential=ssh.helsinki:none\nReadWritePaths=-/mnt/usb/backups\nTimeoutStopSec=25\n",
        "validator-backup@main.service.d/50-config.conf": header
        + "[Service]\nGroup=validator_main\nLoadCredential=ssh.helsinki:validator-tunnel.key-1\n"
        "SetCredential=ssh.helsinki:none\nReadWritePaths=-/mnt/usb/backups\n",
        "validator-backup@main.timer.d/50-config.conf": header + "[Timer]\nOnUnitActiveSec=1800\n",
        "validator-backup@main.path.d/50-config.conf": header
        + "[Path]\nPathChanged=/run/validator-tunnel/helsinki/connected\n",
        "validator-state@main.service.wants/validator-backup@main.timer": f"{units}/"
        "validator-backup@.timer",
        "validator-state@main.service.wants/validator-backup@main.path": f"{units}/"
        "validator-backup@.path",
        "validator-drill.service.d/50-config.conf": header
        + "[Service]\nLoadCredential=ssh.helsinki:validator-tunnel.key-1\n"
        "SetCredential=ssh.helsinki:none\nReadWritePaths=-/mnt/usb/backups\n",
        "validator-identity.service.wants/validator-drill.timer": f"{units}/validator-drill.timer",
        "validator.target.wants/validator@main.service": f"{units}/validator@.service",
        # It is disabled: nothing starts it, and it can be started.
        # And it uses no node: it waits for none.
        # What is below /home is all of /home that it sees.
        "validator@other.service.d/50-config.conf": header
        + "[Unit]\nRequiresMountsFor=/home/somebody/foo\n\n[Service]\nUser=somebody\n"
        "ProtectHome=tmpfs\nBindPaths=/home/somebody/foo\nWorkingDirectory=/home/somebody/foo\n",
        "validator@hub.service.d/50-config.conf": header
        + "[Unit]\nRequiresMountsFor=/data/hub\n\n[Service]\nUser=validator_hub\n"
        "ReadWritePaths=/data/hub\nWorkingDirectory=/data/hub\n",
    }


def test_nothing_applied_makes_no_unit(make: Callable[[str], Applied]) -> None:
    assert generator.units(make("")) == {}


def test_a_node_without_a_host_has_no_tunnel(make: Callable[[str], Applied]) -> None:
    text = "version: 1\nnodes: {local: {beacon: 'a:1'}}\nvalidators:\n"
    made = generator.units(make(f"{text}  v: {{kind: command, command: [/bin/x]}}\n"))
    assert not [name for name in made if "tunnel" in name]
    assert "After=" not in made[f"validator@v.service.d/{DROP_IN}"]


def test_a_sealed_credential_is_preferred(example: Applied, tmp_path: Path) -> None:
    (tmp_path / "validator-tunnel.key-1").touch()
    made = generator.units(example, tmp_path)[f"validator-tunnel@helsinki.service.d/{DROP_IN}"]
    assert made == generator.HEADER + (
        "[Service]\n"
        "LoadCredentialEncrypted=identity:validator-tunnel.key-1\n"
        "SetCredential=identity:none\n"
    )


def test_written_units_are_files_and_links(example: Applied, tmp_path: Path) -> None:
    generator.write(generator.units(example), tmp_path)
    wants = tmp_path / "validator.target.wants"
    assert sorted(path.name for path in wants.iterdir()) == [
        "validator-tunnel@helsinki.service",
        "validator@main.service",
    ]
    link = wants / "validator@main.service"
    assert str(link.readlink()) == "/usr/lib/systemd/system/validator@.service"
    drop_in = tmp_path / "validator@main.service.d" / DROP_IN
    assert "User=validator_main\n" in drop_in.read_text()


HOSTILE = [
    "/a\nUser=root", "a b", "/a b", "../x", "/a%i", "-/a", "/a:/b", "/a\\x20b", "'/a'", '"/a"',
    "/a;b", "+/bin/x", "validator-state", "/x\u2028User=root", "@x", "!x", "~x", "/a,b", "${x}",
    "a\nUser=root", "a%i", "a@b", "/a\\", "", " ", "/", "x" * 300,
]  # fmt: skip
PLACES = [
    ("nodes", "helsinki", "host"),
    ("nodes", "helsinki", "identity"),
    ("nodes", "helsinki", "user"),
    ("nodes", "helsinki", "loki"),
    ("nodes", "helsinki", "backups"),
    ("validators", "main", "user"),
    ("validators", "main", "environment_file"),
    ("validators", "main", "graffiti"),
    ("validators", "main", "release"),
    ("validators", "other", "user"),
    ("validators", "other", "home"),
    ("validators", "other", "environment_file"),
    ("validators", "hub", "home"),
    ("validators", "hub", "daemon"),
    ("validators", "hub", "user"),
    ("validators", "hub", "environment_file"),
]
PATH = r"(/[A-Za-z0-9._+@-]+)+"
NAME = r"[a-z0-9][a-z0-9_-]{0,19}"
LINE = re.compile(
    rf"""
      \[Unit\] | \[Service\] | \[Timer\] | \[Path\] |
      | After=validator-tunnel@{NAME}\.service(\ validator-tunnel@{NAME}\.service)*
      | After=validator-state@{NAME}\.service
      | BindsTo=validator-state@{NAME}\.service
      | RequiresMountsFor={PATH}
      | Group=([0-9]+|[a-z_][a-z0-9_-]{{0,30}})
      | ExecStopPost=/usr/lib/validator-supervisor/export\ %i
      | ReadWritePaths=-/run/validator-state/%i
      | ReadWritePaths=-{PATH}(\ -{PATH})*
      | MemoryMax=75% | MemorySwapMax=0
      | TimeoutStartSec=infinity
      | OnUnitActiveSec=[0-9]+
      | PathChanged=/run/validator-tunnel/{NAME}/connected
      | User=[a-z_][a-z0-9_-]{{0,30}}
      | TimeoutStopSec=[0-9]+ | SuccessExitStatus=143
      | ProtectHome=tmpfs
      | (BindPaths|ReadWritePaths|WorkingDirectory|EnvironmentFile)={PATH}
      | (LoadCredential|LoadCredentialEncrypted)=identity:validator-tunnel\.{NAME}
      | SetCredential=identity:none
      | (LoadCredential|LoadCredentialEncrypted)=ssh\.{NAME}:validator-tunnel\.{NAME}
      | SetCredential=ssh\.{NAME}:none
    """,
    re.VERBOSE,
)
FILE = re.compile(
    rf"validator(-tunnel|-state|-backup)?@{NAME}\.(service|timer|path)\.d/50-config\.conf"
    rf"|validator-state@{NAME}\.service\.wants/validator-backup@{NAME}\.(timer|path)"
    r"|validator-drill\.service\.d/50-config\.conf"
    r"|validator-identity\.service\.wants/validator-drill\.timer"
    rf"|validator\.target\.wants/validator(-tunnel)?@{NAME}\.service"
)


def is_plain(made: dict[str, str]) -> None:
    for path, content in made.items():
        assert FILE.fullmatch(path), path
        if path.endswith(DROP_IN):
            assert content.startswith(generator.HEADER)
            assert content.endswith("\n")
            lines = content.removeprefix(generator.HEADER).split("\n")
            for line in lines:
                assert LINE.fullmatch(line), line
            assert sum(lines.count(f"[{name}]") for name in ("Service", "Timer", "Path")) == 1
            assert lines.count("[Unit]") <= 1
        else:
            name = re.escape(Path(path).name)
            name = re.sub(r"@.*(?=\\\.)", "@", name)
            assert re.fullmatch(rf"{generator.UNITS}/{name}", content)


def test_units_of_the_examples_are_plain(example: Applied, tmp_path: Path) -> None:
    is_plain(generator.units(example, tmp_path))
    (tmp_path / "validator-tunnel.key-1").touch()
    is_plain(generator.units(example, tmp_path))


def put(text: str, place: tuple[str, ...], word: str) -> Applied | None:
    """Return what is applied with another word at a place, or None where it is refused."""
    plain: Any = parse(text.encode(), "config.yaml").plain()
    one, two, *rest = place
    if rest:
        plain[one][two][rest[0]] = word
    else:
        plain[one][word] = plain[one].pop(two)
        if one == "nodes":
            plain["validators"]["main"]["nodes"] = [word]
    try:
        read = config.read(from_plain(plain, "config.yaml"))
    except ConfigError:
        return None
    return Applied(read, assign_ports(read, {}))


RENAMED = [("validators", "main"), ("validators", "hub"), ("nodes", "helsinki")]


@pytest.mark.parametrize("place", [*PLACES, *RENAMED], ids=".".join)
def test_no_hostile_word_puts_a_line_into_a_unit(text: str, place: tuple[str, ...]) -> None:
    for word in HOSTILE:
        applied = put(text, place, word)
        if applied:
            is_plain(generator.units(applied))


@pytest.mark.parametrize("place", [*PLACES, *RENAMED], ids=".".join)
def test_a_good_word_at_each_place_is_accepted(text: str, place: tuple[str, ...]) -> None:
    # Else the tests beside this one look at nothing.
    if place[-1] == "release":
        return
    applied = put(text, place, {"loki": "a:1"}.get(place[-1], "/data/x")) or put(text, place, "x-1")
    assert applied
    is_plain(generator.units(applied))


@given(
    place=st.sampled_from([*PLACES, *RENAMED]),
    word=st.text(max_size=6) | st.text("a/\n\r\0%= ;\\\"'$\x85\u2028@.-_", max_size=6),
    start=st.sampled_from(["", "/", "/a", "a"]),
)
def test_no_value_puts_a_line_into_a_unit(
    text: str, place: tuple[str, ...], word: str, start: str
) -> None:
    applied = put(text, place, start + word)
    if applied:
        is_plain(generator.units(applied))


@pytest.mark.parametrize(
    ("home", "access"),
    [
        ("/data/hub", ["ReadWritePaths=/data/hub"]),
        ("/homes/x", ["ReadWritePaths=/homes/x"]),
        ("/rooted", ["ReadWritePaths=/rooted"]),
        ("/home/x", ["ProtectHome=tmpfs", "BindPaths=/home/x"]),
        ("/home/x/y", ["ProtectHome=tmpfs", "BindPaths=/home/x/y"]),
        ("/root/x", ["ProtectHome=tmpfs", "BindPaths=/root/x"]),
    ],
)
@pytest.mark.parametrize("kind", ["kind: command, command: [/x]",
    "kind: cosmos, daemon: d, key: {source: credential, credential: c}"], ids=["command", "cosmos"],
)  # fmt: skip
def test_access_to_a_home(
    make: Callable[[str], Applied], kind: str, home: str, access: list[str]
) -> None:
    applied = make(f"version: 1\nvalidators: {{v: {{{kind}, home: {home}}}}}\n")
    lines = generator.units(applied)[f"validator@v.service.d/{DROP_IN}"].splitlines()
    assert lines[1:] == [
        "[Unit]", f"RequiresMountsFor={home}", "", "[Service]", "User=validator_v", *access,
        f"WorkingDirectory={home}",
    ]  # fmt: skip


def test_without_a_home_there_is_nothing_of_one(make: Callable[[str], Applied]) -> None:
    applied = make("version: 1\nvalidators: {v: {kind: command, command: [/x]}}\n")
    assert generator.units(applied)[f"validator@v.service.d/{DROP_IN}"] == (
        generator.HEADER + "[Service]\nUser=validator_v\n"
    )


def test_every_client_has_its_time_and_status_of_a_stop(make: Callable[[str], Applied]) -> None:
    for client in CLIENTS:
        applied = make(
            "version: 1\nnodes: {l: {beacon: 'a:1'}}\n"
            "validators: {v: {kind: ethereum, network: hoodi, "
            f"fee_recipient: '0x{'0' * 40}', release: {{client: {client}, binary: /x}}}}}}\n"
        )
        content = generator.units(applied)[f"validator@v.service.d/{DROP_IN}"]
        assert f"TimeoutStopSec={ADAPTERS[client].stop_seconds}\n" in content
        assert ("SuccessExitStatus=143\n" in content) is (client == "teku")
        is_plain(generator.units(applied))


def test_overrides_decide_what_starts(example: Applied) -> None:
    given = {"main": Override(enabled=False), "hub": Override(enabled=True)}
    made = generator.units(replace(example, overrides=given))
    wanted = [path for path in made if path.startswith("validator.target.wants/validator@")]
    assert wanted == ["validator.target.wants/validator@hub.service"]


def test_helper_writes_what_is_applied(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    example: Applied,
) -> None:
    module = helper("validator-supervisor-generator")
    monkeypatch.setattr(Applied, "load", lambda: example)
    assert module.main(tmp_path) == 0
    assert (tmp_path / "validator@main.service.d" / DROP_IN).exists()


def test_helper_stays_silent_about_what_is_damaged(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    module = helper("validator-supervisor-generator")
    damaged = tmp_path / ".applied"
    damaged.write_text("{")
    load = Applied.load
    monkeypatch.setattr(Applied, "load", lambda: load(damaged))
    assert module.main(tmp_path / "units") == 1
    assert not (tmp_path / "units").exists()
    assert capfd.readouterr() == ("", "")


def test_helper_survives_a_full_disk(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    example: Applied,
) -> None:
    module = helper("validator-supervisor-generator")
    monkeypatch.setattr(Applied, "load", lambda: example)
    (tmp_path / "file").touch()
    assert module.main(tmp_path / "file") == 1
