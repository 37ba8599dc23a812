"""A server over a connection that is kept, and what a hostile one does with it."""

import contextlib
import gc
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from validator_supervisor.connection import FRAME_MAX, Answer, Server
from validator_supervisor.errors import TEMPORARY, SupervisorError

TREE = Path(__file__).resolve().parents[2]
SECONDS, SIZE = 0.3, 1000
Talk = Callable[[socket.socket], None]


class Listener:
    """Has ``talk`` with each connection, at the same time; counts them."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connections = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.one, args=[connection], daemon=True).start()

    def one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.talk(connection)


@contextlib.contextmanager
def listening(talk: Talk) -> Iterator[tuple[Listener, Server]]:
    listener = Listener(talk)
    try:
        yield listener, Server(listener.url, SECONDS, SIZE)
    finally:
        listener.socket.shutdown(socket.SHUT_RDWR)
        listener.socket.close()


def question(connection: socket.socket) -> str:
    """Return the path of the next request; OSError at the end."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(1 << 16)
        if not more:
            raise OSError
        raw += more
    return raw.split()[1].decode()


def http(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers))
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def echo(*headers: str) -> Talk:
    """Answer each request of a connection with its path."""

    def talk(connection: socket.socket) -> None:
        while True:
            connection.sendall(http(question(connection).encode(), *headers))

    return talk


def failure(server: Server) -> str:
    with pytest.raises(SupervisorError) as caught:
        server.request("GET", "/x")
    assert (caught.value.code, caught.value.exit_status) == ("ConnectionFailed", TEMPORARY)
    assert caught.value.message.isprintable()
    return caught.value.message


def ask(server: Server, path: str) -> str:
    return server.request("GET", path).content.decode()


def test_a_connection_is_kept() -> None:
    with listening(echo()) as (listener, server):
        assert [ask(server, f"/{i}") for i in range(5)] == [f"/{i}" for i in range(5)]
    assert listener.connections == 1


@pytest.mark.parametrize(
    "framed",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
    ],
)
def test_a_connection_is_kept_however_the_answer_is_framed(framed: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        while question(connection):
            connection.sendall(framed)

    with listening(talk) as (listener, server):
        assert server.request("GET", "/") == server.request("GET", "/")
    assert listener.connections == 1


def test_a_server_that_closes_is_believed() -> None:
    with listening(echo("Connection: close")) as (listener, server):
        assert [ask(server, f"/{i}") for i in range(3)] == ["/0", "/1", "/2"]
    assert listener.connections == 3


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + question(connection).encode())

    with listening(talk) as (listener, server):
        assert [ask(server, "/a"), ask(server, "/b")] == ["/a", "/b"]
    assert listener.connections == 2


def test_a_connection_that_was_closed_in_between_is_made_again() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(http(question(connection).encode()))

    with listening(talk) as (listener, server):
        for path in ("/0", "/1", "/2"):
            assert ask(server, path) == path
            time.sleep(0.05)
    assert listener.connections == 3


def test_a_connection_that_closes_when_asked_again_is_made_again_once() -> None:
    def talk(connection: socket.socket) -> None:
        if listener.connections < 3:
            connection.sendall(http(question(connection).encode()))
            question(connection)

    with listening(talk) as (listener, server):
        assert [ask(server, "/a"), ask(server, "/b")] == ["/a", "/b"]
        assert listener.connections == 2
        # The third ends without an answer, and is not a kept one.
        assert failure(server)
        assert listener.connections == 3


LIE = http(b"a lie")


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize("surplus", [LIE, LIE * 1000, b"\n", b"x"])
def test_more_than_one_answer_is_not_taken_for_the_next(surplus: bytes, pause: float) -> None:
    def talk(connection: socket.socket) -> None:
        while True:
            first = http(question(connection).encode())
            if not pause:
                connection.sendall(first + surplus)
                continue
            connection.sendall(first)
            time.sleep(pause)
            connection.sendall(surplus)

    with listening(talk) as (listener, server):
        for path in ("/0", "/1", "/2"):
            assert ask(server, path) == path
            time.sleep(2 * pause)
    assert listener.connections == 3


