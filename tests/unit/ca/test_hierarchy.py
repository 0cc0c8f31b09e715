"""The authority's own certificates."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.schema import Ca, KeyType
from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.creation import Plan, create_intermediate, create_root
from services.ca.hierarchy.hierarchy import Hierarchy, HierarchyMismatch, Issuer, Root, validity_of, verify
from services.ca.installation import new_hierarchy
from services.ca.policy.profile import Validity
from tests.unit.ca.authorities import KEY_TYPES, NOW, hierarchy_of

DAY = 86_400


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
    return certificate.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_root_and_intermediate_belong_together(key_type: KeyType) -> None:
    made = hierarchy_of(key_type)
    verify(made)
    assert made.issuer.chain == (made.issuer.certificate,)
    assert made.root_above(made.issuer).certificate == made.root
    assert made.issuer.id == format(made.issuer.certificate.serial_number, "032x")


@pytest.mark.parametrize(("title", "path_length"), [("root", None), ("intermediate", 0)])
def test_both_are_critical_about_being_an_authority_and_what_for(title: str, path_length: int | None) -> None:
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
        hierarchy.prove(replace(issuer, private_key=foreign))


def foreign_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def with_root(made: Hierarchy, root: Root) -> Hierarchy:
    return Hierarchy.of([root], made.issuers.values())


def test_a_foreign_key_is_told_by_its_place() -> None:
    made = hierarchy_of()
    with pytest.raises(HierarchyMismatch, match=r"the root .* certificate and the root .* key"):
        verify(with_root(made, replace(made.active_root(), private_key=foreign_key())))
    issuer = replace(made.issuer, private_key=foreign_key())
    with pytest.raises(HierarchyMismatch, match=r"the intermediate .* certificate and the intermediate .* key"):
        verify(Hierarchy.of(made.roots.values(), [issuer]))


def test_an_intermediate_of_another_root_does_not_construct() -> None:
    made, other = hierarchy_of(), new_hierarchy(Ca(), NOW)
    with pytest.raises(HierarchyMismatch, match=r"the root above the intermediate .* is missing"):
        Hierarchy.of(other.roots.values(), made.issuers.values())


def test_a_signature_by_another_key_is_told() -> None:
    """Name and key identifier are those of the root; only the signature is not."""
    plan = Plan("Acme", "00000000", 1000, 1000, 0)
    root_key, key = foreign_key(), foreign_key()
    root = Root.of(create_root(plan, root_key, 1, NOW), root_key)
    for signed_by, otherwise in ((root_key, None), (foreign_key(), "is not signed by")):
        forged = create_intermediate(plan, root.certificate, signed_by, key, 2, NOW)
        made = Hierarchy.of([root], [Issuer.of(forged, key)])
        if otherwise is None:
            verify(made)
        else:
            with pytest.raises(HierarchyMismatch, match=otherwise):
                verify(made)


def test_a_certificate_that_is_no_authority_is_told() -> None:
    key, made = foreign_key(), hierarchy_of()
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
    with pytest.raises(HierarchyMismatch, match="certificate is not that of an authority"):
        verify(with_root(made, Root.of(leaf, key)))


def test_exactly_one_of_each_kind_is_active() -> None:
    made = hierarchy_of()
    retired = replace(made.issuer, state="retired")
    with pytest.raises(HierarchyMismatch, match="0 classical intermediate certificates are active"):
        Hierarchy.of(made.roots.values(), [retired])
    with pytest.raises(HierarchyMismatch, match="0 classical root certificates are active"):
        with_root(made, replace(made.active_root(), state="retired"))
    with pytest.raises(LookupError, match="no post-quantum hierarchy"):
        made.active("post-quantum")


def test_a_root_without_its_key_signs_nothing_and_everything_else_goes_on() -> None:
    made = hierarchy_of()
    root = made.active_root()
    signer = root.signer()
    assert signer is not None
    assert signer.certificate == made.root
    offline = made.without_root_key(root.id)
    assert offline.active_root().signer() is None
    assert offline.issuer is made.issuer
    verify(offline)
