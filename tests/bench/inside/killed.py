"""kill -9 of a unit's process, until the unit works again: `killed.py REPEATS UNIT COMM PORT …`.

COMM is the name of the process. The unit works when an HTTP server behind PORT on the loopback
answers; with PORT 0, when it is active with another main process. Several units are killed in
turn. Prints the seconds of each as JSON.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

LONGEST = 30.0
QUESTION = b"GET /eth/v1/node/syncing HTTP/1.0\r\n\r\n"


def properties(unit: str) -> dict[str, str]:
    """Return what systemd knows of a unit."""
    argv = ["systemctl", "show", unit, "--property=MainPID,ActiveState,ControlGroup"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def process(unit: str, comm: str) -> int:
    """Return the only process of that name in a unit."""
    group = Path("/sys/fs/cgroup" + properties(unit)["ControlGroup"])
    pids = (group / "cgroup.procs").read_text().split()
    (pid,) = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == comm]
    return int(pid)


def answers(port: int) -> bool:
    """Whether the server behind a port answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(QUESTION)
            return bool(connection.recv(1))
    except OSError:
        return False


def works(unit: str, before: str, port: int) -> bool:
    """Whether a unit works, with another main process than ``before``."""
    if port:
        return answers(port)
    now = properties(unit)
    return now["ActiveState"] == "active" and now["MainPID"] not in (before, "0")


def wait(unit: str, before: str, port: int) -> None:
    """Wait until a unit works."""
    end = time.monotonic() + LONGEST
    while not works(unit, before, port):
        if time.monotonic() > end:
            sys.exit(f"{unit} did not work again within {LONGEST:g} s")
        # systemd has better things to do than to answer.
        time.sleep(0.002 if port else 0.01)


def seconds(unit: str, comm: str, port: int) -> float:
    """Kill, and return how long it took until the unit worked again."""
    wait(unit, "", 0)  # a forward may be there before its unit is active
    wait(unit, "", port)
    victim, before = process(unit, comm), properties(unit)["MainPID"]
    gone = os.pidfd_open(victim)
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    select.select([gone], [], [])
    os.close(gone)
    wait(unit, before, port)
    return time.monotonic() - started


def spread(turn: int) -> float:
    """Return another part of a quarter of a second in each turn.

    systemd rounds its timers, within 250 ms, to moments that are the same in every second
    (AccuracySec= in systemd.timer(5); that of RestartSec= is fixed). A kill that follows a restart
    at once would always meet the same one.
    """
    return (turn * 0.618) % 1 * 0.25


def main(repeats: int, words: list[str]) -> None:
    """Kill each unit in turn."""
    units = list(zip(words[::3], words[1::3], map(int, words[2::3]), strict=True))
    found: dict[str, list[float]] = {unit: [] for unit, _, _ in units}
    for turn in range(repeats):
        for unit, comm, port in units:
            wait(unit, "", port)
            time.sleep(spread(turn))
            found[unit].append(seconds(unit, comm, port))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