@pytest.mark.parametrize("early", [LIE, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_before_its_question_on_a_kept_connection(early: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(http(question(connection).encode()))
        time.sleep(0.05)
        connection.sendall(early)
        question(connection)

    with listening(talk) as (_, server):
        assert ask(server, "/a") == "/a"
        time.sleep(0.1)
        assert ask(server, "/b") == "/b"


def test_two_lengths_are_no_way_in() -> None:
    def talk(connection: socket.socket) -> None:
        path = question(connection).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\n" + path + b"\r\n0\r\n\r\n" + LIE
        )
        question(connection)

    with listening(talk) as (_, server):
        assert [ask(server, "/a"), ask(server, "/b")] == ["/a", "/b"]


def test_a_failure_leaves_nothing_that_complains_later(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", said.append)
    with listening(lambda _: time.sleep(2 * SECONDS)) as (_, server):
        assert failure(server) == "timed out"
    gc.collect()
    assert said == []


def test_a_connection_is_not_kept_after_a_failure() -> None:
    def talk(connection: socket.socket) -> None:
        question(connection)
        if listener.connections == 1:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            time.sleep(2 * SECONDS)
            connection.sendall(b"defghi")
        connection.sendall(http(b"good"))
        question(connection)

    with listening(talk) as (listener, server):
        assert failure(server) == "timed out"
        assert ask(server, "/") == "good"
    assert listener.connections == 2


@pytest.mark.parametrize("said", [b"", b"abc"])
def test_an_answer_that_is_cut_short(said: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        question(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + said)

    with listening(talk) as (_, server):
        assert failure(server)


STARTS = [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
          b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"]  # fmt: skip
STREAMS = [b"a", b"a: b\r\n", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"1\r\na\r\n"]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_without_end_is_cut_by_its_size(start: bytes, stream: bytes, kept: bool) -> None:
    sent: list[int] = []
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        if kept:
            connection.sendall(http(question(connection).encode()))
        question(connection)
        connection.sendall(start)
        try:
            while True:
                sent.append(connection.send(stream * 500))
        finally:
            ended.set()

    with listening(talk) as (_, server):
        if kept:
            assert ask(server, "/") == "/"
        started = time.monotonic()
        with contextlib.suppress(SupervisorError):
            # An empty line may end it at once; then the rest is not read.
            assert server.request("GET", "/x").status == 200
        assert time.monotonic() - started < SECONDS - 0.05, "it was read until the deadline"
        assert ended.wait(2), "the connection was left open"


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("stream", [b"a", b"a: b\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_drip_on_a_kept_connection_is_cut_at_the_deadline(start: bytes, stream: bytes) -> None:
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(http(question(connection).encode()))
        question(connection)
        connection.sendall(start)
        try:
            for _ in range(300):
                time.sleep(0.02)
                connection.sendall(stream)
        finally:
            ended.set()

    with listening(talk) as (_, server):
        assert ask(server, "/") == "/"
        started = time.monotonic()
        with contextlib.suppress(SupervisorError):
            server.request("GET", "/x")
        assert time.monotonic() - started < SECONDS + 0.3
        # An empty line may have ended the answer: then it goes when it would be used.
        with contextlib.suppress(SupervisorError):
            server.request("GET", "/x")
        assert ended.wait(2), "the connection was left open"


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"])
def test_a_server_that_hangs(before: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(before)
        time.sleep(3)

    with listening(talk) as (_, server):
        started = time.monotonic()
        assert failure(server) == "timed out"
        assert SECONDS - 0.05 < time.monotonic() - started < SECONDS + 0.3


def test_a_server_that_accepts_nobody() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            started = time.monotonic()
            assert failure(Server(url, SECONDS, SIZE)) == "timed out"
            assert time.monotonic() - started < SECONDS + 0.3


def test_a_kept_connection_leaves_a_second_try_no_more_time() -> None:
    def talk(connection: socket.socket) -> None:
        if listener.connections == 1:
            connection.sendall(http(question(connection)[:1].encode()))
            question(connection)
            time.sleep(SECONDS * 0.6)
            return
        time.sleep(3)

    with listening(talk) as (listener, server):
        assert ask(server, "/") == "/"
        started = time.monotonic()
        assert failure(server) == "timed out"
        assert time.monotonic() - started < SECONDS + 0.3
    assert listener.connections == 2


def test_content_may_be_as_long_as_the_limit_and_its_frame_too() -> None:
    long = b"a" * SIZE
    header = "X: " + "b" * 60_000

    def talk(connection: socket.socket) -> None:
        path = question(connection)
        connection.sendall(http(long + b"a" * (path == "/long"), header))

    with listening(talk) as (_, server):
        assert server.request("GET", "/") == Answer(200, long)
        with pytest.raises(SupervisorError, match="too long"):
            server.request("GET", "/long")
    assert len(header) < FRAME_MAX


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: SSH-2.0-OpenSSH_9.2"),
        (b"\x1b[2J\r\n", "does not speak HTTP: ?[2J"),
        (b"", "Remote end closed connection without response"),
    ],
)
def test_what_is_no_answer_is_quoted(said: bytes, problem: str) -> None:
    def talk(connection: socket.socket) -> None:
        question(connection)
        connection.sendall(said)

    with listening(talk) as (_, server):
        assert failure(server) == problem


def test_redirects_and_odd_types_are_answers_like_others() -> None:
    with listening(echo()) as (elsewhere, _):
        types = ("Content-Type: text/html", "Content-Encoding: gzip", "Upgrade: h2c")

        def talk(connection: socket.socket) -> None:
            while question(connection):
                moved = f"Location: {elsewhere.url}/"
                connection.sendall(http(b"x", moved, *types, status="301 Moved"))

        with listening(talk) as (_, server):
            assert server.request("GET", "/") == Answer(301, b"x")
            assert server.request("GET", "/") == Answer(301, b"x")
        assert elsewhere.connections == 0


def test_many_threads_have_their_own_answers() -> None:
    wrong: list[str] = []

    with listening(echo()) as (listener, server):

        def work(name: int) -> None:
            for i in range(30):
                if ask(server, f"/{name}/{i}") != f"/{name}/{i}":
                    wrong.append(f"/{name}/{i}")

        threads = [threading.Thread(target=work, args=[name]) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert wrong == []
        before = listener.connections
        ask(server, "/")
        assert listener.connections == before, "none was kept"


def test_body_and_host() -> None:
    seen: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        seen.append(connection.recv(1 << 16))
        connection.sendall(http(b""))

    with listening(talk) as (listener, _):
        Server(listener.url + "/base", SECONDS, SIZE).request("POST", "/path", b"[1]")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /base/path HTTP/1.1"
    assert f"Host: {listener.url.removeprefix('http://')}" in lines
    assert "Content-Length: 3" in lines
    assert body == b"[1]"


def certificate(folder: Path, name: str) -> Path:
    path = folder / "node.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ed25519", "-noenc", "-days", "2", "-subj",
            "/CN=node", "-addext", f"subjectAltName={name}", "-keyout", str(path),
            "-out", str(folder / "certificate.pem")]  # fmt: skip
    subprocess.run(argv, capture_output=True, check=True)
    path.write_text(path.read_text() + (folder / "certificate.pem").read_text())
    return path


@pytest.mark.parametrize(
    ("name", "trusted", "problem"),
    [
        ("IP:127.0.0.1", True, ""),
        ("IP:127.0.0.2", True, "IP address mismatch"),
        ("IP:127.0.0.1", False, "self-signed"),
    ],
)
def test_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool, problem: str
) -> None:
    path = certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    answer = echo()

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answer(secure)

    with listening(talk) as (listener, _):
        server = Server(listener.url.replace("http:", "https:"), SECONDS, SIZE)
        if problem:
            assert problem in failure(server)
        else:
            assert [ask(server, f"/{i}") for i in range(3)] == ["/0", "/1", "/2"]
            assert listener.connections == 1


def test_only_the_authority_that_is_given_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    path = certificate(tmp_path / "own", "IP:127.0.0.1")
    other = certificate(tmp_path / "other", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    # What the system believes does not matter.
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    answer = echo()

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            answer(secure)

    with listening(talk) as (listener, _):
        url = listener.url.replace("http:", "https:")
        assert "self-signed" in failure(Server(url, SECONDS, SIZE, str(other)))
        assert ask(Server(url, SECONDS, SIZE, str(path)), "/0") == "/0"
        assert "No such file" in failure(Server(url, SECONDS, SIZE, "/nowhere.pem"))


def test_tls_that_hangs() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(1)
        time.sleep(3)

    with listening(talk) as (listener, _):
        started = time.monotonic()
        assert failure(Server(listener.url.replace("http:", "https:"), SECONDS, SIZE))
        assert time.monotonic() - started < SECONDS + 0.3
