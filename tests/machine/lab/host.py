"""This machine: what has to be installed here, where things are cached, and processes."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TREE = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("LAB_CACHE", "/var/cache/validator-supervisor-lab"))
# Before a program (sched(7)): it and all that it starts have processors before everything else, so
# that what is measured in seconds is not how busy this host is.
URGENT = ("chrt", "--rr", "1")
# Where machines write while they run.
RUNS = Path(os.environ.get("LAB_RUNS", CACHE / "runs"))
PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "pgrep": "procps",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}
# For native modules of the validator client.
CLIENT_PACKAGES = {"g++": "g++", "make": "make", "npm": "npm", "python3": "python3"}


class LabError(Exception):
    """Something that the lab needs cannot be had; the message says what and why."""


def say(text: str) -> None:
    """Show progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    seconds: float = 120,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; LabError with what it said when it fails."""
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    words = " ".join(str(word) for word in argv)
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            **given,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{words}: no end after {seconds:g} s") from None
    except OSError as failure:
        raise LabError(f"{words}: {failure.strerror}") from None
    if check and done.returncode:
        raise LabError(
            f"{words}: status {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done


def need(programs: Mapping[str, str]) -> None:
    """Install the Debian packages of programs that are not here."""
    if os.geteuid() != 0:
        raise LabError("run this as root: machines are booted and network namespaces are made")
    missing = sorted(
        {package for program, package in programs.items() if not shutil.which(program)}
    )
    if missing:
        say(f"installing {' '.join(missing)}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], seconds=600, env=quiet)
        argv = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        run(argv, seconds=1800, env=quiet)


def digest(*parts: str | bytes | Path) -> str:
    """Return a short name for exactly this input."""
    value = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part
        value.update(data.encode() if isinstance(data, str) else data)
        value.update(b"\0")
    return value.hexdigest()[:16]


@contextlib.contextmanager
def made_once(path: Path, what: str) -> Iterator[Path | None]:
    """Yield a directory to fill, which becomes ``path``; None when ``path`` is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        say(f"making {what}, once")
        started = time.monotonic()
        fresh = path.with_name(f".{path.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        fresh.rename(path)
        say(f"made {what} in {time.monotonic() - started:.0f} s")
