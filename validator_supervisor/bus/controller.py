"""The controller: keeps the objects as systemd and the watch have them, and carries out calls."""

import contextlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from jeepney.fds import FileDescriptor

from validator_supervisor import (
    copies,
    durable,
    duties,
    halt,
    identity,
    journal,
    overrides,
    releases,
    watch,
)
from validator_supervisor.applied import Applied
from validator_supervisor.bus import model, names
from validator_supervisor.bus.manager import Systemd
from validator_supervisor.bus.model import APPLY, IDENTITY, OVERRIDE, Objects, UnitState, World
from validator_supervisor.bus.offer import Offer
from validator_supervisor.document import from_plain
from validator_supervisor.errors import ConfigError, SupervisorError
from validator_supervisor.nodes import Node
from validator_supervisor.overrides import Override, Overrides
from validator_supervisor.units import (
    backup_unit,
    release_unit,
    state_unit,
    tunnel_unit,
    validator_unit,
)
from validator_supervisor.validators import RELEASE, Ethereum, Release, Validator, untrusted

WATCH = "validator-watch.service"
# What it has found is in the files of the validators.
DRILL = "validator-drill.service"
RUNTIME = Path("/run/validator")
# After the RestartSec= of a tunnel. systemd notices the end of that time only when something wakes
# it, or up to 250 ms late (sd_event_add_time(3)): the question wakes it.
LOOK_AGAIN_SECONDS = 0.03


