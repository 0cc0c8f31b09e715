"""The API's own certificate: which names it has, when it can be used, when it is renewed."""

import datetime as dt
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.api.identity import Identity, IdentityError, Names, certificate_request, is_dns_name, names_of

NOT_BEFORE = 1_700_000_000
LIFETIME = 90_000
NOT_AFTER = NOT_BEFORE + LIFETIME
NAMES = names_of("trust.test", "host", ["api.example.test", "192.0.2.9"], ["127.0.0.1", "::1", "198.51.100.4"])
ROOT_KEY, ISSUER_KEY, OTHER_KEY, KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: Names | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(dt.datetime.fromtimestamp(NOT_BEFORE, dt.UTC))
    builder = builder.not_valid_after(dt.datetime.fromtimestamp(NOT_AFTER, dt.UTC))
    if names is not None:
        alternatives = [*map(x509.DNSName, names.dns), *map(x509.IPAddress, names.addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def pem(*parts: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    return b"".join(
        part.public_bytes(serialization.Encoding.PEM)
        if isinstance(part, x509.Certificate)
        else part.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for part in parts
    )


ROOT = certificate("root", ROOT_KEY, "root", ROOT_KEY)
ISSUER = certificate("issuer", ISSUER_KEY, "root", ROOT_KEY)
LEAF = certificate("leaf", KEY, "issuer", ISSUER_KEY, NAMES)
IDENTITY = Identity.from_pem(pem(KEY, LEAF, ISSUER))
ROOTS = pem(ROOT)


def test_a_server_is_named_by_host_domain_settings_and_addresses() -> None:
    assert NAMES.dns == ("localhost", "host", "api.trust.test", "trust.test", "api.example.test")
    assert [str(a) for a in NAMES.addresses] == ["127.0.0.1", "::1", "192.0.2.9", "198.51.100.4"]


def test_wildcard_addresses_name_nobody_and_scopes_are_left_out() -> None:
    names = names_of("trust.test", "host", [], ["0.0.0.0", "::", "fe80::1%eth0"])
    assert [str(a) for a in names.addresses] == ["127.0.0.1", "::1", "fe80::1"]


@pytest.mark.parametrize("hostname", ["my_host", "", "-x", "x-", "a..b", "ab--c", "xn--zz", "10.0.0.1", "ü", "x" * 64])
def test_a_host_name_that_no_certificate_can_carry_is_left_out(hostname: str) -> None:
    assert names_of("trust.test", hostname, [], []).dns == ("localhost", "api.trust.test", "trust.test")


@pytest.mark.parametrize("text", ["host", "a.b-c.d9", "x" * 63, "localhost"])
def test_what_is_a_host_name(text: str) -> None:
    assert is_dns_name(text)


def test_a_request_carries_all_names_and_the_proof_of_its_key() -> None:
    csr = x509.load_pem_x509_csr(certificate_request(KEY, NAMES))
    carried = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(carried.get_values_for_type(x509.DNSName)) == NAMES.dns
    assert tuple(carried.get_values_for_type(x509.IPAddress)) == NAMES.addresses
    assert csr.is_signature_valid


def test_what_is_stored_comes_back() -> None:
    assert (IDENTITY.not_before, IDENTITY.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert IDENTITY.leaf == LEAF


@pytest.mark.parametrize(
    "content",
    [b"", b"rubbish", pem(LEAF), pem(KEY), pem(OTHER_KEY, LEAF, ISSUER), pem(KEY, LEAF)[:-100]],
    ids=["empty", "rubbish", "no key", "no certificate", "another key", "cut off"],
)
def test_what_is_no_key_with_its_certificate_is_refused(content: bytes) -> None:
    with pytest.raises(IdentityError):
        Identity.from_pem(content)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOT_BEFORE - 1, "it is not valid yet"),
        (NOT_BEFORE, None),
        (NOT_AFTER - 1, None),
        (NOT_AFTER, "it has expired"),
    ],
)
def test_it_is_used_in_its_lifetime_only(now: float, reason: str | None) -> None:
    assert IDENTITY.unusable_because(ROOTS, now) == reason


@pytest.mark.parametrize(
    ("chain", "roots"),
    [
        (pem(KEY, LEAF, ISSUER), pem(certificate("root", OTHER_KEY, "root", OTHER_KEY))),
        (pem(KEY, LEAF, ISSUER), b""),
        (pem(KEY, LEAF, ISSUER), b"rubbish"),
        (pem(KEY, LEAF), ROOTS),
        (pem(KEY, LEAF, certificate("issuer", OTHER_KEY, "root", ROOT_KEY)), ROOTS),
    ],
    ids=["another root", "no root", "a damaged root", "no intermediate", "an intermediate of the same name"],
)
def test_it_is_not_used_without_a_chain_to_the_root(chain: bytes, roots: bytes) -> None:
    assert Identity.from_pem(chain).unusable_because(roots, NOT_BEFORE) == "it does not chain to the root"


def test_renewal_is_due_after_two_thirds_of_the_lifetime() -> None:
    assert IDENTITY.seconds_until_renewal(NAMES, 0, NOT_BEFORE) == pytest.approx(60_000)
    assert IDENTITY.seconds_until_renewal(NAMES, 0, NOT_BEFORE + 59_999) == pytest.approx(1)
    assert IDENTITY.seconds_until_renewal(NAMES, 0, NOT_BEFORE + 60_000) == 0
    assert IDENTITY.seconds_until_renewal(NAMES, 0, NOT_AFTER + 5) == 0


def test_a_new_name_is_a_reason_to_renew_at_once() -> None:
    names = Names((*NAMES.dns, "new.test"), (*NAMES.addresses, ip_address("192.0.2.77")))
    assert names.missing_from(LEAF) == ["new.test", "192.0.2.77"]
    assert IDENTITY.seconds_until_renewal(names, 0, NOT_BEFORE) == 0


def test_a_certificate_without_names_lacks_all_of_them() -> None:
    assert len(NAMES.missing_from(ISSUER)) == len(NAMES.dns) + len(NAMES.addresses)


def test_failures_are_repeated_ever_more_slowly_but_often_enough() -> None:
    waits = [IDENTITY.seconds_until_renewal(NAMES, failures, NOT_BEFORE + 60_000) for failures in range(1, 12)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert IDENTITY.seconds_until_renewal(NAMES, 9, NOT_AFTER - 50) == 5
    assert IDENTITY.seconds_until_renewal(NAMES, 9, NOT_AFTER + 50) == 1
    assert IDENTITY.seconds_until_renewal(NAMES, 10**6, NOT_BEFORE) == 60


def test_it_is_running_out_when_half_of_the_last_third_is_gone() -> None:
    assert not IDENTITY.is_running_out(NOT_BEFORE + 74_999)
    assert IDENTITY.is_running_out(NOT_BEFORE + 75_000)


def test_the_issuer_is_named_as_the_authority_names_it() -> None:
    """With two digits for each octet: an odd number of them gets a zero in front."""
    serial, certificate_of_issuer = IDENTITY.issuer()
    assert int(serial, 16) == ISSUER.serial_number
    assert len(serial) % 2 == 0
    assert serial == serial.lower()
    assert certificate_of_issuer == ISSUER.public_bytes(serialization.Encoding.DER)


def test_an_identity_without_its_issuer_says_so() -> None:
    with pytest.raises(IdentityError, match="no certificate of its issuer"):
        Identity.from_pem(pem(KEY, LEAF)).issuer()
