"""Certificate authorities for tests: hierarchies of each key type, made once, and rules to decide by."""

import os
from functools import cache, partial

from config.schema import Ca, KeyType
from services.ca import ceremony
from services.ca.ceremony import Means
from services.ca.hierarchy import Hierarchy, Kind
from services.ca.hierarchy_document import Role
from services.ca.installation import new_hierarchy, plan_of
from services.ca.issuance import Rules
from services.ca.keyring import Keyring
from services.ca.messages import IssueRequest
from services.ca.serials import new_serial
from services.ca.server import rules_of

NOW = 1_800_000_000
KEY_TYPES: tuple[KeyType, ...] = ("p256", "ed25519", "rsa3072")


def hierarchy_of(key_type: KeyType = "p256") -> Hierarchy:
    """A root and an intermediate, created at NOW with default settings; always the same ones."""
    return _hierarchy_of(key_type)


@cache
def _hierarchy_of(key_type: KeyType) -> Hierarchy:
    return new_hierarchy(Ca(key_type=key_type), NOW)


def means(now: int = NOW, **settings: object) -> Means:
    """What ceremonies of tests work with; `settings` of the section [ca]."""
    return Means(plan_of(Ca(**settings)), partial(new_serial, os.urandom), now)  # type: ignore[arg-type] # as in `rules`


def rotated(made: Hierarchy, role: Role = "intermediate", now: int = NOW + 1000, kind: Kind = "classical") -> Hierarchy:
    """A hierarchy after a rotation at `now`."""
    key, root_key = (Keyring().generate(kind, "p256", "a test") for _ in range(2))
    if role == "intermediate":
        return ceremony.rotated_intermediate(made, kind, means(now), key)
    return ceremony.rotated_root(made, means(now), root_key, key)


def rules(**settings: object) -> Rules:
    """The rules that follow from settings of the section [ca]."""
    return rules_of(Ca(**settings))  # type: ignore[arg-type] # settings by name, checked by the test that gives them


def asked(
    csr: bytes, profile: str | None = None, validity_seconds: int | None = None, requester: str = "a test"
) -> IssueRequest:
    """A request for a certificate as the authority receives it."""
    return IssueRequest(csr=csr, profile=profile, validity_seconds=validity_seconds, requester=requester)
