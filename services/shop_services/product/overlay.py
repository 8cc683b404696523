"""What this process knows of the log of pending changes: the states that reads must show before the database has them.

It follows the log, so it is as old as the follower's latest proof (`as_of`), and what this process has put itself is
here at once. An entry outlives its state for a while: a read that began before the state was written may have looked at
the database then, and the next change of the product can begin from it without the database.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import structlog

from shop_services.messaging.compacted import MARKER_AGE, Record
from shop_services.product.pending import Pending
from shop_services.product.pending_messages import Unreadable, Written, load, load_note
from shop_services.runtime.errors import Unavailable

REMEMBERED = 0.75 * MARKER_AGE
"""Seconds for which an entry outlives its state: less than a cleared record stays in the log."""
PATIENCE = 2.0
"""Seconds that a read waits for proof that it misses no pending change."""
IMPATIENCE = 0.1
"""The same when there was none for as long as that already: others have waited, and it is not about to come."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Entry:
    """The latest record of a product, at `sequence`, which came at `seen` by the overlay's clock.

    While `active`, `state` may have to be written yet. After that the database has it, unless the log's latest record
    of the product is another one by now. `state` is None if it is not known. `own`: this process put it.

    `shown_until`: reads that began before then cannot rely on what the database told them, and show `state`.
    `written` is the latest state of this chain that this process has written, `note` what to clear the record with if
    that is `state`.
    """

    sequence: int
    state: Pending | None
    seen: float
    active: bool = True
    own: bool = False
    shown_until: float = inf
    written: Pending | None = None
    note: Written | None = None


class Unsure(Exception):
    """A state was pending when a read began, and has been replaced and written since: read again."""


