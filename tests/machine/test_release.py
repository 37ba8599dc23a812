"""Releases: downloaded over HTTPS, verified by gpgv, unpacked, in effect; on both systemds.

What is published here are stand-ins for clients, programs of two lines, by a stand-in for their
projects' servers (lab/standin/publisher.py), inside the machine on its loopback.
"""

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import images, signatures
from lab.crash import traced
from lab.machine import Machine
from lab.signatures import Signer
from lab.signing import PEERS
from lab.standin import publisher
from lab.world import FEE_RECIPIENT, World

NAME = "main"
TIMER = f"validator-release@{NAME}.timer"
UNIT, VALIDATOR = f"validator-release@{NAME}.service", f"validator@{NAME}.service"
PLACE, SERVED = f"/var/lib/validator-release/{NAME}", "/srv/served"
SERVER = "publisher.service"
HOST = "releases.example"
PROGRAM = "#!/bin/sh\necho stand-in %s\n"
ANNOUNCED = [
    r"release\[\d+\]: ",
    rf"{UNIT}: (Main process exited|Failed with result|Scheduled restart)",
    rf"Failed to start {UNIT}",
    # Nothing is unlocked, and no beacon node is there: validators do not start here.
    r"(Assertion|Dependency) failed for|failed with result 'dependency'",
    r" watch\[\d+\]: http://|assertion",
]


