"""Configuration to units: what validator-supervisor-generator (systemd.generator(7)) writes."""

import pwd
from pathlib import Path

from validator_supervisor import place
from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS
from validator_supervisor.nodes import Node
from validator_supervisor.tunnel import NO_IDENTITY
from validator_supervisor.units import (
    IDENTITY_UNIT,
    backup_unit,
    release_unit,
    state_unit,
    tunnel_unit,
    validator_unit,
)
from validator_supervisor.validators import Ethereum, Validator, home_of

UNITS = "/usr/lib/systemd/system"
EXPORT = "/usr/lib/validator-supervisor/export"
# For the final archive itself, on a slow disk.
STOP_SECONDS = 15
HEADER = "# Made by validator-supervisor-generator; see validator-supervisor.yaml(5).\n"
# What a tunnel touches each time that it stands.
CONNECTED = "/run/validator-tunnel/{}/connected"
# Where LoadCredentialEncrypted= looks (systemd.exec(5)).
SEALED = Path("/etc/credstore.encrypted")
# Where LoadCredential= does.
PLAIN = Path("/etc/credstore")
# The name of a passphrase that stands in for the question of validator-passphrase@.service.
UNATTENDED = "validator-identity.passphrase"


def units(applied: Applied, sealed: Path = SEALED, plain: Path = PLAIN) -> dict[str, str]:
    """Return the text of every drop-in by its path below the generator's directory.

    A path in ``.wants/`` has the target of its symbolic link instead of a text.
    """
    made: dict[str, str] = {}
    tunnels = [node for node in applied.config.nodes.values() if node.host]
    for node in tunnels:
        unit = tunnel_unit(node.name)
        made[f"{unit}.d/50-config.conf"] = HEADER + _tunnel(node, sealed)
        made[f"validator.target.wants/{unit}"] = f"{UNITS}/validator-tunnel@.service"
    for validator in applied.config.validators.values():
        unit = validator_unit(validator.name)
        if isinstance(validator, Ethereum):
            state = state_unit(validator.name)
            made[f"{state}.d/50-config.conf"] = HEADER + _state(applied, validator, sealed)
        made[f"{unit}.d/50-config.conf"] = HEADER + _validator(validator, tunnels)
        if validator.enabled:
            made[f"validator.target.wants/{unit}"] = f"{UNITS}/validator@.service"
    return made | _identity(sealed, plain) | _backups(applied, sealed)


def _identity(sealed: Path, plain: Path) -> dict[str, str]:
    """Return what opens the identity at boot with nobody there."""
    kinds = {"LoadCredentialEncrypted": sealed, "LoadCredential": plain}
    for kind, store in kinds.items():
        if (store / UNATTENDED).exists():
            loads = f"[Service]\n{kind}=passphrase:{UNATTENDED}\n"
            return {
                "validator-passphrase@.service.d/50-config.conf": HEADER + loads,
                f"validator.target.wants/{IDENTITY_UNIT}": f"{UNITS}/{IDENTITY_UNIT}",
            }
    return {}


def _backups(applied: Applied, sealed: Path) -> dict[str, str]:
    """Return the drop-ins of backups, which run while the state is there, and of the drill."""
    takers = [node for node in applied.config.nodes.values() if node.backups]
    stand = [f"PathChanged={CONNECTED.format(node.name)}\n" for node in takers if node.host]
    every = f"{HEADER}[Timer]\nOnUnitActiveSec={applied.config.backup.interval}\n"
    made: dict[str, str] = {}
    for validator in applied.config.ethereum:
        name, wants = validator.name, f"{state_unit(validator.name)}.wants"
        places = f"{HEADER}[Service]\n{_places(applied, validator.user, sealed)}"
        made[f"{backup_unit(name)}.d/50-config.conf"] = places
        made[f"{backup_unit(name, 'timer')}.d/50-config.conf"] = every
        made[f"{wants}/{backup_unit(name, 'timer')}"] = f"{UNITS}/validator-backup@.timer"
        if stand:
            paths = f"{HEADER}[Path]\n{''.join(stand)}"
            made[f"{backup_unit(name, 'path')}.d/50-config.conf"] = paths
            made[f"{wants}/{backup_unit(name, 'path')}"] = f"{UNITS}/validator-backup@.path"
    if takers and made:
        places = f"{HEADER}[Service]\n{_places(applied, '', sealed)}"
        made["validator-drill.service.d/50-config.conf"] = places
        wants = f"{IDENTITY_UNIT}.wants"
        made[f"{wants}/validator-drill.timer"] = f"{UNITS}/validator-drill.timer"
    return made


