"""Keystores: EIP-2335's examples, what clients write, and everything that is none."""

import base64
import copy
import json
import time
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import keystores as lab

from validator_supervisor import bls, keystore, keystore_crypto, wallet
from validator_supervisor.errors import FormatError, SupervisorError
from validator_supervisor.keystore_crypto import Pbkdf2, Scrypt, normalise

PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"  # noqa: RUF001
SECRET = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")
PUBLIC_KEY = (
    "9612d7a727c9d0a22e185a1c768478dfe919cada9266988c"
    "b32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"
)
SALT = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
IV = "264daa3f303d7259501c93d997d84fe6"
UUID = "1d85ae20-35c5-4611-98e8-aa14a633906f"

Json = dict[str, Any]


def example(kdf: Json, checksum: str, message: str) -> Json:
    return {
        "crypto": {
            "kdf": {**kdf, "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": checksum},
            "cipher": {"function": "aes-128-ctr", "params": {"iv": IV}, "message": message},
        },
        "description": "This is a test keystore.",
        "pubkey": PUBLIC_KEY,
        "path": "m/12381/60/3141592653/589793238",
        "uuid": UUID,
        "version": 4,
    }


# The two of EIP-2335, "Test Cases".
SCRYPT = example(
    {
        "function": "scrypt",
        "params": {"dklen": 32, "n": 262144, "p": 1, "r": 8, "salt": SALT},
    },
    "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
    "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
)
PBKDF2 = example(
    {
        "function": "pbkdf2",
        "params": {"dklen": 32, "c": 262144, "prf": "hmac-sha256", "salt": SALT},
    },
    "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
    "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
)
# As quick as it gets.
WEAK = Scrypt(bytes(32), n=2, r=1)
QUICK = Pbkdf2(bytes(32), c=1)


def raw(data: object) -> bytes:
    return json.dumps(data).encode()


def opened(data: object, password: bytes | str = PASSWORD) -> bytes:
    return keystore.decrypt(keystore.parse(raw(data)), password).secret


def weak(password: bytes | str = PASSWORD, **more: Any) -> Json:
    made: Json = json.loads(keystore.encrypt(SECRET, password, **{"kdf": WEAK, **more}))
    return made


def refused(data: object) -> str:
    content = data if isinstance(data, bytes) else raw(data)
    with pytest.raises(FormatError) as caught:
        keystore.parse(content)
    assert caught.value.code == "InvalidKeystore"
    return str(caught.value)


def changed(path: str, value: object, base: Json = SCRYPT) -> Json:
    """Return a copy in which the member at ``path`` is ``value``; ... takes it away."""
    data = copy.deepcopy(base)
    *parents, name = path.split(".")
    place = data
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return data


# ---- the format


@pytest.mark.parametrize("data", [SCRYPT, PBKDF2], ids=["scrypt", "pbkdf2"])
def test_examples_of_the_standard(data: Json) -> None:
    found = keystore.decrypt(keystore.parse(raw(data)), PASSWORD)
    assert found == keystore.Unlocked(SECRET, bytes.fromhex(PUBLIC_KEY))


@pytest.mark.parametrize(
    ("data", "kdf"),
    [(SCRYPT, Scrypt(bytes.fromhex(SALT))), (PBKDF2, Pbkdf2(bytes.fromhex(SALT)))],
    ids=["scrypt", "pbkdf2"],
)
def test_examples_are_made_again(data: Json, kdf: Scrypt | Pbkdf2) -> None:
    made = keystore.encrypt(
        SECRET,
        PASSWORD,
        path=data["path"],
        kdf=kdf,
        counter=bytes.fromhex(IV),
        identifier=uuid.UUID(UUID),
    )
    assert json.loads(made) == {**data, "description": ""}


def test_what_is_read() -> None:
    found = keystore.parse(raw(SCRYPT))
    assert found.public_key == bytes.fromhex(PUBLIC_KEY)
    assert found.path == "m/12381/60/3141592653/589793238"
    assert found.uuid == UUID
    assert found.description == "This is a test keystore."
    assert found.crypto.kdf == Scrypt(bytes.fromhex(SALT), 262144, 8, 1)


