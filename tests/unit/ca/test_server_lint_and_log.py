"""What the lint and the log do to issuance: what is signed, stored, told, and kept from everybody."""

import sqlite3
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from monitoring.block import ProbeState
from services.ca.issuance import certification, precertificate, signing
from services.ca.lint.findings import Finding
from services.ca.messages import GetCertificate, ListCertificates, Refusal
from services.ct.messages import MAX_CERTIFICATE_OCTETS, SignedCertificateTimestamp
from services.errors import (
    ConfigurationError,
    DeadlineExceeded,
    Internal,
    PeerGone,
    RemoteError,
    Unavailable,
)
from services.probing import finding_of
from tests.rig.fake_log import without_poison
from tests.unit.ca.applicants import der, request
from tests.unit.ca.authorities import asked, hierarchy_of, rules
from tests.unit.ca.hosts import CALL, CSR, Host, on_host


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
        assert host.storage.unfinished() == 1
        assert host.metrics.gauge("trustchain_ca_unfinished_serials").value == 1
        host.peer.failure = None
        await host.authority.issue(asked(CSR), CALL)
        assert host.storage.unfinished() == 1

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
        assert host.storage.unfinished() == 0
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
        assert host.storage.quarantined() == 1

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


def test_a_certificate_that_the_log_would_find_too_large_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    def named(characters: int) -> bytes:
        names = [x509.UniformResourceIdentifier(f"urn:{n}:{'x' * characters}") for n in range(32)]
        return der(request(names))

    async def test(host: Host) -> None:
        with pytest.raises(Refusal, match="ask for fewer or shorter names") as caught:
            await host.authority.issue(asked(named(1_950), "tls-client"), CALL)
        assert caught.value.kind == "forbidden-name"
        assert await host.storage.is_empty()
        issued = await host.authority.issue(asked(named(1_800), "tls-client"), CALL)
        assert len(ssl.PEM_cert_to_DER_cert(issued.certificate)) < MAX_CERTIFICATE_OCTETS

    on_host(tmp_path, test)


def test_a_profile_that_could_only_lead_to_findings_is_a_configuration_error(tmp_path: Path) -> None:
    text = 'description = "x"\nextended_key_usages = ["serverAuth"]\n[key_usage]\necdsa = ["contentCommitment"]\n'

    async def test(host: Host) -> None:
        with pytest.raises(
            ConfigurationError, match=r"the profile odd cannot be used for keys of the type ecdsa-p256: purposes"
        ):
            await host.authority.try_profiles()

    on_host(tmp_path, test, ruled=rules({"odd": text}))


def test_a_profile_of_a_hierarchy_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    text = 'description = "x"\nextended_key_usages = ["serverAuth"]\nhierarchy = "post-quantum"\n'

    async def test(host: Host) -> None:
        with pytest.raises(ConfigurationError, match="the profile pq wants the post-quantum hierarchy"):
            await host.authority.try_profiles()

    on_host(tmp_path, test, ruled=rules({"pq": text}))
