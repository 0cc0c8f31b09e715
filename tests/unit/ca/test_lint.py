"""The authority's own lint: what is good passes, and each thing that can be wrong is found by its rule."""

from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services import der
from services.ca.lint.findings import RULES, Finding
from services.ca.lint.lint import Signer, lint_certificate, lint_to_be_signed
from services.ca.lint.names import EMAIL, URI, is_uri
from tests.unit.ca.applicants import ApplicantKey, rsa_key
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of
from tests.unit.ca.broken import Change, Parts, certificate_of, good, to_be_signed

SIGNER = Signer.of(hierarchy_of().issuer.certificate)
KEYS: dict[str, ApplicantKey] = {
    "rsa": rsa_key(),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
SEQUENCE, SET, OID, UTF8, IA5 = der.SEQUENCE, der.SET, der.OBJECT_IDENTIFIER, der.UTF8_STRING, der.IA5_STRING


def rules_of(findings: Iterable[Finding]) -> set[str]:
    return {finding.rule for finding in findings}


def field(name: str, octets: bytes) -> Change:
    """Another octet string in the place of a field."""
    return lambda parts: parts.fields.update({name: octets})


def extension(name: str, value: bytes, *, critical: bool = False) -> Change:
    return lambda parts: parts.put(name, value, critical=critical)


def without(name: str) -> Change:
    def change(parts: Parts) -> None:
        del parts.extensions[name]

    return change


def criticality(name: str, *, critical: bool) -> Change:
    return lambda parts: parts.put(name, parts.value(name), critical=critical)


def validity(begin: bytes, end: bytes) -> Change:
    return field("validity", der.encode(SEQUENCE, begin + end))


def utc(text: str) -> bytes:
    return der.encode(der.UTC_TIME, text.encode())


def generalized(text: str) -> bytes:
    return der.encode(der.GENERALIZED_TIME, text.encode())


def subject(*attributes: tuple[str, bytes]) -> Change:
    sets = (der.encode(SET, der.encode(SEQUENCE, bytes.fromhex(f"060355{kind}") + value)) for kind, value in attributes)
    return field("subject", der.encode(SEQUENCE, b"".join(sets)))


def name(tag: int, octets: bytes) -> bytes:
    return der.encode(tag, octets)


def names(*octets: bytes) -> Change:
    """The common name among them, so that nothing else is wrong."""
    return extension("names", der.encode(SEQUENCE, name(0x82, b"host.example") + b"".join(octets)))


def duplicated(parts: Parts) -> None:
    parts.extensions["key usage again"] = parts.extensions["key usage"]


def written_default(parts: Parts) -> None:
    content = bytes.fromhex("0603551d25 010100") + der.encode(der.OCTET_STRING, parts.value("purposes"))
    parts.extensions["purposes"] = der.encode(SEQUENCE, content)


def unknown(parts: Parts) -> None:
    """Name constraints, which are for authorities."""
    content = bytes.fromhex("0603551d1e") + der.encode(der.OCTET_STRING, bytes.fromhex("3000"))
    parts.extensions["name constraints"] = der.encode(SEQUENCE, content)


def unique_identifier(parts: Parts) -> None:
    parts.fields["key"] += bytes.fromhex("8102 00ff")


def empty_subject(parts: Parts) -> None:
    field("subject", b"\x30\x00")(parts)


CN, ORGANIZATION, COUNTRY = "0403", "040a", "0406"
URL = name(0x86, b"http://host.example/x")
HTTPS = name(0x86, b"https://host.example/x")
HOST = (CN, der.encode(UTF8, b"host.example"))
DAY = ("270115080000Z", "270116080000Z")  # NOW, and a day later
EC_KEY = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
OWN = SIGNER.key_identifier
POLICY = bytes.fromhex("06082b0601040186 8d1f".replace(" ", ""))


def point(*names_of_point: bytes) -> bytes:
    return der.encode(SEQUENCE, der.encode(SEQUENCE, der.encode(0xA0, der.encode(0xA0, b"".join(names_of_point)))))


def access(method: str, location: bytes) -> bytes:
    return der.encode(SEQUENCE, bytes.fromhex(f"06082b06010505073{method}") + location)


BROKEN: list[tuple[str, Change]] = [
    ("structure", lambda parts: parts.fields.update(validity=b"")),
    ("structure", lambda parts: parts.extensions.update({"x": der.encode(SEQUENCE, b"\x05\x00")})),
    ("version", field("version", bytes.fromhex("a003020101"))),
    ("serial", field("serial", bytes.fromhex("020100"))),
    ("serial", field("serial", bytes.fromhex("0201ff"))),
    ("serial", field("serial", der.encode(der.INTEGER, b"\x01" + bytes(20)))),
    ("algorithm", field("algorithm", bytes.fromhex("300d06092a864886f70d01010b0500"))),
    ("algorithm", field("algorithm", bytes.fromhex("300c06082a8648ce3d0403020500"))),
    ("issuer", field("issuer", b"\x30\x00")),
    ("issuer", lambda parts: parts.fields.update(issuer=parts.fields["issuer"].replace(b"Issuing", b"issuing"))),
    ("validity.encoding", validity(generalized(f"20{DAY[0]}"), utc(DAY[1]))),
    ("validity.encoding", validity(utc(DAY[0]), utc("2701160800Z"))),
    ("validity.encoding", validity(utc("270115090000+0100"), utc(DAY[1]))),
    ("validity.encoding", validity(utc("270230080000Z"), utc(DAY[1]))),
    ("validity.encoding", validity(utc(DAY[0]), generalized("20270116080000.5Z"))),
    ("validity.encoding", field("validity", der.encode(SEQUENCE, utc(DAY[0])))),
    ("validity.order", validity(utc(DAY[1]), utc(DAY[0]))),
    ("validity.issuer", validity(utc(DAY[0]), generalized("20500101000000Z"))),
    ("validity.issuer", validity(utc("990101000000Z"), utc(DAY[1]))),
    ("subject", subject(HOST, HOST)),
    ("subject", subject(HOST, (COUNTRY, der.encode(der.PRINTABLE_STRING, b"DE")))),
    ("subject", subject(HOST, (ORGANIZATION, der.encode(UTF8, b"x" * 65)))),
    ("subject", subject(HOST, (ORGANIZATION, der.encode(UTF8, b"")))),
    ("subject", subject(HOST, (ORGANIZATION, der.encode(IA5, b"Acme")))),
    ("subject", subject(HOST, (ORGANIZATION, der.encode(der.PRINTABLE_STRING, b"A_me")))),
    ("subject", field("subject", bytes.fromhex("30023100"))),
    ("subject.common-name", subject((CN, der.encode(UTF8, b"other.example")))),
    ("subject.common-name", subject((CN, der.encode(UTF8, b"192.0.2.2")))),
    ("public-key", field("key", der.encode(SEQUENCE, EC_KEY + der.encode(3, bytes(66))))),
    ("public-key", field("key", der.encode(SEQUENCE, EC_KEY + der.encode(3, b"\0\4" + bytes(63))))),
    ("public-key", field("key", der.encode(SEQUENCE, EC_KEY + der.encode(3, b"\4\4" + bytes(64))))),
    ("public-key", field("key", der.encode(SEQUENCE, bytes.fromhex("300506032b6571") + der.encode(3, bytes(58))))),
    ("public-key", field("key", der.encode(SEQUENCE, EC_KEY))),
    ("unique-identifier", unique_identifier),
    ("extension.unique", duplicated),
    ("extension.unknown", unknown),
    ("extension.critical", criticality("key usage", critical=False)),
    ("extension.critical", criticality("basic constraints", critical=False)),
    ("extension.critical", criticality("subject key identifier", critical=True)),
    ("extension.critical", criticality("authority information", critical=True)),
    ("extension.critical", criticality("timestamps", critical=True)),
    ("extension.critical", criticality("names", critical=True)),
    ("extension.critical", empty_subject),
    ("extension.value", extension("purposes", bytes.fromhex("0500"))),
    ("der", extension("purposes", bytes.fromhex("3080"))),
    ("der", written_default),
    *(
        ("extension.missing", without(missing))
        for missing in (
            "subject key identifier",
            "key usage",
            "names",
            "basic constraints",
            "authority key identifier",
            "purposes",
        )
    ),
    ("key-identifier.authority", extension("authority key identifier", der.encode(SEQUENCE, name(0x80, bytes(20))))),
    ("key-identifier.authority", extension("authority key identifier", b"\x30\x00")),
    (
        "key-identifier.authority",
        extension(
            "authority key identifier", der.encode(SEQUENCE, name(0x80, SIGNER.key_identifier) + b"\x82\x01\x01")
        ),
    ),
    ("key-identifier.subject", extension("subject key identifier", der.encode(4, bytes(20)))),
    ("key-usage", extension("key usage", bytes.fromhex("03020006"), critical=True)),
    ("key-usage", extension("key usage", bytes.fromhex("030100"), critical=True)),
    ("key-usage", extension("key usage", bytes.fromhex("03020204"), critical=True)),
    ("key-usage", extension("key usage", bytes.fromhex("03020106"), critical=True)),
    ("key-usage.key", extension("key usage", bytes.fromhex("030205a0"), critical=True)),
    ("policies", extension("policies", b"\x30\x00")),
    ("policies", extension("policies", der.encode(SEQUENCE, 2 * der.encode(SEQUENCE, POLICY)))),
    ("policies", extension("policies", der.encode(SEQUENCE, der.encode(SEQUENCE, bytes.fromhex("0604551d2000"))))),
    ("policies", extension("policies", der.encode(SEQUENCE, der.encode(SEQUENCE, POLICY + b"\x30\x00")))),
    ("names", names(name(0x88, b"\x2a"))),
    ("names", names(der.encode(0xA4, b"\x30\x00"))),
    ("names", extension("names", b"\x30\x00", critical=False)),
    *(
        ("names.dns", names(name(0x82, text)))
        for text in (
            b"under_score.example",
            b"host.example.",
            b"",
            b"a..example",
            b"-a.example",
            b"a.*.example",
            b"*",
            b"host.example\n",
            b"h\xc3\xa9.example",
            b"x" * 64 + b".example",
            b".".join([b"x" * 60] * 5),
            b"192.0.2.1",
        )
    ),
    ("names.ip", names(name(0x87, b"\xc0\x00\x02"))),
    ("names.ip", names(name(0x87, bytes(8)))),
    *(
        ("names.email", names(name(EMAIL, text)))
        for text in (b"nobody", b"@host.example", b"a b@host.example", b"a@-.example", b"a@host.example>", b"\xe9@a.b")
    ),
    *(
        ("names.uri", names(name(URI, text)))
        for text in (b"relative/path", b"https:", b"https://", b"https://a b/", b"http://user@host.example/", b"://x")
    ),
    ("basic-constraints", extension("basic constraints", bytes.fromhex("30030101ff"), critical=True)),
    ("basic-constraints", extension("basic constraints", bytes.fromhex("3003010100"), critical=True)),
    ("basic-constraints", extension("basic constraints", bytes.fromhex("3003020100"), critical=True)),
    ("purposes", extension("purposes", b"\x30\x00")),
    ("purposes", extension("purposes", der.encode(SEQUENCE, 2 * bytes.fromhex("06082b06010505070301")))),
    ("purposes", extension("purposes", der.encode(SEQUENCE, bytes.fromhex("0604551d2500")))),
    ("purposes", extension("purposes", der.encode(SEQUENCE, bytes.fromhex("020101")))),
    ("purposes", extension("key usage", bytes.fromhex("03020640"), critical=True)),
    ("distribution-points", extension("distribution points", b"\x30\x00")),
    ("distribution-points", extension("distribution points", point(HTTPS))),
    ("distribution-points", extension("distribution points", point(URL, HTTPS))),
    ("distribution-points", extension("distribution points", point())),
    ("distribution-points", extension("distribution points", bytes.fromhex("30063004 81020780".replace(" ", "")))),
    ("authority-information", extension("authority information", b"\x30\x00")),
    ("authority-information", extension("authority information", der.encode(SEQUENCE, access("001", HTTPS)))),
    ("authority-information", extension("authority information", der.encode(SEQUENCE, access("003", URL)))),
    ("tls-feature", extension("tls feature", bytes.fromhex("3003020106"))),
    ("tls-feature", extension("tls feature", b"\x30\x00")),
    ("poison", extension("poison", bytes.fromhex("0500"), critical=True)),
    ("timestamps", extension("timestamps", der.encode(4, bytes.fromhex("0000")))),
    ("timestamps", extension("timestamps", der.encode(4, bytes.fromhex("0003000101")))),
    ("timestamps", extension("timestamps", der.encode(4, bytes.fromhex("000400020102ff")))),
]


@pytest.mark.parametrize("key", [None, *KEYS])
@pytest.mark.parametrize("profile", ["tls-server", "everything"])
def test_what_is_good_passes(profile: str, key: str | None) -> None:
    before, after = good(profile, None if key is None else KEYS[key])
    assert lint_to_be_signed(to_be_signed(before), SIGNER, "precertificate") == ()
    assert lint_to_be_signed(to_be_signed(after), SIGNER, "certificate") == ()
    assert lint_certificate(after, SIGNER) == ()


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_type_of_issuer_is_known(key_type: str) -> None:
    assert Signer.of(hierarchy_of(key_type).issuer.certificate).algorithms  # type: ignore[arg-type] # one of KEY_TYPES


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(BROKEN)])
def test_what_is_wrong_is_found_by_its_rule(rule: str, change: Change) -> None:
    after = good()[1]
    parts = Parts.of(to_be_signed(after))
    change(parts)
    assert rule in rules_of(lint_to_be_signed(parts.octets, SIGNER, "certificate"))
    assert rule in rules_of(lint_certificate(certificate_of(parts.octets, after), SIGNER))