def test_a_new_keystore_is_strong_and_unlike_the_next() -> None:
    one = keystore.parse(keystore.encrypt(SECRET, "secret"))
    two = keystore.parse(keystore.encrypt(SECRET, "secret", kdf=QUICK))
    assert isinstance(one.crypto.kdf, Scrypt)
    assert (one.crypto.kdf.n, one.crypto.kdf.r, one.crypto.kdf.p) == (262144, 8, 1)
    assert len(one.crypto.kdf.salt) == 32
    assert one.crypto.counter != two.crypto.counter
    assert one.uuid != two.uuid
    assert uuid.UUID(one.uuid).version == 4
    assert keystore.decrypt(one, "secret").secret == SECRET


secrets = st.integers(1, bls.ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
passwords = st.text(min_size=1).filter(lambda text: normalise_or_none(text))


def normalise_or_none(text: str) -> bytes | None:
    try:
        return normalise(text)
    except FormatError:
        return None


@settings(max_examples=60, deadline=None)
@given(
    secrets,
    passwords,
    st.one_of(
        st.builds(Scrypt, st.binary(min_size=1, max_size=64), st.just(4), st.just(1), st.just(2)),
        st.builds(Pbkdf2, st.binary(min_size=1, max_size=64), st.integers(1, 9)),
    ),
    st.binary(min_size=16, max_size=16),
)
def test_round_trip(secret: bytes, password: str, kdf: Scrypt | Pbkdf2, counter: bytes) -> None:
    made = keystore.parse(keystore.encrypt(secret, password, kdf=kdf, counter=counter))
    assert (made.crypto.kdf, made.crypto.counter) == (kdf, counter)
    found = keystore.decrypt(made, password)
    assert (found.secret, found.public_key) == (secret, bls.public_key(secret))
    with pytest.raises(SupervisorError) as caught:
        keystore.decrypt(made, password + "x")
    assert caught.value.code == "WrongPassword"


@pytest.mark.parametrize(("n", "r", "p"), [(2, 1, 64), (2, 64, 64), (2**15, 1, 1), (4096, 64, 2)])
def test_every_cost_that_is_read_can_be_paid(n: int, r: int, p: int) -> None:
    made = keystore.parse(keystore.encrypt(SECRET, "p", kdf=Scrypt(b"salt", n, r, p)))
    assert keystore.decrypt(made, "p").secret == SECRET


@pytest.mark.long
@pytest.mark.parametrize("kdf", [Scrypt(b"s", 2**19, 8, 1), Scrypt(b"s", 2**16, 64, 1),
                                 Scrypt(b"s", 2**13, 8, 64), Pbkdf2(b"s", 2**22)])  # fmt: skip
def test_the_greatest_cost_is_seconds(kdf: Scrypt | Pbkdf2) -> None:
    begin = time.process_time()
    made = keystore.parse(keystore.encrypt(SECRET, "p", kdf=kdf))
    assert made.crypto.kdf == kdf
    assert time.process_time() - begin < 20


# ---- passwords


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (PASSWORD, bytes.fromhex("7465737470617373776f7264f09f9491")),
        (PASSWORD.encode(), bytes.fromhex("7465737470617373776f7264f09f9491")),
        # A password file ends a line, on one system or the other.
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        ("a\0b\x1fc\x7fd\x80e\x85f\x9fg", b"abcdefg"),
        (b" two  words ", b" two  words "),
        ("\xa0", b" "),  # a no-break space is compatible with a space
        ("\u212b", b"A\xcc\x8a"),
        ("ﬁ", b"fi"),
        ("", b""),
    ],
)
def test_passwords_are_normalised(password: bytes | str, expected: bytes) -> None:
    assert normalise(password) == expected


@given(st.text())
def test_normalising_is_what_the_standard_says(text: str) -> None:
    try:
        decomposed = unicodedata.normalize("NFKD", text).encode().decode()
    except UnicodeEncodeError:
        return
    # The control codes of EIP-2335 are Unicode's category Cc.
    kept = [c for c in decomposed if unicodedata.category(c) != "Cc"]
    assert normalise(text).decode() == "".join(kept)
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("password", [b"geh\xe4use", b"\xff\xfes\0", "\ud800"])
def test_a_password_that_is_no_text_is_said(password: bytes | str) -> None:
    with pytest.raises(FormatError) as caught:
        normalise(password)
    assert str(caught.value) == "the password is not UTF-8"
    assert caught.value.code == "InvalidPassword"


