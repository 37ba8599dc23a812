"""One HTTP/1.1 server (RFC 9112), kept connected. It is not trusted.

A request has one deadline, up to the last byte of its answer, and one limit for all that arrives,
so that neither silence nor a stream without end holds anybody up. No redirect is followed.
"""

import contextlib
import io
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from validator_supervisor.errors import TEMPORARY, SupervisorError
from validator_supervisor.journal import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Status line, headers and what frames the content, on top of the content.
FRAME_MAX = 1 << 16


@dataclass(frozen=True)
class Answer:
    """The status of an answer, 100 to 999, and its content."""

    status: int
    content: bytes


class Server:
    """One server; several threads may ask it at the same time.

    What is asked must bear to be asked twice: it is when a kept connection breaks. ``certificate``
    is a file (PEM) with the only authorities, or the only certificate, to believe; else it is
    those of the system.
    """

    def __init__(self, url: str, seconds: float, size_max: int, certificate: str = "") -> None:
        self._url = url
        self._seconds = seconds
        self._size_max = size_max
        self._certificate = certificate
        self._lock = threading.Lock()
        self._kept: socket.socket | None = None
        self._tls: ssl.SSLContext | None = None

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Ask, and return the answer. Raises SupervisorError ``ConnectionFailed`` (temporary)."""
        deadline = time.monotonic() + self._seconds
        try:
            parts = urlsplit(self._url)
            message = _message(method, parts, path, body)
            kept = self._take()
            if kept:
                # The server may close it at any time, and so in this moment.
                with contextlib.suppress(ConnectionError):
                    return self._exchange(kept, message, deadline)
            return self._exchange(self._connected(parts, deadline), message, deadline)
        # ValueError: a name that IDNA cannot encode.
        except (OSError, ValueError, HTTPException) as failure:
            # It holds the other side's words.
            words = printable(_words(failure)[:200])
            raise SupervisorError("ConnectionFailed", words, exit_status=TEMPORARY) from None

    def _connected(self, parts: SplitResult, deadline: float) -> socket.socket:
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        # The time is that of each of the addresses of a name.
        plain = socket.create_connection((parts.hostname or "", port), _left(deadline))
        if not secure:
            return plain
        try:
            # Kept: to read all authorities takes 30 ms.
            self._tls = self._tls or ssl.create_default_context(cafile=self._certificate or None)
            plain.settimeout(_left(deadline))
            return self._tls.wrap_socket(plain, server_hostname=parts.hostname)
        except BaseException:
            plain.close()
            raise

    def _exchange(self, connected: socket.socket, message: bytes, deadline: float) -> Answer:
        reader = _Reader(_Arriving(connected, deadline, self._size_max + FRAME_MAX))
        response = HTTPResponse(reader)  # type: ignore[arg-type]  # all it does is makefile()
        reusable = False
        try:
            connected.settimeout(_left(deadline))
            connected.sendall(message)
            response.begin()
            content = response.read(self._size_max + 1)
            if len(content) > self._size_max:
                raise OSError("answer is too long")
            if response.length:
                raise OSError("answer is cut short")
            # Closed: it has come to its end.
            complete = response.isclosed() and not response.will_close
            reusable = complete and not reader.surplus
            return Answer(response.status, content)
        finally:
            # First: one that is closed later flushes what it reads from, and complains.
            response.close()
            reader.close()
            if not reusable or not self._keep(connected):
                connected.close()

    def _take(self) -> socket.socket | None:
        with self._lock:
            kept, self._kept = self._kept, None
        if kept and _spoken(kept):
            kept.close()
            return None
        return kept

    def _keep(self, connected: socket.socket) -> bool:
        with self._lock:
            if self._kept:
                return False
            self._kept = connected
            return True


class _Arriving(io.RawIOBase):
    """What a server sends for one answer, until a deadline and up to a number of bytes."""

    def __init__(self, connected: socket.socket, deadline: float, size_max: int) -> None:
        self._connected = connected
        self._deadline = deadline
        self._left = size_max
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if self.ended:
            return 0
        if self._left <= 0:
            raise OSError("answer is too long")
        self._connected.settimeout(_left(self._deadline))
        count = self._connected.recv_into(buffer)
        self._left -= count
        return count


class _Reader(io.BufferedReader):
    """Reads one answer; knows at its end whether more than that has come."""

    def __init__(self, arriving: _Arriving) -> None:
        super().__init__(arriving)
        self._arriving = arriving
        self.surplus = False

    def makefile(self, mode: str) -> "_Reader":
        """Return itself: http.client reads from what its socket makes."""
        del mode
        return self

    def close(self) -> None:
        if not self.closed:
            self._arriving.ended = True
            self.surplus = bool(self.peek())
        super().close()


def _words(failure: Exception) -> str:
    words = str(getattr(failure, "strerror", None) or failure).strip() or type(failure).__name__
    # Nothing at all is also one of them.
    if isinstance(failure, BadStatusLine) and not isinstance(failure, ConnectionError):
        return f"does not speak HTTP: {words}"
    return words


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _message(method: str, parts: SplitResult, path: str, body: bytes | None) -> bytes:
    lines = [
        f"{method} {parts.path}{path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Accept: application/json",
        # Without it any coding would do (RFC 9110, 12.5.3).
        "Accept-Encoding: identity",
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def _spoken(connected: socket.socket) -> bool:
    """Whether there is something to read before anything was asked.

    It is the end of the connection, or an answer that would be taken for the next one's.
    """
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    # What TLS has read already. A plain socket has no such method.
    return bool(poll.poll(0)) or bool(getattr(connected, "pending", int)())
