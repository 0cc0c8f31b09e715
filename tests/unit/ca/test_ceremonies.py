"""The methods that change the hierarchy: what is durable, what is switched, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from config.schema import Ca, Server, Settings
from monitoring.metrics import Metrics
from services.ca.hierarchy import pending_requests
from services.ca.hierarchy.creation import create_intermediate
from services.ca.hierarchy.files import HierarchyFiles, certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.messages import (
    METHODS,
    CeremonyRefused,
    EncryptKeys,
    ExportRootKey,
    ImportAuthority,
    InstallIntermediate,
    ListAuthorities,
    PrivateKeyPem,
    RemoveRootKey,
    RequestIntermediate,
    Rotate,
)
from services.ca.hierarchy.server import Ceremonies
from services.ca.keys import key_files
from services.ca.messages import GetCertificate, GetRoots
from services.ca.metrics import families
from services.errors import StorageUnavailable
from services.rpc_server import Call
from tests.rig.event_log import EventLog
from tests.rig.fake_log import FakeLog, LogPeer
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, asked, authority_over, hierarchy_of, means, rules
from tests.unit.ca.records import opened
from tests.unit.ca.test_ceremony import FOREIGN, FOREIGN_ROOT, KEY, ROOT_KEY, authority

CALL = Call("a method", 2**63, "")
CSR = pem(request(dns("host.example")))
PASSPHRASE = b"correct horse"


class Host:
    """One authority with its ceremonies, over real files, and a clock that stands still."""

    def __init__(self, directory: Path, storage: Any, keyring: Keyring, settings: Ca) -> None:
        server = Server(data_dir=str(directory), runtime_dir=str(directory / "run"))
        self.now = NOW
        self.log = EventLog()
        self.files = HierarchyFiles(directory / "ca", directory / "ca" / "root.pem", keyring)
        self.files.commit(hierarchy_of())
        self.metrics = Metrics.in_memory(families(rules().profiles))
        self.authority = authority_over(
            storage,
            hierarchy_of(),
            LogPeer(FakeLog()),
            metrics=self.metrics,
            log=self.log,
            now=lambda: self.now,
        )
        self.ceremonies = Ceremonies(
            Settings(server=server, ca=settings),
            hierarchy_of(),
            self.files,
            (self.authority.adopt,),
            self.log,
            lambda: self.now,
        )

    def on_disk(self) -> Hierarchy:
        """What the next start finds."""
        return HierarchyFiles(self.files.document.parent, self.files.document.with_name("root.pem")).load()

    @property
    def published(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.files.document.with_name("root.pem").read_bytes())

    def not_after(self, title: str) -> float:
        return self.metrics.gauge("trustchain_ca_certificate_not_after_seconds", certificate=title).value


def on_host(
    directory: Path, test: Callable[[Host], Awaitable[None]], keyring: Keyring | None = None, **settings: Any
) -> None:
    async def run() -> None:
        async with opened(directory) as storage:
            host = Host(directory, storage, keyring or Keyring(), Ca(**settings))
            host.authority.start()
            await test(host)
            await host.ceremonies.finish()

    asyncio.run(run())


async def refused(call: Awaitable[object], kind: str) -> str:
    with pytest.raises(CeremonyRefused) as caught:
        await call
    assert caught.value.kind == kind, caught.value
    return caught.value.detail


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> PrivateKeyPem:
    return PrivateKeyPem(pem=key_files.pkcs8(key, passphrase), passphrase=passphrase)


def test_every_method_of_the_messages_is_there() -> None:
    assert all(callable(getattr(Ceremonies, name)) for name in METHODS)


def test_what_there_is_is_listed_the_active_ones_first(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.ceremonies.rotate(Rotate(role="intermediate"), CALL)
        found = (await host.ceremonies.authorities(ListAuthorities(), CALL)).authorities
        assert [(each.role, each.state) for each in found[:2]] == [("root", "active"), ("intermediate", "active")]
        assert (found[2].id, found[2].state) == (hierarchy_of().issuer.id, "retired")
        assert [each.key for each in found] == ["file"] * 3
        assert x509.load_pem_x509_certificate(found[0].certificate.encode()) == hierarchy_of().root

    on_host(tmp_path, test)


def test_after_a_rotation_the_new_intermediate_issues_and_old_certificates_keep_their_chain(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        before = await host.authority.issue(asked(CSR), CALL)
        host.now += 100
        await host.ceremonies.rotate(Rotate(role="intermediate"), CALL)
        after = await host.authority.issue(asked(CSR), CALL)
        assert before.chain != after.chain
        assert (await host.authority.get(GetCertificate(serial=before.serial), CALL)).chain == before.chain
        assert host.on_disk().issuer.id == keys_of(after.chain[0])
        assert host.not_after("retired") == hierarchy_of().issuer.validity.not_after

    on_host(tmp_path, test)


def keys_of(text: str) -> str:
    return format(x509.load_pem_x509_certificate(text.encode()).serial_number, "032x")


def test_what_is_in_flight_is_finished_with_the_issuer_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(host: Host) -> None:
        storage = host.authority._storage
        reserve, reached, go_on = storage.reserve, asyncio.Event(), asyncio.Event()

        async def slow(reservation: Any) -> int:
            reached.set()
            await go_on.wait()
            return await reserve(reservation)

        monkeypatch.setattr(storage, "reserve", slow)
        issuing = asyncio.ensure_future(host.authority.issue(asked(CSR), CALL))
        await reached.wait()
        await host.ceremonies.rotate(Rotate(role="root"), CALL)
        go_on.set()
        issued = await issuing
        leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
        leaf.verify_directly_issued_by(hierarchy_of().issuer.certificate)
        assert issued.chain == [certificate_pem(hierarchy_of().issuer.certificate).decode()]

    on_host(tmp_path, test)


def test_after_a_rotation_of_the_root_both_are_published_and_chains_lead_to_both(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.ceremonies.rotate(Rotate(role="root"), CALL)
        new_root, old_root = host.published
        assert old_root == hierarchy_of().root
        roots = await host.authority.roots(GetRoots(), CALL)
        assert [x509.load_pem_x509_certificate(text.encode()) for text in roots.certificates] == host.published
        issued = await host.authority.issue(asked(CSR), CALL)
        intermediate, cross = (x509.load_pem_x509_certificate(text.encode()) for text in issued.chain)
        intermediate.verify_directly_issued_by(new_root)
        intermediate.verify_directly_issued_by(cross)
        cross.verify_directly_issued_by(old_root)

    on_host(tmp_path, test)


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(host: Host) -> None:
        def full(_: Hierarchy) -> None:
            raise StorageUnavailable("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(host.files, "commit", full)
            with pytest.raises(StorageUnavailable):
                await host.ceremonies.rotate(Rotate(role="intermediate"), CALL)
        issued = await host.authority.issue(asked(CSR), CALL)
        assert keys_of(issued.chain[0]) == hierarchy_of().issuer.id == host.on_disk().issuer.id

    on_host(tmp_path, test)


def test_a_change_that_is_done_is_told_as_done_whatever_is_left_to_do(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.files.document.with_name("root.pem").write_bytes(b"something else")
        await host.ceremonies.rotate(Rotate(role="root"), CALL)
        assert len(host.on_disk().roots) == 2
        assert any("something is left to do" in event for event, _ in host.log.events)

    on_host(tmp_path, test)


def test_ceremonies_follow_each_other_and_outlive_their_callers(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        calls = [
            asyncio.ensure_future(host.ceremonies.rotate(Rotate(role=role), CALL))
            for role in ("intermediate", "root", "intermediate")
        ]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await host.ceremonies.finish()
        found = host.on_disk()
        assert (len(found.issuers), len(found.roots)) == (4, 2)

    on_host(tmp_path, test)


def test_a_post_quantum_rotation_needs_a_post_quantum_hierarchy(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await refused(host.ceremonies.rotate(Rotate(role="root", kind="post-quantum"), CALL), "unknown-authority")

    on_host(tmp_path, test)


def test_a_root_key_is_exported_encrypted_and_removed_when_its_copy_was_shown(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        root, call = hierarchy_of().active_root(), host.ceremonies
        exported = await call.export_root_key(ExportRootKey(passphrase=PASSPHRASE), CALL)
        content = exported.pem.encode()
        assert (exported.id, key_files.is_encrypted(content)) == (root.id, True)
        wrong = PrivateKeyPem(pem=content, passphrase=b"wrong")
        await refused(call.remove_root_key(RemoveRootKey(exported=wrong), CALL), "bad-key")
        await refused(call.remove_root_key(RemoveRootKey(exported=key_pem(KEY, PASSPHRASE)), CALL), "not-exported")
        assert isinstance(root.private_key, ec.EllipticCurvePrivateKey)
        await refused(call.remove_root_key(RemoveRootKey(exported=key_pem(root.private_key)), CALL), "not-exported")
        plain = PrivateKeyPem(pem=key_pem(root.private_key).pem, passphrase=PASSPHRASE)
        await refused(call.remove_root_key(RemoveRootKey(exported=plain), CALL), "not-exported")

        copy = PrivateKeyPem(pem=content, passphrase=PASSPHRASE)
        for _ in range(2):
            await call.remove_root_key(RemoveRootKey(exported=copy), CALL)
        assert not (host.files.directory / root.id / "key.pem").exists()
        assert host.on_disk().active_root().private_key is None
        await host.authority.issue(asked(CSR), CALL)
        await host.authority.probe()
        detail = await refused(call.rotate(Rotate(role="intermediate"), CALL), "key-elsewhere")
        assert "--root-key FILE" in detail
        await refused(call.export_root_key(ExportRootKey(passphrase=PASSPHRASE), CALL), "key-elsewhere")
        await call.rotate(Rotate(role="intermediate", root_key=copy), CALL)
        await call.rotate(Rotate(role="root", root_key=copy), CALL)
        assert host.on_disk().roots[root.id].private_key is None

    on_host(tmp_path, test)


def test_an_intermediate_of_another_authority_is_imported_and_issues(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        asked_for = ImportAuthority(
            certificate=certificate_pem(FOREIGN), key=key_pem(KEY, PASSPHRASE), chain=certificate_pem(FOREIGN_ROOT)
        )
        await host.ceremonies.import_authority(asked_for, CALL)
        issued = await host.authority.issue(asked(CSR), CALL)
        assert issued.chain == [certificate_pem(FOREIGN).decode()]
        assert host.published == [FOREIGN_ROOT, hierarchy_of().root]
        assert host.on_disk().issuer.certificate == FOREIGN

    on_host(tmp_path, test)


def test_a_root_of_another_authority_is_imported_and_gets_an_intermediate(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        asked_for = ImportAuthority(certificate=certificate_pem(FOREIGN_ROOT), key=key_pem(ROOT_KEY))
        await host.ceremonies.import_authority(asked_for, CALL)
        issued = await host.authority.issue(asked(CSR), CALL)
        x509.load_pem_x509_certificate(issued.chain[0].encode()).verify_directly_issued_by(FOREIGN_ROOT)

    on_host(tmp_path, test)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"certificate": b"nothing"}, "malformed"),
        ({"chain": b"nothing"}, "malformed"),
        ({"key": PrivateKeyPem(pem=b"nothing")}, "bad-key"),
        ({"key": key_pem(ROOT_KEY)}, "bad-key"),
        ({"chain": b""}, "bad-authority"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_changes_nothing(
    tmp_path: Path, fields: dict[str, Any], kind: str
) -> None:
    whole = {"certificate": certificate_pem(FOREIGN), "key": key_pem(KEY), "chain": certificate_pem(FOREIGN_ROOT)}

    async def test(host: Host) -> None:
        await refused(host.ceremonies.import_authority(ImportAuthority(**{**whole, **fields}), CALL), kind)
        assert host.on_disk().issuer.id == hierarchy_of().issuer.id

    on_host(tmp_path, test)


@pytest.mark.parametrize("keyring", [Keyring(), Keyring(PASSPHRASE)], ids=["plain", "encrypted"])
def test_an_intermediate_is_requested_signed_elsewhere_and_installed(tmp_path: Path, keyring: Keyring) -> None:
    async def test(host: Host) -> None:
        reply = await host.ceremonies.request_intermediate(RequestIntermediate(), CALL)
        csr = x509.load_pem_x509_csr(reply.csr.encode())
        (place,) = (host.files.document.parent / "requests").iterdir()
        assert key_files.is_encrypted((place / "key.pem").read_bytes()) == (keyring.passphrase is not None)
        certificate = signed_elsewhere(csr)
        wanted = InstallIntermediate(certificate=certificate_pem(certificate), chain=certificate_pem(FOREIGN_ROOT))
        await host.ceremonies.install_intermediate(wanted, CALL)
        assert not place.exists()
        issued = await host.authority.issue(asked(CSR), CALL)
        assert issued.chain == [certificate_pem(certificate).decode()]
        detail = await refused(host.ceremonies.install_intermediate(wanted, CALL), "bad-key")
        assert "is not for the key of a request" in detail

    on_host(tmp_path, test, keyring)


def signed_elsewhere(csr: x509.CertificateSigningRequest) -> x509.Certificate:
    """An authority's certificate for the key of a request, by the foreign root."""

    class Requested:
        def public_key(self) -> Any:
            return csr.public_key()

    return create_intermediate(means().plan, FOREIGN_ROOT, ROOT_KEY, Requested(), 77, NOW)  # type: ignore[arg-type] # only its public key is used