def test_a_password_file_with_and_without_end_of_line() -> None:
    for kdf in (WEAK, QUICK):
        data = weak("pass word", kdf=kdf)
        assert opened(data, b"pass word\n") == opened(data, "pass word") == SECRET
        with pytest.raises(SupervisorError, match="does not open"):
            opened(data, b"password")


def test_nothing_is_encrypted_with_nothing() -> None:
    for password in ("", b"\n", "\x9f"):
        with pytest.raises(FormatError, match="empty"):
            keystore.encrypt(SECRET, password, kdf=QUICK)
    for secret in (b"", bytes(32), b"\xff" * 32, SECRET + b"\0"):
        with pytest.raises(FormatError, match="secret key"):
            keystore.encrypt(secret, "password", kdf=QUICK)


# ---- what does not fit together


def test_a_wrong_password_is_not_a_damaged_file() -> None:
    with pytest.raises(SupervisorError) as caught:
        opened(weak(), "wrong horse")
    assert not isinstance(caught.value, FormatError)
    assert caught.value.code == "WrongPassword"
    assert "horse" not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("kdf", [WEAK, QUICK], ids=["scrypt", "pbkdf2"])
def test_a_keystore_that_lies_about_its_key_is_refused(kdf: Scrypt | Pbkdf2) -> None:
    other = bls.public_key(bytes(31) + b"\1").hex()
    # Another key; and the same with the other y.
    for lie in (other, "b" + PUBLIC_KEY[1:]):
        with pytest.raises(FormatError) as caught:
            opened(changed("pubkey", lie, weak(kdf=kdf)))
        assert caught.value.code == "InvalidKeystore"
        assert lie in str(caught.value)
        assert PUBLIC_KEY in str(caught.value)
        assert SECRET.hex() not in str(caught.value)


def test_a_damaged_counter_is_found_by_the_public_key_alone() -> None:
    data = weak(counter=bytes(16))
    data["crypto"]["cipher"]["params"]["iv"] = "00" * 15 + "02"
    with pytest.raises(FormatError, match=f"for 0x{PUBLIC_KEY}"):
        opened(data)
    # Whoever reads this one must compare it with what it should be.
    found = keystore.decrypt(keystore.parse(raw(changed("pubkey", ..., data))), PASSWORD)
    assert found.secret != SECRET
    assert found.public_key == bls.public_key(found.secret)


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bls.ORDER.to_bytes(32, "big")])
def test_what_is_inside_must_be_a_secret_key(secret: bytes) -> None:
    sealed = keystore_crypto.seal(secret, PASSWORD, QUICK, bytes(16))
    with pytest.raises(FormatError) as caught:
        opened(changed("crypto", sealed.plain()))
    assert caught.value.code == "InvalidSecretKey"
    assert secret.hex() not in str(caught.value)


