"""The decision to issue, and the certificate that follows from it."""

import warnings
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from config.schema import KeyType
from services.ca.hierarchy.hierarchy import validity_of
from services.ca.issuance import issuance, precertificate, signing
from services.ca.issuance.certification import Certifier
from services.ca.issuance.issuance import Decision, decide
from services.ca.messages import OWN_API, Refusal, RefusalKind
from services.ca.policy.profile import IssuerNotValid, Validity
from services.ca.serials import new_serial, parse_serial, serial_text
from tests.unit.ca.applicants import ApplicantKey, dns, ip, p256_key, pem, request, rsa_key
from tests.unit.ca.authorities import KEY_TYPES, NOW, SERIAL, asked, hierarchy_of, issuers, rules

PROFILES = {
    "stapled": """
description = "every extension that there is"
extended_key_usages = ["clientAuth", "1.3.6.1.5.5.7.3.17"]
key_types = ["ecdsa-p384", "rsa"]
transparency = false
[names]
kinds = ["dns"]
allowed = ["corp.example"]
denied = ["bad.corp.example"]
[key_usage]
ecdsa = ["digitalSignature", "keyAgreement"]
[extensions]
must_staple = true
certificate_policies = ["1.3.6.1.4.1.99999.1"]
[subject]
common_name = false
organization = "Acme"
[validity]
default = 3600
max = 7200
backdate = 0
"""
}
LEAF_KEYS: dict[str, Callable[[], ApplicantKey]] = {
    "p256": p256_key,
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa2048": rsa_key,
}


def decided(csr: bytes, profile: str | None = None, **settings: object) -> Decision:
    return decide(asked(csr, profile), rules(PROFILES, **settings), issuers(hierarchy_of()), NOW, SERIAL)


def issued(csr: bytes, profile: str | None = None, key_type: KeyType = "p256") -> x509.Certificate:
    """The certificate without a timestamp: its precertificate without the poison, signed."""
    made = hierarchy_of(key_type)
    decision = decide(asked(csr, profile), rules(PROFILES), issuers(made), NOW, SERIAL)
    to_be_signed = issuance.to_be_signed(decision)
    if decision.profile.transparency:
        to_be_signed = precertificate.without_poison(to_be_signed)
    return x509.load_der_x509_certificate(signing.certificate(to_be_signed, made.issuer.private_key))


def alternative_names(certificate: x509.Certificate) -> x509.Extension[x509.SubjectAlternativeName]:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize("issuer_type", KEY_TYPES)
@pytest.mark.parametrize("leaf_type", LEAF_KEYS)
def test_every_leaf_verifies_to_the_root_of_every_key_type(issuer_type: KeyType, leaf_type: str) -> None:
    key = LEAF_KEYS[leaf_type]()
    made = hierarchy_of(issuer_type)
    leaf = issued(pem(request(dns("host.example"), key=key)), key_type=issuer_type)
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(made.issuer.certificate)
    if "ed25519" not in {issuer_type, leaf_type}:  # which the web PKI profile of this verifier does not know
        store = PolicyBuilder().store(Store([made.root])).time(leaf.not_valid_before_utc)
        chain = store.build_server_verifier(x509.DNSName("host.example")).verify(leaf, [made.issuer.certificate])
        assert chain == [leaf, made.issuer.certificate, made.root]


def test_the_certificate_says_what_was_decided_and_nothing_else() -> None:
    leaf = issued(pem(request([*dns("host.example"), *ip("192.0.2.1")])))
    assert leaf.serial_number == SERIAL
    assert validity_of(leaf) == Validity(NOW - 60, NOW + 86_400)
    assert leaf.issuer == hierarchy_of().issuer.certificate.subject
    assert {(extension.oid, extension.critical) for extension in leaf.extensions} == {
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.EXTENDED_KEY_USAGE, False),
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, False),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, False),
    }
    assert list(alternative_names(leaf).value) == [*dns("host.example"), *ip("192.0.2.1")]


def test_no_wish_of_the_applicant_but_key_and_names_gets_into_the_certificate() -> None:
    wishes = request(
        dns("host.example"),
        common_name="Chief Executive",
        extensions=[
            x509.BasicConstraints(ca=True, path_length=9),
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                key_encipherment=False,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"anything"),
        ],
    )
    plain = request(dns("host.example"))
    assert issuance.to_be_signed(decided(pem(wishes))) == issuance.to_be_signed(decided(pem(plain)))


