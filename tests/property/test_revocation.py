"""Revocations over any history: of decisions, of lists, and of an authority that is restarted and restored."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.ca.serials import serial_text
from services.ca.status import crl
from services.ca.status.crl import Entry, Scope
from services.ca.status.ocsp import Answer, CertId
from services.ca.status.ocsp_cache import AnswerCache
from services.ca.status.revocation import FLAGS
from services.ca.status.urls import StatusUrls, partition_in, partition_of
from tests.unit.ca.authorities import NOW, hierarchy_of
from tests.unit.ca.statuses import StatusHost

SERIALS = st.integers(1, 2**160 - 1)
MOMENTS = st.integers(0, 4_000_000_000)
ENTRIES = st.lists(st.builds(Entry, SERIALS, MOMENTS, st.sampled_from(sorted(FLAGS))), max_size=20)


@given(ENTRIES, st.integers(0, 2**63 - 1), st.lists(st.integers(0, 255), max_size=3))
def test_a_list_says_exactly_what_it_was_made_of(entries: list[Entry], number: int, places: list[int]) -> None:
    issuer = hierarchy_of().issuer
    urls = tuple(StatusUrls("http://pki.example").crl("0a", place) for place in places)
    der = crl.sign(issuer, Scope(urls), entries, number, NOW, NOW + 60)
    published, partition = crl.read(der, issuer.certificate)
    assert crl.entries(der) == entries
    assert (published.number, published.urls) == (number, urls)
    assert partition == (places[0] if places else None)


@given(st.lists(st.integers(0, 2**62), max_size=5), st.integers(0, 2**40))
def test_the_next_number_is_above_every_known_one(known: list[int], now: int) -> None:
    number = crl.next_number(known, now)
    assert all(number > one for one in known)
    assert number >= now * 1000
    assert number < 2**63


@given(SERIALS, st.integers(1, 256))
def test_a_serial_number_is_on_one_list_and_its_url_says_which(serial: int, partitions: int) -> None:
    place = partition_of(serial, partitions)
    assert 0 <= place < partitions
    assert place == int(serial_text(serial)[:2], 16) % partitions
    assert partition_in(StatusUrls("http://pki.example").crl("0a", place)) == place


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(st.sampled_from(["ask", "revoke", "wait", "ahead"]), st.integers(1, 8), st.integers(0, 900)),
        max_size=60,
    ),
)
def test_no_cached_answer_is_ever_out_of_date(room: int, steps: list[tuple[str, int, int]]) -> None:
    """Whoever asks, in whatever order: never `good` after a revocation, never past its time, never too many."""
    cache, revoked, now = AnswerCache(room), set[int](), NOW

    def signed(asked: CertId) -> None:
        outcome = "revoked" if asked.serial in revoked else "good"
        cache.put(asked, outcome, Answer(outcome.encode(), now - 60, now + 1000, now), now)  # type: ignore[arg-type] # one of two literals

    for action, serial, seconds in steps:
        asked = CertId("sha1", b"", b"", serial)
        if action == "revoke":
            revoked.add(serial)
            cache.drop(serial)
        elif action == "wait":
            now += seconds
        elif action == "ahead":
            for due in cache.to_sign_ahead(now, 10):
                signed(due)
        else:
            found = cache.get(asked, now)
            if found is None:
                signed(asked)
                found = cache.get(asked, now)
            assert found is not None
            assert found[0] == ("revoked" if serial in revoked else "good")
            assert found[1].this_update <= now < found[1].next_update
        assert len(cache) <= room


class Restores(RuleBasedStateMachine):
    """An authority is restarted, its clock moves, and old databases are put back; what a list has said stays so."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tc-"))
        self.data = self.directory / "data"
        self.now = NOW
        self.serials: list[int] = []
        self.revoked: set[int] = set()
        self.numbers: dict[int, int] = {}
        self.backups: list[Path] = []
        self.runner = asyncio.Runner()
        self.host: StatusHost | None = None
        self._start()

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self._stop()
            self.runner.close()
            shutil.rmtree(self.directory)

    @precondition(lambda self: self.host is not None)
    @rule()
    def issue(self) -> None:
        assert self.host is not None
        self.serials.append(self.runner.run(self.host.issue(not_after=NOW + 10**8)))

    @precondition(lambda self: self.host is not None)
    @rule(choice=st.integers(0, 99))
    def revoke(self, choice: int) -> None:
        assert self.host is not None
        left = [serial for serial in self.serials if serial not in self.revoked and self._known(serial)]
        if left:
            serial = left[choice % len(left)]
            told = self.runner.run(self.host.revoke(serial, "superseded"))
            assert told.crl_number is not None
            self.revoked.add(serial)

    @precondition(lambda self: self.host is not None)
    @rule(seconds=st.integers(-100_000, 100_000))
    def wait(self, seconds: int) -> None:
        assert self.host is not None
        self.now = self.host.now = max(NOW, self.now + seconds)
        self.runner.run(self.host.service._renew_lists({}))

    @rule()
    def back_up(self) -> None:
        self._stop()
        backup = self.directory / f"backup-{len(self.backups)}"
        shutil.copy(self.data / "ca" / "certificates.db", backup)
        self.backups.append(backup)
        self._start()

    @precondition(lambda self: self.backups)
    @rule(choice=st.integers(0, 99))
    def restore(self, choice: int) -> None:
        self._stop()
        for left in (self.data / "ca").glob("certificates.db*"):
            left.unlink()
        shutil.copy(self.backups[choice % len(self.backups)], self.data / "ca" / "certificates.db")
        self._start()

    @invariant()
    def nothing_is_taken_back(self) -> None:
        if not hasattr(self, "host") or self.host is None:
            return
        host = self.host
        for serial in self.revoked:
            assert self.runner.run(host.status(serial)) == "revoked"
        assert host.listed() == self.revoked
        for place in range(host.settings.ca.crl_partitions):
            published, _ = crl.read(host.files.path(host.issuer, place).read_bytes(), host.hierarchy.issuer.certificate)
            assert published.number >= self.numbers.get(place, 0)
            self.numbers[place] = published.number

    def _known(self, serial: int) -> bool:
        """Restoring may have lost that it was ever issued."""
        assert self.host is not None
        return self.host.storage.on_record(serial_text(serial)) is not None

    def _start(self) -> None:
        self.host = StatusHost(self.data, crl_partitions=2)
        self.host.now = self.now
        self.runner.run(self.host.open())

    def _stop(self) -> None:
        if self.host is not None:
            self.runner.run(self.host.close())
            self.host = None


TestRestores = Restores.TestCase
TestRestores.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
