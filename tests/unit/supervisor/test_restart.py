"""When a dead child is started again."""

from dataclasses import replace

import pytest

from supervisor.child import SECOND, Exit
from supervisor.restart import RAPID_FACTOR, Decision, Fail, Finish, History, Limits, StartAgain, backoff, decide

CRASH = Exit(code=1)
LIMITS = Limits(
    stable_ns=SECOND // 2,
    backoff_initial_ns=SECOND // 10,
    backoff_max_ns=30 * SECOND,
    backoff_jitter=0.2,
    intensity=5,
    period_ns=60 * SECOND,
    failed_retry_ns=300 * SECOND,
)


def after(history: History, now: int, ready_for: int | None = None, died: Exit = CRASH) -> Decision:
    return decide(LIMITS, "permanent", history, died, ready_for, now, 0.5)


def test_early_deaths_double_the_pause_until_the_child_has_failed() -> None:
    history, now, pauses = History(), 0, []
    while True:
        decision = after(history, now)
        if isinstance(decision, Fail):
            break
        assert isinstance(decision, StartAgain)
        pauses.append((decision.at - now) / SECOND)
        history, now = decision.history, decision.at
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert decision.retry_at == now + 300 * SECOND
    assert decision.why == "6 early deaths within 60 s"


def test_deaths_that_are_further_apart_than_the_period_allows_never_fail_but_pause_ever_longer() -> None:
    history, pauses = History(), []
    for round_ in range(12):
        now = round_ * 15 * SECOND
        decision = after(history, now)
        assert isinstance(decision, StartAgain)
        pauses.append(round((decision.at - now) / SECOND, 1))
        history = decision.history
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0]


@pytest.mark.parametrize("luck", [0.0, 0.25, 0.5, 0.999])
@pytest.mark.parametrize("streak", [0, 3, 8, 1000])
def test_jitter_stays_within_its_share(streak: int, luck: float) -> None:
    plain = min(SECOND // 10 * 2 ** min(streak, 30), 30 * SECOND)
    assert 0.8 * plain <= backoff(LIMITS, streak, luck) <= 1.2 * plain
    assert backoff(replace(LIMITS, backoff_jitter=0.0), streak, luck) == plain


def test_a_death_after_a_stable_life_starts_again_at_once_and_forgets_early_deaths() -> None:
    decision = after(History(4, (1, 2, 3, 4)), SECOND, ready_for=SECOND // 2)
    assert isinstance(decision, StartAgain)
    assert decision.at == SECOND
    assert (decision.history.streak, decision.history.early) == (0, ())


def test_a_life_just_short_of_stable_is_an_early_death() -> None:
    decision = after(History(), SECOND, ready_for=SECOND // 2 - 1)
    assert isinstance(decision, StartAgain)
    assert decision.at > SECOND


def test_a_child_that_dies_soon_after_every_stable_life_is_slowed_down_in_the_end() -> None:
    history, allowed = History(), RAPID_FACTOR * LIMITS.intensity
    for death in range(allowed):
        decision = after(history, death * SECOND, ready_for=SECOND)
        assert isinstance(decision, StartAgain)
        assert decision.at == death * SECOND
        history = decision.history
    decision = after(history, allowed * SECOND, ready_for=SECOND)
    assert isinstance(decision, StartAgain)
    assert decision.at > allowed * SECOND


def test_twenty_kills_in_a_row_never_slow_down_a_worker_that_gets_ready_each_time() -> None:
    history = History()
    for death in range(20):
        now = death * SECOND // 10
        decision = after(history, now, ready_for=SECOND // 100, died=Exit(signal=9))
        assert isinstance(decision, StartAgain)
        assert decision.at == now
        history = decision.history


@pytest.mark.parametrize(("ready_for", "died"), [(None, Exit(signal=9)), (SECOND // 100, Exit(signal=11))])
def test_a_kill_before_readiness_and_a_crash_soon_after_it_are_early_deaths(ready_for: int | None, died: Exit) -> None:
    decision = after(History(), SECOND, ready_for=ready_for, died=died)
    assert isinstance(decision, StartAgain)
    assert decision.at > SECOND


def test_a_retry_that_dies_early_has_failed_again_at_once() -> None:
    decision = after(History(6, (), on_trial=True), SECOND)
    assert isinstance(decision, Fail)
    assert decision.retry_at == 301 * SECOND


def test_a_retry_that_lives_is_trusted_again() -> None:
    decision = after(History(6, (), on_trial=True), SECOND, ready_for=SECOND)
    assert isinstance(decision, StartAgain)
    assert not decision.history.on_trial


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_a_configuration_error_is_not_retried_whatever_the_policy(restart: str) -> None:
    decision = decide(LIMITS, restart, History(), Exit(code=78), SECOND, SECOND, 0.5)  # type: ignore[arg-type] # parametrized
    assert isinstance(decision, Fail)
    assert decision.retry_at is None


@pytest.mark.parametrize(
    ("restart", "died", "again"),
    [
        ("permanent", Exit(code=0), True),
        ("permanent", Exit(code=1), True),
        ("permanent", Exit(signal=9), True),
        ("permanent", Exit(), True),
        ("transient", Exit(code=0), False),
        ("transient", Exit(code=1), True),
        ("transient", Exit(signal=9), True),
        ("transient", Exit(), True),
        ("temporary", Exit(code=0), False),
        ("temporary", Exit(code=1), False),
        ("temporary", Exit(signal=9), False),
        ("temporary", Exit(), False),
    ],
)
def test_the_restart_policies_are_those_of_otp(restart: str, died: Exit, again: bool) -> None:
    decision = decide(LIMITS, restart, History(), died, SECOND, SECOND, 0.5)  # type: ignore[arg-type] # parametrized
    assert isinstance(decision, StartAgain if again else Finish)


def test_what_is_remembered_is_bounded() -> None:
    history = History()
    for death in range(1000):
        decision = after(history, death)
        assert not isinstance(decision, Finish)
        history = decision.history
    assert len(history.early) <= RAPID_FACTOR * LIMITS.intensity + 1
