"""`set-release`: another release and another client for a validator that runs.

What is published are the stand-ins for Lodestar and Teku, by the stand-in for their projects'
servers (lab/standin/publisher.py), in the machine and under the names of the real ones.
"""

import gzip
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import signatures, standin
from lab.machine import Machine
from lab.signing import NAME, VALIDATOR, Signing
from lab.standin import publisher
from lab.standin.beacon import slashable

HOSTS = ("github.com", "artifacts.consensys.net")
SERVED = "/srv/served"
# Below SERVED, which is one level below the server's root.
FILES = {
    "lodestar": "lodestar/releases/download/{0}/lodestar-{0}-linux-amd64.tar.gz",
    "teku": "teku/raw/names/teku.tar.gz/versions/{0}/teku-{0}.tar.gz",
}
PUBLISH = ["systemd-run", "-q", "--unit=publisher.service", "/srv/publisher", "--folder", SERVED]


@dataclass
class Project:
    """A validator that signs, and who publishes for it."""

    signing: Signing
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> Machine:
        return self.signing.host

    def publish(self, client: str, version: str) -> None:
        """Publish a release of a stand-in; each is another file."""
        text = (standin.FOLDER / "client.py").read_text()
        files = {"lodestar": f"{text}\n# {version}\n"}
        if client == "teku":
            inside = f"teku-{version}/bin"
            others = (standin.FOLDER / "others.py").read_text()
            files = {f"{inside}/teku": others, f"{inside}/client": text}
        data = packed(files)
        path = self.host.root / SERVED.lstrip("/") / FILES[client].format(version)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        self.digests[version] = hashlib.sha256(data).hexdigest()

    def set(self, *words: str, check: bool = True) -> str:
        """Run `set-release`; returns what it says."""
        argv = ["validator-supervisor", "set-release", NAME, *words]
        done = self.host.run(*argv, check=False, seconds=60)
        assert (done.returncode == 0) is check, done.stderr
        return done.stdout + done.stderr

    def release(self, client: str, version: str, *words: str) -> str:
        return self.set(client, version, self.digests[version], *words)

    def runs(self) -> str:
        """Return the program that runs."""
        return self.host.output("sed", "-n", "2p", f"/run/validator/{NAME}/client")

    def goes_on(self) -> None:
        """Assert that it signs, and that nothing was signed twice, lifted or watched."""
        self.host.wait_for_unit(VALIDATOR)
        self.signing.signs()
        assert slashable(self.signing.beacon.recorded()) == []
        invocation = self.host.property(VALIDATOR, "InvocationID")
        said = self.host.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")
        assert "restore: " not in said
        assert "power-cut: " not in said


def packed(files: Mapping[str, str]) -> bytes:
    """Return a .tar.gz of programs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode = len(content.encode()), 0o755
            archive.addfile(header, io.BytesIO(content.encode()))
    return gzip.compress(out.getvalue(), mtime=0)


@pytest.fixture(scope="class")
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    assert request.cls
    with Signing.booted(request.cls.SUITE, near="/srv/backups") as signing:
        signing.start("--no-watch")
        signing.signs()
        made = Project(signing)
        serve(made.host)
        for version in ("v1.48.0", "v1.49.0"):
            made.publish("lodestar", version)
        made.publish("teku", "26.10.0")
        yield made


def serve(host: Machine) -> None:
    """Start the server, whom the machine believes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signatures.certificates(folder, *HOSTS)
        for file in (signatures.CERTIFICATE, signatures.KEY):
            host.write(f"/srv/{file}", (folder / file).read_text())
        authority = (folder / signatures.AUTHORITY).read_text()
        host.write("/usr/local/share/ca-certificates/lab.crt", authority)
    host.run("update-ca-certificates")
    host.write("/etc/hosts", f"127.0.0.1 localhost {' '.join(HOSTS)}\n")
    host.write("/srv/publisher", Path(publisher.__file__).read_text(), 0o755)
    host.run("mkdir", "-p", SERVED)
    host.run(*PUBLISH, "--certificate", f"/srv/{signatures.CERTIFICATE}",
             "--key", f"/srv/{signatures.KEY}")  # fmt: skip
    host.wait("the publisher", lambda: ":443 " in host.output("ss", "-Hltn"))


