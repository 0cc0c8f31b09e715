"""Validators with keys made from their names, and votes by them."""

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from services.consensus import vote as votes_of
from services.consensus.operation import Operation
from services.consensus.registry import Registry, Validator, begun
from services.consensus.vote import Claims, Vote

NETWORK = sha256(b"a network").digest()
OTHER_NETWORK = sha256(b"another network").digest()
NOW = 1_800_000_000_000


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def validator(name: str, weight: int = 1) -> Validator:
    return Validator(name, key(name).public_key().public_bytes_raw(), weight)


def registry(**weights: int) -> Registry:
    return begun(NETWORK, [validator(name, weight) for name, weight in weights.items()])


def operation(value: str = "a value", slot: bytes = b"a slot", network: bytes = NETWORK) -> Operation:
    return Operation(network, "issue", slot, sha256(value.encode()).digest())


def claims(name: str, of: Registry, about: Operation, *, number: int = 1, time: int = NOW) -> Claims:
    return Claims(
        validator=name,
        epoch=of.epoch,
        registry=of.digest,
        slot=about.slot_digest,
        operation=about.digest,
        time=time,
        number=number,
        tree_size=0,
        root=bytes(32),
        retrieved=bytes(32),
        rules=bytes(32),
        report=bytes(32),
    )


def vote(name: str, of: Registry, about: Operation, *, number: int = 1, time: int = NOW) -> Vote:
    return votes_of.sign(key(name), claims(name, of, about, number=number, time=time))


def tampered(given: Vote, **changes: object) -> Vote:
    return Vote(replace(given.claims, **changes), given.signature)
