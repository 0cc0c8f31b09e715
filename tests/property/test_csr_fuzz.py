"""Bytes from outside: the certificate authority reads them or refuses them, whatever they are."""

import base64
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import example, given, settings
from hypothesis import strategies as st

from config.profile_schema import NameKind
from services.ca.inventory import listing
from services.ca.inventory.listing import Position
from services.ca.issuance import csr
from services.ca.issuance.certification import Certifier
from services.ca.issuance.issuance import Decision, Locations, decide
from services.ca.messages import MAX_CSR_BYTES, ListCertificates, Refusal
from services.ca.policy import names
from services.ca.policy.profile import Validity
from services.ca.serials import parse_serial, serial_text
from tests.unit.ca.applicants import der, dns, ip, p256_key, pem, request, resigned, rsa_key
from tests.unit.ca.authorities import NOW, asked, hierarchy_of, issuers, rules

REQUESTS = (
    request([*dns("host.example", "*.host.example"), *ip("192.0.2.1", "2001:db8::1")], common_name="host.example"),
    request([x509.RFC822Name("user@host.example"), x509.UniformResourceIdentifier("spiffe://host.example/a")]),
    request(common_name="host.example", key=rsa_key()),
    request(dns("host.example"), key=ed25519.Ed25519PrivateKey.generate(), extensions=[x509.OCSPNoCheck()]),
)
KINDS: tuple[NameKind, ...] = ("dns", "ip", "email", "uri")
RULES = rules()
LOCATIONS = Locations("http://host.example/crl", "http://host.example/ocsp", "http://host.example/issuer")
CERTIFIER = Certifier(hierarchy_of().issuer)
Edit = tuple[int, bytes]

# Where to change, by what: positions wrap around, so that they are good for an input of any length.
edits = st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def changed(data: bytes, changes: list[Edit]) -> bytes:
    content = bytearray(data)
    for position, octets in changes:
        begin = position % len(content)
        content[begin : begin + len(octets)] = octets
    return bytes(content[: len(data)])


def read(data: bytes) -> None:
    """Read, decide, build and look. Only a refusal may be raised, by the decision, and its text is bounded."""
    try:
        decision = decide(asked(data, "tls-server-client"), RULES, issuers(hierarchy_of()), NOW, 1)
    except Refusal as refusal:
        if len(refusal.detail) >= 1000:
            raise AssertionError("an unbounded refusal") from refusal
    else:
        CERTIFIER.draft(decision)  # the lint has nothing to say of what was decided


@given(st.binary(max_size=400))
@example(b"-----BEGIN CERTIFICATE REQUEST-----")
@example(b"0" * (MAX_CSR_BYTES + 1))
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    read(data)


@given(st.binary(max_size=200), st.sampled_from(["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "CERTIFICATE"]))
def test_any_octets_in_pem_are_read_or_refused(data: bytes, label: str) -> None:
    body = base64.encodebytes(data).decode()
    read(f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode())


@given(st.sampled_from(REQUESTS), edits)
@example(REQUESTS[0], [(9, b"\x01")])  # a version that does not exist
@settings(max_examples=300)
def test_a_damaged_request_is_read_or_refused(sent: x509.CertificateSigningRequest, changes: list[Edit]) -> None:
    read(changed(der(sent), changes))


@given(st.sampled_from(REQUESTS), edits)
def test_a_damaged_pem_request_is_read_or_refused(sent: x509.CertificateSigningRequest, changes: list[Edit]) -> None:
    read(changed(pem(sent), changes))


@given(edits)
@settings(max_examples=300)
def test_a_request_that_is_wrong_and_proven_is_read_or_refused(changes: list[Edit]) -> None:
    """Signed after the damage: what comes behind the proof of possession gets to see it too."""
    sent = REQUESTS[0]
    read(resigned(sent, sent.tbs_certrequest_bytes, changed(sent.tbs_certrequest_bytes, changes)))


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.text(max_size=300)), max_size=5))
@example([("uri", "https://[::1%25eth0]/")])
@example([("uri", "https://[v1.x]/")])
@example([("ip", "fe80::1%eth0")])
@example([("ip", "fe80::1%\x1b[31m\n")])
@example([("uri", "https://[v7.host.example]/")])
@example([("dns", "xn--" + "a" * 59)])
def test_any_text_is_a_name_in_canonical_form_or_refused(requested: list[tuple[NameKind, str]]) -> None:
    try:
        certified = names.validated(requested, KINDS)
    except Refusal:
        return
    again = names.validated([(name.kind, name.text) for name in certified], KINDS)
    assert again == certified
    for name in certified:
        name.domain()
        name.address()
        assert name.text.isascii()
        assert name.text.isprintable()
    if certified:
        key = p256_key().public_key()
        profile, issuer = RULES.profile("tls-server-client"), hierarchy_of().issuer
        CERTIFIER.draft(Decision(1, profile, certified, key, Validity(NOW, NOW), "", issuer, LOCATIONS))


_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda x: not x.startswith("xn--"))
dns_names = (
    st.lists(_label, min_size=2, max_size=4).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())
)
addresses = st.ip_addresses().map(str)


@given(st.lists(st.one_of(dns_names, addresses), min_size=1, max_size=20, unique=True))
@settings(max_examples=50)
def test_a_certificate_carries_exactly_the_names_that_were_certified(wanted: list[str]) -> None:
    alternatives = [x509.IPAddress(ip_address(text)) if _is_address(text) else x509.DNSName(text) for text in wanted]
    try:
        decision = decide(asked(pem(request(alternatives))), RULES, issuers(hierarchy_of()), NOW, 1)
    except Refusal as refusal:
        if refusal.kind == "forbidden-name":  # an address that is not one host's
            return
        raise
    made = CERTIFIER.precertificate(CERTIFIER.draft(decision))
    leaf = x509.load_der_x509_certificate(made.certificate)
    carried = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in carried] == wanted
    assert leaf.public_key() == p256_key().public_key()


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdigit() or ":" in text


@given(st.text(max_size=100))
def test_any_text_is_a_serial_number_or_refused(text: str) -> None:
    try:
        serial = parse_serial(text)
    except Refusal:
        return
    assert parse_serial(serial_text(serial)) == serial


@given(
    st.one_of(st.text(max_size=256), st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode()))
)
def test_any_text_is_a_cursor_or_refused(cursor: str) -> None:
    try:
        parameters = listing.query(ListCertificates(cursor=cursor), NOW).parameters
    except Refusal:
        return
    assert listing.next_cursor("newest", Position(int(parameters["not_after"]), int(parameters["row"]))) == cursor


def test_the_samples_are_read_as_they_are() -> None:
    """So that the damaged ones are close to something that is read."""
    for sent in REQUESTS:
        csr.parse(der(sent))
