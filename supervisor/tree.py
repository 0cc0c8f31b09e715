"""The whole tree as a value: (state, event, now) -> (state, actions). Pure; the shells around it only observe and obey.

Rules:
- Children are given in start order: each one follows what it depends on. A child's first start waits until all that it
  depends on is ready; later it is started without regard to them, and is left alone when one of them is replaced.
- The stop order is the reverse of the start order, one child after the other.
- At most one child at a time is replaced for a verdict or for a new block. Verdicts keep a cool-down between them, and
  one that is stale, unknown or about another generation does nothing.
- What is said about a process names its generation; news of an older one is ignored.
- A required child that has a configuration error before the tree was ever complete ends the tree with exit code 78: it
  could not become ready, and a clear error beats a start that never ends. Later only that child fails.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from supervisor import child_events, lifecycle
from supervisor.child import Cause, ChildSpec, Exit
from supervisor.child_events import Action
from supervisor.errors import CONFIGURATION_ERROR
from supervisor.lifecycle import Child, Policy, State


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacePolicy:
    """How verdicts may be obeyed, in nanoseconds."""

    cooldown_ns: int
    verdict_max_age_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Every child, and what concerns them together.

    `complete`: every required child has been ready at one moment. `rolling`: generations still to be replaced, in
    order; `replacing`: the one whose replacement is awaited.
    """

    children: Mapping[str, Child]
    policy: Policy
    replace_policy: ReplacePolicy
    complete: bool = False
    stopping: bool = False
    exit_code: int = 0
    rolling: tuple[tuple[str, int], ...] = ()
    replacing: tuple[str, int] | None = None
    last_verdict_at: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the tree was shut down and no process is left."""
        return self.stopping and not any(child.alive for child in self.children.values())

    @property
    def ready(self) -> bool:
        """Whether every required child is ready now."""
        return all(child.state is State.READY for child in self.children.values() if child.spec.required)

    def waiting_for(self, child: Child) -> tuple[str, ...]:
        """Return the dependencies whose readiness the child's first start still waits for."""
        if child.generation or child.state is not State.STOPPED or not child.wanted:
            return ()
        return tuple(name for name in child.spec.depends_on if self.children[name].state is not State.READY)


# -- events


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The process said over its leash that it serves."""

    name: str
    generation: int


@dataclass(frozen=True, slots=True)
class ChildDied:
    """The process is gone, or never came to be (`cause` NOT_STARTED). `luck`: random, from [0, 1)."""

    name: str
    generation: int
    exit: Exit
    luck: float
    cause: Cause | None = None
    detail: str = ""
    beat_at: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatSeen:
    """What the block says about this generation; `at` 0: nothing yet."""

    name: str
    generation: int
    at: int


@dataclass(frozen=True, slots=True)
class VerdictSeen:
    """The monitor wants this generation replaced; it judged at `published_at`."""

    name: str
    generation: int
    published_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChildBroken:
    """The supervisor failed at its own work for this process: replace it."""

    name: str
    generation: int
    detail: str


@dataclass(frozen=True, slots=True)
class OperatorStart:
    """`trustchain start`."""

    name: str


@dataclass(frozen=True, slots=True)
class OperatorStop:
    """`trustchain stop`."""

    name: str


@dataclass(frozen=True, slots=True)
class OperatorRestart:
    """`trustchain restart`."""

    name: str


@dataclass(frozen=True, slots=True)
class BlockReplaced:
    """There is a new metrics block, and these generations still write to the old one."""

    outdated: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Stalled:
    """The supervisor itself was stopped for a while, and maybe the children with it."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End the tree; `immediately` by SIGKILL, otherwise in order and with drain."""

    immediately: bool = False


Event = (
    Tick
    | ChildReady
    | ChildDied
    | HeartbeatSeen
    | VerdictSeen
    | ChildBroken
    | OperatorStart
    | OperatorStop
    | OperatorRestart
    | BlockReplaced
    | Stalled
    | Shutdown
)
Result = tuple[Tree, tuple[Action, ...]]


def grow(specs: tuple[ChildSpec, ...], policy: Policy, replace_policy: ReplacePolicy) -> Tree:
    """Return a tree in which nothing runs yet; the first `Tick` starts it.

    Raises ValueError for two children of one name and for a dependency that does not come before its dependent.
    """
    children: dict[str, Child] = {}
    for spec in specs:
        if spec.name in children:
            raise ValueError(f"two children are named {spec.name!r}")
        missing = [name for name in spec.depends_on if name not in children]
        if missing:
            raise ValueError(f"{spec.name} depends on {', '.join(missing)}, which does not come before it")
        children[spec.name] = Child(spec=spec)
    return Tree(children=MappingProxyType(children), policy=policy, replace_policy=replace_policy)


def step(tree: Tree, event: Event, now: int) -> Result:
    """Return the tree after `event` and what has to be done, in order. Raises KeyError for an unknown child only."""
    growth = _Growth(tree, now)
    _take(growth, event)
    _advance(growth)
    return growth.tree, tuple(growth.actions)


def next_deadline(tree: Tree) -> int | None:
    """Return when the tree next needs a `Tick`; None: only an event can change it."""
    return min((child.deadline for child in tree.children.values() if child.deadline is not None), default=None)


@dataclass(slots=True)
class _Growth:
    """One step in the making."""

    tree: Tree
    now: int
    actions: list[Action] = field(default_factory=list)

    def tell(self, name: str, event: child_events.Event) -> None:
        child, actions = lifecycle.step(self.tree.children[name], event, self.now, self.tree.policy)
        self.change(children=MappingProxyType({**self.tree.children, name: child}))
        self.actions.extend(actions)

    def change(self, **changes: object) -> None:
        self.tree = replace(self.tree, **changes)  # type: ignore[arg-type] # the callers below name real fields

    def children(self) -> Iterator[Child]:
        """Each child as it is when its turn comes."""
        for name in self.tree.children:
            yield self.tree.children[name]


