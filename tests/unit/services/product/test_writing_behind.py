"""Mode `behind` put together, over a log and a database that are there or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from shop_services.messaging import compacted_memory
from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted_memory import MemoryLog, MemoryRecords
from shop_services.product import writing_behind as module
from shop_services.product.overlay import Overlay
from shop_services.product.pending_messages import Written, dump_note
from shop_services.product.recent import RecentChanges
from shop_services.product.writing_behind import following, telling, writing_behind
from shop_services.runtime.errors import Unavailable
from tests.unit.services.product.written_behind import NOW, Instance, catalog

_NOTE = Written(1, frozenset({"office"}), -1, deleted=False, in_place=True)


async def test_a_start_needs_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the log to be read, and names the variable that says where it is if it cannot be."""
    monkeypatch.setattr(module, "CATCH_UP", 0.05)
    async with catalog(tmp_path) as database:
        one = Instance(database, MemoryRecords())

        async def away(_when: object, _key: object) -> None:
            raise BusUnavailable("away")

        one.log.interfere = away
        parts: dict[str, Any] = {"reads": one.reads, "changes": one.direct, "changed": one.changed.append}
        recent, rng = RecentChanges(1.0), Random(1)
        behind = writing_behind(
            one.log, database, one.replies, recent, bound=1.0, clock=lambda: NOW, rng=rng, keep=10, **parts
        )
        with pytest.raises(Unavailable, match="NATS_URL"):
            await behind.__aenter__()


async def test_a_defect_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, and the log is read from its beginning again."""
    monkeypatch.setattr(module, "_AFTER_DEFECT", 0.0)
    log = MemoryLog(MemoryRecords())
    overlay = Overlay(lambda _product_id, _note: None)
    defects = iter([ValueError("a defect")])

    async def broken(_when: object, _key: object) -> None:
        for defect in defects:
            raise defect

    log.interfere = broken
    with capture_logs() as logs:
        async with asyncio.timeout(20), following(log, overlay):
            while overlay.as_of < 0:
                await overlay.moved()
    assert [entry["event"] for entry in logs] == ["pending_changes_unfollowed", "pending_changes_followed"]


async def test_a_record_that_cannot_be_taken_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it takes: it is logged once, nothing is proven meanwhile, and in the end nothing is missing."""
    monkeypatch.setattr(module, "_AFTER_DEFECT", 0.0)
    monkeypatch.setattr(compacted_memory, "BATCH", 1)  # so that there are good looks between
    log = MemoryLog(MemoryRecords())
    await log.clear("p1", after=0, note=dump_note(_NOTE))
    await log.clear("p2", after=0, note=dump_note(_NOTE))
    failures = 3

    def settled(product_id: str, _note: Written) -> None:
        nonlocal failures
        if product_id == "p2" and failures:
            failures -= 1
            assert overlay.as_of < 0
            raise ValueError("a defect")

    overlay = Overlay(settled)
    with capture_logs() as logs:
        async with asyncio.timeout(20), following(log, overlay):
            while overlay.as_of < 0:
                await overlay.moved()
            await log.clear("p3", after=0, note=dump_note(_NOTE))
            while overlay.entry("p3") is None:
                await overlay.moved()
    assert overlay.entry("p2") is not None
    assert [entry["event"] for entry in logs] == ["pending_changes_unfollowed", "pending_changes_followed"]


def test_copies_older_than_what_was_written_are_not_current() -> None:
    """Those of the product and its lists; and none at all until a change is found of which only a bound is known."""
    recent = RecentChanges(1e9, clock=lambda: 0.0)
    recent.looked(0.0, 0, 5, [])
    settled = telling(recent)
    settled("p1", Written(6, frozenset({"office"}), -1, deleted=False, in_place=True))
    assert not recent.is_current("product/p1", 5)
    assert not recent.is_current("category/office", 5)
    assert not recent.is_current("category/", 5)
    assert recent.is_current("product/p2", 5)
    settled("p2", Written(8, None, -2, deleted=False, in_place=True))
    assert not recent.is_current("product/p3", 6)
