"""Revocation lists: what is built is what is read, numbers, scopes, and what is refused."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.ca.keys.signing_keys import signing_hash
from services.ca.status import crl
from services.ca.status.crl import MAX_URLS, Entry, Scope, UnreadableCrl
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of

URL = "http://pki.example/crl/0a/3.crl"
ENTRIES = [
    Entry(1, NOW - 5, "unspecified"),
    Entry(2**127 + 5, NOW, "keyCompromise"),
    Entry(2**159 + 1, NOW - 86_400, "privilegeWithdrawn"),
]


def signed(entries: list[Entry] = ENTRIES, urls: tuple[str, ...] = (URL,), number: int = 7) -> bytes:
    return crl.sign(hierarchy_of().issuer, Scope(urls), entries, number, NOW - 60, NOW + 86_400)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_what_is_signed_is_what_is_read(key_type: str) -> None:
    issuer = hierarchy_of(key_type).issuer  # type: ignore[arg-type] # one of KEY_TYPES
    der = crl.sign(issuer, Scope((URL,)), ENTRIES, 2**63, NOW - 60, NOW + 86_400)
    published, partition = crl.read(der, issuer.certificate)
    assert crl.entries(der) == ENTRIES
    assert (published.number, published.this_update, published.next_update) == (2**63, NOW - 60, NOW + 86_400)
    assert (published.urls, partition, published.der) == ((URL,), 3, der)
    pem = x509.load_der_x509_crl(der).public_bytes(serialization.Encoding.PEM)
    assert crl.read(pem, issuer.certificate) == (published, 3)


def test_a_list_of_a_partition_says_which_and_that_it_is_for_leaves() -> None:
    found = x509.load_der_x509_crl(signed(urls=(URL, "http://old.example/crl/0a/3.crl")))
    point = found.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert [name.value for name in point.value.full_name or ()] == [URL, "http://old.example/crl/0a/3.crl"]
    assert point.value.only_contains_user_certs
    assert not point.value.only_contains_ca_certs
    identifier = found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert identifier.value == hierarchy_of().issuer.key_identifier
    assert not identifier.critical
    assert not found.extensions.get_extension_for_class(x509.CRLNumber).critical


def test_the_list_of_a_root_is_for_authorities_and_has_no_url() -> None:
    found = x509.load_der_x509_crl(signed(urls=()))
    point = found.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert (point.full_name, point.only_contains_ca_certs, point.only_contains_user_certs) == (None, True, False)


def test_numbers_go_forward_whatever_is_known_and_whatever_the_clock_says() -> None:
    assert crl.next_number([], NOW) == NOW * 1000
    assert crl.next_number([0], NOW) == NOW * 1000
    assert crl.next_number([NOW * 1000, 5], NOW) == NOW * 1000 + 1
    assert crl.next_number([2**62], NOW) == 2**62 + 1
    assert crl.next_number([9], 0) == 10


def test_the_present_url_comes_first_and_earlier_ones_stay_up_to_a_bound() -> None:
    assert crl.merged_urls("a", ()) == ("a",)
    assert crl.merged_urls("a", ("a", "b")) == ("a", "b")
    assert crl.merged_urls("c", ("a", "b")) == ("c", "a", "b")
    assert len(crl.merged_urls("z", [str(number) for number in range(9)])) == MAX_URLS


def test_a_list_that_its_authority_did_not_sign_is_refused() -> None:
    der = signed()
    with pytest.raises(UnreadableCrl, match="another authority"):
        crl.read(der, hierarchy_of().root)
    forged = der.replace((2**127 + 5).to_bytes(16, "big"), (2**127 + 4).to_bytes(16, "big"))
    with pytest.raises(UnreadableCrl, match="signature"):
        crl.read(forged, hierarchy_of().issuer.certificate)
    other = crl.sign(hierarchy_of("ed25519").issuer, Scope(()), (), 1, NOW, NOW + 1)
    with pytest.raises(UnreadableCrl, match="another authority"):
        crl.read(other, hierarchy_of().issuer.certificate)


def test_a_list_without_a_number_is_refused() -> None:
    issuer = hierarchy_of().issuer
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(issuer.certificate.not_valid_before_utc)
        .next_update(issuer.certificate.not_valid_after_utc)
    )
    der = builder.sign(issuer.private_key, signing_hash(issuer.private_key)).public_bytes(serialization.Encoding.DER)
    with pytest.raises(UnreadableCrl, match="lacks"):
        crl.read(der, issuer.certificate)


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN X509 CRL-----\n", b"\x30\x00", signed()[:-1]])
def test_what_is_no_list_is_told(content: bytes) -> None:
    with pytest.raises(UnreadableCrl):
        crl.read(content, hierarchy_of().issuer.certificate)


def test_a_large_list_is_signed_in_bounded_time_for_each_entry() -> None:
    """20,000 entries through the library's own way of adding them would copy 200,000,000 references."""
    entries = [Entry(2**127 + number, NOW, "unspecified") for number in range(20_000)]
    assert len(crl.entries(signed(entries))) == 20_000
