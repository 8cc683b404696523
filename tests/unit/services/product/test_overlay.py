"""What an instance knows of the pending changes, and what its reads show of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shop_services.caching.copies import Copy
from shop_services.messaging.compacted import Record
from shop_services.messaging.compacted_memory import MemoryRecords
from shop_services.product import overlay as module
from shop_services.product.domain import Product
from shop_services.product.overlaid import overlaid
from shop_services.product.overlay import REMEMBERED, Overlay, Unsure
from shop_services.product.pending import Pending
from shop_services.product.pending_counts import PendingCounts
from shop_services.product.pending_messages import Written, dump, dump_note
from shop_services.product.position import ANY, Position
from shop_services.product.reads import Listing
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.money import Money
from shop_services.runtime.paging import MAX_PAGE_BYTES, Page
from shop_services.storage import Database
from tests.unit.services.product.written_behind import Clock, Instance, catalog

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROW = Product("p1", "PEN", "Pen", "", "office", Money("EUR", 100), NOW, NOW, 1, 1)


@pytest.fixture
def clock() -> Clock:
    """The overlay's."""
    return Clock()


@pytest.fixture
def overlay(clock: Clock) -> Overlay:
    """One that nobody follows."""
    return Overlay(lambda _product_id, _note: None, clock=clock)


def _state(revision: int, *, deleted: bool = False, **fields: str) -> Pending:
    after = replace(ROW, revision=revision, **fields)  # type: ignore[arg-type]  # the texts of a product
    return Pending.of(ROW).then(after, deleted=deleted, reply=None)


def _put(state: Pending, sequence: int) -> Record:
    return Record("p1", dump(state), sequence, cleared=False)


def _cleared(state: Pending, sequence: int, *, in_place: bool = True) -> Record:
    note = Written(2, None, state.product.revision, state.deleted, in_place)
    return Record("p1", dump_note(note), sequence, cleared=True)


def test_late_news_change_nothing(overlay: Overlay) -> None:
    """A record that is older than what is known is left out, whoever tells of it."""
    overlay.put("p1", 5, _state(-5))
    overlay.take(_put(_state(-4), 4))
    overlay.put("p1", 3, _state(-3))
    overlay.take(_cleared(_state(-3), 4))
    assert overlay.shown("p1", 0.0) == _state(-5)


def test_a_state_is_shown_to_reads_that_began_before_it_was_written(overlay: Overlay, clock: Clock) -> None:
    """They may have looked at the database before that; those that begin later look at it after."""
    overlay.take(_put(_state(-1), 1))
    clock.time += 1
    overlay.take(_cleared(_state(-1), 2))
    assert overlay.shown("p1", clock.time - 0.5) == _state(-1)
    assert overlay.shown("p1", clock.time + 0.1) is None


def test_a_read_is_unsure_where_another_state_was_written(overlay: Overlay, clock: Clock) -> None:
    """What was shown is out of date, and what the database told the read may be older still."""
    overlay.take(_put(_state(-1), 1))
    clock.time += 1
    overlay.take(_cleared(_state(-2), 3))
    with pytest.raises(Unsure):
        overlay.shown("p1", clock.time - 0.5)
    assert overlay.shown("p1", clock.time + 0.1) is None


def test_what_was_not_pending_makes_no_read_unsure(overlay: Overlay, clock: Clock) -> None:
    """A note, or a mark, of a product that nothing was known of says nothing about what the database told."""
    overlay.take(_cleared(_state(-1), 1))
    assert overlay.shown("p1", clock.time - 0.5) is None
    overlay.take(_cleared(_state(-2), 3))
    assert overlay.shown("p1", clock.time - 0.5) is None


def test_what_was_dropped_is_not_shown(overlay: Overlay, clock: Clock) -> None:
    """Where the row was changed by someone who does not know the log, the row it is."""
    overlay.take(_put(_state(-1), 1))
    overlay.take(_cleared(_state(-1), 2, in_place=False))
    assert overlay.shown("p1", clock.time - 0.5) is None
    entry = overlay.entry("p1")
    assert entry is not None
    assert entry.state is None


def test_entries_are_forgotten_after_a_while(overlay: Overlay, clock: Clock) -> None:
    """Once what they stood for is in the database; those that wait stay."""
    overlay.take(_put(_state(-1), 1))
    clock.time += 2 * REMEMBERED
    overlay.read((), clock.time)
    assert overlay.shown("p1", clock.time) == _state(-1)
    overlay.take(_cleared(_state(-1), 2))
    clock.time += REMEMBERED + 1
    overlay.read((), clock.time)
    assert overlay.entry("p1") is None


def test_an_unreadable_record_is_logged_and_passed_over(overlay: Overlay) -> None:
    """The product is shown as the database has it; its record keeps its place in the order."""
    with capture_logs() as logs:
        overlay.take(Record("p1", b"\xff\xff", 7, cleared=False))
    assert [entry["event"] for entry in logs] == ["pending_change_unreadable"]
    assert overlay.shown("p1", 0.0) is None
    entry = overlay.entry("p1")
    assert entry is not None
    assert (entry.sequence, entry.active) == (7, False)


