"""Where the status of certificates is published: the URLs that certificates carry, and what partition they name. Pure.

Rules:
- A certificate's list is found by its serial number alone: the partition is the first octet of the serial number modulo
  the number of partitions. What a certificate carries counts for ever, so that the settings may change.
- Plain HTTP: what is published is signed, and a client that checks a TLS certificate cannot ask over TLS (RFC 5280,
  section 8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from config.schema import Settings

_CRL_PATH: Final = re.compile(r"/crl/([0-9a-f]{1,40})/([0-9]{1,3})\.crl$", re.ASCII)


@dataclass(frozen=True, slots=True)
class StatusUrls:
    """The URLs below one base, which has no slash at its end. `issuer` is the issuer's serial number."""

    base: str

    @property
    def ocsp(self) -> str:
        """Where OCSP requests are sent."""
        return f"{self.base}/ocsp"

    def crl(self, issuer: str, partition: int) -> str:
        """Where the revocation list of one partition is."""
        return f"{self.base}/crl/{issuer}/{partition}.crl"

    def issuer(self, issuer: str) -> str:
        """Where the certificate of the issuer is."""
        return f"{self.base}/issuer/{issuer}.cer"


def urls_of(settings: Settings) -> StatusUrls:
    """The URLs of certificates that are issued with these settings."""
    return StatusUrls(settings.status_url)


def partition_of(serial: int, partitions: int) -> int:
    """Which of `partitions` lists a certificate with this serial number belongs to."""
    octets = max(1, -(-serial.bit_length() // 8))
    return (serial >> (8 * (octets - 1))) % partitions


def partition_in(url: str) -> int | None:
    """The partition that a URL of a revocation list names; None for a URL that is not one of ours."""
    found = _CRL_PATH.search(url)
    return None if found is None else int(found[2])
