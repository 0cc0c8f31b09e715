"""Objects in chunks: exactly the object of the manifest, chunk by chunk."""

from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from msgspec import msgpack, structs

from services.stoq import transfer
from services.stoq.messages import MAX_BODY_OCTETS
from services.stoq.transfer import (
    MAX_CHUNKS,
    Manifest,
    ManifestError,
    OutOfSequence,
    Receiver,
    Short,
    Surplus,
    TransferError,
    WrongDigest,
    WrongLength,
)

OBJECT = bytes(range(10))
MANIFEST = transfer.manifest("tree.db", [OBJECT], 4)
CHUNKS = [OBJECT[:4], OBJECT[4:8], OBJECT[8:]]


def test_a_manifest_lists_the_digest_of_each_chunk() -> None:
    assert (MANIFEST.name, MANIFEST.size, MANIFEST.chunk_octets) == ("tree.db", 10, 4)
    assert MANIFEST.digests == tuple(sha256(chunk).digest() for chunk in CHUNKS)


def test_the_root_is_over_everything_as_told() -> None:
    numbers = b"".join(number.to_bytes(8, "big") for number in (7, 10, 4, 3))
    octets = b"TrustChain: object in chunks, version 1\n" + numbers + b"tree.db" + b"".join(MANIFEST.digests)
    assert MANIFEST.root == sha256(octets).digest()


@pytest.mark.parametrize("pieces", [[OBJECT], [OBJECT[:1], OBJECT[1:9], OBJECT[9:]], [b"", *CHUNKS, b""]])
def test_a_manifest_does_not_depend_on_how_the_object_is_read(pieces: list[bytes]) -> None:
    assert transfer.manifest("tree.db", pieces, 4) == MANIFEST


def test_a_receiver_hands_on_each_chunk_and_knows_when_all_came() -> None:
    receiver = Receiver(MANIFEST)
    for index, chunk in enumerate(CHUNKS):
        with pytest.raises(Short):
            receiver.finish()
        assert receiver.take(index, chunk) == chunk
    receiver.finish()
    assert receiver.index == 3


@pytest.mark.parametrize(
    ("sequence", "octets", "error"),
    [
        (0, CHUNKS[0], OutOfSequence),
        (2, CHUNKS[2], OutOfSequence),
        (1, CHUNKS[1][:3], WrongLength),
        (1, CHUNKS[1] + b"x", WrongLength),
        (1, b"", WrongLength),
        (1, CHUNKS[0], WrongDigest),
        (1, bytes(4), WrongDigest),
    ],
)
def test_a_wrong_chunk_is_refused_and_the_right_one_is_still_taken(
    sequence: int, octets: bytes, error: type[TransferError]
) -> None:
    receiver = Receiver(MANIFEST)
    receiver.take(0, CHUNKS[0])
    with pytest.raises(error):
        receiver.take(sequence, octets)
    assert receiver.take(1, CHUNKS[1]) == CHUNKS[1]


def test_the_last_chunk_is_not_filled_up() -> None:
    receiver = Receiver(MANIFEST, 2)
    with pytest.raises(WrongLength):
        receiver.take(2, CHUNKS[2] + bytes(2))


def test_nothing_is_taken_after_the_last_chunk() -> None:
    with pytest.raises(Surplus):
        Receiver(MANIFEST, 3).take(3, b"x")


@pytest.mark.parametrize("index", [-1, 4])
def test_a_transfer_is_not_resumed_outside_the_object(index: int) -> None:
    with pytest.raises(OutOfSequence):
        Receiver(MANIFEST, index)


@pytest.mark.parametrize(
    ("held", "index"),
    [(b"", 0), (OBJECT[:3], 0), (OBJECT[:4], 1), (OBJECT[:9], 2), (OBJECT, 3), (OBJECT[:4] + bytes(6), 1)],
)
def test_a_transfer_is_resumed_after_the_whole_chunks_that_are_right(held: bytes, index: int) -> None:
    assert transfer.resume_at(MANIFEST, [held]) == index


def test_what_is_held_beyond_the_object_does_not_count() -> None:
    even = transfer.manifest("tree.db", [OBJECT[:8]], 4)
    assert transfer.resume_at(even, [OBJECT]) == 2


def test_an_empty_object_has_no_chunks() -> None:
    empty = transfer.manifest("empty", [])
    assert (empty.size, empty.digests) == (0, ())
    Receiver(empty).finish()
    with pytest.raises(Surplus):
        Receiver(empty).take(0, b"x")


@pytest.mark.parametrize(
    "change",
    [
        {"size": 9},
        {"size": 13},
        {"size": 2**63},
        {"size": -1},
        {"chunk_octets": 0},
        {"chunk_octets": 5},
        {"chunk_octets": MAX_BODY_OCTETS + 1},
        {"digests": MANIFEST.digests[:2]},
        {"digests": (*MANIFEST.digests[:2], b"short")},
        {"digests": MANIFEST.digests[::-1]},
        {"root": bytes(32)},
        {"name": "other"},
        {"name": "../tree.db"},
        {"name": ".tree"},
        {"name": ""},
        {"name": "n" * 129},
    ],
)
def test_a_manifest_that_contradicts_itself_does_not_construct(change: dict[str, object]) -> None:
    with pytest.raises(ManifestError):
        structs.replace(MANIFEST, **change)


@pytest.mark.parametrize(
    "change",
    [
        lambda octets: octets[:-1],
        lambda octets: octets + b"\x00",
        lambda octets: b"\xdc\x00\x05" + octets[1:],
        lambda octets: octets[:-1] + b"\x00",
        lambda _: b"",
        lambda _: msgpack.encode(None),
        lambda _: bytes(MAX_BODY_OCTETS + 1),
    ],
)
def test_there_is_one_way_to_write_a_manifest(change: Callable[[bytes], bytes]) -> None:
    octets = transfer.encode(MANIFEST)
    assert transfer.parse(octets) == MANIFEST
    with pytest.raises(ManifestError):
        transfer.parse(change(octets))


def test_the_largest_manifest_fits_into_one_body() -> None:
    largest = transfer.manifest("n" * 128, [bytes(MAX_CHUNKS)], 1)
    assert len(transfer.encode(largest)) < MAX_BODY_OCTETS


def test_an_object_without_end_is_refused_when_it_is_too_large() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"x"

    with pytest.raises(ManifestError, match="chunks"):
        transfer.manifest("endless", endless(), 1)
    assert read == MAX_CHUNKS + 1


def test_a_type_of_the_manifest_is_what_it_says() -> None:
    assert Manifest(*structs.astuple(MANIFEST)) == MANIFEST
