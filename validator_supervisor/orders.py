"""What a person has typed for the next start of a validator: `take-over`, `start --no-watch`.

validator-state writes them, after a person has been asked, and its next start takes them away
before it acts on them: an order that is lost is typed again, one that counts twice may sign twice.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from validator_supervisor import durable
from validator_supervisor.document import parse_json, read_bytes
from validator_supervisor.errors import ConfigError, FormatError
from validator_supervisor.manifest import COUNT, ID, TIME
from validator_supervisor.schema import Kind, boolean, integer, record, setting
from validator_supervisor.store import Store

VERSION = 1
FILE = "orders.json"
SIZE_MAX = 4096
# Typed for the start that follows; what is found later was for a start that never came.
LASTS_SECONDS = 3600


def uptime() -> int:
    """Return the seconds since this boot began; nobody sets this clock."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What the next start may do that no start does by itself; None and false: nothing.

    ``take_over`` holds for what the person was shown: archives and claims of others up to
    ``sequence``. A newer one says that the other host still runs.
    """

    version: int = setting(integer(VERSION, VERSION, "the format's version"), "of the format")
    boot: str = setting(ID, "the boot in which it was typed")
    typed: int = setting(COUNT, "when, in seconds since that boot")
    take_over: bool = setting(boolean(), "go on where another host was the last", False)
    sequence: int = setting(COUNT, "the newest of the other host that was shown", 0)
    no_watch: bool = setting(boolean(), "do not watch the chain for two epochs first", False)
    now: int | None = setting(TIME, "the time to lift to, instead of the clock's", None)
    source: int | None = setting(COUNT, "the source epoch to lift to", None)

    @classmethod
    def of(cls, boot: str, **given: object) -> "Orders":
        """Return orders that are typed now."""
        return cls(version=VERSION, boot=boot, typed=uptime(), **given)  # type: ignore[arg-type]

    def may_take_over(self, sequence: int) -> bool:
        """Whether another host's archive or claim of this sequence was shown to the person."""
        return self.take_over and sequence <= self.sequence

    def stands(self, boot: str, seconds: int) -> bool:
        """Whether it was typed in this boot, and lately; ``seconds`` since the boot began."""
        return self.boot == boot and 0 <= seconds - self.typed <= LASTS_SECONDS


KIND: Kind[Orders] = record(Orders)


def text(orders: Orders) -> bytes:
    """Return the bytes of the file."""
    given = {key: value for key, value in asdict(orders).items() if value is not None}
    return json.dumps(given).encode() + b"\n"


def parse(raw: bytes) -> Orders:
    """Return the orders in a file. Raises FormatError (``InvalidOrders``)."""
    try:
        return KIND.read(parse_json(raw, FILE))
    except ConfigError as failure:
        raise FormatError("Orders", failure.message, failure.hint) from None


def give(store: Store, orders: Orders) -> None:
    """Leave orders for the next start, instead of those that are there. Raises OSError."""
    durable.write(store.directory / FILE, text(orders))


def look(store: Store, boot: str, clock: Callable[[], int] = uptime) -> Orders | None:
    """Return the orders that stand, and leave them; None where there are none.

    Orders of another boot, and those that cannot be read, are none.
    """
    try:
        found = parse(read_bytes(store.directory / FILE, SIZE_MAX))
    except (ConfigError, FormatError):
        return None
    return found if found.stands(boot, clock()) else None


def take(store: Store, boot: str, clock: Callable[[], int] = uptime) -> Orders | None:
    """Return the orders that stand, after they have been removed for good. Raises OSError.

    Call it when nothing but the start itself is left to do, and before any of it is done.
    """
    found = look(store, boot, clock)
    (store.directory / FILE).unlink(missing_ok=True)
    durable.sync_directory(store.directory)
    return found
