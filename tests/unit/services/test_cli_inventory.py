"""`trustchain inventory`, `trustchain expiry` and the filters of `trustchain certs`, as they read."""

from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from services import cli, cli_inventory
from services.ca.inventory.messages import (
    Expiring,
    ExpiryItem,
    ExpiryReport,
    InventorySummary,
    IssuedDay,
    RecordSize,
    Tally,
)
from services.ca.messages import Certificate, CertificatePage
from services.cli import _parameters
from services.cli_duration import seconds_of, shown_span

NOW = 1_800_000_000
DAY = 86_400
SUMMARY = InventorySummary(
    certificates=12,
    valid=10,
    expired=2,
    revoked=1,
    unfinished=0,
    profiles=[Tally(value="tls-server", certificates=12)],
    issuers=[Tally(value="0a", certificates=12)],
    requesters=[Tally(value="\x1b[31malice", certificates=12)],
    expiring=[Expiring(within_seconds=3_600, certificates=3, unrenewed=1)],
    issued=[IssuedDay(day=NOW // DAY * DAY, certificates=12)],
    record=RecordSize(
        octets=3 << 20,
        unused_octets=0,
        disk_free_octets=50 << 20,
        rows_per_day=12.0,
        octets_per_day=float(1 << 20),
        full_at=NOW + 50 * DAY,
    ),
    retention_days=30,
    deleted=5,
    complete_from=NOW,
)
CRL = ExpiryItem(kind="crl", name="0a/0", serial=None, not_after=NOW, renew_at=NOW - 60, state="due")
LEAF = ExpiryItem(kind="leaf", name="host.example", serial="0b", not_after=NOW, renew_at=NOW - 60, state="expired")


class Api:
    """Answers everything with one reply and remembers what it was asked."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, _settings: object) -> "Api":
        return self

    def get(self, path: str, _reply_type: type, parameters: dict[str, Any]) -> Any:
        self.asked.append((path, dict(parameters)))
        return self.reply


def run(command: click.Command, api: Api, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(cli_inventory, "ApiClient", api)
    monkeypatch.setattr(cli, "ApiClient", api)
    return CliRunner().invoke(command, [*arguments, "--data-dir", "/nowhere"])


def test_the_inventory_reads_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli_inventory.time.time", lambda: float(NOW))
    api = Api(SUMMARY)
    result = run(cli_inventory.inventory, api, monkeypatch, "--top", "7")
    assert result.exit_code == 0, result.output
    assert api.asked == [("/v1/inventory", {"top": 7})]
    assert result.output.splitlines() == [
        "certificates  12: 10 valid, 2 expired; 1 revoked; 0 unfinished",
        "expiring      within 1 h    3, 1 not renewed",
        "profile             12  tls-server",
        "issuer              12  0a",
        r"requester           12  \x1b[31malice",
        "issued        2027-01-15    12",
        "record        3.0 MiB, +1.00 MiB a day; 50 MiB of the disk are free, for 50 d",
        "retention     kept 30 d after they expire; 5 deleted, complete for what ends from 2027-01-15T08:00:00Z on",
    ]


def test_the_inventory_as_json_is_the_reply_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(cli_inventory.inventory, Api(SUMMARY), monkeypatch, "--json")
    assert '"certificates": 12' in result.output
    assert '"full_at": 1804320000' in result.output


def test_the_radar_reads_as_lines_and_leaves_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(ExpiryReport(items=[CRL], leaves=[LEAF], more=False))
    result = run(cli_inventory.expiry, api, monkeypatch, "--within", "12h", "--limit", "3")
    assert result.exit_code == 0, result.output
    assert api.asked == [("/v1/expiry", {"within": 43_200, "limit": 3})]
    assert result.output.splitlines() == [
        "due       crl           ends 2027-01-15T08:00:00Z  renew 2027-01-15T07:59:00Z  0a/0",
        "expired   leaf          ends 2027-01-15T08:00:00Z  renew 2027-01-15T07:59:00Z  host.example",
    ]


@pytest.mark.parametrize(
    ("item", "exit_code"),
    [
        (CRL, 0),
        (replace(CRL, state="overdue"), 1),
        (replace(CRL, state="expired"), 1),
        (replace(CRL, state="expired", renew_at=None), 0),
    ],
)
def test_what_should_have_been_renewed_gives_a_cron_job_its_exit_code(
    item: ExpiryItem, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ((), ("--json",)):
        api = Api(ExpiryReport(items=[item], leaves=[LEAF], more=False))
        assert run(cli_inventory.expiry, api, monkeypatch, *form).exit_code == exit_code


def test_more_leaves_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(cli_inventory.expiry, Api(ExpiryReport(items=[], leaves=[], more=True)), monkeypatch)
    assert "perhaps more" in result.stderr


def test_the_filters_of_a_list_become_parameters() -> None:
    options: dict[str, str | int | None] = {"name": None, "search": "example", "requester": "bob"}
    assert _parameters(options, NOW) == {"search": "example", "requester": "bob"}
    assert _parameters({"expires_within": 60}, NOW) == {"expires_after": NOW, "expires_before": NOW + 61}
    assert _parameters({"issued_within": 60}, NOW) == {"issued_after": NOW - 60}
    assert _parameters({"issued_within": 0, "expires_within": None}, NOW) == {"issued_after": NOW}


def test_the_options_of_certs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.time.time", lambda: float(NOW))
    empty: list[Certificate] = []
    api = Api(CertificatePage(certificates=empty, next_cursor=None))
    options = ("--search", "b.example", "--issuer", "0a", "--status", "revoked", "--expires-within", "1d")
    assert run(cli.certs, api, monkeypatch, *options).exit_code == 0
    (asked,) = api.asked
    assert asked == (
        "/v1/certificates",
        {
            "search": "b.example",
            "issuer": "0a",
            "status": "revoked",
            "expires_after": NOW,
            "expires_before": NOW + DAY + 1,
            "limit": 50,
        },
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_span_of_time(text: str, seconds: int) -> None:
    assert seconds_of(text, 10**7) == seconds


@pytest.mark.parametrize("text", ["", "d", "7 d", "-1d", "1.5h", "7y", "٧d", "1" * 10, "116d"])
def test_what_is_no_span_of_time_is_a_bad_parameter(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a span of time|is more than 115 days"):
        seconds_of(text, 10**7)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7_200, "2 h"), (90_000, "1 d")]
)
def test_a_span_of_time_as_people_read_it(seconds: int, text: str) -> None:
    assert shown_span(seconds) == text