class Overlay:
    """The pending changes, by product. `settled` is called with what was written, before its state leaves."""

    def __init__(self, settled: Callable[[str, Written], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.epoch = 0
        """Counts how often states were forgotten that may have been shown."""
        self.sequence = 0
        """That of the latest record that was read."""
        self.as_of = -inf
        """When everything was here that had been acknowledged."""
        self.orphans: dict[str, Pending] = {}
        """States whose records were lost with the log: to be written while somebody knows them."""
        self._settled = settled
        self._entries: dict[str, Entry] = {}
        self._active: dict[str, Entry] = {}
        self._passive: dict[str, Entry] = {}  # in the order in which they became so
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        age = self.clock() - self.as_of
        return f"<Overlay of {len(self._active)} pending, {len(self.orphans)} orphans, {age:.1f} s old>"

    def __len__(self) -> int:
        """How many products have a pending change."""
        return len(self._active)

    # Reading

    def entry(self, product_id: str) -> Entry | None:
        """What is known of the product's latest record."""
        return self._entries.get(product_id)

    def active(self) -> Iterator[tuple[str, Entry]]:
        """The entries whose states may have to be written yet."""
        return iter(self._active.items())

    def shown(self, product_id: str, began: float) -> Pending | None:
        """What a read that began then has to show instead of what the database told it; None if that is right.

        Raises:
            Unsure: it cannot be told.
        """
        entry = self._entries.get(product_id)
        if entry is not None and entry.shown_until >= began:
            if entry.state is None:
                raise Unsure
            return entry.state
        return self.orphans.get(product_id)

    async def fresh(self, oldest: float, sequence: int = 0) -> None:
        """Return when everything is here that was acknowledged by the time `oldest`, and the record `sequence`.

        Raises:
            Unavailable: that is not known within two seconds, or during an outage a tenth of one.
        """
        now = self.clock()
        patience = IMPATIENCE if 2 * PATIENCE < now - self.as_of < math.inf else PATIENCE

        def known() -> bool:
            return self.as_of >= oldest and (self.sequence >= sequence or self.as_of >= now)

        if known():
            return
        try:
            async with asyncio.timeout(patience):
                while not known():
                    await self.moved()
        except TimeoutError:
            message = "the log of pending changes cannot be read: what the database has may be out of date"
            raise Unavailable(message) from None

    async def moved(self) -> None:
        """Wait until anything here changes."""
        await self._moved.wait()

    # What the follower tells

    def read(self, records: Sequence[Record], as_of: float) -> None:
        """Take what the follower has read."""
        for record in records:
            self.take(record)
            self.sequence = max(self.sequence, record.sequence)
        self.as_of = max(self.as_of, as_of)
        self._forget_old()
        self.stir()

    def take(self, record: Record) -> None:
        """Take a record, unless a later one of its product is known."""
        known = self._entries.get(record.key)
        if known is not None and known.sequence >= record.sequence:
            return
        try:
            if record.cleared:
                self._clear(record.key, record.sequence, load_note(record.value), known)
            else:
                self._put(record.key, Entry(record.sequence, load(record.value), self.clock()))
        except Unreadable as error:  # of a newer version, say: it is for that to write it
            _log.error("pending_change_unreadable", product=record.key, sequence=record.sequence, error=str(error))
            self._leave(record.key, Entry(record.sequence, None, self.clock(), active=False, shown_until=-inf))

    def start_over(self, *, lost: bool) -> None:
        """Forget all. If the log was lost, what was pending can be written from here alone."""
        if lost:
            for product_id, entry in self._active.items():
                self._orphan(product_id, entry)
        for entries in (self._entries, self._active, self._passive):
            entries.clear()
        self.epoch += 1
        self.sequence, self.as_of = 0, -inf
        self.stir()

    # What this process does

    def put(self, product_id: str, sequence: int, state: Pending) -> None:
        """Take a state that this process has put, unless a later one is known."""
        known = self._entries.get(product_id)
        if known is not None and known.sequence >= sequence:
            known.own = known.own or known.sequence == sequence  # the follower was faster than the acknowledgement
            return
        seen = known.seen if known is not None and known.active and known.own else self.clock()
        self._put(product_id, Entry(sequence, state, seen, own=True))

    def wrote(self, product_id: str, sequence: int, state: Pending, note: Written) -> bool:
        """Take note that nothing is left to write of `state`, put at `sequence`. True if its record can be cleared."""
        self._settled(product_id, note)
        entry = self._entries.get(product_id)
        if entry is None or not entry.active:
            return False
        if note.in_place:
            entry.written = state
        if entry.sequence != sequence:
            entry.seen = self.clock()
            return False
        entry.note = note
        self.stir()
        return True

    def cleared(self, product_id: str, before: int, sequence: int, note: Written) -> None:
        """Take note that this process has cleared the record at `before`."""
        known = self._entries.get(product_id)
        if known is not None and known.sequence == before:
            self._clear(product_id, sequence, note, known)

    def vanished(self, product_id: str, before: int) -> None:
        """The log has no record of the product, where `before` was thought to be its latest."""
        entry = self._entries.get(product_id)
        if entry is None or entry.sequence != before:
            return
        for entries in (self._entries, self._active, self._passive):
            entries.pop(product_id, None)
        if entry.active:
            self._orphan(product_id, entry)
            self.epoch += 1
        self.stir()

    def adopted(self, product_id: str) -> None:
        """Nothing is left to write of an orphan."""
        del self.orphans[product_id]
        self.epoch += 1
        self.stir()

    def _put(self, product_id: str, entry: Entry) -> None:
        known = self._entries.get(product_id)
        if known is not None and known.active:
            entry.written = known.written
        self._passive.pop(product_id, None)
        self._entries[product_id] = self._active[product_id] = entry
        self.stir()

    def _clear(self, product_id: str, sequence: int, note: Written, known: Entry | None) -> None:
        self._settled(product_id, note)
        now = self.clock()
        was_shown = known is not None and known.active and known.state is not None
        state = known.state if known is not None and known.state is not None and note.tells(known.state) else None
        shown_until = now if was_shown and note.in_place else -inf
        self._leave(product_id, Entry(sequence, state, now, active=False, shown_until=shown_until))

    def _leave(self, product_id: str, entry: Entry) -> None:
        self._active.pop(product_id, None)
        self._passive.pop(product_id, None)
        self._entries[product_id] = self._passive[product_id] = entry
        self.stir()

    def _orphan(self, product_id: str, entry: Entry) -> None:
        if entry.note is None and entry.state is not None:
            self.orphans[product_id] = entry.state

    def _forget_old(self) -> None:
        before = self.clock() - REMEMBERED
        while self._passive:
            product_id, entry = next(iter(self._passive.items()))
            if entry.seen >= before:
                return
            del self._passive[product_id], self._entries[product_id]

    def stir(self) -> None:
        """Wake whoever waits for a change."""
        self._moved.set()
        self._moved = asyncio.Event()
