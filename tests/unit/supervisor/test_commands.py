"""What the operator's commands ask of the tree, and what they answer."""

from dataclasses import replace
from types import MappingProxyType

from supervisor.child import SECOND, ChildSpec
from supervisor.commands import Pending, accept, outcome
from supervisor.lifecycle import Child, Policy, State
from supervisor.messages import Reply, Request
from supervisor.restart import Limits
from supervisor.tree import OperatorRestart, OperatorStart, OperatorStop, ReplacePolicy, Tree, grow

NOW = 100 * SECOND
LIMITS = Limits(
    stable_ns=SECOND, backoff_initial_ns=1, backoff_max_ns=2, backoff_jitter=0, intensity=5, period_ns=60 * SECOND,
    failed_retry_ns=SECOND,
)  # fmt: skip
POLICY = Policy(
    restart=LIMITS, heartbeat_timeout_ns=5 * SECOND, ready_timeout_ns=30 * SECOND, drain_timeout_ns=10 * SECOND,
    abort_grace_ns=SECOND,
)  # fmt: skip
SPEC = ChildSpec(name="ca", slot=0)


def with_ca(state: State, **fields: object) -> Tree:
    grown = grow(
        (SPEC, ChildSpec(name="api", slot=1, depends_on=("ca",))),
        POLICY,
        ReplacePolicy(cooldown_ns=1, verdict_max_age_ns=1),
    )
    ca = replace(Child(spec=SPEC), state=state, **fields)  # type: ignore[arg-type] # tests name real fields
    return replace(grown, children=MappingProxyType({**grown.children, "ca": ca}))


def accepted(command: str, now_in: Tree) -> tuple[object, Pending]:
    answer = accept(now_in, Request(command=command, service="ca"), NOW)
    assert not isinstance(answer, Reply), answer
    return answer


def test_each_command_becomes_its_event() -> None:
    running = with_ca(State.READY, generation=3)
    assert accepted("stop", running)[0] == OperatorStop("ca")
    assert accepted("restart", running)[0] == OperatorRestart("ca")
    assert accepted("start", with_ca(State.FAILED))[0] == OperatorStart("ca")


def test_a_command_waits_as_long_as_the_work_may_take_and_two_seconds() -> None:
    running = with_ca(State.READY, generation=3)
    assert accepted("stop", running)[1].deadline == NOW + 12 * SECOND
    assert accepted("restart", running)[1].deadline == NOW + 42 * SECOND
    assert accepted("start", with_ca(State.FAILED))[1].deadline == NOW + 32 * SECOND


def test_a_restart_is_done_when_another_process_is_ready() -> None:
    pending = Pending("restart", "ca", 3, NOW + SECOND)
    for state, generation in ((State.READY, 3), (State.DRAINING, 3), (State.STARTING, 4)):
        assert outcome(with_ca(state, generation=generation), pending, NOW) is None
    assert outcome(with_ca(State.READY, generation=4), pending, NOW) == Reply(ok=True, message="ca restarted and ready")


def test_a_restart_that_leads_to_a_crash_is_told() -> None:
    pending = Pending("restart", "ca", 3, NOW + SECOND)
    reply = outcome(with_ca(State.BACKOFF, generation=4, detail="early death 1 in a row"), pending, NOW)
    assert reply == Reply(ok=False, message="ca was started and died: backoff, early death 1 in a row")


def test_a_command_that_takes_too_long_says_how_far_it_got() -> None:
    pending = Pending("restart", "ca", 3, NOW)
    reply = outcome(with_ca(State.DRAINING, generation=3), pending, NOW)
    assert reply is not None
    assert (reply.ok, reply.message) == (
        False,
        "ca is still draining; `trustchain status` shows how it goes on",
    )


def test_a_start_that_has_to_wait_for_others_says_for_whom() -> None:
    waiting = with_ca(State.STARTING, generation=1)
    pending = Pending("start", "api", 0, NOW + SECOND)
    reply = outcome(waiting, pending, NOW)
    assert reply == Reply(ok=True, message="api starts as soon as ca is ready")


def test_a_stop_is_done_when_the_process_is_gone() -> None:
    pending = Pending("stop", "ca", 3, NOW + SECOND)
    assert outcome(with_ca(State.DRAINING, wanted=False), pending, NOW) is None
    assert outcome(with_ca(State.STOPPED, wanted=False), pending, NOW) == Reply(ok=True, message="ca stopped")
    taken_back = outcome(with_ca(State.DRAINING, wanted=True), pending, NOW)
    assert taken_back == Reply(ok=False, message="ca was started again meanwhile")


def test_nothing_is_commanded_during_a_shutdown() -> None:
    stopping = replace(with_ca(State.READY), stopping=True)
    assert accept(stopping, Request(command="restart", service="ca"), NOW) == Reply(
        ok=False, message="the tree is shutting down"
    )