@dataclass
class Published:
    """A host, and who publishes for it."""

    world: World
    signer: Signer
    keys: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> Machine:
        return self.world.host

    def put(self, name: str, data: bytes) -> None:
        """Publish a file."""
        path = self.host.root / SERVED.lstrip("/") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def release(self, version: str, key: str = "good", *when: str, size: int = 0) -> None:
        """Publish a release, and its signature."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, content in (
                ("lodestar", (PROGRAM % version).encode()),
                ("more", bytes(size)),
            ):
                header = tarfile.TarInfo(name)
                header.size, header.mode = len(content), 0o755
                archive.addfile(header, io.BytesIO(content))
        data = gzip.compress(out.getvalue(), 0, mtime=0)
        name = f"lodestar-{version}.tar.gz"
        self.put(name, data)
        self.digests[version] = hashlib.sha256(data).hexdigest()
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.put(f"{name}.asc", self.signer.sign(Path(file.name), self.keys[key], *when))

    def want(self, version: str, fault: str = "plain", **keys: str) -> None:
        """Configure a release while the job is down, which leaves it down."""
        self.host.systemctl("stop", UNIT, check=False)
        self.configure(version, fault, **keys)

    def configure(self, version: str, fault: str = "plain", **keys: str) -> None:
        """Configure a release and apply that."""
        wanted = {
            "client": "lodestar",
            "version": version,
            "sha256": self.digests.get(version, "0" * 64),
            "url": f"https://{HOST}/{fault}/lodestar-{{version}}.tar.gz",
            "signed_by": self.keys["good"],
            **keys,
        }
        self.world.config = {
            "version": 1,
            "key_server": f"https://{HOST}/plain/{{fingerprint}}",
            "nodes": {"local": {"beacon": "http://127.0.0.1:5052"}},
            "validators": {
                NAME: {
                    "kind": "ethereum",
                    "network": "dev",
                    "fee_recipient": FEE_RECIPIENT,
                    "enabled": False,
                    "release": {key: value for key, value in wanted.items() if value},
                }
            },
        }
        self.world.apply()

    def start(self) -> bool:
        """Run the job anew; returns whether it went well."""
        self.host.systemctl("stop", UNIT, check=False)
        self.host.systemctl("reset-failed", UNIT, check=False)
        return self.host.run("systemctl", "start", UNIT, check=False, seconds=120).returncode == 0

    def status(self) -> str:
        return self.host.property(UNIT, "StatusText")

    def runs(self) -> str:
        """Run what is in effect as somebody who may be a validator."""
        return self.host.as_user("nobody", f"{PLACE}/current/lodestar").stdout.strip()

    def left_over(self) -> list[str]:
        """Return what an attempt has left, but for the lock."""
        found = self.host.output("find", PLACE, "-name", ".*", "-printf", "%f\n").split()
        return [name for name in found if name != ".lock"]

    def fault(self, fault: str, version: str = "v9.0.0", **keys: str) -> str:
        """Want what cannot be had; returns why not. What was in effect before still is."""
        before = self.runs()
        self.want(version, fault, **keys)
        assert not self.start()
        assert self.runs() == before
        assert self.host.run("find", PLACE, "-name", "*.part", "-perm", "/111").stdout == ""
        return self.status()


@pytest.fixture(scope="module", params=images.SUITES)
def published(request: pytest.FixtureRequest) -> Iterator[Published]:
    if not Signer.possible():
        pytest.skip("RELEASES ARE NOT TESTED: gpg is not here: apt install gpg gpg-agent")
    with Signer.made() as signer, World.booted(request.param, peers=PEERS) as world:
        made = Published(world, signer)
        prepare(made)
        made.release("v1.0.0")
        made.want("v1.0.0")
        assert made.start(), world.host.journal(f"--unit={UNIT}")
        yield made
        # Nearly all tests end with a failure that they wanted.
        world.host.systemctl("reset-failed", UNIT, check=False)
        assert world.host.problems(ANNOUNCED) == []


def prepare(made: Published) -> None:
    """Make keys and certificates, and start the server."""
    host = made.host
    old = ("--faked-system-time", "20240101T000000")
    made.keys = {name: made.signer.key(name) for name in ("good", "other")}
    made.keys["expired"] = made.signer.key("expired", *old, expires="2024-02-01")
    for fingerprint in made.keys.values():
        made.put(fingerprint, made.signer.export(fingerprint))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signatures.certificates(folder, HOST)
        for file in (signatures.CERTIFICATE, signatures.KEY):
            host.write(f"/srv/{file}", (folder / file).read_text())
        authority = "/usr/local/share/ca-certificates/lab.crt"
        host.write(authority, (folder / signatures.AUTHORITY).read_text())
    host.run("update-ca-certificates")
    host.write("/etc/hosts", f"127.0.0.1 localhost {HOST}\n")
    host.write("/srv/publisher", Path(publisher.__file__).read_text(), 0o755)
    host.run("systemd-run", "-q", f"--unit={SERVER}", "--property=Restart=always", "/srv/publisher",
             "--folder", SERVED, "--certificate", f"/srv/{signatures.CERTIFICATE}",
             "--key", f"/srv/{signatures.KEY}")  # fmt: skip
    listens = lambda: "*:443" in host.output("ss", "-Hltn") or ":443 " in host.output("ss", "-Hltn")  # noqa: E731
    host.wait("the publisher", listens)


def current(made: Published) -> dict[str, object]:
    """Return what `releases list` says of the current one."""
    listed = json.loads(
        made.host.output("validator-supervisor", "releases", "list", NAME, "--json")
    )
    (found,) = [one for one in listed if one["current"]]
    return dict(found)


def test_it_is_verified_and_in_effect(published: Published) -> None:
    host = published.host
    published.want("v1.0.0")
    published.start()
    assert published.runs() == "stand-in v1.0.0"
    assert published.status() == "lodestar v1.0.0 is in effect"
    assert host.property(UNIT, "ActiveState") == "active"
    assert published.left_over() == []
    # Its user's, for everyone to read and run, and for nobody else to write.
    owners = host.output(
        "find", PLACE, "!", "-name", ".lock", "-printf", "%u %m %y %f\n"
    ).splitlines()
    assert {line.split()[0] for line in owners} == {"validator-release"}
    modes = {tuple(line.split()[1:3]) for line in owners}
    assert modes <= {("755", "d"), ("755", "f"), ("644", "f"), ("777", "l")}
    assert current(published)["version"] == "v1.0.0"
    # What unlocks, keeps or signs has nothing to do with it.
    assert "validator-state" not in host.output("id", "validator-release")


def test_what_is_in_effect_takes_no_time(published: Published) -> None:
    host = published.host
    published.want("v1.0.0")
    assert published.start()
    host.systemctl("stop", SERVER)
    try:
        took = []
        for _ in range(5):
            assert published.start(), "no server is asked"
            took.append(int(host.property(UNIT, "CPUUsageNSec")) // 1_000_000)
        print("ms of a processor:", *sorted(took))
        # Of a processor, since others may keep it busy; systemd's own work on the sandbox is in it.
        assert min(took) < 150
    finally:
        prepare_again(published)


def prepare_again(published: Published) -> None:
    published.host.systemctl("reset-failed", SERVER, check=False)
    published.host.run("systemd-run", "-q", f"--unit={SERVER}", "--property=Restart=always",
                       "/srv/publisher", "--folder", SERVED, "--certificate",
                       f"/srv/{signatures.CERTIFICATE}", "--key", f"/srv/{signatures.KEY}")  # fmt: skip
    listens = lambda: ":443 " in published.host.output("ss", "-Hltn")  # noqa: E731
    published.host.wait("the publisher", listens)


def test_a_start_of_the_validator_pulls_it_in(published: Published) -> None:
    host = published.host
    published.want("v1.0.0")
    host.systemctl("stop", UNIT)
    wants, after = (host.property(VALIDATOR, key) for key in ("Wants", "After"))
    assert UNIT in wants.split()
    assert UNIT in after.split()
    assert UNIT not in host.property(VALIDATOR, "Requires").split()
    # It does not get far, since nothing is unlocked; its release is there all the same.
    host.run("systemctl", "start", "--no-block", VALIDATOR, check=False)
    host.wait_for_unit(UNIT)
    host.run("systemctl", "stop", VALIDATOR, check=False)


def test_another_version_is_downloaded_when_it_is_applied(published: Published) -> None:
    published.release("v1.1.0")
    published.want("v1.0.0")
    published.start()
    published.configure("v1.1.0")
    published.host.wait("the new release", lambda: published.runs() == "stand-in v1.1.0")
    published.configure("v1.0.0")
    published.host.wait("the old release", lambda: published.runs() == "stand-in v1.0.0")


class TestFaults:
    @pytest.fixture(autouse=True)
    def wanted(self, published: Published) -> None:
        published.want("v1.0.0")
        assert published.start()
        # What an earlier test has brought here would not be downloaded.
        published.host.run("sh", "-c", f"rm -rf {PLACE}/releases/lodestar-v9* {PLACE}/.*.part")
        published.release("v9.0.0")

    def test_a_wrong_checksum(self, published: Published) -> None:
        assert "has the checksum" in published.fault("plain", sha256="0" * 64)
        assert published.host.property(UNIT, "ExecMainStatus") == "1"
        assert published.left_over() == []

    def test_a_signature_by_another_key(self, published: Published) -> None:
        published.release("v9.0.0", "other")
        assert "not the project's" in published.fault("plain")
        # Not even where its key is served in place of the right one.
        right, wrong = published.keys["good"], published.keys["other"]
        published.put(right, published.signer.export(wrong))
        try:
            assert f"it is signed by {wrong}" in published.fault("plain")
        finally:
            published.put(right, published.signer.export(right))
        assert published.left_over() == []

    def test_a_signature_of_another_file(self, published: Published) -> None:
        served = published.host.root / SERVED.lstrip("/")
        name = "lodestar-v{}.tar.gz.asc"
        published.put(name.format("9.0.0"), (served / name.format("1.0.0")).read_bytes())
        assert "the signature is of another file" in published.fault("plain")

    def test_no_signature(self, published: Published) -> None:
        (published.host.root / SERVED.lstrip("/") / "lodestar-v9.0.0.tar.gz.asc").unlink()
        assert "HTTP status 404" in published.fault("plain")
        # Asked for, it does without.
        published.want("v9.0.0", signature="none", signed_by="")
        assert published.start()
        assert published.runs() == "stand-in v9.0.0"

    def test_an_expired_key(self, published: Published) -> None:
        published.release("v9.1.0", "expired", "--faked-system-time", "20240115T000000")
        expired = published.keys["expired"]
        assert "has expired" in published.fault("plain", "v9.1.0", signed_by=expired)

    def test_a_key_of_the_operator(self, published: Published) -> None:
        published.release("v9.2.0", "other")
        other = published.keys["other"]
        keyring = "/etc/validator-supervisor/keyrings/lodestar.gpg"
        published.host.write(keyring, published.signer.export(other).decode())
        served = published.host.root / SERVED.lstrip("/") / other
        served.rename(served.with_suffix(".away"))
        try:
            published.want("v9.2.0", signed_by=other)
            assert published.start()
        finally:
            served.with_suffix(".away").rename(served)
            published.host.run("rm", "-r", "/etc/validator-supervisor/keyrings")
        assert published.runs() == "stand-in v9.2.0"

    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("insecure", "only https is followed"),
            ("hop/6", "leads on more than 5 times"),
            ("huge", "is larger than"),
            ("status/404", "HTTP status 404"),
        ],
    )
    def test_what_a_server_may_not_do(self, published: Published, fault: str, says: str) -> None:
        assert says in published.fault(fault)
        assert published.host.property(UNIT, "ExecMainStatus") == "1"
        assert published.host.property(UNIT, "ActiveState") == "failed"
        assert published.host.property(TIMER, "ActiveState") == "inactive", "nobody tries it again"

    def test_a_server_that_nobody_certifies(self, published: Published) -> None:
        url = "https://localhost/plain/lodestar-{version}.tar.gz"
        assert "CERTIFICATE" in published.fault("plain", url=url)

    def test_a_server_that_is_gone_is_tried_again(self, published: Published) -> None:
        host = published.host
        host.systemctl("stop", SERVER)
        try:
            said = published.fault("plain")
            assert "refused" in said
            assert host.property(TIMER, "ActiveState") == "active"
            # What starts as a validator does, after it and wanting it, is not kept waiting.
            began = time.monotonic()
            host.run("systemd-run", "-q", "--wait", f"--property=After={UNIT}",
                     f"--property=Wants={UNIT}", "/bin/true", seconds=60)  # fmt: skip
            assert time.monotonic() - began < 20
            assert host.property(UNIT, "ActiveState") != "active"
        finally:
            prepare_again(published)
        # A minute later, by itself.
        host.wait_for_unit(UNIT, seconds=80)
        assert published.runs() == "stand-in v9.0.0"
        # And so after the next failure, too.
        published.configure("v9.9.0", "status/503")
        host.wait("the timer", lambda: host.property(TIMER, "SubState") == "waiting")
        assert published.runs() == "stand-in v9.0.0"

    def test_a_cut_goes_on_where_it_was(self, published: Published) -> None:
        published.release("v9.3.0", size=3_000_000)
        assert "too early" in published.fault("cut", "v9.3.0")
        (part,) = published.left_over()
        assert published.host.output("stat", "-c", "%a", f"{PLACE}/{part}") == "600"
        published.want("v9.3.0", "cut")
        published.host.systemctl("start", UNIT)
        assert published.runs() == "stand-in v9.3.0"
        assert published.left_over() == []

    def test_a_server_without_ranges(self, published: Published) -> None:
        published.release("v9.4.0", size=3_000_000)
        published.fault("cut", "v9.4.0")
        published.want("v9.4.0", "whole")
        assert published.start()
        assert published.runs() == "stand-in v9.4.0"

    def test_a_slow_one_is_seen_and_can_be_stopped(self, published: Published) -> None:
        host = published.host
        published.release("v9.5.0", size=20_000_000)
        published.want("v9.5.0", "slow")
        host.systemctl("stop", UNIT)
        host.systemctl("start", "--no-block", UNIT)
        host.wait(
            "progress", lambda: "downloading lodestar v9.5.0: 1 of 19 MiB" in published.status()
        )
        host.systemctl("stop", UNIT)
        assert published.runs() == "stand-in v1.0.0"
        published.want("v9.5.0")
        assert published.start()
        assert published.runs() == "stand-in v9.5.0"

    def test_a_full_disk(self, published: Published) -> None:
        host = published.host
        host.run("mount", "-t", "tmpfs", "-o", "size=100m,mode=755,uid=validator-release",
                 "full", f"{PLACE}/releases")  # fmt: skip
        try:
            published.want("v9.0.0")
            assert not published.start()
            assert "MiB are free" in published.status()
        finally:
            host.systemctl("stop", UNIT)
            host.run("umount", f"{PLACE}/releases")
        assert published.runs() == "stand-in v1.0.0"


def test_hostile_archives_leave_nothing(published: Published) -> None:
    published.want("v1.0.0")
    assert published.start()
    for number, (name, kind) in enumerate(
        [("../../evil", b"0"), ("/etc/evil", b"0"), ("evil", b"1"), ("evil", b"3"), ("evil", b"2")]
    ):
        out, version = io.BytesIO(), f"v8.0.{number}"
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for member, type_ in (("lodestar", b"0"), (name, kind)):
                header = tarfile.TarInfo(member)
                header.type, header.linkname, header.mode = type_, "/etc/passwd", 0o4755
                archive.addfile(header)
        published.put(f"lodestar-{version}.tar.gz", out.getvalue())
        published.digests[version] = hashlib.sha256(out.getvalue()).hexdigest()
        said = published.fault("plain", version, signature="none", signed_by="")
        assert said.startswith("the archive has"), said
        assert published.left_over() == []
    assert published.host.output("find", "/etc", "/var/lib", "/srv", "-name", "evil*") == ""


def test_back_by_hand_and_forward_again(published: Published) -> None:
    host = published.host
    command = ("validator-supervisor", "releases")
    published.release("v1.2.0")
    for version in ("v1.0.0", "v1.2.0"):
        published.want(version)
        assert published.start()
    said = host.output(*command, "rollback", NAME)
    assert "lodestar v1.0.0 instead of lodestar v1.2.0" in said
    assert published.runs() == "stand-in v1.0.0"
    # Over another start of the job, and over a boot.
    assert published.start()
    assert "somebody has gone back to it" in published.status()
    assert published.runs() == "stand-in v1.0.0"
    host.output(*command, "rollback", NAME, "--clear")
    assert published.start()
    assert published.runs() == "stand-in v1.2.0"
    # Nobody else may.
    denied = host.as_user("nobody", *command, "rollback", NAME, check=False)
    assert (denied.returncode, "only root may" in denied.stderr) == (1, True)
    looked = host.as_user("nobody", *command, "list", NAME)
    assert "lodestar v1.2.0" in looked.stdout


def test_old_ones_are_removed_but_not_what_runs(published: Published) -> None:
    host = published.host
    command = ("validator-supervisor", "releases")
    for version in ("v2.0.0", "v2.1.0", "v2.2.0", "v2.3.0"):
        published.release(version)
        published.want(version)
        assert published.start()
    folder = f"{PLACE}/releases/lodestar-v2.0.0-{published.digests['v2.0.0'][:12]}"
    # A stand-in for a validator that was started long ago.
    host.run("systemd-run", "-q", "--unit=old.service", "/bin/sh", "-c", "sleep infinity; :",
             f"{folder}/lodestar")  # fmt: skip
    try:
        host.wait("it", lambda: f"{folder}/lodestar" in host.output("ps", "-eo", "args"))
        removed = host.output(*command, "prune", NAME)
        assert "removed lodestar v2.1.0" in removed
        shown = host.output(*command, "list", NAME).splitlines()
        assert [line.split()[1] for line in shown] == ["v2.3.0", "v2.2.0", "v2.0.0"]
        assert shown[2].endswith("running")
    finally:
        host.systemctl("stop", "old.service")
    assert "removed lodestar v2.0.0" in host.output(*command, "prune", NAME)
    assert host.output(*command, "prune", NAME) == "nothing to remove"


def test_wherever_it_is_killed_the_next_start_goes_on(published: Published) -> None:
    host = published.host
    published.want("v1.0.0")
    assert published.start()
    published.release("v3.0.0")

    def prepare() -> None:
        published.want("v1.0.0")
        published.start()
        host.run("sh", "-c", f"rm -rf {PLACE}/releases/lodestar-v3*")
        host.systemctl("stop", UNIT)
        published.want("v3.0.0")

    with traced(host, UNIT) as trace:
        for point in trace.crashes(lambda: published.start(), prepare):
            assert published.runs() in ("stand-in v1.0.0", "stand-in v3.0.0"), point
            assert published.start()
            assert published.runs() == "stand-in v3.0.0"
            assert published.left_over() == []


def test_the_power_fails_during_a_download(published: Published) -> None:
    host = published.host
    published.want("v1.0.0")
    assert published.start()
    published.release("v4.0.0", size=20_000_000)
    published.want("v4.0.0", "slow")
    host.systemctl("start", "--no-block", UNIT)
    host.wait("progress", lambda: "v4.0.0: 1 of 19 MiB" in published.status())
    host.cut()
    host.boot_again()
    assert published.runs() == "stand-in v1.0.0"
    prepare_again(published)
    published.want("v4.0.0")
    assert published.start()
    assert published.runs() == "stand-in v4.0.0"
    assert published.left_over() == []
