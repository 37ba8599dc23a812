"""A bus of our own, with the real dispatcher on it and nothing of systemd."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jeepney import Message
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.bus.served import Served
from validator_supervisor import journal

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = shutil.which("dbus-daemon")
    if not daemon:
        pytest.skip("THE BUS IS NOT TESTED: dbus-daemon is not here: apt install dbus")
    directory = tmp_path_factory.mktemp("bus")
    file = directory / "bus.conf"
    file.write_text(BUS.format(socket=directory / "socket"))
    argv = [daemon, f"--config-file={file}", "--nofork", "--print-address=1", "--nopidfile"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        # It prints once it listens.
        assert process.stdout.readline().startswith("unix:path=")
        yield f"unix:path={directory / 'socket'}"
        process.terminate()


@pytest.fixture
def served(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    made = Served(address)

    def audit(message: str, **fields: str) -> None:
        del fields
        made.audited.append(message)

    monkeypatch.setattr(journal, "audit", audit)
    yield made
    made.stop()


@pytest.fixture
def connection(address: str) -> Iterator[DBusConnection]:
    with contextlib.closing(open_dbus_connection(address)) as connection:
        yield connection


@pytest.fixture
def send(served: Served, connection: DBusConnection) -> Callable[[Message], Message]:
    del served

    def send(message: Message) -> Message:
        reply: Message = connection.send_and_get_reply(message, timeout=5)
        return reply

    return send


@pytest.fixture
def busctl(served: Served, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("busctl")
    if not program:
        pytest.skip("BUSCTL IS NOT TESTED: it is not here: apt install systemd")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, f"--address={served.address}", "--no-pager", *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            cwd=tmp_path,
        )

    return run
