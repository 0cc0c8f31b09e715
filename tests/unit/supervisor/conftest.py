"""Trees at the beginning and in the middle of their life."""

import pytest

from supervisor.child import SECOND
from supervisor.tree import HeartbeatSeen, Tick
from tests.unit.supervisor.play import Play


@pytest.fixture
def play() -> Play:
    """A tree in which nothing runs yet."""
    return Play()


@pytest.fixture
def running() -> Play:
    """A tree whose children have been ready for ten seconds."""
    play = Play()
    play.tell(Tick())
    for name in play.tree.children:
        play.ready(name)
    play.now += 10 * SECOND
    for name in play.tree.children:
        play.tell(HeartbeatSeen(name, 1, play.now))
    play.take()
    return play
