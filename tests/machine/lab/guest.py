"""A machine with a kernel and a disk of its own, in QEMU: a power cut there loses what it should.

In a container the kernel outlives a cut, and so does every write. Here it ends with the machine,
and what had not gone from its memory to the disk is lost. What had is kept, flushed or not, as if
the disk had no cache.
"""

import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lab import images
from lab.host import CACHE, RUNS, LabError, digest, made_once, run
from lab.machine import ENVIRONMENT, Machine
from lab.network import Network
from lab.signing import Signing
from lab.standin import Beacon
from lab.world import World

# What takes much of a boot: the initial RAM disk has found all devices, and nobody logs in.
NEEDLESS = ("getty.target", "systemd-logind.service", "systemd-udev-trigger.service")
PACKAGES = ("linux-image-cloud-amd64", "openssh-server")
SIZE = "4G"
# Of QEMU's user networking: the guest, and what it has in place of the loopback outside.
ADDRESS, OUTSIDE = "10.0.2.15", "10.0.2.2"
NETWORK = f"[Match]\nName=eth0\n[Network]\nAddress={ADDRESS}/24\n"


def disk(suite: str) -> Path:
    """Return a directory: a disk with our package, its kernel, and the key that root has there."""
    layers = images.installed(suite, "host", PACKAGES)
    path = CACHE / f"disk-{suite}-{digest(layers[-1].parent.name, Path(__file__))}"
    with made_once(path, f"a disk with Debian {suite}") as fresh:
        if fresh:
            key = fresh / "key"
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key])
            with (
                tempfile.TemporaryDirectory(prefix="disk-", dir=RUNS) as folder,
                Machine.overlay(layers, Path(folder) / "root") as root,
            ):
                (root / "etc/machine-id").write_text("")  # each machine is its own
                (root / "etc/hostname").write_text("host\n")
                (root / "etc/systemd/network/lab.network").write_text(NETWORK)
                (root / "etc/ssh/sshd_config.d/lab.conf").write_text("UsePAM no\n")
                run(["systemctl", f"--root={root}", "enable", "systemd-networkd"])
                run(["systemctl", f"--root={root}", "mask", *NEEDLESS])
                (root / "root/.ssh").mkdir(0o700, exist_ok=True)
                (root / "root/.ssh/authorized_keys").write_bytes(
                    key.with_suffix(".pub").read_bytes()
                )
                for name in ("vmlinuz", "initrd.img"):
                    run(["cp", "--dereference", root / name, fresh / name])
                run(["mke2fs", "-q", "-t", "ext4", "-d", root, fresh / "disk", SIZE], seconds=300)
    return path


class Guest(Machine):
    """A Debian that QEMU has booted in a network namespace; ssh(1) runs programs in it."""

    @classmethod
    @contextlib.contextmanager
    def booted(cls, suite: str, space: str) -> Iterator["Guest"]:
        """Boot a copy of the disk; the namespace's loopback is all that the guest reaches."""
        made = disk(suite)
        with tempfile.TemporaryDirectory(prefix="guest-", dir=RUNS) as folder:
            for name in ("disk", "key", "vmlinuz", "initrd.img"):
                run(["cp", "--sparse=always", made / name, folder])
            guest = cls.started(space, Path(folder))
            try:
                yield guest
            finally:
                guest.cut()

    @classmethod
    def started(cls, space: str, folder: Path) -> "Guest":
        """Boot what is in a directory, and wait until it is up."""
        argv = [
            # However this process ends, QEMU ends with it.
            "ip", "netns", "exec", space, "setpriv", "--pdeathsig", "KILL",
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
            "-accel", "tcg", "-cpu", "qemu64", "-m", "1G", "-display", "none",
            "-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initrd.img",
            "-append", "root=/dev/vda rw net.ifnames=0 console=ttyS0 quiet mitigations=off",
            "-drive", f"file={folder}/disk,format=raw,if=virtio,cache=writeback",
            "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:22-:22",
            "-device", "virtio-net-pci,netdev=net",
            "-serial", f"file:{folder}/console",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            spawned = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)  # fmt: skip
        guest = cls(space, folder, spawned, spawned.pid, partial(cls.started, space, folder))
        try:
            guest.comes_up()
        except BaseException:
            guest.cut()
            raise
        return guest

    def comes_up(self, seconds: float = 300) -> None:
        """Wait until it is up. LabError with what it said last."""
        end = time.monotonic() + seconds
        while not self._is_up():
            if self._spawned.poll() is not None or time.monotonic() > end:
                said = [
                    (self.root / name).read_text(errors="replace") for name in ("log", "console")
                ]
                raise LabError(f"the guest does not boot\n{''.join(said)[-4000:]}")
            time.sleep(1)

    def run(
        self, *argv: str, check: bool = True, seconds: float = 60, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program in the guest as root."""
        # A handshake takes a second here: one for each boot.
        options = ("BatchMode=yes", "ConnectTimeout=20", "ControlMaster=auto", "ControlPersist=yes",
                   f"ControlPath={self.root}/ssh", "LogLevel=ERROR", "StrictHostKeyChecking=no",
                   "UserKnownHostsFile=/dev/null")  # fmt: skip
        ssh = ["ip", "netns", "exec", self.name, "ssh", "-F", "none", "-i", f"{self.root}/key",
               *[f"-o{option}" for option in options], "root@127.0.0.1"]  # fmt: skip
        words = shlex.join([*ENVIRONMENT, *argv])
        return run([*ssh, words], check=check, seconds=seconds, stdin=stdin)


@contextlib.contextmanager
def signing(suite: str, *, near: str, epoch: int) -> Iterator[Signing]:
    """Boot a host as ``Signing.booted`` does, with the chain on the loopback outside."""
    with (
        Network.made() as network,
        tempfile.TemporaryDirectory(prefix="chain-", dir=RUNS) as folder,
    ):
        space = network.switch
        run(["ip", "-n", space, "link", "set", "lo", "up"])
        network.addresses["chain"] = OUTSIDE
        words = ["--slots-per-epoch", str(epoch)]
        with (
            Beacon.started(Path(space), "127.0.0.1", Path(folder), *words) as beacon,
            Guest.booted(suite, space) as guest,
        ):
            found = Signing(World(network, guest, {}), beacon, suite)
            found.prepare(near=near)
            yield found
