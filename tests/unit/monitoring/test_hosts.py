"""Which Host fields mean this host."""

import pytest

from monitoring.hosts import OwnNames

NAMES = OwnNames("Trust.Example", ("ca1", "", "Monitor.Example.net"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9090", "10.1.2.3:9090", "[::1]", "[::1]:9090", "::1", "localhost", "localhost:9090",
     "LOCALHOST.", "trust.localhost", "trust.example", "api.trust.example:9090", "ca1", "CA1:9090",
     "monitor.example.net"],
)  # fmt: skip
def test_addresses_localhost_and_own_names_mean_this_host(host: str) -> None:
    assert NAMES.include(host)


@pytest.mark.parametrize(
    "host",
    ["", ".", ":9090", "evil.example", "evil.example:9090", "localhost.evil.example", "evillocalhost",
     "trust.example.evil", "eviltrust.example", "x.ca1", "x.monitor.example.net", "127.0.0.1.evil.example",
     "[evil.example]", "2130706433x"],
)  # fmt: skip
def test_any_other_name_does_not(host: str) -> None:
    assert not NAMES.include(host)


def test_the_names_are_told_without_repetition() -> None:
    assert str(OwnNames("trust.localhost", ("localhost", "ca1"))) == "localhost, trust.localhost, ca1"
