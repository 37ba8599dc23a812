"""scrypt (RFC 7914), at a cost that a file names: passphrases of age, passwords of keystores."""

import hashlib

from validator_supervisor.errors import TEMPORARY, SupervisorError

SIZE = 32


def derive(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    """Return a key of 32 bytes. Raises SupervisorError ``NoMemory`` (temporary).

    The caller has made sure that the parameters are allowed, and that the work is affordable.
    """
    # OpenSSL counts the n blocks, the p blocks and two more to work in.
    memory = 128 * r * (n + p + 2)
    cost = {"n": n, "r": r, "p": p, "maxmem": memory}
    try:
        return hashlib.scrypt(password, salt=salt, dklen=SIZE, **cost)
    # ValueError: OpenSSL says so that malloc failed; all else in the call is known to be good.
    except (MemoryError, ValueError):
        pass
    # Outside of the exception, which the password would hang on.
    message = f"there are no {memory >> 20} MiB of memory for a password"
    raise SupervisorError("NoMemory", message, exit_status=TEMPORARY)
