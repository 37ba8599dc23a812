"""Where the projects of the clients put their releases, and whose keys sign them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

AMD64 = MappingProxyType({"x86_64": "amd64", "aarch64": "arm64"})
# What a URL may name; all but {arch} come from the version.
PLACEHOLDERS = ("version", "number", "build", "arch")


@dataclass(frozen=True)
class Project:
    """How a project publishes its releases.

    ``url`` and ``program``, the path of the validator client in the archive, have placeholders:
    ``{version}`` as it is tagged, ``{number}`` without its v, ``{build}`` what the configured
    version has after a plus sign, and ``{arch}``, the project's word for a machine of uname(2).
    The name of a detached signature is that of its file and ``suffix``. ``fingerprints`` are those
    of the primary keys that may have made it; none: the project does not sign.
    """

    url: str
    program: str
    arch: Mapping[str, str]
    suffix: str = ".asc"
    fingerprints: tuple[str, ...] = ()


PROJECTS: Mapping[str, Project] = MappingProxyType({
    # Its .github/workflows/release.yml packs and signs; SECURITY.md names the key.
    "lighthouse": Project(
        "https://github.com/sigp/lighthouse/releases/download/{version}/"
        "lighthouse-{version}-{arch}-unknown-linux-gnu.tar.gz",
        "lighthouse",
        MappingProxyType({"x86_64": "x86_64", "aarch64": "aarch64"}),
        fingerprints=("15E66D941F697E28F49381F426416DC3F30674B0",),
    ),
    # A program by itself; its prysm.sh names the key.
    "prysm": Project(
        "https://github.com/OffchainLabs/prysm/releases/download/{version}/"
        "validator-{version}-linux-{arch}",
        "validator",
        AMD64,
        ".sig",
        ("0AE0051D647BA3C1A917AF4072E33E4DF1A5036E",),
    ),
    # For every machine that has Java.
    "teku": Project(
        "https://artifacts.consensys.net/public/teku/raw/names/teku.tar.gz/versions/{version}/"
        "teku-{version}.tar.gz",
        "teku-{version}/bin/teku",
        AMD64,
    ),
    # The names of its files have the commit, which no version tells.
    "nimbus": Project(
        "https://github.com/status-im/nimbus-eth2/releases/download/{version}/"
        "nimbus-eth2_Linux_{arch}_{number}_{build}.tar.gz",
        "nimbus-eth2_Linux_{arch}_{number}_{build}/build/nimbus_validator_client",
        MappingProxyType({"x86_64": "amd64", "aarch64": "arm64v8"}),
    ),
    "lodestar": Project(
        "https://github.com/ChainSafe/lodestar/releases/download/{version}/"
        "lodestar-{version}-linux-{arch}.tar.gz",
        "lodestar",
        AMD64,
    ),
})  # fmt: skip


def filled(text: str, version: str, arch: str) -> str:
    """Return a URL or a path with its placeholders filled in."""
    tag, _, build = version.partition("+")
    number = tag.removeprefix("v")
    return text.format(version=tag, number=number, build=build, arch=arch)
