"""`retire`: whether a validator has ended here so that all it has signed is in an archive."""

from validator_supervisor import age, backup, contents, imports
from validator_supervisor.contents import Contents
from validator_supervisor.errors import SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.marks import Own, foreign
from validator_supervisor.slashing import merge, minify
from validator_supervisor.store import ARCHIVE, Store
from validator_supervisor.transfer import VERSION, Retired


def last(store: Store, identity: age.X25519Identity, found: Found, own: Own) -> Contents:
    """Return the newest archive, which has all that was signed here, and which nothing follows.

    The caller holds the lock, and has looked that nothing runs. Raises SupervisorError ``NoKeys``,
    ``NotClean``, ``NotNewest``, ``Moved``.
    """
    name = store.validator
    imports.moved(foreign(own, found), name)
    apart = store.quarantined()
    items = [item for item in store.items() if item.kind == ARCHIVE and item.digest not in apart]
    if not items:
        raise SupervisorError("NoKeys", f"{name} has no archive on this host")
    item, newest = next(backup.archives(store, identity), (None, None))
    if newest is None or item != items[0]:
        message = f"{items[0].name}, the newest archive here, does not open"
        raise SupervisorError("NotClean", message, _again(name))
    later = [one for one in found.archives if one.item.sequence > items[0].sequence]
    if later:
        message = f"{later[0].item.name} on {', '.join(later[0].where)} is newer than all here"
        raise SupervisorError("NotNewest", message, f"validator-supervisor backup restore {name}")
    refuse_remote(newest, name)
    if not newest.keys:
        raise SupervisorError("NoKeys", f"{name} has no keys")
    by = newest.manifest
    if store.running() or not by.clean or by.host != own.host or newest.protection is None:
        message = f"{name} was not stopped well: what it has signed at last may be in no archive"
        raise SupervisorError("NotClean", message, _again(name))
    return newest


def refuse_remote(newest: Contents, name: str) -> None:
    """Raise SupervisorError ``NoKeystores`` where a Web3Signer has keys of its."""
    if contents.remote(newest.keys):
        message = f"a Web3Signer has keys of {name}: they are not this host's to hand on"
        raise SupervisorError("NoKeystores", message, "remove-key those first")


def _again(name: str) -> str:
    return f"validator-supervisor start {name}; when it runs, the same command again"


def protection(
    store: Store, identity: age.X25519Identity, found: Found, newest: Contents
) -> Interchange:
    """Return of each key the highest of everything that any archive says it has signed."""
    known = [one.protection for one in imports.every(store, identity, found) if one.protection]
    merged = merge(*known)
    keys = {key: merged.keys.get(key, History()) for key in newest.keys}
    return minify(Interchange(merged.genesis_validators_root, keys))


def record(store: Store, found: Found, own: Own, signed: Interchange) -> Retired:
    """Return what the file says of the end; the store says when it was."""
    sequence = max([found.sequence, *(item.sequence for item in store.items())])
    root = f"0x{signed.genesis_validators_root.hex()}"
    return Retired(VERSION, store.retired(), own.host, sequence, max(own.accepted, 0), root)