# Things that are wrong in one way only must be found by one rule only.
@pytest.mark.parametrize(
    ("rule", "change"),
    [
        pair
        for pair in BROKEN
        if pair[0].startswith(("names.", "serial", "policies", "tls", "key-", "basic", "version"))
    ],
)
def test_nothing_else_is_found(rule: str, change: Change) -> None:
    parts = Parts.of(to_be_signed(good()[1]))
    change(parts)
    found = rules_of(lint_to_be_signed(parts.octets, SIGNER, "certificate"))
    assert found == {rule} or (rule == "key-usage" and found == {rule, "purposes"})


def test_a_precertificate_has_a_poison_and_no_timestamps() -> None:
    before, after = good()
    assert rules_of(lint_to_be_signed(to_be_signed(before), SIGNER, "certificate")) == {"poison"}
    assert rules_of(lint_to_be_signed(to_be_signed(after), SIGNER, "precertificate")) == {"poison"}
    parts = Parts.of(to_be_signed(before))
    parts.extensions["timestamps"] = Parts.of(to_be_signed(after)).extensions["timestamps"]
    assert rules_of(lint_to_be_signed(parts.octets, SIGNER, "precertificate")) == {"poison"}


def test_the_outside_of_a_certificate_is_looked_at_too() -> None:
    tbs, algorithm, signature = der.parse(good()[1]).children
    other = bytes.fromhex("300a06082a8648ce3d040303")

    def found(*members: bytes) -> set[str]:
        return rules_of(lint_certificate(der.encode(SEQUENCE, b"".join(members)), SIGNER))

    assert found(tbs.octets, other, signature.octets) == {"algorithm"}
    assert found(tbs.octets, algorithm.octets, b"\x03\x01\x00") == {"signature"}
    assert found(tbs.octets, algorithm.octets, b"\x03\x02\x01\x02") == {"signature"}
    assert found(tbs.octets, algorithm.octets) == {"structure"}
    assert found(tbs.octets, algorithm.octets, signature.octets, b"\x05\x00") == {"structure"}
    assert rules_of(lint_certificate(good()[1] + b"\0", SIGNER)) == {"der"}
    assert rules_of(lint_certificate(b"", SIGNER)) == {"der"}
    assert rules_of(lint_certificate(b"\x05\x00", SIGNER)) == {"structure"}


