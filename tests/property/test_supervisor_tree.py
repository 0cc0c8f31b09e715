"""Random histories of a tree: what must hold whatever happens, in whatever order."""

import signal
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.child import SECOND, Cause, ChildSpec, Exit
from supervisor.child_events import ReadBeat, RecordDeath, Signal, Start
from supervisor.lifecycle import Policy, State
from supervisor.restart import Limits, StartAgain, backoff, decide
from supervisor.tree import (
    BlockReplaced,
    ChildBroken,
    ChildDied,
    ChildReady,
    Event,
    HeartbeatSeen,
    OperatorRestart,
    OperatorStart,
    OperatorStop,
    ReplacePolicy,
    Shutdown,
    Stalled,
    Tick,
    Tree,
    VerdictSeen,
    grow,
    next_deadline,
    step,
)

NAMES = ("monitoring", "ca", "dns", "api")
DEPENDS_ON = {"monitoring": (), "ca": (), "dns": ("ca",), "api": ("ca", "dns")}
POLICY = Policy(
    restart=Limits(
        stable_ns=SECOND // 2,
        backoff_initial_ns=SECOND // 10,
        backoff_max_ns=30 * SECOND,
        backoff_jitter=0.2,
        intensity=3,
        period_ns=60 * SECOND,
        failed_retry_ns=100 * SECOND,
    ),
    heartbeat_timeout_ns=5 * SECOND,
    ready_timeout_ns=10 * SECOND,
    drain_timeout_ns=3 * SECOND,
    abort_grace_ns=SECOND // 5,
)
REPLACE = ReplacePolicy(cooldown_ns=10 * SECOND, verdict_max_age_ns=20 * SECOND)

names = st.sampled_from(NAMES)
exits = st.sampled_from([Exit(code=0), Exit(code=1), Exit(code=78), Exit(signal=9), Exit(signal=6), Exit()])
moves = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.3, 1.0, 4.9, 5.1, 31.0, 200.0])),
    st.tuples(st.just("ready"), names),
    st.tuples(st.just("die"), names, exits),
    st.tuples(st.just("verdict"), names, st.sampled_from([0.0, 5.0, 30.0]), st.integers(-1, 1)),
    st.tuples(st.just("stale news"), names),
    st.tuples(st.sampled_from(["start", "stop", "restart", "break", "freeze"]), names),
    st.tuples(st.sampled_from(["block", "stall", "shut down", "shut down at once"])),
)
harmless = moves.filter(lambda move: move[0] not in ("shut down", "shut down at once", "stop"))


@dataclass
class World:
    """Processes as the kernel would have them, and the invariants that every action is checked against."""

    tree: Tree
    now: int = 1_000 * SECOND
    alive: dict[str, int] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    stopped_by_operator: set[str] = field(default_factory=set)
    never_started: set[str] = field(default_factory=lambda: set(NAMES))
    shutting_down: bool = False

    def tell(self, event: Event) -> None:
        before = self.tree
        self.tree, actions = step(before, event, self.now)
        # A configuration error before the tree was complete shuts it down too.
        self.shutting_down |= self.tree.stopping
        for action in actions:
            match action:
                case Start(name=name, generation=generation):
                    self._started(before, name, generation)
                case Signal(name=name, generation=generation, number=number):
                    assert self.alive.get(name) == generation, f"{number.name} to a process that {name} does not have"
                    self._signalled(name, number, event)
                case ReadBeat(name=name, generation=generation):
                    beat = 0 if name in self.frozen else self.now
                    self.tell(HeartbeatSeen(name, generation, beat))
                case RecordDeath(death=death):
                    assert isinstance(event, ChildDied)
                    assert (death.service, death.generation) == (event.name, event.generation)
        self._check()

    def _started(self, before: Tree, name: str, generation: int) -> None:
        assert name not in self.alive, f"two live processes of {name}"
        assert name not in self.stopped_by_operator, f"the operator's stop of {name} was undone"
        assert not self.shutting_down, "a start during shutdown"
        assert generation == before.children[name].generation + 1
        if name in self.never_started:
            ready = [self.tree.children[other].state is State.READY for other in DEPENDS_ON[name]]
            assert all(ready), f"{name} was started before what it depends on was ready"
        self.never_started.discard(name)
        self.alive[name] = generation

    def _signalled(self, name: str, number: signal.Signals, event: Event) -> None:
        if number is signal.SIGKILL:
            self.doomed.add(name)
        if number is signal.SIGTERM and self.shutting_down and not isinstance(event, ChildBroken):
            later = NAMES[NAMES.index(name) + 1 :]
            assert not any(other in self.alive for other in later), f"{name} was told to stop before {later}"
        if isinstance(event, ChildReady | ChildDied | HeartbeatSeen | VerdictSeen) and not self.shutting_down:
            rolling = self.tree.replacing is not None and self.tree.replacing[0] == name
            assert event.name == name or rolling, f"{name} was signalled for something about {event.name}"

    def _check(self) -> None:
        for name, child in self.tree.children.items():
            assert child.alive == (name in self.alive), f"{name} is {child.state}"
            if child.alive:
                assert self.alive[name] == child.generation
            if child.state in (State.STARTING, State.DRAINING, State.BACKOFF):
                assert child.deadline is not None, f"{name} is {child.state} for ever"
            if child.state is State.READY and child.watched:
                assert child.deadline is not None
        draining_for_all = [
            name
            for name, child in self.tree.children.items()
            if child.state is State.DRAINING and child.ending in (Cause.VERDICT, Cause.BLOCK)
        ]
        assert len(draining_for_all) <= 1, "two workers are being replaced at once"

    def die(self, name: str, died: Exit) -> None:
        if name in self.alive:
            generation = self.alive.pop(name)
            self.doomed.discard(name)
            self.frozen.discard(name)
            self.tell(ChildDied(name, generation, died, 0.7))

    def wait(self, seconds: float) -> None:
        """Let time pass as the loop would: from deadline to deadline, killed processes dying in between."""
        until = self.now + int(seconds * SECOND)
        for _ in range(500):
            due = next_deadline(self.tree)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.tell(Tick())
            for name in list(self.doomed):
                self.die(name, Exit(signal=9))
        else:
            raise AssertionError("the tree is never satisfied")
        self.now = until
        self.tell(Tick())

    def play(self, move: tuple[object, ...]) -> None:
        match move:
            case ("wait", float(seconds)):
                self.wait(seconds)
            case ("ready", str(name)) if name in self.alive:
                self.tell(ChildReady(name, self.alive[name]))
            case ("die", str(name), Exit() as died):
                self.die(name, died)
            case ("verdict", str(name), float(age), int(shift)):
                generation = self.tree.children[name].generation + shift
                before = self.tree.children[name]
                self.tell(VerdictSeen(name, generation, self.now - int(age * SECOND), "sick"))
                if shift or age > 20.0:
                    assert self.tree.children[name] == before, "a stale or foreign verdict did something"
            case ("stale news", str(name)):
                generation = self.tree.children[name].generation - 1
                before_tree = self.tree
                self.tell(ChildDied(name, generation, Exit(signal=9), 0.5))
                assert self.tree.children == before_tree.children
            case ("freeze", str(name)) if name in self.alive:
                self.frozen.add(name)
            case _:
                self._play_command(move)

    def _play_command(self, move: tuple[object, ...]) -> None:
        match move:
            case ("start", str(name)):
                self._forgive(name)
                self.tell(OperatorStart(name))
            case ("restart", str(name)):
                self._forgive(name)
                self.tell(OperatorRestart(name))
            case ("stop", str(name)):
                if not self.tree.stopping:
                    self.stopped_by_operator.add(name)
                self.tell(OperatorStop(name))
            case ("break", str(name)) if name in self.alive:
                self.tell(ChildBroken(name, self.alive[name], "test"))
            case ("block",):
                self.tell(BlockReplaced(tuple(self.alive.items())))
            case ("stall",):
                self.tell(Stalled())
            case ("shut down" | "shut down at once" as how,):
                self.shutting_down = True
                self.tell(Shutdown(immediately=how == "shut down at once"))

    def _forgive(self, name: str) -> None:
        if not self.tree.stopping:
            self.stopped_by_operator.discard(name)


