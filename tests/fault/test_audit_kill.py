"""Certificates issued while log, authority and API are killed again and again: afterwards nothing contradicts.

TRUSTCHAIN_AUDIT_CERTIFICATES says how many: 1000 unless told otherwise; 10000 is the figure that counts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from itertools import cycle

import pytest

from config.paths import Paths
from services.audit.anchors import anchors
from services.audit.verification import Check, verify
from tests.rig.load import Load
from tests.rig.polling import eventually
from tests.rig.recovery import kill
from tests.rig.tree import Tree

pytestmark = pytest.mark.fault

CERTIFICATES = int(os.environ.get("TRUSTCHAIN_AUDIT_CERTIFICATES", "1000"))
KILLED = ("ct", "ca", "api")
ISSUERS = 6
WITHIN_SECONDS = 60 + CERTIFICATES / 20


def test_certificates_issued_under_repeated_kills_contradict_nothing_and_can_all_be_proven(
    new_tree: Callable[..., Tree], told_at_the_end: Callable[[str], None]
) -> None:
    tree = new_tree(settings={"supervisor.intensity": 1000, "api.rate_limit": 100_000, "api.rate_burst": 100_000})
    tree.start_healthy()
    kills = _issue_under_kills(tree)
    acknowledged = kills.load.outcome.acknowledged
    told_at_the_end(f"audit: {kills.count} workers killed; {kills.load.outcome}")
    tree.wait_healthy(within=30)

    beside = tree.run("audit", check=False, timeout=WITHIN_SECONDS)
    assert beside.returncode == 0, f"{beside.stdout}\n{beside.stderr}"
    unproven = {serial: failed for serial in sorted(acknowledged) if (failed := _unproven(tree, serial))}
    assert not unproven, f"{len(unproven)} of {len(acknowledged)}: {next(iter(unproven.items()))}"
    eventually("the reconciler has followed the log", lambda: _has_followed(tree), within=WITHIN_SECONDS)
    assert json.loads(tree.run("findings", "--json").stdout)["count"] == 0

    assert tree.stop() == 0, tree.log[-4000:]
    began = time.monotonic()
    alone = tree.run("audit", "--json", check=False, timeout=WITHIN_SECONDS)
    report = json.loads(alone.stdout)
    assert (alone.returncode, report["findings"]) == (0, []), alone.stderr
    assert report["certificates"] >= len(acknowledged)
    told_at_the_end(
        f"audit: {report['certificates']} certificates and {report['entries']} entries in "
        f"{time.monotonic() - began:.1f} s; unfinished by the kills: {report['note_counts']}"
    )


class _Kills:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.count = 0


def _issue_under_kills(tree: Tree) -> _Kills:
    ends = time.monotonic() + WITHIN_SECONDS
    with Load(tree, issuers=ISSUERS, watchers=0, pause=0.0) as load:
        kills = _Kills(load)
        for service in cycle(KILLED):
            if len(load.outcome.acknowledged) >= CERTIFICATES:
                return kills
            assert time.monotonic() < ends, load.outcome
            pid = tree.worker_pid(service)
            kill(pid)
            kills.count += 1
            tree.wait_replaced(service, pid, within=20)
            _wait_for_another(load)
    raise AssertionError("the cycle of services has no end")


def _wait_for_another(load: Load) -> None:
    so_far = len(load.outcome.acknowledged)
    eventually("issuing goes on", lambda: len(load.outcome.acknowledged) > so_far, within=20)


def _unproven(tree: Tree, serial: str) -> list[Check]:
    """The checks of its evidence that fail."""
    answer = tree.api("GET", f"/v1/certificates/{serial}/evidence")
    assert answer.status == 200, answer.text
    trusted = anchors(Paths(tree.data_dir, tree.data_dir / "run"))
    return [check for check in verify(answer.body, trusted, int(time.time())) if not check.passed]


def _has_followed(tree: Tree) -> bool:
    told = tree.api("GET", "/v1/findings").json()
    return bool(told["log_position"] == told["log_size"] > 0)
