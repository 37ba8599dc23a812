"""The kinds of values that several parts of the configuration have."""

import os

from validator_supervisor import nearest, networks
from validator_supervisor.document import Value
from validator_supervisor.schema import integer, sequence, text

# "validator_NAME" is a user name of at most 31 characters (sysusers.d(5)); the socket paths of a
# node, with what ssh appends while it binds them, must fit sun_path (unix(7), 108 bytes).
NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,19}"
# Only what can stand unquoted in a unit file and in ssh's arguments.
PATH_PATTERN = r"(/[A-Za-z0-9._+@-]+)+"
USER_PATTERN = r"[a-z_][a-z0-9_-]{0,30}"
BELOW_65536 = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
# HOST:PORT, with brackets around an IPv6 address.
ADDRESS_PATTERN = rf"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):({BELOW_65536})"
UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def _normal(value: Value, path: str) -> str:
    if os.path.normpath(path) != path:
        raise value.error(f"expected {os.path.normpath(path)}")
    return path


def _not_mistyped(value: Value, network: str) -> str:
    # Another name is as good as any, but for one letter more, less or twisted.
    question = nearest.question(network, networks.NETWORKS, 0.85)
    if question and network not in networks.NETWORKS:
        raise value.error(f"{network} is too like the name of a public network", question)
    return network


def _seconds(value: Value, words: str) -> int:
    del value
    number = words.rstrip("smindh")
    return int(number) * UNITS[words.removeprefix(number)]


NAME = text(
    NAME_PATTERN, "a name of 1 to 20 of a-z, 0-9, - and _ that begins with a letter or digit"
)
PORT = integer(1, 65535, "a port")
USER = text(USER_PATTERN, "a Unix user")
ABSOLUTE = text(PATH_PATTERN, "an absolute path of letters, digits and . _ + @ -").then(_normal)
ADDRESS = text(ADDRESS_PATTERN, "HOST:PORT")
# With names in braces that the version and the machine fill in (projects.py).
DOWNLOAD = text(
    r"https://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?/([^\s?#{}]|[{](version|number|build|arch)[}])+",
    "a URL, https://, with {version} and {arch}",
)
KEY_SERVER = text(
    r"https://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]+)?/[^\s#{}]*[{]fingerprint[}][^\s#{}]*",
    "a URL, https://, with {fingerprint}",
)
URL = text(r"https?://[^\s/?#@]+(/[^\s?#]*)?", "a URL, http:// or https://")
DURATION = text(r"[1-9][0-9]{0,5}(s|min|m|h|d)", "a duration such as 20s, 5min, 1h or 2d").then(
    _seconds
)
WORDS = sequence(text())
NETWORK = networks.NAME.then(_not_mistyped)