def _tunnel(node: Node, sealed: Path) -> str:
    credential = f"validator-tunnel.{node.identity}"
    kind = "LoadCredentialEncrypted" if (sealed / credential).exists() else "LoadCredential"
    # The releases of systemd differ in what a missing credential means; this one is always there.
    return f"[Service]\n{kind}=identity:{credential}\nSetCredential=identity:{NO_IDENTITY}\n"


def _state(applied: Applied, validator: Ethereum, sealed: Path) -> str:
    every = [tunnel_unit(node.name) for node in applied.config.nodes.values() if node.host]
    unit = f"[Unit]\nAfter={' '.join(every)}\n\n" if every else ""
    # The upload has its own limit, within this one.
    stop = applied.config.backup.stop_timeout + STOP_SECONDS
    return f"{unit}[Service]\n{_places(applied, validator.user, sealed)}TimeoutStopSec={stop}\n"


def _places(applied: Applied, user: str, sealed: Path) -> str:
    """Return what a job needs that works with archives: the group of ``user``, and places."""
    lines = [f"Group={group_of(user)}"] if user else []
    lines += place.credentials(applied, sealed)
    if local := place.writable(applied):
        lines.append(f"ReadWritePaths={' '.join(local)}")
    return "".join(f"{line}\n" for line in lines)


def group_of(user: str) -> str:
    """Return a user's group, by which it reads the keys that are handed over to it."""
    try:
        return str(pwd.getpwnam(user).pw_gid)
    except KeyError:
        return user  # not there yet; systemd-sysusers(8) makes a group of the same name


def _validator(validator: Validator, tunnels: list[Node]) -> str:
    home = home_of(validator)
    unit, service = "", f"User={validator.user}\n"
    if isinstance(validator, Ethereum):
        # Only the tunnels it uses: a start waits for theirs, which takes a while when a node is
        # away.
        used = [tunnel_unit(node.name) for node in tunnels if node.name in validator.nodes]
        unit += f"After={' '.join(used)}\n" if used else ""
        state = state_unit(validator.name)
        unit += f"After={state}\nBindsTo={state}\n"
        if validator.release.version:
            # Not Requires=: an older release that is there does as well.
            release = release_unit(validator.name)
            unit += f"After={release}\nWants={release}\n"
        # A client has its keys plain in memory, and writes to a directory there; one that goes mad
        # does not take this host and the other validators with it.
        service += "MemoryMax=75%\nMemorySwapMax=0\n"
        # Its start may watch two epochs; every step of it has a limit of its own.
        service += f"ExecStopPost={EXPORT} %i\nReadWritePaths=-/run/validator-state/%i\n"
        service += "TimeoutStartSec=infinity\n"
        client = CLIENTS[validator.release.client]
        service += f"TimeoutStopSec={client.stop_seconds}\n"
        if client.stopped:
            service += f"SuccessExitStatus={client.stopped}\n"
    if home:
        unit += f"RequiresMountsFor={home}\n"
        service += _access(home)
    if validator.environment_file:
        service += f"EnvironmentFile={validator.environment_file}\n"
    return (f"[Unit]\n{unit}\n" if unit else "") + f"[Service]\n{service}"


def _access(home: str) -> str:
    # The homes of people stay hidden, but for the one directory.
    hidden = Path(home).is_relative_to("/home") or Path(home).is_relative_to("/root")
    way = f"ProtectHome=tmpfs\nBindPaths={home}" if hidden else f"ReadWritePaths={home}"
    return f"{way}\nWorkingDirectory={home}\n"


def write(made: dict[str, str], directory: Path) -> None:
    """Write the units below ``directory``, which systemd has just made."""
    for name, content in made.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.suffix == ".wants":
            path.symlink_to(content)
        else:
            path.write_text(content)
