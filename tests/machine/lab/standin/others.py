#!/usr/bin/python3
"""Stand-ins for the four clients that cannot run here: Lighthouse, Prysm, Teku and Nimbus.

Installed under the name of one of their programs it takes that program's command line, and no other
(docs/clients.md has where each of their habits was read): what it does not know, it refuses as they
do. It finds keys where they do, insists on what they insist on, and then becomes the stand-in
beside it, which signs; of that one's log their databases are made.

Environment: STANDIN_END=doppelganger or locked has it say so in their words, and end as they do.
"""

import base64
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

CLIENT = str(Path(__file__).with_name("client"))
USAGE = {"lighthouse": 2, "teku": 2, "validator": 0, "nimbus_validator_client": 1,
         "nimbus_beacon_node": 1}  # fmt: skip
# What each has to be told; an option without a value has none here.
FLAGS = {
    "lighthouse": {
        "--network", "--testnet-dir", "--validators-dir", "--secrets-dir",
        "--disable-auto-discover=",
        "--beacon-nodes", "--suggested-fee-recipient", "--logfile-max-number",
        "--enable-doppelganger-protection=",
        "--keystore", "--password-file", "--beacon-node", "--no-confirmation=", "--no-wait=",
    },
    "teku": {
        "--network", "--data-path", "--validator-keys", "--beacon-node-api-endpoints",
        "--validators-proposer-default-fee-recipient", "--log-destination", "--log-color-enabled",
        "--to", "--from", "--doppelganger-detection-enabled",
        "--beacon-node-api-endpoint", "--validator-public-keys", "--confirmation-enabled",
    },
    "validator": {
        "--accept-terms-of-use=", "--datadir", "--wallet-dir", "--wallet-password-file",
        "--beacon-rest-api-provider", "--suggested-fee-recipient", "--enable-doppelganger=",
        "--slashing-protection-export-dir", "--slashing-protection-json-file",
    },
    "nimbus_validator_client": {
        "--non-interactive=", "--data-dir", "--validators-dir", "--secrets-dir", "--beacon-node",
        "--beacon-node-mode", "--suggested-fee-recipient", "--doppelganger-detection",
    },
    "nimbus_beacon_node": {"--data-dir", "--validators-dir"},
}  # fmt: skip
ENDS = {
    ("lighthouse", "doppelganger"):
        (1, "Nov 21 12:00:00.000 CRIT  Doppelganger(s) detected  doppelganger_indices: [1]"),
    ("lighthouse", "locked"):
        (1, "Nov 21 12:00:00.000 ERROR Failed to start validator client  reason: \"Unable to "
            "initialize validators: Lockfile(FileLocked(..))\""),
    ("teku", "doppelganger"): (2, "FATAL - Validator doppelganger detected..."),
    ("teku", "locked"):
        (2, "Failed to load keystore, error Keystore file /k/0xab.json.lock already in use."),
    ("validator", "doppelganger"):
        (0, 'level=error msg="Could not create validator runner" error="could not succeed with '
            "doppelganger check: Duplicate instances exists in the network for validator keys: "
            '0xab"'),
    ("validator", "locked"):
        (1, "cannot obtain database lock, database may be in use by another process"),
    ("nimbus_validator_client", "doppelganger"):
        (129, "FTL 2026-11-21 12:00:00.000+00:00 Doppelganger detection triggered! It appears a "
              "validator loaded into this process is already live on the network"),
    ("nimbus_validator_client", "locked"): (1, "ERR Unable to lock keystore file key_path=/k"),
}  # fmt: skip


class ClientError(Exception):
    """What ends the program; the status is the first argument."""


class Options:
    """The words of a command line: every option must be known to the client."""

    def __init__(self, program: str, words: Sequence[str]) -> None:
        self.command: list[str] = []
        self._found: dict[str, list[str]] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--"):
                self.command.append(word)
                continue
            name, equals, value = word.partition("=")
            if f"{name}=" in FLAGS[program]:
                value = ""
            elif name not in FLAGS[program] or not (equals or rest):
                raise ClientError(USAGE[program], f"unexpected argument {word}")
            elif not equals:
                value = rest.pop(0)
            self._found.setdefault(name, []).append(value)

    def one(self, name: str) -> str:
        """Return the value of an option that must be there once."""
        values = self._found.get(name, [])
        if len(values) != 1:
            raise ClientError(1, f"{name}: {len(values)} times")
        return values[0]

    def folder(self, name: str) -> Path:
        """Return a directory that must be there."""
        path = Path(self.one(name))
        if not path.is_dir():
            raise ClientError(1, f"{path} is no directory")
        return path

    def all(self, name: str) -> list[str]:
        """Return every value of an option, with commas or without."""
        return [part for value in self._found.get(name, []) for part in value.split(",")]