class Controller:
    """The state behind the objects."""

    def __init__(self, systemd: Systemd, offer: Offer) -> None:
        self._systemd = systemd
        self._offer = offer
        self._unlocked = False
        self._applied = Applied()
        self._units: dict[str, UnitState] = {}
        self._stale: set[str] = set()
        # Started once more when they have ended: they were at work when they were asked for.
        self._again: set[str] = set()
        # When to look again at units that wait for their restart.
        self._soon: dict[str, float] = {}
        # Overrides that validator-override.service has not put into effect yet.
        self._written: Overrides | None = None
        self._problem = ""
        self._reread = True
        self._seen = [0, 0]
        systemd.subscribe(self._stale.add, self._on_reload)

    def _on_reload(self) -> None:
        self._reread = True

    @property
    def stale(self) -> bool:
        """Whether anything has changed since ``refresh``."""
        due = self.pause == 0
        return due or self._reread or bool(self._stale) or self._seen != self._results()

    @property
    def pause(self) -> float | None:
        """Seconds until there is something to look at again; None: not before a signal."""
        soon = max(0.0, min(self._soon.values()) - time.monotonic()) if self._soon else None
        return min((p for p in (soon, self._offer.pause) if p is not None), default=None)

    @staticmethod
    def _results() -> list[int]:
        """Return which version of the watch's results, and of the latches, is there."""
        return [_changed(path) for path in (watch.RESULTS, halt.HALTED)]

    def refresh(self) -> Objects:
        """Read again what has changed, and return every object.

        Raises SupervisorError ``SystemdRefused`` while systemd does not answer, as when it is
        executed anew; what has changed is read the next time.
        """
        if self._reread:
            self._read()
            self._reread = False
        for unit in list(self._stale):
            self._units[unit] = self._systemd.state(unit)
            if self._units[unit].sub == "auto-restart":
                self._soon[unit] = time.monotonic() + LOOK_AGAIN_SECONDS
            if unit in self._again and self._units[unit].active != "activating":
                self._systemd.start(unit)
                self._again.discard(unit)
            self._stale.discard(unit)
        for unit in [unit for unit, due in self._soon.items() if due <= time.monotonic()]:
            del self._soon[unit]
            self._units[unit] = self._systemd.state(unit)
        self._seen = self._results()
        self._look_at_identity(self._units[IDENTITY])
        return model.objects(
            World(
                applied=self._applied,
                problem=self._problem,
                unlocked=self._unlocked,
                offered=self._offer.pending,
                offer_problem=self._offer.problem,
                units=self._units,
                readings=watch.readings(),
                attesting=watch.attesting(),
                duties=duties.read(),
                runs={
                    name: model.read_run(RUNTIME / name / "run.json")
                    for name in self._applied.config.validators
                },
                halts={
                    name: halt.reason(name, halt.HALTED) for name in self._applied.config.validators
                },
                copies={v.name: copies.read(v.name) for v in self._applied.config.ethereum},
                releases={
                    v.name: str(releases.current(v.name) or "")
                    for v in self._applied.config.ethereum
                    if v.release.version
                },
            )
        )

    def act(self, path: str, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        """Carry out a method of one of our interfaces. Raises SupervisorError.

        What takes time is begun: properties tell of its end. Calls are taken one after the other.
        """
        for validator in self._applied.config.validators.values():
            if path == names.validator_path(validator.name):
                return self._act_on_validator(validator, method, arguments)
        for node in self._applied.config.nodes.values():
            if path == names.node_path(node.name):
                self._reconnect(node)
                return ()
        if method == "UnlockFd":
            self._unlock(cast(FileDescriptor, arguments[0]))
        elif method == "Lock":
            self._offer.drop()
            self._systemd.stop(IDENTITY)
        else:
            self._begin(APPLY)
        return ()

    def _look_at_identity(self, unit: UnitState) -> None:
        # While it stops it is what it was: there, or never opened.
        if unit.active != "deactivating":
            self._unlocked = unit.active == "active"
        self._offer.settle(unit.active)

    def _unlock(self, passphrase: FileDescriptor) -> None:
        active = self._systemd.active(IDENTITY)
        if active == "active":
            raise SupervisorError("NotLocked", "the identity is unlocked already")
        # A question that nobody has answered yet is answered so.
        if self._offer.pending or self._offer.taken or active == "deactivating":
            hint = "validator-supervisor lock ends it"
            raise SupervisorError("Busy", "another unlock is at work", hint)
        if not identity.SEALED.exists():
            hint = "as root: validator-supervisor init-identity"
            raise SupervisorError("NoIdentity", f"{identity.SEALED} is not there", hint)
        self._offer.put(passphrase.to_raw_fd())
        try:
            self._systemd.start(IDENTITY)
        except SupervisorError:
            self._offer.drop()
            raise

    def _act_on_validator(
        self, validator: Validator, method: str, arguments: tuple[object, ...]
    ) -> tuple[object, ...]:
        unit = validator_unit(validator.name)
        if method == "Resume":
            halt.clear(validator.name, halt.HALTED)
            return ()
        if method in ("Start", "Restart"):
            _refuse_halted(validator.name)
        if method in ("Start", "Stop"):
            return (self._switch(unit, method),)
        if method == "Backup":
            return (self._backup(validator),)
        if method == "Restart":
            self._systemd.restart(unit)
        elif method == "SetEnabled":
            configured = self._applied.configured.validators[validator.name].enabled
            enabled = bool(arguments[0])
            self._override(validator, enabled=None if enabled == configured else enabled)
        elif method == "SetRelease":
            client, version, sha256 = map(str, arguments)
            wanted = self._release(validator.name, client, version, sha256)
            self._override(validator, release=wanted)
        else:
            node, known = str(arguments[0]), self._applied.beacons(validator)
            if node and node not in known:
                names_of = ", ".join(sorted(known)) or "none"
                raise SupervisorError(
                    "UnknownNode",
                    f"{node} is no node of {validator.name} with a beacon node",
                    f"its nodes: {names_of}",
                )
            self._override(validator, prefer=node)
        return ()

    def _release(self, name: str, client: str, version: str, sha256: str) -> Release | None:
        """Return the release to use instead of the configuration's; None: that one."""
        configured = self._applied.configured.validators[name]
        if not isinstance(configured, Ethereum):
            message = f"{name} is of kind {configured.kind}, which has no releases"
            raise SupervisorError("NoReleases", message)
        if not (client or version or sha256):
            return None
        # Where it is, and who has signed it, is no matter of the bus.
        kept = asdict(configured.release) if configured.release.client == client else {}
        kept = {key: kept[key] for key in ("url", "signature", "signed_by") if kept.get(key)}
        given = {"client": client, "version": version, "sha256": sha256, **kept}
        try:
            wanted = RELEASE.read(from_plain(given, "release"))
        except ConfigError as failure:
            raise SupervisorError("InvalidRelease", failure.message, failure.hint) from None
        problem, hint = untrusted(replace(configured, release=wanted))
        if problem:
            raise SupervisorError("InvalidRelease", f"keys: certificate: {problem}", hint)
        return wanted

    def _backup(self, validator: Validator) -> str:
        if not isinstance(validator, Ethereum):
            message = f"{validator.name} is of kind {validator.kind}, which has no archives"
            raise SupervisorError("NoBackups", message)
        if self._systemd.active(IDENTITY) != "active":
            # The unit would be skipped, and nobody would hear of it.
            hint = "validator-supervisor unlock"
            raise SupervisorError("Locked", "the identity is locked", hint)
        unit = backup_unit(validator.name)
        self._begin(unit)
        return unit

    def _override(self, validator: Validator, **changes: object) -> None:
        stored = {**self._applied.overrides, **(self._written or {})}
        mine = replace(stored.get(validator.name, Override()), **changes)  # type: ignore[arg-type]
        changed = overrides.text({**stored, validator.name: mine})
        try:
            durable.write(overrides.FILE, changed, 0o644)
        except OSError as failure:
            raise SupervisorError("NotWritten", f"{overrides.FILE}: {failure.strerror}") from None
        self._written = {**(self._written or {}), validator.name: mine}
        self._begin(OVERRIDE)

    def _begin(self, unit: str) -> None:
        if self._systemd.active(unit) == "activating":
            self._again.add(unit)
        else:
            self._systemd.start(unit)

    def _reconnect(self, node: Node) -> None:
        if not node.host:
            raise SupervisorError("NoTunnel", f"node {node.name} is this host")
        self._systemd.restart(tunnel_unit(node.name))

    def _switch(self, unit: str, method: str) -> bool:
        active = self._systemd.active(unit)
        if method == "Start":
            if active == "active":
                return False
            self._systemd.start(unit)
            return True
        # One whose start waits for its state is inactive, too, and is not to start later.
        if active in ("inactive", "failed") and not self._systemd.job(unit):
            return False
        self._systemd.stop(unit)
        return True

    def _read(self) -> None:
        try:
            self._applied, self._problem = Applied.load(), ""
        except SupervisorError as failure:
            journal.error(failure)
            self._problem = failure.message
        units = [tunnel_unit(n.name) for n in self._applied.config.nodes.values() if n.host]
        units += [validator_unit(name) for name in self._applied.config.validators]
        for validator in self._applied.config.ethereum:
            units += [state_unit(validator.name), backup_unit(validator.name)]
            units += [release_unit(validator.name)] if validator.release.version else []
        units += [APPLY, OVERRIDE, IDENTITY, DRILL]
        for unit in [*units, WATCH]:
            self._systemd.watch(unit)
        self._units = {unit: self._systemd.state(unit) for unit in units}
        self._compare()

    def _compare(self) -> None:
        """Forget the overrides that are in effect; begin what was left by a crash."""
        there = self._applied.overrides
        if self._written is None:
            self._written = {}
            with contextlib.suppress(SupervisorError):
                stored = overrides.meaningful(self._applied.configured, overrides.current())
                if stored != there:
                    self._written = stored
                    self._begin(OVERRIDE)
        self._written = {n: o for n, o in self._written.items() if there.get(n, Override()) != o}


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _refuse_halted(name: str) -> None:
    reason = halt.reason(name, halt.HALTED)
    if reason:
        retired = reason.partition(":")[0] == halt.RETIRED
        resume = f"when it is safe: validator-supervisor resume {name}"
        hint = halt.RETIRED_HINT if retired else resume
        raise SupervisorError("Halted", f"{name} is halted: {reason}", hint)
