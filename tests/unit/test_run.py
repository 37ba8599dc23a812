import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from validator_supervisor import run
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError

TREE = Path(__file__).resolve().parents[2]


def failure(script: str, seconds: float = 10) -> SupervisorError:
    with pytest.raises(SupervisorError) as caught:
        run.run(["/bin/sh", "-c", script], seconds=seconds)
    assert caught.value.code == "ProcessFailed"
    return caught.value


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "sh exited with 3"),
        ("echo a >&2; echo b >&2; echo out; exit 1", "sh exited with 1: b"),
        (r"printf 'a\377b\n\n' >&2; exit 1", "sh exited with 1: a\ufffdb"),
        ("kill -TERM $$", "sh was killed by SIGTERM"),
        ("echo why >&2; kill -9 $$", "sh was killed by SIGKILL: why"),
        ("kill -36 $$", "sh was killed by signal 36"),
    ],
)
def test_message_says_how_it_ended(script: str, message: str) -> None:
    assert failure(script).message == message
    assert failure(script).exit_status == REFUSED


def test_unchecked_failure_is_returned() -> None:
    assert run.run(["/bin/sh", "-c", "exit 3"], seconds=10, check=False).returncode == 3


def test_missing_program_and_one_that_may_not_run(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "No such file"), (tmp_path, "Permission denied")):
        with pytest.raises(SupervisorError, match=f"{path.name}: {words}"):
            run.run([str(path)], seconds=1)


def test_time_is_limited() -> None:
    late = failure("exec sleep 10", seconds=0.1)
    assert late.message == "sh did not end within 0.1 s"
    assert late.exit_status == TEMPORARY


def test_input_is_given_or_empty() -> None:
    assert run.run(["/bin/cat"], seconds=5, stdin=b"a\0b").stdout == b"a\0b"
    assert run.run(["/bin/cat"], seconds=5).stdout == b""


def test_one_that_does_not_read_its_input() -> None:
    assert run.run(["/bin/true"], seconds=5, stdin=b"x" * 1_000_000).returncode == 0


def test_environment_is_clean_and_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os,
        "environ",
        {"PATH": "/bin", "PASSPHRASE": "secret", "LC_ALL": "de_DE.UTF-8", "LD_PRELOAD": "x",
         "NOTIFY_SOCKET": "/run/n"},
    )  # fmt: skip
    lines = set(run.run(["/usr/bin/env"], seconds=5).stdout.decode().splitlines())
    assert lines == {"PATH=/bin", "NOTIFY_SOCKET=/run/n", "LC_ALL=C.UTF-8"}
    assert run.environment({"A": "b", "PATH": "/x"})["PATH"] == "/x"
    monkeypatch.setattr(os, "environ", {})
    assert run.environment()["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"


def test_arguments_are_not_words_of_a_shell() -> None:
    assert run.run(["/bin/echo", "$(id)", "a b", "*"], seconds=5).stdout == b"$(id) a b *\n"


def become(*argv: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from validator_supervisor import run; run.become(sys.argv[1:], {'A': 'b'})"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", program, *argv],
        cwd=TREE,
        env={"PATH": "/bin", "SECRET": "x"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_becomes_the_program() -> None:
    assert set(become("/usr/bin/env").stdout.splitlines()) == {
        "PATH=/bin", "A=b", "LC_ALL=C.UTF-8",
    }  # fmt: skip
    assert become("/bin/sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL


def test_what_it_cannot_become_is_an_expected_failure() -> None:
    with pytest.raises(SupervisorError, match="/no/program: No such file"):
        run.become(["/no/program"])


def test_what_still_runs_ends_with_us(tmp_path: Path) -> None:
    script = f"""
import pathlib, threading, time
from validator_supervisor import run
here = pathlib.Path({str(tmp_path)!r})
words = ["/bin/sh", "-c", "echo $$ >pid.new; mv pid.new pid; sleep 60"]
def work():
    run.bounded(words, seconds=60, directory=here, size=1000)
threading.Thread(target=work, daemon=True).start()
while not (here / "pid").exists():
    time.sleep(0.01)
"""
    tree = str(Path(run.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=30, cwd=tmp_path,
        env={"PYTHONPATH": tree},
    )  # fmt: skip
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10
    while time.monotonic() < end and runs(pid):
        time.sleep(0.01)
    assert not runs(pid)


def runs(pid: int) -> bool:
    try:
        # What nobody has waited for yet is a zombie.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_output_of_what_ends_first() -> None:
    asked = []

    def nothing() -> None:
        asked.append(1)

    words = ["/bin/sh", "-c", "sleep 0.3; echo typed"]
    assert run.unless(words, nothing, pause=0.05) == b"typed\n"
    assert asked
    assert run.unless(["/bin/false"], nothing, pause=5) == b""


def test_what_came_meanwhile_ends_the_program(tmp_path: Path) -> None:
    # As systemd-ask-password(1): it takes its question back.
    question = tmp_path / "question"
    words = ["/bin/sh", "-c", 'trap "rm $0; exit 1" TERM; touch $0; sleep 60 & wait', str(question)]

    def given() -> str | None:
        return "given" if question.exists() else None

    assert run.unless(words, given, pause=0.01) == "given"
    assert not question.exists()


def test_what_fails_meanwhile_ends_the_program(tmp_path: Path) -> None:
    words = ["/bin/sh", "-c", "echo $$ >$0; exec sleep 60", str(tmp_path / "pid")]

    def fail() -> None:
        raise SupervisorError("Failed", "it fails")

    with pytest.raises(SupervisorError, match="it fails"):
        run.unless(words, fail, pause=0.2)
    process = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(SupervisorError, match="No such file"):
        run.unless(["/nowhere"], fail, pause=0.2)


def test_attended_it_has_our_standard_error_and_ends_with_us(
    capfd: pytest.CaptureFixture[str],
) -> None:
    done = run.attended(["/bin/sh", "-c", "echo out; echo said >&2; exit 7"])
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert capfd.readouterr() == ("", "said\n")
    with pytest.raises(SupervisorError, match="/nowhere: No such file") as caught:
        run.attended(["/nowhere"])
    assert caught.value.code == "ProcessFailed"
    # Who waits is killed, and what waits for the end of its input notices.
    script = "import sys; sys.path[:0] = [sys.argv[1]]; from validator_supervisor import run; "
    script += "run.attended(['/bin/sh', '-c', 'echo $$ >&2; cat; echo ended >&2'])"
    argv = [sys.executable, "-c", script, str(TREE)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    assert process.stderr
    assert process.stderr.readline().strip().isdigit()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    assert process.stderr.read() == b"ended\n"
    process.stderr.close()
    process.wait(10)
