"""Which host, which boot, and for how long."""

from pathlib import Path

import pytest

from validator_supervisor import host
from validator_supervisor.errors import SupervisorError


def test_an_id_that_does_not_tell_the_machine_id(tmp_path: Path) -> None:
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef" * 2 + "\n")
    assert host.host_id(path) == host.host_id(path)
    assert len(bytes.fromhex(host.host_id(path))) == 16
    assert host.host_id(path) not in path.read_text()


@pytest.mark.parametrize("content", ["", "uninitialized\n", "0123", "x" * 32, "01" * 17])
def test_a_bad_machine_id_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "id").write_text(content)
    for path in (tmp_path / "id", tmp_path / "nowhere"):
        with pytest.raises(SupervisorError) as caught:
            host.host_id(path)
        assert caught.value.code == "NoHostId"


def test_in_a_container_the_boot_is_younger_than_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1000.50 3000.00\n")
    (tmp_path / "1").mkdir()
    words = ["S", *["0"] * 18, "40000", "0"]
    (tmp_path / "1/stat").write_text(f"1 (a ) (b) {' '.join(words)}\n")
    assert host.boot_age(tmp_path) == 600
    (tmp_path / "uptime").write_text("1.00 3000.00\n")
    assert host.boot_age(tmp_path) == 0


def test_what_systemd_says_of_the_boot_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boot_id").write_text("3e950d3a-0c84-4b1a-89a1-f0747505c0cd\n")
    monkeypatch.delenv(host.BOOT, raising=False)
    assert host.boot_id(tmp_path / "boot_id") == "3e950d3a0c844b1a89a1f0747505c0cd"
    monkeypatch.setenv(host.BOOT, "1" * 32)
    assert host.boot_id(tmp_path / "boot_id") == "1" * 32
