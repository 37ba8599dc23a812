"""Configuration to units: what validator-supervisor-generator (systemd.generator(7)) writes."""

from pathlib import Path

from validator_supervisor.applied import Applied
from validator_supervisor.clients import CLIENTS
from validator_supervisor.nodes import Node
from validator_supervisor.tunnel import NO_IDENTITY
from validator_supervisor.units import tunnel_unit, validator_unit
from validator_supervisor.validators import Ethereum, Validator, home_of

UNITS = "/usr/lib/systemd/system"
HEADER = "# Made by validator-supervisor-generator; see validator-supervisor.yaml(5).\n"
# Where LoadCredentialEncrypted= looks (systemd.exec(5)).
SEALED = Path("/etc/credstore.encrypted")


def units(applied: Applied, sealed: Path = SEALED) -> dict[str, str]:
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
        made[f"{unit}.d/50-config.conf"] = HEADER + _validator(validator, tunnels)
        if validator.enabled:
            made[f"validator.target.wants/{unit}"] = f"{UNITS}/validator@.service"
    return made


def _tunnel(node: Node, sealed: Path) -> str:
    credential = f"validator-tunnel.{node.identity}"
    kind = "LoadCredentialEncrypted" if (sealed / credential).exists() else "LoadCredential"
    # The releases of systemd differ in what a missing credential means; this one is always there.
    return f"[Service]\n{kind}=identity:{credential}\nSetCredential=identity:{NO_IDENTITY}\n"


def _validator(validator: Validator, tunnels: list[Node]) -> str:
    home = home_of(validator)
    unit, service = "", f"User={validator.user}\n"
    if isinstance(validator, Ethereum):
        # Only the tunnels it uses: a start waits for theirs, which takes a while when a node is
        # away.
        used = [tunnel_unit(node.name) for node in tunnels if node.name in validator.nodes]
        unit += f"After={' '.join(used)}\n" if used else ""
        if validator.release.client in CLIENTS:
            service += f"TimeoutStopSec={CLIENTS[validator.release.client].stop_seconds}\n"
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
