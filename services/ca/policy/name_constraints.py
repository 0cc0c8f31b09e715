"""Name constraints (RFC 5280, section 4.2.1.10): which names an issuer's certificate lets it certify. Pure.

Rules:
- A kind of name that no permitted subtree speaks of is not restricted by the permitted ones: whoever permits DNS names
  alone and wants no addresses excludes 0.0.0.0/0 and ::/0. What is excluded stays excluded.
- DNS subtrees and IP networks are made here, and understood. Subtrees of other kinds, which an imported certificate may
  have, permit nothing of their kind and exclude all of it: what cannot be judged is not certified.
- A wildcard stands for every label in its place: one that could stand for an excluded name is not covered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from cryptography import x509

from services.ca.messages import Refusal
from services.ca.policy.names import Name

IpNetwork = IPv4Network | IPv6Network

KINDS_OF_SUBTREES: Final = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)


@dataclass(frozen=True, slots=True)
class Subtrees:
    """One side of the constraints: DNS names with all below them, IP networks, and kinds that are not judged here."""

    domains: tuple[str, ...] = ()
    networks: tuple[IpNetwork, ...] = ()
    other_kinds: frozenset[str] = frozenset()

    def speak_of(self, name: Name) -> bool:
        """Whether there is a subtree of the kind of `name`."""
        if name.kind == "dns":
            return bool(self.domains)
        if name.kind == "ip":
            return bool(self.networks)
        return name.kind in self.other_kinds

    def cover(self, name: Name) -> bool:
        """Whether `name` is within one of these subtrees."""
        if name.kind == "dns":
            text = name.text.removeprefix("*.")
            return any(_within(text, domain) for domain in self.domains)
        if name.kind == "ip":
            address = ip_address(name.text)
            return any(address in network for network in self.networks)
        return False

    def reach(self, name: Name) -> bool:
        """Whether one of these subtrees holds `name`, or something that the wildcard `name` stands for."""
        if self.cover(name) or (name.kind not in {"dns", "ip"} and name.kind in self.other_kinds):
            return True
        base = name.text.removeprefix("*.")
        return base != name.text and any(domain.partition(".")[2] == base for domain in self.domains)


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """What an issuer may certify. No subtree at all restricts nothing."""

    permitted: Subtrees
    excluded: Subtrees

    @classmethod
    def of_settings(cls, permitted: Iterable[str], excluded: Iterable[str]) -> NameConstraints:
        """Read DNS names and IP networks, as settings have them. Raises ValueError."""
        return cls(_of_entries(permitted), _of_entries(excluded))

    @classmethod
    def in_certificates(cls, *certificates: x509.Certificate) -> tuple[NameConstraints, ...]:
        """The constraints of an issuer and of those above it: all of them hold. Raises ValueError."""
        found = []
        for certificate in certificates:
            try:
                extension = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
            except x509.ExtensionNotFound:
                continue
            found.append(cls(_of_subtrees(extension.permitted_subtrees), _of_subtrees(extension.excluded_subtrees)))
        return tuple(found)

    def extension(self) -> x509.NameConstraints | None:
        """The extension that says this; None for no constraints, which has no extension."""
        permitted, excluded = _general_names(self.permitted), _general_names(self.excluded)
        if not permitted and not excluded:
            return None
        return x509.NameConstraints(permitted or None, excluded or None)

    def trouble_with(self, name: Name) -> str | None:
        """Why `name` may not be certified, or None."""
        if self.excluded.reach(name):
            return "is excluded by the name constraints of the issuing certificate"
        if self.permitted.speak_of(name) and not self.permitted.cover(name):
            return "is not permitted by the name constraints of the issuing certificate"
        return None


NO_CONSTRAINTS: Final = NameConstraints(Subtrees(), Subtrees())


def covered_by_constraints(names: Iterable[Name], constraints: Iterable[NameConstraints]) -> None:
    """Raises Refusal("forbidden-name") for a name with which relying parties would reject the certificate."""
    for each in constraints:
        for name in names:
            if trouble := each.trouble_with(name):
                raise Refusal("forbidden-name", "csr", f"the name {name.text!r} {trouble}")


def _within(name: str, domain: str) -> bool:
    return not domain or name == domain or name.endswith(f".{domain}")


def _of_entries(entries: Iterable[str]) -> Subtrees:
    domains: list[str] = []
    networks: list[IpNetwork] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            domains.append(entry.lower())
    return Subtrees(tuple(dict.fromkeys(domains)), tuple(dict.fromkeys(networks)))


def _of_subtrees(subtrees: Iterable[x509.GeneralName] | None) -> Subtrees:
    domains: list[str] = []
    networks: list[IpNetwork] = []
    others: set[str] = set()
    for subtree in subtrees or ():
        if isinstance(subtree, x509.DNSName):
            domains.append(subtree.value.lower().removeprefix("."))
        elif isinstance(subtree, x509.IPAddress):
            value = subtree.value
            networks.append(ip_network(value) if isinstance(value, IPv4Address | IPv6Address) else value)
        elif isinstance(subtree, x509.RFC822Name):
            others.add("email")
        elif isinstance(subtree, x509.UniformResourceIdentifier):
            others.add("uri")
    return Subtrees(tuple(domains), tuple(networks), frozenset(others))


def _general_names(subtrees: Subtrees) -> list[x509.GeneralName]:
    return [*map(x509.DNSName, subtrees.domains), *map(x509.IPAddress, subtrees.networks)]
