"""The methods `inventory` and `expiry`, the figures for monitoring, and retention."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from monitoring.metrics import Metrics, operation
from services.ca.inventory import retention
from services.ca.inventory import server as inventory_module
from services.ca.inventory.expiry import Item
from services.ca.inventory.messages import Expiring, GetExpiry, GetInventory, IssuedDay, Tally
from services.ca.inventory.metrics import FAMILIES, InventoryMetrics
from services.ca.inventory.retention import Retention
from services.ca.inventory.server import Inventory
from services.ca.messages import OWN_API
from services.ca.storage import Storage
from services.errors import StorageUnavailable
from services.rpc_server import Call
from tests.rig.event_log import EventLog
from tests.unit.ca.records import NOW, issue, opened, reservation, revoke

CALL = Call("a method", 2**63, "")
DAY = 86_400
FREE = 10**9


class Host:
    """An inventory over a record, with a clock that stands still."""

    def __init__(self, storage: Storage, days: int) -> None:
        self.storage = storage
        queries = operation("trustchain_ca_queries", "Questions", labels={"method": ("inventory", "expiry")})
        self.metrics = Metrics.in_memory((*queries, *FAMILIES))
        self.log = EventLog()
        self.items: list[Item] = []
        self.disk_free: int | OSError = FREE
        metrics = InventoryMetrics(self.metrics)
        self.retention = Retention(storage.inventory(), days, metrics, self.log, lambda: NOW)
        self.inventory = Inventory(
            storage=storage.inventory(),
            retention=self.retention,
            sources=(lambda: self.items,),
            metrics=metrics,
            log=self.log,
            now=lambda: NOW,
            disk_free=self.free,
        )

    def free(self) -> int:
        if isinstance(self.disk_free, OSError):
            raise self.disk_free
        return self.disk_free

    def gauge(self, name: str, **labels: str) -> float:
        return self.metrics.gauge(f"trustchain_ca_{name}", **labels).value


def on_host(directory: Path, test: Callable[[Host], Awaitable[None]], days: int = 0) -> None:
    async def run() -> None:
        async with opened(directory) as storage:
            await test(Host(storage, days))

    asyncio.run(run())


def test_the_inventory_says_what_is_on_record(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await issue(host.storage, reservation(1, requester="alice", not_after=NOW - 1), at=NOW - DAY)
        await issue(host.storage, reservation(2, ("b.example",), requester="bob", not_after=NOW + 1_800))
        await issue(host.storage, reservation(3, ("b.example",), requester="bob", not_after=NOW + 8 * DAY))
        await revoke(host.storage, 1)
        await host.storage.reserve(reservation(4))
        found = await host.inventory.inventory(GetInventory(), CALL)
        assert (found.certificates, found.valid, found.expired, found.revoked, found.unfinished) == (3, 2, 1, 1, 1)
        assert found.requesters == [Tally(value="bob", certificates=2), Tally(value="alice", certificates=1)]
        assert found.profiles == [Tally(value="tls-server", certificates=3)]
        assert found.issuers == [Tally(value="01", certificates=3)]
        assert [(e.within_seconds, e.certificates, e.unrenewed) for e in found.expiring] == [
            (3_600, 1, 0),
            (DAY, 1, 0),
            (7 * DAY, 1, 0),
            (30 * DAY, 2, 1),
        ]
        midnight = NOW // DAY * DAY
        assert found.issued == [IssuedDay(day=midnight - DAY, certificates=1), IssuedDay(day=midnight, certificates=2)]
        assert (found.record.disk_free_octets, found.record.full_at) == (FREE, None)
        assert found.record.octets >= 4096
        assert found.record.rows_per_day > 0
        assert (found.retention_days, found.deleted, found.complete_from) == (0, 0, 0)
        one = await host.inventory.inventory(GetInventory(top=1), CALL)
        assert one.requesters == [Tally(value="bob", certificates=2)]
        assert Expiring(within_seconds=3_600, certificates=1, unrenewed=0) in one.expiring

    on_host(tmp_path, test)


def test_the_radar_tells_the_authoritys_own_first_and_the_leaves_that_are_due(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.items = [
            Item.scheduled("root", "CN=root", NOW - DAY, NOW + 99 * DAY),
            Item.scheduled("crl", "01/0", NOW - 9 * DAY, NOW + DAY),
        ]
        await issue(
            host.storage,
            reservation(1, ("fresh.example",), not_after=NOW + 10 * DAY),
            reservation(2, ("gone.example",), not_after=NOW - 5),
            reservation(3, ("long.gone.example",), not_after=NOW - DAY - 1),
            reservation(4, ("due.example",), not_after=NOW + 20),
            reservation(5, ("renewed.example",), not_after=NOW + 10),
            reservation(6, ("renewed.example",), not_after=NOW + 9 * DAY),
            reservation(7, ("localhost",), requester=OWN_API, not_after=NOW + 9 * DAY),
        )
        found = await host.inventory.expiry(GetExpiry(), CALL)
        assert [(item.kind, item.state) for item in found.items] == [("crl", "overdue"), ("api", "ok"), ("root", "ok")]
        assert [(leaf.name, leaf.state) for leaf in found.leaves] == [
            ("gone.example", "expired"),
            ("due.example", "due"),
        ]
        assert [leaf.serial for leaf in found.leaves] == [f"{2:032x}", f"{4:032x}"]
        assert not found.more
        one = await host.inventory.expiry(GetExpiry(limit=1), CALL)
        assert ([leaf.name for leaf in one.leaves], one.more) == (["gone.example"], True)
        assert len((await host.inventory.expiry(GetExpiry(within=0), CALL)).leaves) == 1

    on_host(tmp_path, test)


def test_a_radar_that_looked_at_too_many_leaves_says_that_there_may_be_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_module, "EXAMINED_LEAVES", 2)

    async def test(host: Host) -> None:
        await issue(host.storage, *(reservation(n, (f"{n}.example",)) for n in range(1, 4)))
        found = await host.inventory.expiry(GetExpiry(), CALL)
        assert (found.leaves, found.more) == ([], True)

    on_host(tmp_path, test)


def test_the_figures_for_monitoring(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.items = [Item.scheduled("crl", "01/0", NOW - 9 * DAY, NOW + DAY)]
        await issue(host.storage, reservation(1, not_after=NOW + 60), reservation(2, not_after=NOW + 90))
        await issue(host.storage, reservation(3, ("b.example",), not_after=NOW + 2 * DAY))
        await host.inventory.refresh()
        expiring = {
            (within, renewed): host.gauge("expiring_certificates", within=within, renewed=renewed)
            for within in ("1h", "7d")
            for renewed in ("yes", "no")
        }
        assert expiring == {("1h", "yes"): 1, ("1h", "no"): 1, ("7d", "yes"): 1, ("7d", "no"): 2}
        assert [host.gauge("renewals_overdue", item=item) for item in ("crl", "root")] == [1, 0]
        assert host.gauge("record_rows") == 3
        assert host.gauge("record_bytes") >= 4096
        assert host.gauge("record_growth_bytes_per_day") > 0
        assert host.gauge("record_full_seconds") == 0
        host.items = []
        await host.inventory.refresh()
        assert host.gauge("renewals_overdue", item="crl") == 0

    on_host(tmp_path, test)


def test_a_record_that_fills_the_disk_says_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ca.inventory.growth.LEAST_ROWS", 3)

    async def test(host: Host) -> None:
        host.disk_free = 0
        await issue(host.storage, *(reservation(n) for n in range(1, 4)), at=NOW - 5 * DAY)
        found = await host.inventory.inventory(GetInventory(), CALL)
        assert found.record.full_at is not None
        left = found.record.unused_octets / found.record.octets_per_day * DAY
        assert found.record.full_at == NOW + int(left)
        await host.inventory.refresh()
        assert host.gauge("record_full_seconds") == pytest.approx(max(1.0, left))

    on_host(tmp_path, test)


def test_a_disk_that_does_not_answer_is_unavailable_and_nothing_else(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        host.disk_free = OSError(5, "Input/output error")
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            await host.inventory.inventory(GetInventory(), CALL)

    on_host(tmp_path, test)


def test_retention_deletes_everything_that_ended_longer_ago_and_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "_SHORTEST_PAUSE", 0.0)

    async def test(host: Host) -> None:
        await issue(host.storage, *(reservation(n, not_after=NOW - 3 * DAY - 1) for n in range(1, 6)))
        await issue(host.storage, reservation(6, not_after=NOW - 3 * DAY))
        assert await host.retention.sweep() == 5
        assert host.log.events == [
            ("deleted certificates that expired long ago", {"count": 5, "retention_days": 3}),
        ]
        assert host.metrics.counter("trustchain_ca_certificates_deleted_total").value == 5
        found = await host.inventory.inventory(GetInventory(), CALL)
        assert (found.certificates, found.deleted, found.complete_from) == (1, 5, NOW - 3 * DAY)
        assert found.retention_days == 3
        assert await host.retention.sweep() == 0
        assert len(host.log.events) == 1

    on_host(tmp_path, test, days=3)


def test_without_a_retention_nothing_is_deleted(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await issue(host.storage, reservation(1, not_after=1))
        assert await host.retention.sweep() == 0
        assert (await host.inventory.inventory(GetInventory(), CALL)).certificates == 1

    on_host(tmp_path, test)


def test_what_retention_is_about_to_delete_is_no_growth(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await issue(host.storage, reservation(1, not_after=NOW - DAY + 60), at=NOW - 2 * DAY)
        found = await host.inventory.inventory(GetInventory(), CALL)
        assert found.record.rows_per_day < 0

    on_host(tmp_path, test, days=1)


def test_the_background_goes_on_after_a_failure_and_ends_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_module, "FIRST_REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(inventory_module, "REFRESH_SECONDS", 0.0)

    async def test(host: Host) -> None:
        faults: list[Exception] = [StorageUnavailable("full"), RuntimeError("unforeseen")]
        refreshed = asyncio.Event()

        async def refresh() -> None:
            if faults:
                raise faults.pop(0)
            refreshed.set()

        monkeypatch.setattr(host.inventory, "refresh", refresh)
        host.inventory.start()
        async with asyncio.timeout(10):
            await refreshed.wait()
        await host.inventory.close()
        assert [event for event, _ in host.log.events] == ["the figures of the inventory could not be renewed"] * 2

    on_host(tmp_path, test)


def test_closing_what_was_never_started_is_nothing(tmp_path: Path) -> None:
    async def test(host: Host) -> None:
        await host.inventory.close()

    on_host(tmp_path, test)
