"""A tree under test, its clock, and what it asked of the shell."""

import signal
from dataclasses import dataclass, field

from supervisor.child import SECOND, ChildSpec, Exit
from supervisor.child_events import Action, Signal, Start
from supervisor.lifecycle import Policy, State
from supervisor.restart import Limits
from supervisor.tree import (
    BlockReplaced,
    ChildDied,
    ChildReady,
    Event,
    ReplacePolicy,
    Tick,
    Tree,
    VerdictSeen,
    grow,
    step,
)

POLICY = Policy(
    restart=Limits(
        stable_ns=SECOND // 2,
        backoff_initial_ns=SECOND // 10,
        backoff_max_ns=30 * SECOND,
        backoff_jitter=0.0,
        intensity=5,
        period_ns=60 * SECOND,
        failed_retry_ns=300 * SECOND,
    ),
    heartbeat_timeout_ns=5 * SECOND,
    ready_timeout_ns=30 * SECOND,
    drain_timeout_ns=10 * SECOND,
    abort_grace_ns=SECOND // 5,
)
REPLACE = ReplacePolicy(cooldown_ns=30 * SECOND, verdict_max_age_ns=60 * SECOND)
SPECS = (
    ChildSpec(name="monitoring", slot=0),
    ChildSpec(name="ca", slot=1),
    ChildSpec(name="api", slot=2, depends_on=("ca",)),
)


@dataclass
class Play:
    """A tree, the time, and all that was asked of the shell since the last `take`."""

    tree: Tree = field(default_factory=lambda: grow(SPECS, POLICY, REPLACE))
    now: int = 100 * SECOND
    actions: list[Action] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        self.tree, actions = step(self.tree, event, self.now)
        self.actions += actions

    def take(self) -> list[Action]:
        taken, self.actions = self.actions, []
        return taken

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.tell(Tick())

    def state(self, name: str) -> State:
        return self.tree.children[name].state

    def generation(self, name: str) -> int:
        return self.tree.children[name].generation

    def ready(self, name: str) -> None:
        self.tell(ChildReady(name, self.generation(name)))

    def dies(self, name: str, died: Exit = Exit(signal=9)) -> None:  # noqa: B008 - a frozen value
        self.tell(ChildDied(name, self.generation(name), died, 0.5))

    def verdict(self, name: str, age: float = 0.0, generation: int | None = None) -> None:
        published = self.now - int(age * SECOND)
        self.tell(VerdictSeen(name, generation or self.generation(name), published, "probe fails"))

    def replace_block(self) -> None:
        self.tell(BlockReplaced(tuple((child.spec.name, child.generation) for child in self.tree.children.values())))

    def starts(self) -> list[str]:
        return [action.name for action in self.take() if isinstance(action, Start)]

    def signals(self) -> list[tuple[str, signal.Signals]]:
        return [(action.name, action.number) for action in self.take() if isinstance(action, Signal)]
