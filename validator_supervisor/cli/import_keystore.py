"""`validator-supervisor import-keystore`: read keystores and passwords, and hand them over.

Or have the job adopt keys that a Web3Signer has.
"""

import json
import sys
from collections.abc import Sequence

from validator_supervisor import imports, interchange, journal, keystore, nearest, removal, run
from validator_supervisor.applied import Applied
from validator_supervisor.cli import job, secret, streams
from validator_supervisor.errors import SupervisorError
from validator_supervisor.imports import Given, Request
from validator_supervisor.units import backup_unit
from validator_supervisor.validators import Ethereum, Keys

# scrypt on a small machine, and the job's look at the nodes.
SECONDS_PER_KEY, SECONDS = 10, 120


def import_keystore(
    name: str,
    files: Sequence[str],
    *,
    password_fd: int | None,
    protection: str | None,
    returned: bool,
    as_json: bool,
) -> int:
    """Import keystores into a validator. Raises SupervisorError."""
    secret.guard()
    applied = Applied.load()
    if isinstance(check(applied, name).keys, Keys):
        hint = f"validator-supervisor import-keystore {name} --web3signer"
        raise SupervisorError("OtherKeys", f"a Web3Signer has the keys of {name}", hint)
    job.check()
    request = Request(tuple(given(files, password_fd)), _protection(protection), returned)
    print(f"opening {len(files)} keystores, about a second each", file=sys.stderr)
    return _import(applied, name, request, SECONDS_PER_KEY * len(files), as_json=as_json)


def adopt(
    name: str, words: Sequence[str], *, protection: str | None, returned: bool, as_json: bool
) -> int:
    """Adopt keys of a validator's Web3Signer: those in ``words``, or all that are wanted.

    Raises SupervisorError.
    """
    applied = Applied.load()
    if not isinstance(check(applied, name).keys, Keys):
        hint = "keys: {web3signer: URL} in the configuration, and apply it"
        raise SupervisorError("OtherKeys", f"{name} has no Web3Signer", hint)
    job.check()
    named = removal.parse(words)
    request = Request((), _protection(protection), returned, web3signer=True, named=named)
    return _import(applied, name, request, 0, as_json=as_json)


def _import(applied: Applied, name: str, request: Request, seconds: float, *, as_json: bool) -> int:
    """Have the job do it, and upload what it has made."""
    own = job.of_validator(applied.config.validators[name])
    argv = job.command(applied, "import-keystore", [name], own)
    done = run.run(argv, seconds=SECONDS + seconds, stdin=imports.text(request), check=False)
    sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.returncode:
        return done.returncode
    upload(name)
    streams.write(done.stdout.decode() if as_json else said(name, done.stdout))
    return 0


def check(applied: Applied, name: str) -> Ethereum:
    """Return the validator. Raises SupervisorError where it is of a kind that takes no keys."""
    there = applied.config.validators
    if name not in there:
        hint = nearest.hint(name, list(there))
        raise SupervisorError("UnknownValidator", f"there is no validator {name}", hint)
    mine = there[name]
    if not isinstance(mine, Ethereum):
        raise SupervisorError("NoKeystores", f"{name} takes no keystores")
    return mine


def check_local(applied: Applied, name: str) -> None:
    """Raise SupervisorError as ``check``, and where the keys are not this host's to hand on."""
    if isinstance(check(applied, name).keys, Keys):
        message = f"the keys of {name} are in a Web3Signer: there is nothing to move"
        hint = "remove-key on the one host, whose file import-keystore --web3signer takes there"
        raise SupervisorError("NoKeystores", message, hint)


def given(files: Sequence[str], password_fd: int | None) -> list[Given]:
    """Return the files with their passwords. Raises SupervisorError."""
    if len(set(files)) < len(files):
        raise SupervisorError("DuplicateKey", "a file stands there twice")
    raw = [streams.read(file, keystore.SIZE_MAX) for file in files]
    # Before anybody types: what is no keystore.
    for file, data in zip(files, raw, strict=True):
        try:
            keystore.parse(data)
        except SupervisorError as failure:
            message = f"{file}: {failure.message}"
            raise SupervisorError(failure.code, message, failure.hint) from None
    typed = _asked(files) if password_fd is None else _read(password_fd, len(files))
    return [Given(*one) for one in zip(files, raw, typed, strict=True)]


def _asked(files: Sequence[str]) -> list[bytes]:
    typed: list[bytes] = []
    for file in files:
        again = " (Enter: the one before)" if typed else ""
        answer = secret.ask(f"Password of {file}{again}")
        typed.append(answer or (typed[-1] if typed else b""))
    # Checked as those of a descriptor are.
    return imports.passwords(b"\n".join(typed), len(files))


def _read(descriptor: int, number: int) -> list[bytes]:
    limit = number * (imports.PASSWORD_MAX + 2)
    try:
        with open(descriptor, "rb", closefd=False) as stream:
            raw = stream.read(limit + 1)
    except OSError as failure:
        message = f"descriptor {descriptor}: {failure.strerror}"
        raise SupervisorError("NotReadable", message) from None
    return imports.passwords(raw, number)


def _protection(file: str | None) -> bytes | None:
    if file is None:
        return None
    raw = streams.read(file, interchange.SIZE_MAX)
    try:
        interchange.parse(raw)
    except SupervisorError as failure:
        message = f"{file}: {failure.message}"
        raise SupervisorError(failure.code, message, failure.hint) from None
    return raw


def upload(name: str) -> None:
    """Have the newest archive put on the nodes; nothing waits for it."""
    from validator_supervisor.bus.manager import Systemd

    try:
        Systemd().start(backup_unit(name))
    except SupervisorError as failure:
        journal.log(journal.NOTICE, f"not uploaded yet: {failure.message}")


def said(name: str, raw: bytes) -> str:
    """Return what is told of an import."""
    done = json.loads(raw)
    lines = [f"imported {key}" for key in done["keys"]]
    lines += [f"note: {remark}" for remark in done["remarks"]]
    lines.append(f"{len(done['keys'])} keys are in {done['archive']}")
    lines.append("They load at the next start, which lifts them and watches the chain first; now:")
    lines.append(f"  validator-supervisor stop {name}; validator-supervisor start {name}")
    return "".join(f"{journal.printable(line)}\n" for line in lines)
