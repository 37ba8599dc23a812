import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import durable

TREE = Path(__file__).resolve().parents[2]
OLD, NEW = b"old", b"new" * 10_000
# Everything that changes what is on the disk.
CALLS = "write,fchmod,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
PROGRAM = """
import sys
from pathlib import Path
from validator_supervisor import durable
durable.write(Path(sys.argv[1]), b"new" * 10_000)
"""

Trace = Callable[..., tuple[int, list[str]]]
WRITTEN = ["unlink", "write", "fchmod", "fsync", "rename", "fsync"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "file"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


@pytest.fixture
def trace(path: Path, tmp_path: Path) -> Trace:
    """Runs ``durable.write`` under strace; returns the status and the calls it made."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("CRASH POINTS ARE NOT TESTED: strace is not here: apt install strace")

    def trace(*options: str) -> tuple[int, list[str]]:
        log = tmp_path / "trace"
        argv = [strace, "-f", "-y", "-qq", "-o", str(log), "-e", f"trace={CALLS}", *options]
        argv += [sys.executable, "-B", "-c", PROGRAM, str(path)]
        done = subprocess.run(argv, cwd=TREE, capture_output=True, check=False)
        if b"Operation not permitted" in done.stderr:
            pytest.skip("CRASH POINTS ARE NOT TESTED: strace may not trace here")
        calls = [line for line in log.read_text().splitlines() if str(path.parent) in line]
        return done.returncode, calls

    return trace


def test_new_content_mode_and_nothing_else(path: Path) -> None:
    durable.write(path, NEW)
    assert path.read_bytes() == NEW
    assert path.stat().st_mode & 0o7777 == 0o600
    durable.write(path, b"", 0o644)
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o7777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def names(calls: list[str]) -> list[str]:
    return [re.findall(r"^\d+ +(\w+)\(", call)[0] for call in calls]


def test_order_of_what_reaches_the_disk(trace: Trace, path: Path) -> None:
    status, calls = trace()
    assert status == 0
    assert path.read_bytes() == NEW
    assert names(calls) == WRITTEN
    temporary = re.findall(r'unlink\("([^"]+)"', calls[0])[0]
    assert Path(temporary).parent == path.parent
    for call in calls[1:4]:
        assert f"<{temporary}>" in call  # write, fchmod and fsync of the temporary file
    assert f'rename("{temporary}", "{path}")' in calls[4]
    assert f"<{path.parent}>)" in calls[5]  # fsync of the directory


@pytest.mark.parametrize("point", range(len(WRITTEN)))
def test_killed_anywhere_it_is_the_old_file_or_the_new_one(
    trace: Trace, path: Path, point: int
) -> None:
    call = WRITTEN[point]
    nth = WRITTEN[: point + 1].count(call)
    # The call at which it is killed does not happen.
    status, calls = trace("-e", f"inject={call}:signal=KILL:when={nth}")
    assert status == -9
    assert names(calls) == WRITTEN[: point + 1]
    assert path.read_bytes() == (NEW if point > WRITTEN.index("rename") else OLD)
    # What a killed one has left is in nobody's way.
    assert trace()[0] == 0
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["write", "fchmod", "fsync", "rename"])
def test_failed_write_leaves_the_old_file_alone(
    trace: Trace, path: Path, call: str, error: str
) -> None:
    inject = f"inject={call}:error={error}:when=1"
    status, calls = trace("-e", inject)
    assert status == 1
    assert any("INJECTED" in line for line in calls)
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


def test_failed_fsync_of_the_directory_is_told(trace: Trace, path: Path) -> None:
    status, calls = trace("-e", "inject=fsync:error=EIO:when=2")
    assert status == 1
    assert names(calls) == WRITTEN
    assert path.read_bytes() == NEW


def test_replaced_file_is_never_seen_half_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def look(source: Path, target: Path) -> Path:
        assert target.read_bytes() == OLD
        assert source.read_bytes() == NEW
        assert source.stat().st_mode & 0o777 == 0o644
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", look)
    durable.replace(path, NEW)
    assert path.read_bytes() == NEW
    assert list(path.parent.iterdir()) == [path]


def test_directory_must_be_one(path: Path) -> None:
    durable.sync_directory(path.parent)
    with pytest.raises(NotADirectoryError):
        durable.sync_directory(path)
    with pytest.raises(FileNotFoundError):
        durable.write(path.parent / "none" / "file", NEW)


def test_a_directory_in_the_way_is_an_error_and_stays(path: Path) -> None:
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.write(path, NEW)
    assert list(path.parent.iterdir()) == [path]
    assert path.is_dir()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with durable.locked(tmp_path):
            order.append("second")

    with durable.locked(tmp_path):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join(5)
    assert order == ["first", "second"]


def test_a_lock_is_given_up_by_who_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), durable.locked(tmp_path):
        raise KeyError
    with durable.locked(tmp_path):
        pass
    with pytest.raises(OSError, match="No such"), durable.locked(tmp_path / "none"):
        pass


def test_a_whole_tree_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "one").write_text("1")
    (tree / "inner/two").write_text("2")
    (tree / "link").symlink_to("/etc/hostname")
    (tree / "gone").symlink_to("/nowhere")
    os.mkfifo(tree / "fifo")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    durable.sync_tree(tree)
    expected = (tree, tree / "inner", tree / "one", tree / "inner/two", tmp_path)
    assert sorted(synced) == sorted(path.stat().st_ino for path in expected)
    synced.clear()
    durable.sync_tree(tree / "one")
    assert synced == [path.stat().st_ino for path in (tree / "one", tree)]
