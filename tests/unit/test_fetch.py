"""Downloads from a stand-in for a server (lab/standin/publisher.py), over real HTTPS."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import signatures
from lab.standin import publisher
from lab.standin.publisher import Publisher

from validator_supervisor import fetch
from validator_supervisor.errors import REFUSED, TEMPORARY, SupervisorError
from validator_supervisor.fetch import Limits

DATA = os.urandom(300_000)
SIZE = len(DATA)
Url = Callable[[str], str]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and a certificate for localhost."""
    folder = tmp_path_factory.mktemp("trusted")
    signatures.certificates(folder, "localhost")
    return folder


@pytest.fixture(scope="module")
def server(trusted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "file").write_bytes(DATA)
    (folder / "empty").write_bytes(b"")
    files = trusted / signatures.CERTIFICATE, trusted / signatures.KEY
    with publisher.served(folder, *files) as started:
        yield started


@pytest.fixture
def url(server: Publisher, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Url:
    # OpenSSL reads this in place of the system's authorities.
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted / signatures.AUTHORITY))
    server.asked.clear()
    return lambda path: f"https://localhost:{server.server_port}{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part"


def nothing(have: int, total: int) -> None:
    del have, total


def download(url: str, path: Path, size: int = 1 << 20, seconds: float = 30) -> None:
    fetch.download(url, path, Limits(size, time.monotonic() + seconds), nothing)


def refused(url: str, path: Path, status: int, size: int = 1 << 20, seconds: float = 30) -> str:
    with pytest.raises(SupervisorError) as caught:
        download(url, path, size, seconds)
    assert caught.value.code == "DownloadFailed"
    assert caught.value.exit_status == status, caught.value
    assert caught.value.message.startswith(url[:20])
    return caught.value.message


@pytest.mark.parametrize("place", ["/plain/file", "/whole/file", "/hop/5/file"])
def test_all_of_it_comes(url: Url, path: Path, place: str) -> None:
    download(url(place), path)
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600, "nothing that was not verified is executable"


def test_what_was_cut_off_goes_on(url: Url, path: Path, server: Publisher) -> None:
    assert f"ends {SIZE - SIZE // 2} bytes too early" in refused(url("/cut/file"), path, TEMPORARY)
    assert path.read_bytes() == DATA[: SIZE // 2]
    download(url("/cut/file"), path)
    assert path.read_bytes() == DATA
    assert server.asked == [("/cut/file", ""), ("/cut/file", f"bytes={SIZE // 2}-")]


def test_a_range_is_asked_for_after_redirections_too(url: Url, path: Path) -> None:
    path.write_bytes(DATA[:1000])
    download(url("/hop/1/file"), path)
    assert path.read_bytes() == DATA


def test_a_server_without_ranges_begins_anew(url: Url, path: Path) -> None:
    path.write_bytes(b"longer" * SIZE)
    download(url("/whole/file"), path)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("place", ["/plain/file", "/shifted/file"])
def test_what_cannot_go_on_begins_anew_next_time(url: Url, path: Path, place: str) -> None:
    path.write_bytes(DATA + b"more" if "plain" in place else DATA[:1000])
    assert "does not go on" in refused(url(place), path, TEMPORARY)
    assert not path.exists()


def test_nothing_is_a_file_too(url: Url, path: Path) -> None:
    download(url("/plain/empty"), path)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("place", "status", "says"),
    [
        ("/hop/6/file", REFUSED, "leads on more than 5 times"),
        ("/insecure/file", REFUSED, "leads to http://localhost:"),
        ("/plain/none", REFUSED, "HTTP status 404"),
        ("/status/403/x", REFUSED, "HTTP status 403"),
        ("/status/429/x", TEMPORARY, "HTTP status 429"),
        ("/status/503/x", TEMPORARY, "HTTP status 503"),
        ("/status/204/x", TEMPORARY, "HTTP status 204"),
        ("/huge/file", REFUSED, "is larger than 1048576 bytes"),
        ("/endless/file", REFUSED, "is larger than 1048576 bytes"),
    ],
)
def test_what_is_refused(url: Url, path: Path, place: str, status: int, says: str) -> None:
    assert says in refused(url(place), path, status)
    assert not path.exists() or path.stat().st_size <= 1 << 20


def test_only_the_exact_limit_is_small_enough(url: Url, path: Path) -> None:
    download(url("/plain/file"), path, SIZE)
    path.unlink()
    assert "is larger" in refused(url("/plain/file"), path, REFUSED, SIZE - 1)


@pytest.mark.parametrize("place", ["http://localhost/x", "ftp://localhost/x", "https:///x", "x"])
def test_only_https_is_asked(path: Path, place: str) -> None:
    assert "only https is followed" in refused(place, path, REFUSED)


def test_who_is_not_certified_is_not_believed(
    url: Url, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "CERTIFICATE" in refused(url("/plain/file").replace("localhost", "127.0.0.1"), path,
                                    TEMPORARY)  # fmt: skip
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "CERTIFICATE" in refused(url("/plain/file"), path, TEMPORARY)
    assert not path.exists()


def test_nobody_there(path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        place = f"https://localhost:{bound.getsockname()[1]}/x"
        assert "refused" in refused(place, path, TEMPORARY)


def test_silence_ends_an_attempt(url: Url, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SILENCE_SECONDS", 0.3)
    assert "timed out" in refused(url("/silent/file"), path, TEMPORARY)


def test_slowness_ends_an_attempt(url: Url, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PACE_SECONDS", 0.3)
    monkeypatch.setattr(fetch, "PACE", 1 << 30)
    assert "bytes a second" in refused(url("/slow/file"), path, TEMPORARY)
    assert DATA.startswith(path.read_bytes())


def test_a_deadline_ends_an_attempt_and_keeps_what_is_there(url: Url, path: Path) -> None:
    assert "takes too long" in refused(url("/slow/file"), path, TEMPORARY, seconds=0.5)
    assert 0 < path.stat().st_size < SIZE
    download(url("/plain/file"), path)
    assert path.read_bytes() == DATA


def test_progress_is_told(url: Url, path: Path) -> None:
    told: list[tuple[int, int]] = []
    path.write_bytes(DATA[:100])
    limits = Limits(1 << 20, time.monotonic() + 30)
    fetch.download(url("/plain/file"), path, limits, lambda have, total: told.append((have, total)))
    assert told[0] == (100, SIZE)
    assert all(total == SIZE for _, total in told)


def test_who_is_told_may_refuse(url: Url, path: Path) -> None:
    def full(have: int, total: int) -> None:
        raise SupervisorError("DiskFull", f"{have} {total}")

    with pytest.raises(SupervisorError, match=f"0 {SIZE}"):
        fetch.download(url("/plain/file"), path, Limits(1 << 20, time.monotonic() + 30), full)
    assert path.read_bytes() == b""


def test_what_is_small_is_read(url: Url) -> None:
    assert fetch.read(url("/plain/file")) == DATA
    faults = {"/endless/file": "is larger", "/plain/none": "404", "/cut/file": "too early"}
    for place, says in faults.items():
        with pytest.raises(SupervisorError, match=says):
            fetch.read(url(place))
