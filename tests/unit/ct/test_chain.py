"""Which chains are logged, what of them is, and what the others are told."""

import warnings
from contextlib import nullcontext
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from services import der
from services.ct import chain
from services.ct.chain import AcceptedRoots, ChainPolicy
from services.ct.messages import MAX_CHAIN, EntryType, Refusal, RefusalKind
from services.rfc6962 import structures
from services.rfc6962.structures import PrecertEntry, X509Entry
from tests.unit.ct.chains import (
    BEGIN,
    INTERMEDIATE,
    OTHER_ROOT,
    POISON,
    POISONED,
    PRECERTIFICATE_SIGNING,
    ROOT,
    authority,
    certificate,
    key,
    key_identifier,
    leaf,
    names_of,
    precertificate,
    unrecognized,
)

NULL = b"\x05\x00"


def policy(*roots: bytes) -> ChainPolicy:
    return ChainPolicy(AcceptedRoots(roots or (ROOT,)))


def key_hash(owner: str) -> bytes:
    spki = key(owner).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()


def refused(certificates: list[bytes], entry_type: EntryType = "x509", *roots: bytes) -> tuple[RefusalKind, str]:
    with pytest.raises(Refusal) as refusal:
        policy(*roots).accept(certificates, entry_type)
    assert refusal.value.field == "chain"
    return refusal.value.kind, refusal.value.detail


@pytest.mark.parametrize("sent", [[INTERMEDIATE, ROOT], [INTERMEDIATE]], ids=["with its root", "without"])
def test_a_chain_is_logged_with_its_root_whether_or_not_that_was_sent(sent: list[bytes]) -> None:
    submission = policy().accept([leaf(), *sent], "x509")
    assert submission.issuers == (INTERMEDIATE, ROOT)
    assert submission.fingerprints == tuple(sha256(each).digest() for each in (INTERMEDIATE, ROOT))
    assert submission.entry == structures.signed_entry(X509Entry(leaf()))
    assert submission.pre_certificate is None


def test_a_certificate_directly_below_a_root_needs_no_chain() -> None:
    below = certificate("host.example", "root")
    assert policy().accept([below], "x509").issuers == (ROOT,)


def test_a_root_that_is_no_top_of_its_own_ends_a_chain_too() -> None:
    assert policy(INTERMEDIATE).accept([leaf(), INTERMEDIATE], "x509").issuers == (INTERMEDIATE,)


def test_of_a_precertificate_the_to_be_signed_part_without_poison_is_logged() -> None:
    submission = policy().accept([precertificate(), INTERMEDIATE, ROOT], "precert")
    parsed = x509.load_der_x509_certificate(precertificate())
    poison = der.encode(
        der.SEQUENCE,
        bytes.fromhex("060a2b06010401d679020403") + b"\x01\x01\xff" + der.encode(der.OCTET_STRING, NULL),
    )
    assert parsed.tbs_certificate_bytes.count(poison) == 1
    logged = chain.tbs_without_poison(precertificate())
    assert submission.entry == structures.signed_entry(PrecertEntry(key_hash("intermediate"), logged))
    assert submission.pre_certificate == precertificate()
    # Whatever is before and after the poison stays as it is; only the lengths of what holds it change.
    before, after = parsed.tbs_certificate_bytes.split(poison)
    assert logged.endswith(before[-25:] + after)


def test_the_final_certificate_and_its_precertificate_have_the_same_logged_part() -> None:
    """What the authority promises: the final to-be-signed part without SCT list is the logged one."""
    extensions = [names_of("host.example"), (key_identifier("intermediate"), False)]
    final = certificate("host.example", "intermediate", extensions=extensions, serial=7)
    before = certificate("host.example", "intermediate", extensions=[*extensions, POISONED], serial=7)
    tbs = x509.load_der_x509_certificate(final).tbs_certificate_bytes
    assert chain.tbs_without_poison(before) == tbs


def test_a_poison_that_was_the_only_extension_leaves_none() -> None:
    alone = certificate("host.example", "intermediate", extensions=[POISONED], serial=7)
    bare = certificate("host.example", "intermediate", serial=7)
    logged = chain.tbs_without_poison(alone)
    # A certificate with extensions is of version 3 and stays so; the library makes one without extensions the same way.
    assert logged == x509.load_der_x509_certificate(bare).tbs_certificate_bytes


