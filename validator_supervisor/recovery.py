"""The recovery kit: what must be on paper to open archives without this host and this program."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

from validator_supervisor.age import armor
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.run import run

# Archives of each validator: NAME/archives/NAME.SEQUENCE.DIGEST.age.
STATE = Path("/var/lib/validator-state")
ARCHIVE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9_-]{0,19})\.(?P<sequence>[0-9]{1,19})\.[0-9a-f]{32}\.age"
)
QRENCODE = Path("/usr/bin/qrencode")
RESTORE = """\
To restore archives on any machine, with nothing but age(1), tar and zstd:

  1. Type or scan the text above, from BEGIN to END, into a file: identity.age
  2. Take the newest archive from a node, or from /var/lib/validator-state:
     NAME.SEQUENCE.DIGEST.age; the number in the middle is never below the one above.
  3. age --decrypt --identity identity.age NAME.SEQUENCE.DIGEST.age | tar --zstd --extract
     It asks for the passphrase.

Before keys that were restored by hand sign again, their old host must be off for good,
and slashing-protection.json must be imported with them. To restore onto this program, put
this kit, or the text above, into a file, and follow "Disaster recovery" in its README.md,
which begins with: validator-supervisor init-identity --from FILE
"""


def newest(state: Path = STATE) -> dict[str, int]:
    """Return the greatest sequence number of each validator's archives here."""
    found: dict[str, int] = {}
    for path in sorted(state.glob("*/archives/*.age")):
        fits = ARCHIVE.fullmatch(path.name)
        if fits and fits["name"] == path.parent.parent.name:
            name, sequence = fits["name"], int(fits["sequence"])
            found[name] = max(sequence, found.get(name, 0))
    return found


def identity_in(kit: bytes) -> bytes:
    """Return ``identity.age`` from a kit that was printed, typed or scanned, or from a part of it.

    Raises FormatError (Kit).
    """
    lines = [line.strip() for line in kit.split(b"\n")]
    if (lines.count(armor.BEGIN), lines.count(armor.END)) != (1, 1):
        found = f"from {armor.BEGIN.decode()} to {armor.END.decode()}"
        raise FormatError("Kit", f"there is not one text {found}")
    text = lines[lines.index(armor.BEGIN) : lines.index(armor.END) + 1]
    return b"".join(b"%s\n" % line for line in text)


def qr(sealed: bytes) -> str:
    """Return the file as a QR code of text, empty where qrencode(1) cannot make one."""
    if not QRENCODE.exists():
        return ""
    try:
        argv = [str(QRENCODE), "--type=UTF8", "--level=L", "--output=-"]
        return run(argv, seconds=10, stdin=sealed).stdout.decode()
    except (SupervisorError, UnicodeDecodeError):
        return ""  # the text is what counts


def kit(sealed: bytes, host: str, made: float, sequences: Mapping[str, int], code: str) -> str:
    """Return the recovery kit; it is of no use without the passphrase, which is not in it."""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made))
    rows = [f"  {name:<22}{sequence}" for name, sequence in sorted(sequences.items())]
    parts = [
        f"Recovery kit of the validators on {host}, {day}\n",
        "Print it, and keep it and the passphrase in two places. The passphrase is not here.\n",
        sealed.decode(),
        code or "(no QR code: qrencode is not installed)\n",
        "Newest archives now, validator and sequence number:\n",
        "\n".join(rows or ["  none yet"]) + "\n",
        RESTORE,
    ]
    return "\n".join(parts)
