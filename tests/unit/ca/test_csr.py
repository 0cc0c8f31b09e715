"""What is read from a certificate request, and what is refused."""

import base64
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.ca.issuance import csr
from services.ca.messages import MAX_CSR_BYTES, Refusal, RefusalKind
from services.ca.policy.names import MAX_NAMES
from tests.unit.ca.applicants import (
    ECDSA_WITH_SHA1,
    RequestDigest,
    der,
    dns,
    ip,
    p256_key,
    pem,
    request,
    resigned,
    rsa_key,
)


def refused(data: bytes, kind: RefusalKind) -> str:
    with pytest.raises(Refusal) as caught:
        csr.parse(data)
    assert (caught.value.kind, caught.value.field) == (kind, "csr")
    return caught.value.detail


def test_pem_and_der_read_alike() -> None:
    sent = request(dns("host.example"))
    assert csr.parse(pem(sent)) == csr.parse(der(sent))


def test_the_old_pem_label_and_text_before_the_request_are_read() -> None:
    """`openssl req -newhdr` and `openssl req -text` write these."""
    data = (
        pem(request(dns("host.example")))
        .replace(b"BEGIN CERT", b"BEGIN NEW CERT")
        .replace(b"END CERT", b"END NEW CERT")
    )
    assert csr.parse(b"Certificate Request:\n    Data:\n" + data).names == (("dns", "host.example"),)


def test_all_four_kinds_of_names_are_read_in_order() -> None:
    names = [
        *dns("host.example"),
        *ip("192.0.2.1", "2001:db8::1"),
        x509.RFC822Name("user@host.example"),
        x509.UniformResourceIdentifier("spiffe://host.example/x"),
    ]
    assert csr.parse(pem(request(names))).names == (
        ("dns", "host.example"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::1"),
        ("email", "user@host.example"),
        ("uri", "spiffe://host.example/x"),
    )


def test_the_common_name_is_the_name_only_when_there_are_no_alternative_names() -> None:
    assert csr.parse(pem(request(common_name="host.example"))).names == (("dns", "host.example"),)
    assert csr.parse(pem(request(dns("a.example"), common_name="b.example"))).names == (("dns", "a.example"),)


@pytest.mark.parametrize(
    ("common_name", "kind"),
    [("192.0.2.1", "ip"), ("2001:db8::1", "ip"), ("user@host.example", "email"), ("A b", "dns")],
)
def test_the_kind_of_a_common_name_is_seen_from_its_text(common_name: str, kind: str) -> None:
    assert csr.parse(pem(request(common_name=common_name))).names == ((kind, common_name),)


def test_more_names_than_are_certified_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    csr.parse(pem(request(dns(*(f"h{n}.example" for n in range(MAX_NAMES))))))
    monkeypatch.setattr(csr, "_requested_names", lambda _: pytest.fail("read"))
    refused(pem(request(dns(*(f"h{n}.example" for n in range(MAX_NAMES + 1))))), "forbidden-name")


def with_common_names(count: int) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"h{n}") for n in range(count)])
    return pem(x509.CertificateSigningRequestBuilder(subject).sign(p256_key(), hashes.SHA256()))


def test_more_common_names_than_are_certified_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(csr.parse(with_common_names(MAX_NAMES)).names) == MAX_NAMES
    monkeypatch.setattr(csr, "_kind_of_text", lambda _: pytest.fail("read"))
    refused(with_common_names(MAX_NAMES + 1), "forbidden-name")


def test_a_long_subject_is_refused_before_it_is_read() -> None:
    """Else it would be refused for the number of its names."""
    assert "without subject alternative names" in refused(with_common_names(3000), "malformed")


def test_the_largest_key_leaves_room_for_a_common_name() -> None:
    sent = request(common_name="a" * 60, key=rsa_key(2048))
    more_of_the_largest = (8192 - 2048) // 8
    assert len(sent.tbs_certrequest_bytes) + more_of_the_largest < csr.MAX_OCTETS_WITH_COMMON_NAME / 2


def test_a_request_without_any_name_is_read_as_such() -> None:
    assert csr.parse(pem(request())).names == ()


@pytest.mark.parametrize(
    "name",
    [
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
    ],
)
def test_other_kinds_of_names_are_refused(name: x509.GeneralName) -> None:
    assert type(name).__name__ in refused(pem(request([*dns("host.example"), name])), "forbidden-name")


def test_other_extensions_do_not_get_past_reading() -> None:
    sent = request(
        dns("host.example"),
        extensions=[
            x509.BasicConstraints(ca=True, path_length=9),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"anything"),
        ],
    )
    assert csr.parse(pem(sent)) == csr.parse(pem(request(dns("host.example"))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a request",
        b"\x30\x80\x00\x00",
        b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\n!!!!\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nMAAü\n-----END CERTIFICATE REQUEST-----\n".encode("latin-1"),
    ],
)
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    refused(data, "malformed")


def test_octets_after_the_request_are_malformed() -> None:
    refused(der(request(dns("host.example"))) + b"\0", "malformed")


def test_a_request_that_was_cut_off_is_malformed() -> None:
    data = der(request(dns("host.example")))
    for length in range(0, len(data), 7):
        refused(data[:length], "malformed")


def test_more_octets_than_the_limit_are_not_looked_at() -> None:
    assert str(MAX_CSR_BYTES) in refused(pem(request(dns("host.example"))) + b"\n" * MAX_CSR_BYTES, "malformed")


