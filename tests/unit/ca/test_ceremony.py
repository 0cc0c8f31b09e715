"""Rotation, import, and keys that are kept elsewhere: what a hierarchy is afterwards."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from config.schema import Ca
from services.ca.hierarchy import ceremony, hierarchy
from services.ca.hierarchy.creation import create_request, create_root, levels_below
from services.ca.hierarchy.hierarchy import Hierarchy, Kind, Root, validity_of
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.messages import CeremonyRefused
from services.ca.installation import new_hierarchy
from services.ca.keys.signing_keys import SigningKey, spki
from tests.unit.ca.applicants import rsa_key
from tests.unit.ca.authorities import NOW, hierarchy_of, means, rotated

LATER = NOW + 1000
DAY = timedelta(days=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def authority(
    subject: str,
    key: SigningKey,
    *,
    issuer: x509.Certificate | None = None,
    issuer_key: SigningKey | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
    path_length: int | None = None,
    ca: bool = True,
    crl_sign: bool = True,
    days: int = 1000,
    serial: int | None = None,
) -> x509.Certificate:
    """A certificate that some other program might have made for an authority."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    begin = datetime.fromtimestamp(NOW, UTC) - DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.subject)
        .serial_number(serial or x509.random_serial_number())
        .public_key(key.public_key())
        .not_valid_before(begin)
        .not_valid_after(begin + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not ca,
                key_cert_sign=ca,
                crl_sign=crl_sign,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(issuer_key or key, hashes.SHA256())


ROOT_KEY, KEY = new_key(), new_key()
FOREIGN_ROOT = authority("Acme Root", ROOT_KEY)
FOREIGN = authority("Acme Issuing", KEY, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY)


def imported(
    certificate: x509.Certificate = FOREIGN,
    others: Sequence[x509.Certificate] = (FOREIGN_ROOT,),
    key: SigningKey = KEY,
    current: Hierarchy | None = None,
) -> Hierarchy:
    return ceremony.imported_intermediate(current or hierarchy_of(), LATER, certificate, others, key)


def refusal(run: object, kind: str) -> str:
    assert callable(run)
    with pytest.raises(CeremonyRefused) as caught:
        run()
    assert caught.value.kind == kind, caught.value
    return caught.value.detail


@pytest.mark.parametrize("kind", ["classical", "post-quantum"])
def test_a_new_intermediate_issues_and_the_old_one_stays_for_status(kind: Kind) -> None:
    before = ceremony.joined(hierarchy_of(), new_hierarchy(Ca(), NOW, "post-quantum"))
    after = rotated(before, now=LATER, kind=kind)
    hierarchy.verify(after)
    old, new = before.active(kind), after.active(kind)
    assert old.id != new.id
    assert (after.issuers[old.id].state, after.issuers[old.id].since) == ("retired", LATER)
    assert after.issuers[old.id].private_key is old.private_key
    assert (new.state, new.since) == ("active", LATER)
    assert after.active_root(kind) == before.active_root(kind)
    other: Kind = "post-quantum" if kind == "classical" else "classical"
    assert after.active(other) == before.active(other)


def test_two_intermediates_never_share_a_name_or_a_key() -> None:
    before = hierarchy_of()
    after = rotated(before)
    assert before.issuer.certificate.subject != after.issuer.certificate.subject
    assert spki(before.issuer.certificate.public_key()) != spki(after.issuer.certificate.public_key())


def test_a_new_root_is_certified_by_the_old_one_and_chains_lead_through_it() -> None:
    before = hierarchy_of()
    after = rotated(before, "root", LATER)
    hierarchy.verify(after)
    root, cross = after.active_root(), after.active_root().cross
    assert cross is not None
    cross.verify_directly_issued_by(before.root)
    after.issuer.certificate.verify_directly_issued_by(cross)
    assert (cross.subject, spki(cross.public_key())) == (root.certificate.subject, spki(root.certificate.public_key()))
    assert after.issuer.chain == (after.issuer.certificate, cross)
    assert after.issuers[before.issuer.id].chain == (before.issuer.certificate,)
    assert after.trusted() == (root.certificate, before.root)
    assert validity_of(cross).not_after == validity_of(before.root).not_after


def test_chains_lose_a_cross_certificate_when_it_has_expired() -> None:
    after = rotated(hierarchy_of(), "root", LATER)
    cross = after.issuer.chain[-1]
    assert after.issuer.chain_at(validity_of(cross).not_after) == after.issuer.chain
    assert after.issuer.chain_at(validity_of(cross).not_after + 1) == (after.issuer.certificate,)


def test_roots_can_follow_each_other_and_chains_stay_bounded() -> None:
    made = hierarchy_of()
    for number in range(1, 6):
        made = rotated(made, "root", LATER + number)
        hierarchy.verify(made)
        assert len(made.issuer.chain) == 1 + min(number, hierarchy.MAX_CROSS_CERTIFICATES)
    assert made.trusted()[0] == made.root
    assert len(made.trusted()) == 6


def limited_root() -> Hierarchy:
    """A root that allows one level below it."""
    root_key, key = new_key(), new_key()
    root = Root.of(authority("Limited", root_key, path_length=1), root_key)
    return ceremony.imported_root(hierarchy_of(), means(), root.certificate, root_key, key)


def test_a_root_whose_path_length_forbids_a_cross_certificate_is_replaced_only_without_one() -> None:
    limited = limited_root()
    assert levels_below(limited.root) == 1
    detail = refusal(lambda: rotated(limited, "root", LATER), "bad-authority")
    assert "--without-cross-certificate" in detail
    after = ceremony.rotated_root(limited, means(LATER), new_key(), new_key(), cross=False)
    assert after.active_root().cross is None
    assert limited.root in after.trusted()


def test_what_needs_a_root_key_that_is_elsewhere_says_how_to_bring_it() -> None:
    made = hierarchy_of()
    root = made.active_root()
    offline = made.without_root_key(root.id)
    for role in ("intermediate", "root"):
        assert "--root-key FILE" in refusal(lambda role=role: rotated(offline, role), "key-elsewhere")
    refusal(lambda: ceremony.rotated_intermediate(offline, "classical", means(), new_key(), new_key()), "bad-key")
    after = ceremony.rotated_intermediate(offline, "classical", means(), new_key(), root.private_key)
    hierarchy.verify(after)
    assert after.active_root().private_key is None, "it is used and not kept"
    after = ceremony.rotated_root(offline, means(), new_key(), new_key(), root_key=root.private_key)
    hierarchy.verify(after)
    assert after.roots[root.id].private_key is None


def test_an_imported_intermediate_issues_and_brings_its_root() -> None:
    after = imported()
    hierarchy.verify(after)
    assert after.issuer.certificate == FOREIGN
    assert after.issuer.chain == (FOREIGN,)
    assert after.active_root().certificate == FOREIGN_ROOT
    assert after.active_root().private_key is None
    assert after.trusted() == (FOREIGN_ROOT, hierarchy_of().root)


def test_an_intermediate_of_a_root_that_is_here_needs_no_chain() -> None:
    made, key = hierarchy_of(), new_key()
    request_key = made.active_root().private_key
    certificate = authority("Below ours", key, issuer=made.root, issuer_key=request_key)
    after = imported(certificate, (), key)
    hierarchy.verify(after)
    assert after.active_root().id == made.active_root().id
    assert after.active_root().private_key is not None


def test_what_is_between_an_intermediate_and_its_root_is_part_of_its_chain() -> None:
    policy_key = new_key()
    policy = authority("Acme Policy", policy_key, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY)
    certificate = authority("Acme Third", KEY, issuer=policy, issuer_key=policy_key)
    after = imported(certificate, (FOREIGN_ROOT, policy))
    hierarchy.verify(after)
    assert after.issuer.chain == (certificate, policy)
    assert "is missing: add it" in refusal(lambda: imported(certificate, (FOREIGN_ROOT,)), "bad-authority")


def test_an_imported_root_gets_an_intermediate_and_is_certified_by_the_root_before_it() -> None:
    after = ceremony.imported_root(hierarchy_of(), means(LATER), FOREIGN_ROOT, ROOT_KEY, KEY)
    hierarchy.verify(after)
    assert after.root == FOREIGN_ROOT
    assert after.root_above(after.issuer).certificate == FOREIGN_ROOT
    assert after.active_root().cross is not None
    assert "is here already" in refusal(
        lambda: ceremony.imported_root(after, means(LATER), FOREIGN_ROOT, ROOT_KEY, KEY), "bad-authority"
    )


def test_a_root_is_imported_also_when_the_one_before_it_cannot_certify_it() -> None:
    made = hierarchy_of().without_root_key(hierarchy_of().active_root().id)
    assert ceremony.imported_root(made, means(), FOREIGN_ROOT, ROOT_KEY, KEY).active_root().cross is None
    after = ceremony.imported_root(limited_root(), means(LATER), FOREIGN_ROOT, ROOT_KEY, KEY)
    assert after.active_root().cross is None


def below(**fields: object) -> x509.Certificate:
    return authority("Acme Bad", KEY, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"ca": False}, "is not allowed to sign certificates"),
        ({"crl_sign": False}, "may not sign revocation lists"),
        ({"days": 1}, "is not valid now"),
        (
            {"extensions": [x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None)]},
            "its name constraints speak of a DirectoryName",
        ),
    ],
)
def test_an_intermediate_that_could_not_issue_is_not_imported(fields: dict[str, object], text: str) -> None:
    assert text in refusal(lambda: imported(below(**fields)), "bad-authority")