def lighthouse(options: Options) -> NoReturn:
    """Lighthouse: definitions, explicit paths, keys that are registered."""
    options.one("--testnet-dir")  # the network of the tests is none that it knows
    if options.command == ["account", "validator", "exit"]:
        options.folder("--validators-dir")
        options.one("--no-confirmation")
        options.one("--no-wait")
        keystore, password = Path(options.one("--keystore")), Path(options.one("--password-file"))
        key = keystore.parent.name
        leave({key: (keystore, password)}, [key], options.one("--beacon-node"))
    if options.command != ["vc"]:
        folder = Path(options.one("--validators-dir"))
        if options.command[:3] != ["account", "validator", "slashing-protection"]:
            raise ClientError(2, f"unexpected command {options.command}")
        command, file = options.command[3:]
        if command == "import":
            (folder / "slashing_protection.sqlite").touch()
        elif not (folder / "slashing_protection.sqlite").exists():
            raise ClientError(1, "Unable to open database")
        tool(command, folder, file)
    folder = options.folder("--validators-dir")
    options.folder("--secrets-dir")
    database = linked(folder / "slashing_protection.sqlite")
    if not (database / "slashing_protection.sqlite").is_file():
        raise ClientError(1, "Failed to open slashing protection database")
    keys = {}
    for one in json.loads((folder / "validator_definitions.yml").read_text()):
        if (one["enabled"], one["type"]) != (True, "local_keystore"):
            raise ClientError(1, "a definition of another kind")
        keystore, password = (
            Path(one[f"voting_keystore_{name}"]) for name in ("path", "password_path")
        )
        if one["voting_public_key"] not in (database / "log").read_text():
            raise ClientError(1, "One or more validators not found in slashing protection database")
        keys[one["voting_public_key"]] = keystore, password
    sign(keys, database, options.all("--beacon-nodes"))


def teku(options: Options) -> NoReturn:
    """Teku: pairs of files of one name, a database for each key."""
    if options.command == ["voluntary-exit"]:
        if options.one("--confirmation-enabled") != "false":
            raise ClientError(1, "Are you sure you wish to continue (yes/no)?")
        found, wanted = pairs(options), options.all("--validator-public-keys")
        leave(found, wanted or list(found), options.one("--beacon-node-api-endpoint"))
    data = Path(options.one("--data-path"))
    database = data / "validator/slashprotection"
    if options.command[1:] == ["import"]:
        database.mkdir(parents=True, exist_ok=True)
    if options.command[:1] == ["slashing-protection"]:
        command = options.command[1]
        if command == "export" and not database.is_dir():
            raise ClientError(1, "Unable to locate the path containing slashing protection data.")
        tool(command, database, options.one("--to" if command == "export" else "--from"))
    if options.command != ["validator-client"]:
        raise ClientError(2, f"unexpected command {options.command}")
    sign(pairs(options), database, options.all("--beacon-node-api-endpoints"), stopped=143)


def pairs(options: Options) -> dict[str, tuple[Path, Path]]:
    """Return the files of Teku's keys."""
    keystores, passwords = (Path(part) for part in options.one("--validator-keys").split(":"))
    return {
        path.stem: (path, passwords / f"{path.stem}.txt") for path in keystores.glob("0x*.json")
    }


def prysm(options: Options) -> NoReturn:
    """Prysm: one wallet, one database, and 0 for nearly every failure."""
    options.one("--accept-terms-of-use")
    database = Path(options.one("--datadir"))
    if options.command[:1] == ["slashing-protection-history"]:
        if not (database / "validator.db").exists():
            raise ClientError(1, "validator.db was not found, so nothing to import")
        command = options.command[1]
        if command == "export":
            file = options.folder("--slashing-protection-export-dir") / "slashing_protection.json"
            tool(command, database, str(file))
        tool(command, database, options.one("--slashing-protection-json-file"))
    wallet = options.folder("--wallet-dir") / "direct/accounts/all-accounts.keystore.json"
    if stat.S_IMODE(wallet.stat().st_mode) != 0o600:
        raise ClientError(0, "file already exists without proper 0600 permissions")
    password = Path(options.one("--wallet-password-file")).read_text().rstrip("\r\n")
    if len(password) < 8:
        raise ClientError(0, "password must have more than 8 characters")
    made = Path("standin-wallet").absolute()
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    for key in public_keys(json.loads(wallet.read_bytes()), password.encode()):
        (made / key).write_text('{"crypto": {"its": "wallet"}}')
    keys = {path.name: (path, path) for path in made.iterdir()}
    sign(keys, database, options.all("--beacon-rest-api-provider"))


