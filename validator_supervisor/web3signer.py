"""A Web3Signer (https://docs.web3signer.consensys.io): which keys it has, and which of them sign.

What it lists changes whenever somebody changes it, for whatever validator. So only keys sign that a
person has adopted, which an archive says; what it lists can make them fewer, and never more.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from validator_supervisor import contents, nearest
from validator_supervisor.connection import Server
from validator_supervisor.contents import AnyKey, Contents
from validator_supervisor.document import parse_json
from validator_supervisor.errors import TEMPORARY, ConfigError, SupervisorError
from validator_supervisor.validators import Ethereum, Keys

PUBLIC_KEYS = "/api/v1/eth2/publicKeys"
SECONDS = 10.0
KEYS_MAX = 10_000
# A key is 98 characters in quotes, and what stands between two of them.
SIZE_MAX = 128 * KEYS_MAX
KEY = r"(0x)?[0-9a-fA-F]{96}"
# Two keys have every sixteenth digit in common by chance; a slip leaves nearly all.
ALIKE = 0.9


@dataclass(frozen=True)
class Chosen:
    """The keys of a start. Of those that were adopted the others are ``missing``, where the signer
    does not have them any more, or ``left_out`` by the configuration; ``strange`` are keys of the
    signer that the configuration wants, and nobody has adopted.
    """

    keys: tuple[str, ...]
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def absent(self) -> tuple[str, ...]:
        """Return what was adopted and does not sign: when it comes back it may have elsewhere."""
        return self.missing + self.left_out


def address(keys: Keys) -> str:
    """Return the signer's URL, as it stands before a path."""
    return keys.web3signer.rstrip("/")


def listed(keys: Keys) -> tuple[str, ...]:
    """GET /api/v1/eth2/publicKeys: the keys that the signer has, in order, each once.

    Raises SupervisorError: ``NoSigner``, which is temporary, and ``NotReadable``.
    """
    server = Server(address(keys), SECONDS, SIZE_MAX, _readable(keys.certificate))
    try:
        answer = server.request("GET", PUBLIC_KEYS)
    except SupervisorError as failure:
        raise _unusable(keys, failure.message) from None
    if answer.status != 200:
        raise _unusable(keys, f"{PUBLIC_KEYS} is answered with status {answer.status}")
    try:
        return parse(answer.content)
    except ConfigError as failure:
        raise _unusable(keys, failure.message) from None


def parse(raw: bytes) -> tuple[str, ...]:
    """Return the public keys of an answer, in lower case. Raises ConfigError."""
    items = parse_json(raw, PUBLIC_KEYS).items()
    if len(items) > KEYS_MAX:
        raise ConfigError(PUBLIC_KEYS, f"more than {KEYS_MAX} keys")
    found = [item.string(KEY, "a public key, 0x and 96 hexadecimal digits") for item in items]
    return tuple(sorted({normal(key) for key in found}))


def normal(key: str) -> str:
    """Return a public key as archives have it."""
    return f"0x{key.lower().removeprefix('0x')}"


def _readable(certificate: str) -> str:
    """Return the path. Raises SupervisorError ``NotReadable``."""
    if certificate:
        try:
            with open(certificate, "rb"):  # noqa: PTH123  # only whether it can be
                pass
        except OSError as failure:
            message = f"{certificate}: {failure.strerror}"
            hint = "everybody must be able to read it, and it is not below /home or /root"
            raise SupervisorError("NotReadable", message, hint) from None
    return certificate


def _unusable(keys: Keys, problem: str) -> SupervisorError:
    message = f"Web3Signer {address(keys)}: {problem}"
    return SupervisorError("NoSigner", message, exit_status=TEMPORARY)


def wanted(keys: Keys, every: Iterable[str]) -> tuple[str, ...]:
    """Return the keys that the configuration wants, ``every`` being those that there are."""
    if isinstance(keys.public_keys, str):
        return tuple(every)
    return tuple(normal(key) for key in keys.public_keys)


