"""What a leaf may be used for, and when it is valid."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.ca.messages import Refusal
from services.ca.policy.profile import IssuerNotValid, Lifetimes, Validity, decide_validity
from services.ca.policy.public_keys import type_of
from tests.unit.ca.applicants import p256_key, rsa_key
from tests.unit.ca.authorities import rules

NOW = 1_800_000_000
LIFETIMES = Lifetimes(default=86_400, maximum=7_776_000, backdate=60)
ISSUER = Validity(NOW - 1_000_000, NOW + 100_000_000)


@pytest.mark.parametrize(
    ("name", "purposes", "kinds"),
    [
        ("tls-server", [ExtendedKeyUsageOID.SERVER_AUTH], ("dns", "ip")),
        ("tls-client", [ExtendedKeyUsageOID.CLIENT_AUTH], ("dns", "ip", "email", "uri")),
        (
            "tls-server-client",
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
            ("dns", "ip", "email", "uri"),
        ),
    ],
)
def test_each_shipped_profile_says_what_for_and_which_names(
    name: str, purposes: list[object], kinds: tuple[str, ...]
) -> None:
    chosen = rules().profile(name)
    assert (chosen.name, list(chosen.purposes), chosen.name_kinds) == (name, purposes, kinds)
    assert (chosen.transparency, chosen.hierarchy, chosen.common_name, chosen.organization) == (
        True,
        "classical",
        True,
        "",
    )
    assert chosen.extensions == ()
    assert chosen.key_types == {"rsa", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519"}


@pytest.mark.parametrize("name", ["", "TLS-server", "code-signing", "x" * 10_000])
def test_an_unknown_profile_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(Refusal) as caught:
        rules().profile(name)
    assert (caught.value.kind, caught.value.field) == ("unknown-profile", "profile")
    assert "tls-client, tls-server, tls-server-client" in caught.value.detail
    assert len(caught.value.detail) < 300


def test_only_an_rsa_key_takes_part_in_key_transport() -> None:
    usages = rules().profile("tls-server").key_usages
    for key, expected in (
        (rsa_key().public_key(), True),
        (p256_key().public_key(), False),
        (ed25519.Ed25519PrivateKey.generate().public_key(), False),
    ):
        usage = usages[type_of(key)]
        assert usage.digital_signature
        assert usage.key_encipherment is expected
        assert not usage.key_cert_sign
        assert not usage.crl_sign


def test_the_default_lifetime_counts_from_now_and_backdating_comes_on_top() -> None:
    assert decide_validity(None, LIFETIMES, ISSUER, NOW) == Validity(NOW - 60, NOW + 86_400)


@pytest.mark.parametrize("lifetime", [1, 3600, 7_776_000])
def test_a_requested_lifetime_is_given(lifetime: int) -> None:
    assert decide_validity(lifetime, LIFETIMES, ISSUER, NOW).not_after == NOW + lifetime


@pytest.mark.parametrize("lifetime", [0, -1, -(2**70)])
def test_a_lifetime_that_is_not_positive_is_refused(lifetime: int) -> None:
    with pytest.raises(Refusal, match="is not positive") as caught:
        decide_validity(lifetime, LIFETIMES, ISSUER, NOW)
    assert (caught.value.kind, caught.value.field) == ("bad-validity", "validity_seconds")


@pytest.mark.parametrize("lifetime", [7_776_001, 2**70])
def test_a_lifetime_above_the_maximum_is_refused_and_the_maximum_is_told(lifetime: int) -> None:
    with pytest.raises(Refusal, match="7776000 s") as caught:
        decide_validity(lifetime, LIFETIMES, ISSUER, NOW)
    assert caught.value.kind == "bad-validity"


def test_a_leaf_never_outlives_its_issuer_nor_begins_before_it() -> None:
    issuer = Validity(NOW - 10, NOW + 100)
    assert decide_validity(None, LIFETIMES, issuer, NOW) == Validity(NOW - 10, NOW + 100)


@pytest.mark.parametrize("issuer", [Validity(NOW - 100, NOW - 1), Validity(NOW + 1, NOW + 100)])
def test_an_issuer_that_is_not_valid_issues_nothing(issuer: Validity) -> None:
    with pytest.raises(IssuerNotValid):
        decide_validity(None, LIFETIMES, issuer, NOW)


def test_the_first_and_the_last_second_are_valid() -> None:
    assert Validity(NOW, NOW).covers(NOW)
    assert not Validity(NOW, NOW).covers(NOW + 1)
    assert not Validity(NOW, NOW).covers(NOW - 1)


def test_a_validity_that_ends_before_it_begins_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="before it begins"):
        Validity(NOW, NOW - 1)