def public_keys(stored: dict[str, Any], password: bytes) -> list[str]:
    """Open a wallet (EIP-2335 with PBKDF2) and return its public keys."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    crypto = stored["crypto"]
    cost = crypto["kdf"]["params"]
    salt = bytes.fromhex(cost["salt"])
    key = hashlib.pbkdf2_hmac("sha256", password, salt, cost["c"], cost["dklen"])
    message = bytes.fromhex(crypto["cipher"]["message"])
    if hashlib.sha256(key[16:] + message).hexdigest() != crypto["checksum"]["message"]:
        raise ClientError(0, "wrong password for wallet entered")
    counter = bytes.fromhex(crypto["cipher"]["params"]["iv"])
    cipher = Cipher(algorithms.AES(key[:16]), modes.CTR(counter)).encryptor()
    lists = json.loads(cipher.update(message) + cipher.finalize())
    if len(lists["private_keys"]) != len(lists["public_keys"]) or stored["version"] != 4:
        raise ClientError(0, "no wallet")
    return [f"0x{base64.b64decode(text).hex()}" for text in lists["public_keys"]]


def nimbus(options: Options) -> NoReturn:
    """Nimbus: modes are checked, the database is beside the keys."""
    options.one("--non-interactive")
    if options.one("--beacon-node-mode") != "fallback" or options.command:
        raise ClientError(1, "Failure while loading the configuration:")
    folder, secrets = options.folder("--validators-dir"), options.folder("--secrets-dir")
    keys = {}
    for place in folder.glob("0x*"):
        keystore, password = place / "keystore.json", secrets / place.name
        if place.is_symlink() or stat.S_IMODE(password.stat().st_mode) != 0o600:
            raise ClientError(1, "Password file has insecure permissions")
        keystore.open("r+").close()
        keys[place.name] = keystore, password
    sign(keys, linked(folder / "slashing_protection.sqlite3"), options.all("--beacon-node"))


def nimbus_tools(options: Options) -> NoReturn:
    """``nimbus_beacon_node``: changes the mode of its data directory before anything else."""
    Path(options.one("--data-dir")).mkdir(mode=0o700, exist_ok=True)
    Path(options.one("--data-dir")).chmod(0o700)
    if options.command[:1] != ["slashingdb"]:
        raise ClientError(1, "Failure while loading the configuration:")
    folder = options.folder("--validators-dir")
    command, file = options.command[1:]
    if command == "export" and not (folder / "slashing_protection.sqlite3").exists():
        raise ClientError(1, "Failed to load the Slashing protection database")
    (folder / "slashing_protection.sqlite3").touch()
    tool(command, folder, file)


def linked(path: Path) -> Path:
    """Return the directory in which a database is that is linked to."""
    if not path.is_symlink():
        raise ClientError(1, f"{path} is in memory")
    return path.readlink().parent


def tool(command: str, database: Path, file: str) -> NoReturn:
    """Become the other stand-in's command for a database."""
    words = ["validator", "slashing-protection", command, "--validatorsDbDir", str(database)]
    os.environ |= {"STANDIN_VERSION": "5", "STANDIN_ASKS": "0"}
    os.execv(CLIENT, [CLIENT, *words, "--dataDir", str(database), "--file", file])


def sign(
    keys: Mapping[str, tuple[Path, Path]], database: Path, beacons: Sequence[str], stopped: int = 0
) -> NoReturn:
    """Lay the keys out as the other stand-in wants them, and become it."""
    made = laid_out(Path("standin-keys").absolute(), keys)
    os.environ["STANDIN_STOPPED"] = str(stopped)
    words = ["validator", "--dataDir", str(made), "--validatorsDbDir", str(database)]
    os.execv(CLIENT, [CLIENT, *words, "--beaconNodes", *beacons])


def leave(keys: Mapping[str, tuple[Path, Path]], wanted: Sequence[str], url: str) -> NoReturn:
    """Become the other stand-in's command for an exit."""
    made = laid_out(Path(tempfile.mkdtemp()) / "keys", keys)
    words = ["validator", "voluntary-exit", "--dataDir", str(made), "--yes", "--force"]
    os.execv(CLIENT, [CLIENT, *words, "--beaconNodes", url, "--pubkeys", *wanted])


def laid_out(made: Path, keys: Mapping[str, tuple[Path, Path]]) -> Path:
    """Make a directory of the keys as the other stand-in wants them."""
    shutil.rmtree(made, ignore_errors=True)
    (made / "secrets").mkdir(parents=True)
    for key, (keystore, password) in keys.items():
        if not keystore.read_bytes() or not password.read_bytes():
            raise ClientError(1, f"{key}: no keystore, or no password")
        (made / "keystores" / key).mkdir(parents=True)
        (made / "keystores" / key / "voting-keystore.json").symlink_to(keystore)
        (made / "secrets" / key).symlink_to(password)
    return made


PROGRAMS = {
    "lighthouse": lighthouse,
    "teku": teku,
    "validator": prysm,
    "nimbus_validator_client": nimbus,
    "nimbus_beacon_node": nimbus_tools,
}


def main(program: str, words: Sequence[str]) -> int:
    """Do what the command line says."""
    status, said = ENDS.get((program, os.environ.get("STANDIN_END", "")), (0, ""))
    try:
        options = Options(program, words)
        if said and (not options.command or options.command[0] in ("vc", "validator-client")):
            raise ClientError(status, said)
        PROGRAMS[program](options)
    except ClientError as failure:
        print(failure.args[1])
        return int(failure.args[0])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
