"""The entry point of `validator-supervisor` (validator-supervisor(1))."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from validator_supervisor import __version__
from validator_supervisor.cli import failure, keys, programs
from validator_supervisor.errors import REFUSED, SupervisorError

# Of a shell's command that Ctrl-C has ended: 128 and SIGINT.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 refused, 75 temporary."""
    if sys.stderr is None:  # closed: what is said there must not get between what is printed
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # open to the end
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
        # The reader of our output has gone; nothing is left to say, by Python at its end neither.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        failure.show(SupervisorError("NoMemory", "this needs more memory than there is"))
        return given.wrong if "wrong" in given else REFUSED


class Once(argparse.Action):
    """Keeps the value of an option that must not be given twice: which one counts?"""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object,
        option_string: str | None = None,
    ) -> None:  # fmt: skip
        """Keep it, or end with the message that it is there already."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"argument {option_string}: is there twice")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser with the exit status of everything else that is refused."""

    # `slashing check` has another one: there, 1 is an answer.
    wrong = REFUSED

    def __init__(self, **given: Any) -> None:
        # Unless it is told a width it asks shutil, whose import takes longer than all of argparse.
        narrow = partial(argparse.HelpFormatter, width=80)
        super().__init__(**given, formatter_class=narrow, allow_abbrev=False)

    def format_help(self) -> str:
        """Return the help, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_help()

    def format_usage(self) -> str:
        """Return the usage, as wide as the terminal."""
        self.formatter_class = argparse.HelpFormatter
        return super().format_usage()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what a command does not know as the command itself does."""
        given, unknown = super().parse_known_args(args, namespace)
        if unknown and self.wrong != REFUSED:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return given, unknown

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 1, or with what the command has for it."""
        self.print_usage(sys.stderr)
        self.exit(self.wrong, f"{self.prog}: {message}\n")


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
        if switch == "start":
            keys.add_orders(command)
            keys.add_explain(command)
        if switch in ("stop", "restart"):
            programs.add_when_safe(command)
        command.set_defaults(run=_switch, switch=switch)
    connect = commands.add_parser("connect", help="have a validator try one node before the others")
    connect.add_argument("name", metavar="NAME", type=_name)
    node = connect.add_mutually_exclusive_group(required=True)
    node.add_argument("preferred", metavar="NODE", nargs="?", type=_name, help="the node")
    node.add_argument("--clear", action="store_true", help="as the configuration orders them")
    connect.set_defaults(run=_connect)
    programs.add(commands, _name, _number)
    keys.add(commands, _name, _descriptor)
    _add_logs(commands.add_parser("logs", help="show what validators and tunnels have said"))
    authorize = commands.add_parser("authorize", help="print the command that lets us into a node")
    authorize.add_argument("node", metavar="NODE")
    authorize.set_defaults(run=_authorize)
    _add_identity(commands)
    _add_backup(commands.add_parser("backup", help="make, look at and restore archives"))
    _add_slashing(commands.add_parser("slashing", help="merge and ask what keys have signed"))
    return parser


def _add_backup(backup: argparse.ArgumentParser) -> None:
    commands = backup.add_subparsers(metavar="COMMAND", required=True)
    inspect = commands.add_parser("inspect", help="verify an archive and show what it says")
    inspect.add_argument("file", metavar="FILE", help="the archive; - is standard input")
    inspect.add_argument("-i", "--identity", metavar="IDENTITY", required=True,
                         help="the identity file that it was made with")  # fmt: skip
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(run=_inspect)
    now = commands.add_parser("now", help="back validators up and wait for the end of it")
    now.add_argument("name", metavar="NAME", nargs="+", type=_name)
    now.set_defaults(run=_backup_now)
    for job, text in (
        ("list", "show where archives are and whether they verify"),
        ("verify", "the same; 1 where the newest is not good everywhere, or a node is away"),
    ):
        command = commands.add_parser(job, help=text)
        command.add_argument("name", metavar="NAME", nargs="*", type=_name)
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=_archives, job=job)
    restore = commands.add_parser("restore", help="bring archives back to this host")
    restore.add_argument("name", metavar="NAME", type=_name)
    for option, metavar, destination, text in (
        ("--from", "NODE|FILE", "source", "only from this node, or this archive; - is stdin"),
        ("--to", "DIRECTORY", "to", "write the files of the newest, plain, into a new directory"),
    ):
        restore.add_argument(option, metavar=metavar, dest=destination, action=Once, help=text)
    restore.add_argument("--force", action="store_true", help="also where that is on a disk")
    restore.set_defaults(run=_archives, job="restore")


def _add_identity(commands: Any) -> None:
    added = {
        name: commands.add_parser(name, help=text)
        for name, text in (
            ("unlock", "open the identity with its passphrase"),
            ("lock", "close the identity, after what needs it has stopped"),
            ("init-identity", "make the identity that archives are encrypted to"),
            ("recovery-kit", "print what restores archives without this host"),
            ("passphrase", "change the passphrase of the identity"),
            ("rotate-identity", "replace the identity, and encrypt archives to the new one"),
        )
    }
    for name, command in added.items():
        command.set_defaults(run=_identity, identity_command=name)
        if name not in ("lock", "recovery-kit"):
            text = "read the new passphrase" if name == "passphrase" else "read the passphrase"
            command.add_argument("--passphrase-fd", metavar="N", type=_descriptor,
                                 help=f"{text} from this descriptor")  # fmt: skip
        if name not in ("unlock", "lock", "passphrase"):
            command.add_argument("--kit", metavar="FILE", help="write the recovery kit there")
    made = added["init-identity"].add_mutually_exclusive_group()
    made.add_argument("--generate", action="store_true", help="make a passphrase and print it")
    made.add_argument("--from", metavar="KIT", dest="origin", action=Once,
                      help="bring back the one of a recovery kit")  # fmt: skip
    added["recovery-kit"].add_argument("--json", action="store_true", help="print JSON")


def _add_logs(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("unit", metavar="NAME", nargs="*", help="validators and nodes; or all")
    logs.add_argument("-f", "--follow", action="store_true", help="wait for more")
    logs.add_argument("-n", "--lines", metavar="N", help="only the last N lines")
    logs.add_argument("--since", metavar="TIME", help="not older than this (systemd.time(7))")
    logs.add_argument("-p", "--priority", metavar="P", help="nothing less important than this")
    logs.set_defaults(run=_logs)


def _add_slashing(slashing: argparse.ArgumentParser) -> None:
    commands = slashing.add_subparsers(metavar="COMMAND", required=True, dest="slashing")
    merge = commands.add_parser("merge", help="print the watermarks of EIP-3076 files")
    merge.add_argument("file", metavar="FILE", nargs="+", help="a file, or - for standard input")
    merge.add_argument("--complete", action="store_true", help="print every entry instead")
    check: Any = commands.add_parser("check", help="may this be signed? 0 yes, 1 no, 2 bad input")
    check.wrong = 2
    check.set_defaults(wrong=check.wrong)
    check.add_argument("file", metavar="FILE")
    check.add_argument("--pubkey", metavar="KEY", required=True, action=Once)
    message = check.add_mutually_exclusive_group(required=True)
    message.add_argument("--block", metavar="SLOT", action=Once)
    message.add_argument("--attestation", metavar=("SOURCE", "TARGET"), nargs=2, action=Once)
    lift = commands.add_parser("lift", help="print watermarks at or above now for every key")
    lift.add_argument("file", metavar="FILE")
    for option, metavar, needed, text in (
        ("--genesis-time", "T", True, "in seconds since 1970"),
        ("--seconds-per-slot", "S", True, "of the chain"),
        ("--slots-per-epoch", "N", True, "of the chain"),
        ("--now", "T", False, "in seconds since 1970; else the clock's"),
        ("--source", "N", False, "instead of the epoch before this one"),
    ):
        lift.add_argument(option, metavar=metavar, required=needed, help=text)
    lift.add_argument("--other-host", action="store_true", help="another host may have signed")
    aside = commands.add_parser("quarantine", help="leave an archive out for good")
    aside.add_argument("name", metavar="NAME", type=_name)
    aside.add_argument("archive", metavar="ARCHIVE")
    aside.add_argument("--confirm", metavar="NAME", help="its name again, instead of typing it")
    slashing.set_defaults(run=_slashing)
    aside.set_defaults(run=keys.quarantine)


def _name(text: str) -> str:
    # An empty one would mean something else on the bus, and bytes that are no text nothing.
    if not text.isprintable() or not text:
        raise argparse.ArgumentTypeError("not a name")
    return text


def _descriptor(text: str) -> int:
    return _number(text, "not the number of a descriptor")


def _number(text: str, wrong: str = "not a number below 10000") -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 4:
        raise argparse.ArgumentTypeError(wrong)
    return int(text)


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

    if given.switch == "start" and (given.explain or given.no_watch or given.now is not None):
        return keys.start(given)
    client, do = Client(), switch.SWITCHES[given.switch]
    wait = programs.waiting(client, given)
    return switch.each(given.name, lambda name: wait(name) or do(client, name))


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


def _identity(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import identity, unlock

    command = given.identity_command
    if command == "unlock":
        return unlock.unlock(given.passphrase_fd)
    if command == "lock":
        return unlock.lock()
    if command == "init-identity" and given.origin:
        return identity.bring_back(given.passphrase_fd, given.origin)
    if command == "init-identity":
        return identity.init(given.passphrase_fd, given.kit, generate=given.generate)
    if command == "recovery-kit":
        return identity.recovery_kit(given.kit, as_json=given.json)
    if command == "passphrase":
        return identity.passphrase(given.passphrase_fd)
    return identity.rotate(given.passphrase_fd, given.kit, identity.reencrypt)


def _inspect(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import backup

    return backup.inspect(given.file, given.identity, as_json=given.json)


def _backup_now(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import backup, switch
    from validator_supervisor.cli.client import Client

    client = Client()
    return switch.each(given.name, lambda name: backup.now(client, name))


def _archives(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import backup

    backup.archives(given)


def _slashing(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import slashing

    return slashing.run(given)
