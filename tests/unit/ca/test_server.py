"""The authority's methods: what is on record at which step, and what callers are told."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.issuance import signing
from services.ca.issuance.certification import Logged
from services.ca.keys.signing_keys import SigningKey
from services.ca.messages import GetCertificate, GetRoots, ListCertificates, Refusal
from services.errors import (
    ConfigurationError,
    ProbeFailed,
    StorageUnavailable,
    Unavailable,
)
from tests.unit.ca.authorities import NOW, asked, hierarchy_of, rules
from tests.unit.ca.hosts import CALL, CSR, Host, failing, on_host


def test_what_is_issued_can_be_got_listed_and_verified(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        issued = await host.authority.issue(asked(CSR), CALL)
        leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
        (intermediate,) = (x509.load_pem_x509_certificate(text.encode()) for text in issued.chain)
        roots = await host.authority.roots(GetRoots(), CALL)
        leaf.verify_directly_issued_by(intermediate)
        intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(roots.certificates[0].encode()))
        assert issued.serial == f"{leaf.serial_number:032x}"
        assert (issued.not_before, issued.not_after, issued.issued_at) == (NOW - 60, NOW + 86_400, NOW)
        assert (issued.subject, issued.names, issued.status) == ("CN=host.example", ["host.example"], "valid")
        assert await host.authority.get(GetCertificate(serial=issued.serial), CALL) == issued
        page = await host.authority.list(ListCertificates(name="host.example"), CALL)
        assert (page.certificates, page.next_cursor) == ([issued], None)

    on_host(tmp_path, test)


def test_issuing_counts_times_and_logs(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        issued = await host.authority.issue(asked(CSR, "tls-client", requester="somebody"), CALL)
        counted = host.metrics.counter("trustchain_ca_certificates_issued_total", profile="tls-client").value
        assert (host.requests("ok"), counted) == (1, 1)
        (values,) = host.log.of("issued")
        assert (values["serial"], values["requester"]) == (issued.serial, "somebody")

    on_host(tmp_path, test)


def test_the_serial_number_is_on_record_before_anything_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: Host) -> None:
        sign = signing.certificate
        seen: list[list[tuple[str, str]]] = []

        def spying(tbs: bytes, private_key: SigningKey) -> bytes:
            seen.append(
                host.storage._database.lookup(
                    lambda connection: connection.execute("SELECT serial, state FROM certificates").fetchall()
                )
            )
            return sign(tbs, private_key)

        monkeypatch.setattr(signing, "certificate", spying)
        issued = await host.authority.issue(asked(CSR), CALL)
        assert seen == [[(issued.serial, "reserved")]] * 2

    on_host(tmp_path, test)


def test_a_refused_request_stores_nothing_and_is_counted_by_kind(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        with pytest.raises(Refusal):
            await host.authority.issue(asked(b"no request"), CALL)
        with pytest.raises(Refusal):
            await host.authority.issue(asked(CSR, "code-signing"), CALL)
        assert await host.storage.is_empty()
        assert (host.requests("rejected"), host.requests("error")) == (2, 0)
        assert (host.refusals("malformed"), host.refusals("unknown-profile")) == (1, 1)

    on_host(tmp_path, test)


def test_without_a_durable_serial_number_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: Host) -> None:
        monkeypatch.setattr(host.storage, "reserve", failing("the disk is full"))
        monkeypatch.setattr(signing, "certificate", lambda *_: pytest.fail("signed"))
        with pytest.raises(StorageUnavailable, match="the disk is full"):
            await host.authority.issue(asked(CSR), CALL)
        assert host.requests("error") == 1

    on_host(tmp_path, test)


def test_a_certificate_that_is_not_durable_is_given_to_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: Host) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(host.storage, "store", failing("the disk is full"))
            with pytest.raises(StorageUnavailable) as caught:
                await host.authority.issue(asked(CSR), CALL)
        assert caught.value.retryable
        assert (await host.authority.list(ListCertificates(), CALL)).certificates == []
        assert host.storage.unfinished() == 1
        assert host.metrics.gauge("trustchain_ca_unfinished_serials").value == 1
        await host.authority.issue(asked(CSR), CALL)
        assert host.metrics.gauge("trustchain_ca_unfinished_serials").value == 1

    on_host(tmp_path, test)


def test_what_was_signed_gets_on_record_although_its_caller_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: Host) -> None:
        store, reached, go_on = host.storage.store, asyncio.Event(), asyncio.Event()

        async def slow(row: int, certificate: bytes, issued_at: int, logged: Logged | None) -> None:
            reached.set()
            await go_on.wait()
            await store(row, certificate, issued_at, logged)

        monkeypatch.setattr(host.storage, "store", slow)
        call = asyncio.ensure_future(host.authority.issue(asked(CSR), CALL))
        await reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()
        await host.authority.finish()
        assert len((await host.authority.list(ListCertificates(), CALL)).certificates) == 1
        assert host.storage.unfinished() == 0

    on_host(tmp_path, test)


def test_serial_numbers_left_by_a_crash_are_shown_at_the_next_start(tmp_path: Path) -> None:
    async def crash(host: Host) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host.storage, "store", failing("gone"))
            with pytest.raises(StorageUnavailable):
                await host.authority.issue(asked(CSR), CALL)

    async def after(host: Host) -> None:
        assert host.metrics.gauge("trustchain_ca_unfinished_serials").value == 1
        assert host.log.of("serial numbers are on record without a certificate") == [{"count": 1}]

    on_host(tmp_path, crash)
    on_host(tmp_path, after)


def test_the_status_changes_after_the_last_valid_second(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        issued = await host.authority.issue(asked(CSR, validity_seconds=100), CALL)
        host.now = NOW + 100
        assert (await host.authority.get(GetCertificate(serial=issued.serial), CALL)).status == "valid"
        host.now = NOW + 101
        assert (await host.authority.get(GetCertificate(serial=issued.serial), CALL)).status == "expired"

    on_host(tmp_path, test)


@pytest.mark.parametrize(("serial", "kind"), [("00ff", "not-found"), ("not hex", "malformed")])
def test_a_serial_number_that_was_not_issued_is_refused(tmp_path: Path, serial: str, kind: str) -> None:
    async def test(host: Host) -> None:
        with pytest.raises(Refusal) as caught:
            await host.authority.get(GetCertificate(serial=serial), CALL)
        assert caught.value.kind == kind
        assert host.refusals(kind) == 1

    on_host(tmp_path, test)


def test_a_bad_cursor_is_refused_and_counted(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        with pytest.raises(Refusal):
            await host.authority.list(ListCertificates(cursor="x"), CALL)
        assert host.refusals("malformed") == 1
        assert host.metrics.counter("trustchain_ca_queries_total", method="list", result="rejected").value == 1

    on_host(tmp_path, test)


@pytest.mark.parametrize(
    ("moment", "text"), [(NOW + 1825 * 86_400 + 1, "expired on 2032"), (NOW - 61, "set the clock")]
)
def test_an_issuer_that_is_not_valid_makes_issuing_unavailable_and_the_probe_says_why(
    tmp_path: Path, moment: int, text: str
) -> None:
    async def test(host: Host) -> None:
        host.now = moment
        with pytest.raises(Unavailable, match=text):
            await host.authority.issue(asked(CSR), CALL)
        with pytest.raises(ProbeFailed, match=text) as caught:
            await host.authority.probe()
        assert caught.value.cause == "environment"

    on_host(tmp_path, test)


def test_the_probe_passes_and_leaves_no_row(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.authority.probe()
        assert await host.storage.is_empty()

    on_host(tmp_path, test)


def test_the_probe_fails_for_its_own_cause_when_signatures_do_not_verify(tmp_path: Path) -> None:
    made = hierarchy_of()
    foreign = ec.generate_private_key(ec.SECP256R1())
    issuer = replace(made.issuer, private_key=foreign)

    async def test(host: Host) -> None:
        with pytest.raises(ProbeFailed, match="does not verify") as caught:
            await host.authority.probe()
        assert caught.value.cause == "own"

    on_host(tmp_path, test, Hierarchy(made.roots, {issuer.id: issuer}))


def test_the_probe_tells_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: Host) -> None:
        monkeypatch.setattr(host.storage, "probe", failing("the disk is full"))
        with pytest.raises(StorageUnavailable):
            await host.authority.probe()

    on_host(tmp_path, test)


def test_the_end_of_the_authoritys_own_certificates_is_shown(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        for title, days in (("root", 3650), ("intermediate", 1825)):
            series = host.metrics.gauge("trustchain_ca_certificate_not_after_seconds", certificate=title)
            assert series.value == NOW + days * 86_400

    on_host(tmp_path, test)


def test_many_requests_at_once_get_different_serial_numbers(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        issued = await asyncio.gather(*(host.authority.issue(asked(CSR), CALL) for _ in range(50)))
        assert len({certificate.serial for certificate in issued}) == 50
        assert len((await host.authority.list(ListCertificates(), CALL)).certificates) == 50

    on_host(tmp_path, test)


def test_settings_that_are_no_names_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="under_score"):
        rules(denied_names=("under_score",))
