"""`remove-key`: keys leave a validator for good, and what they have signed can go with them.

The archive that says so is made while nothing runs, and every start after it goes by that archive:
no client is trusted to have forgotten a key.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from validator_supervisor import age, backup, contents, host, imports, interchange, nearest
from validator_supervisor.contents import Contents
from validator_supervisor.errors import SupervisorError
from validator_supervisor.gather import Found
from validator_supervisor.interchange import History, Interchange
from validator_supervisor.networks import Chain
from validator_supervisor.slashing import merge, minify
from validator_supervisor.store import Item, Store
from validator_supervisor.validators import Ethereum

# At once, as of those that are imported.
KEYS_MAX = imports.KEYS_MAX
# Two keys have every sixteenth digit in common by chance; a slip leaves nearly all.
ALIKE = 0.9


@dataclass(frozen=True)
class Asked:
    """The keys that are still there, those that were removed before, and how many others stay."""

    present: tuple[str, ...]
    removed: tuple[str, ...]
    left: int


def parse(words: Sequence[str]) -> tuple[str, ...]:
    """Return public keys as archives have them, each once.

    Raises SupervisorError ``InvalidPublicKey``, ``TooManyKeys``.
    """
    if len(words) > KEYS_MAX:
        raise SupervisorError("TooManyKeys", f"more than {KEYS_MAX} keys at once")
    return tuple(dict.fromkeys(interchange.public_key(word) for word in words))


def look(keys: Sequence[str], newest: Contents | None, name: str) -> Asked:
    """Return where the keys of a validator are. Raises SupervisorError ``NoKeys``, ``UnknownKey``.

    ``newest`` is its newest archive.
    """
    if newest is None:
        raise SupervisorError("NoKeys", f"{name} has no keys")
    removed = newest.manifest.removed_keys
    for key in keys:
        if key not in newest.keys and key not in removed:
            raise _unknown(key, name, {*newest.keys, *removed})
    present = tuple(key for key in keys if key in newest.keys)
    before = tuple(key for key in keys if key in removed)
    return Asked(present, before, len(newest.keys) - len(present))


def _unknown(key: str, name: str, known: set[str]) -> SupervisorError:
    near = nearest.question(key, known, ALIKE)
    hint = near or f"validator-supervisor status --json shows those of {name} when it runs"
    return SupervisorError("UnknownKey", f"{name} does not have {key}, and never had", hint)


def remove(
    store: Store,
    validator: Ethereum,
    identity: age.X25519Identity,
    found: Found,
    keys: Iterable[str],
    now: int,
) -> Item:
    """Keep an archive without these keys that says so; what they have signed stays in it.

    ``now`` in Unix seconds. The caller holds the store's lock, and has looked that all are there.
    Raises SupervisorError, and OSError where a disk is full: then nothing has changed.
    """
    every = imports.every(store, identity, found)
    last = max(every, key=lambda one: one.manifest.sequence)
    gone = dict.fromkeys(keys, now)
    known = [one.protection for one in every if one.protection]
    sequence = backup.next_sequence(store, now, found.sequence)
    raw = contents.seal(
        identity,
        validator=store.validator,
        network=validator.network,
        host=host.host_id(),
        boot=host.boot_id(),
        sequence=sequence,
        created=now,
        # It is as complete as the one before: nothing has run since.
        clean=last.manifest.clean,
        keys={name: key for name, key in last.keys.items() if name not in gone},
        removed_keys={**last.manifest.removed_keys, **gone},
        protection=minify(merge(*known)) if known else None,
        remarks=(f"{len(gone)} keys removed",),
    )
    # Before what names it: of a boot that this disk does not know, it would be a clone's.
    store.add_boot(host.boot_id())
    return backup.keep(store, identity, raw, sequence)


def protection(
    keys: Iterable[str], every: Sequence[Contents], chain: Chain | None
) -> tuple[Interchange, tuple[str, ...]]:
    """Return the watermarks of exactly these keys, by all archives, and remarks.

    Raises SupervisorError ``OtherChain``, ``NoChain``.
    """
    known = [one.protection for one in every if one.protection]
    merged = merge(*known) if known else Interchange(imports.root_of(chain, None), {})
    mine = {key: merged.keys.get(key, History()) for key in keys}
    return minify(Interchange(merged.genesis_validators_root, mine)), _unsigned(mine)


def _unsigned(mine: Mapping[str, History]) -> tuple[str, ...]:
    return tuple(
        f"nothing is known of what {key} has signed"
        for key, history in mine.items()
        if not (history.blocks or history.attestations)
    )
