"""Wall time of programs, in turn: `timed.py REPEATS '{"NAME": [WORD, …], …}'` prints JSON.

In a program's words, ``@NEW@`` is an empty directory, another one at each start.
"""

import json
import subprocess
import sys
import tempfile
import time


def seconds(words: list[str]) -> float:
    """Return how long a program takes, which has to succeed."""
    with tempfile.TemporaryDirectory() as new:
        argv = [word.replace("@NEW@", new) for word in words]
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main(repeats: int, programs: dict[str, list[str]]) -> None:
    """Run each once for the caches, then all of them in turn."""
    for words in programs.values():
        seconds(words)
    found: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, words in programs.items():
            found[name].append(seconds(words))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
