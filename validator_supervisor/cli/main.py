"""The entry point of `validator-supervisor` (validator-supervisor(1))."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from validator_supervisor import __version__
from validator_supervisor.cli import failure
from validator_supervisor.errors import REFUSED, SupervisorError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 refused, 75 temporary."""
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        from validator_supervisor.cli.completion import complete

        complete(parser)
    given = parser.parse_args(argv)
    try:
        return int(given.run(given))
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing is left to say
        return 1


class Parser(argparse.ArgumentParser):
    """A parser with the exit status of everything else that is refused."""

    def __init__(self, **given: Any) -> None:
        # Unless it is told a width it asks shutil, whose import takes longer than all of argparse.
        super().__init__(**given, formatter_class=partial(argparse.HelpFormatter, width=80))

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def format_usage(self) -> str:
        """Return the usage, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_usage()

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 1."""
        self.print_usage(sys.stderr)
        self.exit(REFUSED, f"{self.prog}: {message}\n")


def make_parser() -> Parser:
    """Return the parser; completion knows an argument's values by its destination."""
    parser = Parser(
        prog="validator-supervisor", description="Keeps validators running on this host."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    status = commands.add_parser("status", help="show nodes, validators and problems")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument("--watch", action="store_true", help="show each change, until Ctrl-C")
    status.set_defaults(run=_status)
    for switch, text in (
        ("start", "start validators"),
        ("stop", "stop validators until the next boot"),
        ("restart", "restart validators"),
        ("enable", "start validators, now and at each boot"),
        ("disable", "stop validators for good"),
    ):
        command = commands.add_parser(switch, help=text)
        command.add_argument("name", metavar="NAME", nargs="+", type=_name)
        command.set_defaults(run=_switch, switch=switch)
    connect = commands.add_parser("connect", help="have a validator try one node before the others")
    connect.add_argument("name", metavar="NAME", type=_name)
    node = connect.add_mutually_exclusive_group(required=True)
    node.add_argument("preferred", metavar="NODE", nargs="?", type=_name, help="the node")
    node.add_argument("--clear", action="store_true", help="as the configuration orders them")
    connect.set_defaults(run=_connect)
    _add_logs(commands.add_parser("logs", help="show what validators and tunnels have said"))
    authorize = commands.add_parser("authorize", help="print the command that lets us into a node")
    authorize.add_argument("node", metavar="NODE")
    authorize.set_defaults(run=_authorize)
    return parser


def _add_logs(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("unit", metavar="NAME", nargs="*", help="validators and nodes; or all")
    logs.add_argument("-f", "--follow", action="store_true", help="wait for more")
    logs.add_argument("-n", "--lines", metavar="N", help="only the last N lines")
    logs.add_argument("--since", metavar="TIME", help="not older than this (systemd.time(7))")
    logs.add_argument("-p", "--priority", metavar="P", help="nothing less important than this")
    logs.set_defaults(run=_logs)


def _name(text: str) -> str:
    # An empty one would mean something else on the bus, and bytes that are no text nothing.
    if not text.isprintable() or not text:
        raise argparse.ArgumentTypeError("not a name")
    return text


def _status(given: argparse.Namespace) -> int:
    if given.watch:
        from validator_supervisor.cli import live

        return live.watch(as_json=given.json)
    from validator_supervisor.cli import status
    from validator_supervisor.cli.client import Client
    from validator_supervisor.cli.heard import last_warning

    shown = status.report(Client().objects(), last_warning)
    if given.json:
        import json

        print(json.dumps(status.as_json(shown), indent=1))
    else:
        print("\n".join(status.as_text(shown, time.time())))
    return 0


def _switch(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import switch
    from validator_supervisor.cli.client import Client

    client, do = Client(), switch.SWITCHES[given.switch]
    return switch.each(given.name, lambda name: do(client, name))


def _connect(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import switch
    from validator_supervisor.cli.client import Client

    client, node = Client(), given.preferred or ""
    return switch.each([given.name], lambda name: switch.prefer(client, name, node))


def _logs(given: argparse.Namespace) -> int:
    from validator_supervisor.applied import Applied
    from validator_supervisor.cli import logs
    from validator_supervisor.run import become

    units = logs.units(Applied.load(), given.unit)
    logs.check_readable()
    become(logs.command(units, given), logs.environment())


def _authorize(given: argparse.Namespace) -> int:
    from validator_supervisor.applied import Applied
    from validator_supervisor.cli import authorize

    print(authorize.line(Applied.load(), given.node))
    return 0
