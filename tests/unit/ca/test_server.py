"""The authority's methods: what is on record at which step, and what callers are told."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from monitoring.block import ProbeState
from monitoring.metrics import Metrics
from services.ca import certification, precertificate, signing
from services.ca.certification import Logged
from services.ca.findings import Finding
from services.ca.hierarchy import Hierarchy
from services.ca.messages import (
    GetCertificate,
    GetRoots,
    ListCertificates,
    Refusal,
)
from services.ca.metrics import families
from services.ca.rules import Rules
from services.ca.signing_keys import SigningKey
from services.ca.storage import Storage
from services.ct.messages import SignedCertificateTimestamp
from services.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Internal,
    PeerGone,
    ProbeFailed,
    RemoteError,
    StorageUnavailable,
    Unavailable,
)
from services.probing import finding_of
from services.rpc_server import Call
from tests.rig.fake_log import FakeLog, LogPeer, without_poison
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, asked, authority_over, hierarchy_of, rules
from tests.unit.ca.records import opened

CALL = Call("a method", 2**63, "")
CSR = pem(request(dns("host.example")))


class Log:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    warning = error = info

    def of(self, event: str) -> list[dict[str, Any]]:
        """What was said of each event of this name."""
        return [values for name, values in self.events if name == event]


class Host:
    """One authority with a clock that stands still, and its log with the same clock."""

    def __init__(self, storage: Storage, made: Hierarchy, ruled: Rules) -> None:
        self.now = NOW
        self.storage = storage
        self.log = Log()
        self.metrics = Metrics.in_memory(families(ruled.profiles))
        self.transparency = FakeLog(now=lambda: self.now * 1000)
        self.peer = LogPeer(self.transparency)
        self.authority = authority_over(
            storage, made, self.peer, ruled=ruled, metrics=self.metrics, log=self.log, now=lambda: self.now
        )

    def requests(self, result: str) -> int:
        return self.metrics.counter("trustchain_ca_requests_total", result=result).value

    def refusals(self, kind: str) -> int:
        return self.metrics.counter("trustchain_ca_refusals_total", kind=kind).value


def on_host(
    directory: Path,
    test: Callable[[Host], Awaitable[None]],
    made: Hierarchy | None = None,
    ruled: Rules | None = None,
) -> None:
    async def run() -> None:
        async with opened(directory) as storage:
            host = Host(storage, made or hierarchy_of(), ruled or rules())
            await host.authority.start()
            await test(host)
            await host.authority.finish()
            await host.authority.close()

    asyncio.run(run())


def failing(detail: str) -> Callable[..., Awaitable[Any]]:
    async def fail(*_: object) -> Any:
        raise StorageUnavailable(detail)

    return fail


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
        assert await host.storage.unfinished() == 1
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
        assert await host.storage.unfinished() == 0

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


def row_of(host: Host) -> dict[str, Any]:
    """The one row on record, by column."""

    def found(connection: sqlite3.Connection) -> dict[str, Any]:
        cursor = connection.execute("SELECT * FROM certificates")
        ((*values,),) = cursor.fetchall()
        return dict(zip((column[0] for column in cursor.description), values, strict=True))

    return host.storage._database.lookup(found)


def test_what_the_log_promised_is_embedded_and_on_record(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        issued = await host.authority.issue(asked(CSR), CALL)
        leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
        ((entry, promise),) = host.transparency.promised.items()
        (embedded,) = leaf.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        assert (embedded.log_id, promise.leaf_index) == (host.transparency.log_id, 0)
        row = row_of(host)
        assert (row["state"], row["precertificate"], row["sct"], row["leaf_index"]) == (
            "issued",
            entry,
            promise.serialized,
            0,
        )
        precertificate = x509.load_der_x509_certificate(entry)
        assert leaf.tbs_precertificate_bytes == without_poison(precertificate.tbs_certificate_bytes)
        assert host.log.of("issued")[0]["leaf_index"] == 0

    on_host(tmp_path, test)


def test_a_profile_without_transparency_is_issued_while_the_log_is_down_and_carries_no_timestamp(
    tmp_path: Path,
) -> None:
    text = 'description = "not logged"\nextended_key_usages = ["serverAuth"]\ntransparency = false\n'

    async def test(host: Host) -> None:
        host.peer.failure = Unavailable("down")
        issued = await host.authority.issue(asked(CSR, "private"), CALL)
        leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
        assert not [one for one in leaf.extensions if one.oid.dotted_string.startswith("1.3.6.1.4.1.11129")]
        row = row_of(host)
        assert (row["state"], row["precertificate"], row["sct"]) == ("issued", None, None)

    on_host(tmp_path, test, ruled=rules({"private": text}))


def test_while_the_log_is_down_nothing_is_reserved_or_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: Host) -> None:
        monkeypatch.setattr(signing, "certificate", lambda *_: pytest.fail("signed"))
        host.peer.failure = Unavailable("down")
        host.authority._transparency._doubtful = True
        with pytest.raises(Unavailable) as caught:
            await host.authority.issue(asked(CSR), CALL)
        assert caught.value.retryable
        assert await host.storage.is_empty()
        assert host.requests("error") == 1

    on_host(tmp_path, test)


def test_a_log_that_goes_while_it_is_asked_leaves_the_serial_number_on_record(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.authority.issue(asked(CSR), CALL)
        host.peer.failure = PeerGone("died")
        with pytest.raises(Unavailable):
            await host.authority.issue(asked(CSR), CALL)
        assert await host.storage.unfinished() == 1
        assert host.metrics.gauge("trustchain_ca_unfinished_serials").value == 1
        host.peer.failure = None
        await host.authority.issue(asked(CSR), CALL)
        assert await host.storage.unfinished() == 1

    on_host(tmp_path, test)


def test_the_probe_is_well_as_long_as_the_log_answers(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.peer.failure = DeadlineExceeded("hangs")
        with pytest.raises(RemoteError) as caught:
            await host.authority.probe()
        assert finding_of(caught.value).state is ProbeState.FAIL_DEPENDENCY

    on_host(tmp_path, test)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("correspondence", lambda embed, tbs, scts: embed(tbs, scts).replace(b"host", b"most")),
        ("timestamps", lambda embed, tbs, _: embed(tbs, [b"no timestamp"])),
    ],
)
def test_what_is_found_wrong_after_signing_is_quarantined_and_given_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, broken: Callable[..., bytes]
) -> None:
    async def test(host: Host) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(precertificate, "with_scts", partial(broken, precertificate.with_scts))
            with pytest.raises(Internal, match="breaks a rule"):
                await host.authority.issue(asked(CSR), CALL)
        row = row_of(host)
        assert (row["state"], row["issued_at"]) == ("quarantined", None)
        assert rule in row["findings"]
        assert row["precertificate"] in host.transparency.promised
        assert (row["certificate"] is not None) == (rule == "timestamps")
        assert await host.storage.unfinished() == 0
        with pytest.raises(Refusal):
            await host.authority.get(GetCertificate(serial=row["serial"]), CALL)
        assert (await host.authority.list(ListCertificates(), CALL)).certificates == []
        assert host.metrics.gauge("trustchain_ca_quarantined_certificates").value == 1
        assert host.metrics.counter("trustchain_ca_lint_findings_total", rule=rule).value == 1
        assert host.requests("error") == 1
        assert len(host.log.of("quarantined: signed, found wrong, and given to nobody")) == 1

    async def later(host: Host) -> None:
        assert host.metrics.gauge("trustchain_ca_quarantined_certificates").value == 1
        assert host.log.of("certificates are quarantined") == [{"count": 1}]

    on_host(tmp_path, test)
    on_host(tmp_path, later)


def test_a_signature_that_does_not_verify_is_quarantined(tmp_path: Path) -> None:
    """A key that the certificate of the issuer knows nothing of."""
    made = hierarchy_of()

    async def test(host: Host) -> None:
        host.authority._certifiers["classical"]._issuer = replace(made.issuer, private_key=Mistaken())  # type: ignore[arg-type]
        with pytest.raises(Internal):
            await host.authority.issue(asked(CSR), CALL)
        row = row_of(host)
        assert (row["state"], row["precertificate"], row["certificate"]) == ("quarantined", None, None)
        assert "signature: " in row["findings"]
        assert host.transparency.promised == {}

    on_host(tmp_path, test)


class Mistaken:
    """Signs something else than it is told to."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def sign(self, data: bytes, algorithm: ec.ECDSA) -> bytes:
        return self._key.sign(data + b"!", algorithm)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()


