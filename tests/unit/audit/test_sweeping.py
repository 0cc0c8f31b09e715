"""The whole comparison: what it finds, closes, and goes on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.ca.messages import Refusal
from services.ca.reconciliation.contradictions import ABOUT_THE_LOG, Finding
from services.ca.reconciliation.messages import FindingKind
from services.ca.reconciliation.storage import MAX_KEPT
from services.ca.reconciliation.sweeper import SWEEP_SECONDS
from tests.unit.audit.journal import Journal
from tests.unit.audit.reconcilers import delete, hosted, made, run
from tests.unit.ca.authorities import NOW

COUNT = "SELECT count(*) FROM findings"


def test_a_sweep_finds_nothing_where_nothing_is_and_asks_for_answers(tmp_path: Path) -> None:
    async def work() -> None:
        journal = made(40)
        journal.issue("quiet.example.test", logged=False)
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            await host.whole_sweep()
            found = await host.findings()
            assert (found.count, found.swept_at) == (0, NOW + 10)
            assert len(host.asked) == 3  # one for each slice of the log

    run(work)


def test_a_sweep_finds_what_was_changed_after_it_was_followed_and_closes_it_when_it_is_gone(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            serial = host.journal.rows[1].serial
            await host.database.write(lambda connection: delete(connection, serial))
            await host.whole_sweep()
            assert await host.kinds() == ["unrecorded"]
            await host.record(host.journal.rows[1])
            host.now[0] += SWEEP_SECONDS
            await host.whole_sweep()
            assert await host.kinds() == []
            assert (await host.findings()).swept_at == host.now[0]

    run(work)


def test_a_sweep_verifies_signatures_and_rows_without_an_entry(tmp_path: Path) -> None:
    async def work() -> None:
        journal = made(2)
        async with hosted(tmp_path, journal) as host:
            row, certificate = journal.rows[0], journal.rows[0].certificate
            assert certificate is not None
            forged = replace(row, certificate=certificate[:-1] + bytes((certificate[-1] ^ 1,)))
            unlogged = replace(journal.rows[1], leaf_index=None, sct=None, precertificate=None)
            await host.record(forged, unlogged)
            await host.follower.follow()
            await host.whole_sweep()
            assert await host.kinds() == ["signature_invalid", "unlogged"]

    run(work)


def test_a_sweep_finds_certificates_whose_places_the_log_lost(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(40)) as host:
            await host.record(*host.journal.rows)
            del host.journal.entries[20:]  # the operator accepted it: nothing else was seen of this log
            await host.follower.follow()
            await host.whole_sweep()
            assert await host.kinds() == ["unlogged"] * 20

    run(work)


def test_what_was_issued_during_a_sweep_is_no_finding(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(3)) as host:
            await host.record(*host.journal.rows)
            await host.follower.follow()
            await host.record(host.journal.issue("during.example.test"))
            await host.whole_sweep()
            assert await host.kinds() == []

    run(work)


def test_a_sweep_goes_on_after_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation.sweeper.KEPT_EVERY", 1)
    journal = made(40)

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows)
            await host.follower.follow()
            await host.sweeper.step(host.seen)

    async def second() -> None:
        async with hosted(tmp_path, journal) as host:
            assert host.sweeper.sweep.leaf == 16

    run(first)
    run(second)


def test_no_more_findings_are_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation.storage.MAX_KEPT", 3)
    assert MAX_KEPT == 10_000

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            many = [Finding("unrecorded", f"serial {number:02x}", "a text") for number in range(5)]
            assert len(await host.storage.found(many, NOW)) == 3
            assert await host.storage.found(many, NOW) == []
            assert (await host.findings()).count == 3
            known = [replace(each, kind="unlogged", given_up=True) for each in many]
            assert await host.storage.found(known, NOW) == [], "nobody is told"
            told = await host.findings()
            assert (told.count, told.accepted) == (3, 3)

    run(work)


def test_what_was_found_once_leaves_room_for_what_is_found_later(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation.storage.MAX_KEPT", 3)

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            for first in range(0, 12, 3):
                found = [Finding("unrecorded", f"serial {number:02x}", "a text") for number in range(first, first + 3)]
                assert await host.storage.found(found, NOW + first) == found
                await host.storage.close_unseen(["unrecorded"], NOW + first + 1, NOW + first + 1)
                assert (await host.findings()).count == 0
            (kept,) = await host.database.read(lambda connection: connection.execute(COUNT).fetchone())
            assert kept == 3, "and what is gone does not fill the disk"

    run(work)


def test_an_accepted_finding_alarms_nobody_until_other_octets_contradict(tmp_path: Path) -> None:
    finding = Finding("unrecorded", "serial 0a", "a text", {"logged": "00"})

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            await host.storage.found([finding, replace(finding, subject="serial 0b")], NOW)
            assert await host.accept("unrecorded", "serial 0a") == 1
            (accepted,) = (await host.findings("accepted")).findings
            assert accepted.acceptance is not None
            assert (accepted.subject, accepted.acceptance.reason) == ("serial 0a", "a known loss")
            assert [one.subject for one in (await host.findings()).findings] == ["serial 0b"]
            assert host.metrics.gauge("trustchain_ca_findings", kind="unrecorded").value == 1
            assert host.metrics.gauge("trustchain_ca_accepted_findings").value == 1

            assert await host.storage.found([replace(finding, text="said otherwise")], NOW) == [], "the same octets"
            assert (await host.findings()).accepted == 1
            changed = replace(finding, digests={"logged": "01"})
            assert await host.storage.found([changed], NOW + 1) == [changed]
            assert (await host.findings()).findings[0].found_at == NOW + 1
            another = replace(finding, subject="serial 0b", digests={"logged": "02"})
            assert await host.storage.found([another], NOW + 2) == [another], "an open one with other octets is told"
            assert (await host.findings()).count == 2

            with pytest.raises(Refusal, match="2 are open, not 1"):
                await host.accept("unrecorded")
            assert await host.accept("unrecorded", count=2) == 2, "all of the kind, when they were seen"
            assert await host.accept("unrecorded", count=2) == 0, "a call that is repeated does no harm"
            for octets in (finding, changed, finding):
                assert await host.storage.found([octets], NOW) == [], "each of these octets was accepted"
            await host.storage.close_unseen(["unrecorded"], NOW + 3, NOW + 3)
            assert (await host.findings()).accepted == 0
            assert await host.storage.found([changed], NOW + 4) == [], "and stays so when it comes back"
            assert (await host.findings()).accepted == 1

    run(work)


def test_an_open_finding_stays_open_whatever_is_accepted_about_its_subject(tmp_path: Path) -> None:
    lost = Finding("unrecorded", "serial 0a", "a lost row", {"logged": "00"}, given_up=True)
    rogue = Finding("unrecorded", "serial 0a", "another certificate", {"logged": "01"})

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            assert await host.storage.found([rogue], NOW) == [rogue]
            assert await host.storage.found([lost], NOW) == []
            (told,) = (await host.findings()).findings
            assert told.text == rogue.text
            assert await host.storage.found([lost, rogue], NOW + 1) == [], "told once"
            assert await host.kinds() == ["unrecorded"]
            assert await host.accept("unrecorded") == 1
            assert await host.storage.found([lost, rogue, lost], NOW + 2) == []
            assert (await host.findings()).count == 0

    run(work)


def test_what_was_accepted_goes_with_what_is_forgotten(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("services.ca.reconciliation.storage.MAX_KEPT", 3)

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            for first in range(0, 12, 3):
                found = [Finding("unrecorded", f"serial {number:02x}", "a text") for number in range(first, first + 3)]
                await host.storage.found(found, NOW + first)
                await host.accept("unrecorded", count=3)
                await host.storage.close_unseen(["unrecorded"], NOW + first + 1, NOW + first + 1)
            counted = "SELECT count(*) FROM acceptances"
            (kept,) = await host.database.read(lambda connection: connection.execute(counted).fetchone())
            assert kept == 3

    run(work)


def test_a_log_that_contradicts_with_each_new_head_is_told_once(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            for number in range(3):
                found = [Finding("log_shrank", "the log", f"it has {number} entries", {"root": f"{number}"})]
                assert await host.storage.found(found, NOW + number) == (found if number == 0 else [])

    run(work)


def test_what_contradicts_in_another_way_is_not_accepted_with_the_octets(tmp_path: Path) -> None:
    first = Finding("row_differs", "serial 0a", "the row says another subject", {"certificate": "00"})
    second = replace(first, text="the row says another end")

    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            await host.storage.found([first], NOW)
            assert await host.accept("row_differs") == 1
            assert await host.storage.found([first], NOW) == []
            assert await host.storage.found([second], NOW) == [second]

    run(work)


def test_entries_that_were_given_up_are_not_those_of_another_log(tmp_path: Path) -> None:
    journal = made(4)

    async def first() -> None:
        async with hosted(tmp_path, journal, started=False) as host:
            (tmp_path / "accept-record").touch()
            await host.reconciler.start(host.consent, tmp_path / "accept-record", NOW)
            await host.hold.passed()
            assert await host.storage.entries_given_up() == 4

    async def second() -> None:
        other = Journal()
        async with hosted(tmp_path, other, started=False) as host:
            host.consent.touch()
            await host.reconciler.start(host.consent, tmp_path / "accept-record", NOW)
            await host.hold.passed()
            assert await host.storage.entries_given_up() == 0
            other.issue("rogue.example.test")
            await host.follower.follow()
            assert await host.kinds() == ["unrecorded"]

    run(first)
    run(second)


def test_a_record_is_accepted_as_it_is_up_to_what_the_log_has_by_then(tmp_path: Path) -> None:
    journal = made(4)
    consent = tmp_path / "accept-record"

    async def first() -> None:
        async with hosted(tmp_path, journal) as host:
            await host.record(*journal.rows[:2])
            await host.follower.follow()
            assert await host.kinds() == ["unrecorded"] * 2

    async def second() -> None:
        async with hosted(tmp_path, journal, started=False) as host:
            consent.touch()
            await host.reconciler.start(host.consent, consent, NOW)
            assert not consent.exists()
            await host.hold.passed()
            await host.whole_sweep()
            assert (await host.kinds(), await host.kinds("accepted")) == ([], ["unrecorded"] * 2)
            assert host.metrics.gauge("trustchain_ca_findings", kind="unrecorded").value == 0
            assert host.metrics.gauge("trustchain_ca_accepted_findings").value == 2
            journal.issue("rogue.example.test")
            await host.follower.follow()
            assert await host.kinds() == ["unrecorded"], "what is logged later needs its row"

    run(first)
    run(second)


@pytest.mark.parametrize("kind", ["serial_twice", "signature_invalid", "revocation_untold"])
def test_accepting_the_log_closes_nothing_that_is_not_about_it(tmp_path: Path, kind: FindingKind) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            await host.storage.found([Finding(kind, "serial 0a", "a text"), Finding("log_shrank", "the log", "x")], NOW)
            await host.storage.forget_log(NOW)
            assert await host.kinds() == [kind]

    run(work)


def test_what_stops_issuing_and_what_is_not_there_cannot_be_accepted(tmp_path: Path) -> None:
    async def work() -> None:
        async with hosted(tmp_path, made(0)) as host:
            await host.storage.found([Finding(kind, "the log", "a text") for kind in ABOUT_THE_LOG], NOW)
            for kind in ABOUT_THE_LOG:
                with pytest.raises(Refusal, match="accept-log"):
                    await host.accept(kind)
            for subject in (None, "serial 0a"):
                with pytest.raises(Refusal) as none:
                    await host.accept("unlogged", subject)
                assert none.value.kind == "not-found"
            assert await host.kinds() == sorted(ABOUT_THE_LOG)

    run(work)