@pytest.mark.parametrize(
    ("profile", "purposes"),
    [
        (None, [ExtendedKeyUsageOID.SERVER_AUTH]),
        ("tls-server", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ("tls-client", [ExtendedKeyUsageOID.CLIENT_AUTH]),
        ("tls-server-client", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
    ],
)
def test_the_profile_decides_the_purpose(profile: str | None, purposes: list[x509.ObjectIdentifier]) -> None:
    leaf = issued(pem(request(dns("host.example"))), profile)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == purposes


def test_a_profile_decides_everything_that_its_file_says() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = issued(pem(request(dns("host.corp.example"), key=key)), "stapled")
    assert leaf.subject.rfc4514_string() == "O=Acme"
    assert validity_of(leaf) == Validity(NOW, NOW + 3600)
    extensions = leaf.extensions
    assert [purpose.dotted_string for purpose in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == [
        "1.3.6.1.5.5.7.3.2",
        "1.3.6.1.5.5.7.3.17",
    ]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_agreement, usage.content_commitment) == (True, True, False)
    assert list(extensions.get_extension_for_class(x509.TLSFeature).value) == [x509.TLSFeatureType.status_request]
    (policy,) = extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policy.policy_identifier.dotted_string == "1.3.6.1.4.1.99999.1"


@pytest.mark.parametrize(
    ("kind", "names", "key", "validity", "rule"),
    [
        ("forbidden-name", dns("other.example"), None, None, "profile stapled: names.allowed"),
        ("forbidden-name", dns("a.bad.corp.example"), None, None, "profile stapled: names.denied"),
        ("forbidden-name", ip("192.0.2.1"), None, None, "profile stapled: names.kinds"),
        ("bad-key", dns("host.corp.example"), "p256", None, "profile stapled: key_types"),
        ("bad-validity", dns("host.corp.example"), None, 7201, "profile stapled: validity.max"),
    ],
)
def test_a_refusal_names_the_rule_of_the_profile(
    kind: RefusalKind, names: list[x509.GeneralName], key: str | None, validity: int | None, rule: str
) -> None:
    csr = pem(request(names, key=LEAF_KEYS[key or "rsa2048"]()))
    with pytest.raises(Refusal) as caught:
        decide(asked(csr, "stapled", validity), rules(PROFILES), issuers(hierarchy_of()), NOW, SERIAL)
    assert caught.value.kind == kind
    assert rule in caught.value.detail


@pytest.mark.parametrize(
    ("name", "generate"),
    [
        ("ml-dsa-44", mldsa.MLDSA44PrivateKey.generate),
        ("ml-dsa-65", mldsa.MLDSA65PrivateKey.generate),
        ("ml-dsa-87", mldsa.MLDSA87PrivateKey.generate),
    ],
)
def test_a_post_quantum_profile_certifies_ml_dsa_keys_and_others_do_not(
    name: str, generate: Callable[[], mldsa.MLDSA65PrivateKey]
) -> None:
    text = (
        f'description = "x"\nextended_key_usages = ["serverAuth"]\nhierarchy = "post-quantum"\nkey_types = ["{name}"]'
    )
    key = generate()
    names = x509.SubjectAlternativeName(dns("host.example"))
    sent = pem(x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=True).sign(key, None))
    issuer = hierarchy_of().issuer  # of which kind it is makes no difference to what is decided
    decision = decide(asked(sent, "pq"), rules({"pq": text}), {"post-quantum": issuer}, NOW, SERIAL)
    made = Certifier(issuer).precertificate(Certifier(issuer).draft(decision))
    assert x509.load_der_x509_certificate(made.certificate).public_key() == key.public_key()
    with pytest.raises(Refusal, match="profile tls-server: key_types"):
        decided(sent)


def test_settings_stay_the_limit_of_every_profile() -> None:
    csr = pem(request(dns("host.corp.example"), key=rsa_key()))
    for settings, rule in (
        ({"max_validity": 3000, "default_validity": 3000}, "ca.max_validity"),
        ({"denied_names": ("corp.example",)}, "ca.denied_names"),
        ({"allowed_names": ("elsewhere.example",)}, "ca.allowed_names"),
    ):
        with pytest.raises(Refusal, match=rule):
            decide(asked(csr, "stapled", 3600), rules(PROFILES, **settings), issuers(hierarchy_of()), NOW, SERIAL)


def test_the_status_urls_follow_from_serial_number_and_issuer() -> None:
    leaf = issued(pem(request(dns("host.example"))))
    issuer = serial_text(hierarchy_of().issuer.certificate.serial_number)
    (point,) = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name == [x509.UniformResourceIdentifier(f"http://trust.localhost:8080/crl/{issuer}/1.crl")]
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [(one.access_method._name, one.access_location.value) for one in access] == [
        ("OCSP", "http://trust.localhost:8080/ocsp"),
        ("caIssuers", f"http://trust.localhost:8080/issuer/{issuer}.cer"),
    ]


def test_the_default_profile_is_that_of_settings() -> None:
    assert decided(pem(request(dns("host.example"))), default_profile="tls-client").profile.name == "tls-client"


def test_the_first_name_is_the_common_name() -> None:
    leaf = issued(pem(request(dns("b.example", "a.example"), common_name="a.example")))
    assert [(attribute.oid, attribute.value) for attribute in leaf.subject] == [(NameOID.COMMON_NAME, "b.example")]
    assert not alternative_names(leaf).critical


def test_a_first_name_too_long_for_a_common_name_leaves_the_subject_empty_and_the_names_critical() -> None:
    longest, too_long = "a" * 56 + ".example", "a" * 57 + ".example"
    assert len(longest) == 64
    assert list(issued(pem(request(dns(longest)))).subject)
    leaf = issued(pem(request(dns(too_long))))
    assert list(leaf.subject) == []
    assert alternative_names(leaf).critical


@pytest.mark.parametrize(
    "zone", ["\x1b[31mPWNED\n", "é" * 50, "\U0001f600" * 900], ids=["for the terminal", "two octets", "four octets"]
)
def test_no_text_gets_into_a_certificate_as_the_zone_of_an_address(zone: str) -> None:
    """Not even where networks are allowed: such an address is in them."""
    with warnings.catch_warnings(action="ignore"):  # of its length
        unchecked = x509.NameAttribute(NameOID.COMMON_NAME, f"fe80::1%{zone}", _validate=False)
    sent = x509.CertificateSigningRequestBuilder(x509.Name([unchecked])).sign(p256_key(), hashes.SHA256())
    for allowed in ((), ("fe80::/10",)):
        with pytest.raises(Refusal) as caught:
            decided(pem(sent), allowed_names=allowed)
        assert caught.value.kind == "forbidden-name"


def test_names_of_a_client_get_into_its_certificate() -> None:
    names = [x509.RFC822Name("user@host.example"), x509.UniformResourceIdentifier("spiffe://host.example/web")]
    assert list(alternative_names(issued(pem(request(names)), "tls-client")).value) == names


@pytest.mark.parametrize(
    ("kind", "csr", "profile", "validity"),
    [
        ("malformed", b"no request", None, None),
        ("bad-key", pem(request(dns("host.example"), key=rsa_key(1024))), None, None),
        ("forbidden-name", pem(request(dns("under_score.example"))), None, None),
        ("forbidden-name", pem(request([x509.RFC822Name("user@host.example")])), "tls-server", None),
        ("forbidden-name", pem(request()), None, None),
        ("unknown-profile", pem(request(dns("host.example"))), "code-signing", None),
        ("bad-validity", pem(request(dns("host.example"))), None, 7_776_001),
    ],
)
def test_what_is_at_fault_is_refused_by_its_kind(
    kind: RefusalKind, csr: bytes, profile: str | None, validity: int | None
) -> None:
    with pytest.raises(Refusal) as caught:
        decide(asked(csr, profile, validity), rules(), issuers(hierarchy_of()), NOW, SERIAL)
    assert caught.value.kind == kind
    assert caught.value.counts_as == "rejected"


def test_lists_of_names_hold_for_every_name_of_a_request() -> None:
    csr = pem(request(dns("a.corp.example", "evil.example")))
    with pytest.raises(Refusal, match=r"'evil\.example' is not covered"):
        decided(csr, allowed_names=("corp.example",))
    with pytest.raises(Refusal, match=r"'evil\.example' is denied"):
        decided(csr, denied_names=("evil.example",))


def test_lists_of_names_do_not_keep_the_api_from_its_own_certificate() -> None:
    csr = pem(request([*dns("localhost"), *ip("127.0.0.1")]))
    own = asked(csr, requester=OWN_API)
    narrow = rules(allowed_names=("corp.example",))
    assert decide(own, narrow, issuers(hierarchy_of()), NOW, SERIAL).names[0].text == "localhost"
    with pytest.raises(Refusal):
        decide(asked(csr), narrow, issuers(hierarchy_of()), NOW, SERIAL)


def test_an_expired_issuer_is_not_the_applicants_fault() -> None:
    with pytest.raises(IssuerNotValid):
        decide(asked(pem(request(dns("host.example")))), rules(), issuers(hierarchy_of()), NOW + 2**30, SERIAL)


def test_a_serial_number_is_the_128_bits_of_the_random_source() -> None:
    assert new_serial(lambda count: bytes(range(1, count + 1))) == 0x0102030405060708090A0B0C0D0E0F10
    assert new_serial(lambda count: b"\xff" * count) == 2**128 - 1


def test_a_serial_number_is_never_zero_and_always_of_the_same_length() -> None:
    draws = iter([bytes(16), b"\x00" + b"\xff" * 15, b"\x01" + bytes(15)])
    assert serial_text(new_serial(lambda _: next(draws))) == "01" + "00" * 15


@pytest.mark.parametrize(("serial", "text"), [(0x1, "01"), (0xAB, "ab"), (0xABC, "0abc"), (2**159, "80" + "00" * 19)])
def test_a_serial_number_is_written_with_two_digits_for_each_octet(serial: int, text: str) -> None:
    assert serial_text(serial) == text
    assert parse_serial(text) == serial


def test_serial_numbers_are_read_as_openssl_and_browsers_print_them() -> None:
    assert parse_serial("0A:BC") == parse_serial("0ABC") == parse_serial("abc") == 0xABC


@pytest.mark.parametrize("text", ["", ":", "xyz", "0x1", "-1", " 1", "1" * 41, "١"])
def test_what_is_no_serial_number_is_malformed(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_serial(text)
    assert (caught.value.kind, caught.value.field) == ("malformed", "serial")
