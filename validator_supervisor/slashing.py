"""What may be signed after what has been signed: EIP-3076, section "Conditions".

The conditions refuse what is not above the *minimum* of what a document holds. A minified document
holds one block and one attestation for each key, so that its minimum is its maximum, and it is a
watermark: nothing at or below it is signed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from validator_supervisor.errors import SupervisorError
from validator_supervisor.interchange import History, Interchange


@dataclass(frozen=True)
class Watermark:
    """The highest slot and epochs that one key has signed; None where it has signed nothing."""

    slot: int | None = None
    source: int | None = None
    target: int | None = None


@dataclass(frozen=True)
class Difference:
    """A number that a document does not reach (None: it has none), or a key that it does not have.

    ``field`` is ``pubkey``, ``slot``, ``source_epoch`` or ``target_epoch``.
    """

    key: str
    field: str
    expected: int | None = None
    found: int | None = None


def watermark(history: History) -> Watermark:
    """Return the highest of each, whichever messages they are from."""
    return Watermark(
        max((slot for slot, _ in history.blocks), default=None),
        max((source for source, _, _ in history.attestations), default=None),
        max((target for _, target, _ in history.attestations), default=None),
    )


def merge(first: Interchange, *others: Interchange) -> Interchange:
    """Return everything that is in any of them; for watermarks ``minify`` the result.

    Raises SupervisorError (``OtherChain``) where genesis_validators_root differs.
    """
    keys = dict(first.keys)
    for other in others:
        _same_chain(first, other)
        for key, new in other.keys.items():
            old = keys.get(key) or History()
            keys[key] = History(old.blocks | new.blocks, old.attestations | new.attestations)
    return Interchange(first.genesis_validators_root, keys)


def _same_chain(first: Interchange, other: Interchange) -> None:
    roots = [one.genesis_validators_root.hex() for one in (first, other)]
    if roots[0] != roots[1]:
        message = f"genesis_validators_root differs: 0x{roots[0]} and 0x{roots[1]}"
        raise SupervisorError("OtherChain", message, "these are keys of two chains")


def minify(interchange: Interchange) -> Interchange:
    """Return each key's watermark as one block and one attestation without signing roots.

    Source and target are taken independently and may come from different messages. A signing root
    would let a client sign its message again (EIP-3076, condition 2 and 5).
    """
    keys = {key: minified(watermark(history)) for key, history in interchange.keys.items()}
    return Interchange(interchange.genesis_validators_root, keys)


def minified(mark: Watermark) -> History:
    """Return the one block and the one attestation that make a client keep to a watermark."""
    blocks = () if mark.slot is None else ((mark.slot, b""),)
    one = mark.source is not None and mark.target is not None
    attestations = ((mark.source or 0, mark.target or 0, b""),) if one else ()
    return History(frozenset(blocks), frozenset(attestations))


def compare(old: Interchange, new: Interchange) -> tuple[Difference, ...]:
    """Return where ``new`` is below ``old``; nothing where it is at or above it for every key.

    Raises SupervisorError (``OtherChain``) where genesis_validators_root differs.
    """
    _same_chain(old, new)
    return tuple(_below(old, new))


def _below(old: Interchange, new: Interchange) -> Iterator[Difference]:
    for key, history in sorted(old.keys.items()):
        if key not in new.keys:
            yield Difference(key, "pubkey")
            continue
        expected, found = watermark(history), watermark(new.keys[key])
        for field, low, high in (
            ("slot", expected.slot, found.slot),
            ("source_epoch", expected.source, found.source),
            ("target_epoch", expected.target, found.target),
        ):
            if low is not None and (high is None or high < low):
                yield Difference(key, field, low, high)


def _history(interchange: Interchange, key: str) -> History:
    return interchange.keys.get(key) or History()


def check_block(interchange: Interchange, key: str, slot: int) -> str:
    """Say why a block must not be signed (conditions 1 and 2), or "" where it may be.

    The new block's signing root is not known here, so that a repetition is refused as well. A key
    that the document does not have may sign everything: of it nothing is known, and the EIP has
    no condition for it. Whoever asks has to know that the document is the key's.
    """
    slots = {signed for signed, _ in _history(interchange, key).blocks}
    if slot in slots:
        return f"a block at slot {slot} has been signed"
    if slots and slot <= min(slots):
        return f"slot {slot} is not above {min(slots)}, the lowest signed one"
    return ""


def check_attestation(interchange: Interchange, key: str, source: int, target: int) -> str:
    """Say why an attestation must not be signed (conditions 3 to 5), or "" where it may be.

    Repetitions and unknown keys are as for blocks. Its source must not be above its target.
    """
    if source > target:
        return f"source {source} is above target {target}"
    signed = _history(interchange, key).attestations
    for old_source, old_target, _ in sorted(signed):
        old = f"{old_source} → {old_target}"
        if target == old_target:
            return f"{source} → {target} and the signed {old} have the same target"
        if source < old_source and old_target < target:
            return f"{source} → {target} surrounds the signed {old}"
        if old_source < source and target < old_target:
            return f"{source} → {target} is surrounded by the signed {old}"
    sources = [old_source for old_source, _, _ in signed]
    targets = [old_target for _, old_target, _ in signed]
    if sources and source < min(sources):
        return f"source {source} is below {min(sources)}, the lowest signed one"
    if targets and target <= min(targets):
        return f"target {target} is not above {min(targets)}, the lowest signed one"
    return ""
