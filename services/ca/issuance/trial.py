"""Every profile is tried before it is offered: a certificate for each type of key, looked at and never signed. Pure.

Rules: what the lint would object to at each request for a profile, it objects to at the start, where an operator reads
it. The keys are constants, nobody's, and of the right form; the RSA modulus is no product of two primes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from config.profile_schema import HierarchyKind, LeafKeyType, NameKind
from services.ca.hierarchy.hierarchy import Issuer
from services.ca.issuance.certification import Certifier, Objection
from services.ca.issuance.issuance import Decision, Locations
from services.ca.issuance.rules import Rules
from services.ca.messages import Refusal
from services.ca.policy import names
from services.ca.policy.profile import Profile, Validity
from services.ca.policy.public_keys import CertifiedKey
from services.errors import ConfigurationError

_SERIAL: Final = 2**126
_SECONDS: Final = 60
_CURVES: Final[dict[LeafKeyType, ec.EllipticCurve]] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}
_NAMES: Final[dict[NameKind, str]] = {
    "dns": "host.example",
    "ip": "192.0.2.1",
    "email": "user@host.example",
    "uri": "https://host.example/",
}


def trials(rules: Rules, issuers: Mapping[HierarchyKind, Issuer]) -> Iterator[None]:
    """Try one profile with one type of key at each step, a millisecond's work.

    Raises ConfigurationError for a profile that no certificate could be issued by.
    """
    certifiers = {kind: Certifier(issuer) for kind, issuer in issuers.items()}
    for profile in rules.profiles.values():
        if profile.hierarchy not in issuers:
            raise ConfigurationError(
                f"the profile {profile.name} wants the {profile.hierarchy} hierarchy, and this authority has none"
            )
        for key_type in sorted(profile.key_types):
            decision = _decision(profile, key_type, issuers[profile.hierarchy], rules)
            try:
                certifiers[profile.hierarchy].draft(decision)
            except (Objection, Refusal) as error:
                raise ConfigurationError(
                    f"the profile {profile.name} cannot be used for keys of the type {key_type}: {error}"
                ) from error
            yield


def _decision(profile: Profile, key_type: LeafKeyType, issuer: Issuer, rules: Rules) -> Decision:
    begin = issuer.validity.not_before
    status = rules.status
    return Decision(
        serial=_SERIAL,
        profile=profile,
        names=names.validated([(kind, _NAMES[kind]) for kind in profile.name_kinds], profile.name_kinds),
        public_key=_key(key_type),
        validity=Validity(begin, begin + _SECONDS),
        requester="",
        issuer=issuer,
        locations=Locations(status.crl("00", 0), status.ocsp, status.issuer("00")),
    )


@cache
def _key(key_type: LeafKeyType) -> CertifiedKey:
    if key_type == "rsa":
        return rsa.RSAPublicNumbers(65537, 2**2048 - 1).public_key()
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    if key_type == "ml-dsa-44":
        return mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(32)).public_key()
    if key_type == "ml-dsa-65":
        return mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes(32)).public_key()
    if key_type == "ml-dsa-87":
        return mldsa.MLDSA87PrivateKey.from_seed_bytes(bytes(32)).public_key()
    return ec.derive_private_key(1, _CURVES[key_type]).public_key()
