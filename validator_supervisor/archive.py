"""Archives of what a validator needs to run again: a tar in zstd in age (age.py).

The first member is ``manifest.json``, which names every other with its size and SHA-256; the second
is ``manifest.mac``. Anybody who knows the recipient can write an age file, so nothing is parsed
before the MAC over the manifest's exact bytes is found right, under a key that only the holder of
the identity has. ``age -d -i identity.age FILE | tar --zstd -x`` unpacks the same files.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, cast

from validator_supervisor import age, document
from validator_supervisor.age.recipients import hkdf
from validator_supervisor.errors import ConfigError, FormatError
from validator_supervisor.manifest import MANIFEST, VERSION, File, Manifest
from validator_supervisor.tar import CHUNK, Reader, member, trailer

# HMAC-SHA256 in hexadecimal, and the end of the line.
MAC, MAC_SIZE = "manifest.mac", 65
# 10,000 keys and their files are 6 MB.
MANIFEST_MAX = 16 << 20
# What is unpacked lies in memory. 10,000 keys with a complete history of a year are a third of it.
TOTAL_MAX = 1 << 30
LEVEL = 3  # zstd's own
# As much as zstd's levels up to 19 use; a frame that wants more memory is none of ours.
WINDOW_MAX = 8 << 20

# Who can make and open archives: of the identity, or of the code of one that is handed on.
Holder = age.X25519Identity | age.Passphrase
# Gives the content of a file, each time that it is called.
Source = Callable[[], Iterable[bytes]]


def describe(sources: Mapping[str, Source]) -> dict[str, File]:
    """Return what a manifest says of files, by name and in the order of an archive."""
    found = {}
    for name in sorted(sources):
        digest, size = hashlib.sha256(), 0
        for chunk in sources[name]():
            digest.update(chunk)
            size += len(chunk)
        found[name] = File(size, digest.hexdigest())
    return found


def create(
    manifest: Manifest,
    sources: Mapping[str, Source],
    identity: Holder,
    recipients: Sequence[age.Recipient] = (),
) -> Iterator[bytes]:
    """Yield an archive that ``identity``, and any of ``recipients``, can decrypt.

    ``sources`` are the files that ``manifest`` names. Raises FormatError before the first byte
    where the manifest would be refused when it is read, and later where a file is no longer what
    the manifest says: what has been written by then is no archive.
    """
    raw = json.dumps(manifest.plain(), indent=1).encode()
    _parse(raw)
    if sources.keys() != manifest.files.keys():
        raise FormatError("Archive", "the manifest names other files than are there")
    plain = _compressed(_members(manifest, raw, sources, _mac(raw, identity)))
    mine = identity.recipient if isinstance(identity, age.X25519Identity) else identity
    return age.encrypt(plain, [mine, *recipients])


def unpack(
    ciphertext: Iterable[bytes], identities: Sequence[Holder]
) -> tuple[Manifest, Iterator[tuple[str, bytes]]]:
    """Return the manifest of an archive, and an iterator over its files.

    The iterator yields the name and a piece of each file in turn, at least one of every file. Only
    when it has come to its end is the archive known to be whole and its files to be genuine. Raises
    FormatError, or SupervisorError ``NoMatch`` when it is for none of ``identities``.
    """
    reader = Reader(_decompressed(age.decrypt(ciphertext, identities)))
    raw = reader.content(MANIFEST, MANIFEST_MAX)
    mac = reader.content(MAC, MAC_SIZE)
    if not any(hmac.compare_digest(mac, _mac(raw, identity)) for identity in identities):
        raise FormatError(
            "Archive",
            "the manifest was not made with this identity",
            "somebody who knows only the recipient may have forged it: do not use it",
        )
    manifest = _parse(raw)
    return manifest, _verified(reader, manifest)


def verify(ciphertext: Iterable[bytes], identities: Sequence[age.X25519Identity]) -> Manifest:
    """Go through all of an archive and return its manifest. Raises as ``unpack`` does."""
    manifest, files = unpack(ciphertext, identities)
    for _ in files:
        pass
    return manifest


def _members(
    manifest: Manifest, raw: bytes, sources: Mapping[str, Source], mac: bytes
) -> Iterator[bytes]:
    when = manifest.created
    yield from member(MANIFEST, len(raw), [raw], when)
    yield from member(MAC, len(mac), [mac], when)
    for name, file in manifest.files.items():
        yield from member(name, file.size, _checked(name, file, sources[name]()), when)
    yield trailer()


def _checked(name: str, file: File, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass a file's content on, up to its size; FormatError where it is not what was described."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > file.size:
            break
        digest.update(chunk)
        yield chunk
    if size != file.size or digest.hexdigest() != file.sha256:
        raise FormatError("Archive", f"{name} is not what the manifest says")


def _verified(reader: Reader, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    for name, file in manifest.files.items():
        reader.header(name, file.size)
        some = False
        for chunk in _checked(name, file, reader.chunks(file.size)):
            some = True
            yield name, chunk
        if not some:
            yield name, b""
    reader.end()


def _mac(raw: bytes, identity: Holder) -> bytes:
    secret = identity.secret if isinstance(identity, age.X25519Identity) else identity.passphrase
    key = hkdf(secret, b"", b"validator-supervisor manifest v1")
    return hmac.digest(key, raw, "sha256").hex().encode() + b"\n"


def _parse(raw: bytes) -> Manifest:
    """Return the manifest that ``raw`` is. Raises FormatError."""
    if len(raw) > MANIFEST_MAX:
        raise FormatError("Archive", f"{MANIFEST} is larger than {MANIFEST_MAX} bytes")
    try:
        value = document.parse_json(raw, MANIFEST)
        version = value.mapping().get("version", value).data
        if isinstance(version, int) and version > VERSION:
            raise FormatError(
                "Archive",
                f"its format is {version}, and the newest known here is {VERSION}",
                "install a newer validator-supervisor",
            )
        return Manifest.read(value, TOTAL_MAX)
    except ConfigError as failure:
        raise FormatError("Archive", failure.message, failure.hint) from None


def _compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    for chunk in chunks:
        if made := compressor.compress(chunk):
            yield made
    yield compressor.flush()


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the plain bytes, at most CHUNK at a time, however far a frame expands."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX)
    stream = decompressor.stream_reader(
        cast("IO[bytes]", _Readable(chunks)), read_size=CHUNK, read_across_frames=True
    )
    try:
        while chunk := stream.read(CHUNK):
            yield chunk
    except zstandard.ZstdError as failure:
        raise FormatError("Archive", f"cannot be decompressed: {failure}") from None


class _Readable:
    """What zstandard wants of a file; its pieces may be longer than asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks

    def read(self, size: int) -> bytes:
        del size
        # An empty piece would be the end.
        return next((chunk for chunk in self.chunks if chunk), b"")
