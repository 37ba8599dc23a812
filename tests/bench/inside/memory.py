"""Proportional set size of processes: `memory.py PID…` prints bytes of each as JSON (proc(5))."""

import json
import re
import sys
from pathlib import Path


def pss(pid: int) -> int:
    """Return the bytes of a process; what others map, too, is divided between them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB$", text, re.M)
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    print(json.dumps([pss(int(word)) for word in sys.argv[1:]]))
