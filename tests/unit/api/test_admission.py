"""Three limits: of a token, of what is public, and against guessing; none of them uses up another."""

from pathlib import Path

import pytest

from config.loader import load
from config.schema import Api
from services.api.admission import PROBE, Admission, Caller
from services.api.problems import Problem

SETTINGS = Api(rate_limit=1, rate_burst=3, public_rate=1, public_burst=2, unauthorized_rate=1, unauthorized_burst=1)
ADDRESS = "192.0.2.1"
NOBODY = Caller(ADDRESS)
GUESSING = Caller(ADDRESS, None, True)
HOLDER = Caller(ADDRESS, "administrator", True)


def admitted(admission: Admission, caller: Caller, *, public: bool, times: int = 10) -> int:
    refused = set()
    for count in range(times):
        try:
            admission.admit(caller, public=public, now_ns=0)
        except Problem as problem:
            refused.add((problem.kind, problem.retry_after, count))
    assert {kind_and_wait[:2] for kind_and_wait in refused} <= {("rate-limited", 1)}
    return times - len(refused)


def test_each_kind_of_caller_has_a_limit_of_its_own() -> None:
    admission = Admission(SETTINGS)
    assert admitted(admission, GUESSING, public=True) == 1
    assert admitted(admission, NOBODY, public=True) == 2
    assert admitted(admission, HOLDER, public=True) == 3


@pytest.mark.parametrize(("caller", "public"), [(GUESSING, True), (GUESSING, False), (NOBODY, False)])
def test_a_wrong_token_and_none_where_one_is_needed_count_against_guessing(caller: Caller, public: bool) -> None:
    admission = Admission(SETTINGS)
    assert admitted(admission, caller, public=public) == 1
    assert admitted(admission, GUESSING, public=False) == 0
    assert admitted(admission, NOBODY, public=True) == 2


def test_a_token_counts_wherever_it_is_used() -> None:
    admission = Admission(SETTINGS)
    assert admitted(admission, HOLDER, public=True, times=2) == 2
    assert admitted(admission, HOLDER._replace(address="198.51.100.1"), public=False) == 1


def test_addresses_do_not_share_and_an_ipv6_network_counts_as_one() -> None:
    admission = Admission(SETTINGS)
    assert [admitted(admission, Caller(a), public=True) for a in ("192.0.2.1", "192.0.2.2")] == [2, 2]
    assert [admitted(admission, Caller(a), public=True) for a in ("2001:db8::1", "2001:db8::2")] == [2, 0]


def test_the_probe_is_never_limited() -> None:
    admission = Admission(SETTINGS)
    assert admitted(admission, NOBODY, public=True) == 2
    assert admitted(admission, Caller(ADDRESS, PROBE), public=True, times=100) == 100


def test_a_caller_that_waits_as_told_is_let_in() -> None:
    admission = Admission(SETTINGS)
    assert admitted(admission, NOBODY, public=True) == 2
    admission.admit(NOBODY, public=True, now_ns=1_000_000_000)


def test_by_default_a_monitor_of_the_log_can_read_it_and_guessing_is_slow() -> None:
    api = load(None, None, Path("/srv/tree"), (), {}).settings.api
    admission = Admission(api)
    assert admitted(admission, NOBODY, public=True, times=1000) == 1000
    assert admitted(admission, GUESSING, public=True, times=1000) == 20
