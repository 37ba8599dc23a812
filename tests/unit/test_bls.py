"""Public keys, against known answers and against a second implementation: here, of integers."""

import ctypes
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.keystores import PUBLIC_KEYS

from validator_supervisor import bls
from validator_supervisor.errors import FormatError, SupervisorError

TREE = Path(__file__).resolve().parents[2]
LIBRARY = Path(bls.__file__).resolve().parents[1]
# The parameter of the BLS family that makes this curve of it.
Z = -0xD201000000010000
ORDER = Z**4 - Z**2 + 1
FIELD = (Z - 1) ** 2 * ORDER // 3 + Z
# draft-irtf-cfrg-pairing-friendly-curves §4.2.1
GENERATOR = (
    int("3685416753713387016781088315183077757961620795782546409894578378688607592378376318836054947676345821548104185464507"),
    int("1339506544944476473020471379941921221584933875938349620426543736416511423956333506472724655353366534992391756441569"),
)  # fmt: skip
INFINITY = None
Point = tuple[int, int] | None


def added(a: Point, b: Point) -> Point:
    if a is INFINITY or b is INFINITY:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % FIELD == 0:
            return INFINITY
        slope = 3 * a[0] ** 2 * pow(2 * a[1], -1, FIELD) % FIELD
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, FIELD) % FIELD
    x = (slope**2 - a[0] - b[0]) % FIELD
    return x, (slope * (a[0] - x) - a[1]) % FIELD


def times(scalar: int, point: Point) -> Point:
    total: Point = INFINITY
    while scalar:
        if scalar & 1:
            total = added(total, point)
        point = added(point, point)
        scalar >>= 1
    return total


def point_of(key: bytes) -> Point:
    """Decompress: of the two roots of x³ + 4 take the one that the flag says."""
    assert key[0] & 0xC0 == 0x80
    x = int.from_bytes(bytes([key[0] & 0x1F]) + key[1:], "big")
    y = pow(x**3 + 4, (FIELD + 1) // 4, FIELD)
    assert (y * y - x**3 - 4) % FIELD == 0
    greater = bool(key[0] & 0x20)
    return x, y if (y > FIELD - y) == greater else FIELD - y


def secret_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def interop(index: int) -> bytes:
    digest = hashlib.sha256(index.to_bytes(32, "little")).digest()
    return secret_of(int.from_bytes(digest, "little") % ORDER)


def test_parameters_are_those_of_the_curve() -> None:
    assert (bls.FIELD, bls.ORDER, bls.GENERATOR) == (FIELD, ORDER, GENERATOR)
    assert (Z - 1) ** 2 // 3 == bls.COFACTOR
    assert times(ORDER, GENERATOR) is INFINITY
    assert times(1 + ORDER, GENERATOR) == GENERATOR


def test_known_answers() -> None:
    generator = (
        "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905"
        "a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
    )
    assert bls.public_key(secret_of(1)).hex() == generator
    # -G: the other y.
    assert bls.public_key(secret_of(ORDER - 1)).hex() == "b" + generator[1:]
    # EIP-2335
    secret = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")
    assert bls.public_key(secret).hex() == (
        "9612d7a727c9d0a22e185a1c768478dfe919cada9266988c"
        "b32359c11f2b7b27f4ae4040902382ae2910c15e2b420d07"
    )


def test_interop_validators() -> None:
    # eth2.0-pm, interop/mocked_start
    assert bls.public_key(interop(0)).hex() == (
        "a99a76ed7796f7be22d5b7e85deeb7c5677e88e511e0b337"
        "618f8c4eb61349b4bf2d153f649f7b53359fe8b94a38e44c"
    )
    # What a real client has computed.
    assert tuple(bls.public_key(interop(i)).hex() for i in range(12, 16)) == PUBLIC_KEYS


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.integers(1, ORDER - 1),
        st.integers(1, 1000),
        st.integers(1, 1000).map(lambda n: ORDER - n),
        st.integers(0, 254).map(lambda bit: 1 << bit),
    )
)
def test_agrees_with_integers(number: int) -> None:
    assert point_of(bls.public_key(secret_of(number))) == times(number, GENERATOR)


@given(st.integers(1, ORDER - 1))
@settings(max_examples=30, deadline=None)
def test_the_opposite_secret_has_the_opposite_key(number: int) -> None:
    one, other = bls.public_key(secret_of(number)), bls.public_key(secret_of(ORDER - number))
    assert one[0] ^ other[0] == bls.GREATER
    assert one[1:] == other[1:]


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        bytes(32),
        secret_of(ORDER),
        secret_of(ORDER + 1),
        b"\xff" * 32,
        secret_of(1)[1:],
        b"\0" + secret_of(1),
    ],
)
def test_what_is_no_secret_is_refused(secret: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        bls.public_key(secret)
    assert caught.value.code == "InvalidSecretKey"
    assert secret.hex() not in str(caught.value) or not secret


def test_memory_stays() -> None:
    # What malloc(3) has given out, by itself: what other tests have freed would hide what leaks.
    program = """if True:
        import ctypes
        from validator_supervisor import bls
        class Used(ctypes.Structure):  # struct mallinfo2
            _fields_ = [(name, ctypes.c_size_t) for name in
                        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks "
                        "keepcost".split()]
        mallinfo2 = ctypes.CDLL(None).mallinfo2
        mallinfo2.restype = Used
        def some(count):
            for number in range(1, count):
                bls.public_key(number.to_bytes(32, "big"))
        some(500)
        before = mallinfo2().uordblks
        some(2000)
        print(mallinfo2().uordblks - before)
        """
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True, check=True)
    # The smallest that could leak is a number, of 24 bytes and its 48.
    assert abs(int(done.stdout)) < 24 * 2000


def test_failure_of_libcrypto_is_unexpected() -> None:
    library = bls._library()
    number = library.BN_bin2bn(b"\xff" * 49, 49, None)
    with pytest.raises(RuntimeError, match="BN_bn2binpad"):
        bls._padded(library, number)
    library.BN_clear_free(number)
    with pytest.raises(RuntimeError, match="EC_POINT_new"):
        library.EC_POINT_new(None)
    assert not issubclass(RuntimeError, SupervisorError)
    assert ctypes.CDLL(bls.LIBRARY).ERR_peek_error() == 0


def test_works_where_memory_is_never_writable_and_executable() -> None:
    # prctl(2): PR_SET_MDWE is what MemoryDenyWriteExecute= uses in newer systemd.
    program = """if True:
        import ctypes, mmap, sys
        if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
            sys.exit(77)
        try:
            mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
        except OSError:
            from validator_supervisor import bls
            print(bls.public_key((1).to_bytes(32, "big")).hex())
        """
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd=TREE, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("a kernel before 6.3")
    assert (done.stdout[:8], done.stderr) == ("97f1d3a7", "")


def test_importing_does_not_load_libcrypto() -> None:
    program = "import sys; from validator_supervisor import bls; print('ctypes' in sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = [{str(LIBRARY)!r}]; "]
    argv[-1] += program
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
