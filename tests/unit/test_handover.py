"""What is handed over is what is read, or nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from validator_supervisor import handover, slashing
from validator_supervisor.contents import AnyKey, Key, Remote
from validator_supervisor.decision import CONTINUE, POWER_CUT, RESTORE
from validator_supervisor.errors import SupervisorError
from validator_supervisor.handover import Handover
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.networks import Chain

KEYS: dict[str, AnyKey] = {
    "0x" + "ab" * 48: Key(b'{"x": 1}', b"pass \xff"),
    "0x" + "cd" * 48: Key(b"{}", b""),
    "0x" + "a7" * 48: Remote(),
}
FLOOR = Interchange(
    b"\1" * 32,
    {name: slashing.minified(slashing.Watermark(5, 1, 2)) for name in KEYS}
    | {"0x" + "ef" * 48: History()},
)
GIVEN = Handover(
    RESTORE, True, FLOOR, FLOOR, Chain("dev", 1, 6, 8, "0x" + "01" * 32, ("0x00000001",)), 7,
    8, 9, True,
)  # fmt: skip


@pytest.mark.parametrize("row", [CONTINUE, POWER_CUT, RESTORE])
def test_what_was_written_is_read(tmp_path: Path, row: str) -> None:
    given = replace(GIVEN, row=row)
    handover.write(tmp_path, given, KEYS)
    assert handover.read(tmp_path) == (given, KEYS)
    # The validator's group reads; it writes only its own directory.
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes.pop(handover.CLIENT) == 0o770
    for name in (*KEYS, handover.KEYS):
        assert modes.pop(name) == 0o750
    assert set(modes.values()) == {0o640}


def test_again_and_without_keys(tmp_path: Path) -> None:
    handover.write(tmp_path, GIVEN, KEYS)
    handover.write(tmp_path, GIVEN, {})
    assert handover.read(tmp_path) == (GIVEN, {})


def test_nothing_and_damaged(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError) as caught:
        handover.read(tmp_path)
    assert caught.value.code == "NoHandover"
    handover.write(tmp_path, GIVEN, KEYS)
    file = tmp_path / handover.FILE
    whole = json.loads(file.read_bytes())
    for name in whole:
        for wrong in (None, "x", -1, [0]):
            file.write_text(json.dumps({**whole, name: wrong}))
            with pytest.raises(SupervisorError):
                handover.read(tmp_path)
        file.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(SupervisorError):
            handover.read(tmp_path)
    for raw in (b"", b"{", b"\xff", json.dumps(whole).encode()[:-1]):
        file.write_bytes(raw)
        with pytest.raises(SupervisorError):
            handover.read(tmp_path)
