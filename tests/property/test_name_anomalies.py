"""The watch over names, which forgets, finds what a model that keeps everything finds; wherever it was stopped."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from services.consensus import anomaly_state
from services.consensus.anomaly_state import StateRefused
from services.consensus.logged_names import LoggedCertificate
from services.consensus.name_anomalies import MAX_EVIDENCE, Change, Limits, State, subject_of
from tests.unit.consensus.issued import logged

NAMES = ("dns:a.test", "dns:*.a.test", "dns:b.test", "ip:192.0.2.1")
ROOM = Limits(duplicates=2, duplicate_window=5, rate_limit=4, rate_window=12, max_names=100)

limits = st.builds(
    Limits,
    duplicates=st.integers(1, 4),
    duplicate_window=st.integers(1, 20),
    rate_limit=st.integers(1, 20),
    rate_window=st.integers(1, 40),
    max_names=st.just(100),
)


@st.composite
def streams(draw: st.DrawFn) -> list[LoggedCertificate]:
    """Entries in the order of a log; few names, so that they come again."""
    steps = draw(st.lists(st.sampled_from([0, 0, 1, 500, 1000, 3000, 30_000]), max_size=60))
    at, stream = 0, []
    for index, step in enumerate(steps):
        at += step
        names = draw(st.sets(st.sampled_from(NAMES[: draw(st.integers(1, 4))]), max_size=2))
        not_after = at // 1000 + draw(st.sampled_from([-1, 0, 1, 4, 1000, 1000]))
        stream.append(logged(index, at, *names, not_after=not_after))
    return stream


@dataclass
class Subject:
    """All certificates of one subject, and its open episode: opened at, count, indices."""

    seen: list[LoggedCertificate] = field(default_factory=list)
    episode: tuple[int, int, list[int]] | None = None


@dataclass
class Model:
    """Keeps everything, and looks through all of it each time. Only of certificates that differ."""

    limits: Limits
    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)
    told: list[tuple[object, ...]] = field(default_factory=list)

    def observe(self, new: LoggedCertificate) -> None:
        now = new.timestamp
        for (kind, name), subject in self.subjects.items():
            if subject.episode and subject.seen[-1].timestamp <= now - self.window(kind):
                self.told.append(("closed", kind, name, *subject.episode[:2], tuple(subject.episode[2])))
                subject.episode = None
        if new.names:
            bases = {f"dns:{name[6:]}" for name in new.names if name.startswith("dns:*.")}
            for kind, name in (("duplicate", subject_of(new.names)), *(("rate", n) for n in {*new.names, *bases})):
                self.count(kind, name, new)

    def window(self, kind: str) -> int:
        return 1000 * (self.limits.duplicate_window if kind == "duplicate" else self.limits.rate_window)

    def count(self, kind: str, name: str, new: LoggedCertificate) -> None:
        subject = self.subjects.setdefault((kind, name), Subject())
        now = new.timestamp
        within = [each for each in subject.seen if each.timestamp > now - self.window(kind)]
        if kind == "duplicate":
            within = [each for each in within if each.timestamp // 1000 <= each.not_after >= now // 1000]
        limit = self.limits.duplicates + 1 if kind == "duplicate" else self.limits.rate_limit
        subject.seen.append(new)
        if subject.episode:
            opened_at, count, indices = subject.episode
            subject.episode = (opened_at, count + 1, [*indices, new.index][:MAX_EVIDENCE])
            self.told.append(("updated", kind, name, opened_at, count + 1, tuple(subject.episode[2])))
        elif len(within) >= limit:
            indices = [*(each.index for each in within), new.index]
            subject.episode = (now, len(indices), indices[-MAX_EVIDENCE:])
            self.told.append(("opened", kind, name, now, len(indices), tuple(subject.episode[2])))


def told(changes: list[Change]) -> list[tuple[object, ...]]:
    found = ((change.what, change.anomaly) for change in changes)
    return [(what, a.kind, a.subject, a.opened_at, a.count, a.indices) for what, a in found]


def run(state: State, stream: list[LoggedCertificate], bounds: Limits) -> list[Change]:
    return [change for certificate in stream for change in state.observe(certificate, bounds)]


@settings(max_examples=400)
@given(streams(), limits)
def test_what_is_forgotten_decides_nothing(stream: list[LoggedCertificate], bounds: Limits) -> None:
    model, state = Model(bounds), State()
    for certificate in stream:
        model.told.clear()
        model.observe(certificate)
        changes = list(state.observe(certificate, bounds))
        # The order among the findings of one entry is not promised.
        assert sorted(map(repr, told(changes))) == sorted(map(repr, model.told))
    still = {key for key, subject in model.subjects.items() if subject.episode}
    assert {(each.kind, each.subject) for each in state.open} == still
    assert len(state.open) == len(still)
    assert state.not_watched == 0


@settings(max_examples=200)
@given(streams(), limits, st.data())
def test_a_restart_anywhere_changes_nothing(
    stream: list[LoggedCertificate], bounds: Limits, data: st.DataObject
) -> None:
    whole = State()
    expected = run(whole, stream, bounds)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    state, found = State(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += run(state, stream[begin:end], bounds)
        state = anomaly_state.parse(anomaly_state.encode(state))
        assert state.position == end
    assert found == expected
    assert anomaly_state.encode(state) == anomaly_state.encode(whole)


@settings(max_examples=200)
@given(streams(), limits, st.integers(1, 3))
def test_memory_is_bounded_and_what_has_no_place_is_counted(
    stream: list[LoggedCertificate], bounds: Limits, places: int
) -> None:
    tight = Limits(bounds.duplicates, bounds.duplicate_window, bounds.rate_limit, bounds.rate_window, places)
    state, room = State(), State()
    lost: list[Change] = []
    for certificate in stream:
        lost += set(room.observe(certificate, bounds)) - set(state.observe(certificate, tight))
        assert len(state.names) <= places
        assert len(state.sets) <= places
        assert all(len(each.times) <= bounds.rate_limit + 1 for each in state.names.values())
        assert all(len(each.issued) <= bounds.duplicates + 1 for each in state.sets.values())
        assert all(len(each.indices) <= MAX_EVIDENCE for each in state.names.values())
        subjects = [(each.kind, each.subject) for each in state.open]
        assert len(subjects) == len(set(subjects))
    if state.not_watched == 0:
        assert not lost
        assert anomaly_state.encode(state) == anomaly_state.encode(room)


@given(streams(), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_octets_are_a_state_of_their_own_or_refused(
    stream: list[LoggedCertificate], changes: list[tuple[int, int]]
) -> None:
    state = State()
    run(state, stream, ROOM)
    octets = bytearray(anomaly_state.encode(state))
    for position, octet in changes:
        octets[position % len(octets)] = octet
    try:
        again = anomaly_state.parse(bytes(octets))
    except StateRefused:
        return
    assert anomaly_state.encode(again) == bytes(octets)
    again.observe(logged(again.position, again.clock, *NAMES[:1]), ROOM)
