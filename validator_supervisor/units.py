"""Names of the units that there is one of for each node and each validator."""

IDENTITY_UNIT = "validator-identity.service"
TARGET = "validator.target"


def tunnel_unit(node: str) -> str:
    """Return the name of the node's tunnel."""
    return f"validator-tunnel@{node}.service"


def validator_unit(name: str) -> str:
    """Return the name of the validator's unit."""
    return f"validator@{name}.service"


def again_unit(name: str) -> str:
    """Return the name of what starts the validator once more after its preparation was killed."""
    return f"validator@{name}.timer"


def state_unit(name: str) -> str:
    """Return the name of the unit that has the validator's keys unpacked while it is active."""
    return f"validator-state@{name}.service"


def backup_unit(name: str, kind: str = "service") -> str:
    """Return the name of the unit that makes and uploads the validator's archives.

    ``kind`` is service, or timer or path for what starts it.
    """
    return f"validator-backup@{name}.{kind}"


def release_unit(name: str) -> str:
    """Return the name of the unit that has the validator's program downloaded."""
    return f"validator-release@{name}.service"
