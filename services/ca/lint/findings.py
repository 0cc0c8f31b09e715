"""What a lint can find, by rule: the section that is broken, and whose fault it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Fault = Literal["name", "key", "authority"]

RULES: Final = MappingProxyType(
    {
        "der": "X.690 10 and 11, RFC 5280 4.1",
        "structure": "RFC 5280 4.1",
        "version": "RFC 5280 4.1.2.1",
        "serial": "RFC 5280 4.1.2.2",
        "algorithm": "RFC 5280 4.1.1.2 and 4.1.2.3",
        "signature": "RFC 5280 4.1.1.3",
        "issuer": "RFC 5280 4.1.2.4",
        "validity.encoding": "RFC 5280 4.1.2.5",
        "validity.order": "RFC 5280 4.1.2.5",
        "validity.issuer": "RFC 5280 6.1.3",
        "subject": "RFC 5280 4.1.2.6",
        "subject.common-name": "RFC 5280 4.1.2.6, RFC 6125 6.4.4",
        "public-key": "RFC 5280 4.1.2.7, RFC 3279, RFC 5480, RFC 8410, RFC 9881",
        "unique-identifier": "RFC 5280 4.1.2.8",
        "extension.unique": "RFC 5280 4.2",
        "extension.unknown": "RFC 5280 4.2",
        "extension.missing": "RFC 5280 4.2",
        "extension.critical": "RFC 5280 4.2",
        "extension.value": "RFC 5280 4.2",
        "key-identifier.authority": "RFC 5280 4.2.1.1",
        "key-identifier.subject": "RFC 5280 4.2.1.2",
        "key-usage": "RFC 5280 4.2.1.3",
        "key-usage.key": "RFC 4055 1.2, RFC 5480 3, RFC 8410 5, RFC 9881 5",
        "policies": "RFC 5280 4.2.1.4",
        "names": "RFC 5280 4.2.1.6",
        "names.dns": "RFC 5280 4.2.1.6",
        "names.ip": "RFC 5280 4.2.1.6",
        "names.email": "RFC 5280 4.2.1.6",
        "names.uri": "RFC 5280 4.2.1.6",
        "basic-constraints": "RFC 5280 4.2.1.9",
        "purposes": "RFC 5280 4.2.1.12",
        "distribution-points": "RFC 5280 4.2.1.13",
        "authority-information": "RFC 5280 4.2.2.1",
        "tls-feature": "RFC 7633 4",
        "poison": "RFC 6962 3.1",
        "timestamps": "RFC 6962 3.3",
        "correspondence": "RFC 6962 3.1 and 3.2",
    }
)
"""Every rule, with the sections that it comes from."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that a certificate breaks. Raises ValueError for a rule that does not exist."""

    rule: str
    text: str

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"there is no rule {self.rule!r}")

    @property
    def section(self) -> str:
        """Where the rule stands."""
        return RULES[self.rule]

    @property
    def fault(self) -> Fault:
        """Whose fault it is before anything was signed: a name or the key of the request, or the authority's."""
        if self.rule.startswith("names."):
            return "name"
        return "key" if self.rule == "public-key" else "authority"

    def __str__(self) -> str:
        return f"{self.rule}: {self.text} ({self.section})"


class Findings:
    """What was found so far."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def say(self, rule: str, text: str) -> None:
        """Add one."""
        self._found.append(Finding(rule, text))

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)
