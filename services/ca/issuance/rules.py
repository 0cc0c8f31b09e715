"""What this authority issues, by settings and profiles: made once at the start, asked for each request. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config.profile_schema import NamedProfile
from config.schema import Settings
from services.ca.messages import Refusal
from services.ca.policy.names import NamePolicy
from services.ca.policy.profile import Lifetimes, Profile
from services.ca.status.urls import StatusUrls, urls_of
from services.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be issued, and where its status will be published. `policy` holds for every profile."""

    default_profile: str
    profiles: Mapping[str, Profile]
    policy: NamePolicy
    status: StatusUrls
    crl_partitions: int

    @classmethod
    def of(cls, settings: Settings, documents: Mapping[str, NamedProfile]) -> Rules:
        """Raises ConfigurationError for a name in settings or profiles that is none."""
        ca = settings.ca
        limits = Lifetimes(ca.default_validity, ca.max_validity, ca.backdate)
        try:
            policy = NamePolicy.of(ca.allowed_names, ca.denied_names)
        except ValueError as error:
            raise ConfigurationError(f"ca.allowed_names or ca.denied_names: {error}") from error
        profiles: dict[str, Profile] = {}
        for name in sorted(documents):
            try:
                profiles[name] = Profile.of(documents[name], limits)
            except ValueError as error:
                raise ConfigurationError(f"{documents[name].place}: {error}") from error
        return cls(ca.default_profile, profiles, policy, urls_of(settings), ca.crl_partitions)

    def profile(self, name: str | None) -> Profile:
        """The profile of this name; None means the default one. Raises Refusal("unknown-profile")."""
        chosen = self.profiles.get(self.default_profile if name is None else name)
        if chosen is None:
            detail = f"there is no profile {str(name)[:64]!r}; known: {', '.join(self.profiles)}"
            raise Refusal("unknown-profile", "profile", detail)
        return chosen
