"""Which names a certificate may carry."""

import pytest

from config.profile_schema import NameKind
from services.ca.messages import Refusal
from services.ca.policy.names import MAX_A_LABELS, MAX_NAMES, Name, NamePolicy, validated

ALL_KINDS: tuple[NameKind, ...] = ("dns", "ip", "email", "uri")


def canonical(kind: NameKind, text: str) -> str:
    (name,) = validated([(kind, text)], ALL_KINDS)
    return name.text


def refusal(kind: NameKind, text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        validated([(kind, text)], ALL_KINDS)
    assert (caught.value.kind, caught.value.field) == ("forbidden-name", "csr")
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host.example", "host.example"),
        ("HOST.Example", "host.example"),
        ("localhost", "localhost"),
        ("a-b.example", "a-b.example"),
        ("vm--prod.example", "vm--prod.example"),
        ("*.host.example", "*.host.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.host", "1.host"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_a_good_dns_name_is_certified_in_lower_case(text: str, expected: str) -> None:
    assert canonical("dns", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "host.example.",
        ".host.example",
        "host..example",
        "under_score.example",
        "-host.example",
        "host-.example",
        "ho st.example",
        "host.example\n",
        "host.example\0.evil.example",
        "bücher.example",
        "\u212a.example",
        "a" * 64 + ".example",
        ".".join(["a" * 50] * 5),
        "192.0.2.1",
        "host.1",
        "*",
        "*.example",
        "host.*.example",
        "w*.host.example",
        "**.host.example",
        "*.*.host.example",
        "xn--.example",
        "xn--a.example",
        "xn--bcher-kva-.example",
        "xn--BCHER-kvaa" + "9" * 40 + ".example",
        "host.example/path",
        "user@host.example",
    ],
)
def test_a_bad_dns_name_is_refused(text: str) -> None:
    refusal("dns", text)


@pytest.mark.parametrize("u_label", ["abc", "Ü", "a\u0301b", "\u0301a", "a b\u00fc", "☃", "a\u202eb"])
def test_an_a_label_that_hides_what_no_label_may_hold_is_refused(u_label: str) -> None:
    """Plain ASCII, a capital letter, a letter that is not composed, a leading mark, a space, a symbol, a direction."""
    refusal("dns", f"xn--{u_label.encode('punycode').decode('ascii')}.example")


@pytest.mark.parametrize("u_label", ["bücher", "παράδειγμα", "例え", "उदाहरण", "l\u00b7l"])
def test_an_a_label_in_any_script_is_certified(u_label: str) -> None:
    name = f"xn--{u_label.encode('punycode').decode('ascii')}.example"
    assert canonical("dns", name) == name


@pytest.mark.parametrize(
    ("text", "expected"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8::0:1", "2001:db8::1"), ("127.0.0.1", "127.0.0.1")]
)
def test_an_address_of_one_host_is_certified_in_its_shortest_form(text: str, expected: str) -> None:
    assert canonical("ip", text) == expected


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:192.0.2.1", "192.0.2.0/24", "host"]
)
def test_an_address_that_is_not_one_hosts_is_refused(text: str) -> None:
    refusal("ip", text)


@pytest.mark.parametrize("zone", ["eth0", "\x1b[31mPWNED\n", "\0", "é" * 50, "\U0001f600" * 9000])
def test_an_address_with_a_zone_is_refused_whatever_the_zone_holds(zone: str) -> None:
    """The standard library takes any text for a zone and keeps it."""
    detail = refusal("ip", f"fe80::1%{zone}").detail
    assert detail.isprintable()
    assert len(detail) < 500


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("character", ["\x1b", "\n", "\0", " ", "\x7f", "\u202e", "é"])
def test_a_name_that_is_not_visible_ascii_is_refused(kind: NameKind, character: str) -> None:
    text = {"dns": "host{}.example", "ip": "fe80::1%{}", "email": "user{}@host.example", "uri": "urn:x:{}"}[kind]
    assert "is not visible ASCII" in refusal(kind, text.format(character)).detail


def test_the_domain_of_an_email_address_is_in_lower_case_and_its_local_part_as_written() -> None:
    assert canonical("email", "First.Last+tag@Host.Example") == "First.Last+tag@host.example"


@pytest.mark.parametrize(
    "text",
    [
        "user",
        "@host.example",
        "user@",
        "a@b@host.example",
        "user@*.host.example",
        "user@host.example.",
        ".user@host.example",
        "us er@host.example",
        '"user"@host.example',
        "user@[192.0.2.1]",
        "u" * 65 + "@host.example",
        "üser@host.example",
    ],
)
def test_a_bad_email_address_is_refused(text: str) -> None:
    refusal("email", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spiffe://trust.example/workload/web", "spiffe://trust.example/workload/web"),
        ("HTTPS://host.example:8443/a?b#c", "https://host.example:8443/a?b#c"),
        ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("https://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://192.0.2.1?a=b@c", "https://192.0.2.1?a=b@c"),
        ("https://host.example:", "https://host.example:"),
    ],
)
def test_an_absolute_uri_is_certified(text: str, expected: str) -> None:
    assert canonical("uri", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "/relative",
        "host.example/path",
        "://host.example",
        "https://",
        "https:///path",
        "https://user@host.example/",
        "https://under_score.example/",
        "https://*.host.example/",
        "https://host.example:0/",
        "https://host.example:99999/",
        "https://host.example/a b",
        "https://host.example/%zz",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[::ffff:192.0.2.1]/",
        "https://[::]/",
        "https://0.0.0.0/",
        "https://[v7.host.example]/",
        "https://[192.0.2.1]/",
        "https://[host.example]/",
        "https://host.example:80:90/",
        "https://host%2eexample/",
        "https:host.example/",
        "https:/host.example/",
        "HTTPS:host.example/",
        "http:host.example",
        "ws:host.example",
        "wss:host.example",
        "ftp:host.example",
        "spiffe:host.example/web",
        "https://host.example/\r\nx",
        "1https://host.example/",
        "https://host.example/" + "a" * 2048,
    ],
)
def test_a_bad_uri_is_refused(text: str) -> None:
    refusal("uri", text)


