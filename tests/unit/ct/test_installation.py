"""The first start and all later ones: what is found whole goes on, what is not is told and left as it is."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.schema import Ct
from services.ct import installation, keys
from services.ct.messages import GetCheckpoint, GetEntries, GetLog, GetTreeHead, SignedTreeHead
from services.ct.sequencer import MAX_BATCH
from services.ct.server import TransparencyLog
from services.ct.signing import LogSigner
from services.ct.storage import MIGRATIONS
from services.ct.tiles import split_data_tile
from services.database import Database
from services.errors import ConfigurationError, DatabaseCorrupt, StorageUnavailable
from tests.unit.ct.chains import OTHER_ROOT, ROOT, leaf
from tests.unit.ct.logs import CALL, NOW, Host, add, add_many, host_certificate

MANY = 300


async def head(log: TransparencyLog) -> SignedTreeHead:
    return await log.tree_head(GetTreeHead(), CALL)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def grown(host: Host) -> Host:
    """A closed log with one full tile and 44 entries beside it."""
    host.run(lambda log: add_many(log, range(MANY)))
    return host


def contents(directory: Path) -> dict[str, bytes]:
    """Every file but the database, which SQLite itself touches when it opens it."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.name.startswith("log.db"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def refuses(host: Host, match: str, error: type[Exception] = ConfigurationError) -> None:
    """The start ends with this error, and has changed nothing."""
    before = contents(host.directory)
    with pytest.raises(error, match=match):
        host.run(head)
    assert contents(host.directory) == before


def test_a_first_start_makes_a_key_for_this_user_alone_and_an_empty_log(host: Host) -> None:
    told = host.run(head)
    assert (told.tree_size, told.timestamp) == (0, NOW)
    assert (host.directory / "log.key").stat().st_mode & 0o777 == 0o600
    assert (host.directory / "log.db").stat().st_mode & 0o777 == 0o600
    assert host.directory.stat().st_mode & 0o777 == 0o700
    assert (host.directory / "checkpoint").exists()


def test_a_later_start_goes_on_where_the_log_was(grown: Host) -> None:
    before = grown.run(head)
    files = contents(grown.directory)
    grown.now += 1000
    assert grown.run(head) == before
    assert contents(grown.directory) == files
    assert grown.run(lambda log: add(log, leaf())).leaf_index == MANY


def test_the_origin_counts_only_when_the_log_is_made(tmp_path: Path) -> None:
    async def origin(log: TransparencyLog) -> tuple[str, bytes]:
        return (await log.log(GetLog(), CALL)).origin, (await log.checkpoint(GetCheckpoint(), CALL)).note

    name, note = Host(tmp_path, Ct(origin="ct.example/2026")).run(origin)
    assert name == "ct.example/2026"
    assert note.startswith(b"ct.example/2026\n")
    assert Host(tmp_path).run(origin) == (name, note)


def test_a_key_that_was_made_before_the_first_head_is_used(host: Host) -> None:
    """A crash after the second of the three steps of the first start."""
    host.run(head)
    key = (host.directory / "log.key").read_bytes()
    for name in ("log.db", "checkpoint"):
        (host.directory / name).unlink()

    async def record_alone() -> None:
        database = await Database.open(host.directory / "log.db", MIGRATIONS)
        await database.close()

    asyncio.run(record_alone())
    assert host.run(head).tree_size == 0
    assert (host.directory / "log.key").read_bytes() == key


def test_a_lost_key_is_never_made_anew(grown: Host) -> None:
    (grown.directory / "log.key").unlink()
    refuses(grown, "log.key is missing")


def test_a_lost_record_is_never_made_anew(grown: Host) -> None:
    (grown.directory / "log.db").unlink()
    refuses(grown, "log.db is missing")


def test_the_key_of_another_log_is_refused(grown: Host) -> None:
    (grown.directory / "log.key").unlink()
    keys.create(grown.directory / "log.key")
    refuses(grown, "log.key is not the key of the log")


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"no key", "not a private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "not hold a key on P-256"),
        (bytes(65_537), "larger than any key"),
    ],
)
def test_what_is_no_key_of_a_log_is_refused(grown: Host, content: bytes, match: str) -> None:
    (grown.directory / "log.key").write_bytes(content)
    refuses(grown, match)


def test_a_key_that_others_can_read_is_refused(grown: Host) -> None:
    (grown.directory / "log.key").chmod(0o640)
    refuses(grown, "chmod 600")


