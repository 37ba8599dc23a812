"""A descriptor on its way: from a call of UnlockFd to the root process that reads it.

The controller never reads it, and hands it to nobody but root.
"""

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

# Waiting after wrong passphrases takes up to 300 s; the job is then asked for at once.
LIVES_SECONDS = 330.0
# In which systemd has begun the job, or never will: what the job needs has failed.
BEGINS_SECONDS = 15.0
# Connections in a row: whoever makes more waits for a turn of the loop.
ACCEPTED = 4
NOT_BEGUN = "validator-identity.service does not start: systemctl status validator-identity"


class Offer:
    """At most one descriptor, and the socket where it is taken."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        path.chmod(0o600)
        self._listening.listen(ACCEPTED)
        self._listening.setblocking(False)
        self._descriptor = -1
        self._begun = False
        self._since = 0.0
        # When to look at it, soonest first.
        self._ends: list[float] = []
        # The job that is under way has one; else it asks a person.
        self.taken = False
        # Why the last one was not taken.
        self.problem = ""

    def fileno(self) -> int:
        """Return what to wait on for those who take it."""
        return self._listening.fileno()

    @property
    def pending(self) -> bool:
        """Whether a descriptor waits to be taken."""
        return self._descriptor >= 0

    @property
    def pause(self) -> float | None:
        """Seconds until ``settle`` has something to do without a change of the unit."""
        return max(0.0, self._ends[0] - time.monotonic()) if self._ends else None

    def put(self, descriptor: int) -> None:
        """Offer a descriptor, which is ours from now on, to the job that is begun after this."""
        self.drop()
        self._descriptor, self._begun, self._since = descriptor, False, time.monotonic()
        self._ends = [self._since + seconds for seconds in (BEGINS_SECONDS, LIVES_SECONDS)]
        self.problem = ""

    def drop(self) -> None:
        """Close what nobody has taken."""
        if self.pending:
            os.close(self._descriptor)
            self._descriptor = -1
            self._ends.clear()

    def settle(self, active: str) -> None:
        """Drop it where the job has ended without it, does not begin, or takes too long.

        ``active`` is the ActiveState of the job.
        """
        self.taken = self.taken and active == "activating"
        if not self.pending:
            return
        now = time.monotonic()
        self._ends = [end for end in self._ends if end > now]
        self._begun = self._begun or active == "activating"
        # With the answer of a person, too.
        ended = active == "active" or (self._begun and active in ("failed", "inactive"))
        stuck = not self._begun and now - self._since >= BEGINS_SECONDS
        if stuck:
            self.problem = NOT_BEGUN
        if ended or stuck or not self._ends:
            self.drop()

    def serve(self) -> None:
        """Give it to root, and nothing to anybody else; never waits."""
        for _ in range(ACCEPTED):
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            with peer:
                self._give(peer)

    def _give(self, peer: socket.socket) -> None:
        # struct ucred: pid, uid, gid (unix(7)).
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", raw)
        if uid != 0 or not self.pending:
            return
        with contextlib.suppress(OSError):
            peer.setblocking(False)
            socket.send_fds(peer, [b"\n"], [self._descriptor])
            self.taken = True
        self.drop()
