"""Calls between two processes over a Unix socket whose listening end outlives the process that answers."""

import asyncio
import ctypes
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from msgspec import Raw, msgpack

from services import framing
from services.errors import DeadlineExceeded, Internal, Overloaded, PeerGone, Refused, Unavailable
from services.framing import Request
from services.rpc_client import Client
from services.rpc_server import PER_CONNECTION, Call, Server
from tests.integration.rpc_peer import Done, Task
from tests.rig.peers import require_root
from tests.rig.polling import eventually

ROOT = Path(__file__).parents[2]


class Place:
    """A listening socket, as the supervisor holds it, and the processes that answer on it one after the other."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "peer.sock"
        self.marks = directory / "marks"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(128)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, calls: int = 1024) -> subprocess.Popen[bytes]:
        descriptor = self.listener.fileno()
        module = "tests.integration.rpc_peer"
        command = [sys.executable, "-m", module, str(descriptor), str(self.marks), str(calls)]
        process = subprocess.Popen(command, pass_fds=[descriptor], cwd=ROOT)
        self.processes.append(process)
        return process

    def kill(self) -> None:
        self.processes[-1].kill()
        self.processes[-1].wait()

    def marked(self) -> Counter[str]:
        return Counter(self.marks.read_text().splitlines() if self.marks.exists() else ())

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.listener.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    created = Place(tmp_path)
    yield created
    created.close()


def calling(place: Place, scenario: Callable[[Client], Awaitable[None]], **bounds: Any) -> None:
    async def run() -> None:
        client = Client(place.path, **bounds)
        try:
            await scenario(client)
        finally:
            await client.close()

    uvloop.run(run())


async def do(client: Client, name: str, seconds: float = 0.0, within: float = 10.0, **options: Any) -> Done:
    return await client.call("do", Task(name, seconds), Done, timeout=within, **options)


async def until(what: str, true: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, what, true, 10.0)


def test_many_calls_at_once_get_each_its_own_reply(place: Place) -> None:
    async def scenario(client: Client) -> None:
        replies = await asyncio.gather(*(do(client, str(number)) for number in range(500)))
        assert [reply.name for reply in replies] == [str(number) for number in range(500)]

    process = place.start()
    calling(place, scenario)
    assert process.poll() is None


def test_a_refusal_arrives_with_kind_and_field(place: Place) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(Refused, match="bad-name: name: not this") as refusal:
            await client.call("refuse", Task("this"), Done, timeout=10)
        assert (refusal.value.kind, refusal.value.field) == ("bad-name", "name")

    place.start()
    calling(place, scenario)


def test_a_call_before_the_first_worker_waits_in_the_backlog(place: Place) -> None:
    async def scenario(client: Client) -> None:
        early = asyncio.ensure_future(do(client, "early"))
        await asyncio.sleep(0.1)
        process = place.start()
        assert (await early).pid == process.pid

    calling(place, scenario)


def test_after_a_kill_the_next_call_is_answered_by_the_successor(place: Place) -> None:
    async def scenario(client: Client) -> None:
        for _ in range(3):
            process = place.start()
            assert (await do(client, "x")).pid == process.pid
            await asyncio.to_thread(place.kill)

    calling(place, scenario)


def test_in_flight_at_a_kill_only_idempotent_calls_are_repeated_and_once(place: Place) -> None:
    async def scenario(client: Client) -> None:
        place.start()
        await do(client, "warm")
        repeatable = asyncio.ensure_future(do(client, "repeatable", 0.3, idempotent=True))
        single = asyncio.ensure_future(do(client, "single", 0.3))
        await until("both are begun", lambda: {"begun repeatable", "begun single"} <= place.marked().keys())
        place.kill()
        with pytest.raises(PeerGone, match="unknown if it took effect"):
            await single
        successor = place.start()
        assert (await repeatable).pid == successor.pid
        assert place.marked()["begun repeatable"] == 2
        assert place.marked()["begun single"] == 1

    calling(place, scenario)


def test_a_call_that_kills_every_worker_is_not_repeated_for_ever(place: Place) -> None:
    async def scenario(client: Client) -> None:
        place.start()
        deadly = asyncio.ensure_future(client.call("die", Task("deadly"), Done, timeout=10, idempotent=True))
        await until("it was begun", lambda: place.marked()["begun deadly"] == 1)
        place.start()
        with pytest.raises(PeerGone):
            await deadly
        assert place.marked()["begun deadly"] == 2

    calling(place, scenario)


def test_kill_after_kill_under_load_no_idempotent_call_is_lost(place: Place) -> None:
    """Each call sees at most one of the kills, since it ends between two of them."""

    async def scenario(client: Client) -> None:
        answered = Counter[str]()
        stop = asyncio.Event()

        async def load(lane: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                answered[(await do(client, f"{lane}-{number}", 0.001, idempotent=True)).name] += 1

        place.start()
        lanes = [asyncio.ensure_future(load(lane)) for lane in range(8)]
        for _ in range(5):
            enough = len(answered) + 50
            await until("calls are answered", partial(_more_than, enough, answered))
            place.kill()
            place.start()
        stop.set()
        await asyncio.gather(*lanes)
        assert len(answered) > 250

    calling(place, scenario)


def _more_than(count: int, answered: Counter[str]) -> bool:
    return len(answered) > count


def test_a_deadline_ends_the_call_in_time_and_the_work_with_it(place: Place) -> None:
    async def scenario(client: Client) -> None:
        place.start()
        await do(client, "warm")
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await do(client, "long", 60.0, within=0.2)
        assert 0.2 <= time.monotonic() - started < 1.0
        await until("the work is cancelled", lambda: place.marked()["cancelled long"] == 1)
        assert (await do(client, "next")).name == "next"

    calling(place, scenario)


def test_cancelling_the_caller_cancels_the_work(place: Place) -> None:
    async def scenario(client: Client) -> None:
        place.start()
        call = asyncio.ensure_future(do(client, "long", 60.0, within=60))
        await until("it was begun", lambda: place.marked()["begun long"] == 1)
        call.cancel()
        await until("the work is cancelled", lambda: place.marked()["cancelled long"] == 1)
        assert (await do(client, "next")).name == "next"

    calling(place, scenario)


def test_a_call_whose_deadline_passed_in_the_backlog_is_never_begun(place: Place) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(DeadlineExceeded):
            await do(client, "stale", within=0.1)
        place.start()
        await do(client, "fresh")
        assert place.marked() == Counter({"begun fresh": 1})

    calling(place, scenario)


def test_without_a_listening_socket_a_call_is_unavailable_and_says_where(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Client(tmp_path / "absent.sock")
        with pytest.raises(Unavailable, match=r"no connection to absent at .*absent\.sock: No such file"):
            await client.call("do", Task("x"), Done, timeout=0.1)
        await client.close()

    uvloop.run(scenario())


def test_a_listening_socket_that_appears_later_is_found_within_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Client(tmp_path / "peer.sock")
        early = asyncio.ensure_future(do(client, "early"))
        await asyncio.sleep(0.1)
        place = Place(tmp_path)
        try:
            process = place.start()
            assert (await early).pid == process.pid
        finally:
            await client.close()
            place.close()

    uvloop.run(scenario())


def test_more_calls_at_once_than_allowed_are_overload_and_the_others_go_on(place: Place) -> None:
    async def scenario(client: Client) -> None:
        await do(client, "warm")
        results = await asyncio.gather(*(do(client, str(number), 0.3) for number in range(50)), return_exceptions=True)
        assert Counter(type(result) for result in results) == {Done: 8, Overloaded: 42}
        assert (await do(client, "after")).name == "after"

    place.start(calls=8)
    calling(place, scenario)


def test_the_client_bounds_its_own_calls_too(place: Place) -> None:
    async def scenario(client: Client) -> None:
        await do(client, "warm")
        results = await asyncio.gather(*(do(client, str(number), 0.1) for number in range(5)), return_exceptions=True)
        assert Counter(type(result) for result in results) == {Done: 3, Overloaded: 2}

    place.start()
    calling(place, scenario, in_flight=3)


def test_oversized_messages_are_errors_of_one_call_only(place: Place) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(Refused, match="too-large"):
            await do(client, "x" * (framing.DEFAULT_LIMIT + 1))
        with pytest.raises(Internal, match="too large"):
            await client.call("do", Task("x", octets=framing.DEFAULT_LIMIT), Done, timeout=10)
        big = await client.call("do", Task("x", octets=framing.DEFAULT_LIMIT - 100), Done, timeout=10)
        assert len(big.filling) == framing.DEFAULT_LIMIT - 100

    place.start()
    calling(place, scenario)


def test_a_reply_of_another_type_is_an_error_of_the_call(place: Place) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(Internal, match="something else than was agreed"):
            await client.call("do", Task("x"), int, timeout=10)
        assert (await do(client, "next")).name == "next"

    place.start()
    calling(place, scenario)


def test_a_peer_that_sends_rubbish_is_cut_off_and_the_others_are_served(place: Place) -> None:
    async def scenario(client: Client) -> None:
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(place.path))
            raw.sendall(b"\xff\xff\xff\xff" + os.urandom(100))
            with suppress(ConnectionResetError):
                assert await asyncio.to_thread(raw.recv, 1) == b""
        assert (await do(client, "next")).name == "next"

    place.start()
    calling(place, scenario)


def test_a_peer_that_does_not_read_costs_little_and_is_cut_off(place: Place) -> None:
    """It asks for 300 MB of replies and reads none: what is held for it stays bounded by its calls in flight."""

    async def scenario(client: Client) -> None:
        await do(client, "warm")
        process = psutil.Process(place.processes[-1].pid)
        before, descriptors = process.memory_info().rss, process.num_fds()
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(10)
            raw.connect(str(place.path))
            body = Raw(msgpack.encode(Task("greedy", octets=100_000)))
            asking = b"".join(framing.encode(Request(number, "do", 2**62, "", body)) for number in range(1, 3001))
            sender = asyncio.ensure_future(asyncio.to_thread(_send_all, raw, asking))
            await until("replies wait", lambda: place.marked()["begun greedy"] > 0)
            assert (await do(client, "beside")).name == "beside"
            await until("it is cut off", lambda: process.num_fds() <= descriptors)
            assert place.marked()["begun greedy"] <= 2 * PER_CONNECTION
            assert process.memory_info().rss - before < 100 * 1_048_576
            await sender
        assert (await do(client, "after")).name == "after"

    place.start()
    calling(place, scenario)


def _send_all(raw: socket.socket, octets: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        raw.sendall(octets)


def test_a_planned_replacement_loses_no_call_of_any_kind(tmp_path: Path) -> None:
    """Not idempotent, non-stop, over ten drains: each call is done exactly once."""
    done = Counter[str]()

    async def note(task: Task, _call: Call) -> Done:
        await asyncio.sleep(task.seconds)
        done[task.name] += 1
        return Done(task.name, 0)

    async def scenario(client: Client, listener: socket.socket) -> Counter[str]:
        stop = asyncio.Event()
        asked = Counter[str]()

        async def load(lane: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                asked[(await do(client, f"{lane}-{number}", 0.0005 * lane)).name] += 1

        async def replace() -> None:
            for _ in range(10):
                server = Server((listener,), {"do": (Task, note)})
                server.start()
                await asyncio.sleep(0.05)
                await server.drain()
                assert server.in_flight == 0
            stop.set()
            last = Server((listener,), {"do": (Task, note)})
            last.start()

        await asyncio.gather(replace(), *(load(lane) for lane in range(16)))
        return asked

    async def run() -> None:
        client = Client(tmp_path / "peer.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "peer.sock"))
            listener.listen(128)
            try:
                asked = await scenario(client, listener)
            finally:
                await client.close()
                await asyncio.sleep(0.05)  # both ends see the end
        assert asked == done
        assert set(done.values()) == {1}
        assert len(done) > 1000

    uvloop.run(run())


def test_a_reply_that_was_not_read_yet_survives_that_its_caller_writes_after_the_drain(tmp_path: Path) -> None:
    """A busy caller: it sends another call, which nobody reads any more, before it reads the reply of the first."""
    begun, release, handed_over = threading.Event(), threading.Event(), threading.Event()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "drained.sock"))
    listener.listen(8)

    async def work(task: Task, _call: Call) -> Done:
        begun.set()
        await asyncio.to_thread(release.wait, 10)
        return Done(task.name, 0)

    async def serve_and_drain() -> None:
        server = Server((listener,), {"do": (Task, work)})
        server.start()
        await asyncio.to_thread(begun.wait, 10)
        drained = asyncio.ensure_future(server.drain())
        release.set()
        await until("the call was answered", lambda: not server.in_flight)
        handed_over.set()
        await drained

    async def call() -> Done:
        client = Client(tmp_path / "drained.sock")
        first = asyncio.ensure_future(do(client, "first"))
        await asyncio.to_thread(begun.wait, 10)
        assert handed_over.wait(10)  # the loop stands still: nothing is read meanwhile
        link = client._link
        assert link is not None
        link.send("do", 2**63, "", Raw(msgpack.encode(Task("second"))))
        link._flush()
        try:
            return await first
        finally:
            await client.close()

    serving = threading.Thread(target=lambda: uvloop.run(serve_and_drain()))
    serving.start()
    try:
        assert uvloop.run(call()).name == "first"
    finally:
        serving.join(20)
        listener.close()


def test_connections_above_the_bound_wait_their_turn(tmp_path: Path) -> None:
    async def answer(task: Task, _call: Call) -> Done:
        return Done(task.name, 0)

    async def scenario() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "peer.sock"))
        listener.listen(128)
        server = Server((listener,), {"do": (Task, answer)}, connections=2)
        server.start()
        clients = [Client(tmp_path / "peer.sock") for _ in range(3)]
        await asyncio.gather(*(do(client, "x") for client in clients[:2]))
        third = asyncio.ensure_future(do(clients[2], "third"))
        await asyncio.sleep(0.1)
        assert not third.done()
        await clients[0].close()
        assert (await third).name == "third"
        for client in clients:
            await client.close()
        await server.drain()
        listener.close()

    uvloop.run(scenario())


@pytest.mark.needs_root
def test_another_user_is_not_answered() -> None:
    """Over an abstract address, which no directory protects."""
    require_root()
    address = f"\0trustchain-test-{os.getpid()}"

    async def answer(task: Task, _call: Call) -> Done:
        return Done(task.name, 0)

    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as raw:
            listener.bind(address)
            listener.listen(8)
            server = Server((listener,), {"do": (Task, answer)})
            server.start()
            raw.settimeout(10)
            await asyncio.to_thread(_as_nobody, lambda: raw.connect(address))
            assert await asyncio.to_thread(raw.recv, 1) == b""
            await server.drain()

    uvloop.run(scenario())


def _as_nobody(action: Callable[[], None]) -> None:
    """In a thread of its own: the kernel keeps user ids per thread; only the C library changes those of all at once."""
    failures: list[OSError] = []
    set_user_ids = {"x86_64": 117, "aarch64": 147}[os.uname().machine]

    def run() -> None:
        try:
            if ctypes.CDLL(None).syscall(set_user_ids, -1, 65534, -1) != 0:
                raise PermissionError("cannot become another user")
            action()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def test_out_of_descriptors_the_server_goes_on_when_there_are_some_again(place: Place) -> None:
    async def scenario(client: Client) -> None:
        process = place.start()
        await do(client, "warm")
        limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        open_now = psutil.Process(process.pid).num_fds()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_now, limits[1]))
        second = Client(place.path)
        try:
            late = asyncio.ensure_future(do(second, "late"))
            await asyncio.sleep(0.3)
            assert not late.done()
            assert (await do(client, "meanwhile")).name == "meanwhile"
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
            assert (await late).name == "late"
        finally:
            await second.close()

    calling(place, scenario)