def test_the_refusal_names_the_name_and_is_bounded() -> None:
    assert "'under_score.example'" in refusal("dns", "under_score.example").detail
    assert len(refusal("dns", "_" * 10_000).detail) < 500


def test_names_keep_their_order_and_come_once() -> None:
    names = validated([("dns", "b.example"), ("dns", "A.example"), ("dns", "B.EXAMPLE")], ("dns",))
    assert names == (Name("dns", "b.example"), Name("dns", "a.example"))


def test_a_kind_that_the_profile_does_not_certify_is_refused() -> None:
    with pytest.raises(Refusal, match="of a kind \\(email\\)"):
        validated([("email", "user@host.example")], ("dns", "ip"))


def test_a_request_without_a_name_is_refused() -> None:
    with pytest.raises(Refusal, match="names nothing"):
        validated([], ALL_KINDS)


def test_one_name_more_than_the_limit_is_refused_and_the_limit_is_not() -> None:
    names: list[tuple[NameKind, str]] = [("dns", f"h{n}.example") for n in range(MAX_NAMES + 1)]
    assert len(validated(names[:MAX_NAMES], ALL_KINDS)) == MAX_NAMES
    with pytest.raises(Refusal, match=f"at most {MAX_NAMES}"):
        validated(names, ALL_KINDS)


def a_labels(count: int) -> list[tuple[NameKind, str]]:
    labels = (f"{chr(0xE0 + n // 20)}{chr(0x430 + n % 20)}".encode("punycode").decode("ascii") for n in range(count))
    return [("dns", f"xn--{label}.example") for label in labels]


def test_more_internationalised_labels_than_the_limit_are_refused_before_any_is_decoded() -> None:
    """Each takes a fraction of a millisecond: enough of them would stop the event loop."""
    assert len(validated(a_labels(MAX_A_LABELS), ALL_KINDS)) == MAX_A_LABELS
    with pytest.raises(Refusal, match=f"at most {MAX_A_LABELS}"):
        validated(a_labels(MAX_A_LABELS + 1), ALL_KINDS)
    with pytest.raises(Refusal, match=f"at most {MAX_A_LABELS}"):
        validated([("dns", f"XN--{n}.example") for n in range(MAX_A_LABELS + 1)], ALL_KINDS)


