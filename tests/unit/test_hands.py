"""What others could change: files that root reads, and groups that may read keys."""

import os
from pathlib import Path

import pytest

from validator_supervisor import config, hands
from validator_supervisor.document import parse
from validator_supervisor.errors import ConfigError

ADDRESS = "0x00000000219ab540356cBB839Cbe05303d7705Fa"


def check(path: Path | str = "", user: str = "") -> None:
    extra = f", environment_file: {path}" if path else ""
    extra += f", user: {user}" if user else ""
    text = f"""
version: 1
nodes: {{here: {{beacon: {{dev: "127.0.0.1:1"}}}}}}
validators:
  main: {{kind: ethereum, network: dev, fee_recipient: "{ADDRESS}",
          release: {{client: lodestar, binary: /usr/bin/true}}{extra}}}
"""
    document = parse(text.encode(), "config.yaml")
    hands.check(document, config.read(document), owner=os.geteuid())


@pytest.fixture
def safe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory with nothing above it that others could change."""
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        if path in tmp_path.parents:
            values = list(real(Path("/")))
            values[4] = os.geteuid()
            return os.stat_result(values)
        return real(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    tmp_path.chmod(0o755)
    return tmp_path


def test_a_file_that_is_roots_alone(safe: Path) -> None:
    check(safe / "not-there.env")
    (safe / "main.env").write_text("A=1")
    (safe / "main.env").chmod(0o644)
    check(safe / "main.env")


@pytest.mark.parametrize("what", ["file", "directory", "link", "owner"])
def test_a_file_that_somebody_else_could_change(
    safe: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = safe / "d"
    directory.mkdir(mode=0o755)
    file = directory / "main.env"
    file.write_text("A=1")
    file.chmod(0o644)
    wrong = directory if what == "directory" else file
    if what == "file":
        file.chmod(0o664)
    elif what == "directory":
        directory.chmod(0o777)
    elif what == "link":
        wrong = file = directory / "other"
        file.symlink_to("main.env")
    else:
        wrong = directory / "main.env"
        safe_lstat = Path.lstat

        def lstat(path: Path) -> os.stat_result:
            values = list(safe_lstat(path))
            values[4] += path == file
            return os.stat_result(values)

        monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(ConfigError, match=r"environment_file: .* could be changed by") as caught:
        check(file)
    assert f"{wrong} could" in caught.value.message


def test_a_group_that_others_are_in() -> None:
    check(user="nobody-has-this-name")
    # Debian gives a system user that asks for no group of its own this one.
    with pytest.raises(ConfigError, match=r"the group of nobody, .* has others: ") as caught:
        check(user="nobody")
    assert "config.yaml:6" in caught.value.message
