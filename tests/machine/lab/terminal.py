"""A program on a terminal of a machine."""

import os
import selectors
import subprocess
import time

from lab.machine import ENVIRONMENT, Machine


class Terminal:
    """A program on a terminal of the machine."""

    def __init__(self, host: Machine, command: str) -> None:
        enter = ["nsenter", "-t", str(host.leader), "-a", *ENVIRONMENT, "TERM=dumb"]
        self._process = subprocess.Popen(
            [*enter, "script", "--quiet", "--return", "--command", command, "/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.shown = ""

    def answer(self, question: str, words: str, seconds: float = 20) -> None:
        """Type something once the question is there."""
        assert self._process.stdout
        assert self._process.stdin
        end = time.monotonic() + seconds
        already = len(self.shown)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while question not in self.shown[already:]:
                assert time.monotonic() < end, self.shown
                if selector.select(0.5):
                    piece = os.read(self._process.stdout.fileno(), 4096)
                    assert piece, self.shown
                    self.shown += piece.decode(errors="replace")
        # Programs forget what was typed before they ask.
        time.sleep(0.3)
        self._process.stdin.write(f"{words}\n".encode())
        self._process.stdin.flush()

    def end(self, seconds: float = 30) -> int:
        said, _ = self._process.communicate(timeout=seconds)
        self.shown += said.decode(errors="replace")
        return self._process.returncode
