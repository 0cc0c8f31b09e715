"""The log continues what was seen of it, or contradicts: what stops issuing, and what lets it go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.ca.issuance.hold import HELD, IssuanceHold
from services.ct.signing import LogSigner
from services.errors import PeerGone, Unavailable
from tests.unit.audit.journal import JournalPeer
from tests.unit.audit.reconcilers import hosted, made, run
from tests.unit.ca.authorities import NOW


def test_the_log_is_followed_as_it_grows_and_nothing_is_found(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            await host.hold.passed()
            await host.record(host.journal.issue("later.example.test"))
            await host.follower.follow()
            found = await host.findings()
            assert (found.count, found.log_position, found.log_size, found.swept_at) == (0, 4, 4, None)
            assert host.peer.calls.count("consistency") == 1

    run(work)


def test_more_entries_than_one_call_gives_are_all_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(70)) as host:
            await host.record(*host.journal.rows[:69])
            await host.follower.follow()
            assert await host.kinds() == ["unrecorded"]
            assert host.seen.position == 70

    run(work)


def test_the_position_outlives_a_restart(tmp_path: Path) -> None:
    journal = made(3)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()

    async def second() -> None:
        async with hosted(tmp_path, journal) as host:
            assert host.seen.position == 3
            await host.follower.follow()
            assert "entries" not in host.peer.calls

    run(first)
    run(second)


def test_an_entry_that_nobody_recorded_is_found_told_once_and_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(2)) as host:
            await host.record(host.journal.rows[0])
            await host.follower.follow()
            await host.follower.follow()
            (found,) = (await host.findings()).findings
            assert (found.kind, found.subject) == ("unrecorded", f"serial {host.journal.rows[1].serial}")
            assert len(found.digests["precertificate"]) == 64
            assert [name for name, _ in host.log.events] == ["finding"]

    run(work)


@pytest.mark.parametrize("change", ["shrank", "forked", "another key", "same size"])
def test_a_log_that_does_not_continue_stops_issuing(tmp_path: Path, change: str) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(5)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            before = list(host.journal.entries)
            if change == "shrank":
                del host.journal.entries[3:]
            elif change == "another key":
                host.peer.signer = LogSigner(ec.generate_private_key(ec.SECP256R1()))
            else:
                host.journal.entries[1] = replace(host.journal.entries[1], timestamp=1)
                if change == "forked":
                    host.journal.issue("more.example.test")
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank" if change == "shrank" else "log_forked"]
            with pytest.raises(Unavailable, match="nothing is issued"):
                await host.hold.passed()
            # It was put back as it was: what was seen is continued again.
            host.journal.entries[:] = before
            host.peer.signer = JournalPeer(host.journal).signer
            await host.follower.follow()
            await host.hold.passed()
            assert await host.kinds() == []

    run(work)


def test_a_log_without_a_place_that_it_gave_stops_issuing_though_its_head_was_never_seen(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
        del host.journal.entries[2:]
        async with hosted(tmp_path, host.journal) as host:
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank"]
            assert host.hold.reason is not None
            await host.follower.follow()
            assert [event for event, _ in host.log.events].count(HELD) == 1, "told, and not each second"

    run(work)


def test_a_place_given_a_moment_ago_is_missed_in_a_log_that_was_put_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(2)) as host:
            host.hold.promise(2)
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank"]

    run(work)


def test_a_head_that_the_log_did_not_sign_stops_issuing(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(2)) as host:
            key = host.peer.signer.verifier
            host.peer.signer = LogSigner(ec.generate_private_key(ec.SECP256R1()))
            host.peer.signer.verifier = key
            await host.follower.follow()
            assert await host.kinds() == ["log_forked"]
            assert host.hold.reason is not None

    run(work)


def test_entries_that_do_not_lead_to_the_signed_root_stop_issuing(tmp_path: Path) -> None:
    class Lying(JournalPeer):
        def _entries(self, request: Any) -> Any:
            reply = super()._entries(request)
            return type(reply)(start=reply.start, entries=[reply.entries[0]] * len(reply.entries))

    async def work() -> None:
        journal = made(2)
        async with hosted(tmp_path, journal, Lying(journal)) as host:
            await host.follower.follow()
            assert await host.kinds() == ["log_forked"]

    run(work)


def test_entries_that_cannot_be_read_damage_the_log(tmp_path: Path) -> None:
    class Garbled(JournalPeer):
        def _entries(self, request: Any) -> Any:
            reply = super()._entries(request)
            return type(reply)(start=reply.start, entries=[type(reply.entries[0])(leaf_input=b"x", extra_data=b"")])

    class Empty(JournalPeer):
        def _entries(self, request: Any) -> Any:
            return type(super()._entries(request))(start=request.start, entries=[])

    async def work() -> None:
        for number, kind in enumerate((Garbled, Empty)):
            journal = made(1)
            async with hosted(tmp_path / str(number), journal, kind(journal)) as host:
                await host.follower.follow()
                assert await host.kinds() == ["log_damaged"]

    run(work)


def test_the_operator_can_accept_the_log_as_it_is(tmp_path: Path) -> None:
    journal = made(4)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            del journal.entries[2:]
            await host.follower.follow()
            assert await host.kinds() == ["log_shrank"]

    async def second() -> None:
        async with hosted(tmp_path, journal, started=False) as host:
            host.consent.touch()
            await host.reconciler.start(host.consent, tmp_path / "accept-record", NOW)
            assert not host.consent.exists()
            await host.hold.passed()
            await host.follower.follow()
            assert host.seen.tree_size == 2
            await host.whole_sweep()
            assert (await host.kinds(), await host.kinds("accepted")) == ([], ["unlogged", "unlogged"])
            journal.issue("new.example.test")
            await host.record(journal.rows[-1])
            await host.follower.follow()
            await host.reconciler.close()
            assert await host.kinds() == []

    run(first)
    run(second)


def test_until_the_log_was_compared_whoever_wants_to_issue_waits_and_is_told_why(monkeypatch: Any) -> None:
    async def work() -> None:
        hold = IssuanceHold()
        waiting = asyncio.ensure_future(hold.passed())
        await asyncio.sleep(0)
        assert not waiting.done()
        hold.release()
        await waiting
        monkeypatch.setattr("services.ca.issuance.hold.PATIENCE_SECONDS", 0.0)
        with pytest.raises(Unavailable, match="does not answer"):
            await IssuanceHold().passed()

    run(work)


def test_a_log_that_cannot_be_asked_stops_nothing_and_is_told_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation.reconciler.ROUND_SECONDS", 0.0)

    async def work() -> None:
        async with hosted(tmp_path, made(1)) as host:
            await host.follower.follow()
            host.peer.trouble = PeerGone("it died")
            await host.reconciler.start(host.consent, tmp_path / "accept-record", NOW)
            for _ in range(100):
                await asyncio.sleep(0)
            assert host.peer.calls.count("log") > 5
            assert host.hold.reason is None
            told = [name for name, _ in host.log.events if name == "record and log cannot be compared now"]
            assert len(told) == 1

    run(work)