def _take(growth: _Growth, event: Event) -> None:
    match event:
        case Tick():
            _take_tick(growth)
        case ChildReady() | ChildDied() | HeartbeatSeen() | VerdictSeen() | ChildBroken():
            if growth.tree.children[event.name].generation == event.generation:
                _take_news(growth, event)
        case OperatorStart() | OperatorStop() | OperatorRestart():
            _take_command(growth, event)
        case BlockReplaced():
            _take_block(growth, event)
        case Stalled():
            for child in growth.children():
                growth.tell(child.spec.name, child_events.Excuse(watched=True))
        case Shutdown(immediately=immediately):
            _take_shutdown(growth, immediately)


def _take_tick(growth: _Growth) -> None:
    for child in growth.children():
        if child.deadline is not None and child.deadline <= growth.now:
            growth.tell(child.spec.name, child_events.Due())


def _take_news(growth: _Growth, event: ChildReady | ChildDied | HeartbeatSeen | VerdictSeen | ChildBroken) -> None:
    match event:
        case ChildReady(name=name):
            growth.tell(name, child_events.Ready())
        case ChildDied(name=name):
            died = child_events.Died(event.exit, event.luck, event.cause, event.detail, event.beat_at)
            growth.tell(name, died)
            _end_if_hopeless(growth, event)
        case HeartbeatSeen(name=name, at=at):
            growth.tell(name, child_events.Beat(at))
        case ChildBroken(name=name, detail=detail):
            growth.tell(name, child_events.End(Cause.SUPERVISOR, again=True, detail=detail))
        case VerdictSeen():
            _take_verdict(growth, event)


def _end_if_hopeless(growth: _Growth, event: ChildDied) -> None:
    child = growth.tree.children[event.name]
    hopeless = child.state is State.FAILED and event.exit.code == CONFIGURATION_ERROR
    if hopeless and child.spec.required and not growth.tree.complete and not growth.tree.stopping:
        growth.change(exit_code=CONFIGURATION_ERROR)
        _take_shutdown(growth, immediately=False)


def _take_verdict(growth: _Growth, event: VerdictSeen) -> None:
    tree, rules = growth.tree, growth.tree.replace_policy
    stale = not 0 <= growth.now - event.published_at <= rules.verdict_max_age_ns
    cooling = tree.last_verdict_at is not None and growth.now - tree.last_verdict_at < rules.cooldown_ns
    child = tree.children[event.name]
    # A verdict from before the process was ready is about its predecessor's troubles or about its start.
    premature = child.ready_at is None or event.published_at < child.ready_at
    busy = tree.replacing is not None or bool(tree.rolling) or tree.stopping
    if child.state is not State.READY or stale or cooling or premature or busy:
        return
    growth.change(replacing=(event.name, event.generation), last_verdict_at=growth.now)
    growth.tell(event.name, child_events.End(Cause.VERDICT, again=True, detail=event.reason))


def _take_command(growth: _Growth, event: OperatorStart | OperatorStop | OperatorRestart) -> None:
    if growth.tree.stopping:
        return
    match event:
        case OperatorStart(name=name):
            growth.tell(name, child_events.Want())
        case OperatorStop(name=name):
            growth.tell(name, child_events.End(Cause.OPERATOR, again=False, detail="stop"))
        case OperatorRestart(name=name):
            growth.tell(name, child_events.Renew())


def _take_block(growth: _Growth, event: BlockReplaced) -> None:
    if growth.tree.stopping:
        return
    present = {child.spec.name: child.generation for child in growth.children() if child.alive}
    rolling = tuple((name, generation) for name, generation in present.items() if (name, generation) in event.outdated)
    for name, _ in rolling:
        growth.tell(name, child_events.Excuse(watched=False))
    growth.change(rolling=rolling)


def _take_shutdown(growth: _Growth, immediately: bool) -> None:
    growth.change(stopping=True, rolling=(), replacing=None)
    # Whoever dies while others still drain must not be started again.
    for child in growth.children():
        growth.tell(child.spec.name, child_events.Abort() if immediately else child_events.Dismiss())


# -- what follows from the state alone, after every event


def _advance(growth: _Growth) -> None:
    if growth.tree.stopping:
        _stop_next(growth)
        return
    _roll(growth)
    for child in growth.children():
        if child.state is State.STOPPED and child.wanted and not growth.tree.waiting_for(child):
            growth.tell(child.spec.name, child_events.Begin())
    if not growth.tree.complete and growth.tree.ready:
        growth.change(complete=True)


def _stop_next(growth: _Growth) -> None:
    """Drain the last child in start order that still runs; one that drains already only hears it again."""
    last = next((child for child in reversed(list(growth.children())) if child.alive), None)
    if last is not None:
        growth.tell(last.spec.name, child_events.End(Cause.SHUTDOWN, again=False))


def _roll(growth: _Growth) -> None:
    """Let the next generation on the list go, once the last one's successor serves or has failed by itself."""
    if growth.tree.replacing is not None:
        name, generation = growth.tree.replacing
        successor = growth.tree.children[name]
        awaited = successor.generation == generation or successor.state in (State.STARTING, State.DRAINING)
        if awaited and successor.alive:
            return
        growth.change(replacing=None)
    while growth.tree.rolling and growth.tree.replacing is None:
        (name, generation), *rest = growth.tree.rolling
        growth.change(rolling=tuple(rest))
        child = growth.tree.children[name]
        if child.generation == generation and child.alive:
            growth.change(replacing=(name, generation))
            growth.tell(name, child_events.End(Cause.BLOCK, again=True))