def test_a_weak_or_odd_rsa_key_is_found() -> None:
    parts = Parts.of(to_be_signed(good("tls-server", KEYS["rsa"])[1]))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    modulus, exponent = der.encode(2, b"\0" + b"\xff" * 256), bytes.fromhex("0203010001")
    for octets in (
        der.encode(SEQUENCE, der.encode(2, b"\0" + b"\xff" * 255) + exponent),
        der.encode(SEQUENCE, der.encode(2, b"\x81" * 256) + exponent),
        der.encode(SEQUENCE, der.encode(2, b"\0" + b"\xff" * 255 + b"\xfe") + exponent),
        der.encode(SEQUENCE, modulus + bytes.fromhex("0203010002")),
        der.encode(SEQUENCE, modulus),
        der.encode(SEQUENCE, modulus + exponent) + b"\0",
    ):
        parts.fields["key"] = der.encode(SEQUENCE, algorithm + der.encode(3, b"\0" + octets))
        assert "public-key" in rules_of(lint_to_be_signed(parts.octets, SIGNER, "certificate"))


def test_every_rule_is_shown_to_find_something() -> None:
    shown = {rule for rule, _ in BROKEN} | {"signature", "correspondence"}
    assert shown == set(RULES), "a rule without a test, or a test without a rule"


