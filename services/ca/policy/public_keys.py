"""Which public keys are certified: pure checks against keys that are weak or that nobody can verify with.

Rules:
- RSA from 2048 to 8192 bits, a whole number of octets, exponent 65537; ECDSA on P-256, P-384 and P-521; Ed25519; ML-DSA
  with the parameters 44, 65 and 87. A profile narrows these.
- An RSA modulus is refused when its private key is within anybody's reach: it has a small factor, its two primes are
  close together (Fermat's factorisation), or it has the shape of the keys of CVE-2017-15361 (ROCA).
- An Ed25519 point of small order is refused: signatures by it can be made without a private key.
"""

from __future__ import annotations

from math import gcd, isqrt, prod
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from config.profile_schema import LeafKeyType
from services.ca.messages import Refusal

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
RSA_EXPONENT: Final = 65537
FERMAT_ROUNDS: Final = 100

MlDsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
CertifiedKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | MlDsaPublicKey

_CURVES: Final[dict[str, LeafKeyType]] = {
    "secp256r1": "ecdsa-p256",
    "secp384r1": "ecdsa-p384",
    "secp521r1": "ecdsa-p521",
}
_ACCEPTED: Final = "RSA, ECDSA on P-256, P-384 or P-521, Ed25519 and ML-DSA keys are certified"


def _primes_below(limit: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, limit) if all(n % d for d in range(2, isqrt(n) + 1)))


_SMALL_PRIMES: Final = _primes_below(2000)
_SMALL_PRIMES_PRODUCT: Final = prod(_SMALL_PRIMES)
# The primes of a ROCA key are k*M + (65537^a mod M), M a product of the first primes: modulo each of these, such a
# modulus is a power of 65537. A random modulus passes all of them with a probability below 2^-27.
_ROCA_RESIDUES: Final = tuple(
    (p, frozenset(pow(RSA_EXPONENT, exponent, p) for exponent in range(p - 1))) for p in _SMALL_PRIMES if 2 < p < 168
)

_ED25519_P: Final = 2**255 - 19
_ORDER_8_Y: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
# The y coordinates of the eight points of small order: orders 4, 1, 2, 8 and 8, and those of 4 and 1 unreduced.
_SMALL_ORDER_Y: Final = frozenset(
    {0, 1, _ED25519_P - 1, _ORDER_8_Y, _ED25519_P - _ORDER_8_Y, _ED25519_P, _ED25519_P + 1}
)


def check(key: object) -> CertifiedKey:
    """Give back `key` when it may be certified. Raises Refusal("bad-key")."""
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key)
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise _refused(f"the curve {key.curve.name} is not certified; {_ACCEPTED}")
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        if has_small_order(key.public_bytes_raw()):
            raise _refused("the Ed25519 point has a small order: anybody can sign for it")
        return key
    if isinstance(key, MlDsaPublicKey):
        return key
    raise _refused(f"keys of the type {type(key).__name__.removesuffix('PublicKey')} are not certified; {_ACCEPTED}")


def type_of(key: CertifiedKey) -> LeafKeyType:
    """The type of a checked key, as profiles name it."""
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, mldsa.MLDSA44PublicKey):
        return "ml-dsa-44"
    return "ml-dsa-65" if isinstance(key, mldsa.MLDSA65PublicKey) else "ml-dsa-87"


def _check_rsa(key: rsa.RSAPublicKey) -> None:
    numbers = key.public_numbers()
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS or key.key_size % 8:
        raise _refused(
            f"the RSA modulus has {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS}, in whole octets, are certified"
        )
    if numbers.e != RSA_EXPONENT:
        raise _refused(f"the RSA exponent is not {RSA_EXPONENT}")
    weakness = rsa_weakness(numbers.n)
    if weakness is not None:
        raise _refused(f"{weakness}: its private key can be computed; make a new key")


def rsa_weakness(modulus: int) -> str | None:
    """Why the private key of this modulus is within reach; None when no reason was found."""
    if gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        return "the RSA modulus has a small factor"
    if all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES):
        return "the RSA key has the shape of CVE-2017-15361 (ROCA)"
    if _primes_are_close(modulus):
        return "the primes of the RSA key are too close together"
    return None


def _primes_are_close(modulus: int) -> bool:
    """Fermat: search n = a^2 - b^2 from a = sqrt(n) on."""
    a = isqrt(modulus - 1) + 1
    for _ in range(FERMAT_ROUNDS):
        square = a * a - modulus
        # Squares end in 0, 1, 4 or 9 in base 16: three of four candidates need no root.
        if square & 15 in {0, 1, 4, 9} and isqrt(square) ** 2 == square:
            return True
        a += 1
    return False


def has_small_order(point: bytes) -> bool:
    """Whether an encoded Ed25519 point (RFC 8032, section 5.1.2) has an order of 8 or less."""
    return int.from_bytes(point, "little") & (2**255 - 1) in _SMALL_ORDER_Y


def _refused(detail: str) -> Refusal:
    return Refusal("bad-key", "csr", detail)