def check(validator: Ethereum, there: Mapping[str, AnyKey]) -> None:
    """Refuse keys that are not where the configuration has them. Raises ``OtherKeys``."""
    name, own, remote = validator.name, contents.local(there), contents.remote(there)
    if isinstance(validator.keys, Keys) and own:
        message = f"keys: of {name} names a Web3Signer, and its archive has {len(own)} keystores"
        hint = "a validator has the one or the other: remove-key those first, or keys: local"
        raise SupervisorError("OtherKeys", message, hint)
    if not isinstance(validator.keys, Keys) and remote:
        message = f"a Web3Signer has {len(remote)} keys of {name}, and its keys: names none"
        hint = "keys: {web3signer: URL}, or remove-key those first"
        raise SupervisorError("OtherKeys", message, hint)


def chosen(validator: Ethereum, newest: Contents) -> Chosen:
    """Return the keys of a start, by the newest archive. Raises ``OtherKeys``, and as ``listed``.

    All of them where they are keystores.
    """
    check(validator, newest.keys)
    if not isinstance(validator.keys, Keys) or not newest.keys:
        return Chosen(tuple(newest.keys))
    found = choose(validator.keys, newest, listed(validator.keys))
    if not found.keys:
        problem = f"it has none of the {len(newest.keys)} keys of {validator.name}"
        if not found.missing:
            problem = f"public_keys: has none of the adopted keys of {validator.name}"
        raise _unusable(validator.keys, problem)
    return found


def choose(keys: Keys, newest: Contents, there: Collection[str]) -> Chosen:
    """Compare what was adopted with what is wanted, and with what the signer has ``there``."""
    adopted, removed = sorted(newest.keys), newest.manifest.removed_keys
    asked, have = set(wanted(keys, {*there, *adopted})), set(there)
    return Chosen(
        keys=tuple(key for key in adopted if key in asked and key in have),
        missing=tuple(key for key in adopted if key in asked and key not in have),
        left_out=tuple(key for key in adopted if key not in asked),
        strange=tuple(sorted((asked & have) - {*adopted, *removed})),
    )


def remarks(validator: Ethereum, found: Chosen) -> Iterator[str]:
    """Yield what a person should know of a start with these keys."""
    if not isinstance(validator.keys, Keys):
        return
    where = f"Web3Signer {address(validator.keys)}"
    if found.missing:
        yield f"{where} does not have, and so nothing signs with, {_some(found.missing)}"
    if found.left_out:
        yield f"public_keys: leaves out, and so nothing signs with, {_some(found.left_out)}"
    if found.strange:
        name = validator.name
        command = f"validator-supervisor import-keystore {name} --web3signer PUBKEY"
        yield (
            f"{where} has, and {name} has not adopted, {_some(found.strange)}; where no other"
            f" validator signs with it: {command}"
        )


def _some(keys: Sequence[str]) -> str:
    return f"{len(keys)} keys ({keys[0]} among them)" if len(keys) > 1 else f"key {keys[0]}"


def adopt(
    keys: Keys,
    typed: Sequence[str],
    there: Sequence[str],
    have: Collection[str],
    removed: Collection[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys to adopt, of those that the signer has ``there``, and remarks.

    ``typed``: only these; ``have`` are adopted already, and ``removed`` were removed for good, so
    that only their name, typed, brings them back. Raises SupervisorError ``UnknownKey``,
    ``LeftOut``, ``NothingNew``.
    """
    asked = wanted(keys, there)
    if typed:
        for key in typed:
            _refuse(keys, key, asked, there)
        return tuple(typed), ()
    apart = {*have, *removed}
    new = tuple(key for key in asked if key in set(there) and key not in apart)
    missing = tuple(key for key in asked if key not in set(there))
    words = tuple(f"{address(keys)} does not have {key} of public_keys:" for key in missing)
    words += tuple(
        f"skipped {key}: it was removed for good; where it is to come back: name it, --returned"
        for key in asked
        if key in removed
    )
    if not new:
        message = f"Web3Signer {address(keys)} has no key that is wanted and not adopted yet"
        raise SupervisorError("NothingNew", message, "; ".join(words[:1]))
    return new, words


def _refuse(keys: Keys, key: str, asked: Collection[str], there: Collection[str]) -> None:
    if key not in there:
        message = f"Web3Signer {address(keys)} does not have {key}"
        raise SupervisorError("UnknownKey", message, nearest.question(key, set(there), ALIKE))
    if key not in asked:
        raise SupervisorError("LeftOut", f"public_keys: of the configuration leaves {key} out")
