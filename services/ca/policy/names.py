"""The names that a certificate may carry: pure functions from requested text to names in one canonical form.

Rules:
- A name leaves this file only after all of its rules have been checked. Its text is visible ASCII, so that it may be
  printed and logged as it is, and canonical: DNS names and the domain of an e-mail address in lower case, IP addresses
  in the form of RFC 5952, without a zone (RFC 4007, section 11: it means something on one host only).
- DNS names follow RFC 5280, section 4.2.1.6, with the preferred syntax of RFC 1034, section 3.5 (letters, digits,
  hyphens: no underscore, no trailing dot). Internationalised labels come as A-labels and must decode (RFC 5890).
- The host of a URI is a DNS name or an IP address like any other. Of what HTTP clients read as a host, nothing may
  hide from the lists of names: the schemes of HOST_SCHEMES come with an authority.
- A wildcard is the whole left-most label and at least two labels follow (RFC 6125, section 6.4.3; with fewer, TLS
  libraries refuse to match it).
- A list of allowed names that is not empty allows nothing but what it covers. What is denied stays denied.
- What a refusal costs is bounded: names are counted before they are read, and so are A-labels, the dear ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from config.profile_schema import NameKind
from services.ca.messages import Refusal

MAX_NAMES: Final = 100
MAX_A_LABELS: Final = 32  # different ones in one request; each may take 0.3 ms
MAX_DNS_NAME: Final = 253
MAX_LABEL: Final = 63
MAX_LOCAL_PART: Final = 64
MAX_EMAIL: Final = 254
MAX_URI: Final = 2048
MAX_PORT: Final = 65_535
HOST_SCHEMES: Final = frozenset({"http", "https", "ws", "wss", "ftp", "spiffe"})

RequestedName = tuple[NameKind, str]

_VISIBLE_ASCII: Final = re.compile(r"[!-~]*", re.ASCII)
_A_LABEL: Final = re.compile(r"xn--[a-z0-9-]*", re.ASCII | re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
# RFC 3986, section 3.2, without user information and without the addresses of the future ("[v7.x]").
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\]|(?P<host>[^\[\]@:]+))(?::(?P<port>[0-9]*))?", re.ASCII
)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)

# What IDNA 2008 calls PVALID is, but for a few exceptions, these categories (RFC 5892, section 2.1), and the joiners
# and middle dots that it allows in context.
_U_LABEL_CATEGORIES: Final = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
_U_LABEL_EXCEPTIONS: Final = frozenset("-\u00b7\u0375\u05f3\u05f4\u30fb\u200c\u200d\u06fd\u06fe\u0f0b\u3007")


@dataclass(frozen=True, slots=True)
class Name:
    """One checked name. Only `validated` makes them."""

    kind: NameKind
    text: str

    def domain(self) -> str | None:
        """The DNS name that decides whether this name is allowed; None for an IP address and a URI without a host."""
        if self.kind == "dns":
            return self.text
        if self.kind == "email":
            return self.text.rpartition("@")[2]
        if self.kind == "uri":
            parts = _authority(self.text)
            return (parts["ipv6"] or parts["host"]).lower() if parts is not None else None
        return None

    def address(self) -> IPv4Address | IPv6Address | None:
        """The IP address that this name is, or that its URI's host is."""
        text = self.text if self.kind == "ip" else self.domain()
        try:
            return None if text is None else ip_address(text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class NamePolicy:
    """Which names are certified. An entry covers a DNS name and all below it, or it is an IP network."""

    allowed_domains: tuple[str, ...]
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    denied_domains: tuple[str, ...]
    denied_networks: tuple[IPv4Network | IPv6Network, ...]
    allowed_by: str = "ca.allowed_names"
    denied_by: str = "ca.denied_names"

    @classmethod
    def of(
        cls,
        allowed: Iterable[str],
        denied: Iterable[str],
        *,
        allowed_by: str = "ca.allowed_names",
        denied_by: str = "ca.denied_names",
    ) -> NamePolicy:
        """Read settings; the last two say which rules these are, in refusals.

        Raises ValueError, naming the entry, for one that is neither a DNS name nor an IP network.
        """
        allowed_domains, allowed_networks = _entries(allowed)
        denied_domains, denied_networks = _entries(denied)
        return cls(allowed_domains, allowed_networks, denied_domains, denied_networks, allowed_by, denied_by)

    def check(self, name: Name) -> None:
        """Raises Refusal("forbidden-name") when settings do not let `name` be certified."""
        domain, address = name.domain(), name.address()
        if self._denied(domain, address):
            raise _refused(name.text, f"is denied by {self.denied_by}")
        if (self.allowed_domains or self.allowed_networks) and not self._allowed(domain, address):
            raise _refused(name.text, f"is not covered by {self.allowed_by}")

    def _denied(self, domain: str | None, address: IPv4Address | IPv6Address | None) -> bool:
        if address is not None:
            return any(address in network for network in self.denied_networks)
        return domain is not None and any(
            _covers(suffix, domain) or _wildcard_reaches(domain, suffix) for suffix in self.denied_domains
        )

    def _allowed(self, domain: str | None, address: IPv4Address | IPv6Address | None) -> bool:
        if address is not None:
            return any(address in network for network in self.allowed_networks)
        return domain is not None and any(_covers(suffix, domain) for suffix in self.allowed_domains)


def validated(
    requested: Sequence[RequestedName], kinds: Iterable[NameKind], by: str = "this profile"
) -> tuple[Name, ...]:
    """The names in the order asked for, each once.

    `kinds` are those that the profile certifies, `by` names the rule that says so. Raises Refusal("forbidden-name") for
    no name at all, more than MAX_NAMES, a kind that is not in `kinds`, and any name that breaks a rule of this file.
    """
    if not requested:
        raise Refusal("forbidden-name", "csr", "the request names nothing: add a subject alternative name")
    if len(requested) > MAX_NAMES:
        raise too_many_names()
    a_labels = {label.lower() for _, text in requested for label in _A_LABEL.findall(text)}
    if len(a_labels) > MAX_A_LABELS:
        detail = f"the request has {len(a_labels)} internationalised labels; at most {MAX_A_LABELS} are allowed"
        raise Refusal("forbidden-name", "csr", detail)
    allowed_kinds = tuple(kinds)
    names: dict[Name, None] = {}
    for kind, text in requested:
        if kind not in allowed_kinds:
            raise _refused(text, f"is of a kind ({kind}) that {by} does not certify")
        if not _VISIBLE_ASCII.fullmatch(text):
            raise _refused(text, "is not visible ASCII: write internationalised labels as A-labels (xn--...)")
        names[Name(kind, _CANONICAL[kind](text))] = None
    return tuple(names)


def too_many_names() -> Refusal:
    """The refusal of a request with more than MAX_NAMES names, for those who count them while reading."""
    return Refusal("forbidden-name", "csr", f"the request has too many names: at most {MAX_NAMES} are allowed")


def canonical_dns_name(text: str, *, wildcard: bool = True) -> str:
    """Check a DNS name and give it in lower case. Raises Refusal("forbidden-name")."""
    if not text.isascii():  # looked at first: the Kelvin sign, for one, is ASCII in lower case
        raise _refused(text, "is not ASCII: write internationalised labels as A-labels (xn--...)")
    name = text.lower()
    if name.endswith("."):
        raise _refused(text, "ends with a dot: leave it out")
    if not 0 < len(name) <= MAX_DNS_NAME:
        raise _refused(text, f"is {len(name)} characters long; DNS names have 1 to {MAX_DNS_NAME}")
    labels = name.split(".")
    if labels[0] == "*":
        if not wildcard:
            raise _refused(text, "has a wildcard where none is allowed")
        labels = labels[1:]
        if len(labels) < 2:
            raise _refused(text, "is a wildcard over a top-level domain: at least two labels must follow the asterisk")
    for label in labels:
        _check_label(text, label)
    if labels[-1].isdigit():
        raise _refused(text, "ends with a number: ask for an IP address as an IP address, not as a DNS name")
    return name


def _check_label(text: str, label: str) -> None:
    if "*" in label:
        raise _refused(text, "has an asterisk that is not the whole left-most label")
    if len(label) > MAX_LABEL:
        raise _refused(text, f"has a label of {len(label)} characters; at most {MAX_LABEL} are allowed")
    if not _LABEL.fullmatch(label):
        raise _refused(text, f"has the label {label[:MAX_LABEL]!r}: letters, digits and inner hyphens are allowed")
    if label.startswith("xn--") and not _is_a_label(label):
        raise _refused(text, f"has the label {label!r}, which looks internationalised but is no valid A-label")


@lru_cache(maxsize=8 * MAX_A_LABELS)  # the names of one request often share their labels
def _is_a_label(label: str) -> bool:
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        encoded = decoded.encode("punycode").decode("ascii")
    except UnicodeError:
        return False
    return (
        not decoded.isascii()
        and encoded == label[4:]
        and unicodedata.is_normalized("NFC", decoded)
        and unicodedata.category(decoded[0])[0] != "M"
        and all(c in _U_LABEL_EXCEPTIONS or unicodedata.category(c) in _U_LABEL_CATEGORIES for c in decoded)
    )


def _canonical_address(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise _refused(text, "is not an IP address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise _refused(text, "has a zone, which means something on one host only: leave out the % and what follows")
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise _refused(text, "is not the address of one host")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise _refused(text, f"is an IPv4 address in IPv6 clothing: ask for {address.ipv4_mapped}")
    return str(address)


def _canonical_email(text: str) -> str:
    local_part, at, domain = text.rpartition("@")
    if not at or len(text) > MAX_EMAIL or len(local_part) > MAX_LOCAL_PART or not _LOCAL_PART.fullmatch(local_part):
        raise _refused(text, "is not an e-mail address of the form local-part@domain (RFC 5321, section 4.1.2)")
    return f"{local_part}@{canonical_dns_name(domain, wildcard=False)}"


def _canonical_uri(text: str) -> str:
    scheme, _, rest = text.partition(":")
    uri = f"{scheme.lower()}:{rest}"
    if len(uri) > MAX_URI:
        raise _refused(text, f"is longer than {MAX_URI} characters")
    if not _URI.fullmatch(uri) or _BAD_ESCAPE.search(uri):
        raise _refused(text, "is not an absolute URI (RFC 3986, section 4.3)")
    if rest.startswith("//"):
        _check_authority(text, uri)
    elif scheme.lower() in HOST_SCHEMES:
        raise _refused(text, f"has no authority: write {scheme.lower()}://host/...")
    return uri


def _authority(uri: str) -> re.Match[str] | None:
    """The parts of the authority: `ipv6` or `host`, and `port`; None if there is no authority or it is no good."""
    hierarchical = uri.partition(":")[2]
    if not hierarchical.startswith("//"):
        return None
    return _AUTHORITY.fullmatch(re.split("[/?#]", hierarchical[2:], maxsplit=1)[0])


def _check_authority(text: str, uri: str) -> None:
    """RFC 5280, section 4.2.1.6: the authority of a URI names a fully qualified domain name or an IP address."""
    parts = _authority(uri)
    if parts is None:
        raise _refused(text, "is a URI whose authority is not host, host:port, [IPv6 address] or [IPv6 address]:port")
    if parts["port"] and not 0 < int(parts["port"]) <= MAX_PORT:
        raise _refused(text, f"has a port that is not between 1 and {MAX_PORT}")
    if parts["ipv6"]:
        _canonical_address(parts["ipv6"])
    elif _is_address(parts["host"]):
        _canonical_address(parts["host"])
    else:
        canonical_dns_name(parts["host"], wildcard=False)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_CANONICAL: Final = {
    "dns": canonical_dns_name,
    "ip": _canonical_address,
    "email": _canonical_email,
    "uri": _canonical_uri,
}


def _entries(entries: Iterable[str]) -> tuple[tuple[str, ...], tuple[IPv4Network | IPv6Network, ...]]:
    domains: list[str] = []
    networks: list[IPv4Network | IPv6Network] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            try:
                domains.append(canonical_dns_name(entry.removeprefix("."), wildcard=False))
            except Refusal as refusal:
                raise ValueError(f"{entry!r} is neither a DNS name nor an IP network: {refusal.detail}") from None
    return tuple(domains), tuple(networks)


def _covers(suffix: str, domain: str) -> bool:
    return domain == suffix or domain.endswith(f".{suffix}")


def _wildcard_reaches(domain: str, suffix: str) -> bool:
    """Whether `domain` is a wildcard that would also be valid for `suffix`, one label below its base."""
    return domain.startswith("*.") and suffix.partition(".")[2] == domain[2:]


def _refused(text: str, reason: str) -> Refusal:
    shown = text if len(text) <= MAX_DNS_NAME else f"{text[:MAX_DNS_NAME]}..."
    return Refusal("forbidden-name", "csr", f"the name {shown!r} {reason}")
