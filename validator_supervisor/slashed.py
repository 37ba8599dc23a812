"""Which of our keys are slashed, who says so, and what it halts.

A key that becomes slashed while we run it halts; validator-halt.service makes the latch. What was
seen of each key is kept over restarts and boots, so that neither hides the moment, and so that a
key which is slashed already does not halt anew what a person has resumed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from validator_supervisor import document, durable, halt, journal
from validator_supervisor.applied import Applied
from validator_supervisor.errors import SupervisorError
from validator_supervisor.kinds import NAME
from validator_supervisor.schema import boolean, table, text
from validator_supervisor.validators import Ethereum

RECORD = Path("/var/lib/validator-watch/slashed.json")
# Some hundred thousand keys.
SIZE_MAX = 64 << 20
# Beacon nodes that have to say so, where a validator has as many.
WITNESSES = 2
# As many keys are named in a reason; the others are counted.
NAMED = 2
SEEN = table(NAME, table(text(r"0x[0-9a-f]{96}", "a public key"), boolean()))

# By key: whether it is slashed.
Words = Mapping[str, bool]


@dataclass(frozen=True)
class Judgement:
    """What the words of a validator's beacon nodes mean.

    ``known`` is what is known of each key now, ``fresh`` has those that have become slashed since
    they were seen, ``before`` those that were slashed when they were first seen, and ``alone``
    those that too few beacon nodes call slashed.
    """

    known: Words
    fresh: tuple[str, ...]
    before: tuple[str, ...]
    alone: tuple[str, ...]


def judge(
    known: Words, said: Mapping[str, Words], keys: Iterable[str], witnesses: int
) -> Judgement:
    """Judge ``said``, the last words of each beacon node, about the keys that run.

    What is known of a key that does not run any more is forgotten. One that halts becomes slashed
    in ``known`` when it has.
    """
    now: dict[str, bool] = {}
    fresh: list[str] = []
    before: list[str] = []
    alone: list[str] = []
    for key in keys:
        words = [one[key] for one in said.values() if key in one]
        if key in known:
            now[key] = known[key]
        if known.get(key):
            continue  # for ever: who says something else now is wrong
        if sum(words) >= witnesses:
            (fresh if key in known else before).append(key)
        elif any(words):
            alone.append(key)
        # Also where another says that it is slashed: else who lies from the beginning would have
        # the key taken for one that was slashed before.
        if not all(words):
            now.setdefault(key, False)
    now |= dict.fromkeys(before, True)
    return Judgement(now, tuple(fresh), tuple(before), tuple(alone))


def names(keys: Sequence[str]) -> str:
    """Return words for some keys."""
    named = ", ".join(keys[:NAMED])
    if len(keys) == 1:
        return f"key {named} is slashed"
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"keys {named}{more} are slashed"


def parse(raw: bytes) -> dict[str, Words]:
    """Return what is written down of each validator's keys; nothing where that is damaged."""
    try:
        return dict(SEEN.read(document.parse_json(raw, str(RECORD)))) if raw else {}
    except SupervisorError as failure:
        # As if every key were new: one that is not slashed is known again after the next answers,
        # within seconds, and halts from then on. If instead they counted as not slashed, each that
        # was slashed long ago would stop a validator that a person has resumed; and a watch that
        # did not start would see nothing at all.
        failure.hint = "it is made anew; a key that is slashed now may have been so since"
        journal.error(failure)
        return {}


def dump(known: Mapping[str, Words]) -> bytes:
    """Return the bytes of the record."""
    return json.dumps(known, indent=1, sort_keys=True).encode()


@dataclass(frozen=True)
class Halting:
    """What was found and is being halted: the validators of ``reach``, once it was ``asked``."""

    keys: tuple[str, ...]
    reason: str
    reach: tuple[str, ...]
    asked: bool = False


