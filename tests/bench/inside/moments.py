"""When something happened, in seconds of the monotonic clock, which all machines here share.

`moments.py ended PID…` waits for ends of processes, `moments.py answered PORT…` for answers of
HTTP servers behind ports of the loopback; prints the moments as JSON, in the order of the words.
"""

import json
import os
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

LONGEST = 60.0
QUESTION = b"GET /eth/v1/node/syncing HTTP/1.0\r\n\r\n"


def ended(pid: int) -> float:
    """Wait for the end of a process."""
    if not select.select([os.pidfd_open(pid)], [], [], LONGEST)[0]:
        raise TimeoutError(f"process {pid} did not end within {LONGEST:g} s")
    return time.monotonic()


def answered(port: int) -> float:
    """Wait for an answer."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(QUESTION)
                if connection.recv(1):
                    return time.monotonic()
        except OSError:
            time.sleep(0.005)
    raise TimeoutError(f"port {port} did not answer within {LONGEST:g} s")


def main(what: str, words: list[str]) -> None:
    """Wait for all at once."""
    wait = {"ended": ended, "answered": answered}[what]
    with ThreadPoolExecutor(len(words)) as pool:
        print(json.dumps(list(pool.map(wait, map(int, words)))))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
