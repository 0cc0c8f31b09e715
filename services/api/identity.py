"""The certificate that the API itself presents: which names it needs, and when it is time for a new one.

Rules:
- Times are seconds since the Unix epoch, `now` is an argument.
- Renewal is due when two thirds of the lifetime are over: a certificate authority that is away for less than the last
  third is not noticed by any client.
- A stored certificate is used as long as it is valid and chains to the present root: then a start needs nothing from
  anybody. One that lacks a name that is served is still better than none; it is renewed as soon as that is possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Labels with hyphens in third and fourth place are reserved (RFC 5891, section 4.2.3.1); not all of them are certified.
_LABEL: Final = re.compile(r"(?!-)(?!..--)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_MAX_DNS_NAME: Final = 253
_SHORTEST_RETRY: Final = 1.0
_LONGEST_RETRY: Final = 60.0


class IdentityError(Exception):
    """What is stored is not a usable key with its certificate; the text says why."""


@dataclass(frozen=True, slots=True)
class Names:
    """What clients may call this server."""

    dns: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]

    def missing_from(self, certificate: x509.Certificate) -> list[str]:
        """The names that `certificate` does not carry."""
        try:
            carried = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return [*self.dns, *map(str, self.addresses)]
        dns = set(carried.get_values_for_type(x509.DNSName))
        addresses = set(carried.get_values_for_type(x509.IPAddress))
        return [name for name in self.dns if name not in dns] + [str(a) for a in self.addresses if a not in addresses]


def names_of(domain: str, hostname: str, extra: Iterable[str], bound: Iterable[str]) -> Names:
    """The names of a server: the local ones, the host's, its domain's, those of settings, and what it is bound to.

    A host name that is not a DNS name is left out: it was not chosen for this and must not prevent the start.
    """
    hostname = hostname.lower()
    dns = ["localhost", *([hostname] if is_dns_name(hostname) else []), f"api.{domain}", domain]
    addresses = [ip_address("127.0.0.1"), ip_address("::1")]
    for name in (*extra, *(address.partition("%")[0] for address in bound)):
        try:
            address = ip_address(name)
        except ValueError:
            dns.append(name.lower())
        else:
            if not address.is_unspecified:
                addresses.append(address)
    return Names(tuple(dict.fromkeys(dns)), tuple(dict.fromkeys(addresses)))


def is_dns_name(text: str) -> bool:
    """Whether `text` is a host name in the preferred syntax (RFC 1034, section 3.5) and not an IPv4 address."""
    labels = text.split(".")
    return len(text) <= _MAX_DNS_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def certificate_request(key: ec.EllipticCurvePrivateKey, names: Names) -> bytes:
    """A PKCS #10 request (PEM) for `names` with an empty subject (RFC 5280, section 4.1.2.6)."""
    alternatives = [*map(x509.DNSName, names.dns), *map(x509.IPAddress, names.addresses)]
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(
        x509.SubjectAlternativeName(alternatives), critical=True
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key with the certificates that prove it, leaf first: one file, so that the two always fit."""

    pem: bytes
    leaf: x509.Certificate
    not_before: int
    not_after: int

    @classmethod
    def from_pem(cls, pem: bytes) -> Identity:
        """Read what is stored. Raises IdentityError."""
        try:
            key = serialization.load_pem_private_key(pem, password=None)
            leaf = x509.load_pem_x509_certificates(pem)[0]
        except (ValueError, TypeError) as error:
            raise IdentityError(f"it cannot be read: {error}") from None
        if key.public_key() != leaf.public_key():
            raise IdentityError("its key and its certificate do not belong together")
        not_before = int(leaf.not_valid_before_utc.timestamp())
        return cls(pem, leaf, not_before, int(leaf.not_valid_after_utc.timestamp()))

    def issuer(self) -> tuple[str, bytes]:
        """The certificate that issued the leaf (DER), after its serial number: lower-case hexadecimal, whole octets.

        Raises IdentityError if only the leaf is there.
        """
        chain = x509.load_pem_x509_certificates(self.pem)
        if len(chain) < 2:
            raise IdentityError("it holds no certificate of its issuer")
        digits = f"{chain[1].serial_number:x}"
        return digits.zfill(len(digits) + len(digits) % 2), chain[1].public_bytes(serialization.Encoding.DER)

    def unusable_because(self, roots: bytes, now: float) -> str | None:
        """Why this identity must not be presented (any more), or None."""
        if now >= self.not_after:
            return "it has expired"
        if now < self.not_before:
            return "it is not valid yet"
        return None if _chains_to(x509.load_pem_x509_certificates(self.pem), roots) else "it does not chain to the root"

    def renewal_at(self) -> float:
        """When two thirds of the lifetime are over."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3

    def seconds_until_renewal(self, names: Names, failures: int, now: float) -> float:
        """When to ask for the next certificate, after so many failures in a row.

        Failures are repeated after a time that doubles, up to a tenth of the lifetime that is left.
        """
        if failures:
            longest = max(_SHORTEST_RETRY, min(_LONGEST_RETRY, (self.not_after - now) / 10))
            return float(min(_SHORTEST_RETRY * 2 ** min(failures - 1, 10), longest))
        if names.missing_from(self.leaf):
            return 0.0
        return max(0.0, self.renewal_at() - now)

    def is_running_out(self, now: float) -> bool:
        """Whether half of the time that is kept for renewal is gone, so that somebody has to be told."""
        return now >= self.not_after - (self.not_after - self.not_before) / 6


def _chains_to(chain: list[x509.Certificate], roots: bytes) -> bool:
    """Whether each certificate is signed by the next and the last one by one of `roots`; names and signatures only."""
    try:
        anchors = x509.load_pem_x509_certificates(roots)
    except ValueError:
        return False
    pairs_fit = all(_is_issued_by(subject, issuer) for subject, issuer in pairwise(chain))
    return pairs_fit and any(_is_issued_by(chain[-1], anchor) for anchor in anchors)


def _is_issued_by(subject: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