def test_a_key_is_never_written_over_one(host: Host) -> None:
    host.run(head)
    with pytest.raises(ConfigurationError, match="exists"):
        keys.create(host.directory / "log.key")


def test_a_key_that_was_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".log.key.unfinished").write_bytes(b"half")
    made = keys.create(tmp_path / "log.key")
    assert isinstance(made, LogSigner)
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]
    assert keys.load(tmp_path / "log.key").log_id == made.log_id


@pytest.mark.parametrize("name", ["tile/0/000", "tile/data/000"])
def test_a_missing_tile_is_told(grown: Host, name: str) -> None:
    (grown.directory / name).unlink()
    refuses(grown, f"{name} is missing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(bytes(8192)),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_damaged_tile_of_hashes_is_told_at_the_start(grown: Host, damage: Callable[[Path], object]) -> None:
    damage(grown.directory / "tile/0/000")
    refuses(grown, r"tile/0/000 is not a tile|do not lead to the root")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"\x00",
        lambda content: content[:100] + bytes((content[100] ^ 1,)) + content[101:],
        lambda content: content[:0],
        lambda content: content + content,
        lambda content: b"".join([entry for entry, _ in split_data_tile(content)][:-1]),
    ],
)
def test_a_damaged_tile_of_entries_is_told_by_whoever_reads_it_and_ends_the_worker(
    grown: Host, change: Callable[[bytes], bytes]
) -> None:
    path = grown.directory / "tile/data/000"
    path.write_bytes(change(path.read_bytes()))

    async def test(log: TransparencyLog) -> None:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="tile/data/000 is damaged"):
                await log.entries(GetEntries(start=0, end=0), CALL)
        with pytest.raises(ConfigurationError, match="tile/data/000 is damaged"):
            await log.probe()

    grown.run(test)


def test_the_probe_finds_a_damaged_entry_by_itself(grown: Host) -> None:
    path = grown.directory / "tile/data/000"
    path.write_bytes(path.read_bytes()[:-1])

    async def test(log: TransparencyLog) -> None:
        # Each probe reads another entry, and 256 of 300 are in that tile.
        probes = [await asyncio.gather(log.probe(), return_exceptions=True) for _ in range(20)]
        assert any("tile/data/000 is damaged" in str(found) for (found,) in probes)

    grown.run(test)


def statement(host: Host, sql: str) -> None:
    with closing(sqlite3.connect(host.directory / "log.db")) as connection:
        connection.execute(sql)
        connection.commit()


@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("UPDATE head SET tree_size = tree_size - 1", "signature of its head is wrong"),
        ("UPDATE head SET root_hash = zeroblob(32)", "signature of its head is wrong"),
        ("UPDATE head SET signature = x'00'", "signature of its head is wrong"),
        ("DELETE FROM head", "a key and no head"),
        ("DELETE FROM entries WHERE leaf_index = 256", "entries between"),
        ("DELETE FROM entries WHERE leaf_index = 299", "entries between"),
        ("DELETE FROM entries", "entries between"),
        ("UPDATE entries SET leaf = x'00' WHERE leaf_index = 270", "cannot be read"),
        (
            "UPDATE entries SET leaf = (SELECT leaf FROM entries WHERE leaf_index = 271) WHERE leaf_index = 270",
            "the root",
        ),
    ],
)
def test_a_record_that_does_not_hold_together_is_told(grown: Host, sql: str, match: str) -> None:
    statement(grown, sql)
    refuses(grown, match)


def test_an_old_copy_of_the_record_is_refused(grown: Host, tmp_path: Path) -> None:
    """A backup of log.db alone: the checkpoint speaks of more than it knows."""
    copy = tmp_path / "copy.db"
    shutil.copy(grown.directory / "log.db", copy)
    grown.run(lambda log: add(log, leaf()))
    shutil.copy(copy, grown.directory / "log.db")
    refuses(grown, "an old copy")


def test_an_old_copy_of_record_and_checkpoint_is_refused_as_far_as_tiles_show_it(grown: Host, tmp_path: Path) -> None:
    for name in ("log.db", "checkpoint"):
        shutil.copy(grown.directory / name, tmp_path / name)
    grown.run(lambda log: add_many(log, range(MANY, 600)))
    for name in ("log.db", "checkpoint"):
        shutil.copy(tmp_path / name, grown.directory / name)
    refuses(grown, "tile/data/001 belongs to a larger tree")