ec.EllipticCurvePrivateKey.register(Mistaken)


def test_a_promise_that_the_log_did_not_sign_is_quarantined(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.authority.issue(asked(CSR), CALL)
        other = ec.generate_private_key(ec.SECP256R1())
        log_id = host.transparency.log_id
        promised = host.transparency._promise

        def forged(entry: tuple[bytes, bytes]) -> SignedCertificateTimestamp:
            key, host.transparency.key = host.transparency.key, other
            made = promised(entry)
            host.transparency.key = key
            serialized = b"\0" + log_id + made.serialized[33:]
            return msgspec.structs.replace(made, log_id=log_id, serialized=serialized)

        host.transparency._promise = forged  # type: ignore[method-assign]
        with pytest.raises(Internal, match="does not verify over this precertificate"):
            await host.authority.issue(asked(CSR), CALL)
        assert await host.storage.quarantined() == 1

    on_host(tmp_path, test)


@pytest.mark.parametrize(
    ("rule", "error", "kind"),
    [("names.dns", Refusal, "forbidden-name"), ("public-key", Refusal, "bad-key"), ("serial", Internal, None)],
)
def test_what_the_lint_finds_before_signing_is_told_as_its_fault_deserves_and_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, error: type[Exception], kind: str | None
) -> None:
    async def test(host: Host) -> None:
        monkeypatch.setattr(certification, "lint_to_be_signed", lambda *_: (Finding(rule, "it is wrong"),))
        monkeypatch.setattr(signing, "certificate", lambda *_: pytest.fail("signed"))
        with pytest.raises(error, match="it is wrong"):
            await host.authority.issue(asked(CSR), CALL)
        assert await host.storage.is_empty()
        if kind is not None:
            assert host.refusals(kind) == 1
        else:
            assert host.metrics.counter("trustchain_ca_lint_findings_total", rule=rule).value == 1

    on_host(tmp_path, test)


def test_a_profile_that_could_only_lead_to_findings_is_a_configuration_error(tmp_path: Path) -> None:
    text = 'description = "x"\nextended_key_usages = ["serverAuth"]\n[key_usage]\necdsa = ["contentCommitment"]\n'

    async def test(_: Host) -> None:
        pytest.fail("started")

    with pytest.raises(
        ConfigurationError, match=r"the profile odd cannot be used for keys of the type ecdsa-p256: purposes"
    ):
        on_host(tmp_path, test, ruled=rules({"odd": text}))


def test_a_profile_of_a_hierarchy_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    text = 'description = "x"\nextended_key_usages = ["serverAuth"]\nhierarchy = "post-quantum"\n'

    async def test(_: Host) -> None:
        pytest.fail("started")

    with pytest.raises(ConfigurationError, match="the profile pq wants the post-quantum hierarchy"):
        on_host(tmp_path, test, ruled=rules({"pq": text}))
