"""Name constraints: what an issuer may certify, as RFC 5280, section 4.2.1.10, has it."""

from ipaddress import ip_network

import pytest
from cryptography import x509

from config.profile_schema import NameKind
from services.ca.messages import Refusal
from services.ca.policy.name_constraints import NO_CONSTRAINTS, NameConstraints, Subtrees, covered_by_constraints
from services.ca.policy.names import Name


def constraints(permitted: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> NameConstraints:
    return NameConstraints.of_settings(permitted, excluded)


def trouble(found: NameConstraints, text: str, kind: NameKind = "dns") -> str | None:
    return found.trouble_with(Name(kind, text))


@pytest.mark.parametrize("name", ["corp.example", "a.corp.example", "a.b.corp.example", "*.corp.example"])
def test_a_permitted_name_covers_itself_and_all_below(name: str) -> None:
    assert trouble(constraints(("corp.example",)), name) is None


@pytest.mark.parametrize("name", ["example", "xcorp.example", "corp.example.org", "*.example"])
def test_nothing_else_of_that_kind_is_permitted(name: str) -> None:
    assert trouble(constraints(("corp.example",)), name) == (
        "is not permitted by the name constraints of the issuing certificate"
    )


def test_a_kind_that_no_permitted_subtree_speaks_of_is_not_restricted() -> None:
    only_dns, only_addresses = constraints(("corp.example",)), constraints(("10.0.0.0/8",))
    assert trouble(only_dns, "192.0.2.1", "ip") is None
    assert trouble(only_dns, "user@elsewhere.example", "email") is None
    assert trouble(only_addresses, "anything.example") is None


def test_addresses_are_within_a_permitted_network_or_are_not() -> None:
    found = constraints(("10.0.0.0/8", "2001:db8::/32"))
    assert trouble(found, "10.1.2.3", "ip") is None
    assert trouble(found, "2001:db8::1", "ip") is None
    assert trouble(found, "192.0.2.1", "ip") is not None


@pytest.mark.parametrize("name", ["secret.corp.example", "a.secret.corp.example", "*.secret.corp.example"])
def test_what_is_excluded_stays_excluded(name: str) -> None:
    found = constraints(("corp.example",), ("secret.corp.example",))
    assert trouble(found, name) == "is excluded by the name constraints of the issuing certificate"
    assert trouble(found, "open.corp.example") is None


def test_a_wildcard_that_could_stand_for_an_excluded_name_is_excluded() -> None:
    assert trouble(constraints(excluded=("secret.corp.example",)), "*.corp.example") is not None
    assert trouble(constraints(excluded=("secret.corp.example",)), "*.example") is None


def test_all_addresses_can_be_excluded() -> None:
    found = constraints(("corp.example",), ("0.0.0.0/0", "::/0"))
    assert trouble(found, "192.0.2.1", "ip") is not None
    assert trouble(found, "2001:db8::1", "ip") is not None


def test_no_constraints_restrict_nothing_and_have_no_extension() -> None:
    assert trouble(NO_CONSTRAINTS, "anything.example") is None
    assert NO_CONSTRAINTS.extension() is None


def test_the_extension_says_what_settings_say() -> None:
    extension = constraints(("corp.example", "10.0.0.0/8"), ("secret.corp.example",)).extension()
    assert extension == x509.NameConstraints(
        [x509.DNSName("corp.example"), x509.IPAddress(ip_network("10.0.0.0/8"))], [x509.DNSName("secret.corp.example")]
    )


def test_subtrees_that_are_not_judged_here_permit_and_exclude_all_of_their_kind() -> None:
    """E-mail and URI subtrees of an imported authority."""
    found = NameConstraints(Subtrees(other_kinds=frozenset({"email"})), Subtrees(other_kinds=frozenset({"uri"})))
    assert trouble(found, "user@corp.example", "email") is not None
    assert trouble(found, "https://corp.example/", "uri") is not None
    assert trouble(found, "corp.example") is None


def test_every_certificate_of_the_path_has_to_cover_a_name() -> None:
    both = (constraints(("example",)), constraints(("corp.example",)))
    covered_by_constraints([Name("dns", "a.corp.example")], both)
    with pytest.raises(Refusal, match=r"the name 'a\.other\.example' is not permitted") as caught:
        covered_by_constraints([Name("dns", "a.corp.example"), Name("dns", "a.other.example")], both)
    assert caught.value.kind == "forbidden-name"
