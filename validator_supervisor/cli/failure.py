"""An expected failure, as the command line shows it."""

import sys

from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable


def show(failure: SupervisorError, subject: str = "") -> None:
    """Print what has failed, and what to do about it, to standard error."""
    print(f"validator-supervisor: {subject}{printable(failure.message)}", file=sys.stderr)
    if failure.hint:
        print(f"  → {printable(failure.hint)}", file=sys.stderr)


def named(file: object, failure: SupervisorError) -> SupervisorError:
    """Return the failure with the name of the file that it is about."""
    message = f"{file}: {failure.message}"
    return SupervisorError(failure.code, message, failure.hint, exit_status=failure.exit_status)