async def test_a_read_waits_until_enough_is_known(
    overlay: Overlay, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged by some time must be here, or a certain record; for two seconds at most."""
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    overlay.read((_put(_state(-1), 3),), clock.time)
    await overlay.fresh(clock.time, 3)
    with pytest.raises(Unavailable, match="log of pending changes"):
        await overlay.fresh(clock.time + 1)
    clock.time += 1
    with pytest.raises(Unavailable):
        await overlay.fresh(0.0, 4)
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    waiting = asyncio.create_task(overlay.fresh(0.0, 4))
    await asyncio.sleep(0)
    overlay.read((), clock.time)  # there is no record 4 any more
    await waiting


async def test_a_read_during_an_outage_does_not_wait_long(
    overlay: Overlay, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was heard for longer than a read waits, the next one is told so soon."""
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    overlay.read((), clock.time)
    clock.time += 121
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await overlay.fresh(clock.time)


def test_what_is_pending_is_counted(overlay: Overlay, clock: Clock) -> None:
    """With how long it has been known, and how old that knowledge is."""
    overlay.read((_put(_state(-1), 1),), clock.time)
    clock.time += 3
    metrics = {metric.name: metric.samples[0].value for metric in PendingCounts(overlay).collect()}
    assert metrics == {
        "shop_catalog_pending": 1,
        "shop_catalog_pending_age_seconds": 3,
        "shop_catalog_pending_known_age_seconds": 3,
    }


def test_a_list_shows_pending_products_without_those_that_left() -> None:
    """In their places; what was deleted or is in another category now is missing, and the next page stays the next."""
    rows = tuple(replace(ROW, id=name, position=index) for index, name in enumerate("abcd"))
    states = {
        "a": _state(-1, name="new"),
        "b": _state(-2, category="gifts"),
        "c": _state(-3, deleted=True),
    }
    page = overlaid(Page(rows, "next"), Listing("office", 10), states)
    assert page == Page((states["a"].product, rows[3]), "next")
    every = overlaid(Page(rows, "next"), Listing("", 10), states)
    assert every.items == (states["a"].product, states["b"].product, rows[3])


def test_a_list_that_grew_too_long_ends_early() -> None:
    """And goes on after its last product."""
    rows = tuple(replace(ROW, id=str(index), position=index + 1) for index in range(100))
    long = Pending.of(ROW).then(replace(ROW, description="x" * 10_000, revision=-1), deleted=False, reply=None)
    states = {row.id: replace(long, product=replace(long.product, id=row.id, position=row.position)) for row in rows}
    listing = Listing("office", 100)
    page = overlaid(Page(rows, ""), listing, states)
    assert sum(product.weight for product in page.items) <= MAX_PAGE_BYTES
    assert len(page.items) < 100
    assert Listing.of("office", 100, page.next_token).after == page.items[-1].position


class _Reads:
    """Reads of a source that says what happens while they read."""

    def __init__(self, instance: Instance, happens: Callable[[], object]) -> None:
        self._reads = instance.reads._reads
        self._happens = happens
        self.count = 0
        self.happened = asyncio.Event()

    async def product(self, product_id: str, at: Position = ANY) -> Copy[Product]:
        copy = await self._reads.product(product_id, at)
        self.count += 1
        self._happens()
        self.happened.set()
        return copy

    async def page(self, listing: Listing, at: Position = ANY) -> Copy[Page[Product]]:
        copy = await self._reads.page(listing, at)
        self.count += 1
        self._happens()
        return copy


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty catalog."""
    async with catalog(tmp_path) as opened:
        yield opened


async def test_a_list_is_read_again_where_it_cannot_be_told(database: Database) -> None:
    """A state that it would have shown was replaced, written and cleared while it was read; so often, it fails."""
    one = Instance(database, MemoryRecords())
    product_id = await one.create("PEN")
    await one.follow()
    sequence = 10

    def happen() -> None:
        nonlocal sequence
        sequence += 2
        overlay, unknown = one.overlay, _cleared(_state(-sequence), sequence + 1)
        overlay.take(replace(_put(_state(-1), sequence), key=product_id))
        overlay.take(replace(unknown, key=product_id))

    reads = _Reads(one, happen)
    one.reads._reads = reads  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="again and again"):
        await one.reads.page(Listing("", 10))
    assert reads.count == 5
    once = iter([happen])
    reads._happens = lambda: next(once, lambda: None)()
    assert [product.id for product in (await one.reads.page(Listing("", 10))).value.items] == [product_id]  # type: ignore[union-attr]
    assert reads.count == 7


async def test_a_read_begins_again_when_all_was_forgotten(database: Database) -> None:
    """What it was told by the database may be older than what was known when it began."""
    one = Instance(database, MemoryRecords())
    product_id = await one.create("PEN")
    await one.follow()
    once = iter([lambda: one.overlay.start_over(lost=False)])
    reads = _Reads(one, lambda: next(once, lambda: None)())
    one.reads._reads = reads  # type: ignore[assignment]
    reading = asyncio.create_task(one.reads.product(product_id))
    async with asyncio.timeout(5):
        await reads.happened.wait()
        await one.follow()
        assert (await reading).value is not None
    assert reads.count == 2
