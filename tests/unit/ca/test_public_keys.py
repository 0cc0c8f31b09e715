"""Which public keys are certified."""

from math import gcd, prod

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from services.ca.messages import Refusal
from services.ca.policy import public_keys
from services.ca.policy.public_keys import has_small_order, rsa_weakness
from tests.unit.ca.applicants import rsa_key

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def refusal(key: object) -> str:
    with pytest.raises(Refusal) as caught:
        public_keys.check(key)
    assert (caught.value.kind, caught.value.field) == ("bad-key", "csr")
    return caught.value.detail


def rsa_public(modulus: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def without_small_factors(start: int) -> int:
    small = prod(primes(310))
    while gcd(start, small) != 1:
        start += 2
    return start


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_three_nist_curves_are_certified(curve: ec.EllipticCurve) -> None:
    public_keys.check(ec.generate_private_key(curve).public_key())


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.SECP224R1(), ec.BrainpoolP256R1()])
def test_every_other_curve_is_refused_by_name(curve: ec.EllipticCurve) -> None:
    assert curve.name in refusal(ec.generate_private_key(curve).public_key())


def test_ed25519_is_certified() -> None:
    public_keys.check(ed25519.Ed25519PrivateKey.generate().public_key())


def test_ed448_and_dsa_are_refused_by_name() -> None:
    assert "Ed448" in refusal(ed448.Ed448PrivateKey.generate().public_key())
    assert "DSA" in refusal(dsa.generate_private_key(2048).public_key())


@pytest.mark.parametrize("bits", [2048, 3072])
def test_rsa_from_2048_bits_on_is_certified(bits: int) -> None:
    public_keys.check(rsa_key(bits).public_key())


def test_rsa_below_2048_bits_is_refused() -> None:
    assert "1024 bits" in refusal(rsa_key(1024).public_key())


def test_rsa_above_8192_bits_is_refused() -> None:
    assert "8200 bits" in refusal(rsa_public(without_small_factors(2**8199 + 1)))


def test_rsa_of_an_odd_size_is_refused() -> None:
    assert "2049 bits" in refusal(rsa_public(without_small_factors(2**2048 + 1)))


@pytest.mark.parametrize("exponent", [3, 17, 65539])
def test_every_rsa_exponent_but_65537_is_refused(exponent: int) -> None:
    assert "exponent is not 65537" in refusal(rsa_public(rsa_key().public_key().public_numbers().n, exponent))


@pytest.mark.parametrize("factor", [3, 751, 1999])
def test_an_rsa_modulus_with_a_small_factor_is_refused(factor: int) -> None:
    cofactor = without_small_factors(2**2047 // factor + 2**2000 | 1)
    assert "small factor" in refusal(rsa_public(factor * cofactor))


def test_an_rsa_modulus_of_two_close_primes_is_refused() -> None:
    p = rsa_key().private_numbers().p
    q = without_small_factors(p + 2**500)
    assert "too close" in refusal(rsa_public(p * q))


def test_an_rsa_modulus_that_is_a_square_is_refused() -> None:
    assert "too close" in refusal(rsa_public(rsa_key().private_numbers().p ** 2))


def test_an_rsa_modulus_of_the_shape_of_roca_is_refused() -> None:
    """Its primes are k * M + (65537^a mod M), M the product of the first 126 primes (for 2048 bits)."""
    m = prod(primes(126))
    p, q = (k * m + pow(65537, a, m) for k, a in ((2**53 + 1, 12_345), (2**53 + 87, 67_890)))
    assert "ROCA" in (rsa_weakness(p * q) or "")


def test_no_weakness_is_found_in_ordinary_keys() -> None:
    assert rsa_weakness(rsa_key().public_key().public_numbers().n) is None
    assert rsa_weakness(rsa_key(3072).public_key().public_numbers().n) is None


def edwards_sum(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """RFC 8032, section 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def point_with(y: int) -> tuple[int, int]:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return x, y


def test_every_ed25519_point_of_small_order_is_refused_in_each_encoding() -> None:
    """The eight points are the multiples of one of order 8; a coordinate below 19 has a second, unreduced encoding."""
    generator = point_with(2707385501144840649318225287225658788936804267575313519463743609750303402022)
    points = [generator]
    while len(points) < 8:
        points.append(edwards_sum(points[-1], generator))
    assert points[-1] == (0, 1), "the generator has order 8"
    assert len(set(points)) == 8
    for x, y in points:
        for encoded_y in {y, y + P if y < 19 else y}:
            for sign in (0, 1) if x == 0 else (x & 1,):
                assert has_small_order((encoded_y | sign << 255).to_bytes(32, "little"))


def test_a_small_order_point_that_openssl_loads_is_refused() -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    assert "small order" in refusal(key)
