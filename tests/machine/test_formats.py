"""The formats of the installed package, with each release's own Python and libraries."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import images
from lab.machine import Machine

TREE = Path(__file__).resolve().parents[2]
VECTORS = TREE.parent / "shared/data"
# Where the tests look for the vectors: beside the tree.
INSIDE = "/opt/vs/tree"
TESTS = ("age", "archive", "armor", "backup", "bech32", "blocks", "bls", "interchange", "keystore",
         "slashing", "slashing_cli", "tar")  # fmt: skip
TOOLS = ("age", "python3-hypothesis", "python3-pytest", "zstd")
PYTEST = ["python3", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-c", "/dev/null",
          "--import-mode=importlib", f"--rootdir={INSIDE}",
          "-o", f"pythonpath={INSIDE}/tests/machine", "-o", "markers=long"]  # fmt: skip

IDENTITY, ARCHIVE = "/tmp/identity", "/tmp/main.age"
# What the state job will do: an archive of one file.
CREATE = f"""
import sys
from pathlib import Path
from validator_supervisor import age, archive
from validator_supervisor.manifest import Manifest
identity = age.identities(Path("{IDENTITY}").read_bytes())[0]
sources = {{"slashing-protection.json": lambda: [Path("/tmp/first.json").read_bytes()]}}
manifest = Manifest(version=1, validator="main", kind="ethereum", network="dev", host="ab" * 16, boot="cd" * 16,
    sequence=1, created=1763700000, clean=True, public_keys=("0x" + "ab" * 48,), removed_keys={{}},
    files=archive.describe(sources))
Path("{ARCHIVE}").write_bytes(b"".join(archive.create(manifest, sources, identity)))
"""
ROOT = "0x" + "00" * 32
KEY = "0x" + "ab" * 48


def interchange(slot: int, source: int, target: int, root: str = ROOT) -> str:
    metadata = {"interchange_format_version": "5", "genesis_validators_root": root}
    attestation = {"source_epoch": str(source), "target_epoch": str(target)}
    blocks = [{"slot": str(slot)}]
    key = {"pubkey": KEY, "signed_blocks": blocks, "signed_attestations": [attestation]}
    return json.dumps({"metadata": metadata, "data": [key]})


@pytest.fixture(scope="module", params=images.SUITES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    binds = [f"{TREE}/tests:{INSIDE}/tests"]
    binds += [f"{VECTORS}:{Path(INSIDE).parent}/shared/data"] if VECTORS.exists() else []
    layers = images.installed(request.param, "host", TOOLS)
    with Machine.boot(f"formats-{request.param}", layers, binds=binds) as machine:
        yield machine


def test_unit_tests_hold_with_the_libraries_of_the_release(machine: Machine) -> None:
    files = [f"{INSIDE}/tests/unit/test_{name}.py" for name in TESTS]
    done = machine.run(*PYTEST, *files, check=False, seconds=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    if VECTORS.exists():
        assert all("a kernel before 6.3" in line for line in skipped), skipped


def test_commands_need_nothing_but_the_package(machine: Machine) -> None:
    """No configuration, no root, no controller."""
    machine.systemctl("stop", "validator.target", "validator-supervisor.service")
    machine.write("/tmp/first.json", interchange(10, 3, 9))
    machine.write("/tmp/second.json", interchange(8, 4, 5))
    machine.write("/tmp/other.json", interchange(8, 4, 5, "0x" + "11" * 32))

    def said(*words: str, status: int = 0) -> str:
        done = machine.as_user("nobody", "validator-supervisor", *words, check=False)
        assert done.returncode == status, done.stderr
        assert not status or not done.stdout
        return done.stderr if status else done.stdout

    merged = said("slashing", "merge", "/tmp/first.json", "/tmp/second.json")
    machine.write("/tmp/merged.json", merged)
    for number in ('"10"', '"4"', '"9"'):
        assert number in merged
    assert "genesis" in said("slashing", "merge", "/tmp/first.json", "/tmp/other.json", status=1)
    check = ("slashing", "check", "/tmp/merged.json", "--pubkey", KEY)
    said(*check, "--block", "11")
    said(*check, "--attestation", "4", "10")
    assert said(*check, "--block", "10", status=1)
    assert said(*check, "--attestation", "3", "10", status=1)
    assert said(*check, "--block", "-1", status=2)
    lift = ("slashing", "lift", "/tmp/merged.json", "--genesis-time", "0", "--seconds-per-slot",
            "12", "--slots-per-epoch", "32", "--now", "38400")  # fmt: skip
    lifted = said(*lift)
    assert '"3201"' in lifted
    assert '"99"' in lifted
    assert '"100"' in lifted


def test_an_archive_is_inspected_by_anybody_with_the_identity(machine: Machine) -> None:
    machine.run("sh", "-c", f"age-keygen -o {IDENTITY} && chmod 644 {IDENTITY}")
    machine.write("/tmp/first.json", interchange(10, 3, 9))
    machine.run("python3", "-c", CREATE)
    inspect = ("validator-supervisor", "backup", "inspect", "--identity", IDENTITY)
    assert "validator     main" in machine.as_user("nobody", *inspect, ARCHIVE).stdout
    # The stock tools have the same file.
    line = f"age -d -i {IDENTITY} {ARCHIVE} | tar -C /root --zstd -x slashing-protection.json"
    machine.run("bash", "-o", "pipefail", "-ec", line)
    machine.run("cmp", "/root/slashing-protection.json", "/tmp/first.json")
    machine.run("truncate", "--size=-1", ARCHIVE)
    done = machine.as_user("nobody", *inspect, ARCHIVE, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "damaged" in done.stderr
