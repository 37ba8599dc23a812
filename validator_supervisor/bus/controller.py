"""The controller: keeps the objects as systemd and the watch have them, and carries out calls."""

from pathlib import Path

from validator_supervisor import config, journal, watch
from validator_supervisor.bus import model, names
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.bus.model import Objects, UnitState, World
from validator_supervisor.config import Applied
from validator_supervisor.document import from_plain
from validator_supervisor.errors import SupervisorError
from validator_supervisor.generator import tunnel_unit, validator_unit

WATCH = "validator-watch.service"
APPLY = "validator-apply.service"
RUNTIME = Path("/run/validator")


class Controller:
    """The state behind the objects."""

    def __init__(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self._applied = Applied(config.read(from_plain({}, "nothing")), {})
        self._units: dict[str, UnitState] = {}
        self._stale: set[str] = set()
        self._reread = True
        self._seen = 0
        systemd.subscribe(self._stale.add, self._on_reload)

    def _on_reload(self) -> None:
        self._reread = True

    @property
    def stale(self) -> bool:
        """Whether anything has changed since ``refresh``."""
        return self._reread or bool(self._stale) or self._seen != self._results()

    @staticmethod
    def _results() -> int:
        """Return which version of the watch's results is there."""
        try:
            return watch.RESULTS.stat().st_mtime_ns
        except OSError:
            return 0

    def refresh(self) -> Objects:
        """Read again what has changed, and return every object."""
        if self._reread:
            self._reread = False
            self._read()
        for unit in list(self._stale):
            self._stale.discard(unit)
            self._units[unit] = self._systemd.state(unit)
        self._seen = self._results()
        return model.objects(
            World(
                applied=self._applied,
                units=self._units,
                readings=watch.readings(),
                attesting=watch.attesting(),
                runs={
                    name: model.read_run(RUNTIME / name / "run.json")
                    for name in self._applied.config.validators
                },
            )
        )

    def act(self, path: str, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        """Carry out a method of one of our interfaces. Raises SupervisorError."""
        del arguments  # no method takes any yet
        for validator in self._applied.config.validators.values():
            if path == names.validator_path(validator.name):
                return (self._switch(validator_unit(validator.name), method),)
        for node in self._applied.config.nodes.values():
            if path == names.node_path(node.name):
                if not node.host:
                    raise SupervisorError("NoTunnel", f"node {node.name} is this host")
                self._systemd.restart(tunnel_unit(node.name))
                return ()
        self._systemd.start(APPLY)
        return ()

    def _switch(self, unit: str, method: str) -> bool:
        active = self._systemd.active(unit)
        if method == "Start":
            if active == "active":
                return False
            self._systemd.start(unit)
            return True
        if active in ("inactive", "failed"):
            return False
        self._systemd.stop(unit)
        return True

    def _read(self) -> None:
        try:
            self._applied = config.applied()
        except SupervisorError as failure:
            journal.error(failure)
            return
        units = [tunnel_unit(n.name) for n in self._applied.config.nodes.values() if n.host]
        units += [validator_unit(name) for name in self._applied.config.validators]
        for unit in [*units, WATCH]:
            self._systemd.watch(unit)
        self._units = {unit: self._systemd.state(unit) for unit in units}