def new_world(complete: bool = False) -> World:
    specs = tuple(ChildSpec(name=name, slot=slot, depends_on=DEPENDS_ON[name]) for slot, name in enumerate(NAMES))
    world = World(grow(specs, POLICY, REPLACE))
    world.tell(Tick())
    for name in NAMES if complete else ():
        world.play(("ready", name))
    world.wait(1.0)
    return world


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(moves, max_size=60))
def test_no_history_breaks_the_tree(complete: bool, history: list[tuple[object, ...]]) -> None:
    world = new_world(complete)
    for move in history:
        world.play(move)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(moves, max_size=40))
def test_from_every_state_a_shutdown_ends_the_tree_within_its_limits(
    complete: bool, history: list[tuple[object, ...]]
) -> None:
    """Even if no process ever obeys SIGTERM: each gets its drain time, one after the other, and then SIGKILL."""
    world = new_world(complete)
    for move in history:
        world.play(move)
    world.play(("shut down",))
    world.wait(len(NAMES) * (3.0 + 0.2) + 1)
    assert world.tree.ended
    assert world.alive == {}


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(harmless, max_size=40))
def test_from_every_state_the_tree_heals_once_nothing_breaks_it_any_more(
    complete: bool, history: list[tuple[object, ...]]
) -> None:
    """Workers that get ready at once, the operator restarting what has a configuration error: all are ready again."""
    world = new_world(complete)
    for move in history:
        world.play(move)
    if world.tree.stopping:
        return  # a configuration error before the tree was complete
    world.frozen.clear()
    for name in NAMES:
        if world.tree.children[name].state is State.FAILED:
            world.play(("start", name))
    for _ in range(100):
        for name in list(world.alive):
            world.play(("ready", name))
        world.wait(2.0)
    assert {child.state for child in world.tree.children.values()} == {State.READY}
    assert world.tree.complete


@given(
    streak=st.integers(0, 10_000),
    luck=st.floats(0, 1, exclude_max=True),
    jitter=st.floats(0, 1),
)
def test_a_pause_is_never_negative_nor_longer_than_the_cap_and_its_jitter(
    streak: int, luck: float, jitter: float
) -> None:
    limits = Limits(
        stable_ns=1,
        backoff_initial_ns=SECOND // 10,
        backoff_max_ns=30 * SECOND,
        backoff_jitter=jitter,
        intensity=5,
        period_ns=SECOND,
        failed_retry_ns=SECOND,
    )
    assert 0 <= backoff(limits, streak, luck) <= 30 * SECOND * (1 + jitter)


@given(exits.filter(lambda died: died.code != 78), st.integers(0, 2**63), st.floats(0, 1, exclude_max=True))
def test_a_permanent_child_always_gets_another_start(died: Exit, now: int, luck: float) -> None:
    decision = decide(POLICY.restart, "permanent", new_world().tree.children["ca"].history, died, None, now, luck)
    assert isinstance(decision, StartAgain)
    assert decision.at >= now
