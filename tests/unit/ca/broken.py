"""Certificates with one thing wrong: a good one is taken apart, one part is changed, and all lengths are made right."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from services import der
from tests.rig.fake_log import FakeLog
from tests.unit.ca.applicants import ApplicantKey, dns, ip, pem, request
from tests.unit.ca.authorities import NOW, certified, decided, hierarchy_of, rules

FIELDS = ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions")
EXTENSIONS = {
    "subject key identifier": "0603551d0e",
    "key usage": "0603551d0f",
    "names": "0603551d11",
    "basic constraints": "0603551d13",
    "distribution points": "0603551d1f",
    "policies": "0603551d20",
    "authority key identifier": "0603551d23",
    "purposes": "0603551d25",
    "authority information": "06082b06010505070101",
    "tls feature": "06082b06010505070118",
    "poison": "060a2b06010401d679020403",
    "timestamps": "060a2b06010401d679020402",
}
EVERYTHING = """
description = "every extension that there is"
extended_key_usages = ["serverAuth", "clientAuth"]
[extensions]
must_staple = true
certificate_policies = ["1.3.6.1.4.1.99999.1"]
[subject]
organization = "Acme"
"""


@dataclass
class Parts:
    """A TBSCertificate in parts: the octets of each field, and of each extension by its name."""

    fields: dict[str, bytes]
    extensions: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, octets: bytes) -> "Parts":
        root = der.parse(octets)
        assert len(root.children) == len(FIELDS)
        fields = {name: child.octets for name, child in zip(FIELDS, root.children, strict=True)}
        names = {bytes.fromhex(identifier): name for name, identifier in EXTENSIONS.items()}
        members = root.children[-1].children[0].children
        return cls(fields, {names[member.children[0].octets]: member.octets for member in members})

    def put(self, name: str, value: bytes, *, critical: bool = False) -> None:
        """Set an extension. `value` is DER."""
        octets = bytes.fromhex(EXTENSIONS[name]) + (b"\x01\x01\xff" if critical else b"")
        self.extensions[name] = der.encode(der.SEQUENCE, octets + der.encode(der.OCTET_STRING, value))

    def value(self, name: str) -> bytes:
        """The DER in an extension."""
        return der.parse(self.extensions[name]).children[-1].value

    @property
    def octets(self) -> bytes:
        extensions = der.encode(0xA3, der.encode(der.SEQUENCE, b"".join(self.extensions.values())))
        return der.encode(der.SEQUENCE, b"".join({**self.fields, "extensions": extensions}.values()))


Change = Callable[[Parts], None]


@cache
def good(profile: str = "tls-server", key: ApplicantKey | None = None) -> tuple[bytes, bytes]:
    """Precertificate and certificate (DER) that are as they should be."""
    wanted = pem(request([*dns("host.example", "*.host.example"), *ip("192.0.2.1")], key=key))
    decision = decided(wanted, profile, None, rules({"everything": EVERYTHING}))
    return asyncio.run(certified(decision, FakeLog(now=lambda: NOW * 1000), hierarchy_of().root))


def to_be_signed(certificate: bytes) -> bytes:
    """The TBSCertificate in a certificate."""
    return der.parse(certificate).children[0].octets


def certificate_of(tbs: bytes, certificate: bytes) -> bytes:
    """A certificate with another TBSCertificate, and the old signature."""
    _, algorithm, signature = der.parse(certificate).children
    return der.encode(der.SEQUENCE, tbs + algorithm.octets + signature.octets)
