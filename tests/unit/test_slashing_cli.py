"""The commands as a script uses them; most in this process, some as programs of their own."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from validator_supervisor.cli import main, slashing
from validator_supervisor.networks import NETWORKS

TREE = Path(__file__).resolve().parents[2]
VECTORS = TREE.parent / "shared" / "data" / "eip3076"
EXPORT = TREE.parent / "shared" / "data" / "lodestar-1.5.1-export-v4.json"
KEY = "0x" + "ab" * 48
OTHER = "0x" + "cd" * 48
ROOT = "0x" + "05" * 32
Run = Callable[..., tuple[int, str, str]]
CLOCK = ["--genesis-time", "1000", "--seconds-per-slot", "12", "--slots-per-epoch", "32"]


def document(*keys: dict[str, Any], root: str = ROOT) -> dict[str, Any]:
    metadata = {"interchange_format_version": "5", "genesis_validators_root": root}
    return {"metadata": metadata, "data": list(keys)}


def signed(
    key: str, slots: list[int] | None = None, votes: list[tuple[int, int]] | None = None
) -> dict[str, Any]:
    return {
        "pubkey": key,
        "signed_blocks": [{"slot": str(slot)} for slot in slots or []],
        "signed_attestations": [
            {"source_epoch": str(source), "target_epoch": str(target)}
            for source, target in votes or []
        ],
    }


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = main.main(["slashing", *map(str, words)])
        except SystemExit as end:
            status = int(str(end.code))
        return status, *capsys.readouterr()

    return run


def program(*words: object) -> tuple[int, str, str]:
    argv = [sys.executable, "-m", "validator_supervisor", "slashing", *map(str, words)]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def vectors() -> list[Path]:
    return sorted(path for path in VECTORS.glob("*.json") if "schema" not in path.name)


class Signer:
    """A signer whose whole state is a file, made and asked by the commands alone."""

    def __init__(self, run: Run, folder: Path, root: str) -> None:
        self.run, self.state, self.new = run, folder / "state.json", folder / "new.json"
        self.root = root
        self.state.write_text(json.dumps(document(root=root)))

    def merge(self, interchange: object) -> bool:
        self.new.write_text(json.dumps(interchange))
        status, out, err = self.run("merge", self.state, self.new)
        assert (status, bool(out), bool(err)) in ((0, True, False), (1, False, True))
        if status == 0:
            self.state.write_text(out)
        return status == 0

    def sign(self, key: str, message: list[str], entry: dict[str, Any]) -> bool:
        status, out, err = self.run("check", self.state, "--pubkey", key, *message)
        assert status in (0, 1)
        assert out == ""
        if status == 1:
            assert "must not be signed" in err
        else:
            assert self.merge(document(entry, root=self.root))
        return status == 0


def play(case: dict[str, Any], signer: Signer) -> Counter[str]:
    """Play one case by the minimal strategy; return what was looked at."""
    counts = Counter(cases=1)
    for number, step in enumerate(case["steps"]):
        counts["steps"] += 1
        assert signer.merge(step["interchange"]) == step["should_succeed"], number
        for block in step["blocks"]:
            key, slot = block["pubkey"], block["slot"]
            done = signer.sign(key, ["--block", slot], signed(key, [int(slot)]))
            assert done == block["should_succeed"], (number, block)
            counts["blocks"] += 1
        for vote in step["attestations"]:
            key, source, target = vote["pubkey"], vote["source_epoch"], vote["target_epoch"]
            entry = signed(key, [], [(int(source), int(target))])
            done = signer.sign(key, ["--attestation", source, target], entry)
            assert done == vote["should_succeed"], (number, vote)
            counts["attestations"] += 1
    return counts


@pytest.mark.parametrize("how", ["here", "program"])
def test_official_vectors(how: str, run: Run, tmp_path: Path) -> None:
    if not VECTORS.is_dir():
        pytest.skip(f"the official vectors are not here: {VECTORS}")
    paths = vectors() if how == "here" else vectors()[::9]
    counts: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for path in paths:
        case = json.loads(path.read_text())
        expected["cases"] += 1
        expected["steps"] += len(case["steps"])
        expected["blocks"] += sum(len(step["blocks"]) for step in case["steps"])
        expected["attestations"] += sum(len(step["attestations"]) for step in case["steps"])
        chosen = run if how == "here" else program
        counts += play(case, Signer(chosen, tmp_path, case["genesis_validators_root"]))
    print(dict(counts))
    assert counts == expected
    assert all(counts[name] > 0 for name in ("cases", "steps", "blocks", "attestations"))
    if how == "here":
        assert counts["cases"] >= 26
        assert counts["blocks"] >= 58
        assert counts["attestations"] >= 70


def test_export_of_an_old_client_is_upgraded(run: Run) -> None:
    if not EXPORT.is_file():
        pytest.skip(f"the export is not here: {EXPORT}")
    status, out, err = run("merge", EXPORT)
    assert status == 0
    merged = json.loads(out)
    assert merged["metadata"]["interchange_format_version"] == "5"
    exported = {entry["pubkey"]: entry for entry in json.loads(EXPORT.read_text())["data"]}
    real = {key for key in exported if len(key) == 98}
    assert {entry["pubkey"] for entry in merged["data"]} == real
    assert len(real) == 4
    for entry in merged["data"]:
        for kind, number in (("signed_blocks", "slot"), ("signed_attestations", "target_epoch")):
            (one,) = entry[kind]
            assert int(one[number]) == max(
                int(old[number]) for old in exported[entry["pubkey"]][kind]
            )
            assert "signing_root" not in one
    assert len(err.splitlines()) == 3
    assert "version 4" in err
    assert all(key in err for key in exported if len(key) != 98)


def test_merge_takes_the_highest_of_everything(run: Run, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(json.dumps(document(signed(KEY, [9, 2], [(1, 8)]), signed(OTHER))))
    two.write_text(json.dumps(document(signed(KEY[2:].upper(), [3], [(5, 6)]))))
    status, out, err = run("merge", one, two)
    assert (status, err) == (0, "")
    assert json.loads(out) == document(signed(KEY, [9], [(5, 8)]), signed(OTHER))
    assert run("merge", two, one)[1] == out
    complete = json.loads(run("merge", "--complete", one, two)[1])
    assert complete == document(signed(KEY, [2, 3, 9], [(1, 8), (5, 6)]), signed(OTHER))


def test_merge_refuses_with_nothing_on_standard_output(run: Run, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(json.dumps(document(signed(KEY, [1]))))
    bad.write_text(json.dumps(document(signed(KEY, [1]), root="0x" + "06" * 32)))
    status, out, err = run("merge", good, bad)
    assert (status, out) == (1, "")
    assert f"{bad}: genesis_validators_root differs: {ROOT} and 0x0606" in err
    bad.write_text(good.read_text().replace('"5"', '"6"'))
    status, out, err = run("merge", good, bad)
    assert (status, out) == (1, "")
    assert 'metadata.interchange_format_version: expected "5", found "6"' in err
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero"), Path(os.devnull)):
        status, out, err = run("merge", good, path)
        assert (status, out) == (1, "")
        assert str(path) in err


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--block", 9], 1), (["--block", 10], 0), (["--block", 8], 1),
        (["--attestation", 5, 9], 0), (["--attestation", 5, 8], 1), (["--attestation", 4, 9], 1),
        (["--attestation", 10, 9], 1), (["--attestation", 9, 9], 0),
        (["--block", -1], 2), (["--block", "x"], 2), (["--block", ""], 2), (["--block", "1.0"], 2),
        (["--block", "\u0661\u0662"], 2), (["--block", 2**64 - 1], 2), (["--block", 2**64 - 2], 0),
        (["--block"], 2), ([], 2), (["--attestation", 1], 2), (["--attestation", 1, 2, 3], 2),
        (["--attestation", -1, 2], 2), (["--block", 10, "--attestation", 5, 9], 2),
        (["--block", 10, "--unknown"], 2), (["--block", "9" * 5000], 2),
    ],
)  # fmt: skip
def test_check(words: list[object], status: int, run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]))))
    for key in (KEY, KEY[2:], KEY.upper()):
        found, out, err = run("check", state, "--pubkey", key, *words)
        assert (found, out, bool(err)) == (status, "", status > 0)


def test_check_of_what_is_not_known(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]))))
    status, _, err = run("check", state, "--pubkey", OTHER, "--block", 1)
    assert status == 0
    assert "does not have the key" in err
    assert run("check", state, "--pubkey", "0xab", "--block", 1)[0] == 2
    assert run("check", tmp_path / "none", "--pubkey", KEY, "--block", 1)[0] == 2
    assert run("check", state, "--block", 1)[0] == 2
    state.write_text("{")
    assert run("check", state, "--pubkey", KEY, "--block", 100)[0] == 2


def test_lift(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]), signed(OTHER))))
    now = ["--now", 1000 + 12 * (32 * 20 + 3)]
    status, out, err = run("lift", state, *CLOCK, *now)
    assert (status, err) == (0, "")
    both = [signed(key, [644], [(19, 20)]) for key in (KEY, OTHER)]
    assert json.loads(out) == document(*both)
    lifted = json.loads(run("lift", state, *CLOCK, *now, "--other-host")[1])
    assert lifted == document(*[signed(key, [675], [(20, 21)]) for key in (KEY, OTHER)])
    lifted = json.loads(run("lift", state, *CLOCK, *now, "--source", 4)[1])
    assert lifted == document(signed(KEY, [644], [(5, 20)]), signed(OTHER, [644], [(4, 20)]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--now", 999], "before the chain's genesis"),
        (["--now", 1000], "over 2 epochs above"),
        (["--now", 1000 + 12 * 32 * 20, "--source", 21], "above the epoch now"),
        (["--now", 5000, "--seconds-per-slot", 0], "1 or more"),
        (["--now", 5000, "--slots-per-epoch", 0], "1 or more"),
        (["--now", -5], "decimal number"),
        (["--now", 1_790_000_000_000], "no time in seconds"),
        (["--now", 5000, "--genesis-time", 1_790_000_000_000], "no time in seconds"),
        (["--now", "1e9"], "decimal number"),
    ],
)
def test_lift_refuses(words: list[object], message: str, run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]))))
    status, out, err = run("lift", state, *CLOCK, *words)
    assert (status, out) == (1, "")
    assert message in err


def test_lift_names_the_key_that_is_ahead(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]), signed(OTHER, [], [(5, 99)]))))
    status, out, err = run("lift", state, *CLOCK, "--now", 1000 + 12 * 32 * 20)
    assert (status, out) == (1, "")
    assert f"{state}: {OTHER}: target_epoch 99 is over 2 epochs above 20" in err


def test_lift_tells_what_may_be_a_mistake(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    mainnet = NETWORKS["mainnet"]
    state.write_text(json.dumps(document(signed(KEY), root=mainnet.genesis_validators_root)))
    right = ["--genesis-time", mainnet.genesis_time, "--seconds-per-slot", 12,
             "--slots-per-epoch", 32, "--now", 1_790_000_000]  # fmt: skip
    assert run("lift", state, *right)[::2] == (0, "")
    for option, wrong in (("genesis-time", 1), ("seconds-per-slot", 12000), ("slots-per-epoch", 8)):
        status, _, err = run("lift", state, *right, f"--{option}", wrong)
        assert status == 0
        assert "this is mainnet, with its genesis at 1606824023" in err
    state.write_text(json.dumps(document()))
    status, _, err = run("lift", state, *right)
    assert (status, err) == (0, f"validator-supervisor: {state} has no keys: nothing was lifted\n")


def test_lift_without_a_time_is_to_the_clock(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY))))
    before = int(time.time())
    lifted = json.loads(run("lift", state, *CLOCK)[1])
    (block,) = lifted["data"][0]["signed_blocks"]
    assert (before - 1000) // 12 <= int(block["slot"]) - 1 <= (time.time() - 1000) // 12


@pytest.mark.parametrize("words", [["--block", 99], ["--pubkey", OTHER], ["--attestation", 9, 99]])
def test_check_answers_one_question(words: list[object], run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text(json.dumps(document(signed(KEY, [9], [(5, 8)]))))
    asked = ["--attestation", 1, 2] if "--attestation" in words else ["--block", 3]
    assert run("check", state, "--pubkey", KEY, *asked)[0] == 1
    assert run("check", state, "--pubkey", KEY, *asked, *words)[0] == 2
    assert run("check", state, "--pub", KEY, "--block", 3)[0] == 2


def test_few_remarks_are_shown(run: Run, tmp_path: Path) -> None:
    state = tmp_path / "state\x1b"
    old = document(*[signed(f"0x{n:02x}") for n in range(100)])
    old["metadata"] |= {"interchange_format_version": "4", "interchange_format": "complete"}
    state.write_text(json.dumps(old))
    status, _, err = run("merge", state)
    assert (status, err.count("\n"), "\x1b" in err) == (0, 21, False)
    assert err.endswith("and 81 more of these\n")


def test_without_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(slashing, "parse", parse)
    state = tmp_path / "state"
    state.write_text("{}")
    for words, wrong in (
        (["merge", state], 1),
        (["check", state, "--pubkey", KEY, "--block", 1], 2),
    ):
        status, out, err = run(*words)
        assert (status, out) == (wrong, "")
        assert "more memory than there is" in err


def test_closed_standard_error_and_interruption(tmp_path: Path) -> None:
    state = tmp_path / "state"
    old = document(signed(KEY, [9]))
    old["metadata"] |= {"interchange_format_version": "4", "interchange_format": "complete"}
    state.write_text(json.dumps(old))

    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        argv = ["bash", "-c", line, sys.executable, "-m", "validator_supervisor", "slashing"]
        return subprocess.run(argv, cwd=TREE, capture_output=True)

    merged = shell(f'"$0" "$@" merge {state} 2>&-')
    assert (merged.returncode, json.loads(merged.stdout)) == (0, document(signed(KEY, [9])))
    asked = shell(f'"$0" "$@" check {state} --pubkey {KEY} 2>&-')
    assert (asked.returncode, asked.stdout) == (2, b"")
    closed = shell(f'"$0" "$@" merge {state} >&-')
    assert (closed.returncode, closed.stderr.count(b"Traceback")) == (1, 0)
    # Whoever runs the tests may have it ignored, and that is inherited.
    waiting = start(["merge", "-"], stdin=subprocess.PIPE, preexec_fn=heed_interruption)
    assert waiting.stdin
    waiting.stdin.write(b"x" * 100_000)  # more than a pipe holds: it has begun to read
    waiting.stdin.flush()
    # Python heeds a signal between two reads only after the second.
    end = time.monotonic() + 30
    while not sleeps_at(waiting.pid, waiting.stdin.fileno()):
        assert time.monotonic() < end
    waiting.send_signal(signal.SIGINT)
    assert (waiting.wait(30), waiting.communicate()[1]) == (130, b"")


def sleeps_at(process: int, pipe: int) -> bool:
    """Whether a process has read all that is in a pipe, and waits for more."""
    unread = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    state = Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0]
    return (unread, state) == (bytes(4), "S")


def heed_interruption() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(words: list[str], **given: Any) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "validator_supervisor", "slashing", *words]
    return subprocess.Popen(argv, cwd=TREE, stderr=subprocess.PIPE, **given)


def test_pipes(tmp_path: Path) -> None:
    text = json.dumps(document(signed(KEY, [9], [(5, 8)]))).encode()
    merge = start(["merge", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, err = merge.communicate(text)
    assert (merge.returncode, json.loads(out), err) == (0, json.loads(text), b"")
    state = tmp_path / "state"
    state.write_bytes(text)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'"$0" -m validator_supervisor slashing merge <(cat "{state}")',
            sys.executable,
        ],
        cwd=TREE,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, out)
    full = start(["merge", str(state)], stdout=Path("/dev/full").open("wb"))  # noqa: SIM115
    _, err = full.communicate()
    assert (full.returncode, err.count(b"\n")) == (1, 1)
    assert b"cannot be written: No space left" in err
    reader, writer = os.pipe()
    os.close(reader)
    gone = start(["merge", str(state)], stdout=writer)
    os.close(writer)
    assert (gone.communicate()[1], gone.returncode) == (b"", 1)
