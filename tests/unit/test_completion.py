import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from validator_supervisor import config
from validator_supervisor.applied import Applied, assign_ports
from validator_supervisor.cli import completion
from validator_supervisor.document import parse

TREE = Path(__file__).resolve().parents[2]
# With another file than the host's own.
PROGRAM = """\
import sys
from pathlib import Path
from validator_supervisor.applied import Applied
from validator_supervisor.cli import main
file, load = Path(sys.argv.pop(1)), Applied.load
Applied.load = lambda: load(file)
main.main()
"""
Offered = Callable[..., list[str]]


@pytest.fixture
def offered(text: str, tmp_path: Path) -> Offered:
    """Return what is offered for a line that ends where the cursor is."""
    file = tmp_path / ".applied"
    document = parse(text.encode(), "config.yaml")
    wanted = config.read(document)
    stored = Applied(wanted, assign_ports(wanted, {}), {}, document).text()

    def offered(line: str, applied: bytes | None = None) -> list[str]:
        file.write_bytes(stored if applied is None else applied)
        answer = tmp_path / "answer"
        answer.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, file],
            env={
                "PYTHONPATH": str(TREE),
                "PATH": os.environ["PATH"],
                "_ARGCOMPLETE": "1",
                "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
                "COMP_LINE": f"validator-supervisor {line}",
                "COMP_POINT": str(len(f"validator-supervisor {line}")),
            },
            capture_output=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (b"", b"")
        return [word.strip() for word in answer.read_text().split("\v") if word]

    return offered


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "",
            "status start stop restart enable disable connect set-release releases "
            "import-keystore remove-key take-over retire adopt exit resume logs authorize unlock "
            "lock init-identity recovery-kit passphrase rotate-identity backup slashing",
        ),
        ("re", "recovery-kit releases remove-key restart resume retire"),
        ("set-release m", "main"),
        ("set-release main l", "lighthouse lodestar"),
        ("unlock --", "--help --passphrase-fd"),
        ("recovery-kit --kit /etc/hostn", "/etc/hostname"),
        ("init-identity --from /etc/hostn", "/etc/hostname"),
        ("status --", "--help --json --watch"),
        ("start ", "hub main other"),
        ("enable o", "other"),
        ("disable main ", "hub other"),
        ("restart main other ", "hub"),
        ("import-keystore m", "main"),
        ("import-keystore main /etc/hostn", "/etc/hostname"),
        ("remove-key m", "main"),
        ("remove-key main ", ""),
        ("remove-key main 0x --out /etc/hostn", "/etc/hostname"),
        ("remove-key main 0x --", "--help --out --confirm --no-watch --json"),
        ("retire m", "main"),
        ("retire main --output /etc/hostn", "/etc/hostname"),
        ("retire main --", "--help --output --code-fd --confirm --json"),
        ("adopt m", "main"),
        ("adopt main /etc/hostn", "/etc/hostname"),
        ("adopt main /etc/hostname --", "--help --code-fd --returned --json"),
        ("take-over m", "main"),
        ("take-over main --", "--help --no-watch --now --confirm"),
        ("exit m", "main"),
        ("exit main ", ""),
        ("exit main 0x --", "--help --confirm --json"),
        ("connect ", "hub main other"),
        # Its own nodes; a command has none.
        ("connect main ", "helsinki local"),
        ("connect other ", ""),
        ("connect main --", "--help --clear"),
        ("connect main helsinki ", ""),
        # Only a node with a tunnel has something to say or can be let into.
        ("logs ", "hub main other helsinki"),
        ("logs main h", "helsinki hub"),
        ("logs main -p w", "warning"),
        ("logs -n ", ""),
        ("authorize ", "helsinki"),
        ("connect unknown ", "helsinki local"),
        ("backup ", "inspect list now restore verify"),
        ("backup now ", "hub main other"),
        ("backup restore main --from h", "helsinki"),
        ("backup inspect -i /etc/hostn", "/etc/hostname"),
        ("backup inspect -i x /etc/hostn", "/etc/hostname"),
        ("backup inspect --", "--help --identity --json"),
        ("releases ", "list prune rollback"),
        ("releases rollback m", "main"),
        ("releases prune main --", "--help --keep"),
        ("slashing ", "merge check lift quarantine"),
        ("slashing check /etc/hostn", "/etc/hostname"),
        ("slashing merge x /etc/hostn", "/etc/hostname"),
        ("slashing check x --", "--help --pubkey --block --attestation"),
        ("slashing check x --block ", ""),
    ],
)
def test_what_is_offered(offered: Offered, line: str, words: str) -> None:
    assert sorted(offered(line)) == sorted(words.split())


@pytest.mark.parametrize("applied", [b"", b"{}", b'{"config": 7, "ports": {}}', b"\xff"])
def test_a_damaged_file_is_silence(offered: Offered, applied: bytes) -> None:
    assert offered("start ", applied) == []
    assert "start" in offered("s", applied)


KEY = "0x" + "ab" * 48


@pytest.mark.parametrize(
    ("stored", "keys"),
    [
        ({"node": "n", "public_keys": [KEY]}, [KEY]),
        ({"public_keys": []}, []),
        # It is the validator's own, and goes to a shell.
        ({"public_keys": [KEY, "$(id)"]}, []),
        ({"public_keys": [KEY + "\n"]}, []),
        ({"public_keys": 5}, []),
        ({}, []),
        ([], []),
    ],
)
def test_keys_of_a_validator_that_runs(stored: object, keys: list[str], tmp_path: Path) -> None:
    assert completion._public_keys("main", tmp_path) == []
    file = tmp_path / "main/run.json"
    file.parent.mkdir()
    file.write_text(json.dumps(stored))
    assert completion._public_keys("main", tmp_path) == keys
    assert completion._public_keys("other", tmp_path) == []
