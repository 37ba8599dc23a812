"""`validator-supervisor adopt`: run here the keys of a validator that was retired elsewhere."""

import json
import sys
from typing import NamedTuple

from validator_supervisor import age, run, transfer
from validator_supervisor.applied import Applied
from validator_supervisor.cli import import_keystore, job, secret, streams, switch
from validator_supervisor.cli.client import Client
from validator_supervisor.cli.status import MOVED, RETIRED
from validator_supervisor.errors import FormatError
from validator_supervisor.journal import printable
from validator_supervisor.transfer import Request

HELPER = "adopt"
SECONDS = 180
# Of a key, its keystore and password, so much at least is random, and takes its place in the file.
KEY_BYTES = 128


class Given(NamedTuple):
    """The options; ``code_fd`` is where a script has the code."""

    code_fd: int | None
    returned: bool
    as_json: bool


def adopt(client: Client, name: str, file: str, given: Given) -> int:
    """Give a validator the keys of another host's. Raises SupervisorError."""
    secret.guard()
    applied = Applied.load()
    import_keystore.check_local(applied, name)
    job.check()
    raw = read(file)
    piped = transfer.dump(Request(_code(given.code_fd), raw, given.returned))
    print("opening its keystores, about a second each", file=sys.stderr, flush=True)
    own = job.of_validator(applied.config.validators[name])
    argv = job.command(applied, HELPER, [name], own)
    seconds = SECONDS + import_keystore.SECONDS_PER_KEY * (len(raw) // KEY_BYTES)
    done = run.run(argv, seconds=seconds, stdin=piped, check=False)
    sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.returncode:
        return done.returncode
    # Nothing but the other host's run has kept it down, and that is over.
    if switch.halted(client, name).partition(":")[0] in (*MOVED, RETIRED):
        switch.call(client, name, "Resume")
    import_keystore.upload(name)
    streams.write(done.stdout.decode() if given.as_json else said(name, file, done.stdout))
    return 0


def read(file: str) -> bytes:
    """Return a transfer file, before anybody types. Raises SupervisorError."""
    raw = streams.read(file, transfer.FILE_MAX)
    if len(raw) > transfer.FILE_MAX:
        raise FormatError("Transfer", f"{file}: is larger than {transfer.FILE_MAX >> 20} MiB")
    if not age.is_encrypted(raw):
        raise FormatError("Transfer", f"{file}: is no file of `retire`")
    return raw


def _code(descriptor: int | None) -> bytes:
    if descriptor is None:
        return transfer.parse_code(secret.ask("Transfer code", "--code-fd"))
    return transfer.parse_code(secret.from_descriptor(descriptor))


def said(name: str, file: str, raw: bytes) -> str:
    """Return what is told of an adoption."""
    done = json.loads(raw)
    lines = [f"adopted {key}" for key in done["keys"]]
    lines += [f"note: {remark}" for remark in done["remarks"]]
    lines.append(
        f"{len(done['keys'])} keys are in {done['archive']}: {file} is not needed any more"
    )
    lines.append("The first start lifts them, and watches the chain for two epochs:")
    lines.append(f"  validator-supervisor start {name}")
    return "".join(f"{printable(line)}\n" for line in lines)
