"""Whether alternative names and locations are written as they must be: the lint's own look, not that of `names`. Pure.

Rules:
- Everything is judged as it stands in the certificate: nothing is decoded, folded or forgiven.
- DNS names follow the preferred syntax (RFC 1034, section 3.5), with a wildcard as the whole first label at most.
- Locations of status and issuers are absolute http URIs (RFC 5280, section 8: no https where it leads to loops).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from services.ca.lint.findings import Findings
from services.der import Element

EMAIL: Final = 0x81
DNS: Final = 0x82
URI: Final = 0x86
ADDRESS: Final = 0x87

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}", re.ASCII | re.DOTALL)
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}", re.ASCII | re.DOTALL)
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL_PART: Final = re.compile(rf"(?=.{{1,64}}\Z){_ATEXT}(?:\.{_ATEXT})*", re.ASCII | re.DOTALL)
_URI: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<rest>[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)",
    re.ASCII,
)
_AUTHORITY: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:@]+))(?::[0-9]{0,5})?", re.ASCII)


def lint_names(names: Element, findings: Findings) -> tuple[str, ...]:
    """Look at a GeneralNames; the names as texts, for those of a kind that is certified here."""
    if not names.children:
        findings.say("names", "there is no name in the subject alternative names")
    texts: list[str] = []
    for name in names.children:
        look = _LOOKS.get(name.tag)
        if look is None:
            findings.say("names", f"a name of the kind {name.tag & 0x1F} is certified")
            continue
        text = _text(name)
        if text is None or not look(text):
            rule, kind = _KINDS[name.tag]
            findings.say(rule, f"{name.value[:80]!r} is not {kind}")
        else:
            texts.append(text)
    return tuple(texts)


def is_location(name: Element) -> bool:
    """Whether a GeneralName is an absolute http URI with a host."""
    text = _text(name) if name.tag == URI else None
    return text is not None and text.startswith("http://") and is_uri(text)


def is_uri(text: str) -> bool:
    """An absolute URI; its authority, if it has one, is a fully qualified name or an address (section 4.2.1.6)."""
    parts = _URI.fullmatch(text)
    if parts is None or not (parts["authority"] or parts["rest"]):
        return False
    if parts["authority"] is None:
        return True
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        return False
    host = authority["ipv6"] or authority["host"]
    return _is_address(host) or (authority["ipv6"] is None and _HOST.fullmatch(host) is not None)


def _text(name: Element) -> str | None:
    """An IA5String as text, an address in its usual form; None for octets that are neither."""
    octets = name.value
    if name.tag == ADDRESS:
        return str(ip_address(octets)) if len(octets) in {4, 16} else None
    return octets.decode("ascii") if octets.isascii() else None


def _is_dns_name(text: str) -> bool:
    return _DNS.fullmatch(text) is not None


def _is_email(text: str) -> bool:
    local_part, _, domain = text.rpartition("@")
    return _LOCAL_PART.fullmatch(local_part) is not None and _HOST.fullmatch(domain) is not None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_LOOKS: Final = {EMAIL: _is_email, DNS: _is_dns_name, URI: is_uri, ADDRESS: _is_address}
_KINDS: Final = {
    EMAIL: ("names.email", "an e-mail address (RFC 5321, section 4.1.2)"),
    DNS: ("names.dns", "a DNS name in the preferred syntax"),
    URI: ("names.uri", "an absolute URI with a host that is a name or an address"),
    ADDRESS: ("names.ip", "an IP address of 4 or 16 octets"),
}