def test_an_internationalised_label_that_many_names_share_counts_once() -> None:
    names: list[tuple[NameKind, str]] = [("dns", f"h{n}.xn--bcher-kva.example") for n in range(MAX_NAMES)]
    assert len(validated(names, ALL_KINDS)) == MAX_NAMES


def allows(policy: NamePolicy, kind: NameKind, text: str) -> bool:
    (name,) = validated([(kind, text)], ALL_KINDS)
    try:
        policy.check(name)
    except Refusal as refused:
        return not (refused.kind == "forbidden-name" and repr(name.text) in refused.detail)
    return True


@pytest.mark.parametrize(
    ("kind", "text", "allowed"),
    [
        ("dns", "corp.example", True),
        ("dns", "a.b.corp.example", True),
        ("dns", "*.corp.example", True),
        ("dns", "evilcorp.example", False),
        ("dns", "corp.example.evil.example", False),
        ("dns", "localhost", False),
        ("email", "user@corp.example", True),
        ("email", "corp.example@evil.example", False),
        ("uri", "spiffe://corp.example/web", True),
        ("uri", "spiffe://evil.example/corp.example", False),
        ("uri", "urn:corp.example:x", False),
        ("ip", "192.0.2.1", False),
        ("uri", "https://192.0.2.1/", False),
    ],
)
def test_a_list_of_allowed_names_allows_nothing_else(kind: NameKind, text: str, allowed: bool) -> None:
    assert allows(NamePolicy.of(["corp.example"], []), kind, text) is allowed


def test_without_lists_every_valid_name_is_allowed() -> None:
    policy = NamePolicy.of([], [])
    assert allows(policy, "dns", "host.example")
    assert allows(policy, "ip", "192.0.2.1")
    assert allows(policy, "uri", "urn:x:y")


def test_an_ip_network_in_a_list_covers_its_addresses_wherever_they_stand() -> None:
    policy = NamePolicy.of(["10.0.0.0/8"], ["10.1.0.0/16"])
    assert allows(policy, "ip", "10.2.3.4")
    assert allows(policy, "uri", "https://10.2.3.4/")
    assert not allows(policy, "ip", "10.1.3.4")
    assert not allows(policy, "uri", "https://10.1.3.4/")
    assert not allows(policy, "ip", "192.0.2.1")
    assert not allows(policy, "dns", "host.example")


@pytest.mark.parametrize(
    "text", ["https://secret.example/", "HTTPS://A.SECRET.example:443", "x://secret.example?", "x://secret.example#/"]
)
def test_a_denied_name_does_not_get_through_as_the_host_of_a_uri(text: str) -> None:
    assert not allows(NamePolicy.of([], ["secret.example"]), "uri", text)


@pytest.mark.parametrize("text", ["https://10.0.0.1/", "https://10.0.0.1:1", "https://[2001:db8::1]:1/"])
def test_a_denied_address_does_not_get_through_as_the_host_of_a_uri(text: str) -> None:
    assert not allows(NamePolicy.of([], ["10.0.0.0/8", "2001:db8::/32"]), "uri", text)


def test_what_is_denied_stays_denied_although_it_is_allowed() -> None:
    policy = NamePolicy.of(["corp.example"], ["secret.corp.example"])
    assert allows(policy, "dns", "open.corp.example")
    assert not allows(policy, "dns", "secret.corp.example")
    assert not allows(policy, "dns", "a.secret.corp.example")
    assert not allows(policy, "email", "user@secret.corp.example")


def test_a_wildcard_does_not_reach_around_a_denied_name() -> None:
    """*.corp.example would be valid for secret.corp.example; it is not valid for anything below that."""
    assert not allows(NamePolicy.of([], ["secret.corp.example"]), "dns", "*.corp.example")
    assert allows(NamePolicy.of([], ["a.secret.corp.example"]), "dns", "*.corp.example")


def test_a_setting_that_is_no_name_is_named() -> None:
    with pytest.raises(ValueError, match="'under_score' is neither a DNS name nor an IP network"):
        NamePolicy.of(["corp.example", "under_score"], [])
