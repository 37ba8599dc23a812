"""Downloads over HTTPS, each with a limit in size, going on where an earlier one was cut off.

Who serves them is not trusted with what they are: that is checked by who asked for them.
"""

import contextlib
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from validator_supervisor import __version__
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.journal import printable

REDIRECTED = (301, 302, 303, 307, 308)
REDIRECTS = 5
# To connect, and for each piece.
SILENCE_SECONDS = 20.0
CHUNK = 1 << 18
# A signature or a key, and all the time that it may take.
SMALL = 1 << 20
SMALL_SECONDS = 60.0
# Slower than this over the first minute, and on average later, a server only holds us up.
PACE_SECONDS, PACE = 60.0, 10_000
RANGE = re.compile(r"bytes (\d{1,15})-")
# Of a server's errors those that may pass: RFC 9110, 15.5.9, and RFC 6585, 4.
PASSING = (408, 429)


@dataclass(frozen=True)
class Limits:
    """The most bytes of a file, and when to go on another time (time.monotonic)."""

    size: int
    deadline: float


def read(url: str) -> bytes:
    """Return what is small. Raises SupervisorError ``DownloadFailed``."""
    found = b""
    limits = Limits(SMALL, time.monotonic() + SMALL_SECONDS)
    with _failures(url), _opened(url, 0) as response:
        if response.status != 200:
            raise _status(url, response.status)
        for piece in _pieces(response, limits):
            found += piece
            if len(found) > SMALL:
                raise _too_large(url, SMALL)
    return found


def download(url: str, path: Path, limits: Limits, tell: Callable[[int, int], None]) -> None:
    """Add to ``path`` what it has not yet of what is at ``url``.

    ``tell`` hears how many bytes are there, and how many there will be, 0: not known. It may raise
    what keeps the rest away. Raises SupervisorError ``DownloadFailed``; where another attempt may
    go on it is temporary, and what is there stays.
    """
    begin = path.stat().st_size if path.exists() else 0
    with _failures(url), _opened(url, begin) as response:
        if begin and response.status in (206, 416) and not _goes_on(response, begin):
            path.unlink()
            raise _failed(url, "does not go on where an earlier download was", TEMPORARY)
        if response.status not in (200, 206):
            raise _status(url, response.status)
        offset = begin if response.status == 206 else 0
        total = offset + response.length if response.length is not None else 0
        if total > limits.size:
            raise _too_large(url, limits.size)
        _receive(url, path, response, offset, total, limits, tell)


def _receive(
    url: str,
    path: Path,
    response: HTTPResponse,
    offset: int,
    total: int,
    limits: Limits,
    tell: Callable[[int, int], None],
) -> None:
    path.touch(0o600)
    have, told = offset, 0.0
    tell(have, total)
    with path.open("r+b", buffering=0) as file:
        file.truncate(offset)
        file.seek(offset)
        for piece in _pieces(response, limits):
            have += len(piece)
            if have > limits.size:
                raise _too_large(url, limits.size)
            file.write(piece)
            if time.monotonic() - told > 1:
                tell(have, total)
                told = time.monotonic()


def _pieces(response: HTTPResponse, limits: Limits) -> Iterator[bytes]:
    began, received = time.monotonic(), 0
    while piece := response.read1(CHUNK):
        received += len(piece)
        now = time.monotonic()
        if now > limits.deadline:
            raise TimeoutError("takes too long: the rest comes with another attempt")
        if now - began > PACE_SECONDS and received / (now - began) < PACE:
            raise TimeoutError(f"sends less than {PACE} bytes a second")
        yield piece
    if response.length:
        raise ConnectionError(f"ends {response.length} bytes too early")


def _goes_on(response: HTTPResponse, begin: int) -> bool:
    found = RANGE.match(response.getheader("Content-Range") or "")
    return response.status == 206 and found is not None and int(found[1]) == begin


@contextlib.contextmanager
def _opened(url: str, begin: int) -> Iterator[HTTPResponse]:
    """Ask for what is at ``url`` from a byte on, wherever that leads to."""
    # The authorities of the system, and names that are checked.
    context = ssl.create_default_context()
    place = url
    for _ in range(REDIRECTS + 1):
        parts = _https(place, url)
        connection = HTTPSConnection(
            parts.hostname or "", parts.port, timeout=SILENCE_SECONDS, context=context
        )
        with contextlib.closing(connection):
            query = f"?{parts.query}" if parts.query else ""
            connection.request("GET", (parts.path or "/") + query, headers=_headers(begin))
            response = connection.getresponse()
            if response.status not in REDIRECTED:
                yield response
                return
            place = urljoin(place, response.getheader("Location") or "")
    raise _failed(url, f"leads on more than {REDIRECTS} times", REFUSED)


def _https(place: str, url: str) -> SplitResult:
    parts = urlsplit(place)
    if parts.scheme != "https" or not parts.hostname:
        raise _failed(url, f"leads to {place[:200]}: only https is followed", REFUSED)
    return parts


def _headers(begin: int) -> dict[str, str]:
    # Without the first any coding would do (RFC 9110, 12.5.3). What an earlier attempt has left is
    # of the same checksum, or worth nothing: no If-Range.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"validator-supervisor/{__version__}"}
    return headers | ({"Range": f"bytes={begin}-"} if begin else {})


@contextlib.contextmanager
def _failures(url: str) -> Iterator[None]:
    try:
        yield
    # ValueError: a name that IDNA cannot encode, or a port that is none.
    except (OSError, HTTPException, ValueError) as failure:
        words = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
        raise _failed(url, words, TEMPORARY) from None


def _status(url: str, status: int) -> SupervisorError:
    passing = status >= 500 or status < 400 or status in PASSING
    return _failed(url, f"HTTP status {status}", TEMPORARY if passing else REFUSED)


def _too_large(url: str, size: int) -> SupervisorError:
    return _failed(url, f"is larger than {size} bytes", REFUSED)


def _failed(url: str, words: str, exit_status: int) -> SupervisorError:
    # They may be the other side's.
    return SupervisorError(
        "DownloadFailed", printable(f"{url}: {words}"[:500]), exit_status=exit_status
    )