class Slashings:
    """What is known of the keys of every validator, and what is being done about it."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        configured = {validator.name for validator in applied.config.ethereum}
        self._written = _record()
        stored = parse(self._written)
        self._known = {name: words for name, words in stored.items() if name in configured}
        # By validator and URL: the last words of its beacon nodes.
        self._said: dict[str, dict[str, Words]] = {}
        self._halting: dict[str, Halting] = {}
        self._once = journal.Once()

    @property
    def halting(self) -> bool:
        """Whether something was found whose halt has not come yet."""
        return bool(self._halting)

    @property
    def slashed(self) -> dict[str, list[str]]:
        """Return the keys that are slashed, of each validator that has such."""
        found = {name: {k for k, slashed in words.items() if slashed}
                 for name, words in self._known.items()}  # fmt: skip
        for name, halting in self._halting.items():
            found[name] |= {*halting.keys}
        return {name: sorted(keys) for name, keys in found.items() if keys}

    def hear(
        self, validator: Ethereum, url: str, keys: Sequence[str], words: Words | None, *, last: bool
    ) -> None:
        """Take in what a beacon node has said of the keys that run; None: nothing this time.

        ``last``: no other one is being asked now.
        """
        name, said = validator.name, self._said.setdefault(validator.name, {})
        if words is not None:
            said[url] = words
        # Two of its nodes may be the same beacon node.
        witnesses = min(WITNESSES, len(set(self._applied.beacons(validator).values())))
        found = judge(self._known.get(name, {}), said, keys, witnesses)
        self._known[name] = found.known
        if found.before:
            already = f"{name}: {names(found.before)}, and no halt: so it was when first seen"
            journal.log(journal.WARNING, already)
        if found.alone and last:
            who = self._who(validator, found.alone)
            self._once.log(f"slashing of {name}", f"{names(found.alone)}, {who} alone")
        if found.fresh:
            self._begin(validator, found.fresh)
            self.settle()
        self._write()

    def _begin(self, validator: Ethereum, keys: tuple[str, ...]) -> None:
        name = validator.name
        if name in self._halting and {*keys} <= {*self._halting[name].keys}:
            return
        reason = f"{names(keys)}, {self._who(validator, keys)}"
        journal.log(journal.ERROR, f"{name}: {reason}")
        self._halting[name] = Halting(keys, reason, self._reach(validator))

    def _reach(self, validator: Ethereum) -> tuple[str, ...]:
        """Return the validators that halt when a key of this one is slashed."""
        if validator.on_slashed == "network":
            every = self._applied.config.ethereum
            return tuple(one.name for one in every if one.network == validator.network)
        return (validator.name,) if validator.on_slashed == "validator" else ()

    def _who(self, validator: Ethereum, keys: Iterable[str]) -> str:
        said = self._said[validator.name]
        nodes = [node for node, url in self._applied.beacons(validator).items()
                 if any(said.get(url, {}).get(key) for key in keys)]  # fmt: skip
        return f"{'says' if len(nodes) == 1 else 'say'} {', '.join(nodes)}"

    def settle(self) -> None:
        """Ask for the halts that were not asked for yet, and remember those that have come."""
        for name, halting in list(self._halting.items()):
            if not halting.asked:
                halting = replace(halting, asked=self._ask(name, halting))
                self._halting[name] = halting
            if halting.asked and not any((halt.REQUESTS / one).exists() for one in halting.reach):
                # Only now: after a crash or a power cut before the latch is there, the key becomes
                # slashed anew, and halts.
                self._known[name] = {**self._known[name], **dict.fromkeys(halting.keys, True)}
                del self._halting[name]
                self._write()

    def _ask(self, name: str, halting: Halting) -> bool:
        for one in halting.reach:
            whose = "" if one == name else f"{name}: "
            try:
                durable.replace(
                    halt.REQUESTS / one, halt.text(halt.SLASHED, whose + halting.reason)
                )
            except OSError as failure:
                self._once.log(str(halt.REQUESTS), str(failure.strerror))
                return False
        return True

    def _write(self) -> None:
        raw = dump(self._known)
        if self._known and raw != self._written:
            try:
                durable.write(RECORD, raw, 0o644)
            except OSError as failure:
                self._once.log(str(RECORD), str(failure.strerror))
                return
            self._written = raw


def _record() -> bytes:
    try:
        return document.read_bytes(RECORD, SIZE_MAX) if RECORD.exists() else b""
    except SupervisorError as failure:
        journal.error(failure)
        return b""