def test_a_finding_says_rule_text_section_and_fault() -> None:
    finding = Finding("names.dns", "b'a_b' is not a DNS name in the preferred syntax")
    assert str(finding) == "names.dns: b'a_b' is not a DNS name in the preferred syntax (RFC 5280 4.2.1.6)"
    assert (finding.fault, Finding("public-key", "x").fault, Finding("names", "x").fault) == (
        "name",
        "key",
        "authority",
    )
    with pytest.raises(ValueError, match="there is no rule"):
        Finding("taste", "x")


@pytest.mark.parametrize(
    "text",
    [
        "urn:uuid:1",
        "https://host.example",
        "https://[2001:db8::1]:8443/a?b#c",
        "spiffe://host.example/a",
        "a:b",
        "x:/y",
    ],
)
def test_uris_of_every_kind_are_known(text: str) -> None:
    assert is_uri(text)


def test_the_validity_may_end_in_2050_when_that_of_the_issuer_does() -> None:
    parts = Parts.of(to_be_signed(good()[1]))
    validity(utc(DAY[0]), generalized("20500101000000Z"))(parts)
    long = Signer(SIGNER.subject, SIGNER.key_identifier, SIGNER.algorithms, type(SIGNER.validity)(NOW, 2**40))
    assert lint_to_be_signed(parts.octets, long, "certificate") == ()
    validity(utc(DAY[0]), utc("500101000000Z"))(parts)
    assert "validity.order" in rules_of(lint_to_be_signed(parts.octets, long, "certificate"))
