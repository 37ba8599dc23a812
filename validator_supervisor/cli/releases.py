"""`validator-supervisor releases`: which ones are here, back to the last one, and away with old."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from validator_supervisor import nearest, releases, run
from validator_supervisor.applied import Applied
from validator_supervisor.cli import job, streams
from validator_supervisor.errors import SupervisorError
from validator_supervisor.kinds import NAME_PATTERN
from validator_supervisor.releases import ROOT, Listed

USER = "validator-release"


def show(name: str, *, as_json: bool, root: Path = ROOT) -> int:
    """Print the releases of a validator, newest first. Raises SupervisorError."""
    directory = _directory(name, root)
    found = releases.listed(directory, running(directory))
    if as_json:
        plain = [{**asdict(one.release), **_marks(one)} for one in found]
        streams.write(json.dumps(plain, indent=1) + "\n")
    else:
        streams.write("".join(f"{line}\n" for line in as_text(found)))
    return 0


def as_text(found: Sequence[Listed]) -> list[str]:
    """Return the lines that show releases."""
    lines = []
    for one in found:
        marks = [mark.replace("_", " ") for mark, holds in _marks(one).items() if holds]
        words = f"{one.release!s:<28} {one.release.sha256[:12]}  {', '.join(marks)}"
        lines.append(words.rstrip())
    return lines or ["none"]


def _marks(one: Listed) -> dict[str, bool]:
    return {
        "current": one.current,
        "previous": one.previous,
        "running": one.running,
        "rolled_back": one.left,
    }


def running(directory: Path, proc: Path = Path("/proc")) -> list[str]:
    """Return the folders below a validator's directory that a process was started from."""
    pattern = re.compile(re.escape(f"{directory}/{releases.FOLDERS}/").encode() + rb"([^/\0]+)")
    found = set()
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            found |= set(pattern.findall(path.read_bytes()))
        except OSError:  # it has ended
            continue
    return sorted(name.decode(errors="replace") for name in found)


def rollback(name: str, *, clear: bool) -> NoReturn:
    """Become the job that goes back to the release before. Raises SupervisorError."""
    _directory(name, ROOT)
    _become(name, ["forward" if clear else "rollback", name])


def prune(name: str, keep: int) -> NoReturn:
    """Become the job that removes old releases. Raises SupervisorError."""
    _become(name, ["prune", name, str(keep), *running(_directory(name, ROOT))])


def _directory(name: str, root: Path) -> Path:
    """Return where the releases of a validator are, also of one that is configured no longer."""
    known = [one.name for one in Applied.load().config.ethereum]
    if re.fullmatch(NAME_PATTERN, name) and (name in known or (root / name).is_dir()):
        return root / name
    hint = nearest.hint(name, known)
    raise SupervisorError("UnknownValidator", f"there is no Ethereum validator {name}", hint)


def _become(name: str, words: Sequence[str]) -> NoReturn:
    if os.geteuid() != 0:
        raise SupervisorError("NotRoot", "this changes what validators run: only root may", "sudo")
    # It needs no keys, no nodes and no network.
    lines = [line for line in job.SANDBOX if not line.startswith(("PartOf=", "UMask="))]
    lines += [f"User={USER}", f"StateDirectory={USER}/{name}", "StateDirectoryMode=0755"]
    lines += ["UMask=0022", "PrivateNetwork=yes"]
    run.become(job.transient("releases", words, lines))
