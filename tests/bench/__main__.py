"""`python3 -m tests.bench`: measure, and print a table or JSON. ./bench sets up and runs it."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab import host, images
from lab.host import LabError, say

from tests.bench import report
from tests.bench.row import Row
from tests.bench.scene import Scene
from tests.bench.subjects import SUBJECTS

BROKEN = (LabError, ValueError, KeyError)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="./bench", description="Measure beside peers.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(SUBJECTS))
    parser.add_argument("--suite", choices=images.SUITES, default="trixie")
    parser.add_argument("--seconds", type=float, default=120, help="of idle-cpu")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write JSON to a file, too")
    given = parser.parse_args(words)
    unknown = sorted(set(given.names) - set(SUBJECTS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    return given


def measure(scene: Scene, names: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of subjects, and why others could not be measured."""
    rows: list[Row] = []
    failures: dict[str, str] = {}
    for name, subject in SUBJECTS.items():
        if name in names:
            say(f"measuring {name}")
            try:
                rows += subject(scene)
            except BROKEN as failure:
                failures[name] = str(failure) or type(failure).__name__
    return rows, failures


def main(words: Sequence[str]) -> int:
    """Measure what is asked for; 1 when a goal is missed."""
    given = arguments(words)
    started, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    failures: dict[str, str] = {}
    try:
        host.need(host.PACKAGES)
        say(f"booting a host and two nodes (Debian {given.suite})")
        with Scene.up(given.suite, given.seconds) as scene:
            rows, failures = measure(scene, given.names or list(SUBJECTS))
    except LabError as failure:
        failures = {**failures, "machines": str(failure)}
    run: dict[str, object] = {
        "suite": given.suite,
        "processors": os.cpu_count(),
        "load_average_before": round(load, 2),
        "seconds": round(time.monotonic() - started),
    }
    found = json.dumps(report.as_json(rows, failures, run), indent=1, ensure_ascii=False)
    if given.output:
        given.output.write_text(found + "\n")
    print(found if given.json else "\n".join(report.as_text(rows, failures, run)))
    return report.status(rows, failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
