"""overrides.py: what was changed at run time."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator_supervisor import overrides
from validator_supervisor.applied import Applied
from validator_supervisor.config import Config
from validator_supervisor.document import SIZE_MAX, from_plain
from validator_supervisor.errors import ConfigError
from validator_supervisor.overrides import Override
from validator_supervisor.validators import Release

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,19}", fullmatch=True)
RELEASE = Release(client="teku", version="26.10.0", sha256="ab" * 32)
OVERRIDES = st.dictionaries(
    NAMES,
    st.builds(
        Override,
        enabled=st.sampled_from([None, True, False]),
        prefer=st.just("") | NAMES,
        release=st.sampled_from([None, RELEASE]),
    ),
    max_size=5,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "overrides.yaml"


@given(OVERRIDES)
def test_the_way_there_and_back(path: Path, given: overrides.Overrides) -> None:
    path.write_bytes(overrides.text(given))
    # One that changes nothing is not written.
    assert overrides.current(path) == {name: o for name, o in given.items() if o != Override()}
    assert overrides.read(from_plain(overrides.plain(given), "f")) == overrides.current(path)


def test_what_is_written_is_as_documented() -> None:
    given = {"b": Override(enabled=False), "a": Override(prefer="local"), "c": Override()}
    assert json.loads(overrides.text(given)) == {
        "version": 1,
        "validators": {"a": {"prefer": "local"}, "b": {"enabled": False}},
    }
    assert given["b"].names() == ["enabled"]
    assert Override(enabled=True, prefer="x").names() == ["enabled", "prefer"]


def test_what_a_person_has_written_is_read(path: Path) -> None:
    path.write_text(
        "# by hand\nversion: 1\nvalidators:\n  main: {enabled: false}\n  b:\n    prefer: local\n"
    )
    assert overrides.current(path) == {
        "main": Override(enabled=False),
        "b": Override(prefer="local"),
    }


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"# nothing\n", b"{}", b"~\n", b"version: 1\n", b"version: 1\nvalidators:\n"],
)
def test_nothing_is_overridden(path: Path, raw: bytes) -> None:
    assert overrides.current(path) == {}
    path.write_bytes(raw)
    assert overrides.current(path) == {}


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b"[1]",
        b"0",
        b"false",
        b'""',
        b"text",
        b"\xff\xfe",
        b"\0" * 20,
        b'{"version": 1, "validators": {"a": {"enabled": tr',
        b'{"version": 1}}',
        b'{"version": 1} {}',
        b'{"version": 1, "version": 1}',
        b'{"version": 1, "validators": {"a": {}, "a": {"enabled": false}}}',
        b'{"version": 1, "validators": {"a": {"enabled": true, "enabled": false}}}',
        b'{"version": 1, "validators": {"a": {"prefer": "\\ud800"}}}',
        b'{"version": 1, "validators": {"\\ud800": {}}}',
        b'{"version": 1.0}',
        b'{"version": true}',
        b'{"version": 2}',
        b'{"version": "1"}',
        b'{"validators": {}}',
        b'{"version": 1, "nodes": {}}',
        b'{"version": 1, "validators": []}',
        b'{"version": 1, "validators": {"A": {}}}',
        b'{"version": 1, "validators": {"../a": {}}}',
        b'{"version": 1, "validators": {"a\\nSTATUS=x": {}}}',
        b'{"version": 1, "validators": {"a": null}}',
        b'{"version": 1, "validators": {"a": true}}',
        b'{"version": 1, "validators": {"a": {"enabled": 1}}}',
        b'{"version": 1, "validators": {"a": {"enabled": null}}}',
        b'{"version": 1, "validators": {"a": {"prefer": ""}}}',
        b'{"version": 1, "validators": {"a": {"prefer": "../x"}}}',
        b'{"version": 1, "validators": {"a": {"prefer": ["x"]}}}',
        b'{"version": 1, "validators": {"a": {"release": "x"}}}',
        b'{"version": NaN}',
        b'{"version": 1e400}',
        b'{"version": ' + b"1" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"[" * 100_000,
        b"version: 1\n--- \nversion: 1\n",
        b"version: 1\nversion: 1\n",
        b"version: &a 1\n",
        b"version: !!python/object/apply:os.system [id]\n",
        b"a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        b"#" * (SIZE_MAX + 1),
        b"#" * (10 << 20),
        b'{"version": 1}' + b" " * (10 << 20),
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_what_is_damaged_or_hostile_is_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        overrides.current(path)
    assert caught.value.code == "InvalidConfiguration"
    assert caught.value.message.startswith(str(path))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < len(str(path)) + 1000


def test_only_a_regular_file_is_read(tmp_path: Path, path: Path) -> None:
    # Each would hold its reader up, or have root read in another place.
    good = tmp_path / "good"
    good.write_bytes(overrides.text({}))
    kinds: list[Callable[[], None]] = [
        lambda: os.mkfifo(path),
        path.mkdir,
        lambda: path.symlink_to(good),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(tmp_path / "nowhere"),
        lambda: path.symlink_to(path),
    ]
    for make in kinds:
        make()
        with pytest.raises(ConfigError, match=str(path)):
            overrides.current(path)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def test_a_truncated_file_is_refused_or_empty(path: Path) -> None:
    raw = overrides.text({"a": Override(enabled=False, prefer="local")})
    for end in range(1, len(raw) - 1):
        path.write_bytes(raw[:end])
        with pytest.raises(ConfigError):
            overrides.current(path)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        overrides.current(path)
    except ConfigError as failure:
        assert failure.message.startswith(str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(1),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "validators", "enabled", "prefer", "a"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"version": st.just(1), "validators": JSON}) | JSON)
def test_any_document_is_read_or_refused(data: object) -> None:
    try:
        overrides.read(from_plain(data, "f"))
    except ConfigError as failure:
        assert failure.message.startswith("f")


def test_they_win_over_the_file(example: Applied) -> None:
    given = {
        "main": Override(enabled=False, prefer="local"),
        "other": Override(enabled=True),
        "hub": Override(enabled=True),
    }
    found = overrides.effective(example.configured, given)
    main = found.ethereum[0]
    assert (main.enabled, main.nodes) == (False, ("local", "helsinki"))
    assert found.validators["other"].enabled is True
    assert found.validators["hub"].enabled is True
    # And nothing else has changed.
    assert found.nodes == example.configured.nodes
    assert overrides.effective(example.configured, {}) == example.configured


def test_the_preferred_node_comes_first_and_the_others_keep_their_order(
    read: Callable[[str], Config],
) -> None:
    nodes = ", ".join(f"n{i}: {{beacon: 'h:{i + 1}'}}" for i in range(4))
    address = "0x" + "0" * 40
    found = read(
        f"nodes: {{{nodes}}}\nvalidators: {{v: {{kind: ethereum, network: dev, "
        f"fee_recipient: '{address}', release: {{client: lodestar, binary: /x}}}}}}\n"
    )

    def order(prefer: str) -> tuple[str, ...]:
        return overrides.effective(found, {"v": Override(prefer=prefer)}).ethereum[0].nodes

    assert order("") == ("n0", "n1", "n2", "n3")
    assert order("n0") == ("n0", "n1", "n2", "n3")
    assert order("n2") == ("n2", "n0", "n1", "n3")
    assert order("n9") == ("n0", "n1", "n2", "n3")


@given(OVERRIDES)
def test_what_fits_nothing_does_nothing(example: Applied, given: overrides.Overrides) -> None:
    given = {f"{name[:18]}-x": override for name, override in given.items()}
    assert overrides.effective(example.configured, given) == example.configured


def test_a_preference_for_what_has_no_nodes_does_nothing(example: Applied) -> None:
    given = {name: Override(prefer="local") for name in ("other", "hub")}
    assert overrides.effective(example.configured, given) == example.configured


def test_what_is_in_effect_has_them(example: Applied) -> None:
    applied = Applied(example.configured, example.ports, {"main": Override(prefer="local")})
    assert list(applied.beacons(applied.config.ethereum[0])) == ["local", "helsinki"]
    assert applied.configured.ethereum[0].nodes == ("helsinki", "local")


def test_another_release_is_in_effect_until_it_is_the_configurations(example: Applied) -> None:
    given = {"main": Override(release=RELEASE), "hub": Override(release=RELEASE)}
    found = overrides.effective(example.configured, given)
    assert found.ethereum[0].release == RELEASE
    assert found.validators["hub"] == example.configured.validators["hub"]
    assert overrides.meaningful(example.configured, given) == {"main": given["main"]}
    same = {"main": Override(release=example.configured.ethereum[0].release)}
    assert overrides.meaningful(example.configured, same) == {}