def test_a_checkpoint_of_another_tree_is_refused(grown: Host, tmp_path: Path) -> None:
    """Signed by the same key: what a log would have published that forked."""
    twin = Host(tmp_path / "twin")
    shutil.copytree(grown.directory, twin.directory)
    twin.run(lambda log: add(log, leaf()))
    grown.run(lambda log: add(log, host_certificate(MANY)))
    shutil.copy(twin.directory / "checkpoint", grown.directory / "checkpoint")
    refuses(grown, "has another root")


@pytest.mark.parametrize("content", [b"", b"nothing\n", b"a\n1\nAA==\n\n\xe2\x80\x94 a a2V5IXM=\n"])
def test_what_is_no_checkpoint_is_told(grown: Host, content: bytes) -> None:
    (grown.directory / "checkpoint").write_bytes(content)
    refuses(grown, "checkpoint is not a checkpoint of this log")


def test_a_missing_checkpoint_is_made_again(grown: Host) -> None:
    before = (grown.directory / "checkpoint").read_bytes()
    (grown.directory / "checkpoint").unlink()
    grown.run(head)
    assert (grown.directory / "checkpoint").read_bytes() == before


def test_a_damaged_database_is_told(grown: Host) -> None:
    path = grown.directory / "log.db"
    path.write_bytes(b"nothing" + path.read_bytes()[7:])
    refuses(grown, "damaged", DatabaseCorrupt)


def test_an_index_that_lies_gets_nobody_a_promise(grown: Host) -> None:
    """Who can write the database could otherwise have an SCT signed for what is not in the tree."""
    statement(grown, "UPDATE identities SET leaf_index = 5 WHERE leaf_index = 7")

    async def test(log: TransparencyLog) -> None:
        answers = [await asyncio.gather(add(log, host_certificate(n)), return_exceptions=True) for n in range(8)]
        errors = [str(answer) for (answer,) in answers if isinstance(answer, Exception)]
        assert len(errors) == 1
        assert "entry 5 is another one" in errors[0]
        with pytest.raises(ConfigurationError, match="entry 5"):
            await log.probe()

    grown.run(test)


def test_a_tile_that_is_there_and_another_one_is_not_written_over(host: Host) -> None:
    host.run(lambda log: add_many(log, range(200)))

    async def test(log: TransparencyLog) -> None:
        tile = host.directory / "tile/0/000"
        tile.parent.mkdir(parents=True)
        tile.write_bytes(bytes(8192))
        with pytest.raises(Exception, match="tile/0/000 exists and holds something else"):
            await add_many(log, range(200, 260))
        assert tile.read_bytes() == bytes(8192)
        with pytest.raises(ConfigurationError, match="tile/0/000 exists"):
            await log.probe()

    host.run(test)


def test_another_process_that_wrote_the_head_ends_all_signing(grown: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        statement(grown, "UPDATE head SET timestamp = timestamp + 1")
        with pytest.raises(Exception, match="not the one"):
            await add(log, leaf())
        with pytest.raises(Exception, match="takes nothing in"):
            await log.probe()
        assert (await head(log)).tree_size == MANY

    grown.run(test)


def test_extra_roots_are_read_from_their_files(tmp_path: Path) -> None:
    path = tmp_path / "roots.pem"
    both = (x509.load_der_x509_certificate(each) for each in (ROOT, OTHER_ROOT))
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in both))
    assert installation.read_roots((str(path),)) == [ROOT, OTHER_ROOT]


@pytest.mark.parametrize("content", [None, b"nothing", bytes(installation.MAX_ROOT_FILE_OCTETS + 1)])
def test_what_holds_no_roots_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"ct\.extra_roots: .*roots\.pem"):
        installation.read_roots((str(path),))


def test_a_directory_that_cannot_be_made_is_the_storages_fault(tmp_path: Path) -> None:
    (tmp_path / "ct").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        Host(tmp_path).run(head)


def test_batches_are_bounded(host: Host) -> None:
    async def test(log: TransparencyLog) -> None:
        await add_many(log, range(MAX_BATCH + 40))

    host.run(test)
    batches = host.metrics.histogram("trustchain_ct_batch_entries").value
    assert (batches.sum, batches.count) == (MAX_BATCH + 40, 2)
    assert os.listdir(host.directory / "tile/0") != []
