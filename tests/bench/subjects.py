"""Everything that is measured: a new measurement is a function in a module, and a line here."""

from collections.abc import Callable
from types import MappingProxyType

from tests.bench import bus, formats, idle, start, state, tunnel, validator
from tests.bench.row import Row
from tests.bench.scene import Scene

# In this order: what is idle before anything has happened, and what upsets the most at the end.
SUBJECTS: MappingProxyType[str, Callable[[Scene], list[Row]]] = MappingProxyType(
    {
        "idle-memory": idle.memory,
        "idle-cpu": idle.cpu,
        "status": start.status,
        "helper-start": start.helpers,
        "generator": start.generator,
        "decision": state.decision,
        "restart": state.restart,
        "unlock": state.unlock,
        "archive": formats.archive,
        "slashing": formats.slashing,
        "age": formats.age,
        "bus-read": bus.read,
        "bus-load": bus.load,
        "bus-memory": bus.memory,
        "validator-kill": validator.kill,
        "tunnel-kill": tunnel.kill,
        "tunnel-cut": tunnel.cut,
    }
)
