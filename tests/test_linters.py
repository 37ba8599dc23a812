"""The linters are tests."""

import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
SCRIPTS = ["bench", "check", "demo", "tests/setup.sh", ".ci/run", "debian/tests/smoke", *(
    str(path.relative_to(TREE)) for pattern in ("*.postinst", "*.postrm", "*.prerm")
    for path in sorted((TREE / "debian").glob(pattern))
)]  # fmt: skip


def passes(*argv: str) -> None:
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_check() -> None:
    passes(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_ruff_format() -> None:
    passes(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".")


def test_mypy() -> None:
    passes(sys.executable, "-m", "mypy", "--cache-dir=/dev/null")


def test_shellcheck() -> None:
    passes("shellcheck", *SCRIPTS)


def test_man_pages_build(tmp_path: Path) -> None:
    pages = sorted((TREE / "man").glob("*.md"))
    assert pages
    for page in pages:
        built = tmp_path / page.stem
        passes("lowdown", "-s", "-t", "man", "-o", str(built), str(page))
        done = subprocess.run(
            ["man", "--warnings", "--local-file", str(built)],
            capture_output=True, text=True, check=False,
            env={"MANROFFSEQ": "", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), page
