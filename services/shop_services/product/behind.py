"""Changes that are acknowledged once they are in a durable log, and written to the database after that.

A change begins from the latest record of its product, or from the database's row if there is none, and is put with the
condition that no other came between. So the changes of a product have one order, that of the log, and each knows all
before it: etags, request ids and deletions hold as they do in the database. A creation goes to the database at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TypeGuard, TypeVar
from weakref import WeakValueDictionary

from google.protobuf.message import Message

from shop_services.messaging.compacted import MARKER_AGE, CompactedLog, Record, Superseded
from shop_services.product import storage
from shop_services.product.domain import KIND, Changes, NewProduct, Product
from shop_services.product.overlay import Entry, Overlay
from shop_services.product.pending import MAX_BYTES, MAX_REPLACED, Pending
from shop_services.product.pending_messages import Unreadable, dump, load, load_note
from shop_services.product.position import Position
from shop_services.product.reads import Answer, CatalogChanges, Outcome
from shop_services.runtime.errors import Aborted, AlreadyExists, NotFound, Unavailable
from shop_services.runtime.etags import check_etag
from shop_services.runtime.times import Clock
from shop_services.storage import Contended, Database, Mutation

MAX_PENDING = 10_000
"""Products that may have a pending change, as far as an instance knows."""
WAIT = 10.0
"""Seconds that a change may take, and wait for others to be written where there are too many."""
ATTEMPTS = 8
"""How often a change begins again since another instance has changed the same product."""
TRUSTED = MARKER_AGE / 2
"""Seconds for which "there is no record of it" is true of a product: others leave traces, which vanish after longer."""

_FIRST_PAUSE = 0.002

R = TypeVar("R", bound=Message)
Alter = Callable[[Product], Product]
"""What a change makes of a product. Raises `Aborted`."""


class BehindChanges:
    """`CatalogChanges` that are kept in `log`. `direct` are those of `database`, where products are created.

    `known` is called with the catalog's revision when a reply was found there: what it tells of must be seen from then
    on. `rng` must be no other instance's: it makes revisions.
    """

    def __init__(
        self,
        direct: CatalogChanges,
        database: Database,
        overlay: Overlay,
        log: CompactedLog,
        known: Callable[[int], None],
        clock: Clock,
        rng: Random,
    ) -> None:
        self._direct = direct
        self._database = database
        self._overlay = overlay
        self._log = log
        self._known = known
        self._clock = clock
        self._rng = rng
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, new: NewProduct, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.create`. Where a product with this SKU is being deleted, this waits until it is gone."""
        try:
            return await self._direct.create(new, mutation)
        except AlreadyExists:
            async with _bounded():
                await self._overlay.fresh(self._overlay.clock())
                while self._is_leaving(new.sku):
                    await self._overlay.moved()
        return await self._direct.create(new, mutation)

    async def update(self, product_id: str, changes: Changes, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.update`."""

        def alter(product: Product) -> Product:
            check_etag(etag, KIND, product_id, product.revision)
            return product.changed(changes, self._clock(), self._new_revision())

        return await self._change(product_id, alter, mutation, delete=False)

    async def delete(self, product_id: str, etag: str, mutation: Mutation[Outcome, R]) -> Answer[R]:
        """See `CatalogChanges.delete`. Its stock is taken off the sale when the deletion is written."""

        def alter(product: Product) -> Product:
            check_etag(etag, KIND, product_id, product.revision)
            return replace(product, revision=self._new_revision())  # tells this deletion from others

        return await self._change(product_id, alter, mutation, delete=True)

    async def _change(
        self, product_id: str, alter: Alter, mutation: Mutation[Outcome, R], *, delete: bool
    ) -> Answer[R]:
        overtaken = 0
        turn = self._turns.setdefault(product_id, asyncio.Lock())
        async with _bounded(), turn:
            while overtaken < ATTEMPTS:
                try:
                    return await self._attempt(product_id, alter, mutation, delete=delete)
                except _Crowded:
                    await self._overlay.moved()
                except _Overtaken:
                    await asyncio.sleep(_FIRST_PAUSE * 2**overtaken * self._rng.random())
                    overtaken += 1
        raise Contended(f"other instances are changing {KIND} {product_id!r}; try again")

    async def _attempt(
        self, product_id: str, alter: Alter, mutation: Mutation[Outcome, R], *, delete: bool
    ) -> Answer[R]:
        """Do it once.

        The first look is at what is known of the log. The database, looked at after that, has all that was written and
        cleared by then, and whatever others put later makes our put fail.

        Raises:
            _Overtaken: the product was changed meanwhile.
            _Crowded: too much waits to be written.
        """
        if product_id in self._overlay.orphans:
            raise _Crowded
        began = self._overlay.clock()
        entry = self._overlay.entry(product_id)
        after = entry.sequence if entry is not None else 0
        replies = () if entry is None or entry.state is None else entry.state.replies
        if (earlier := mutation.among(replies)) is not None:
            return Answer(earlier, Position(pending=after))
        if (earlier := await mutation.earlier()) is not None:
            return await self._again(earlier)
        try:
            base = await self._base(product_id, entry)
            product = alter(base.product)
        except (NotFound, Aborted):
            await self._confirm(product_id, after)
            raise
        reply, kept = mutation.replied(Outcome(product, 0))
        state = base.then(product, deleted=delete, reply=kept)
        if state == base:
            await self._confirm(product_id, after)
            return Answer(reply, Position(pending=after))
        record = dump(state)
        if not self._has_room(entry, state, record):
            raise _Crowded
        if not after:
            after = await self._claim(product_id, began)
        try:
            sequence = await self._log.put(product_id, record, after=after)
        except Superseded as error:
            self._take(product_id, after, error.latest)
            if product is base.product or not _led_to(error.latest, product.revision):
                raise _Overtaken from None
            sequence = error.latest.sequence
        self._overlay.put(product_id, sequence, state)
        return Answer(reply, Position(pending=sequence))

    async def _base(self, product_id: str, entry: Entry | None) -> Pending:
        """The state to begin from. Raises `NotFound`."""
        if entry is None or entry.state is None:
            async with self._database.reading() as connection:
                return Pending.of(await storage.get(connection, product_id))
        if entry.state.deleted:
            raise NotFound(KIND, product_id)
        if not entry.active:
            return Pending.of(entry.state.product)
        return entry.state if entry.written is None else entry.state.since(entry.written)

    async def _again(self, reply: R) -> Answer[R]:
        """The answer to a request that was done and written before, perhaps by another instance."""
        await self._overlay.fresh(self._overlay.clock())
        revision = await storage.Changes(self._database).latest()
        self._known(revision)
        return Answer(reply, Position(revision, self._overlay.sequence))

    async def _claim(self, product_id: str, began: float) -> int:
        """Leave a mark in the log, of a product that has no record there, and return its sequence.

        "No record" would come true again after others have put one, written it and cleared it, and its mark vanished.
        The condition to come after a mark never does. Raises `_Overtaken`.
        """
        try:
            sequence = await self._log.clear(product_id, after=0)
        except Superseded as error:
            self._take(product_id, 0, error.latest)
            raise _Overtaken from None
        self._overlay.take(Record(product_id, b"", sequence, cleared=True))
        if self._overlay.clock() - began > TRUSTED:
            raise _Overtaken
        return sequence

    async def _confirm(self, product_id: str, sequence: int) -> None:
        """Raises `_Overtaken` if the product's latest record is not the one at `sequence`."""
        latest = await self._log.latest(product_id)
        if (latest.sequence if latest is not None else 0) != sequence:
            self._take(product_id, sequence, latest)
            raise _Overtaken

    def _take(self, product_id: str, known: int, latest: Record | None) -> None:
        if latest is None:
            self._overlay.vanished(product_id, known)
        else:
            self._overlay.take(latest)

    def _has_room(self, entry: Entry | None, state: Pending, record: bytes) -> bool:
        if len(self._overlay) >= MAX_PENDING and (entry is None or not entry.active):
            return False
        return len(state.replaces) <= MAX_REPLACED and len(record) <= MAX_BYTES

    def _is_leaving(self, sku: str) -> bool:
        states = (entry.state for _, entry in self._overlay.active())
        return any(state is not None and state.deleted and state.product.sku == sku for state in states)

    def _new_revision(self) -> int:
        """A number that was never given before. Those of the catalog's changes are positive."""
        return -1 - self._rng.getrandbits(62)


class _Overtaken(Exception):
    """Another instance has changed the product meanwhile."""


class _Crowded(Exception):
    """Something must be written before the change can be kept."""


def _led_to(latest: Record | None, revision: int) -> TypeGuard[Record]:
    """Whether a product at `latest` was in the state `revision`: our put was kept, and only its answer was lost."""
    if latest is None:
        return False
    try:
        if latest.cleared:
            note = load_note(latest.value)
            return note.in_place and note.revision == revision
        state = load(latest.value)
    except Unreadable:
        return False
    return revision in (state.product.revision, *state.replaces)


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """Raises `Unavailable` if the block takes too long."""
    try:
        async with asyncio.timeout(WAIT):
            yield
    except TimeoutError:
        raise Unavailable("too many changes wait to be written to the database") from None
