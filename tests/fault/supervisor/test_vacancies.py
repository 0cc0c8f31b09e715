"""Callers of a service that has no process, on real sockets."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.topology import Listener, Service
from supervisor.descriptors import Descriptors
from supervisor.sockets import Sockets, close_listeners, open_listeners
from supervisor.vacancies import Vacancies

pytestmark = pytest.mark.fault

FreePort = Callable[[], int]


@pytest.fixture
def sockets(short_path: Path, free_port: FreePort) -> Iterator[dict[str, Sockets]]:
    listeners = (
        Listener(name="rpc", kind="unix", path=str(short_path / "ca.sock")),
        Listener(name="https", kind="tcp", address="127.0.0.1", port=free_port()),
    )
    opened = open_listeners([Service(name="ca", module="x", listeners=listeners)], lambda _: None)
    yield opened
    close_listeners(opened)


def turn(descriptors: Descriptors) -> int:
    """One turn of a loop; how many descriptors had something to say."""
    ready = descriptors.wait(0)
    for key, events in ready:
        descriptors.call(key, events)
    return len(ready)


def test_its_callers_find_the_connection_closed_and_those_of_a_port_wait(sockets: dict[str, Sockets]) -> None:
    rpc, https = sockets["ca"]["rpc"][0], sockets["ca"]["https"][0]
    descriptors = Descriptors()
    vacancies = Vacancies(sockets, descriptors)
    vacancies.show("ca", vacant=True)
    with socket.socket(socket.AF_UNIX) as caller, socket.create_connection(https.getsockname()) as outside:
        caller.connect(rpc.getsockname())
        assert turn(descriptors) == 1
        caller.settimeout(5)
        assert caller.recv(1) == b""
        outside.setblocking(False)
        with pytest.raises(BlockingIOError):
            outside.recv(1)
    descriptors.close()


def test_as_soon_as_it_is_not_vacant_callers_are_left_to_its_process(sockets: dict[str, Sockets]) -> None:
    rpc = sockets["ca"]["rpc"][0]
    descriptors = Descriptors()
    vacancies = Vacancies(sockets, descriptors)
    for vacant in (True, True, False, False):
        vacancies.show("ca", vacant=vacant)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(rpc.getsockname())
        assert turn(descriptors) == 0
        rpc.accept()[0].close()
    descriptors.close()


def test_a_flood_of_callers_takes_several_turns(sockets: dict[str, Sockets]) -> None:
    rpc = sockets["ca"]["rpc"][0]
    descriptors = Descriptors()
    Vacancies(sockets, descriptors).show("ca", vacant=True)
    callers = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for caller in callers:
        caller.connect(rpc.getsockname())
    turns = 0
    while turn(descriptors):
        turns += 1
    assert turns == 2
    for caller in callers:
        caller.settimeout(5)
        assert caller.recv(1) == b""
        caller.close()
    descriptors.close()


def test_a_service_without_sockets_can_be_vacant_too() -> None:
    descriptors = Descriptors()
    Vacancies({}, descriptors).show("monitoring", vacant=True)
    assert descriptors.wait(0) == []
    descriptors.close()
