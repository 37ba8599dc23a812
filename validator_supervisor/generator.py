"""Configuration to units: what validator-supervisor-generator (systemd.generator(7)) writes."""

from pathlib import Path

from validator_supervisor.clients import CLIENTS
from validator_supervisor.config import Applied, Node, Validator
from validator_supervisor.tunnel import NO_IDENTITY

UNITS = "/usr/lib/systemd/system"
HEADER = "# Made by validator-supervisor-generator; see validator-supervisor.yaml(5).\n"
# Where LoadCredentialEncrypted= looks (systemd.exec(5)).
SEALED = Path("/etc/credstore.encrypted")


def tunnel_unit(node: str) -> str:
    """Return the name of the node's tunnel."""
    return f"validator-tunnel@{node}.service"


def validator_unit(name: str) -> str:
    """Return the name of the validator's unit."""
    return f"validator@{name}.service"


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
    text = "[Unit]\n"
    # Only the tunnels it uses: a start waits for theirs, which takes a while when a node is away.
    used = [tunnel_unit(node.name) for node in tunnels if node.name in validator.nodes]
    if used:
        text += f"After={' '.join(used)}\n"
    text += f"\n[Service]\nUser={validator.user}\n"
    if validator.kind == "ethereum":
        text += f"TimeoutStopSec={CLIENTS[validator.release.client].stop_seconds}\n"
    if validator.environment_file:
        text += f"EnvironmentFile={validator.environment_file}\n"
    return text


def write(made: dict[str, str], directory: Path) -> None:
    """Write the units below ``directory``, which systemd has just made."""
    for name, content in made.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.suffix == ".wants":
            path.symlink_to(content)
        else:
            path.write_text(content)
