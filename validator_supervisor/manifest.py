"""The first member of an archive: whose it is, how new it is, and what is in it."""

import re
from dataclasses import asdict, dataclass

from validator_supervisor.document import Value
from validator_supervisor.kinds import NAME
from validator_supervisor.schema import (
    Kind,
    boolean,
    choice,
    integer,
    record,
    sequence,
    setting,
    table,
    text,
)

MANIFEST = "manifest.json"
# The first knows no remote keys, and is still what is written where there are none: whoever has an
# older release reads those, and refuses the others by their version.
PLAIN, VERSION = 1, 2
# What an archive of each kind may hold. No other name ever reaches a file system.
FILES = {
    "ethereum": re.compile(
        r"slashing-protection\.json|retired\.json"
        r"|validators/(?P<key>0x[0-9a-f]{96})/(keystore\.json|password\.txt)"
    ),
    "cosmos": re.compile(
        r"priv_validator_state\.json|node_key\.json|config/[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.toml"
    ),
}
# Of an Ethereum key, and of a Cosmos one: 32 bytes.
KEYS = {"ethereum": r"0x[0-9a-f]{96}", "cosmos": r"0x[0-9a-f]{64}"}
PUBLIC_KEY = text(r"0x([0-9a-f]{96}|[0-9a-f]{64})", "a public key in lower case after 0x")
CHAIN = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "the name of a chain")
ID = text(r"[0-9a-f]{32}", "32 hexadecimal digits")
# 64 bits, as D-Bus and every file system have them, without the sign.
# Seconds since 1970, in the 33 bits that a tar has for them.
TIME = integer(0, (1 << 33) - 1, "a time")
COUNT = integer(0, (1 << 63) - 1, "a number")
PUBLIC_KEYS, REMARKS = sequence(PUBLIC_KEY), sequence(text())


@dataclass(frozen=True)
class File:
    """A member; ``size`` in bytes, ``sha256`` in hexadecimal."""

    size: int = setting(COUNT, "bytes")
    sha256: str = setting(text(r"[0-9a-f]{64}", "a SHA-256"), "of the content")


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself; ``sequence`` grows with each archive of a validator."""

    version: int = setting(integer(PLAIN, VERSION, "the format's version"), "of the format")
    validator: str = setting(NAME, "the name in config.yaml")
    kind: str = setting(choice(*FILES), "of the validator")
    network: str = setting(CHAIN, "its network, or the chain's id")
    host: str = setting(ID, "the host that made it")
    boot: str = setting(ID, "that host's boot (/proc/sys/kernel/random/boot_id)")
    sequence: int = setting(COUNT, "the greater of last + 1 and Unix seconds")
    created: int = setting(TIME, "Unix seconds")
    clean: bool = setting(boolean(), "made after the validator had stopped")
    public_keys: tuple[str, ...] = setting(PUBLIC_KEYS, "the keys that it signs with")
    removed_keys: dict[str, int] = setting(
        table(PUBLIC_KEY, TIME), "keys that have left for ever, and when (Unix seconds)"
    )
    files: dict[str, File] = setting(table(text(), record(File)), "every other member, in order")
    remarks: tuple[str, ...] = setting(REMARKS, "what could not be had, and why", ())
    remote_keys: tuple[str, ...] = setting(
        PUBLIC_KEYS, "those of the keys that a Web3Signer has, and no file here", ()
    )

    def plain(self) -> dict[str, object]:
        """Return the members as they are written; what the version does not know is not there."""
        members = asdict(self)
        if self.version == PLAIN:
            del members["remote_keys"]
        return members

    @classmethod
    def read(cls, value: Value, total: int) -> "Manifest":
        """Read a manifest whose files have at most ``total`` bytes. Raises ConfigError."""
        return MANIFESTS.then(lambda at, found: found._checked(at, total)).read(value)

    def _checked(self, value: Value, total: int) -> "Manifest":
        """Raise ConfigError where the parts of the manifest do not fit each other."""
        keys = [*self.public_keys, *self.removed_keys]
        if len(set(keys)) < len(keys):
            raise value.error("a public key stands there twice")
        for key in keys:
            if not re.fullmatch(KEYS[self.kind], key):
                raise value.error(f"{key} is no public key of kind {self.kind}")
        self._check_remote(value)
        own = {None, *self.public_keys} - {*self.remote_keys}
        for name in self.files:
            found = FILES[self.kind].fullmatch(name)
            if not found:
                raise value.error(f"{name} has no place in an archive of kind {self.kind}")
            if found.groupdict().get("key") not in own:
                raise value.error(f"{name} is of a key that is not among the local public keys")
        if list(self.files) != sorted(self.files):
            raise value.error("the files are not in order")
        if sum(file.size for file in self.files.values()) > total:
            raise value.error(f"the files have more than {total} bytes")
        return self

    def _check_remote(self, value: Value) -> None:
        if (self.version == VERSION) != bool(self.remote_keys):
            raise value.error(
                f"there are remote keys where the version is {VERSION}, and only there"
            )
        if len(set(self.remote_keys)) < len(self.remote_keys):
            raise value.error("a remote key stands there twice")
        unknown = {*self.remote_keys} - {*self.public_keys}
        if unknown or (self.remote_keys and self.kind != "ethereum"):
            raise value.error("a remote key is not among the public keys of an Ethereum validator")


MANIFESTS: Kind[Manifest] = record(Manifest)
