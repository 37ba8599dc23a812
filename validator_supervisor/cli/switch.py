"""What changes validators: start, stop, restart, enable, disable, connect."""

import time
from collections.abc import Callable, Iterable, Mapping

from validator_supervisor import nearest
from validator_supervisor.bus import names
from validator_supervisor.cli import failure
from validator_supervisor.cli.client import UNKNOWN, Client
from validator_supervisor.errors import TEMPORARY, SupervisorError

# validator-override.service takes a tenth of one.
SECONDS = 10.0


def each(validators: Iterable[str], do: Callable[[str], str]) -> int:
    """Do it to each validator and print what it says; returns the status of the first failure."""
    status = 0
    # What is given twice is done once.
    for name in dict.fromkeys(validators):
        try:
            said = do(name)
        except SupervisorError as refusal:
            # Each of the others would wait for the controller as long as this one has.
            if refusal.exit_status == TEMPORARY:
                raise
            failure.show(refusal, "" if refusal.code == "UnknownValidator" else f"{name}: ")
            status = status or refusal.exit_status
        else:
            if said:
                print(said)
    return status


def start(client: Client, name: str) -> str:
    """Start a validator."""
    (accepted,) = call(client, name, "Start")
    return "" if accepted else f"{name} is running already"


def stop(client: Client, name: str) -> str:
    """Stop a validator until the next boot."""
    (accepted,) = call(client, name, "Stop")
    return "" if accepted else f"{name} is stopped already"


def restart(client: Client, name: str) -> str:
    """Restart a validator; one that is stopped is started."""
    call(client, name, "Restart")
    return ""


def enable(client: Client, name: str) -> str:
    """Start a validator, now and at each boot."""
    call(client, name, "SetEnabled", "b", True)
    wait_until(client, name, "Enabled", True)
    return f"{name} is enabled"


def disable(client: Client, name: str) -> str:
    """Stop a validator for good."""
    call(client, name, "SetEnabled", "b", False)
    wait_until(client, name, "Enabled", False)
    return f"{name} is disabled"


SWITCHES = {"start": start, "stop": stop, "restart": restart, "enable": enable, "disable": disable}


def prefer(client: Client, name: str, node: str) -> str:
    """Have a validator try a node before the others; no node: in the configured order."""
    try:
        call(client, name, "Prefer", "s", node)
    except SupervisorError as refusal:
        if refusal.code != f"{names.ERROR}UnknownNode":
            raise
        hint = nearest.hint(node, _names(client, names.NODE))
        raise SupervisorError("UnknownNode", refusal.message, hint) from None
    wait_until(client, name, "PreferredNode", node)
    return f"{name}: {node} is preferred" if node else f"{name}: no node is preferred"


def wait_until(client: Client, name: str, key: str, wanted: object) -> None:
    """Wait until a change is in effect, so that it also survives a power cut that comes now."""
    wait_for(client, name, lambda seen: seen.get(key) == wanted)


def wait_for(client: Client, name: str, there: Callable[[Mapping[str, object]], bool]) -> None:
    """Wait until a validator's properties are so. Raises SupervisorError ``NotApplied``."""
    end = time.monotonic() + SECONDS
    while True:
        objects = client.objects()
        if there(objects.get(names.validator_path(name), {}).get(names.VALIDATOR, {})):
            return
        if time.monotonic() > end:
            problem = objects[names.ROOT][names.MANAGER].get("ApplyProblem")
            why = str(problem or f"it took more than {SECONDS:g} s")
            hint = "journalctl -u validator-override"
            raise SupervisorError("NotApplied", f"is not in effect: {why}", hint)
        time.sleep(0.1)


def call(
    client: Client, name: str, method: str, signature: str = "", *body: object
) -> tuple[object, ...]:
    """Call a method of a validator. Raises SupervisorError, ``UnknownValidator`` among them."""
    path = names.validator_path(name)
    try:
        return client.call(path, names.VALIDATOR, method, signature, *body)
    except SupervisorError as refusal:
        if refusal.code != UNKNOWN:
            raise
    raise unknown(client, name)


def halted(client: Client, name: str) -> str:
    """Return why a validator is halted, or ``""``. Raises SupervisorError ``UnknownValidator``."""
    found = client.objects().get(names.validator_path(name), {}).get(names.VALIDATOR)
    if found is None:
        raise unknown(client, name)
    return str(found["HaltReason"])


def unknown(client: Client, name: str) -> SupervisorError:
    """Return the failure of a name that no validator has, with the nearest that one has."""
    hint = nearest.hint(name, _names(client, names.VALIDATOR))
    return SupervisorError("UnknownValidator", f"there is no validator {name}", hint)


def _names(client: Client, interface: str) -> list[str]:
    objects = client.objects().values()
    return [str(item[interface]["Name"]) for item in objects if interface in item]
