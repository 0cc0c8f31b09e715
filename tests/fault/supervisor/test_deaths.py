"""Workers that crash, hang or cannot start: what becomes of them, and that the others never notice."""

import os
import re
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fault.supervisor.toy_tree import ToyTree, death_lines, who_answers
from tests.rig.polling import eventually

pytestmark = pytest.mark.fault

Toys = Callable[..., ToyTree]


def test_a_killed_worker_answers_again_at_once_on_the_same_socket(
    new_toys: Toys, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    tree = new_toys(services=f"a:{port},b")
    tree.start_ready()
    others = tree.worker_pid("b")
    seconds = []
    for _ in range(15):
        pid, generation = who_answers(port)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        # A connection made while nobody runs waits in the backlog; one made to the dying process may be cut off.
        while True:
            try:
                answered = who_answers(port)
            except (ConnectionResetError, ValueError):
                continue
            if answered[0] != pid:
                break
        seconds.append(time.monotonic() - began)
        assert answered[1] == generation + 1
    with capsys.disabled():
        median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
        print(f"\nkill to next answer: median {median:.1f} ms, worst {worst:.1f} ms")  # noqa: T201 - the figure is the point
    assert statistics.median(seconds) < 0.5
    assert tree.worker("b").pid == others
    assert {death.signal for death in tree.deaths("a")} == {"SIGKILL"}
    assert {death.reason for death in tree.deaths("a")} == {"crash"}
    assert tree.stop() == 0


def test_no_connection_is_refused_while_a_worker_is_killed_again_and_again(
    new_toys: Toys, free_port: Callable[[], int]
) -> None:
    port = free_port()
    tree = new_toys(services=f"a:{port}", limits={"stable_seconds": 0.0, "intensity": 100})
    tree.start_ready()
    refused: list[OSError] = []
    answered = 0
    until = time.monotonic() + 2.2

    def client() -> int:
        count = 0
        while time.monotonic() < until:
            try:
                who_answers(port)
                count += 1
            except ConnectionRefusedError as error:
                refused.append(error)
            except (ConnectionResetError, ValueError):
                continue  # it was being answered by the process that was killed
        return count

    with ThreadPoolExecutor(2) as clients:
        futures = [clients.submit(client) for _ in range(2)]
        while time.monotonic() < until - 0.5:
            pid = tree.worker("a").pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.15)
        answered = sum(future.result() for future in futures)
    assert refused == []
    assert answered > 30
    assert tree.worker("a").restarts >= 5


def test_a_crash_loop_is_slowed_down_then_failed_and_the_others_never_notice(new_toys: Toys) -> None:
    tree = new_toys()
    tree.start_ready()
    pids = [tree.worker_pid(name) for name in ("b", "c")]
    tree.behave("a", "crash")
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    failed = tree.wait_state("a", "failed")
    assert "4 early deaths within 10 s" in failed.note
    assert failed.pid is None
    assert failed.retry_in_seconds is not None
    assert failed.retry_in_seconds > 50
    assert [death.exit_code for death in tree.deaths("a")][-3:] == [1, 1, 1]
    assert [tree.worker_pid(name) for name in ("b", "c")] == pids
    assert "is started again after a pause" in tree.log


def test_a_failed_worker_is_tried_again_slowly_and_comes_back(new_toys: Toys) -> None:
    tree = new_toys(limits={"failed_retry": 1.0})
    tree.start_ready()
    tree.behave("a", "crash")
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    tree.wait_state("a", "failed")
    tree.behave("a", "steady")
    tree.wait_state("a", "ready", 3.0)


def test_a_worker_with_a_configuration_error_fails_and_is_not_tried_again(new_toys: Toys) -> None:
    tree = new_toys(limits={"failed_retry": 0.2})
    tree.start_ready()
    tree.behave("a", "exit 78")
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    failed = tree.wait_state("a", "failed")
    assert "configuration error" in failed.note
    assert failed.retry_in_seconds is None
    time.sleep(0.6)
    assert tree.worker("a").generation == failed.generation
    tree.behave("a", "steady")
    assert tree.ask("start", "a").ok
    assert tree.worker("a").state == "ready"


def test_a_configuration_error_at_the_first_start_ends_the_tree_with_78(new_toys: Toys) -> None:
    tree = new_toys()
    tree.behave("b", "exit 78")
    tree.start()
    assert tree.wait() == 78
    assert "b has failed" in tree.log
    assert "configuration error" in tree.log


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGUSR1], ids=["stopped", "busy loop"])
def test_a_hung_worker_is_replaced_within_the_promise(new_toys: Toys, how: signal.Signals) -> None:
    tree = new_toys()
    tree.start_ready()
    pid = tree.worker_pid("a")
    began = time.monotonic()
    os.kill(pid, how)
    tree.wait_replaced("a", pid)
    assert time.monotonic() - began <= 0.5 + 0.5
    death = tree.deaths("a")[-1]
    assert death.reason == "hang"
    assert re.fullmatch(r"no heartbeat for 0\.[5-9] s", death.detail)
    assert "Current thread" in death.log_tail, "the traceback that faulthandler writes on SIGABRT"
    assert tree.worker("b").restarts == 0


def test_a_worker_that_never_gets_ready_is_aborted(new_toys: Toys) -> None:
    tree = new_toys(limits={"ready_timeout": 0.6})
    tree.start_ready()
    tree.behave("a", "never")
    os.kill(tree.worker_pid("a"), signal.SIGKILL)
    eventually("a was aborted", lambda: [d for d in tree.deaths("a") if d.reason == "not ready in time"], 5.0)


def test_a_slow_start_is_not_a_hang(new_toys: Toys) -> None:
    tree = new_toys()
    tree.behave("a", "slow 1.5")
    tree.start_ready()
    assert tree.worker("a").restarts == 0


def test_a_death_is_recorded_with_its_last_words_and_outlives_the_supervisor(new_toys: Toys) -> None:
    tree = new_toys()
    tree.start_ready()
    tree.behave("a", "speak the last words, without an end of line")
    pid = tree.worker_pid("a")
    os.kill(pid, signal.SIGKILL)
    tree.wait_state("a", "failed")
    first, second = tree.deaths("a")[:2]
    assert (first.pid, first.signal, first.exit_code, first.reason) == (pid, "SIGKILL", None, "crash")
    assert first.heartbeat_age_ms is not None
    assert first.heartbeat_age_ms < 500
    assert second.log_tail == "a whole line before\nthe last words, without an end of line"
    assert "a | the last words, without an end of line\n" in tree.log
    assert tree.stop() == 0
    assert (tree.paths.deaths.stat().st_mode & 0o777) == 0o600
    assert death_lines(tree.paths.deaths)[0]["pid"] == pid
    tree.behave("a", "steady")
    tree.start_ready()
    assert tree.deaths("a")[0] == first


def test_a_worker_that_finishes_unasked_is_started_again(new_toys: Toys) -> None:
    tree = new_toys()
    tree.behave("a", "exit-ready 0")
    tree.start()
    eventually("a was started again", lambda: tree.worker("a").restarts >= 1, 10.0)
    assert tree.deaths("a")[0].reason == "finished"
