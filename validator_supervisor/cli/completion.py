"""Completion of commands, options and names in bash, zsh and fish, by argcomplete."""

import argparse
import contextlib
from pathlib import Path

from argcomplete import CompletionFinder
from argcomplete.completers import FilesCompleter  # type: ignore[import-untyped]

from validator_supervisor.applied import Applied
from validator_supervisor.document import read_json
from validator_supervisor.errors import SupervisorError
from validator_supervisor.validators import CLIENTS

# syslog(3), as journalctl(1) takes them.
PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

# Where a validator says what it was started with.
RUNTIME = Path("/run/validator")
KEY = r"0x[0-9a-f]{96}"
# Arguments that are files.
FILES = ("file", "slashing_protection", "identity", "kit", "origin", "to", "out", "output")


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell and end, where it is a shell that has started us."""
    _attach(parser, None)
    # What cannot be read would be a message in the middle of the line that is being typed.
    with contextlib.suppress(SupervisorError):
        _attach(parser, Applied.load())
    # Options are offered after a dash only, and a file only where one is named.
    CompletionFinder()(parser, always_complete_options=False, default_completer=None)


def _attach(parser: argparse.ArgumentParser, applied: Applied | None) -> None:
    """Give every argument what knows its values; files are known without a configuration."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _attach(command, applied)
        elif action.dest in FILES:
            action.completer = FilesCompleter()  # type: ignore[attr-defined]
        elif applied:
            action.completer = Values(action.dest, applied)  # type: ignore[attr-defined]


class Values:
    """The values of one argument, as argcomplete asks for them."""

    def __init__(self, destination: str, applied: Applied) -> None:
        self._destination = destination
        self._applied = applied

    def __call__(self, parsed_args: argparse.Namespace, **unused: object) -> list[str]:
        """Return what may stand here beside what has been typed."""
        del unused
        typed = getattr(parsed_args, self._destination, None)
        validator = str(getattr(parsed_args, "name", ""))
        known = values(self._applied, validator).get(self._destination, [])
        return [value for value in known if not isinstance(typed, list) or value not in typed]


def values(applied: Applied, validator: str) -> dict[str, list[str]]:
    """Return what is known of each argument; ``validator`` is the one that was typed before."""
    nodes = applied.config.nodes
    tunnels = [node.name for node in nodes.values() if node.host]
    validators = list(applied.config.validators)
    chosen = applied.config.validators.get(validator)
    return {
        "name": validators,
        "preferred": list(applied.beacons(chosen) if chosen else nodes),
        "unit": list(dict.fromkeys([*validators, *tunnels])),
        "node": tunnels,
        "public_key": _public_keys(chosen.name) if chosen else [],
        "source": [node.name for node in nodes.values() if node.backups],
        "priority": list(PRIORITIES),
        "client": list(CLIENTS),
    }


def _public_keys(validator: str, runtime: Path = RUNTIME) -> list[str]:
    """Return the keys that a validator was started with; the file is the validator's own."""
    try:
        stored = read_json(runtime / validator / "run.json").mapping()["public_keys"]
        return [item.string(KEY, "a public key") for item in stored.items()]
    except (KeyError, SupervisorError):
        return []
