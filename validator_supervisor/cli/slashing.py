"""`slashing`: merge, ask and raise what validator keys have signed (EIP-3076)."""

import argparse
import sys
import time

from validator_supervisor import lift, slashing
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.interchange import (
    NUMBER_END,
    SIZE_MAX,
    Interchange,
    Parsed,
    parse,
    public_key,
    text,
)
from validator_supervisor.journal import printable
from validator_supervisor.networks import NETWORKS

# 1 is an answer: must not be signed.
BAD_INPUT = 2
# Of what was left out of a document; nobody reads thousands.
REMARKS_MAX = 20
# The year 5138. A time above it is in milliseconds.
SECONDS_END = 10**11


def run(given: argparse.Namespace) -> int:
    """Run one of the commands; its result is on standard output only when all of it is known."""
    return {"merge": _merge, "check": _check, "lift": _lift}[given.slashing](given)


def _merge(given: argparse.Namespace) -> int:
    merged: Interchange | None = None
    for file in given.file:
        read = _read(file)
        read = read if given.complete else slashing.minify(read)
        try:
            merged = slashing.merge(merged, read) if merged else read
        except SupervisorError as refusal:
            raise failure.named(file, refusal) from None
    assert merged  # noqa: S101  # there is at least one file
    streams.write(text(merged if given.complete else slashing.minify(merged)))
    return 0


def _check(given: argparse.Namespace) -> int:
    try:
        key = public_key(given.pubkey)
        if given.block is not None:
            slot = _number(given.block)
            interchange = _read(given.file)
            reason = slashing.check_block(interchange, key, slot)
        else:
            source, target = map(_number, given.attestation)
            interchange = _read(given.file)
            reason = slashing.check_attestation(interchange, key, source, target)
    except SupervisorError as refusal:
        failure.show(refusal)
        return BAD_INPUT
    if reason:
        _say(f"must not be signed: {reason}")
    elif key not in interchange.keys:
        _say(f"{given.file} does not have the key, and so nothing against it")
    return 1 if reason else 0


def _lift(given: argparse.Namespace) -> int:
    genesis_time = _seconds(given.genesis_time)
    now = int(time.time()) if given.now is None else _seconds(given.now)
    lengths = _number(given.seconds_per_slot), _number(given.slots_per_epoch)
    moment = lift.moment(genesis_time, *lengths, now)
    source = None if given.source is None else _number(given.source)
    interchange = _read(given.file)
    _compare_chain(interchange, genesis_time, *lengths)
    if not interchange.keys:
        _say(f"{given.file} has no keys: nothing was lifted")
    try:
        lifted = lift.lift(interchange, moment, source=source, other_host=given.other_host)
    except SupervisorError as refusal:
        raise failure.named(given.file, refusal) if refusal.code == "Ahead" else refusal from None
    streams.write(text(lifted))
    return 0


def _compare_chain(
    interchange: Interchange, genesis_time: int, seconds_per_slot: int, slots_per_epoch: int
) -> None:
    """Say where the times of a public network are other ones: the lift is as wrong as they are."""
    root = f"0x{interchange.genesis_validators_root.hex()}"
    for name, chain in NETWORKS.items():
        known = chain.genesis_time, chain.seconds_per_slot, chain.slots_per_epoch
        if root == chain.genesis_validators_root and (
            known != (genesis_time, seconds_per_slot, slots_per_epoch)
        ):
            times = f"genesis at {known[0]}, {known[2]} slots of {known[1]} seconds in an epoch"
            _say(f"this is {name}, with its {times}: WITH OTHER TIMES THE LIFT IS WRONG")


def _seconds(digits: str) -> int:
    number = _number(digits)
    if number >= SECONDS_END:
        raise FormatError("Number", f"{number} is no time in seconds since 1970", "milliseconds?")
    return number


def _number(digits: str) -> int:
    if digits.isascii() and digits.isdecimal() and len(digits) <= 20:
        number = int(digits)
        if number < NUMBER_END:
            return number
    message = f"expected a decimal number below 2^64 - 1, found {digits[:80]!r}"
    raise FormatError("Number", message)


def _read(file: str) -> Interchange:
    raw = streams.read(file, SIZE_MAX)
    try:
        parsed: Parsed = parse(raw)
    except SupervisorError as refusal:
        raise failure.named(file, refusal) from None
    for remark in parsed.remarks[:REMARKS_MAX]:
        _say(f"{file}: {remark}")
    if more := len(parsed.remarks[REMARKS_MAX:]):
        _say(f"{file}: and {more} more of these")
    return parsed.interchange


def _say(line: str) -> None:
    print(f"validator-supervisor: {printable(line)}", file=sys.stderr)
