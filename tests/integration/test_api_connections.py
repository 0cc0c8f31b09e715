"""The API's connections: bounded in number and time, and ended politely."""

import asyncio
import concurrent.futures
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.api.holdings import SHARES
from services.ct.messages import Entry
from tests.integration.running_api import RunningApi
from tests.rig.polling import eventually
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

CSR = signing_request("a.test", key=new_key())
MIB = 1_048_576


@pytest.fixture
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    remove_directory(made)


def issue(api: RunningApi) -> int:
    return api.ask("POST", "/v1/certificates", {"csr": CSR}).status


def silent(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_connections_that_say_nothing_do_not_keep_others_out(directory: Path) -> None:
    """More half-open connections than are allowed, from the same address: a client still gets its answer at once."""
    with RunningApi(directory, max_connections=8) as api, ExitStack() as opened:
        for _ in range(14):
            opened.enter_context(silent(api.port))
        eventually("all places are taken", lambda: api.metrics.gauge("trustchain_api_connections").value == 8, 10.0)
        started = time.monotonic()
        assert issue(api) == 201
        assert time.monotonic() - started < 4.0, "well below the limit for handshakes"
        assert api.metrics.gauge("trustchain_api_connections").value <= 8
        assert api.count("trustchain_api_connections_ended_total", reason="room") >= 7


def test_a_stream_of_connections_that_say_nothing_does_not_keep_others_out(directory: Path) -> None:
    """All places are always taken, and by connections that have just come: five times as many as there are places in
    each second, from the client's own address. It still gets every answer."""
    with RunningApi(directory, max_connections=20) as api, ExitStack() as opened:
        stop = threading.Event()

        def flood() -> None:
            while not stop.wait(0.01):
                opened.enter_context(silent(api.port))

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            eventually("room is made", lambda: api.count("trustchain_api_connections_ended_total", reason="room"), 10.0)
            for _ in range(5):
                started = time.monotonic()
                assert issue(api) == 201
                assert time.monotonic() - started < 3.0
                stop.wait(0.4)
        finally:
            stop.set()
            flooding.join()


@pytest.mark.skipif(not socket.has_ipv6, reason="this host has no IPv6")
def test_the_connections_of_an_ipv6_client_are_counted_by_its_network(directory: Path) -> None:
    """It has 2**64 addresses to come from."""
    with RunningApi(directory) as api, socket.create_connection(api.sockets[1].getsockname()[:2], timeout=10):
        eventually("it is accepted", lambda: api.metrics.gauge("trustchain_api_connections").value == 1, 10.0)
        assert api.service is not None
        assert [occupant.address for occupant in api.service._connections._open] == ["::/64"]


def test_idle_connections_make_room(directory: Path) -> None:
    with RunningApi(directory, max_connections=4) as api:
        idle = [api.client() for _ in range(4)]
        for connection in idle:
            connection.request("GET", "/v1/ca/roots", headers={"Authorization": f"Bearer {api.token}"})
            connection.getresponse().read()
        assert issue(api) == 201
        for connection in idle:
            connection.close()


def test_when_all_connections_are_being_answered_new_ones_wait_for_their_turn(directory: Path) -> None:
    with RunningApi(directory, max_connections=2) as api, concurrent.futures.ThreadPoolExecutor(8) as threads:

        async def slow(_: object) -> None:
            await asyncio.sleep(0.1)

        api.authority.fault = slow
        assert set(threads.map(lambda _: issue(api), range(8))) == {201}


def trickled(connection: socket.socket, octet: bytes) -> bytes:
    """What comes back when `octet` is sent again and again; nothing when the other side ends the connection."""
    connection.settimeout(0.05)
    for _ in range(160):
        try:
            connection.sendall(octet)
            return connection.recv(100)
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("the connection was not ended within 8 s")


@pytest.mark.parametrize("what", ["handshake", "reading", "reading plain HTTP"])
def test_a_connection_that_trickles_is_ended(directory: Path, what: str) -> None:
    """Octets that keep coming do not prolong a phase: neither the handshake nor the headers of a request."""
    with RunningApi(directory, body_timeout=0.3) as api:
        opened = {
            "handshake": lambda: silent(api.port),
            "reading": api.connect,
            "reading plain HTTP": api.connect_plain,
        }
        connection: Any = opened[what]()
        started = time.monotonic()
        with connection:
            if what != "handshake":
                connection.sendall(b"GET /v1/ca/roots HTTP/1.1\r\nX: ")
            assert not trickled(connection, b"\x16" if what == "handshake" else b"a")
        assert time.monotonic() - started < 5.0
        eventually("the connection is closed", lambda: api.metrics.gauge("trustchain_api_connections").value == 0, 5.0)


def test_a_target_that_nobody_can_read_is_answered_at_once(directory: Path) -> None:
    with RunningApi(directory) as api, api.connect(timeout=3) as connection:
        connection.sendall(b"GET https://xn--a/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400 ")


def test_a_flood_of_broken_handshakes_leaks_no_descriptor(directory: Path) -> None:
    with RunningApi(directory, max_connections=16) as api:
        assert issue(api) == 201
        before = len(os.listdir("/proc/self/fd"))
        for number in range(200):
            with silent(api.port) as connection:
                connection.sendall(b"\x16\x03\x01\x00\xff" if number % 2 else b"rubbish")
        eventually(
            "all connections are closed", lambda: api.metrics.gauge("trustchain_api_connections").value == 0, 10.0
        )
        eventually("no descriptor leaks", lambda: len(os.listdir("/proc/self/fd")) <= before + 2, 10.0)
        assert issue(api) == 201


def test_a_drain_finishes_what_is_in_flight_and_ends_what_is_idle(directory: Path) -> None:
    with RunningApi(directory) as api, concurrent.futures.ThreadPoolExecutor() as threads:
        begun = asyncio.Event()

        async def slow(_: object) -> None:
            begun.set()
            await asyncio.sleep(0.8)

        idle = api.client()
        idle.connect()
        api.authority.fault = slow
        request = threads.submit(issue, api)
        api.run(begun.wait())
        assert api.service is not None
        api.run(api.service.drain())
        assert request.result(1) == 201
        assert api.metrics.gauge("trustchain_api_connections").value == 0
        api.authority.fault = None
        waiting = threads.submit(issue, api)  # in the backlog, for the next worker
        api.stop()
        api.start()
        assert waiting.result(10) == 201
        idle.close()


def test_a_client_that_keeps_sending_through_a_drain_is_told_to_reconnect(directory: Path) -> None:
    with RunningApi(directory) as api, api.connect() as connection:
        request = b"GET /v1/ca/roots HTTP/1.1\r\nHost: a\r\n\r\n"
        connection.sendall(request)
        assert b"Connection: close" not in connection.recv(65536)
        assert api.service is not None
        draining = api.begin(api.service.drain())
        connection.sendall(request)
        assert b"Connection: close" in connection.recv(65536)
        assert connection.recv(1) == b""
        draining.result(5)


def test_plain_http_and_https_share_the_places_and_neither_keeps_the_other_out(directory: Path) -> None:
    with RunningApi(directory, max_connections=8) as api, ExitStack() as opened:
        crl = f"/crl/{api.authority.issuer_id}/0.crl"
        gauge = api.metrics.gauge("trustchain_api_connections")
        for port in (api.plain_port, api.port):
            for _ in range(10):
                opened.enter_context(silent(port))
            eventually("all places are taken", lambda: gauge.value == 8, 10.0)
            started = time.monotonic()
            assert issue(api) == 201
            assert api.ask_plain("GET", crl).status == 200
            assert time.monotonic() - started < 8.0
            assert gauge.value <= 8


def test_a_drain_finishes_plain_requests_and_ends_what_is_idle(directory: Path) -> None:
    with RunningApi(directory) as api, concurrent.futures.ThreadPoolExecutor() as threads:
        crl, begun = f"/crl/{api.authority.issuer_id}/0.crl", asyncio.Event()

        async def slow(_: object) -> None:
            begun.set()
            await asyncio.sleep(0.8)

        with api.connect_plain() as idle:
            api.authority.fault = slow
            request = threads.submit(api.ask_plain, "GET", crl)
            api.run(begun.wait())
            assert api.service is not None
            api.run(api.service.drain())
            answer = request.result(1)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert api.metrics.gauge("trustchain_api_connections").value == 0
            assert idle.recv(1) == b""
        api.authority.fault = None
        waiting = threads.submit(api.ask_plain, "GET", crl)  # in the backlog, for the next worker
        api.stop()
        api.start()
        assert waiting.result(10).status == 200


def bound_memory(monkeypatch: pytest.MonkeyPatch, mebibytes: int) -> None:
    """Each address may make a server that starts from now on hold so much."""
    monkeypatch.setattr("services.api.connections.MAX_HELD_OCTETS", SHARES * mebibytes * MIB)


def held(api: RunningApi) -> int:
    assert api.service is not None
    return api.service._connections.holdings.total


def test_answers_that_nobody_reads_are_bounded_for_each_address_and_leave_with_their_connections(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_memory(monkeypatch, 4)
    with RunningApi(directory) as api:
        api.log.entries = [Entry(leaf_input=bytes(MIB), extra_data=b"")] * 24
        tile = "/ct/tile/data/000.p/24"
        with api.connect() as deaf:
            deaf.sendall(f"GET {tile} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            eventually("the answer waits to be read", lambda: held(api) == 24 * MIB, 10.0)
            refused = api.ask("GET", tile, token=None)
            assert (refused.status, refused.json()["type"]) == (429, "urn:trustchain:problem:rate-limited")
            assert api.ask("GET", "/ct/v1/get-sth", token=None).status == 200, "what is small is always answered"
            assert len(api.ask("GET", tile).body) == 24 * MIB, "who has a token is not limited by those who have none"
        eventually("nothing is held for who is gone", lambda: held(api) == 0, 10.0)
        assert len(api.ask("GET", tile, token=None).body) == 24 * MIB
        eventually("nothing is held for who has read it all", lambda: held(api) == 0, 10.0)


def test_bodies_that_are_never_complete_are_bounded_for_each_address(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_memory(monkeypatch, 1)
    head = b"POST /ct/v1/add-chain HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with RunningApi(directory) as api, api.connect() as slow:
        slow.sendall(head % 800_000 + b" " * 700_000)
        eventually("the body waits for its end", lambda: held(api) == 700_000, 10.0)
        received = api.raw(head % 800_000 + b" " * 800_000)
        assert received.startswith(b"HTTP/1.1 429 ")
        assert b"Connection: close" in received
        assert api.ask("POST", "/ct/v1/add-chain", b'{"chain": []}', token=None).status == 400
        slow.sendall(b" " * 100_000)
        assert slow.recv(65_536).startswith(b"HTTP/1.1 400 ")
        eventually("nothing is held when it is answered", lambda: held(api) == 0, 10.0)