@given(st.integers(0, 32 * 8 - 1), st.sampled_from(["checksum", "cipher"]))
@settings(max_examples=40, deadline=None)
def test_each_bit_is_under_the_checksum(bit: int, module: str) -> None:
    data = weak()
    message = bytearray.fromhex(data["crypto"][module]["message"])
    message[bit // 8] ^= 1 << bit % 8
    data["crypto"][module]["message"] = message.hex()
    with pytest.raises(SupervisorError) as caught:
        opened(data)
    assert caught.value.code == "WrongPassword"


def test_a_secret_is_never_shown() -> None:
    found = keystore.decrypt(keystore.parse(raw(weak())), PASSWORD)
    assert PUBLIC_KEY in found.public_key.hex()
    for text in (repr(found), str(found), f"{found}"):
        assert repr(SECRET)[2:-1] not in text
        assert SECRET.hex() not in text
        assert "secret" not in text


# ---- what clients write


def field(**more: Any) -> Json:
    """Return a keystore with members changed, added, or taken away (...)."""
    data = {**weak(), **more}
    return {name: value for name, value in data.items() if value is not ...}


WRITTEN = {
    # ethstaker-deposit-cli and its ancestor; Teku and Nimbus keep that file as it is.
    "deposit-cli scrypt": field(path="m/12381/3600/0/0/0"),
    "deposit-cli pbkdf2": field(crypto=weak(kdf=QUICK)["crypto"]),
    # A struct of serde, whose None is null.
    "Lighthouse": field(name=None, description=""),
    "Lighthouse before descriptions": field(name=None, description=None, path=""),
    "Lodestar": field(description=..., path=""),
    "Nimbus": field(description="", path="m/12381/3600/0/0/0"),
    "Teku": field(description=..., path=""),
    "Prysm": field(description="validator", path=""),
    "Prysm before paths": field(description=..., path=..., name="validator"),
    "ethdo": field(name="Validator 1", description=...),
    "with a prefix": field(pubkey="0x" + PUBLIC_KEY),
    "in capitals": field(pubkey=PUBLIC_KEY.upper(), uuid=UUID.upper()),
    "without a public key": field(pubkey=...),
    "with an empty public key": field(pubkey=""),
    "a person's description": field(description="Grüße\nfrom 🏔 \u202e"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_clients_write_is_read(name: str) -> None:
    found = keystore.parse(raw(WRITTEN[name]))
    assert keystore.decrypt(found, PASSWORD).public_key.hex() == PUBLIC_KEY
    assert found.public_key in (None, bytes.fromhex(PUBLIC_KEY))
    assert (found.public_key is None) == ("without" in name or "empty" in name)
    assert found.description.isprintable()
    assert found.path.isprintable()


def test_capitals_in_hexadecimal() -> None:
    data = weak()
    for module, where in (("kdf", "params"), ("cipher", "params")):
        for key, value in data["crypto"][module][where].items():
            if isinstance(value, str) and value != "hmac-sha256":
                data["crypto"][module][where][key] = value.upper()
    for module in ("checksum", "cipher"):
        data["crypto"][module]["message"] = data["crypto"][module]["message"].upper()
    assert opened(data) == SECRET


def test_keystores_that_a_real_client_reads() -> None:
    for text, key in zip(lab.keystores().values(), lab.PUBLIC_KEYS, strict=True):
        found = keystore.decrypt(keystore.parse(text.encode()), lab.PASSWORD)
        assert found.public_key.hex() == key


# ---- what is no keystore

KDF = "crypto.kdf.params"


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("version", [3, 5, "4", 4.0, True, None, -4, [4], ...]),
        ("uuid", ["", "1d85ae20", UUID + "0", "{" + UUID + "}", UUID.replace("-", ""), 4, None,
                  ...]),
        ("pubkey", [PUBLIC_KEY[2:], PUBLIC_KEY + "00", "0x", "0X" + PUBLIC_KEY, 5, [], "g" * 96,
                    PUBLIC_KEY[:-1], " " + PUBLIC_KEY[1:], "٣" * 96, PUBLIC_KEY + "\n"]),
        ("path", [5, [], {}, True, 1.5]),
        ("description", [5, [], {}, True]),
        ("crypto", [..., None, [], {}, "aes"]),
        ("crypto.more", [1]),
        ("pubKey", [PUBLIC_KEY]),
        ("crypto.kdf", [..., None, {}, [], "scrypt"]),
        ("crypto.kdf.function", [..., "bcrypt", "SCRYPT", "", 1, None, [], {}, [[[]]], "pbkdf2"]),
        ("crypto.kdf.message", [..., "00", None, 0, " "]),
        ("crypto.kdf.more", [1]),
        (f"{KDF}.more", [1]),
        (f"{KDF}.c", [1]),
        (f"{KDF}.dklen", [..., 0, 31, 33, 64, 2**31, -32, 32.0, "32", True, None]),
        (f"{KDF}.n", [..., 0, 1, -2, 3, 262143, 2**20, 2**22, 2**60, 10**4000, 1024.0, "1024",
                      True]),
        (f"{KDF}.r", [..., 0, -8, 65, 2**40, 8.0, "8", True, None]),
        (f"{KDF}.p", [..., 0, -1, 3, 65, 2**40, 1.0, "1", True, None]),
        (f"{KDF}.salt", [..., "", "0", "0x00", "zz", "00" * 65, "٣٣", " 00", "00 00", 0, None]),
        ("crypto.checksum.function", [..., "sha512", "SHA256", None]),
        ("crypto.checksum.params", [..., {"a": 1}, [], None, ""]),
        ("crypto.checksum.message", [..., "", "00" * 31, "00" * 33, "0" * 63, 5, None]),
        ("crypto.cipher.function", [..., "aes-256-ctr", "aes-128-cbc", None, [{}]]),
        ("crypto.cipher.params", [..., {}, None, {"iv": IV, "counter": 1}]),
        ("crypto.cipher.params.iv", [..., "", IV[2:], IV + "00", "0x" + IV[2:], 0]),
        ("crypto.cipher.message", [..., "", "00" * 31, "00" * 33, "0" * 65, "00" * 30000, {},
                                   None]),
    ],
)  # fmt: skip
def test_each_member_is_checked(path: str, values: list[object]) -> None:
    for value in values:
        begin = time.process_time()
        message = refused(changed(path, value))
        assert message.startswith("keystore: "), value
        assert message.isprintable(), value
        assert len(message) < 600, value
        assert time.process_time() - begin < 1, value


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("c", [..., 0, -1, 2**22 + 1, 2**40, 262144.0, "262144", True, None]),
        ("prf", [..., "hmac-sha512", "HMAC-SHA256", "", None, 1]),
        ("dklen", [..., 0, 31, 33, 2**31]),
        ("salt", [..., "", "0"]),
        ("n", [262144]),
    ],
)
def test_each_member_of_pbkdf2_is_checked(member: str, values: list[object]) -> None:
    for value in values:
        refused(changed(f"{KDF}.{member}", value, PBKDF2))


