"""What `trustchain status` shows of a tree."""

import io
from dataclasses import replace
from types import MappingProxyType

import msgspec
from msgspec.structs import replace as replace_struct
from rich.console import Console

from supervisor.child import SECOND, Cause, ChildSpec
from supervisor.lifecycle import Child, Policy, State
from supervisor.messages import DeathRecord, StatusDocument, SupervisorStatus
from supervisor.restart import Limits
from supervisor.status import Observed, phase, summary, workers
from supervisor.table import show_deaths, show_status
from supervisor.tree import ReplacePolicy, Tree, grow

NOW = 100 * SECOND
LIMITS = Limits(
    stable_ns=SECOND, backoff_initial_ns=1, backoff_max_ns=2, backoff_jitter=0, intensity=5, period_ns=60 * SECOND,
    failed_retry_ns=SECOND,
)  # fmt: skip
POLICY = Policy(
    restart=LIMITS, heartbeat_timeout_ns=5 * SECOND, ready_timeout_ns=30 * SECOND, drain_timeout_ns=10 * SECOND,
    abort_grace_ns=SECOND,
)  # fmt: skip


def tree_of(*children: Child) -> Tree:
    grown = grow(tuple(child.spec for child in children), POLICY, ReplacePolicy(cooldown_ns=1, verdict_max_age_ns=1))
    return replace(grown, children=MappingProxyType({child.spec.name: child for child in children}))


CA = Child(spec=ChildSpec(name="ca", slot=0), state=State.READY, generation=3, started_at=NOW - 40 * SECOND)
API = Child(spec=ChildSpec(name="api", slot=1, depends_on=("ca",)))


def test_a_running_worker_shows_pid_heartbeat_and_uptime() -> None:
    row = workers(tree_of(CA), {"ca": Observed(42, NOW - SECOND // 2)}, NOW)[0]
    assert (row.pid, row.state, row.restarts, row.heartbeat_age_ms, row.uptime_seconds) == (42, "ready", 2, 500.0, 40.0)


def test_a_worker_without_a_process_shows_none() -> None:
    backoff = replace(CA, state=State.BACKOFF, deadline=NOW + 2 * SECOND, detail="early death 1 in a row")
    row = workers(tree_of(backoff), {}, NOW)[0]
    assert (row.pid, row.heartbeat_age_ms, row.uptime_seconds) == (None, None, None)
    assert (row.retry_in_seconds, row.note) == (2.0, "early death 1 in a row")


def test_notes_say_what_a_worker_waits_for_and_why_it_ends() -> None:
    starting, draining = replace(CA, state=State.STARTING), replace(CA, state=State.DRAINING, ending=Cause.VERDICT)
    assert workers(tree_of(starting, API), {}, NOW)[1].note == "waiting for ca"
    assert workers(tree_of(replace(draining, detail="sick")), {}, NOW)[0].note == "ending: verdict (sick)"


def test_the_summary_names_who_is_not_ready() -> None:
    assert summary(tree_of(CA, API)) == "starting: 1/2 workers ready (api stopped)"
    assert phase(replace(tree_of(CA), complete=True)) == "running"
    assert phase(replace(tree_of(CA), stopping=True)) == "stopping"


def test_the_json_document_begins_with_the_promised_keys() -> None:
    document = msgspec.to_builtins(_document())
    assert list(document) == ["supervisor", "workers"]
    promised = ["service", "index", "pid", "state", "restarts", "heartbeat_age_ms"]
    assert list(document["workers"][0])[:6] == promised


def test_the_tables_print_everything_and_obey_no_word_of_a_worker() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, highlight=False)
    show_status(_document(), console)
    death = DeathRecord(
        time="2026-01-01T00:00:00Z", service="ca", index=0, pid=7, generation=1, exit_code=None, signal="SIGKILL",
        reason="crash", detail="", heartbeat_age_ms=12.0, uptime_seconds=61.0, log_tail="[red]last[/red] \x1b[2Jwords",
    )  # fmt: skip
    show_deaths([death], console)
    text = out.getvalue()
    assert "TrustChain 1.0 running, pid 1, up 1 h 1 min, health healthy (0.97), development, /d" in text
    assert "ca       ready   42         2     500 ms  40.0 s" in text
    assert "ca (pid 7)  SIGKILL  crash, after 1 min 1 s, last heartbeat 12 ms before" in text
    assert r"[red]last[/red] \x1b[2Jwords" in text
    assert "\x1b" not in text


def test_the_headline_says_why_when_not_all_is_well() -> None:
    out = io.StringIO()
    sick = replace_struct(_document().supervisor, health="critical", health_line="critical 0.00: ca is down")
    show_status(replace_struct(_document(), supervisor=sick), Console(file=out, width=40))
    first, second, *_ = out.getvalue().splitlines()
    assert first.endswith("/d"), "one line, however narrow the output is"
    assert second == "critical 0.00: ca is down"


def _document() -> StatusDocument:
    supervisor = SupervisorStatus(
        pid=1, version="1.0", mode="development", state="running", ready=True, uptime_seconds=3661.0, data_dir="/d",
        block="b", health="healthy", health_score=0.97, health_line="health 0.97", log_lines_dropped=0,
    )  # fmt: skip
    return StatusDocument(
        supervisor=supervisor, workers=workers(tree_of(CA), {"ca": Observed(42, NOW - SECOND // 2)}, NOW)
    )