def test_a_private_key_beside_the_request_is_refused() -> None:
    key = p256_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    detail = refused(key + pem(request(dns("host.example"))), "malformed")
    assert "private key" in detail


def test_a_changed_name_breaks_the_proof_of_possession() -> None:
    data = der(request(dns("host.example"))).replace(b"host.example", b"evil.example")
    refused(data, "bad-signature")


def test_a_foreign_public_key_breaks_the_proof_of_possession() -> None:
    def point(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    other = ec.generate_private_key(ec.SECP256R1())
    refused(der(request(dns("host.example"))).replace(point(p256_key()), point(other)), "bad-signature")


def test_a_signature_by_another_algorithm_is_no_proof() -> None:
    """The octets of an RSA request under an algorithm identifier that nobody knows."""
    data = der(request(dns("host.example"), key=rsa_key()))
    sha256_with_rsa = bytes.fromhex("06092a864886f70d01010b")
    assert data.count(sha256_with_rsa) == 1
    refused(data.replace(sha256_with_rsa, bytes.fromhex("06092a864886f70d01017f")), "bad-signature")


def test_a_signature_over_sha1_is_no_proof() -> None:
    data = resigned(request(dns("host.example")), algorithm=ECDSA_WITH_SHA1, digest=hashes.SHA1())
    assert "sha1" in refused(data, "bad-signature")


@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256()])
def test_stronger_digests_prove_possession(digest: RequestDigest) -> None:
    csr.parse(pem(request(dns("host.example"), digest=digest)))


def test_rsa_and_ed25519_requests_are_read() -> None:
    csr.parse(pem(request(dns("host.example"), key=rsa_key())))
    csr.parse(pem(request(dns("host.example"), key=ed25519.Ed25519PrivateKey.generate())))


def test_keys_that_are_not_certified_are_refused_whatever_the_signature() -> None:
    refused(pem(request(dns("host.example"), key=ed448.Ed448PrivateKey.generate())), "bad-key")
    refused(pem(request(dns("host.example"), key=dsa.generate_private_key(2048))), "bad-key")
    refused(pem(request(dns("host.example"), key=rsa_key(1024))), "bad-key")
    refused(pem(request(dns("host.example"), key=ec.generate_private_key(ec.SECP256K1()))), "bad-key")


def test_a_point_that_is_not_on_its_curve_is_a_bad_key() -> None:
    numbers = p256_key().public_key().public_numbers()
    data = der(request(dns("host.example")))
    refused(data.replace(numbers.y.to_bytes(32, "big"), (numbers.y ^ 1).to_bytes(32, "big")), "bad-key")


def test_a_name_that_is_not_ascii_is_malformed() -> None:
    refused(resigned(request(dns("host.example")), b"host.example", b"h\xf6st.example"), "malformed")


def test_a_version_that_does_not_exist_is_malformed() -> None:
    assert "version" in refused(resigned(request(dns("host.example")), b"\x02\x01\x00", b"\x02\x01\x01"), "malformed")


def test_a_subject_that_makes_the_parser_warn_writes_nothing_to_standard_error() -> None:
    """A country of twelve letters; a warning would fail this test."""
    country = resigned(request(common_name="host.example"), b"\x55\x04\x03", b"\x55\x04\x06")
    assert csr.parse(country).names == ()


@pytest.mark.parametrize("kind", [x509.SubjectAlternativeName, x509.IssuerAlternativeName])
def test_a_name_in_an_extension_that_makes_the_parser_warn_writes_nothing_to_standard_error(
    kind: type[x509.SubjectAlternativeName] | type[x509.IssuerAlternativeName],
) -> None:
    with warnings.catch_warnings(action="ignore"):
        country = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "Elbonia", _validate=False)])
    asked = [] if kind is x509.SubjectAlternativeName else dns("host.example")
    sent = der(request(asked, extensions=[kind([x509.DirectoryName(country)])]))
    if asked:
        assert csr.parse(sent).names == (("dns", "host.example"),)
    else:
        assert "DirectoryName" in refused(sent, "forbidden-name")


def test_an_extension_given_twice_is_malformed() -> None:
    twice = request(dns("host.example"), extensions=[x509.IssuerAlternativeName(dns("host.example"))])
    issuer_alternative_name, subject_alternative_name = bytes.fromhex("0603551d12"), bytes.fromhex("0603551d11")
    assert "Duplicate" in refused(resigned(twice, issuer_alternative_name, subject_alternative_name), "malformed")


def test_an_address_of_a_wrong_length_is_malformed() -> None:
    four_octets, e_mail_of_four_octets = bytes.fromhex("8704c0000201"), bytes.fromhex("8204c0000201")
    eight_as_an_address = bytes.fromhex("8708") + b"abcdefgh"
    refused(resigned(request(ip("192.0.2.1")), four_octets, e_mail_of_four_octets), "malformed")
    refused(resigned(request(dns("abcdefgh")), b"\x82\x08abcdefgh", eight_as_an_address), "malformed")


def test_an_unknown_tag_among_the_names_is_refused() -> None:
    refused(resigned(request(dns("abcdefgh")), b"\x82\x08abcdefgh", b"\xa3\x08\x30\x06cdefgh"), "forbidden-name")


def test_base64_with_windows_line_ends_is_read() -> None:
    text = base64.encodebytes(der(request(dns("host.example")))).replace(b"\n", b"\r\n")
    data = b"-----BEGIN CERTIFICATE REQUEST-----\r\n" + text + b"-----END CERTIFICATE REQUEST-----\r\n"
    assert csr.parse(data).names == (("dns", "host.example"),)
