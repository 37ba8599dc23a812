#!/usr/bin/python3
"""Stand-in for who publishes releases: HTTPS, with the faults that a path asks for.

    publisher --folder FOLDER --certificate FILE --key FILE [--address A] [--port N]

What is in FOLDER is served below each of these:

    /plain/     as servers do, with ranges (RFC 9110, 14)
    /whole/     all of it, whatever range was asked for
    /cut/       half of it, unless a range was asked for or it is a signature
    /slow/      64 KiB in each fifth of a second
    /silent/    the header, and then nothing
    /shifted/   another range than the one that was asked for
    /huge/      a length of 2 GiB
    /endless/   no length, and no end
    /hop/N/     a redirection to /hop/N-1/, and at 0 as /plain/
    /insecure/  a redirection to http
    /status/N/  this status
"""

import argparse
import contextlib
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 1 << 16


class Publisher(ThreadingHTTPServer):
    """The server; ``asked`` has the path and the range of each request."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path, certificate: Path, key: Path):
        super().__init__(address, Answer)
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what is tested."""


class Answer(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Publisher

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with what the path asks for."""
        wanted = self.headers.get("Range", "")
        self.server.asked.append((self.path, wanted))
        _, fault, rest = self.path.split("/", 2)
        self.close_connection = True
        if fault in ("hop", "status"):
            number, rest = rest.split("/", 1)
            if fault == "status":
                return self.head(int(number), 0)
            if int(number):
                return self.leads(f"/hop/{int(number) - 1}/{rest}")
        if fault == "insecure":
            return self.leads(f"http://{self.headers['Host']}/plain/{rest}")
        path = self.server.folder / rest
        if not path.is_file():
            return self.head(404, 0)
        begin = re.fullmatch(r"bytes=(\d+)-", wanted)
        with contextlib.suppress(OSError):
            self.content(fault, path.read_bytes(), int(begin[1]) if begin else 0)
        return None

    def content(self, fault: str, data: bytes, begin: int) -> None:
        """Send a file, from a byte on."""
        size = len(data)
        if fault == "whole":
            begin = 0
        if begin >= size > 0:
            return self.head(416, 0, f"bytes */{size}")
        part = f"bytes {begin}-{size - 1}/{size}" if begin else ""
        if fault == "shifted" and begin:
            part = f"bytes {begin + 1}-{size - 1}/{size}"
        length = {"huge": 2 << 30, "endless": None}.get(fault, size - begin)
        self.head(206 if begin else 200, length, part)
        if fault == "silent":
            return time.sleep(60)
        end = size // 2 if fault == "cut" and not begin and not self.path.endswith(".asc") else size
        for at in range(begin, end, PIECE):
            self.wfile.write(data[at : min(end, at + PIECE)])
            if fault == "slow":
                time.sleep(0.2)
        while fault == "endless":
            self.wfile.write(bytes(PIECE))
        return None

    def leads(self, place: str) -> None:
        """Redirect."""
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def head(self, status: int, length: int | None, part: str = "") -> None:
        """Send status and headers."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if part:
            self.send_header("Content-Range", part)
        self.end_headers()


@contextlib.contextmanager
def served(folder: Path, certificate: Path, key: Path):  # type: ignore[no-untyped-def]
    """Serve a folder on a free port of the loopback, in a thread; yields the server."""
    server = Publisher(("127.0.0.1", 0), folder, certificate, key)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser()
    for option in ("folder", "certificate", "key"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=443)
    given = parser.parse_args()
    Publisher(
        (given.address, given.port), given.folder, given.certificate, given.key
    ).serve_forever()


if __name__ == "__main__":
    main()
