"""validator-release@NAME.service: download, verify, unpack, switch; and a crash at each write.

Programs here are stand-ins of one line for clients, and the server is one for their projects.
"""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
from lab import signatures
from lab.crash import CALLS, points
from lab.signatures import Signer
from lab.standin import publisher
from lab.standin.publisher import Publisher

from validator_supervisor import obtain, release, releases
from validator_supervisor.applied import Applied
from validator_supervisor.config import Config
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.projects import PROJECTS
from validator_supervisor.release import Wanted
from validator_supervisor.validators import CLIENTS, Release

TREE = Path(__file__).resolve().parents[2]
PROGRAM = b"#!/bin/sh\necho %s\n"
NIMBUS = "v26.7.0+4110bc78"


def archive(files: dict[str, bytes]) -> bytes:
    """Return a .tar.gz of programs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode = len(content), 0o755
            made.addfile(header, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 1, mtime=0)


@dataclass
class Project:
    """What publishes, and where it is installed."""

    server: Publisher
    directory: Path
    told: list[str]
    key_server: str = "https://localhost:1/{fingerprint}"

    def publish(self, name: str, data: bytes) -> str:
        (self.server.folder / name).write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def release(self, version: str, fault: str = "plain", **keys: str) -> Wanted:
        """Publish a release of a client that does not sign, and want it."""
        name = f"client-{version}.tar.gz"
        digest = self.publish(name, archive({"lodestar": PROGRAM % version.encode()}))
        url = f"https://localhost:{self.server.server_port}/{fault}/{name}"
        wanted = Release(client="lodestar", version=version, sha256=digest, url=url)
        return replace(release.wanted(wanted, "x86_64"), **keys)  # type: ignore[arg-type]

    def install(self, want: Wanted) -> str:
        return release.install(want, self.directory, self.key_server, self.told.append)

    def refusal(self, want: Wanted) -> SupervisorError:
        with pytest.raises(SupervisorError) as caught:
            self.install(want)
        assert caught.value.message.isprintable()
        return caught.value

    def runs(self) -> str:
        """Run what is in effect."""
        found = releases.linked(self.directory)
        return subprocess.check_output([found.program], text=True).strip() if found else ""

    def left_over(self) -> list[str]:
        """Return what an attempt has left, but for the lock."""
        hidden = [path.name for path in self.directory.rglob(".*")]
        return sorted(name for name in hidden if name != ".lock")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    trusted = tmp_path_factory.mktemp("trusted")
    signatures.certificates(trusted, "localhost")
    files = trusted / signatures.CERTIFICATE, trusted / signatures.KEY
    with publisher.served(tmp_path_factory.mktemp("served"), *files) as started:
        os.environ["SSL_CERT_FILE"] = str(trusted / signatures.AUTHORITY)
        yield started
        del os.environ["SSL_CERT_FILE"]


@pytest.fixture
def project(served: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(obtain, "RESERVE", 0)
    served.asked.clear()
    return Project(served, tmp_path, [])


def test_it_is_downloaded_unpacked_and_in_effect(project: Project) -> None:
    want = project.release("v1.0.0")
    assert project.install(want) == "lodestar v1.0.0 is in effect from the next start on"
    assert project.runs() == "v1.0.0"
    assert project.left_over() == []
    found = releases.current(project.directory.name, project.directory.parent)
    assert found
    folder = project.directory / "releases" / f"lodestar-v1.0.0-{want.sha256[:12]}"
    assert (found.client, found.version, found.sha256) == ("lodestar", "v1.0.0", want.sha256)
    assert found.program == str(folder / "lodestar")
    for path in [folder, *folder.iterdir()]:
        assert path.stat().st_mode & 0o022 == 0
        assert path.stat().st_mode & 0o044 == 0o044
    assert "unpacking lodestar v1.0.0" in project.told


def test_all_of_it_is_on_the_disk_before_it_has_its_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    rename = Path.rename

    def look(path: Path, target: Path) -> Path:
        if target.parent.name == "releases":
            assert {one.stat().st_ino for one in [path, *path.rglob("*")]} <= synced
            synced.add(-1)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    monkeypatch.setattr(Path, "rename", look)
    project.install(project.release("v1.0.0"))
    assert {-1, (project.directory / "releases").stat().st_ino} <= synced


def test_what_is_in_effect_costs_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    want = project.release("v1.0.0")
    project.install(want)
    monkeypatch.setitem(sys.modules, "validator_supervisor.obtain", None)
    began = time.monotonic()
    assert project.install(want) == "lodestar v1.0.0 is in effect"
    assert time.monotonic() - began < 0.05
    assert len(project.server.asked) == 1


def test_the_quick_way_imports_nothing_heavy() -> None:
    program = "import sys, validator_supervisor.release; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path[:0] = [{str(TREE)!r}]; "]
    argv[-1] += program
    loaded = subprocess.check_output(argv, text=True).split()
    assert not {"ssl", "http", "tarfile", "gzip", "subprocess", "tempfile", "yaml"} & set(loaded)


def test_a_newer_one_and_the_older_again(project: Project) -> None:
    first, second = project.release("v1.0.0"), project.release("v1.1.0")
    project.install(first)
    project.install(second)
    assert project.runs() == "v1.1.0"
    project.install(first)
    assert project.runs() == "v1.0.0"
    assert len(project.server.asked) == 2, "what is here is not downloaded again"


def test_a_program_without_an_archive(project: Project) -> None:
    digest = project.publish("validator-v7.0.0-linux-amd64", PROGRAM % b"bare")
    url = (
        f"https://localhost:{project.server.server_port}/plain/validator-{{version}}-linux-{{arch}}"
    )
    wanted = Release(client="prysm", version="v7.0.0", sha256=digest, url=url, signature="none")
    project.install(release.wanted(wanted, "x86_64"))
    assert project.runs() == "bare"


def test_a_client_with_many_files(project: Project) -> None:
    files = {"teku-1.0/bin/teku": PROGRAM % b"jvm", "teku-1.0/lib/a.jar": bytes(1000)}
    digest = project.publish("teku-1.0.tar.gz", archive(files))
    url = f"https://localhost:{project.server.server_port}/plain/teku-{{version}}.tar.gz"
    want = release.wanted(Release(client="teku", version="1.0", sha256=digest, url=url), "aarch64")
    project.install(want)
    assert project.runs() == "jvm"
    # Some of it is lost: it is no release any longer, and comes again.
    lost = project.directory / "releases" / want.folder / "teku-1.0/lib/a.jar"
    lost.unlink()
    assert releases.linked(project.directory) is None
    project.install(want)
    assert lost.exists()
    assert project.left_over() == []


class TestRefused:
    """After each of these the older release is in effect, and nothing else is there."""

    @pytest.fixture
    def old(self, project: Project) -> Iterator[Project]:
        project.install(project.release("v1.0.0"))
        yield project
        assert project.runs() == "v1.0.0"
        assert len(releases.listed(project.directory)) == 1
        for path in project.directory.rglob("*.part"):
            assert path.stat().st_mode & 0o111 == 0

    def test_a_wrong_checksum(self, old: Project) -> None:
        want = old.release("v2.0.0", sha256="0" * 64)
        failure = old.refusal(want)
        assert (failure.code, failure.exit_status) == ("WrongChecksum", 1)
        assert "and not 0000" in failure.message
        assert old.left_over() == []

    def test_a_beginning_of_something_else(self, old: Project) -> None:
        want = old.release("v2.0.0")
        release.part_of(want, old.directory).write_bytes(b"something else")
        failure = old.refusal(want)
        assert (failure.code, failure.exit_status) == ("WrongChecksum", 75)
        assert old.left_over() == []
        old.install(want)
        assert old.runs() == "v2.0.0"
        shutil.rmtree(old.directory / "releases" / want.folder)
        old.install(old.release("v1.0.0"))

    def test_a_server_that_is_away(self, old: Project) -> None:
        want = old.release("v2.0.0", url="https://localhost:1/x.tar.gz")
        assert old.refusal(want).exit_status == 75
        assert old.left_over() == []

    def test_what_is_not_published(self, old: Project) -> None:
        want = old.release("v2.0.0")
        failure = old.refusal(replace(want, url=want.url.replace("client-", "none-")))
        assert failure.exit_status == 1
        assert "404" in failure.message

    def test_a_cut_goes_on_where_it_was(self, old: Project) -> None:
        want = old.release("v2.0.0", "cut")
        assert old.refusal(want).exit_status == 75
        assert old.left_over() == [f".{want.folder}.part"]
        # Another one is wanted: what was begun is not kept for ever.
        old.refusal(old.release("v3.0.0", sha256="0" * 64))
        assert old.left_over() == []
        assert old.refusal(want).exit_status == 75
        old.server.asked.clear()
        old.install(want)
        assert old.server.asked[0][1].startswith("bytes=")
        assert old.runs() == "v2.0.0"
        shutil.rmtree(old.directory / "releases" / want.folder)
        old.install(old.release("v1.0.0"))

    def test_no_program_in_it(self, old: Project) -> None:
        failure = old.refusal(old.release("v2.0.0", program="other"))
        assert failure.code == "InvalidRelease"
        assert old.left_over() == []

    @pytest.mark.parametrize(
        "files",
        [
            {"../lodestar": b"x"}, {"lodestar/inner": b"x"}, {"lodestar": b"x", "/etc/x": b"x"},
            {"lodestar": b"x", "release.json": b"{}"}, {},
        ],
    )  # fmt: skip
    def test_a_bad_archive(self, old: Project, files: dict[str, bytes]) -> None:
        want = old.release("v2.0.0")
        digest = old.publish("client-v2.0.0.tar.gz", archive(files))
        failure = old.refusal(replace(want, sha256=digest))
        assert isinstance(failure, FormatError)
        assert old.left_over() == []

    def test_a_link_for_a_program(self, old: Project) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as made:
            for name, to in (("lodestar", "other"), ("other", "")):
                header = tarfile.TarInfo(name)
                header.type, header.linkname = (tarfile.SYMTYPE if to else tarfile.REGTYPE), to
                header.mode = 0o755
                made.addfile(header)
        want = old.release("v2.0.0")
        digest = old.publish("client-v2.0.0.tar.gz", out.getvalue())
        assert "has no program" in old.refusal(replace(want, sha256=digest)).message

    def test_a_full_disk(self, old: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(obtain, "RESERVE", 1 << 60)
        failure = old.refusal(old.release("v2.0.0"))
        assert (failure.code, failure.exit_status) == ("DiskFull", 75)
        assert "MiB are free" in failure.message


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    if not Signer.possible():
        pytest.skip("SIGNATURES ARE NOT TESTED: gpg is not here: apt install gpg gpg-agent")
    with Signer.made() as made:
        for name in ("good", "other"):
            made.key(name)
        yield made


class TestSigned:
    """With the real gpgv, and a key server whose only virtue is that it answers."""

    @pytest.fixture
    def want(self, project: Project, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Wanted:
        """A signed release; its key is served."""
        monkeypatch.setattr(obtain, "KEYRINGS", (project.directory / "keyrings",))
        want, key = project.release("v1.0.0"), signer.fingerprint("good")
        file = project.server.folder / "client-v1.0.0.tar.gz"
        project.publish("client-v1.0.0.tar.gz.asc", signer.sign(file, key))
        project.publish(key, signer.export(key))
        project.key_server = f"https://localhost:{project.server.server_port}/plain/{{fingerprint}}"
        return replace(want, signature=f"{want.url}.asc", fingerprints=(key,))

    def test_a_good_one(self, project: Project, want: Wanted) -> None:
        project.install(want)
        assert project.runs() == "v1.0.0"
        asked = [path.rpartition("/")[2] for path, _ in project.server.asked]
        name = "client-v1.0.0.tar.gz"
        assert asked == [name, f"{name}.asc", *want.fingerprints]

    def test_a_key_that_is_here_is_not_fetched(
        self, project: Project, want: Wanted, signer: Signer
    ) -> None:
        (project.directory / "keyrings").mkdir()
        for armor in (True, False):
            exported = signer.export(*want.fingerprints, armor=armor)
            (project.directory / "keyrings/lodestar.gpg").write_bytes(exported)
            project.key_server = "https://localhost:1/{fingerprint}"
            project.install(want)
            shutil.rmtree(project.directory / "releases")

    def test_one_that_nobody_had_to_sign_is_not_good_enough(
        self, project: Project, want: Wanted
    ) -> None:
        project.install(replace(want, signature="", fingerprints=()))
        project.server.asked.clear()
        # Neither as the current one nor as one that is here.
        project.install(want)
        assert len(project.server.asked) == 3
        found = releases.linked(project.directory)
        assert found
        assert (found.signer,) == want.fingerprints
        project.install(replace(want, signature="", fingerprints=()))
        assert len(project.server.asked) == 3
        assert project.left_over() == []

    def test_by_another_key(self, project: Project, want: Wanted, signer: Signer) -> None:
        file = project.server.folder / "client-v1.0.0.tar.gz"
        other = signer.fingerprint("other")
        project.publish(f"{file.name}.asc", signer.sign(file, other))
        assert project.refusal(want).code == "NotSigned"
        # A server that has the other key in place of the right one changes nothing.
        project.publish(want.fingerprints[0], signer.export(other))
        failure = project.refusal(want)
        assert (failure.code, failure.exit_status) == ("NotSigned", 1)
        assert other in failure.message
        assert project.left_over() == []
        assert releases.linked(project.directory) is None

    def test_of_another_file(self, project: Project, want: Wanted) -> None:
        digest = project.publish("client-v1.0.0.tar.gz", archive({"lodestar": b"evil"}))
        failure = project.refusal(replace(want, sha256=digest))
        assert failure.message == "the signature is of another file"
        assert project.left_over() == []

    def test_no_signature_or_key_now(self, project: Project, want: Wanted) -> None:
        away = replace(want, signature="https://localhost:1/x.asc")
        assert project.refusal(away).exit_status == 75
        assert project.left_over() == [f".{want.folder}.part"], "no need to download it again"
        project.server.asked.clear()
        project.install(want)
        assert not [path for path, _ in project.server.asked if path.endswith(".tar.gz")]

    def test_no_signature_at_all(self, project: Project, want: Wanted) -> None:
        none = replace(want, signature=f"{want.url}.none")
        assert project.refusal(none).exit_status == 1
        assert releases.linked(project.directory) is None


def test_a_person_who_has_gone_back_stays_there(project: Project) -> None:
    first, second, third = (project.release(f"v1.{n}.0") for n in range(3))
    project.install(first)
    project.install(second)
    assert releases.rollback(project.directory).version == "v1.0.0"
    assert project.runs() == "v1.0.0"
    assert "somebody has gone back to it from lodestar v1.1.0" in project.install(second)
    assert project.runs() == "v1.0.0"
    # What is in effect may be lost, too: then the wanted one is better than none.
    shutil.rmtree(project.directory / "releases" / first.folder)
    project.install(second)
    assert project.runs() == "v1.1.0"
    project.install(first)
    project.install(second)
    releases.rollback(project.directory)
    project.install(third)
    assert project.runs() == "v1.2.0"
    project.install(second)
    assert project.runs() == "v1.1.0", "another version was wanted meanwhile"


JOB = """
import sys
from pathlib import Path
from validator_supervisor import obtain, release
obtain.RESERVE = 0
want = release.Wanted(*sys.argv[2:8], ())
release.install(want, Path(sys.argv[1]), "", lambda text: None)
"""
# And a new file or link, which may be half of one.
EVERY = (*CALLS, "symlink", "symlinkat", "write", "openat", "chmod", "fchmodat")


def test_killed_at_each_write_it_is_the_old_release_or_the_new_one(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("CRASH POINTS ARE NOT TESTED: strace is not here: apt install strace")
    old, new = project.release("v1.0.0"), project.release("v2.0.0")
    template, log = tmp_path_factory.mktemp("template"), project.directory / "trace"
    project.directory = template
    project.install(old)

    def job(*options: str) -> int:
        words = [new.client, new.version, new.sha256, new.url, new.program, ""]
        argv = [strace, "-f", "-y", "-qq", "-o", str(log), *options]
        argv += [sys.executable, "-B", "-c", JOB, str(project.directory), *words]
        done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=False)
        if "Operation not permitted" in done.stderr:
            pytest.skip("CRASH POINTS ARE NOT TESTED: strace may not trace here")
        return done.returncode

    def fresh(name: str) -> None:
        project.directory = template.with_name(name)
        shutil.rmtree(project.directory, ignore_errors=True)
        shutil.copytree(template, project.directory, symlinks=True)

    fresh("watched")
    assert job("-e", f"trace={','.join(EVERY)}") == 0
    lines = log.read_text().splitlines()
    # Only where it works: a start of Python opens files, too.
    every = [point for point in points(log.read_text())
             if any(hits(lines, point.call, point.number, str(project.directory)))]  # fmt: skip
    assert len(every) > 30
    struck = 0
    for point in every:
        fresh("struck")
        status = job("-e", f"inject={point.call}:signal=KILL:when={point.number}")
        struck += status == -9
        assert project.runs() in ("v1.0.0", "v2.0.0"), point
        # The next start goes on, and leaves nothing of the one before.
        project.install(new)
        assert project.runs() == "v2.0.0", point
        assert project.left_over() == [], point
        assert releases.history(project.directory).order == (old.folder, new.folder), point
    assert struck > len(every) * 0.9


def hits(lines: list[str], call: str, number: int, place: str) -> Iterator[bool]:
    """Yield for each process whether its ``number``-th ``call`` is about a place."""
    counted: dict[str, int] = {}
    for line in lines:
        process, _, rest = line.partition(" ")
        if rest.lstrip().startswith(f"{call}("):
            counted[process] = counted.get(process, 0) + 1
            if counted[process] == number:
                yield place in rest


MACHINES = ("x86_64", "aarch64")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_project_has_a_url_and_a_program(client: str, machine: str) -> None:
    version = NIMBUS if client == "nimbus" else "v1.2.3"
    want = release.wanted(Release(client=client, version=version, sha256="0" * 64), machine)
    for text in (want.url, want.program):
        assert "{" not in text
    assert want.url.startswith("https://")
    assert not Path(want.program).is_absolute()
    assert want.url.endswith(obtain.ARCHIVES) or client == "prysm"
    assert bool(want.signature) == bool(want.fingerprints) == bool(PROJECTS[client].fingerprints)
    assert all(len(one) == 40 and one == one.upper() for one in want.fingerprints)


@pytest.mark.parametrize(
    ("client", "version", "machine", "url", "program"),
    [
        ("lighthouse", "v8.2.2", "aarch64",
         "github.com/sigp/lighthouse/releases/download/v8.2.2/"
         "lighthouse-v8.2.2-aarch64-unknown-linux-gnu.tar.gz", "lighthouse"),
        ("prysm", "v7.3.1", "aarch64",
         "github.com/OffchainLabs/prysm/releases/download/v7.3.1/validator-v7.3.1-linux-arm64",
         "validator"),
        ("teku", "26.9.1", "x86_64",
         "artifacts.consensys.net/public/teku/raw/names/teku.tar.gz/versions/26.9.1/"
         "teku-26.9.1.tar.gz", "teku-26.9.1/bin/teku"),
        ("nimbus", NIMBUS, "x86_64",
         "github.com/status-im/nimbus-eth2/releases/download/v26.7.0/"
         "nimbus-eth2_Linux_amd64_26.7.0_4110bc78.tar.gz",
         "nimbus-eth2_Linux_amd64_26.7.0_4110bc78/build/nimbus_validator_client"),
        ("nimbus", NIMBUS, "aarch64",
         "github.com/status-im/nimbus-eth2/releases/download/v26.7.0/"
         "nimbus-eth2_Linux_arm64v8_26.7.0_4110bc78.tar.gz",
         "nimbus-eth2_Linux_arm64v8_26.7.0_4110bc78/build/nimbus_validator_client"),
        ("lodestar", "v1.48.0", "x86_64",
         "github.com/ChainSafe/lodestar/releases/download/v1.48.0/"
         "lodestar-v1.48.0-linux-amd64.tar.gz", "lodestar"),
    ],
)  # fmt: skip
def test_names_of_published_files(
    client: str, version: str, machine: str, url: str, program: str
) -> None:
    want = release.wanted(Release(client=client, version=version, sha256="0" * 64), machine)
    assert (want.url, want.program) == (f"https://{url}", program)


def test_signatures_can_be_others_or_none() -> None:
    base = Release(client="lighthouse", version="v1", sha256="0" * 64)
    want = release.wanted(base, "x86_64")
    assert want.signature == f"{want.url}.asc"
    assert release.wanted(replace(base, client="prysm"), "x86_64").signature.endswith("amd64.sig")
    other = release.wanted(replace(base, client="teku", signed_by="A" * 40), "x86_64")
    assert (other.signature, other.fingerprints) == (f"{other.url}.asc", ("A" * 40,))
    none = release.wanted(replace(base, signature="none"), "x86_64")
    assert (none.signature, none.fingerprints) == ("", ())
    with pytest.raises(SupervisorError, match="no release for riscv64"):
        release.wanted(base, "riscv64")


VALIDATOR = (
    "nodes: {{n: {{beacon: 'a:1'}}}}\nvalidators: {{v: {{kind: ethereum, network: dev, "
    "fee_recipient: '0x00000000000000000000000000000000000000fe', release: {{{}}}}}}}\n"
)
SHA = f"sha256: {'0' * 64}"


@pytest.mark.parametrize(
    "words",
    [
        f"client: teku, version: 26.9.1, {SHA}", f"client: nimbus, version: {NIMBUS}, {SHA}",
        f"client: nimbus, version: v26.7.0, {SHA}, url: 'https://x.example/nimbus.tar.gz'",
        f"client: teku, version: 26.9.1, {SHA}, signed_by: {'A' * 40}, signature: pgp",
        f"client: prysm, version: v7, {SHA}, signature: none",
        f"client: prysm, version: v7, {SHA}, url: 'https://[::1]:8443/{{version}}/{{arch}}'",
    ],
)  # fmt: skip
def test_what_can_be_configured(read: Callable[[str], Config], words: str) -> None:
    (found,) = read(VALIDATOR.format(words)).ethereum
    assert release.wanted(found.release, "x86_64").url.startswith("https://")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"client: nimbus, version: v26.7.0, {SHA}", "version: expected VERSION+COMMIT"),
        (f"client: teku, version: '1', {SHA}, signature: pgp", "teku signs no releases"),
        (f"client: prysm, version: v7, {SHA}, signature: none, signed_by: {'A' * 40}",
         "signed_by: means nothing without"),
        ("client: teku, binary: /x, url: 'https://x/y'", "url: means nothing for a program"),
        ("client: teku, binary: /x, signature: none", "signature: means nothing for"),
        (f"client: teku, version: '1', {SHA}, url: 'http://x/y'", "expected a URL, https://"),
        (f"client: teku, version: '1', {SHA}, url: 'https://x/{{other}}'", "expected a URL"),
        (f"client: teku, version: '1', {SHA}, url: 'https://x/{{version.x}}'", "expected a URL"),
        (f"client: teku, version: '1', {SHA}, url: 'https://a@x/y'", "expected a URL"),
        (f"client: teku, version: '1', {SHA}, url: 'https://x/y.zip'", "expected a .tar.gz"),
        (f"client: teku, version: ../../x, {SHA}", "expected a version"),
        (f"client: teku, version: '1', {SHA}, signed_by: abc", "expected a fingerprint"),
    ],
)  # fmt: skip
def test_what_cannot(refusal: Callable[[str], str], words: str, says: str) -> None:
    assert says in refusal(VALIDATOR.format(words))


class TestHelper:
    """The program of the unit."""

    @pytest.fixture
    def run(
        self,
        helper: Callable[[str], ModuleType],
        monkeypatch: pytest.MonkeyPatch,
        project: Project,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Callable[[Wanted | None], tuple[int, list[str]]]:
        loaded, runtime = helper("release"), tmp_path_factory.mktemp("runtime")
        said: list[str] = []

        class Notifier:
            def notify(self, text: str) -> None:
                said.append(text.removeprefix("STATUS="))

        def run(want: Wanted | None) -> tuple[int, list[str]]:
            said.clear()
            words = "client: lodestar, binary: /x"
            if want:
                words = f"client: lodestar, version: {want.version}, sha256: {want.sha256}"
                words += f", url: '{want.url}'"
            monkeypatch.setattr(Applied, "load", lambda: applied(VALIDATOR.format(words)))
            monkeypatch.setenv("STATE_DIRECTORY", str(project.directory))
            monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
            status = loaded.main("v")
            # What the timer looks for.
            assert (runtime / "again").exists() == (status == 75 or "No such file" in said[-1])
            return status, said

        monkeypatch.setattr(loaded, "SystemdNotifier", Notifier)
        return run

    def test_it_says_how_it_is(
        self, run: Callable[[Wanted | None], tuple[int, list[str]]], project: Project
    ) -> None:
        want = project.release("v1.0.0")
        status, said = run(want)
        assert status == 0
        assert said[0].startswith("downloading lodestar v1.0.0: 0 of 0 MiB")
        assert said[-1] == "lodestar v1.0.0 is in effect from the next start on"
        assert run(want) == (0, ["lodestar v1.0.0 is in effect"])

    def test_it_says_what_is_wrong(
        self,
        run: Callable[[Wanted | None], tuple[int, list[str]]],
        project: Project,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        status, said = run(project.release("v1.0.0", sha256="0" * 64))
        assert (status, "has the checksum" in said[-1]) == (1, True)
        status, said = run(project.release("v1.0.0", url="https://localhost:1/x"))
        assert status == 75
        assert run(None) == (1, ["no release is configured for a validator v"])
        project.directory = project.directory / "gone"
        status, said = run(project.release("v1.0.0"))
        assert (status, "No such file" in said[-1]) == (1, True)
        assert "hint: compare version and sha256" in capsys.readouterr().err


def applied(text: str) -> Applied:
    from validator_supervisor import config
    from validator_supervisor.applied import assign_ports
    from validator_supervisor.document import parse

    read = config.read(parse(f"version: 1\n{text}".encode(), "config.yaml"))
    return Applied(read, assign_ports(read, {}))
