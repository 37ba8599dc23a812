"""Commands about keys, and about who signs with them: their arguments, and what they run."""

import argparse
from collections.abc import Callable
from typing import Any

from validator_supervisor.errors import SupervisorError


def add(commands: Any, name: Callable[[str], str], descriptor: Callable[[str], int]) -> None:
    """Add the commands to the parser of all."""
    imported = commands.add_parser("import-keystore", help="give a validator keys (EIP-2335)")
    imported.add_argument("name", metavar="NAME", type=name)
    imported.add_argument("file", metavar="FILE", nargs="*", help="a keystore")
    imported.add_argument(
        "--web3signer",
        action="store_true",
        help="keys that its Web3Signer has: PUBKEYs instead of FILEs, or all that are wanted",
    )
    imported.add_argument(
        "--password-fd", metavar="N", type=descriptor, help="a line for each, or one for all"
    )
    imported.add_argument(
        "--slashing-protection", metavar="FILE", help="what they have signed, EIP-3076"
    )
    imported.add_argument(
        "--returned", action="store_true", help="also keys that were removed before"
    )
    imported.add_argument("--json", action="store_true", help="print JSON")
    imported.set_defaults(run=_import_keystore)
    removed = commands.add_parser("remove-key", help="take keys from a validator for good")
    removed.add_argument("name", metavar="NAME", type=name)
    removed.add_argument("public_key", metavar="PUBKEY", nargs="+", help="0x and 96 digits")
    removed.add_argument(
        "--out", metavar="FILE", required=True, help="where what they have signed is written"
    )
    removed.add_argument("--confirm", metavar="NAME", help="its name again, instead of typing it")
    removed.add_argument("--no-watch", action="store_true", help="do not watch the chain")
    removed.add_argument("--json", action="store_true", help="print JSON")
    removed.set_defaults(run=_remove_key)
    over = commands.add_parser("take-over", help="run here what another host has run")
    over.add_argument("name", metavar="NAME", type=name)
    add_orders(over)
    over.set_defaults(run=_take_over)
    retired = commands.add_parser("retire", help="end a validator here, for another host")
    retired.add_argument("name", metavar="NAME", type=name)
    retired.add_argument(
        "--output", metavar="FILE", required=True, help="where its keys are written, encrypted"
    )
    retired.add_argument("--code-fd", metavar="N", type=descriptor,
                         help="write the transfer code to this descriptor")  # fmt: skip
    retired.add_argument("--confirm", metavar="NAME", help="its name again, instead of typing it")
    retired.add_argument("--json", action="store_true", help="print JSON")
    retired.set_defaults(run=_retire)
    adopted = commands.add_parser("adopt", help="run here what another host has retired")
    adopted.add_argument("name", metavar="NAME", type=name)
    adopted.add_argument("file", metavar="FILE", help="what `retire` has written")
    adopted.add_argument("--code-fd", metavar="N", type=descriptor,
                         help="read the transfer code from this descriptor")  # fmt: skip
    adopted.add_argument(
        "--returned", action="store_true", help="also keys that were removed before"
    )
    adopted.add_argument("--json", action="store_true", help="print JSON")
    adopted.set_defaults(run=_adopt)
    out = commands.add_parser("exit", help="have a key leave the chain for good")
    out.add_argument("name", metavar="NAME", type=name)
    out.add_argument("public_key", metavar="PUBKEY", type=name)
    out.add_argument("--confirm", metavar="PUBKEY", help="the key again, instead of typing it")
    out.add_argument("--json", action="store_true", help="print JSON")
    out.set_defaults(run=_exit)
    resume = commands.add_parser("resume", help="clear a halt, after you have read why")
    resume.add_argument("name", metavar="NAME", type=name)
    resume.add_argument("--yes", action="store_true", help="do not ask")
    resume.set_defaults(run=_resume)


def add_explain(command: argparse.ArgumentParser) -> None:
    """Add what shows a start without starting."""
    command.add_argument("--explain", action="store_true", help="say what it would do, and why")
    command.add_argument("--json", action="store_true", help="with --explain: print JSON")


def add_orders(command: argparse.ArgumentParser) -> None:
    """Add what a person may order for a start."""
    command.add_argument("--no-watch", action="store_true", help="do not watch the chain first")
    command.add_argument("--now", metavar="T", type=int, help="the time to lift to (Unix seconds)")
    command.add_argument("--confirm", metavar="NAME", help="its name again, instead of typing it")


def _import_keystore(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import import_keystore

    if given.web3signer:
        if given.password_fd is not None:
            raise SupervisorError("NoKeystores", "a key of a Web3Signer has no password")
        return import_keystore.adopt(
            given.name,
            given.file,
            protection=given.slashing_protection,
            returned=given.returned,
            as_json=given.json,
        )
    if not given.file:
        hint = "a FILE, or --web3signer for keys that its Web3Signer has"
        raise SupervisorError("NoKeystores", "there is no keystore to import", hint)
    return import_keystore.import_keystore(
        given.name,
        given.file,
        password_fd=given.password_fd,
        protection=given.slashing_protection,
        returned=given.returned,
        as_json=given.json,
    )


def _remove_key(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import remove_key
    from validator_supervisor.cli.client import Client

    options = remove_key.Given(given.out, given.confirm, given.no_watch, given.json)
    return remove_key.remove_key(Client(), given.name, given.public_key, options)


def _take_over(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import take_over
    from validator_supervisor.cli.client import Client

    options = take_over.Given(given.no_watch, given.now, given.confirm)
    return take_over.take_over(Client(), given.name, options)


def _retire(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import retire
    from validator_supervisor.cli.client import Client

    options = retire.Given(given.output, given.confirm, given.code_fd, given.json)
    return retire.retire(Client(), given.name, options)


def _adopt(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import adopt
    from validator_supervisor.cli.client import Client

    options = adopt.Given(given.code_fd, given.returned, given.json)
    return adopt.adopt(Client(), given.name, given.file, options)


def _exit(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import exit_key
    from validator_supervisor.cli.client import Client

    client, key = Client(), given.public_key
    return exit_key.exit_key(client, given.name, key, given.confirm, as_json=given.json)


def start(given: argparse.Namespace) -> int:
    """Start a validator with orders."""
    from validator_supervisor.cli import take_over
    from validator_supervisor.cli.client import Client

    if len(given.name) > 1:
        raise SupervisorError("OneName", "these options are for one validator at a time")
    if given.explain:
        take_over.explain(given.name[0], as_json=given.json)
    options = take_over.Given(given.no_watch, given.now, given.confirm)
    return take_over.start(Client(), given.name[0], options)


def quarantine(given: argparse.Namespace) -> int:
    """Set an archive aside."""
    from validator_supervisor.cli import take_over

    return take_over.quarantine(given.name, given.archive, given.confirm)


def _resume(given: argparse.Namespace) -> int:
    from validator_supervisor.cli import resume
    from validator_supervisor.cli.client import Client

    return resume.resume(Client(), given.name, yes=given.yes)
