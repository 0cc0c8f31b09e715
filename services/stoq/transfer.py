"""Large objects in chunks, each verified before it is handed on. Pure.

Rules:
- A manifest lists the SHA-256 of each chunk; all chunks have `chunk_octets` but the last, which has what is left and is
  not empty. An empty object has no chunks.
- `root` is the SHA-256 over a line that tells the purpose and everything else in the manifest, with lengths before what
  varies. So who knows the root by other means (a signed message) needs to trust nobody for the object.
- A manifest whose members contradict each other does not construct, and there is one way to write it.
- A receiver takes chunks in their order and nothing else; what it returned is right, whatever comes later.
- A name is that of an object and not a path: it has no separators and does not begin with a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct, msgpack

from services.stoq.messages import DIGEST_OCTETS, MAX_BODY_OCTETS

MAX_CHUNKS: Final = 16_384  # so that a manifest fits into one body
MAX_OBJECT_OCTETS: Final = MAX_CHUNKS * MAX_BODY_OCTETS
MAX_NAME_CHARACTERS: Final = 128
DEFAULT_CHUNK_OCTETS: Final = 262_144

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PURPOSE: Final = b"TrustChain: object in chunks, version 1\n"


class TransferError(ValueError):
    """The object is not the one of the manifest, or there is no such manifest."""


class ManifestError(TransferError):
    """The octets are no manifest, or no manifest has such members."""


class OutOfSequence(TransferError):
    """Another chunk is next."""


class Surplus(TransferError):
    """There was more after the last chunk."""


class WrongLength(TransferError):
    """A chunk is shorter or longer than the manifest says."""


class WrongDigest(TransferError):
    """A chunk has the length, but not the SHA-256, that the manifest says."""


class Short(TransferError):
    """It ended before the last chunk."""


class Manifest(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """An object of `size` octets, and what proves each of its chunks."""

    name: str
    size: int
    chunk_octets: int
    digests: tuple[bytes, ...]
    root: bytes

    def __post_init__(self) -> None:
        _check(self.name, self.chunk_octets)
        if not 0 <= self.size <= MAX_OBJECT_OCTETS:
            raise ManifestError(f"an object has at most {MAX_OBJECT_OCTETS} octets")
        count = -(-self.size // self.chunk_octets)
        if count > MAX_CHUNKS or len(self.digests) != count:
            raise ManifestError(f"{self.size} octets are {count} chunks, of at most {MAX_CHUNKS}")
        if any(len(each) != DIGEST_OCTETS for each in self.digests):
            raise ManifestError(f"a digest has {DIGEST_OCTETS} octets")
        if self.root != _root(self.name, self.size, self.chunk_octets, self.digests):
            raise ManifestError("the root is not that of what is listed")

    def length(self, index: int) -> int:
        """Octets of the chunk with this index."""
        return min(self.chunk_octets, self.size - index * self.chunk_octets)

    def check(self, index: int, octets: bytes) -> None:
        """Check that this is the chunk with this index. Raises WrongLength or WrongDigest."""
        if len(octets) != self.length(index):
            raise WrongLength(f"chunk {index} has {len(octets)} octets instead of {self.length(index)}")
        if sha256(octets).digest() != self.digests[index]:
            raise WrongDigest(f"chunk {index} is another one")


_decode: Final = msgpack.Decoder(Manifest).decode
_encode: Final = msgpack.Encoder().encode


def encode(manifest_: Manifest) -> bytes:
    """The one way to write it."""
    return _encode(manifest_)


def parse(octets: bytes) -> Manifest:
    """Read a manifest. Raises ManifestError."""
    if len(octets) > MAX_BODY_OCTETS:
        raise ManifestError(f"it has {len(octets)} octets; at most {MAX_BODY_OCTETS} are read")
    try:
        found = _decode(octets)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"it is no manifest: {str(error)[:200]}") from error
    if _encode(found) != octets:
        raise ManifestError("it is not written as a manifest is")
    return found


def chunks(octets: Iterable[bytes], chunk_octets: int) -> Iterator[bytes]:
    """The same octets cut into chunks. Holds one chunk and one piece of what is given."""
    unfinished = bytearray()
    for piece in octets:
        unfinished += piece
        while len(unfinished) >= chunk_octets:
            yield bytes(unfinished[:chunk_octets])
            del unfinished[:chunk_octets]
    if unfinished:
        yield bytes(unfinished)


def manifest(name: str, octets: Iterable[bytes], chunk_octets: int = DEFAULT_CHUNK_OCTETS) -> Manifest:
    """The manifest of an object, given in pieces of any length. Raises ManifestError, as soon as it is too large."""
    _check(name, chunk_octets)
    digests: list[bytes] = []
    size = 0
    for chunk in chunks(octets, chunk_octets):
        if len(digests) == MAX_CHUNKS:
            raise ManifestError(f"an object has at most {MAX_CHUNKS} chunks")
        digests.append(sha256(chunk).digest())
        size += len(chunk)
    return Manifest(name, size, chunk_octets, tuple(digests), _root(name, size, chunk_octets, tuple(digests)))


def resume_at(manifest_: Manifest, held: Iterable[bytes]) -> int:
    """How many leading chunks of what is held already (a file that was cut off) are right: the index to go on at."""
    index = 0
    for chunk in chunks(held, manifest_.chunk_octets):
        if index == len(manifest_.digests):
            break
        try:
            manifest_.check(index, chunk)
        except TransferError:
            break
        index += 1
    return index


class Receiver:
    """Takes the chunks of one object from `index` on; those before are held already (`resume_at`)."""

    __slots__ = ("_index", "_manifest")

    def __init__(self, manifest_: Manifest, index: int = 0) -> None:
        if not 0 <= index <= len(manifest_.digests):
            raise OutOfSequence(f"there is no chunk {index}")
        self._manifest = manifest_
        self._index = index

    @property
    def index(self) -> int:
        """The chunk that is next; after the last one, how many there are."""
        return self._index

    def take(self, sequence: int, octets: bytes) -> bytes:
        """The chunk, verified. Raises a TransferError, and then the same chunk is still next."""
        if self._index == len(self._manifest.digests):
            raise Surplus("the object is complete")
        if sequence != self._index:
            raise OutOfSequence(f"chunk {sequence} came where {self._index} is next")
        self._manifest.check(sequence, octets)
        self._index += 1
        return octets

    def finish(self) -> None:
        """Check that the object is complete. Raises Short."""
        if self._index < len(self._manifest.digests):
            raise Short(f"{self._index} chunks of {len(self._manifest.digests)} came")


def _check(name: str, chunk_octets: int) -> None:
    if len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise ManifestError("no object has such a name")
    if not 1 <= chunk_octets <= MAX_BODY_OCTETS:
        raise ManifestError(f"a chunk has 1 to {MAX_BODY_OCTETS} octets")


def _root(name: str, size: int, chunk_octets: int, digests: tuple[bytes, ...]) -> bytes:
    encoded = name.encode("ascii")
    numbers = (len(encoded), size, chunk_octets, len(digests))
    return sha256(b"".join((_PURPOSE, *(number.to_bytes(8, "big") for number in numbers), encoded, *digests))).digest()
