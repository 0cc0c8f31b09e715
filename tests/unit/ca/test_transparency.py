"""The authority's side of the log: introduced before anything is logged, and nothing believed unverified."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from monitoring.layout import NOTE_BYTES
from services.ca.issuance.certification import Certifier
from services.ca.issuance.hold import IssuanceHold
from services.ca.issuance.transparency import LogFault, TransparencyLog
from services.ct.messages import SignedCertificateTimestamp
from services.errors import DeadlineExceeded, Internal, Overloaded, PeerGone, ProbeFailed, RemoteError, Unavailable
from tests.rig.fake_log import FakeLog, LogPeer
from tests.unit.ca.applicants import dns, pem, request
from tests.unit.ca.authorities import NOW, SILENT, decided, hierarchy_of

CERTIFIER = Certifier(hierarchy_of().issuer)
MADE = CERTIFIER.precertificate(CERTIFIER.draft(decided(pem(request(dns("host.example"))))))


class Side:
    """One authority's side and its log, on one clock (milliseconds)."""

    def __init__(self) -> None:
        self.now = NOW * 1000
        self.fake = FakeLog(now=lambda: NOW * 1000)
        self.peer = LogPeer(self.fake)
        self.log = TransparencyLog(self.peer, SILENT, lambda: self.now, 1.0)
        self.log.trust([hierarchy_of().root.public_bytes(Encoding.DER)])

    async def add(self) -> SignedCertificateTimestamp:
        return await self.log.add(CERTIFIER.chain(MADE), CERTIFIER.key_hash, MADE.logged)


def on_side(test: Callable[[Side], Awaitable[None]]) -> None:
    asyncio.run(test(Side()))  # type: ignore[arg-type] # a coroutine


async def until(held: Callable[[], bool]) -> None:
    """Let others run until something holds."""
    for _ in range(10_000):
        if held():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never held")


def test_the_authority_is_introduced_before_anything_is_logged_and_only_once() -> None:
    async def test(side: Side) -> None:
        first, second = await side.add(), await side.add()
        assert side.peer.calls == ["accept_roots", "log", "add", "add"]
        assert first == second, "the same precertificate gets the same promise"
        assert first.log_id == side.fake.log_id

    on_side(test)


def test_readiness_asks_only_while_there_is_a_doubt() -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        await side.log.ready()
        assert side.peer.calls == ["accept_roots", "log"]
        side.peer.failure = PeerGone("gone")
        with pytest.raises(Unavailable):
            await side.add()
        with pytest.raises(Unavailable):
            await side.log.ready()
        side.peer.failure = None
        await side.log.ready()
        asked = len(side.peer.calls)
        await side.log.ready()
        assert len(side.peer.calls) == asked

    on_side(test)


@pytest.mark.parametrize("failure", [Unavailable, Overloaded, DeadlineExceeded, PeerGone, Internal])
def test_a_log_that_does_not_answer_makes_issuing_unavailable(failure: type[RemoteError]) -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        side.peer.failure = failure("not now")
        with pytest.raises(Unavailable, match="the transparency log cannot be asked now"):
            await side.add()

    on_side(test)


def test_a_log_that_lost_its_roots_is_told_them_again() -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        side.fake.roots.clear()
        await side.add()
        assert side.peer.calls == ["accept_roots", "log", "add", "accept_roots", "log", "add"]

    on_side(test)


def test_a_new_root_is_told_before_anything_else_is_logged() -> None:
    async def test(side: Side) -> None:
        await side.add()
        side.log.trust([hierarchy_of(kind).root.public_bytes(Encoding.DER) for kind in ("p256", "ed25519")])
        await side.log.ready()
        assert len(side.fake.roots) == 2
        await side.add()
        assert side.peer.calls == ["accept_roots", "log", "add", "accept_roots", "log", "add"]

    on_side(test)


def test_an_authority_that_must_not_issue_is_not_well_and_says_what_to_do() -> None:
    async def test(side: Side) -> None:
        hold = IssuanceHold()
        log = TransparencyLog(side.peer, SILENT, lambda: side.now, 1.0, hold)
        await log.probe()
        hold.stop("it has another key")
        with pytest.raises(ProbeFailed, match="accept-log") as failed:
            await log.probe()
        assert failed.value.cause == "dependency", "no new process would cure it"
        assert len(failed.value.text.encode()) <= NOTE_BYTES, "all of it is shown"
        hold.release()
        await log.probe()

    on_side(test)


def test_a_log_that_refuses_the_roots_again_and_again_is_at_fault() -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        side.fake.roots = Forgetful()
        with pytest.raises(LogFault, match="unknown-root"):
            await side.add()

    on_side(test)


class Forgetful(list):  # type: ignore[type-arg] # of certificates
    """Roots that are not kept."""

    def append(self, _: object) -> None:
        """Forgotten."""


def test_a_log_with_a_new_key_is_asked_who_it_is_and_believed_under_that_key() -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        side.peer.log = FakeLog(now=lambda: NOW * 1000)
        side.peer.log.roots = side.fake.roots
        promise = await side.add()
        assert promise.log_id == side.peer.log.log_id != side.fake.log_id

    on_side(test)


def test_a_promise_that_the_logs_key_did_not_make_is_the_logs_fault() -> None:
    async def test(side: Side) -> None:
        await side.log.ready()
        other = FakeLog(now=lambda: NOW * 1000)
        other.roots = side.fake.roots
        genuine = side.fake._promise

        def forged(entry: tuple[bytes, bytes]) -> SignedCertificateTimestamp:
            made, mine = other._promise(entry), genuine(entry)
            serialized = mine.serialized[: -len(mine.signature)] + made.signature
            return msgspec.structs.replace(mine, signature=made.signature, serialized=serialized)

        side.fake._promise = forged  # type: ignore[method-assign]
        with pytest.raises(LogFault, match="does not verify"):
            await side.add()

    on_side(test)


def test_a_promise_of_the_future_is_unavailable_and_says_to_set_the_clock() -> None:
    async def test(side: Side) -> None:
        side.now -= 3_600_000
        with pytest.raises(Unavailable, match=r"3600 s ahead of the clock here: set the clock"):
            await side.add()

    on_side(test)


def test_the_authority_goes_on_introducing_itself_until_the_log_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ca.issuance.transparency.RETRY_SECONDS", 0.0)

    async def test(side: Side) -> None:
        side.peer.failure = Unavailable("starting")
        side.log.start()
        await until(lambda: len(side.peer.calls) >= 3)
        side.peer.failure = None
        await until(lambda: bool(side.fake.roots))
        await side.log.close()
        assert len(side.fake.roots) == 1

    on_side(test)


def test_the_introduction_ends_when_the_authority_closes() -> None:
    async def test(side: Side) -> None:
        side.peer.failure = Unavailable("for ever")
        side.log.start()
        await asyncio.sleep(0)
        await side.log.close()

    on_side(test)


def test_the_probe_fails_as_the_log_does() -> None:
    async def test(side: Side) -> None:
        await side.log.probe()
        side.peer.failure = DeadlineExceeded("hangs")
        with pytest.raises(RemoteError, match="hangs"):
            await side.log.probe()

    on_side(test)
