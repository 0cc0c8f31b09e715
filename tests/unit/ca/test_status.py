"""Certificate status as a service: what revoking promises, what lists and OCSP answers say, what a restart keeps."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from services import der
from services.ca.messages import Refusal
from services.ca.serials import serial_text
from services.ca.status import crl, ocsp, revocation
from services.ca.status.messages import (
    MAX_CRL_PART_OCTETS,
    CrlDocument,
    GetCrl,
    GetIssuerCertificate,
    OcspQuery,
    RevocationProof,
)
from services.errors import ProbeFailed, StorageUnavailable
from tests.unit.ca.applicants import p256_key
from tests.unit.ca.authorities import NOW, hierarchy_of
from tests.unit.ca.statuses import CALL, FULL_DAY, StatusHost, on_status, response


def failing(detail: str = "the disk is full") -> Callable[..., Awaitable[Any]]:
    async def fail(*_: object) -> Any:
        raise StorageUnavailable(detail)

    return fail


async def document(host: StatusHost, serial: int) -> CrlDocument:
    place = host.authorities.partition(serial, None)
    return await host.service.crl(GetCrl(issuer=host.issuer, partition=place), CALL)


async def refused(call: Awaitable[object]) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as caught:
        await call
    return caught.value.kind, caught.value.field


def test_a_revoked_certificate_is_on_the_list_and_revoked_over_ocsp_when_the_revocation_is_acknowledged(
    tmp_path: Path,
) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        assert [await host.status(serial, digest) for digest in range(4)] == ["good"] * 4
        revoked = await host.revoke(serial, "keyCompromise")
        assert (revoked.serial, revoked.revoked_at, revoked.reason) == (serial_text(serial), NOW, "keyCompromise")
        found = await document(host, serial)
        assert found.number == revoked.crl_number
        (entry,) = crl.entries(found.der)
        assert entry == crl.Entry(serial, NOW, "keyCompromise")
        assert host.listed() == {serial}
        for digest in range(4):
            assert await host.status(serial, digest) == "revoked"
            answer = response(await host.ask(serial, digest))
            assert answer.revocation_reason is x509.ReasonFlags.key_compromise
            assert answer.revocation_time_utc is not None
            assert answer.revocation_time_utc.timestamp() == NOW
        assert host.metrics.counter("trustchain_ca_revocations_total", reason="keyCompromise").value == 1

    on_status(tmp_path, test)


def test_an_unspecified_reason_is_said_by_saying_nothing(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        await host.revoke(serial)
        assert response(await host.ask(serial)).revocation_reason is None
        (entry,) = crl.parsed((await document(host, serial)).der)
        assert list(entry.extensions) == []

    on_status(tmp_path, test)


def test_a_second_revocation_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        await host.revoke(serial, "superseded")
        host.now += 10
        with pytest.raises(Refusal, match=r"at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, reason: superseded") as again:
            await host.revoke(serial, "keyCompromise")
        assert (again.value.kind, again.value.field) == ("already-revoked", "serial")
        found = host.storage.revocation(serial_text(serial))
        assert found is not None
        assert (found.reason, found.revoked_at) == ("superseded", NOW)

    on_status(tmp_path, test)


def test_a_call_that_is_sent_again_gets_the_answer_that_was_lost(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        first = await host.revoke(serial, trace="00-one")
        again = await host.revoke(serial, trace="00-one")
        assert (again.revoked_at, again.reason) == (first.revoked_at, first.reason)
        assert await refused(host.revoke(serial, trace="00-other")) == ("already-revoked", "serial")

    on_status(tmp_path, test)


def test_what_is_not_on_record_cannot_be_revoked_and_is_unknown(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        assert await refused(host.revoke(2**127 + 5)) == ("not-found", "serial")
        assert await host.status(2**127 + 5) == "unknown"
        answer = await host.ask(2**127 + 5)
        assert answer.next_update <= host.now + 300, "it may be issued tomorrow"
        assert len(host.service._cache) == 0

    on_status(tmp_path, test)


def test_a_reserved_serial_number_counts_as_issued_and_can_be_revoked(tmp_path: Path) -> None:
    """A precertificate may exist under it (RFC 6962, section 3.1)."""

    async def test(host: StatusHost) -> None:
        serial = 2**127 + 7
        await host.record.reserve(host.reserved(serial))
        assert await host.status(serial) == "good"
        await host.revoke(serial)
        assert await host.status(serial) == "revoked"
        assert host.listed() == {serial}

    on_status(tmp_path, test)


def test_an_owner_revokes_with_the_key_of_the_certificate(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue(p256_key())
        message = revocation.signed_request(serial_text(serial), "keyCompromise", NOW)
        good = p256_key().sign(message, ec.ECDSA(hashes.SHA256()))
        other = ec.generate_private_key(ec.SECP256R1()).sign(message, ec.ECDSA(hashes.SHA256()))
        wrong = await refused(host.revoke(serial, "keyCompromise", RevocationProof(signed_at=NOW, signature=other)))
        assert wrong == ("unauthorized-revocation", "signature")
        proof = RevocationProof(signed_at=NOW, signature=good)
        assert await refused(host.revoke(serial, "superseded", proof)) == ("unauthorized-revocation", "signature")
        assert host.storage.revocation(serial_text(serial)) is None
        assert (await host.revoke(serial, "keyCompromise", proof)).reason == "keyCompromise"

    on_status(tmp_path, test)


def test_an_intermediate_is_revoked_on_the_list_of_its_root(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = host.hierarchy.issuer.certificate.serial_number
        revoked = await host.revoke(serial, "cACompromise")
        found = await host.service.crl(GetCrl(issuer=host.root, partition=0), CALL)
        assert found.number == revoked.crl_number
        published, _ = crl.read(found.der, host.hierarchy.root)
        assert crl.entries(published.der) == [crl.Entry(serial, NOW, "cACompromise")]
        point = crl.parsed(found.der).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert point.critical
        assert (point.value.only_contains_ca_certs, point.value.full_name) == (True, None)

    on_status(tmp_path, test)


def test_ca_compromise_is_no_reason_for_a_leaf(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        for reason in ("cACompromise", "certificateHold", "removeFromCRL", "aACompromise", "", "KEYCOMPROMISE"):
            assert await refused(host.revoke(serial, reason)) == ("bad-reason", "reason")
        assert await host.status(serial) == "good"

    on_status(tmp_path, test)


def test_answers_are_signed_once_and_given_until_half_of_their_time(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        first = await host.ask(serial)
        host.now += FULL_DAY // 4 - 1
        assert await host.ask(serial) == first
        host.now += 1
        second = await host.ask(serial)
        assert second.this_update > first.this_update
        assert second.next_update == host.now + FULL_DAY // 2
        assert host.metrics.counter("trustchain_ca_ocsp_cache_hits_total").value == 1
        assert host.metrics.counter("trustchain_ca_ocsp_answers_total", status="good").value == 3

    on_status(tmp_path, test)


def test_answers_that_are_asked_for_are_signed_ahead(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serials = [await host.issue() for _ in range(3)]
        for serial in serials:
            await host.ask(serial)
        await host.ask(serials[0])
        host.now += FULL_DAY // 4 - 60
        await host.service._sign_ahead()
        ahead = await host.ask(serials[0])
        assert ahead.this_update == host.now - 60
        assert (await host.ask(serials[1])).this_update == NOW - 60

    on_status(tmp_path, test)


def test_what_is_no_ocsp_request_gets_the_error_that_the_rfc_gives(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        async def answered(request: bytes) -> OCSPResponseStatus:
            answer = await host.service.ocsp(OcspQuery(request=request), CALL)
            assert (answer.this_update, answer.next_update, answer.produced_at) == (0, 0, 0)
            return response(answer).response_status

        assert await answered(b"") is OCSPResponseStatus.MALFORMED_REQUEST
        assert await answered(b"\x30\x03\x02\x01\x00") is OCSPResponseStatus.MALFORMED_REQUEST
        assert await answered(host.request(5) + b"\0" * 5000) is OCSPResponseStatus.MALFORMED_REQUEST
        of_the_root = ocsp.request_for(ocsp.hashes_of(host.hierarchy.root)[0], 5)
        assert await answered(of_the_root) is OCSPResponseStatus.UNAUTHORIZED
        counted = host.metrics.counter("trustchain_ca_ocsp_answers_total", status="malformed_request").value
        assert counted == 3

    on_status(tmp_path, test)


def test_without_room_for_a_responder_who_asks_is_told_to_try_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        await host.service.probe()
        host.service._responders._current.clear()
        with monkeypatch.context() as patch:
            patch.setattr(host.storage, "reserve_responder", failing())
            assert response(await host.ask(serial)).response_status is OCSPResponseStatus.TRY_LATER
        assert await host.status(serial) == "good"

    on_status(tmp_path, test)


def test_a_responder_is_on_record_before_it_answers_and_is_renewed_in_time(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        (first,) = response(await host.ask(serial)).certificates
        assert host.storage.status([host.issuer], serial_text(first.serial_number)).outcome == "good"
        assert host.storage.on_record(serial_text(first.serial_number)) is None, "nobody can revoke it"
        lasts = first.not_valid_after_utc.timestamp() - NOW
        assert lasts == 3 * FULL_DAY
        host.now += int(lasts) - FULL_DAY - 1
        await host.service._responders.renew()
        assert response(await host.ask(serial)).certificates == [first]
        host.now += 2
        await host.service._responders.renew()
        (second,) = response(await host.ask(serial + 1)).certificates
        assert second != first

    on_status(tmp_path, test)


def test_an_answer_never_outlives_its_responder(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        answer = await host.ask(serial)
        (signer,) = response(answer).certificates
        assert answer.next_update <= signer.not_valid_after_utc.timestamp()

    on_status(tmp_path, test, ocsp_validity=2_592_000)


def test_a_revocation_that_is_not_durable_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        with monkeypatch.context() as patch:
            patch.setattr(host.storage, "revoke", failing())
            with pytest.raises(StorageUnavailable):
                await host.revoke(serial)
        assert await host.status(serial) == "good"
        assert host.listed() == set()
        await host.revoke(serial)
        assert await host.status(serial) == "revoked"

    on_status(tmp_path, test)


def test_a_revocation_is_acknowledged_without_a_number_while_its_list_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        before = await document(host, serial)
        with monkeypatch.context() as patch:
            patch.setattr(host.storage, "store_crl", failing())
            assert (await host.revoke(serial)).crl_number is None
            assert await document(host, serial) == before, "what is not stored is not published"
            assert await host.status(serial) == "revoked"
        await host.service._renew_lists({})
        assert host.listed() == {serial}
        assert host.publication.trouble() is None

    on_status(tmp_path, test)


def test_a_list_that_cannot_be_written_as_a_file_is_served_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()

        def refuse(*_: object) -> None:
            raise StorageUnavailable("read-only")

        with monkeypatch.context() as patch:
            patch.setattr(host.files, "publish", refuse)
            revoked = await host.revoke(serial)
        assert (await document(host, serial)).number == revoked.crl_number
        assert host.listed() == set()
        await host.publication.write_files()
        assert host.listed() == {serial}

    on_status(tmp_path, test)


def test_many_revocations_at_once_sign_few_lists(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serials = [await host.issue() for _ in range(40)]
        signed = host.metrics.histogram("trustchain_ca_crl_sign_seconds")
        before = signed.value.count
        answers = await asyncio.gather(*(host.revoke(serial) for serial in serials))
        assert signed.value.count - before <= 4
        for serial, answer in zip(serials, answers, strict=True):
            found = await document(host, serial)
            assert answer.crl_number is not None
            assert found.number >= answer.crl_number
        assert host.listed() == set(serials)

    on_status(tmp_path, test, crl_partitions=1)


def test_lists_are_renewed_when_they_are_aged_and_their_numbers_only_go_forward(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        first = await document(host, 2**127)
        assert (first.this_update, first.next_update) == (NOW - 60, NOW + FULL_DAY)
        host.now += FULL_DAY // 2 - 1
        await host.service._renew_lists({})
        assert await document(host, 2**127) == first
        host.now += 1
        await host.service._renew_lists({})
        second = await document(host, 2**127)
        assert second.number > first.number
        assert second.next_update == host.now + FULL_DAY
        host.now -= FULL_DAY
        await host.service._renew_lists({})
        third = await document(host, 2**127)
        assert third.number > second.number, "also when the clock goes back"
        assert third.this_update == host.now - 60

    on_status(tmp_path, test)


def test_an_expired_certificate_leaves_the_list_only_after_it_was_on_one_that_is_later(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue(not_after=NOW + 1000)
        await host.revoke(serial)
        steps = []
        for seconds in (1001, 200, 200):
            host.now += seconds
            await host.publication.renew([(host.issuer, host.authorities.partition(serial, None))])
            steps.append(host.listed() == {serial})
        assert steps == [True, True, False]

    on_status(tmp_path, test)


def test_a_clock_that_was_ahead_for_a_while_takes_no_valid_certificate_off_the_list(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serials = [await host.issue(not_after=NOW + 10 * FULL_DAY) for _ in range(2)]
        await host.revoke(serials[0])
        for _ in range(2):
            host.now += 30 * FULL_DAY
            await host.service._renew_lists({})
        host.now = NOW + 3600
        revoked = await host.revoke(serials[1])
        assert revoked.crl_number is not None
        assert host.listed() == set(serials)

    on_status(tmp_path, test, crl_partitions=1)


def test_lists_and_revocations_are_there_after_a_restart_and_nothing_is_signed_anew(tmp_path: Path) -> None:
    async def first(host: StatusHost) -> None:
        serials.append(await host.issue())
        await host.revoke(serials[0], "superseded")
        numbers.append((await document(host, serials[0])).number)

    async def second(host: StatusHost) -> None:
        assert (await document(host, serials[0])).number == numbers[0]
        assert await host.status(serials[0]) == "revoked"
        assert host.metrics.histogram("trustchain_ca_crl_sign_seconds").value.count == 0

    serials: list[int] = []
    numbers: list[int] = []
    on_status(tmp_path, first)
    on_status(tmp_path, second)


def test_a_restored_backup_does_not_undo_a_revocation(tmp_path: Path) -> None:
    serials: list[int] = []
    numbers: list[int] = []

    async def before_backup(host: StatusHost) -> None:
        serials.append(await host.issue())

    async def after_backup(host: StatusHost) -> None:
        serials.append(await host.issue())
        numbers.extend([(await host.revoke(serial, "keyCompromise")).crl_number or 0 for serial in serials])

    async def restored(host: StatusHost) -> None:
        for serial, number in zip(serials, numbers, strict=True):
            assert await host.status(serial) == "revoked"
            found = host.storage.revocation(serial_text(serial))
            assert found is not None
            assert (found.revoked_at, found.reason) == (NOW, "keyCompromise")
            assert (await document(host, serial)).number > number
        assert host.listed() == set(serials)
        taken = sum(values["count"] for values in host.log.of(TAKEN_OVER))
        assert taken == 2
        assert host.metrics.counter("trustchain_ca_revocations_taken_over_total").value == 2

    data = tmp_path / "data"
    on_status(data, before_backup)
    shutil.copytree(data, tmp_path / "backup")
    on_status(data, after_backup)
    for name in ("certificates.db", "certificates.db-wal", "certificates.db-shm"):
        (data / "ca" / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup" / "ca" / "certificates.db", data / "ca" / "certificates.db")
    on_status(data, restored)


TAKEN_OVER = "revocations that the record did not know were taken over from a published list"


def test_a_newer_list_that_an_operator_puts_into_the_directory_counts(tmp_path: Path) -> None:
    """One fetched from wherever it was published: also as PEM, under any name."""
    serials: list[int] = []

    async def elsewhere(host: StatusHost) -> None:
        serials.append(await host.issue())
        await host.revoke(serials[0])

    async def here(host: StatusHost) -> None:
        assert await host.status(serials[0]) == "revoked"

    host = on_status(tmp_path / "elsewhere", elsewhere)
    (source,) = (path for path in host.files.directory.glob(f"{host.issuer}-*") if crl.entries(path.read_bytes()))
    target = tmp_path / "here" / "ca" / "crl" / "fetched.crl"
    target.parent.mkdir(parents=True)
    target.write_bytes(crl.parsed(source.read_bytes()).public_bytes(serialization.Encoding.PEM))
    on_status(tmp_path / "here", here)


def test_files_that_are_no_lists_of_ours_are_named_in_the_log_and_left_alone(tmp_path: Path) -> None:
    async def nothing(host: StatusHost) -> None:
        pass

    foreign = on_status(tmp_path / "foreign", nothing, hierarchy_of("ed25519"))
    directory = tmp_path / "here" / "ca" / "crl"
    directory.mkdir(parents=True)
    shutil.copy(next(foreign.files.directory.glob("*.crl")), directory / "foreign.crl")
    (directory / "garbage.crl").write_bytes(b"garbage")
    (directory / "directory.crl").mkdir()
    host = on_status(tmp_path / "here", nothing)
    named = {Path(values["path"]).name for values in host.log.of("a revocation list is not looked at")}
    assert named == {"foreign.crl", "garbage.crl", "directory.crl"}
    assert (directory / "garbage.crl").read_bytes() == b"garbage"


def test_a_list_with_a_forged_signature_revokes_nothing(tmp_path: Path) -> None:
    serials: list[int] = []

    async def first(host: StatusHost) -> None:
        serials.append(await host.issue())
        await host.revoke(serials[0])

    async def second(host: StatusHost) -> None:
        assert await host.status(serials[0]) == "unknown"

    host = on_status(tmp_path / "elsewhere", first)
    (source,) = (path for path in host.files.directory.glob(f"{host.issuer}-*") if crl.entries(path.read_bytes()))
    forged = source.read_bytes().replace(serials[0].to_bytes(16, "big"), (serials[0] ^ 1).to_bytes(16, "big"))
    assert forged != source.read_bytes()
    target = tmp_path / "here" / "ca" / "crl" / "forged.crl"
    target.parent.mkdir(parents=True)
    target.write_bytes(forged)
    on_status(tmp_path / "here", second)


def test_a_large_list_is_given_in_parts_that_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        await host.revoke(serial)
        whole = await document(host, serial)
        parts = b""
        while len(parts) < whole.size:
            asked = GetCrl(issuer=host.issuer, partition=host.authorities.partition(serial, None), offset=len(parts))
            part = await host.service.crl(asked, CALL)
            assert (part.number, part.size) == (whole.number, whole.size)
            assert 0 < len(part.der) <= 100
            parts += part.der
        crl.read(parts, host.hierarchy.issuer.certificate)

    assert MAX_CRL_PART_OCTETS < 1_000_000
    monkeypatch.setattr("services.ca.status.server.MAX_CRL_PART_OCTETS", 100)
    on_status(tmp_path, test)


def test_issuer_certificates_are_given_by_serial_number(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        for name, certificate in (
            (host.issuer, host.hierarchy.issuer.certificate),
            (host.root, host.hierarchy.root),
        ):
            given = await host.service.issuer_certificate(GetIssuerCertificate(issuer=name), CALL)
            assert x509.load_der_x509_certificate(given.der) == certificate
        asked = GetIssuerCertificate(issuer="00")
        assert await refused(host.service.issuer_certificate(asked, CALL)) == ("not-found", "issuer")
        assert await refused(host.service.crl(GetCrl(issuer="00", partition=0), CALL)) == ("not-found", "issuer")

    on_status(tmp_path, test)


def test_the_probe_renews_what_is_overdue_and_fails_only_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: StatusHost) -> None:
        await host.service.probe()
        host.now += 2 * FULL_DAY
        await host.service.probe()
        host.now += 2 * FULL_DAY
        with monkeypatch.context() as patch:
            patch.setattr(host.storage, "store_crl", failing())
            with pytest.raises(ProbeFailed, match=r"overdue: .*the disk is full") as caught:
                await host.service.probe()
        assert caught.value.cause == "environment"
        await host.service.probe()
        with monkeypatch.context() as patch:
            patch.setattr(crl, "sign", lambda *_: 1 // 0)
            host.now += 2 * FULL_DAY
            with pytest.raises(ProbeFailed, match="overdue") as caught:
                await host.service.probe()
        assert caught.value.cause == "own"

    on_status(tmp_path, test)


def test_the_probe_finds_an_answer_that_does_not_verify(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        await host.service.probe()
        other = hierarchy_of("ed25519").issuer
        certificate = ocsp.sign_responder(other, p256_key(), 5, other.validity)
        host.service._responders._current[host.issuer] = ocsp.Responder(certificate, p256_key())
        with pytest.raises(ProbeFailed, match="OCSP answer does not verify") as caught:
            await host.service.probe()
        assert caught.value.cause == "own"

    on_status(tmp_path, test)


def test_metrics_tell_numbers_and_ends(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        await host.service.probe()
        assert host.metrics.gauge("trustchain_ca_crl_number").value == NOW * 1000
        assert host.metrics.gauge("trustchain_ca_crl_next_update_seconds").value == NOW + FULL_DAY
        assert host.metrics.gauge("trustchain_ca_ocsp_responder_not_after_seconds").value == NOW + 3 * FULL_DAY
        assert host.metrics.counter("trustchain_ca_crls_total", result="ok").value == 9

    on_status(tmp_path, test)


def test_the_answers_status_is_the_one_of_the_protocol(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        answer = response(await host.ask(serial))
        assert answer.certificate_status is OCSPCertStatus.GOOD
        assert answer.responder_key_hash is not None, "the responder is named by its key"
        assert answer.next_update_utc is not None
        signer = answer.certificates[0]
        signer.extensions.get_extension_for_class(x509.OCSPNoCheck)

    on_status(tmp_path, test)


def together(host: StatusHost, *serials: int) -> bytes:
    """One request about several certificates of the issuer."""
    single = [der.parse(host.request(serial)).children[0].children[0].value for serial in serials]
    return der.encode(0x30, der.encode(0x30, der.encode(0x30, b"".join(single))))


def test_several_questions_get_one_answer_about_all(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        good, revoked = await host.issue(), await host.issue()
        await host.revoke(revoked, "superseded")
        answer = await host.service.ocsp(OcspQuery(request=together(host, good, revoked, 5)), CALL)
        told = [(one.serial_number, one.certificate_status.name) for one in response(answer).responses]
        assert told == [(good, "GOOD"), (revoked, "REVOKED"), (5, "UNKNOWN")]
        assert answer.next_update == NOW + 300, "one of them may be issued tomorrow"
        assert host.metrics.counter("trustchain_ca_ocsp_answers_total", status="revoked").value == 1
        assert len(host.service._cache) == 0

    on_status(tmp_path, test)


def test_questions_about_several_issuers_get_no_answer_that_one_of_them_could_not_sign(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        ours = der.parse(host.request(5)).children[0].children[0].value
        of_root = ocsp.request_for(ocsp.hashes_of(host.hierarchy.root)[0], 5)
        theirs = der.parse(of_root).children[0].children[0].value
        both = der.encode(0x30, der.encode(0x30, der.encode(0x30, ours + theirs)))
        answer = await host.service.ocsp(OcspQuery(request=both), CALL)
        assert response(answer).response_status is OCSPResponseStatus.UNAUTHORIZED

    on_status(tmp_path, test)


def test_an_issuer_that_has_expired_answers_nobody_and_its_lists_are_not_overdue(tmp_path: Path) -> None:
    async def test(host: StatusHost) -> None:
        serial = await host.issue()
        await host.ask(serial)
        host.now = int(host.hierarchy.issuer.certificate.not_valid_after_utc.timestamp()) + 1
        assert response(await host.ask(serial)).response_status is OCSPResponseStatus.UNAUTHORIZED
        await host.service.probe()

    on_status(tmp_path, test)
