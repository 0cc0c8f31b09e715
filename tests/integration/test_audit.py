"""`trustchain audit`, `evidence`, `verify`, `findings` on a real tree, and on copies of its files that were damaged."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.rig.polling import eventually
from tests.rig.signing_request import signing_request
from tests.rig.tree import Tree, remove_directory, short_directory, trustchain

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Kept:
    """The files of a tree that was stopped: `early` from before the last certificate and the revocation."""

    early: Path
    late: Path
    serials: list[str]
    revoked: str
    evidence: Path


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    directory = short_directory()
    tree = Tree(directory / "d")
    try:
        tree.start_healthy()
        serials = [_issue(tree, f"host{number}.example.test") for number in range(3)]
        assert tree.run("audit").returncode == 0, "beside the running tree"
        evidence = directory / "evidence.json"
        tree.run("evidence", serials[0], "--out", str(evidence))
        assert tree.stop() == 0
        shutil.copytree(tree.data_dir, directory / "early")
        tree.start_healthy()
        serials.append(_issue(tree, "late.example.test"))
        tree.run("revoke", serials[1], "--reason", "keyCompromise")
        assert tree.run("findings").returncode == 0
        assert tree.stop() == 0
        yield Kept(directory / "early", tree.data_dir, serials, serials[1], evidence)
    finally:
        tree.destroy()
        remove_directory(directory)


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Path:
    shutil.copytree(kept.late, tmp_path / "d")
    return tmp_path / "d"


def _issue(tree: Tree, name: str, **members: object) -> str:
    answer = tree.issue(signing_request(name), **members)
    assert answer.status == 201, answer.text
    serial: str = answer.json()["serial"]
    return serial


def command(*arguments: str, expected: int) -> str:
    done = subprocess.run([trustchain(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expected, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout or done.stderr


def audited(data_dir: Path, expected: int = 1) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(command("audit", "--json", "--data-dir", str(data_dir), expected=expected))
    assert report["clean"] is (expected == 0)
    return report


def kinds(data_dir: Path) -> set[str]:
    return {finding["kind"] for finding in audited(data_dir)["findings"]}


def write(data_dir: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(data_dir / "ca" / "certificates.db")) as connection, connection:
        connection.execute(statement, parameters)


def test_an_honest_tree_contradicts_nothing_and_the_audit_leaves_no_file(kept: Kept) -> None:
    before = _files(kept.late)
    report = audited(kept.late, expected=0)
    assert report["certificates"] >= 5  # four, and the API's own
    assert report["entries"] >= 5
    assert report["lists"] >= 2
    assert _files(kept.late) == before
    text = command("audit", "--data-dir", str(kept.late), expected=0)
    assert text.splitlines()[-1].endswith("nothing contradicts")


def test_a_certificate_that_was_removed_from_the_record_is_found(kept: Kept, copy: Path) -> None:
    write(copy, "DELETE FROM names")
    write(copy, "DELETE FROM certificates WHERE serial = ?", kept.serials[2])
    (found,) = audited(copy)["findings"]
    assert (found["kind"], found["subject"]) == ("unrecorded", f"serial {kept.serials[2]}")
    text = command("audit", "--data-dir", str(copy), expected=1)
    assert f"FINDING unrecorded (critical), serial {kept.serials[2]}" in text
    assert "SHA-256 of tbs_certificate" in text


def test_a_certificate_that_was_changed_on_record_is_found(kept: Kept, copy: Path) -> None:
    write(copy, "UPDATE certificates SET subject = 'CN=other' WHERE serial = ?", kept.serials[0])
    assert kinds(copy) == {"row_differs"}


def test_a_record_that_was_put_back_is_found(kept: Kept, copy: Path) -> None:
    shutil.copy(kept.early / "ca" / "certificates.db", copy / "ca" / "certificates.db")
    assert kinds(copy) >= {"unrecorded", "crl_invalid"}


def test_a_log_that_was_put_back_is_found(kept: Kept, copy: Path) -> None:
    shutil.rmtree(copy / "ct")
    shutil.copytree(kept.early / "ct", copy / "ct")
    assert kinds(copy) == {"log_shrank", "unlogged"}


def test_a_log_that_was_made_anew_is_found(copy: Path, new_tree: Callable[..., Tree]) -> None:
    other = new_tree()
    other.start_healthy()
    assert other.stop() == 0
    shutil.rmtree(copy / "ct")
    shutil.copytree(other.data_dir / "ct", copy / "ct")
    assert kinds(copy) >= {"log_forked", "unlogged"}


def test_a_damaged_checkpoint_damages_the_log_and_the_record_is_looked_at_all_the_same(kept: Kept, copy: Path) -> None:
    (copy / "ct" / "checkpoint").write_text("nothing of the kind")
    write(copy, "UPDATE certificates SET subject = 'CN=other' WHERE serial = ?", kept.serials[0])
    assert kinds(copy) == {"log_damaged", "row_differs"}


def test_a_log_without_the_certificates_of_its_chains_is_found(copy: Path) -> None:
    lost, damaged = sorted((copy / "ct" / "issuer").iterdir())
    lost.unlink()
    damaged.write_bytes(b"another certificate")
    found = audited(copy)["findings"]
    assert {finding["kind"] for finding in found} == {"log_damaged"}
    assert all(any(path.name in finding["text"] for finding in found) for path in (lost, damaged))


def test_a_revocation_that_was_removed_from_the_record_is_found(kept: Kept, copy: Path) -> None:
    write(copy, "DELETE FROM revocations")
    (found,) = audited(copy)["findings"]
    assert (found["kind"], found["subject"]) == ("revocation_unrecorded", f"serial {kept.revoked}")


def test_a_list_without_its_revocation_is_found(kept: Kept, copy: Path) -> None:
    with closing(sqlite3.connect(kept.early / "ca" / "certificates.db")) as connection:
        lists = connection.execute("SELECT der, number, issuer, partition FROM crls").fetchall()
    for der, number, issuer, partition in lists:
        write(
            copy,
            "UPDATE crls SET der = ?, number = ? WHERE issuer = ? AND partition = ?",
            der,
            number,
            issuer,
            partition,
        )
    assert "revocation_untold" in kinds(copy)


def test_what_cannot_be_read_is_no_verdict(kept: Kept, copy: Path, tmp_path: Path) -> None:
    assert "nothing can be said" in command("audit", "--data-dir", str(tmp_path / "nowhere"), expected=78)
    write(copy, "PRAGMA user_version = 99")
    assert "schema 99" in command("audit", "--data-dir", str(copy), expected=78)
    shutil.copy(kept.evidence, copy / "ca" / "certificates.db")
    command("audit", "--data-dir", str(copy), expected=78)


def test_evidence_is_verified_without_any_server_and_without_the_data_directory(kept: Kept, tmp_path: Path) -> None:
    told = command("verify", str(kept.evidence), "--data-dir", str(kept.late), expected=0)
    assert [line.split()[0] for line in told.splitlines()] == ["ok"] * 12
    root, key = tmp_path / "root.pem", tmp_path / "log.pem"
    shutil.copy(kept.late / "ca" / "root.pem", root)
    _export_log_key(kept.late, key)
    nowhere = ["--data-dir", str(tmp_path / "nowhere")]
    command("verify", str(kept.evidence), "--root", str(root), "--log-key", str(key), *nowhere, expected=0)
    told = command("verify", str(kept.evidence), "--root", str(root), *nowhere, "--json", expected=1)
    failed = [check["check"] for check in json.loads(told)["checks"] if not check["passed"]]
    assert failed == ["timestamp", "tree head"]
    assert "give --root" in command("verify", str(kept.evidence), *nowhere, expected=78)


def test_evidence_is_judged_by_the_time_that_is_given(kept: Kept) -> None:
    data = ["--data-dir", str(kept.late)]
    told = command("verify", str(kept.evidence), "--at", "2100-01-01T00:00:00Z", *data, expected=1)
    assert "FAILED  validity" in told
    composed = json.loads(kept.evidence.read_text())["composed_at"]
    command("verify", str(kept.evidence), "--at", str(composed), *data, expected=0)
    command("verify", str(kept.evidence), "--at", "some day", *data, expected=78)


def test_evidence_that_was_formatted_or_is_missing_is_told(kept: Kept, tmp_path: Path) -> None:
    data = ["--data-dir", str(kept.late)]
    formatted = tmp_path / "formatted.json"
    formatted.write_text(json.dumps(json.loads(kept.evidence.read_text()), indent=2))
    assert "FAILED  form" in command("verify", str(formatted), *data, expected=1)
    command("verify", str(tmp_path / "missing.json"), *data, expected=78)


def test_a_log_that_was_put_back_stops_issuing_until_the_operator_accepts_it(
    new_tree: Callable[..., Tree], tmp_path: Path
) -> None:
    tree = new_tree()
    tree.start_healthy()
    _issue(tree, "early.example.test")
    assert tree.stop() == 0
    shutil.copytree(tree.data_dir / "ct", tmp_path / "ct")
    tree.start_healthy()
    lost = _issue(tree, "lost.example.test")
    assert tree.stop() == 0

    shutil.rmtree(tree.data_dir / "ct")
    shutil.copytree(tmp_path / "ct", tree.data_dir / "ct")
    tree.start()
    tree.wait_health(
        lambda status, health: status == 503 and any("nothing is issued" in issue for issue in health["issues"]),
        "/health says that nothing is issued, and what to do",
        30,
    )
    assert tree.issue(signing_request("refused.example.test")).status == 503
    told = tree.run("findings", check=False)
    assert told.returncode == 1
    assert "log_shrank" in told.stdout
    assert 'trustchain_ca_findings{kind="log_shrank"} 1' in tree.metrics()
    assert "findings_open" in tree.monitoring("/health").text or "contradict" in tree.monitoring("/health").text
    assert tree.stop() == 0

    (tree.data_dir / "ca" / "accept-log").touch()
    tree.start_healthy()
    _issue(tree, "again.example.test")
    assert not (tree.data_dir / "ca" / "accept-log").exists()
    eventually("the sweep finds what the log lost", lambda: lost in tree.run("findings", "--accepted").stdout, 20)
    assert tree.run("accept-findings", "unlogged", "--reason", "again").stdout == "0 accepted: they were before\n"
    assert "no open finding" in tree.run("accept-findings", "unrecorded", "--reason", "again", check=False).stderr
    assert tree.wait_healthy(20)["health_score"] == 1.0
    assert tree.stop() == 0
    (found,) = audited(tree.data_dir)["findings"]
    assert (found["kind"], found["subject"]) == ("unlogged", f"serial {lost}"), "who audits is told all the same"


def test_an_operator_accepts_what_a_restored_record_lacks_and_is_alarmed_no_more(new_tree: Callable[..., Tree]) -> None:
    tree = new_tree()
    tree.start_healthy()
    lost = _issue(tree, "lost.example.test")
    assert tree.stop() == 0
    write(tree.data_dir, "DELETE FROM names WHERE id = (SELECT id FROM certificates WHERE serial = ?)", lost)
    write(tree.data_dir, "DELETE FROM domains WHERE id = (SELECT id FROM certificates WHERE serial = ?)", lost)
    write(tree.data_dir, "DELETE FROM certificates WHERE serial = ?", lost)
    write(tree.data_dir, "DELETE FROM sweeps")

    tree.start()
    eventually("the sweep finds it", lambda: lost in tree.run("findings", check=False).stdout, 30)
    tree.wait_health(lambda _, health: any("contradicts" in issue for issue in health["issues"]), "/health says so", 10)
    told = tree.run("accept-findings", "log_forked", "--reason", "no", check=False)
    assert told.returncode == 1
    assert "accept-log" in told.stderr
    assert tree.run("accept-findings", "nonsense", "--reason", "no", check=False).returncode == 78
    told = tree.run("accept-findings", "unrecorded", "--count", "7", "--reason", "no", check=False)
    assert "1 are open, not 7" in told.stderr
    told = tree.run("accept-findings", "unrecorded", "--reason", "\x1b[2J", check=False)
    assert "reason" in told.stderr
    done = tree.run("accept-findings", "unrecorded", f"serial {lost}", "--reason", "the backup of the day before")
    assert done.stdout == "1 accepted\n"
    assert tree.run("findings").stdout.startswith("0 open, 1 accepted")
    listed = tree.run("findings", "--accepted").stdout
    assert "the backup of the day before" in listed
    assert tree.wait_healthy(20)["health_score"] == 1.0
    assert "trustchain_ca_accepted_findings 1" in tree.metrics()
    assert tree.stop() == 0
    tree.start_healthy()
    assert tree.run("findings").returncode == 0, "for good"
    assert tree.stop() == 0


def test_rotations_and_two_hierarchies_contradict_nothing_and_every_certificate_is_proven(
    new_tree: Callable[..., Tree], tmp_path: Path
) -> None:
    tree = new_tree(settings={"ca.post_quantum": "true"})
    profiles = tree.data_dir / "ca" / "profiles"
    profiles.mkdir(parents=True, mode=0o700)
    (profiles / "quantum.toml").write_text(
        'description = "post-quantum"\nextended_key_usages = ["serverAuth"]\nhierarchy = "post-quantum"\n'
    )
    (profiles / "quiet.toml").write_text(
        'description = "not logged"\nextended_key_usages = ["serverAuth"]\ntransparency = false\n'
    )
    tree.start_healthy()
    serials = [_issue(tree, "first.example.test")]
    serials += [_issue(tree, f"{name}.example.test", profile=name) for name in ("quantum", "quiet")]
    for what in ("intermediate", "root"):
        tree.run("ca", "rotate", what)
        serials.append(_issue(tree, f"{what}.example.test"))
    for serial in serials:
        tree.run("evidence", serial, "--out", str(tmp_path / "evidence.json"))
        tree.run("verify", str(tmp_path / "evidence.json"))
        tree.run("revoke", serial)
    tree.run("audit")
    assert tree.stop() == 0
    assert audited(tree.data_dir, expected=0)["certificates"] >= len(serials)


def _export_log_key(data_dir: Path, path: Path) -> None:
    private = serialization.load_pem_private_key((data_dir / "ct" / "log.key").read_bytes(), password=None)
    path.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _files(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("*")}