def test_requests_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_requests, "MAX_PENDING", 1)

    async def test(host: Host) -> None:
        await host.ceremonies.request_intermediate(RequestIntermediate(), CALL)
        await refused(host.ceremonies.request_intermediate(RequestIntermediate(), CALL), "malformed")

    on_host(tmp_path, test)


def test_keys_are_encrypted_when_there_is_a_passphrase(tmp_path: Path) -> None:
    async def without(host: Host) -> None:
        await host.ceremonies.request_intermediate(RequestIntermediate(), CALL)
        detail = await refused(host.ceremonies.encrypt_keys(EncryptKeys(), CALL), "bad-key")
        assert "set ca.key_passphrase" in detail

    async def with_one(host: Host) -> None:
        assert (await host.ceremonies.encrypt_keys(EncryptKeys(), CALL)).count == 3
        assert (await host.ceremonies.encrypt_keys(EncryptKeys(), CALL)).count == 0

    on_host(tmp_path, without)
    on_host(tmp_path, with_one, Keyring(PASSPHRASE))


def test_secrets_in_messages_are_shown_by_nothing() -> None:
    shown = [
        repr(message)
        for message in (
            PrivateKeyPem(pem=b"the key", passphrase=PASSPHRASE),
            ExportRootKey(passphrase=PASSPHRASE),
            RemoveRootKey(exported=PrivateKeyPem(pem=b"the key", passphrase=PASSPHRASE)),
        )
    ]
    assert not any("horse" in text or "the key" in text for text in shown)


def test_an_imported_certificate_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    leaf = authority("Acme Leaf", KEY, issuer=FOREIGN_ROOT, issuer_key=ROOT_KEY, ca=False)

    async def test(host: Host) -> None:
        wanted = ImportAuthority(
            certificate=certificate_pem(leaf), key=key_pem(KEY), chain=certificate_pem(FOREIGN_ROOT)
        )
        assert "not allowed to sign" in await refused(host.ceremonies.import_authority(wanted, CALL), "bad-authority")

    on_host(tmp_path, test)