def test_an_intermediate_with_a_weak_or_foreign_key_is_not_imported() -> None:
    weak = rsa_key(2048, 3)
    certificate = authority("Acme Weak", weak, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY)
    assert "exponent" in refusal(lambda: imported(certificate, key=weak), "bad-key")
    assert "it is not the key of" in refusal(lambda: imported(key=new_key()), "bad-key")


def test_an_intermediate_below_a_root_that_allows_none_is_not_imported() -> None:
    narrow = authority("Acme Narrow", ROOT_KEY, path_length=0)
    certificate = authority("Acme Below", KEY, issuer=narrow, issuer_key=ROOT_KEY)
    assert "the path length of" in refusal(lambda: imported(certificate, (narrow,)), "bad-authority")
    with pytest.raises(CeremonyRefused, match="nothing can be below it"):
        ceremony.imported_root(hierarchy_of(), means(), narrow, ROOT_KEY, KEY)


def test_an_intermediate_with_a_wrong_signature_is_not_imported() -> None:
    forged = authority("Acme Forged", KEY, issuer=FOREIGN_ROOT, issuer_key=new_key())
    assert "is not signed by" in refusal(lambda: imported(forged), "bad-authority")
    assert "is here already" in refusal(lambda: imported(current=imported()), "bad-authority")


