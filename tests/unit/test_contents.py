"""What is in an archive of an Ethereum validator."""

import pytest

from validator_supervisor import age, contents
from validator_supervisor.contents import Key, Remote
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.interchange import History, Interchange

IDENTITY = age.X25519Identity.generate()
KEY = "0x" + "ab" * 48
PROTECTION = Interchange(b"\1" * 32, {KEY: History(frozenset({(5, b"")}))})


def seal(**changed: object) -> bytes:
    values: dict[str, object] = {
        "validator": "main", "network": "dev", "host": "1" * 32, "boot": "2" * 32, "sequence": 3,
        "created": 1_800_000_000, "clean": True, "keys": {KEY: Key(b"{}", b"pw")},
        "removed_keys": {"0x" + "cd" * 48: 5}, "protection": PROTECTION, "remarks": ("one",),
    }  # fmt: skip
    return contents.seal(IDENTITY, **{**values, **changed})  # type: ignore[arg-type]


def test_everything_comes_back() -> None:
    found = contents.unseal(seal(), IDENTITY, "main")
    assert found.keys == {KEY: Key(b"{}", b"pw")}
    assert found.protection == PROTECTION
    assert found.manifest.removed_keys == {"0x" + "cd" * 48: 5}
    assert found.manifest.remarks == ("one",)
    assert found.manifest.clean


def test_a_remote_key_has_no_file_and_a_version_that_older_readers_refuse() -> None:
    found = contents.unseal(seal(keys={KEY: Remote()}), IDENTITY, "main")
    assert found.keys == {KEY: Remote()}
    assert found.manifest.version == 2
    assert found.manifest.remote_keys == (KEY,)
    assert set(found.manifest.files) == {contents.PROTECTION}
    # Where there is none, nothing is written that they do not know.
    plain = contents.unseal(seal(), IDENTITY, "main").manifest
    assert plain.version == 1
    assert "remote_keys" not in plain.plain()


def test_both_kinds_stay_what_they_are() -> None:
    other = "0x" + "ef" * 48
    keys = {KEY: Key(b"{}", b"pw"), other: Remote()}
    found = contents.unseal(seal(keys=keys), IDENTITY, "main")
    assert found.keys == keys
    assert contents.local(found.keys) == {KEY: keys[KEY]}
    assert contents.remote(found.keys) == (other,)


def test_a_key_that_is_neither_here_nor_declared_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As of a writer that forgets to say that a key is remote.
    monkeypatch.setattr(contents, "remote", lambda _: ())
    raw = seal(keys={KEY: Remote()})
    monkeypatch.undo()
    with pytest.raises(FormatError, match=f"the keystore or password of {KEY} is missing"):
        contents.unseal(raw, IDENTITY, "main")


def test_without_keys_and_without_history() -> None:
    found = contents.unseal(seal(keys={}, protection=None), IDENTITY, "main")
    assert found.keys == {}
    assert found.protection is None


def test_another_validator_s_is_refused() -> None:
    with pytest.raises(SupervisorError, match=r"is of main \(ethereum\), not of other"):
        contents.unseal(seal(), IDENTITY, "other")


def test_another_identity_s_is_refused() -> None:
    with pytest.raises(SupervisorError) as failure:
        contents.unseal(seal(), age.X25519Identity.generate(), "main")
    assert failure.value.code == "NoMatch"


def test_a_truncated_one_is_refused() -> None:
    raw = seal()
    for end in range(0, len(raw), 97):
        with pytest.raises((FormatError, SupervisorError)):
            contents.unseal(raw[:end], IDENTITY, "main")


def test_a_secret_is_not_in_what_is_shown() -> None:
    assert "pw" not in repr(Key(b"{}", b"pw"))
