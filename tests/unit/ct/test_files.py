"""A log is read by an auditor from its files alone, whether or not the service runs."""

from pathlib import Path

import pytest

from services.ct.files import LogFiles, open_log
from services.ct.messages import GetTreeHead
from services.ct.server import TransparencyLog
from services.ct.tile_files import LogDamaged
from services.errors import DatabaseCorrupt
from services.rfc6962 import merkle
from tests.unit.ct.chains import INTERMEDIATE, ROOT
from tests.unit.ct.logs import CALL, Host, add_many

MANY = 300


@pytest.fixture
def grown(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.run(lambda log: add_many(log, range(MANY)))
    return host


def whole(log: LogFiles) -> None:
    """Everything that an auditor does."""
    log.verifier.verify_head(log.signed)
    entries = list(log.entries())
    assert [entry.index for entry in entries] == list(range(log.size))
    assert log.recomputed_root() == log.signed.head.root == log.root_at(log.size)
    for entry in entries[:: max(1, log.size // 7)]:
        merkle.verify_inclusion(
            entry.index, log.size, entry.leaf_hash, log.inclusion_proof(entry.index), log.signed.head.root
        )
        assert log.entry(entry.index) == entry
        assert log.index_of(entry.leaf_hash) == entry.index
        assert [log.issuer(each) for each in entry.leaf.chain] == [INTERMEDIATE, ROOT]


def test_a_closed_log_is_read_whole_and_nothing_is_written(grown: Host) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in grown.directory.rglob("*") if not path.name.startswith("log.db")
    }
    with open_log(grown.directory) as log:
        whole(log)
        assert (log.size, log.roots, log.record.origin) == (MANY, (ROOT,), "trust.localhost:8443")
        assert [entry.index for entry in log.entries(298)] == [298, 299]
        merkle.verify_consistency(257, MANY, log.root_at(257), log.signed.head.root, log.consistency_proof(257))
        with pytest.raises(IndexError):
            log.entry(MANY)
        assert log.index_of(bytes(32)) is None
        assert log.find(bytes(32)) is None
    after = {path: path.stat().st_mtime_ns for path in grown.directory.rglob("*") if not path.name.startswith("log.db")}
    assert after == before


def test_a_log_that_grows_meanwhile_is_read_as_it_was(grown: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        with open_log(grown.directory) as read:
            await add_many(log, range(MANY, 600))
            whole(read)
            assert read.size == MANY
        with open_log(grown.directory) as read:
            whole(read)
            assert read.size == (await log.tree_head(GetTreeHead(), CALL)).tree_size == 600

    grown.run(test)


def test_an_empty_log_is_read(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.run(lambda log: log.probe())
    with open_log(host.directory) as log:
        whole(log)
        assert log.size == 0


def test_no_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogDamaged, match="there is no log"), open_log(tmp_path):
        pass


def test_a_damaged_entry_is_told_when_it_is_read(grown: Host) -> None:
    path = grown.directory / "tile/data/000"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with open_log(grown.directory) as log, pytest.raises(LogDamaged, match="tile/data/000"):
        log.recomputed_root()


def test_a_damaged_issuer_is_told_when_it_is_read(grown: Host) -> None:
    (path, *_) = (grown.directory / "issuer").iterdir()
    path.write_bytes(b"another")
    with open_log(grown.directory) as log, pytest.raises(LogDamaged, match="issuer"):
        log.issuer(bytes.fromhex(path.name))


def test_a_damaged_database_is_told(grown: Host) -> None:
    path = grown.directory / "log.db"
    path.write_bytes(b"nothing" + path.read_bytes()[7:])
    with pytest.raises(DatabaseCorrupt), open_log(grown.directory):
        pass