def test_authorities_with_the_same_serial_number_are_told_apart_by_nothing_and_refused() -> None:
    numbered = authority("Acme Numbered", ROOT_KEY, serial=1)
    certificate = authority("Acme Numbered Issuing", KEY, issuer=numbered, issuer_key=ROOT_KEY, serial=1)
    assert "have the same serial number, 01" in refusal(lambda: imported(certificate, (numbered,)), "bad-authority")
    ours = hierarchy_of().issuer.certificate
    taken = authority("Acme Taken", KEY, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY, serial=ours.serial_number)
    assert "have the same serial number" in refusal(lambda: imported(taken), "bad-authority")


def test_a_request_asks_for_an_authority_and_says_who() -> None:
    plan = means(name="Acme", path_length=1).plan
    csr = create_request(plan, KEY)
    assert csr.is_signature_valid
    assert csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "Acme"
    asked = csr.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert asked == x509.BasicConstraints(ca=True, path_length=1)


def test_the_path_length_and_constraints_of_settings_are_in_the_next_intermediate() -> None:
    wanted = means(LATER, path_length=2, permitted_names=("corp.example",))
    after = ceremony.rotated_intermediate(hierarchy_of(), "classical", wanted, new_key())
    assert levels_below(after.issuer.certificate) == 2
    extension = after.issuer.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert extension.value == x509.NameConstraints([x509.DNSName("corp.example")], None)
    assert [each.permitted.domains for each in after.issuer.constraints] == [("corp.example",)]


def test_nothing_outlives_what_signed_it() -> None:
    short = new_hierarchy(Ca(root_lifetime_days=10, intermediate_lifetime_days=10), NOW)
    after = rotated(short, "root", NOW + 86_400)
    assert after.active_root().cross is not None
    assert validity_of(after.issuer.chain[-1]).not_after == validity_of(short.root).not_after
    again = rotated(short, now=NOW + 86_400)
    assert again.issuer.validity.not_after == validity_of(short.root).not_after


def test_keys_of_every_type_follow_each_other() -> None:
    made = hierarchy_of("p256")
    after = ceremony.rotated_root(made, means(LATER), Keyring().generate("classical", "ed25519", ""), rsa_key(3072))
    hierarchy.verify(after)
    assert isinstance(after.issuer.private_key, rsa.RSAPrivateKey)
    root = create_root(means().plan, new_key(), 7, NOW)
    assert hierarchy.kind_of(root) == "classical"
