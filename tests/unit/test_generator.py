import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import config, generator
from validator_supervisor.config import Applied
from validator_supervisor.document import from_plain, parse
from validator_supervisor.errors import ConfigError

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
        + "[Unit]\nAfter=validator-tunnel@helsinki.service\n\n"
        + "[Service]\nUser=validator_main\nTimeoutStopSec=10\nEnvironmentFile=/etc/main.env\n",
        "validator.target.wants/validator@main.service": f"{units}/validator@.service",
        # It is disabled: nothing starts it, and it can be started.
        # And it uses no node: it waits for none.
        "validator@other.service.d/50-config.conf": header + "[Unit]\n\n[Service]\nUser=somebody\n",
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


HOSTILE = st.text(alphabet="a/\n\r\0%= ;\\\"'$\x85\u2028", min_size=1)


# Half of the words and names are good, so that there are units to look at.
@given(data=st.data())
def test_no_value_puts_a_line_into_a_unit(text: str, data: st.DataObject) -> None:
    plain = parse(text.encode(), "config.yaml").plain()
    places = [
        ("nodes", "helsinki", "host"),
        ("nodes", "helsinki", "identity"),
        ("nodes", "helsinki", "user"),
        ("validators", "main", "user"),
        ("validators", "main", "environment_file"),
        ("validators", "main", "graffiti"),
        ("validators", "other", "user"),
    ]
    one, two, three = data.draw(st.sampled_from(places))
    word = data.draw(st.sampled_from(["a", "/a", "-"]) | HOSTILE)
    plain[one][two][three] = word  # type: ignore[index]
    bad = st.sampled_from(["x\nUser=root", "a b", "../x", "a%i"])
    name = data.draw(st.just("main") | bad)
    validators = plain["validators"]  # type: ignore[index]
    validators[name] = validators.pop("main")
    try:
        read = config.read(from_plain(json.loads(json.dumps(plain)), "config.yaml"))
    except ConfigError:
        return
    made = generator.units(Applied(read, config.assign_ports(read, {})))
    keys = {"After", "User", "TimeoutStopSec", "EnvironmentFile"}
    keys |= {"LoadCredential", "SetCredential"}
    for path, content in made.items():
        assert path.count("/") == 1
        assert ".." not in path
        assert "\n" not in path
        if path.endswith(DROP_IN):
            for line in content.removeprefix(generator.HEADER).split("\n"):
                assert line in ("", "[Unit]", "[Service]") or line.split("=")[0] in keys
                assert line.isprintable()
                assert not set(line) & set("%\\\"'$;")


def test_helper_writes_what_is_applied(
    helper: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    example: Applied,
) -> None:
    module = helper("validator-supervisor-generator")
    monkeypatch.setattr(config, "applied", lambda: example)
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
    read = config.applied
    monkeypatch.setattr(config, "applied", lambda: read(damaged))
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
    monkeypatch.setattr(config, "applied", lambda: example)
    (tmp_path / "file").touch()
    assert module.main(tmp_path / "file") == 1
