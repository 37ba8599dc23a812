"""`validator-supervisor exit`: a voluntary exit of one key, when a person has typed that key."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from validator_supervisor import ending, handover, journal, nearest, run
from validator_supervisor.applied import Applied, started_with
from validator_supervisor.bus import names
from validator_supervisor.cli import confirm, exit_job, import_keystore, streams, switch
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.job import HELPERS
from validator_supervisor.clients import CLIENTS
from validator_supervisor.clients.client import Client as Adapter
from validator_supervisor.errors import SupervisorError
from validator_supervisor.validators import Ethereum, Keys

# A look at each of a few nodes.
SECONDS = 180
# Of the key, what a person types.
TYPED = 10
# How near one key must be to another for a slip: two of chance are alike to less than a half.
ALIKE = 0.8
# As in validator@.service, where the reasons are.
SANDBOX = (
    "CapabilityBoundingSet=",
    "DevicePolicy=closed",
    "KeyringMode=private",
    "LimitCORE=0",
    "LockPersonality=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "Slice=validator.slice",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "UMask=0077",
)
# Its own: it has a key, and the answers of beacon nodes, for as long as the identity is open.
OWN = (
    "MemoryMax=2G",
    "MemorySwapMax=0",
    "PartOf=validator-identity.service",
    "RuntimeMaxSec=30min",
)


def exit_key(client: Client, name: str, typed: str, given: str | None, *, as_json: bool) -> int:
    """Exit a key; ``given`` is what a script types. Raises SupervisorError."""
    mine, key = _chosen(client, name, typed)
    words = [name, key, exit_job.JSON if as_json else exit_job.TEXT]
    done = run.run(command(mine, [exit_job.LOOK, *words]), seconds=SECONDS, check=False)
    sys.stderr.write(_shown(done.stderr))
    if done.returncode == 0 and not done.stdout:
        _go_on(mine, key, words, given)
    # Refused, or on its way already.
    streams.write(_shown(done.stdout))
    return done.returncode


def _chosen(client: Client, name: str, typed: str) -> tuple[Ethereum, str]:
    """Return the validator as it was started, and its key. Raises SupervisorError."""
    import_keystore.check(Applied.load(), name)
    if os.geteuid() != 0:
        raise SupervisorError("NotRoot", "this signs with a key: only root may", "use sudo")
    key = _key(name, typed, _running(client, name))
    mine = {one.name: one for one in started_with(name).config.ethereum}[name]
    # Another one may be configured since.
    adapter = ending.client_of(f"/run/validator/{name}") or CLIENTS[mine.release.client]
    _refuse_unable(mine, adapter)
    return mine, key


def _refuse_unable(mine: Ethereum, adapter: Adapter) -> None:
    """Refuse an exit that the client that runs cannot sign. Raises SupervisorError."""
    able = {name: other for name, other in CLIENTS.items() if other.exit}
    problem, what = adapter.no_exit, "key"
    if isinstance(mine.keys, Keys):
        able = {name: other for name, other in able.items() if not other.no_remote_exit}
        problem, what = problem or adapter.no_remote_exit, "key of a Web3Signer"
    if problem:
        message = f"{mine.release.client} exits no {what}: {problem}"
        raise SupervisorError(
            "NotSupported", message, f"change release: to one of {', '.join(able)}"
        )


def _go_on(mine: Ethereum, key: str, words: Sequence[str], given: str | None) -> NoReturn:
    if given is None:
        what = f"the first {TYPED} characters of the key"
        confirm.typed(key[:TYPED], f"--confirm {key}", what=what)
    else:
        confirm.given(key, normal(given))
    _audit(mine.name, key)
    # The job does not get root's terminal to read from.
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    run.become(command(mine, [exit_job.EXIT, *words]))


def normal(key: str) -> str:
    """Return a public key as it is written here: small letters, 0x."""
    return f"0x{key.lower().removeprefix('0x')}"


def _running(client: Client, name: str) -> list[str]:
    """Return the keys of a validator that runs. Raises SupervisorError ``NotRunning``."""
    found = client.objects().get(names.validator_path(name), {}).get(names.VALIDATOR)
    if found is None:
        raise switch.unknown(client, name)
    keys = found.get("PublicKeys")
    if found.get("ActiveState") != "active" or not isinstance(keys, list):
        hint = f"its keys are only there while it runs: validator-supervisor start {name}"
        raise SupervisorError("NotRunning", f"{name} does not run", hint)
    return [str(key) for key in keys]


def _key(name: str, typed: str, keys: Sequence[str]) -> str:
    key = normal(typed)
    if key not in keys:
        hint = nearest.question(key, keys, ALIKE) or "validator-supervisor status --json"
        raise SupervisorError("UnknownKey", f"{name} has no key {typed}", hint)
    return key


def command(validator: Ethereum, words: Sequence[str]) -> list[str]:
    """Return the arguments of systemd-run(1): the job has the user and the sandbox of the client.

    It may write among the client's keys in memory, and nowhere else: to no database.
    """
    place = handover.ROOT / validator.name / handover.CLIENT
    lines = [*SANDBOX, *OWN, f"User={validator.user}", f"ReadWritePaths={place}"]
    if validator.environment_file:
        lines.append(f"EnvironmentFile={validator.environment_file}")
    argv = ["/usr/bin/systemd-run", "--quiet", "--collect", "--pipe", "--wait"]
    for line in lines:
        argv += ["-p", line]
    return [*argv, "--", str(HELPERS / "exit"), *words]


def _shown(said: bytes) -> str:
    lines = said.decode(errors="replace").splitlines()
    return "".join(f"{journal.printable(line)}\n" for line in lines)


def _audit(name: str, key: str) -> None:
    caller = os.environ.get("SUDO_UID", str(os.getuid()))
    path = names.validator_path(name)
    journal.audit(
        f"Exit({key}) of {path} by uid {caller}: asked",
        VALIDATOR_METHOD="Exit",
        VALIDATOR_ARGUMENTS=key,
        VALIDATOR_OBJECT=path,
        VALIDATOR_CALLER_UID=caller,
        VALIDATOR_RESULT="asked",
    )