class Releases:
    """In this order: each release has one before it."""

    SUITE = ""

    def test_from_a_program_of_the_host_to_a_release(self, project: Project) -> None:
        before = project.host.property(VALIDATOR, "MainPID")
        said = project.release("lodestar", "v1.48.0")
        assert f"from the next start on: restart {NAME}" in said
        # It is downloaded while the one before runs.
        assert project.host.property(VALIDATOR, "MainPID") == before
        assert project.runs() == standin.CLIENT
        project.host.run("validator-supervisor", "restart", NAME)
        project.host.wait("a restart", lambda: "v1.48.0" in project.runs())
        project.goes_on()

    def test_another_release_costs_a_stop_and_a_start(self, project: Project) -> None:
        plain = took(project, ["validator-supervisor", "restart", NAME])
        project.publish("lodestar", "v1.50.0")
        said = project.release("lodestar", "v1.50.0", "--now")
        assert f"{NAME} is restarted with lodestar v1.50.0" in said
        project.host.wait("v1.50.0", lambda: "v1.50.0" in project.runs())
        project.host.wait_for_unit(VALIDATOR)
        down = away(project)
        print(f"down for {down:.2f} s, for {plain:.2f} s in a plain restart")
        project.goes_on()
        # The goal is 2 s more than the client's own stop and start.
        assert down < plain + 2

    def test_back_to_the_one_before(self, project: Project) -> None:
        project.host.run("validator-supervisor", "releases", "rollback", NAME)
        project.host.run("validator-supervisor", "restart", NAME)
        project.host.wait("v1.48.0", lambda: "v1.48.0" in project.runs())
        project.goes_on()

    def test_what_does_not_verify_changes_nothing(self, project: Project) -> None:
        before = project.host.property(VALIDATOR, "MainPID")
        said = project.set("lodestar", "v1.49.0", "0" * 64, "--now", check=False)
        assert "has the checksum" in said
        for words in (("lodestar", "v 1", "0" * 64), ("geth", "v1", "0" * 64), ("teku", "1", "x")):
            assert "release: " in project.set(*words, check=False)
        assert project.host.property(VALIDATOR, "MainPID") == before
        project.goes_on()

    def test_another_client_goes_on(self, project: Project) -> None:
        project.release("teku", "26.10.0", "--now")
        project.host.wait("Teku", lambda: "/teku" in project.runs())
        project.goes_on()
        invocation = project.host.property(VALIDATOR, "InvocationID")
        said = project.host.journal(f"_SYSTEMD_INVOCATION_ID={invocation}")
        assert "change: another client was here, and has stopped" in said
        release = project.host.output(
            "busctl", "get-property", "org.validatorsupervisor1",
            f"/org/validatorsupervisor1/validator/{NAME}", "org.validatorsupervisor1.Validator",
            "Release",
        )  # fmt: skip
        assert release == 's "teku 26.10.0"'

    def test_and_as_the_configuration_has_it_again(self, project: Project) -> None:
        project.set("--clear", "--now")
        project.host.wait("the first", lambda: project.runs() == standin.CLIENT)
        project.goes_on()
        project.signing.stop()
        assert project.signing.clean() == project.signing.files()[0]
        project.signing.start()


def away(project: Project) -> float:
    """Return how long it was not active before it is now."""
    left, began = (
        int(project.host.property(VALIDATOR, f"Active{what}TimestampMonotonic"))
        for what in ("Exit", "Enter")
    )
    return (began - left) / 1e6


def took(project: Project, argv: list[str]) -> float:
    """Return how long it was not active for a restart."""
    before = project.host.property(VALIDATOR, "MainPID")
    project.host.run(*argv)
    project.host.wait(
        "a restart", lambda: project.host.property(VALIDATOR, "MainPID") not in ("0", before)
    )
    project.host.wait_for_unit(VALIDATOR)
    return away(project)


class TestBookworm(Releases):
    SUITE = "bookworm"


class TestTrixie(Releases):
    SUITE = "trixie"
