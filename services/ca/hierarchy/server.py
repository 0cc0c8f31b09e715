"""The changes of the hierarchy as methods that an operator calls: decide, make it durable, switch, reply.

The commit order of every change, and what a crash after each step leaves behind:

    1. keys, decision     nothing: new keys are in memory only (in a token: a key that nobody uses)
    2. files              durable, at one moment: `HierarchyFiles.commit`
    3. switch             issuance goes on with the new hierarchy; what is in flight ends with the old one
    4. clients' copies    made again at the next start if a crash prevents it
    5. reply

Rules:
- One ceremony at a time, and from its beginning it is finished even when its caller goes away.
- Keys are made and files written in a thread: issuance goes on meanwhile.
- A key leaves the process only encrypted, and is destroyed only when a copy was shown that can be opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from config.schema import Settings
from services.ca.hierarchy import ceremony
from services.ca.hierarchy.ceremony import Means
from services.ca.hierarchy.creation import create_request
from services.ca.hierarchy.files import HierarchyFiles, certificate_pem
from services.ca.hierarchy.hierarchy import Hierarchy, HierarchyMismatch, Issuer, Kind, Root
from services.ca.hierarchy.keyring import place_of
from services.ca.hierarchy.messages import (
    AuthorityDescription,
    AuthorityList,
    CeremonyRefused,
    EncryptedKeys,
    EncryptKeys,
    ExportedKey,
    ExportRootKey,
    ImportAuthority,
    InstallIntermediate,
    IntermediateRequest,
    ListAuthorities,
    PrivateKeyPem,
    RemoveRootKey,
    RequestIntermediate,
    Rotate,
)
from services.ca.hierarchy.pending_requests import PendingRequests
from services.ca.installation import own_names, plan_of
from services.ca.keys import key_files
from services.ca.keys.key_files import UnreadableKey, WrongPassphrase
from services.ca.keys.signing_keys import SigningKey, spki
from services.ca.serials import new_serial
from services.errors import ConfigurationError, StorageUnavailable
from services.rpc_server import Call

T = TypeVar("T")
Adopt = Callable[[Hierarchy], None]


class Ceremonies:
    """Answers the methods of `messages.py`. `now` gives seconds since the Unix epoch.

    `adopt` are those who work with the hierarchy; each is told of a new one, on the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        current: Hierarchy,
        files: HierarchyFiles,
        adopt: Sequence[Adopt],
        log: Any,
        now: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._current = current
        self._files = files
        self._requests = PendingRequests(files.directory.parent, files.keyring)
        self._adopt = tuple(adopt)
        self._log = log
        self._now = now
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def authorities(self, _request: ListAuthorities, _call: Call) -> AuthorityList:
        """What there is."""
        return self._list()

    async def rotate(self, request: Rotate, _call: Call) -> AuthorityList:
        """A new intermediate, or a new root with one below it. Raises CeremonyRefused and StorageUnavailable."""
        root_key = None if request.root_key is None else _opened(request.root_key, "root_key")
        return await self._change(f"rotated the {request.role}", partial(self._rotated, request, root_key))

    def _rotated(self, request: Rotate, root_key: SigningKey | None) -> Hierarchy:
        kind, means, before = request.kind, self._means(), self._current
        if kind not in before.kinds:
            raise CeremonyRefused("unknown-authority", "kind", f"there is no {kind} hierarchy here")
        root = before.active_root(kind)
        if request.role == "intermediate":
            ceremony.key_of(root, root_key)
            key = self._new_key(kind, f"intermediate {means.plan.mark}")
            return ceremony.rotated_intermediate(before, kind, means, key, root_key)
        ceremony.check_rotation(root, root_key, cross=request.cross_certify)
        new_root_key = self._new_key(kind, f"root {means.plan.mark}")
        key = self._new_key(kind, f"intermediate {means.plan.mark}")
        return ceremony.rotated_root(before, means, new_root_key, key, cross=request.cross_certify, root_key=root_key)

    async def import_authority(self, request: ImportAuthority, _call: Call) -> AuthorityList:
        """A root or an intermediate that was made elsewhere. Raises CeremonyRefused and StorageUnavailable."""
        certificate, *rest = _certificates(request.certificate, "certificate")
        others = [*rest, *(_certificates(request.chain, "chain") if request.chain else ())]
        key = _opened(request.key, "key")
        return await self._change("imported an authority", partial(self._imported, certificate, others, key))

    def _imported(
        self, certificate: x509.Certificate, others: Sequence[x509.Certificate], key: SigningKey
    ) -> Hierarchy:
        if certificate.subject != certificate.issuer:
            return ceremony.imported_intermediate(self._current, self._now(), certificate, others, key)
        means = self._means()
        below = self._new_key(ceremony.kind_to_import(certificate), f"intermediate {means.plan.mark}")
        return ceremony.imported_root(self._current, means, certificate, key, below)

    async def request_intermediate(self, request: RequestIntermediate, _call: Call) -> IntermediateRequest:
        """A key that stays here and a request for its certificate. Raises CeremonyRefused and StorageUnavailable."""
        return await self._alone(partial(asyncio.to_thread, self._requested, request.kind))

    def _requested(self, kind: Kind) -> IntermediateRequest:
        plan = self._means().plan
        key = self._new_key(kind, f"intermediate {plan.mark}")
        csr = create_request(plan, key)
        self._requests.store(key, csr)
        self._log.info("made a request for an intermediate", subject=csr.subject.rfc4514_string())
        return IntermediateRequest(csr=key_files.csr_pem(csr).decode("ascii"))

    async def install_intermediate(self, request: InstallIntermediate, _call: Call) -> AuthorityList:
        """The certificate for a request becomes the active intermediate. Raises CeremonyRefused, StorageUnavailable."""
        certificate, *rest = _certificates(request.certificate, "certificate")
        others = [*rest, *(_certificates(request.chain, "chain") if request.chain else ())]
        return await self._change(
            "installed an intermediate",
            partial(self._installed, certificate, others),
            partial(self._requests.remove, _public_key(certificate)),
        )

    def _installed(self, certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> Hierarchy:
        key = self._requests.key(_public_key(certificate))
        if key is None:
            raise CeremonyRefused("bad-key", "certificate", "it is not for the key of a request that was made here")
        return ceremony.imported_intermediate(self._current, self._now(), certificate, others, key)

    async def export_root_key(self, request: ExportRootKey, _call: Call) -> ExportedKey:
        """The key of a root, encrypted. Raises CeremonyRefused."""
        root = self._root(request.kind, request.id)
        if root.private_key is None:
            raise CeremonyRefused("key-elsewhere", "id", f"the key of the root {root.id} is not here")
        if place_of(root.private_key) == "token":
            raise CeremonyRefused("key-elsewhere", "id", f"the key of the root {root.id} does not leave its token")
        self._log.warning("the key of a root is exported", root=root.id)
        return ExportedKey(id=root.id, pem=key_files.pkcs8(root.private_key, request.passphrase).decode("ascii"))

    async def remove_root_key(self, request: RemoveRootKey, _call: Call) -> AuthorityList:
        """Keep a root's key elsewhere from now on. Raises CeremonyRefused and StorageUnavailable."""
        root = self._root(request.kind, request.id)
        if root.private_key is None:
            return self._list()
        if place_of(root.private_key) == "token":
            raise CeremonyRefused(
                "key-elsewhere", "id", f"the key of the root {root.id} is in a token: see to it there"
            )
        exported = _opened(request.exported, "exported")
        # A passphrase may come along with a key that is not encrypted, and opens nothing then.
        encrypted = key_files.is_encrypted(request.exported.pem)
        if not encrypted or spki(exported.public_key()) != spki(root.certificate.public_key()):
            raise CeremonyRefused(
                "not-exported", "exported", f"it is not an encrypted copy of the key of the root {root.id}"
            )
        return await self._change("removed the key of a root", lambda: self._current.without_root_key(root.id))

    async def encrypt_keys(self, _request: EncryptKeys, _call: Call) -> EncryptedKeys:
        """Encrypt what is not encrypted yet. Raises CeremonyRefused and StorageUnavailable."""
        if self._files.keyring.passphrase is None:
            raise CeremonyRefused("bad-key", None, "there is no passphrase: set ca.key_passphrase and start again")
        count = await self._alone(partial(asyncio.to_thread, self._encrypted))
        self._log.info("encrypted keys", count=count)
        return EncryptedKeys(count=count)

    def _encrypted(self) -> int:
        return self._files.encrypt_keys(self._current) + self._requests.encrypt_keys()

    async def finish(self) -> None:
        """Wait until what was begun is done."""
        while self._running:
            await asyncio.wait(self._running)

    async def _change(
        self, told: str, decide: Callable[[], Hierarchy], after: Callable[[], None] | None = None
    ) -> AuthorityList:
        async def run() -> AuthorityList:
            changed = await asyncio.to_thread(self._committed, decide)
            self._current = changed
            for adopt in self._adopt:
                adopt(changed)
            await self._in_the_wake(partial(self._files.publish, changed))
            if after is not None:
                await self._in_the_wake(after)
            active = {kind: changed.active(kind).id for kind in changed.kinds}
            self._log.warning(told, active=active, root=changed.active_root().id)
            return self._list()

        return await self._alone(run)

    async def _in_the_wake(self, work: Callable[[], None]) -> None:
        """What follows from a change that is done already, and must not make it look undone."""
        try:
            await asyncio.to_thread(work)
        except (ConfigurationError, StorageUnavailable) as error:
            self._log.error("the hierarchy is changed, and something is left to do", error=str(error))

    def _committed(self, decide: Callable[[], Hierarchy]) -> Hierarchy:
        try:
            changed = decide()
        except HierarchyMismatch as error:
            raise CeremonyRefused("bad-authority", None, str(error)) from error
        self._files.commit(changed)
        return changed

    async def _alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work when no other is being done, to its end, whether or not the caller still waits for it."""

        async def run() -> T:
            async with self._one_at_a_time:
                return await work()

        task = asyncio.get_running_loop().create_task(run())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.warning("the hierarchy is not changed", error=str(error))

    def _means(self) -> Means:
        plan = plan_of(self._settings.ca, own_names(self._settings))
        return Means(plan, partial(new_serial, os.urandom), self._now())

    def _new_key(self, kind: Kind, label: str) -> SigningKey:
        return self._files.keyring.generate(kind, self._settings.ca.key_type, label)

    def _root(self, kind: Kind, root_id: str | None) -> Root:
        if root_id is None and kind in self._current.kinds:
            return self._current.active_root(kind)
        root = self._current.roots.get(root_id or "")
        if root is None:
            raise CeremonyRefused("unknown-authority", "id", "there is no such root here: see `trustchain ca list`")
        return root

    def _list(self) -> AuthorityList:
        found = sorted(self._current.authorities, key=lambda each: (each.state != "active", each.kind, -each.since))
        return AuthorityList(authorities=list(map(described, found)))


def described(authority: Root | Issuer) -> AuthorityDescription:
    """An authority as an operator sees it."""
    certificate = authority.certificate
    return AuthorityDescription(
        id=authority.id,
        role="root" if isinstance(authority, Root) else "intermediate",
        kind=authority.kind,
        state=authority.state,
        since=authority.since,
        key=place_of(authority.private_key),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=authority.validity.not_before,
        not_after=authority.validity.not_after,
        cross=isinstance(authority, Root) and authority.cross is not None,
        certificate=certificate_pem(certificate).decode("ascii"),
    )


def _opened(key: PrivateKeyPem, field: str) -> SigningKey:
    try:
        return key_files.parse_key(key.pem, key.passphrase)
    except (WrongPassphrase, UnreadableKey) as error:
        raise CeremonyRefused("bad-key", field, str(error)) from error


def _certificates(content: bytes, field: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion) as error:
        raise CeremonyRefused("malformed", field, f"it is no certificate in PEM: {error}") from error


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        return spki(certificate.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CeremonyRefused("bad-key", "certificate", f"its public key cannot be used: {error}") from error
