"""`validator-supervisor resume`: after a halt, when a person says that it is safe."""

from validator_supervisor import halt
from validator_supervisor.cli import confirm, switch
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.status import MOVED, RETIRED
from validator_supervisor.errors import SupervisorError
from validator_supervisor.journal import printable


def resume(client: Client, name: str, *, yes: bool) -> int:
    """Show why a validator is halted, ask, and clear the latch. Raises SupervisorError."""
    reason = switch.halted(client, name)
    if not reason:
        raise SupervisorError("NotHalted", f"{name} is not halted")
    if reason.partition(":")[0] == RETIRED:
        raise SupervisorError("Retired", f"{name} is {reason}", halt.RETIRED_HINT)
    print(f"{name} is halted: {printable(reason)}")
    if reason.partition(":")[0] in MOVED:
        print(f"Its next start will find the same, and halt again. Where the other host is off\n"
              f"for good, `validator-supervisor take-over {name}` goes on.")  # fmt: skip
    if not yes:
        confirm.typed(name, "--yes")
    switch.call(client, name, "Resume")
    print(f"{name} is halted no longer: `validator-supervisor start {name}` starts it")
    return 0