def test_what_a_precertificate_signing_certificate_signed_is_logged_under_the_real_issuer() -> None:
    signing = [*authority(), (x509.ExtendedKeyUsage([PRECERTIFICATE_SIGNING]), False)]
    pre_issuer = certificate("signer", "intermediate", extensions=[*signing, (key_identifier("intermediate"), False)])
    names = names_of("host.example")
    sent = certificate(
        "host.example", "signer", extensions=[names, (key_identifier("signer"), False), POISONED], serial=9
    )
    final = certificate(
        "host.example", "intermediate", extensions=[names, (key_identifier("intermediate"), False)], serial=9
    )
    submission = policy().accept([sent, pre_issuer, INTERMEDIATE, ROOT], "precert")
    expected = x509.load_der_x509_certificate(final).tbs_certificate_bytes
    assert submission.entry == structures.signed_entry(PrecertEntry(key_hash("intermediate"), expected))
    assert submission.issuers == (pre_issuer, INTERMEDIATE, ROOT)


def test_a_precertificate_signing_certificate_needs_its_issuer() -> None:
    signing = [*authority(), (x509.ExtendedKeyUsage([PRECERTIFICATE_SIGNING]), False)]
    alone = certificate("signer", "intermediate", extensions=signing)
    sent = certificate("host.example", "signer", extensions=[POISONED])
    assert refused([sent, alone], "precert", alone)[0] == "bad-chain"


def test_the_same_entry_has_the_same_identity_whatever_its_chain_is() -> None:
    again = certificate("intermediate", "root", extensions=authority())
    one, other = policy(), policy()
    assert one.accept([leaf(), INTERMEDIATE, ROOT], "x509").identity == other.accept([leaf(), again], "x509").identity


def test_dates_do_not_count() -> None:
    """The certificates of these tests are valid for 90 days of one year; no clock is asked."""
    assert policy().accept([leaf(), INTERMEDIATE], "x509").issuers == (INTERMEDIATE, ROOT)


@pytest.mark.parametrize(
    ("certificates", "kind"),
    [
        ([], "malformed"),
        ([leaf()] * 11, "malformed"),
        ([b"\x30\x00"], "malformed"),
        ([leaf() + b"\x00", INTERMEDIATE], "malformed"),
        ([leaf()[:-1], INTERMEDIATE], "malformed"),
        ([leaf(), INTERMEDIATE[:-1]], "malformed"),
        ([leaf(), INTERMEDIATE, OTHER_ROOT], "unknown-root"),
        ([leaf(), OTHER_ROOT, ROOT], "bad-chain"),
        ([leaf(), ROOT], "bad-chain"),
        ([leaf()], "unknown-root"),
        ([OTHER_ROOT], "unknown-root"),
        ([certificate("intermediate", "root", signer="other", extensions=authority())], "unknown-root"),
        ([leaf(), certificate("intermediate", "root", signer="other", extensions=authority())], "unknown-root"),
        ([precertificate(), INTERMEDIATE], "wrong-entry-type"),
    ],
)
def test_a_chain_that_does_not_hold_is_refused(certificates: list[bytes], kind: RefusalKind) -> None:
    assert refused(certificates)[0] == kind


def test_with_the_keys_of_strangers_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """To verify with an RSA key of a large exponent takes 7 ms, and a chain may have nine of them."""
    verified: list[bytes] = []
    honest = chain._is_signed

    def counted(below: chain._Certificate, issuer: chain._Certificate) -> bool:
        verified.append(issuer.der)
        return honest(below, issuer)

    monkeypatch.setattr(chain, "_is_signed", counted)
    strangers = [certificate(str(n), str(n + 1), extensions=authority()) for n in range(MAX_CHAIN)]
    assert refused(strangers)[0] == "unknown-root"
    assert refused([*strangers[:8], certificate("8", "root", signer="8", extensions=authority())])[0] == "unknown-root"
    assert (
        refused([*strangers[:8], certificate("8", "root", signer="8", extensions=authority()), ROOT])[0] == "bad-chain"
    )
    # A certificate that was issued here, with a key of its owner's choice, opens no door either.
    assert refused([strangers[0], certificate("1", "intermediate"), INTERMEDIATE])[0] == "bad-chain"
    assert set(verified) <= {ROOT, INTERMEDIATE}


