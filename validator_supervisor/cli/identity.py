"""What root does with the identity: make it, print its recovery kit, wrap it anew, replace it."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from validator_supervisor import age, durable, generator, identity, recovery, run
from validator_supervisor.applied import Applied
from validator_supervisor.cli import failure, job, secret, streams
from validator_supervisor.errors import SupervisorError
from validator_supervisor.store import Store
from validator_supervisor.units import state_unit

# The next identity, while archives are encrypted to it.
NEXT = Path("/etc/validator-supervisor/identity.age.next")
REENCRYPT_SECONDS = 180.0
# Encrypts every archive that is here and on the nodes to another identity, and returns once they
# are there: (old, new).
Reencrypt = Callable[[age.X25519Identity, age.X25519Identity], None]


def be_root() -> None:
    """Raise SupervisorError ``AccessDenied`` where this is not root."""
    if os.geteuid() != 0:
        raise SupervisorError("AccessDenied", "only root may", "sudo validator-supervisor …")


def init(descriptor: int | None, kit: str | None, *, generate: bool) -> int:
    """Make the identity and print its recovery kit. Raises SupervisorError."""
    be_root()
    secret.guard()
    _refuse_another()
    made = identity.generate_passphrase() if generate else ""
    passphrase = made.encode() or secret.chosen(descriptor)
    fresh = age.X25519Identity.generate()
    sealed = identity.wrap(fresh, passphrase)
    with durable.locked(identity.SEALED.parent):
        _refuse_another()
        durable.write(identity.SEALED, sealed)
    if made:
        print(f"The passphrase, which is shown only now:\n\n    {made}\n", flush=True)
    _hand_out(sealed, kit)
    return 0


def bring_back(descriptor: int | None, kit: str) -> int:
    """Install the identity of a recovery kit that its passphrase opens. Raises SupervisorError."""
    be_root()
    secret.guard()
    _refuse_another()
    raw = streams.read(kit, identity.SEALED_MAX)
    given = secret.given(descriptor, "Passphrase of the recovery kit")
    try:
        sealed = recovery.identity_in(raw)
        opened = identity.unwrap(sealed, given)
    except SupervisorError as wrong:
        if wrong.code == "WrongPassphrase":
            wrong.hint = "or the kit was not typed as it is printed"
        raise failure.named(kit, wrong) from None
    with durable.locked(identity.SEALED.parent):
        _refuse_another()
        durable.write(identity.SEALED, sealed)
    print(f"The identity is {opened.recipient.text()}")
    return 0


def recovery_kit(kit: str | None, *, as_json: bool) -> int:
    """Print the recovery kit. Raises SupervisorError."""
    be_root()
    sealed = identity.sealed()
    if as_json:
        shown = {"host": socket.gethostname(), "identity": sealed.decode(),
                 "newest": recovery.newest()}  # fmt: skip
        _put(json.dumps(shown, indent=1) + "\n", kit)
    else:
        _hand_out(sealed, kit)
    return 0


def passphrase(descriptor: int | None) -> int:
    """Wrap the identity with another passphrase; archives stay as they are."""
    be_root()
    secret.guard()
    before = identity.sealed()
    opened = identity.unwrap(before, secret.given(None, "Passphrase now"))
    sealed = identity.wrap(opened, secret.chosen(descriptor))
    with durable.locked(identity.SEALED.parent):
        if identity.sealed() != before:
            raise SupervisorError("Changed", f"{identity.SEALED} was changed meanwhile")
        durable.write(identity.SEALED, sealed)
    print("The passphrase is changed. Copies of identity.age that were made before, as in recovery")
    print("kits, still open with the old one: print a new kit (validator-supervisor recovery-kit),")
    print("and if somebody may know the old one: validator-supervisor rotate-identity")
    _tell_of_credential()
    return 0


def rotate(descriptor: int | None, kit: str | None, reencrypt: Reencrypt) -> int:
    """Replace the identity by a new one; interrupted, it goes on with the same new one.

    The old identity stays in effect until every archive is encrypted to the new one.
    """
    be_root()
    secret.guard()
    given = secret.given(descriptor, "Passphrase")
    before = identity.sealed()
    old = identity.unwrap(before, given)
    new = _next(given)
    # It takes as long as the nodes do, and whoever applies a configuration has the same lock.
    reencrypt(old, new)
    with durable.locked(identity.SEALED.parent):
        if identity.sealed() != before or not NEXT.exists():
            raise SupervisorError("Changed", f"{identity.SEALED} was changed meanwhile")
        sealed = identity.sealed(NEXT)
        # First: cut off between the two, this is asked for again, and goes on with the same one.
        identity.exchange(new)
        NEXT.rename(identity.SEALED)
        durable.sync_directory(NEXT.parent)
    print(f"The identity is now {new.recipient.text()}")
    print("Archives from before open with the old recovery kit only: keep it.")
    _hand_out(sealed, kit)
    return 0


def reencrypt(old: age.X25519Identity, new: age.X25519Identity) -> None:
    """Encrypt every validator's newest archive to the new identity. Raises SupervisorError."""
    applied = Applied.load()
    _refuse_running([validator.name for validator in applied.config.ethereum])
    both = f"{old.text()}\n{new.text()}\n".encode()
    for validator in applied.config.ethereum:
        if not Store(validator.name).archives.is_dir():
            continue
        words = job.command(applied, "reencrypt", [validator.name], job.of_validator(validator))
        done = run.run(words, seconds=REENCRYPT_SECONDS, stdin=both, check=False)
        sys.stdout.write(done.stdout.decode())
        sys.stderr.write(done.stderr.decode(errors="replace"))
        if done.returncode:
            message = f"the archives of {validator.name} are not encrypted to another identity"
            raise SupervisorError("NotReencrypted", message, exit_status=done.returncode)


def _refuse_running(names: Sequence[str]) -> None:
    """Raise SupervisorError ``Running``: what one job writes meanwhile, the next could not read."""
    for name in names:
        argv = ["/usr/bin/systemctl", "show", "--property=ActiveState", "--value", state_unit(name)]
        state = run.run(argv, seconds=30).stdout.decode().strip()
        if state not in ("inactive", "failed"):
            hint = "systemctl stop validator.target, and start it when this is done"
            raise SupervisorError("Running", f"validator {name} runs", hint)


def _next(passphrase: bytes) -> age.X25519Identity:
    """Return the identity to come, which is on the disk before anything is encrypted to it."""
    if NEXT.exists():
        return identity.unwrap(identity.sealed(NEXT), passphrase)
    new = age.X25519Identity.generate()
    durable.write(NEXT, identity.wrap(new, passphrase))
    return new


def _refuse_another() -> None:
    if identity.SEALED.exists():
        hint = "another passphrase: passphrase; another identity: rotate-identity"
        raise SupervisorError("Exists", f"{identity.SEALED} is there already", hint)


def _tell_of_credential() -> None:
    for path in (store / generator.UNATTENDED for store in (generator.SEALED, generator.PLAIN)):
        if path.exists():
            print(f"{path} still holds the old one.")


def _hand_out(sealed: bytes, kit: str | None) -> None:
    made = recovery.kit(
        sealed, socket.gethostname(), time.time(), recovery.newest(), recovery.qr(sealed)
    )
    _put(made, kit)


def _put(text: str, kit: str | None) -> None:
    if kit is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        durable.write(Path(kit), text.encode())
    except OSError as failure:
        raise SupervisorError("NotWritten", f"{kit}: {failure.strerror}") from None
    print(f"The recovery kit is in {kit}")
