"""Names on the bus (validator-supervisor.service(8))."""

SERVICE = "org.validatorsupervisor1"
ROOT = "/org/validatorsupervisor1"
ERROR = f"{SERVICE}.Error."

MANAGER = f"{SERVICE}.Manager"
VALIDATOR = f"{SERVICE}.Validator"
NODE = f"{SERVICE}.Node"

PROPERTIES = "org.freedesktop.DBus.Properties"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PEER = "org.freedesktop.DBus.Peer"


def escape(name: str) -> str:
    """Return ``name`` as one element of an object path, the way sd_bus_path_encode(3) does."""
    return "".join(
        c if c.isascii() and (c.isalpha() or (c.isdigit() and i)) else f"_{ord(c):02x}"
        for i, c in enumerate(name)
    )


def validator_path(name: str) -> str:
    """Return the object path of a validator."""
    return f"{ROOT}/validator/{escape(name)}"


def node_path(name: str) -> str:
    """Return the object path of a node."""
    return f"{ROOT}/node/{escape(name)}"
