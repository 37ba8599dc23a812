"""Public keys of validators: BLS12-381 in the group G1 ("minimal-pubkey-size").

Curve and generator: draft-irtf-cfrg-pairing-friendly-curves §4.2.1; SkToPk:
draft-irtf-cfrg-bls-signature §2.4. Debian has no BLS library. The one thing needed here, the
generator times a secret, is arithmetic of an ordinary short Weierstrass curve, and libcrypto
does that for curves it is told of: in constant time, with a Montgomery ladder of blinded
coordinates (EC_POINT_mul(3), for the generator of a group). Points of Python integers would be
60 lines less clear about time: how long such a product takes tells of its secret.

python3-cryptography and Python's own hashlib bring the same libcrypto.
"""

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from validator_supervisor.errors import FormatError

if TYPE_CHECKING:
    import ctypes

SECRET_SIZE = 32
COORDINATE_SIZE = 48

FIELD = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB  # noqa: E501
# y² = x³ + 4
A, B = 0, 4
GENERATOR = (
    0x17F1D3A73197D7942695638C4FA9AC0FC3688C4F9774B905A14E3A3F171BAC586C55E83FF97A1AEFFB3AF00ADB22C6BB,
    0x08B3F481E3AAA0F1A09E30ED741D8AE4FCF5E095D5D00AF600DB18CB2C04B3EDD03CC744A2888AE40CAA232946C5E7E1,
)
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
COFACTOR = 0x396C8C005555E1568C00AAAB0000AAAB

# ZCash's serialisation of BLS12-381 (draft-irtf-cfrg-pairing-friendly-curves, appendix C):
# the point is compressed; its y is the greater one of y and -y.
COMPRESSED, GREATER = 0x80, 0x20

# libssl3 of Debian 12, libssl3t64 of 13.
LIBRARY = "libcrypto.so.3"
# p: pointer, b: bytes, i: integer, n: nothing. The first is what comes back.
FUNCTIONS = {
    "BN_bin2bn": "pbip",
    "BN_bn2binpad": "ipbi",
    "BN_clear_free": "np",
    "EC_GROUP_free": "np",
    "EC_GROUP_new_curve_GFp": "ppppp",
    "EC_GROUP_set_generator": "ipppp",
    "EC_POINT_clear_free": "np",
    "EC_POINT_get_affine_coordinates": "ippppp",
    "EC_POINT_mul": "ipppppp",
    "EC_POINT_new": "pp",
    "EC_POINT_set_affine_coordinates": "ippppp",
    "ERR_clear_error": "n",
}


def public_key(secret: bytes) -> bytes:
    """Return the compressed public key (48 bytes) of a secret key (32 bytes, big-endian).

    Raises FormatError where the secret is not between 1 and the order of the group - 1.
    """
    order = ORDER.to_bytes(SECRET_SIZE, "big")
    # Bytes of one size compare as their numbers do.
    if len(secret) != SECRET_SIZE or not bytes(SECRET_SIZE) < secret < order:
        raise FormatError("SecretKey", "the secret is not a secret key of BLS12-381")
    x, y = _times_generator(secret)
    greater = int.from_bytes(y, "big") > FIELD // 2
    return bytes([x[0] | COMPRESSED | (GREATER if greater else 0)]) + x[1:]


def _times_generator(secret: bytes) -> tuple[bytes, bytes]:
    """Return the affine coordinates of ``secret`` times the generator."""
    library = _library()
    with contextlib.ExitStack() as stack:
        held = _Held(library, stack)
        group = held.group()
        product = held.point(group)
        # None: libcrypto makes its contexts itself, a secure one for the product.
        library.EC_POINT_mul(group, product, held.number(secret), None, None, None)
        x, y = held.number(b""), held.number(b"")
        library.EC_POINT_get_affine_coordinates(group, product, x, y, None)
        return _padded(library, x), _padded(library, y)


@dataclass(frozen=True)
class _Held:
    """Makes objects of libcrypto that ``stack`` frees."""

    library: "ctypes.CDLL"
    stack: contextlib.ExitStack

    def number(self, value: bytes | int) -> int:
        if isinstance(value, int):
            value = value.to_bytes(COORDINATE_SIZE, "big")
        number: int = self.library.BN_bin2bn(value, len(value), None)
        self.stack.callback(self.library.BN_clear_free, number)
        return number

    def point(self, group: int) -> int:
        point: int = self.library.EC_POINT_new(group)
        self.stack.callback(self.library.EC_POINT_clear_free, point)
        return point

    def group(self) -> int:
        numbers = (self.number(value) for value in (FIELD, A, B))
        group: int = self.library.EC_GROUP_new_curve_GFp(*numbers, None)
        self.stack.callback(self.library.EC_GROUP_free, group)
        point = self.point(group)
        coordinates = (self.number(value) for value in GENERATOR)
        self.library.EC_POINT_set_affine_coordinates(group, point, *coordinates, None)
        sizes = (self.number(value) for value in (ORDER, COFACTOR))
        self.library.EC_GROUP_set_generator(group, point, *sizes)
        return group


def _padded(library: "ctypes.CDLL", number: int) -> bytes:
    import ctypes

    buffer = ctypes.create_string_buffer(COORDINATE_SIZE)
    library.BN_bn2binpad(number, buffer, COORDINATE_SIZE)
    return buffer.raw


@functools.cache
def _library() -> "ctypes.CDLL":
    """Return libcrypto with the types of what is called here; each failure is an exception."""
    # Imported here: few need it. There are no callbacks, for which libffi would need memory
    # that is writable and executable; units forbid that.
    import ctypes

    library = ctypes.CDLL(LIBRARY)
    kinds = {"p": ctypes.c_void_p, "b": ctypes.c_char_p, "i": ctypes.c_int, "n": None}

    def checked(result: int | None, function: object, _arguments: object) -> int:
        # NULL, 0 and -1: out of memory or entropy, or a libcrypto without such curves.
        if result is None or result <= 0:
            # The queue of errors is the thread's, and Python's ssl reads it as well.
            library.ERR_clear_error()
            raise RuntimeError(f"{LIBRARY}: {getattr(function, '__name__', function)} failed")
        return result

    for name, signature in FUNCTIONS.items():
        function = getattr(library, name)
        result, *arguments = (kinds[letter] for letter in signature)
        function.restype, function.argtypes = result, arguments
        if result is not None:
            function.errcheck = checked
    return library
