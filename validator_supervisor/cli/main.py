"""The entry point of `validator-supervisor` (validator-supervisor(1))."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from validator_supervisor import __version__
from validator_supervisor.errors import REFUSED, SupervisorError
from validator_supervisor.journal import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 refused, 75 temporary."""
    given = _parser().parse_args(argv)
    try:
        return int(given.run(given))
    except SupervisorError as failure:
        print(f"validator-supervisor: {printable(failure.message)}", file=sys.stderr)
        if failure.hint:
            print(f"  → {printable(failure.hint)}", file=sys.stderr)
        return failure.exit_status
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; nothing is left to say
        return 1


class Parser(argparse.ArgumentParser):
    """A parser with the exit status of everything else that is refused."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 1."""
        self.print_usage(sys.stderr)
        self.exit(REFUSED, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="validator-supervisor", description="Keeps validators running on this host."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    status = commands.add_parser("status", help="show nodes, validators and problems")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)
    for name, text in (("start", "start a validator"), ("stop", "stop it until the next boot")):
        switch = commands.add_parser(name, help=text)
        switch.add_argument("name", metavar="NAME")
        switch.set_defaults(run=_switch, method=name.capitalize())
    authorize = commands.add_parser("authorize", help="print the command that lets us into a node")
    authorize.add_argument("node", metavar="NODE")
    authorize.set_defaults(run=_authorize)
    return parser


def _status(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import status
    from validator_supervisor.cli.client import Client

    shown = status.report(Client().objects(), last_warning)
    if given.json:
        print(json.dumps(status.as_json(shown), indent=1))
    else:
        print("\n".join(status.as_text(shown, time.time())))
    return 0


def last_warning(unit: str) -> str:
    """Return the last lines at priority warning of a unit's processes, if we may read them."""
    from validator_supervisor.run import run

    argv = ["/usr/bin/journalctl", "--quiet", "--no-pager", "--output=cat"]
    argv += ["--lines=3", "--priority=warning", "--boot", f"_SYSTEMD_UNIT={unit}"]
    return run(argv, seconds=10, check=False).stdout.decode(errors="replace").strip()


def _switch(given: argparse.Namespace) -> int:
    from validator_supervisor.bus.interface import VALIDATOR
    from validator_supervisor.bus.names import validator_path
    from validator_supervisor.cli.client import UNKNOWN, Client

    client = Client()
    try:
        (accepted,) = client.call(validator_path(given.name), VALIDATOR.name, given.method)
    except SupervisorError as failure:
        if failure.code != UNKNOWN:
            raise
        raise SupervisorError(
            "UnknownValidator", f"there is no validator {given.name}", "validator-supervisor status"
        ) from None
    if not accepted:
        state = "running" if given.method == "Start" else "stopped"
        print(f"{given.name} is {state} already")
    return 0


def _authorize(given: argparse.Namespace) -> int:
    from validator_supervisor import config
    from validator_supervisor.cli import authorize

    print(authorize.line(config.applied(), given.node))
    return 0