def test_small_blocks_have_small_costs() -> None:
    # RFC 7914 §2; OpenSSL would refuse it later.
    params = {"dklen": 32, "r": 1, "p": 1, "salt": "00"}
    keystore.parse(raw(changed(KDF, {**params, "n": 2**15})))
    assert "32768" not in refused(changed(KDF, {**params, "n": 2**17}))
    refused(changed(KDF, {**params, "n": 2**16}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"4",
        b"[]",
        b"{}",
        b'"keystore"',
        b"NaN",
        b"[" * 60000,
        b'{"a":' * 12000,
        b"9" * 5000,
        b'{"version": 4, "version": 4}',
        raw(SCRYPT).replace(b'"n": 262144', b'"n": 2, "n": 2'),
        raw(SCRYPT).replace(b'"n": 262144', b'"n": 1e3'),
        raw(SCRYPT).replace(b'"n": 262144', b'"n": Infinity'),
        raw(SCRYPT).replace(b'"n": 262144', b'"n": ' + b"9" * 5000),
        raw(SCRYPT).replace(b"This is", b"\xff"),
        raw(SCRYPT).replace(b"This is", b"\xed\xa0\x80"),
        b"\xef\xbb\xbf" + raw(SCRYPT),
        json.dumps(SCRYPT).encode("utf-16"),
        json.dumps(SCRYPT).encode("utf-16-le"),
        json.dumps(SCRYPT).encode("utf-32"),
        raw(SCRYPT) + b"{}",
        raw(SCRYPT)[:-1],
        raw(SCRYPT) + b" " * keystore.SIZE_MAX,
        b"\0" * 100,
        raw({"x" * 60000: 1}),
        raw({"\ud800\n": 1}),
        raw({**SCRYPT, "uuid": "\ud800"}),
        raw(lab.keystores()),
        # A keystore of the execution layer.
        raw({"version": 3, "id": UUID, "address": "", "crypto": {"cipher": "aes-128-ctr"}}),
    ],
    ids=range(30),
)
def test_what_is_no_keystore_is_refused(content: bytes) -> None:
    begin = time.process_time()
    message = refused(content)
    assert message.isprintable()
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("depth", [10, 100, 300, 450, 480, 490, 500, 900])
def test_deep_nesting_is_refused_wherever_it_stands(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for member in ('"scrypt"', "262144", f'"{SALT}"', f'"{UUID}"', '""', "{}", "4", '"sha256"'):
        refused(json.dumps(SCRYPT).replace(member, deep, 1).encode())


def test_a_lone_surrogate_in_a_description_does_no_harm() -> None:
    assert keystore.parse(raw({**SCRYPT, "description": "a\ud800b"})).description == "a?b"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_a_keystore_or_refused(data: st.DataObject) -> None:
    content = bytearray(raw(data.draw(st.sampled_from([SCRYPT, PBKDF2]))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    parses_or_refuses(bytes(content))


numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**40, 2**60, 2**64])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PATHS = [
    "version", "uuid", "pubkey", "path", "description", "crypto", "name", "crypto.kdf",
    "crypto.kdf.function", "crypto.kdf.message", KDF, f"{KDF}.dklen", f"{KDF}.n", f"{KDF}.r",
    f"{KDF}.p", f"{KDF}.salt", "crypto.checksum", "crypto.checksum.params", "crypto.cipher",
    "crypto.cipher.params", "crypto.cipher.params.iv", "crypto.cipher.message",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), values)