@pytest.mark.parametrize("above", [0, 1])
def test_of_a_chain_to_no_root_neither_extensions_nor_names_are_taken_apart(
    above: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Thousands of either fit into one certificate. A name that is read here is one that the parser warns of."""
    taken_apart: list[bytes] = []
    monkeypatch.setattr(chain._Tbs, "of", taken_apart.append)
    monkeypatch.setattr(chain, "_without_warnings", nullcontext)
    assert refused([odd_certificate()] * (above + 1))[0] == "unknown-root"
    assert not taken_apart
    assert not recwarn.list


def test_what_the_parser_warns_of_in_a_chain_is_written_nowhere(recwarn: pytest.WarningsRecorder) -> None:
    assert refused([leaf(), odd_certificate()], "x509", odd_certificate())[0] == "bad-chain"
    assert not recwarn.list


def odd_certificate() -> bytes:
    """A certificate with a country of seven letters."""
    with warnings.catch_warnings(action="ignore"):
        odd = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "Elbonia", _validate=False)])
        builder = x509.CertificateBuilder().subject_name(odd).issuer_name(odd).public_key(key("odd").public_key())
        builder = builder.serial_number(1).not_valid_before(BEGIN).not_valid_after(BEGIN)
        for value, critical in authority():
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(key("odd"), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "extensions", [[], authority(ca=False), authority(cert_sign=False)], ids=["neither", "no authority", "not for it"]
)
def test_who_may_not_sign_certificates_does_not(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    signer = certificate("intermediate", "root", extensions=extensions)
    kind, detail = refused([leaf(), signer, ROOT])
    assert (kind, "no authority's" in detail) == ("bad-chain", True)


def test_an_authority_without_key_usage_may_sign() -> None:
    signer = certificate("intermediate", "root", extensions=authority()[:1])
    assert policy().accept([leaf(), signer], "x509").issuers == (signer, ROOT)


def poisoned(*poisons: tuple[x509.ExtensionType, bool]) -> bytes:
    return certificate("host.example", "intermediate", extensions=poisons)


@pytest.mark.parametrize(
    "sent",
    [
        poisoned((x509.PrecertPoison(), False)),
        poisoned(unrecognized(POISON, b"")),
        poisoned(unrecognized(POISON, NULL + b"\x00")),
        poisoned(unrecognized(POISON, b"\x01\x01\xff")),
    ],
    ids=["not critical", "empty", "followed by more", "not NULL"],
)
def test_a_poison_is_critical_and_null(sent: bytes) -> None:
    assert refused([sent, INTERMEDIATE], "precert")[0] == "malformed"


def test_a_poison_is_there_once() -> None:
    """The library does not make such a certificate: its extensions are put together here."""
    with pytest.raises(Refusal, match="once"):
        chain.tbs_without_poison(_with_extensions_twice(poisoned(POISONED)))


def _with_extensions_twice(data: bytes) -> bytes:
    tbs, algorithm, signature = der.members(der.whole(data, der.SEQUENCE))
    *fields, extensions = der.members(tbs)
    listed = der.whole(extensions.value, der.SEQUENCE)
    doubled = der.encode(extensions.tag, der.encode(der.SEQUENCE, listed.value * 2))
    changed = der.encode(der.SEQUENCE, b"".join(field.octets for field in fields) + doubled)
    return der.encode(der.SEQUENCE, changed + algorithm.octets + signature.octets)


def test_a_certificate_in_add_pre_chain_is_told_where_it_belongs() -> None:
    kind, detail = refused([leaf(), INTERMEDIATE], "precert")
    assert (kind, "add-chain" in detail) == ("wrong-entry-type", True)


def test_a_certificate_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert refused([bytes(65_537)])[0] == "malformed"


def test_verified_issuers_are_remembered_and_their_number_is_bounded() -> None:
    remembering = policy()
    for _ in range(2):
        remembering.accept([leaf(), INTERMEDIATE, ROOT], "x509")
    for number in range(chain.REMEMBERED_ISSUERS + 5):
        again = certificate("intermediate", "root", extensions=authority(), serial=number + 1)
        remembering.accept([leaf(), again], "x509")
    assert len(remembering._known) == chain.REMEMBERED_ISSUERS


def test_a_refused_issuer_is_not_remembered() -> None:
    roots = AcceptedRoots()
    growing = ChainPolicy(roots)
    with pytest.raises(Refusal, match="unknown-root"):
        growing.accept([leaf(), INTERMEDIATE], "x509")
    roots.add(ROOT)
    assert growing.accept([leaf(), INTERMEDIATE], "x509").issuers == (INTERMEDIATE, ROOT)


def test_roots_are_listed_in_order_and_once() -> None:
    roots = AcceptedRoots([ROOT, OTHER_ROOT])
    assert not roots.add(ROOT)
    assert roots.certificates == [ROOT, OTHER_ROOT]
    assert ROOT in roots
    assert leaf() not in roots


@pytest.mark.parametrize(("data", "kind"), [(b"nothing", "malformed"), (leaf(), "bad-chain")])
def test_what_cannot_be_a_root_is_none(data: bytes, kind: RefusalKind) -> None:
    with pytest.raises(Refusal) as refusal:
        AcceptedRoots([data])
    assert (refusal.value.kind, refusal.value.field) == (kind, "certificates")
