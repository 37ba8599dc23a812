"""Wrong passphrases cost time: the growing delay before the next one, whoever tries.

An attempt is counted, on the disk, before its passphrase is tried: neither a kill nor a power cut
makes it undone. The clock is the one that nobody sets and that counts a suspended machine's time.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from validator_supervisor import durable
from validator_supervisor.document import read_json
from validator_supervisor.errors import TEMPORARY, SupervisorError

# One second after the first, twice as long after each further one, up to this.
LONGEST_SECONDS = 300.0
# With these the delay is at its longest.
ENOUGH = 10
NUMBER_MAX = 1 << 53


@dataclass(frozen=True)
class Failed:
    """Attempts in a row without success; ``at_msec`` is the last's CLOCK_BOOTTIME in ``boot``."""

    attempts: int
    boot: str
    at_msec: int


def seconds(attempts: int) -> float:
    """Return the delay after so many attempts in a row."""
    return min(2.0 ** min(attempts - 1, ENOUGH), LONGEST_SECONDS) if attempts else 0.0


def remaining(failed: Failed | None, boot: str, now: float) -> float:
    """Return for how much longer nobody may try.

    All of it in another boot than the last attempt's, whose clock began anew, and where the
    file's time cannot be.
    """
    if failed is None:
        return 0.0
    whole = seconds(failed.attempts)
    passed = now - failed.at_msec / 1000
    return max(0.0, whole - passed) if failed.boot == boot and passed >= 0 else whole


class Attempts:
    """The file that counts them, and the wait."""

    def __init__(
        self,
        path: Path,
        boot: str,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._boot = boot
        self._clock = clock
        self._sleep = sleep

    @classmethod
    def here(cls, path: Path, boot: str) -> "Attempts":
        """Count in ``path`` with this machine's clock, in the boot of this id."""
        return cls(path, boot, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))

    def failed(self) -> Failed | None:
        """Return what is counted; a file that says nothing we know counts as the most."""
        try:
            if not self._path.exists():
                return None
            stored = read_json(self._path).mapping()
            attempts = stored["attempts"].integer(1, NUMBER_MAX, "a number of attempts")
            at_msec = stored["at_msec"].integer(0, NUMBER_MAX, "a time of this boot")
            return Failed(attempts, stored["boot"].string(), at_msec)
        except (SupervisorError, KeyError, OSError):
            return Failed(ENOUGH, "", 0)

    def wait(self, say: Callable[[float, int], None]) -> None:
        """Sleep until an attempt is allowed; ``say`` is told the seconds, and after how many."""
        failed, now = self.failed(), self._clock()
        left = remaining(failed, self._boot, now)
        if failed and left:
            say(left, failed.attempts)
        end = now + left
        while (left := end - self._clock()) > 0:
            self._sleep(left)

    def begin(self) -> float:
        """Count an attempt that begins now; return the delay after it.

        Raises SupervisorError ``NotWritten``: what cannot be counted is not tried.
        """
        before = self.failed()
        attempts = min((before.attempts if before else 0) + 1, NUMBER_MAX)
        counted = Failed(attempts, self._boot, int(self._clock() * 1000))
        try:
            durable.write(self._path, json.dumps(asdict(counted)).encode())
        except OSError as failure:
            message = f"no attempt without its count: {self._path}: {failure.strerror}"
            raise SupervisorError("NotWritten", message, exit_status=TEMPORARY) from None
        return seconds(attempts)

    def succeed(self) -> None:
        """Forget every attempt: the last was the right one."""
        self._path.unlink(missing_ok=True)
        durable.sync_directory(self._path.parent)