def test_any_value_anywhere_is_read_or_refused(path: str, value: object) -> None:
    parses_or_refuses(raw(changed(path, value)))


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_refused(content: bytes) -> None:
    refused(content)
    with pytest.raises(FormatError):
        wallet.parse(content)


def parses_or_refuses(content: bytes) -> None:
    try:
        found = keystore.parse(content)
    except FormatError as failure:
        assert str(failure).isprintable()
        return
    kdf = found.crypto.kdf
    if isinstance(kdf, Scrypt):
        assert 128 * kdf.r * (kdf.n + kdf.p + 2) < 2**29 + 2**20
        assert kdf.n * kdf.r * kdf.p <= 2**22
    else:
        assert 0 < kdf.c <= 2**22


# ---- Prysm's wallet


def wallet_of(inner: object) -> bytes:
    content = inner if isinstance(inner, bytes) else raw(inner)
    sealed = keystore_crypto.seal(content, "wallet", QUICK, bytes(16))
    return raw({"crypto": sealed.plain(), "uuid": UUID, "version": 4, "name": "keystore"})


def pairs(*numbers: int) -> tuple[list[str], list[str]]:
    private = [number.to_bytes(32, "big") for number in numbers]
    public = [bls.public_key(secret) for secret in private]
    encode: Callable[[bytes], str] = lambda octets: base64.b64encode(octets).decode()  # noqa: E731
    return list(map(encode, private)), list(map(encode, public))


@pytest.mark.parametrize("numbers", [(), (5,), (1, 2, 3)])
def test_a_wallet_has_many_keys(numbers: tuple[int, ...]) -> None:
    private, public = pairs(*numbers)
    inner = {"private_keys": private or None, "public_keys": public or None}
    found = wallet.decrypt(wallet.parse(wallet_of(inner)), "wallet\n")
    assert [int.from_bytes(one.secret, "big") for one in found] == list(numbers)
    with pytest.raises(SupervisorError, match="does not open"):
        wallet.decrypt(wallet.parse(wallet_of(inner)), "other")


def test_a_wallet_of_a_thousand_keys_fits() -> None:
    inner = {"private_keys": ["A" * 44] * 1000, "public_keys": ["A" * 64] * 1000}
    begin = time.process_time()
    assert len(wallet.parse(wallet_of(inner)).message) > 100_000
    assert time.process_time() - begin < 1
    with pytest.raises(FormatError, match="larger"):
        wallet.parse(wallet_of({"private_keys": ["A" * 1000] * 1000}))


ONE, TWO = pairs(1, 2), pairs(2, 1)


@pytest.mark.parametrize(
    "inner",
    [
        b"\xff", b"{", b"4", b"[]", b"{}", b"null", b"[" * 5000, b"9" * 5000,
        {"private_keys": ONE[0]},
        {"private_keys": ONE[0], "public_keys": ONE[1][:1]},
        {"private_keys": ONE[0], "public_keys": TWO[1]},
        {"private_keys": 5, "public_keys": 5},
        {"private_keys": [5], "public_keys": [5]},
        {"private_keys": ["AA=="], "public_keys": [ONE[1][0]]},
        {"private_keys": [ONE[0][0] + "!"], "public_keys": [ONE[1][0]]},
        {"private_keys": ["ä"], "public_keys": ["ä"]},
        {"private_keys": [None], "public_keys": [None]},
        {"private_keys": "AAAA", "public_keys": "AAAA"},
        {"private_keys": {"a": 1}, "public_keys": {"a": 1}},
    ],
)  # fmt: skip
def test_what_is_no_list_of_keys_is_refused(inner: object) -> None:
    with pytest.raises(FormatError) as caught:
        wallet.decrypt(wallet.parse(wallet_of(inner)), "wallet")
    assert ONE[0][0] not in str(caught.value)


def test_a_wallet_is_no_keystore() -> None:
    assert "crypto.cipher.message" in refused(changed("name", ..., json.loads(wallet_of({})) | {
        "uuid": UUID}))  # fmt: skip
    with pytest.raises(FormatError, match="unknown key"):
        wallet.parse(raw(SCRYPT))
