"""What the API has changed at run time: overrides.yaml, which wins over the configuration.

It is written by the controller, and by nobody else; as JSON, which is YAML, so that the controller
reads it without PyYAML.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from validator_supervisor.config import Config
from validator_supervisor.document import Value, load
from validator_supervisor.kinds import NAME
from validator_supervisor.schema import boolean, integer, record, setting, table
from validator_supervisor.validators import RELEASE, Ethereum, Release

FILE = Path("/var/lib/validator-supervisor/overrides.yaml")


@dataclass(frozen=True, kw_only=True)
class Override:
    """What is changed of one validator; None and ``""``: nothing."""

    enabled: bool | None = setting(boolean(), "instead of the configuration's", None)
    prefer: str = setting(NAME, "the node to use first", "")
    release: Release | None = setting(RELEASE, "instead of the configuration's", None)

    def names(self) -> list[str]:
        """Return the keys that are overridden."""
        return [name for name, value in asdict(self).items() if value not in (None, "")]


Overrides = dict[str, Override]


@dataclass(frozen=True, kw_only=True)
class _File:
    version: int = setting(integer(1, 1, "the version of this format"), "of this format")
    validators: Overrides = setting(table(NAME, record(Override)), "by name", {})


def read(document: Value) -> Overrides:
    """Check a whole document. Raises ConfigError."""
    empty = document.data is None or document.data == {}
    return {} if empty else record(_File).read(document).validators


def current(path: Path = FILE) -> Overrides:
    """Return what is in the file, nothing where there is none. Raises ConfigError."""
    # A link to nowhere is not nothing.
    return read(load(path)) if os.path.lexists(path) else {}


def plain(overrides: Overrides) -> dict[str, object]:
    """Return the overrides as JSON has them."""
    values = {
        n: {k: _plain(asdict(o)[k]) for k in o.names()} for n, o in overrides.items() if o.names()
    }
    return {"version": 1, "validators": values}


def _plain(value: object) -> object:
    """Return a value without what is not said in it."""
    return {k: v for k, v in value.items() if v} if isinstance(value, dict) else value


def text(overrides: Overrides) -> bytes:
    """Return the bytes of the file."""
    return json.dumps(plain(overrides), indent=1, sort_keys=True).encode() + b"\n"


def meaningful(config: Config, overrides: Overrides) -> Overrides:
    """Return the overrides without those that say nothing else than the configuration.

    An override that the configuration has caught up with is none any more.
    """
    kept: Overrides = {}
    for name, override in overrides.items():
        validator = config.validators.get(name)
        if validator:
            same = override.enabled == validator.enabled
            ethereum = validator if isinstance(validator, Ethereum) else None
            known = ethereum is not None and override.prefer in ethereum.nodes
            another = ethereum is not None and override.release != ethereum.release
            mine = Override(
                enabled=None if same else override.enabled,
                prefer=override.prefer if known else "",
                release=override.release if another else None,
            )
            kept |= {name: mine} if mine.names() else {}
    return kept


def effective(config: Config, overrides: Overrides) -> Config:
    """Return the configuration as overridden; what fits no validator or node does nothing."""
    validators = dict(config.validators)
    for name, override in overrides.items():
        if name not in validators:
            continue
        if override.enabled is not None:
            validators[name] = replace(validators[name], enabled=override.enabled)
        validator = validators[name]
        if isinstance(validator, Ethereum) and override.release:
            validator = validators[name] = replace(validator, release=override.release)
        if isinstance(validator, Ethereum) and override.prefer in validator.nodes:
            others = tuple(node for node in validator.nodes if node != override.prefer)
            validators[name] = replace(validator, nodes=(override.prefer, *others))
    return replace(config, validators=validators)
