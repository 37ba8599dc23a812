"""Names of the units that there is one of for each node and each validator."""


def tunnel_unit(node: str) -> str:
    """Return the name of the node's tunnel."""
    return f"validator-tunnel@{node}.service"


def validator_unit(name: str) -> str:
    """Return the name of the validator's unit."""
    return f"validator@{name}.service"
