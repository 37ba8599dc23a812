"""Commands about the programs of clients: their arguments, and what they run."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from validator_supervisor.cli.client import Client


def add(commands: Any, name: Callable[[str], str], number: Callable[[str], int]) -> None:
    """Add the commands to the parser of all."""
    other = commands.add_parser("set-release", help="have a validator run another release")
    other.add_argument("name", metavar="NAME", type=name)
    for word in ("client", "version", "sha256"):
        other.add_argument(word, metavar=word.upper(), nargs="?")
    other.add_argument("--clear", action="store_true", help="as the configuration has it")
    other.add_argument("--now", action="store_true", help="restart the validator with it")
    add_when_safe(other)
    other.set_defaults(run=_set_release, parser=other)
    releases = commands.add_parser("releases", help="releases of a client on this host")
    inner = releases.add_subparsers(metavar="COMMAND", required=True)
    shown = inner.add_parser("list", help="show which ones are here")
    shown.add_argument("--json", action="store_true", help="print JSON")
    back = inner.add_parser("rollback", help="run the one before, from the next start on")
    back.add_argument("--clear", action="store_true", help="as the configuration says, again")
    old = inner.add_parser("prune", help="remove old ones")
    old.add_argument("--keep", metavar="N", type=number, default=2, help="how many stay (2)")
    for command, act in ((shown, _list), (back, _rollback), (old, _prune)):
        command.add_argument("name", metavar="NAME", type=name)
        command.set_defaults(run=act)


def add_when_safe(command: argparse.ArgumentParser) -> None:
    """Add what waits for a moment in which nothing is missed."""
    command.add_argument("--when-safe", action="store_true", help="wait until no block is due")
    command.add_argument(
        "--within", metavar="T", type=_duration, default=1800, help="or give up then (30min)"
    )


def _duration(text: str) -> int:
    from validator_supervisor.document import from_plain
    from validator_supervisor.errors import ConfigError
    from validator_supervisor.kinds import DURATION

    try:
        return DURATION.read(from_plain(text, "--within"))
    except ConfigError as failure:
        raise argparse.ArgumentTypeError(failure.message) from None


def waiting(client: "Client", given: argparse.Namespace) -> Callable[[str], None]:
    """Return what waits before a validator is stopped, as far as that was asked for."""
    from validator_supervisor.cli import when_safe

    def wait(name: str) -> None:
        if getattr(given, "when_safe", False):
            when_safe.wait(client, name, given.within)

    return wait


def _set_release(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import set_release, switch
    from validator_supervisor.cli.client import Client

    words = [word for word in (given.client, given.version, given.sha256) if word]
    if len(words) != (0 if given.clear else 3):
        given.parser.error("CLIENT, VERSION and SHA256, or --clear")
    client, wanted = Client(), (given.client, given.version, given.sha256) if words else None
    wait = waiting(client, given) if given.now else None
    do = set_release.set_release
    return switch.each([given.name], lambda name: do(client, name, wanted, wait, now=given.now))


def _list(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import releases

    return releases.show(given.name, as_json=given.json)


def _rollback(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import releases

    releases.rollback(given.name, clear=given.clear)


def _prune(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import releases

    releases.prune(given.name, given.keep)
