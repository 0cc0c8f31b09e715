"""The authority's own certificates."""

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.schema import Ca, KeyType
from services.ca import hierarchy
from services.ca.hierarchy import HierarchyMismatch, Issuer, Plan, validity_of, verified
from services.ca.installation import new_hierarchy
from services.ca.profile import Validity
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of

DAY = 86_400


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
    return certificate.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_root_and_intermediate_belong_together(key_type: KeyType) -> None:
    made = hierarchy_of(key_type)
    again = verified(made.root, made.root_key, made.issuer.certificate, made.issuer.private_key)
    assert again.issuer.chain == (made.issuer.certificate,)


@pytest.mark.parametrize(("title", "path_length"), [("root", 1), ("intermediate", 0)])
def test_both_are_critical_about_being_an_authority_and_what_for(title: str, path_length: int) -> None:
    certificate = hierarchy_of().root if title == "root" else hierarchy_of().issuer.certificate
    constraints, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    assert usage.critical
    assert isinstance(usage.value, x509.KeyUsage)
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert certificate.version is x509.Version.v3


def test_the_identifiers_lead_from_the_intermediate_to_the_root() -> None:
    made = hierarchy_of()
    root_identifier = extension(made.root, x509.SubjectKeyIdentifier).value
    authority = extension(made.issuer.certificate, x509.AuthorityKeyIdentifier).value
    assert isinstance(root_identifier, x509.SubjectKeyIdentifier)
    assert isinstance(authority, x509.AuthorityKeyIdentifier)
    assert authority.key_identifier == root_identifier.digest


def test_settings_give_organization_and_lifetimes() -> None:
    made = new_hierarchy(Ca(name="Acme", root_lifetime_days=100, intermediate_lifetime_days=10, backdate=60), NOW)
    for certificate, days, role in ((made.root, 100, "Root CA"), (made.issuer.certificate, 10, "Issuing CA")):
        assert validity_of(certificate) == Validity(NOW - 60, NOW + days * DAY)
        (organization,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert organization.value == "Acme"
        assert str(common_name.value).startswith(f"TrustChain {role} ")


def test_two_installations_never_share_a_name() -> None:
    assert new_hierarchy(Ca(), NOW).root.subject != new_hierarchy(Ca(), NOW).root.subject


def test_the_intermediate_never_outlives_the_root() -> None:
    made = new_hierarchy(Ca(root_lifetime_days=10, intermediate_lifetime_days=20), NOW)
    assert made.issuer.validity.not_after == validity_of(made.root).not_after


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_an_issuer_proves_its_key(key_type: KeyType) -> None:
    hierarchy.prove(hierarchy_of(key_type).issuer)


def test_a_key_that_does_not_fit_its_certificate_proves_nothing() -> None:
    issuer = hierarchy_of().issuer
    foreign = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(InvalidSignature):
        hierarchy.prove(Issuer(issuer.certificate, foreign, issuer.key_identifier, issuer.chain))


@pytest.mark.parametrize("title", ["root", "intermediate"])
def test_a_foreign_key_is_told_by_its_place(title: str) -> None:
    made, foreign = hierarchy_of(), ec.generate_private_key(ec.SECP256R1())
    root_key = foreign if title == "root" else made.root_key
    key = foreign if title == "intermediate" else made.issuer.private_key
    with pytest.raises(HierarchyMismatch, match=f"the {title} certificate and the {title} key"):
        verified(made.root, root_key, made.issuer.certificate, key)


def test_an_intermediate_of_another_root_is_told() -> None:
    made, other = hierarchy_of(), new_hierarchy(Ca(), NOW)
    with pytest.raises(HierarchyMismatch, match="the intermediate certificate is not signed by the root"):
        verified(other.root, other.root_key, made.issuer.certificate, made.issuer.private_key)


def test_a_root_of_the_same_name_with_another_key_is_told() -> None:
    """Only the signature tells them apart."""
    plan = Plan("Acme", "00000000", 1000, 1000, 0)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    roots = [hierarchy.create_root(plan, key, 1, NOW) for key in keys[:2]]
    intermediate = hierarchy.create_intermediate(plan, roots[0], keys[0], keys[2], 2, NOW)
    verified(roots[0], keys[0], intermediate, keys[2])
    with pytest.raises(HierarchyMismatch, match="the intermediate certificate is not signed by the root"):
        verified(roots[1], keys[1], intermediate, keys[2])


def test_a_certificate_that_is_no_authority_is_told() -> None:
    key, made = ec.generate_private_key(ec.SECP256R1()), hierarchy_of()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(made.root.subject)
        .issuer_name(made.root.subject)
        .serial_number(5)
        .public_key(key.public_key())
        .not_valid_before(made.root.not_valid_before_utc)
        .not_valid_after(made.root.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(HierarchyMismatch, match="the root certificate is not that of an authority"):
        verified(leaf, key, made.issuer.certificate, made.issuer.private_key)
