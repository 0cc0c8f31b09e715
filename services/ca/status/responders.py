"""The OCSP responders of the issuers: made when needed, renewed in time, never on the disk.

The commit order is that of issuance: the serial number is on record before the certificate is signed, the certificate
before an answer carries it. A crash in between leaves a row that stays `reserved`.

Rules:
- A responder's key lives in this process only, and its certificate for RESPONDER_SHARE times as long as an answer: it
  cannot be revoked (ocsp-nocheck), so that it must end soon.
- It is renewed when it could not sign two more generations of answers. Should that fail, the one before goes on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, cast

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from services.ca.hierarchy.hierarchy import Issuer
from services.ca.hierarchy.keyring import generate
from services.ca.inventory.expiry import Item
from services.ca.keys.signing_keys import SigningKey
from services.ca.policy.profile import Validity
from services.ca.serials import new_serial, serial_text
from services.ca.status import ocsp
from services.ca.status.ocsp import Responder
from services.ca.status.storage import ResponderReservation, StatusStorage
from services.ca.status.surroundings import Surroundings
from services.errors import Unavailable

RESPONDER_SHARE: Final = 6
RENEWED_SHARE: Final = 2
LEAST_LIFETIME: Final = 3600


class Responders:
    """One responder for each issuer. `lifetime` is that of an answer, in seconds."""

    def __init__(
        self,
        *,
        issuers: Mapping[str, Issuer],
        storage: StatusStorage,
        around: Surroundings,
        lifetime: int,
    ) -> None:
        self._issuers = issuers
        self._storage = storage
        self._metrics = around.metrics
        self._log = around.log
        self._now = around.now
        self._random_octets = around.random_octets
        self._lifetime = lifetime
        self._backdate = around.backdate
        self._current: dict[str, Responder] = {}
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def items(self) -> list[Item]:
        """The responders' certificates, as something that ends."""
        return [Item.of_certificate("responder", one.certificate) for one in self._current.values()]

    def speak_for(self, issuers: Mapping[str, Issuer]) -> None:
        """Have a responder for each of these issuers from now on."""
        self._issuers = issuers

    async def get(self, issuer: str) -> Responder:
        """The responder of an issuer. Raises StorageUnavailable, or Unavailable when the issuer is not valid now."""
        current = self._current.get(issuer)
        if current is not None and self._now() + self._lifetime <= current.not_after:
            return current
        return await self._renewed(issuer)

    async def renew(self) -> None:
        """Renew those whose time comes. Raises StorageUnavailable."""
        for issuer, signer in self._issuers.items():
            if signer.validity.covers(self._now()) and self._is_due(issuer):
                await self._renewed(issuer)

    def _is_due(self, issuer: str) -> bool:
        current = self._current.get(issuer)
        return current is None or self._now() + RENEWED_SHARE * self._lifetime > current.not_after

    async def _renewed(self, issuer: str) -> Responder:
        async with self._making[issuer]:
            current = self._current.get(issuer)
            if current is not None and not self._is_due(issuer):
                return current
            try:
                made = await self._make(issuer)
            except Unavailable:
                if current is None or current.not_after <= self._now():
                    raise
                return current
            self._current[issuer] = made
            self._metrics.show_responders(one.not_after for one in self._current.values())
            return made

    async def _make(self, issuer: str) -> Responder:
        signer, now = self._issuers[issuer], self._now()
        if not signer.validity.covers(now):
            raise Unavailable("the issuing certificate is not valid now, so that no OCSP answer would be")
        serial = new_serial(self._random_octets)
        ends = min(now + max(RESPONDER_SHARE * self._lifetime, LEAST_LIFETIME), signer.validity.not_after)
        validity = Validity(max(now - self._backdate, signer.validity.not_before), ends)
        row = await self._storage.reserve_responder(
            ResponderReservation(serial_text(serial), issuer, validity.not_before, validity.not_after, now)
        )
        key = _key_like(signer.private_key)
        certificate = ocsp.sign_responder(signer, key, serial, validity)
        await self._storage.store_responder(row, certificate.public_bytes(serialization.Encoding.DER), now)
        self._log.info("a new OCSP responder", issuer=issuer, serial=serial_text(serial), not_after=validity.not_after)
        return Responder(certificate, key)


_POST_QUANTUM: Final = (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey)


def _key_like(key: object) -> SigningKey:
    """A new key that whoever verifies the issuer's signatures can verify, and that is made in no time."""
    for kind in _POST_QUANTUM:
        if isinstance(key, kind):
            return cast(SigningKey, kind.generate())
    return generate("ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "p256")
