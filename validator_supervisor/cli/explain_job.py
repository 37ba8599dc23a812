"""What `start --explain` does as validator-state: look, decide, print."""

import json

from validator_supervisor import explain, identity, place, state
from validator_supervisor.applied import Applied
from validator_supervisor.cli import failure, streams
from validator_supervisor.errors import REFUSED, SupervisorError


def main(name: str, form: str) -> int:
    """Explain the start of a validator; returns 0, or 1 where it would be refused."""
    try:
        applied = Applied.load()
        mine = {one.name: one for one in applied.config.ethereum}[name]
        job = state.job(applied, mine, identity.load(), place.places(applied, place.ssh_keys()))
        shown = explain.explain(job)
    except SupervisorError as refusal:
        failure.show(refusal)
        return refusal.exit_status
    if form == "json":
        streams.write(json.dumps(shown.plain(), indent=1) + "\n")
    else:
        streams.write("".join(f"{line}\n" for line in explain.as_text(shown)))
    return REFUSED if shown.row == explain.REFUSED else 0
