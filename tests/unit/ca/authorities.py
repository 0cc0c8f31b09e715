"""Certificate authorities for tests: hierarchies of each key type, made once, and rules to decide by."""

from functools import cache

from config.schema import Ca, KeyType
from services.ca.hierarchy import Hierarchy
from services.ca.installation import new_hierarchy
from services.ca.issuance import Rules
from services.ca.messages import IssueRequest
from services.ca.server import rules_of

NOW = 1_800_000_000
KEY_TYPES: tuple[KeyType, ...] = ("p256", "ed25519", "rsa3072")


def hierarchy_of(key_type: KeyType = "p256") -> Hierarchy:
    """A root and an intermediate, created at NOW with default settings; always the same ones."""
    return _hierarchy_of(key_type)


@cache
def _hierarchy_of(key_type: KeyType) -> Hierarchy:
    return new_hierarchy(Ca(key_type=key_type), NOW)


def rules(**settings: object) -> Rules:
    """The rules that follow from settings of the section [ca]."""
    return rules_of(Ca(**settings))  # type: ignore[arg-type] # settings by name, checked by the test that gives them


def asked(
    csr: bytes, profile: str | None = None, validity_seconds: int | None = None, requester: str = "a test"
) -> IssueRequest:
    """A request for a certificate as the authority receives it."""
    return IssueRequest(csr=csr, profile=profile, validity_seconds=validity_seconds, requester=requester)
