"""Writes pending changes to the database, and clears them in the log after that.

Every instance has a drainer. It writes what its own process has put, after a moment in which changes of one product
come together, and what others have put if they have not written it in some seconds: they may have died. Two that write
the same do no harm (see `pending.py`), so they need not agree on anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from random import Random

import structlog

from shop_services.messaging.compacted import CompactedLog, Superseded
from shop_services.messaging.retry import RetryPolicy
from shop_services.product.domain import Change
from shop_services.product.overlay import Overlay
from shop_services.product.pending import Pending
from shop_services.product.pending_messages import Written, dump_note
from shop_services.product.pending_storage import Result
from shop_services.runtime.errors import DomainError, Unavailable

LINGER = 0.03
"""Seconds in which changes of one product, and of several, come together to be written at once."""
FOREIGN = 2.0
"""Seconds that the changes of another process are left to it, up to half as much more by chance."""
BATCH = 100
"""Products that one transaction writes."""
GRACE = 5.0
"""Seconds that a stop spends on what is pending. What is left is for the other instances, or for the next start."""
BACKOFF = RetryPolicy(first=0.1, longest=2.0)
"""Between attempts while the database, or the log, is away."""
REFUSED = 30.0
"""Seconds after which a state is tried again that the database refuses."""

Write = Callable[[Sequence[Pending]], Awaitable[Sequence[Result]]]
"""Writes states of several products in one transaction."""

_IDLE = 1.0
_BREATH = 0.005  # seconds between two looks at what is pending, however often it changes

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A state to write; `sequence` is 0 for one that has no record in the log. `note`: it is written already."""

    product_id: str
    sequence: int
    state: Pending
    note: Written | None = None


class Drainer:
    """Drains `overlay`, whose log is `log`, while `running`. `changed` is called with each change that is committed."""

    def __init__(
        self, overlay: Overlay, log: CompactedLog, write: Write, changed: Callable[[Change], None], rng: Random
    ) -> None:
        self._overlay = overlay
        self._log = log
        self._write = write
        self._changed = changed
        self._rng = rng
        self._foreign = FOREIGN * rng.uniform(1.0, 1.5)
        self._not_before: dict[str, float] = {}
        self._failures = 0
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Drainer of {self._overlay!r}{', failing' if self._failures else ''}>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Drain inside of the block, and for up to five seconds after it what this process has put."""
        # In a context of its own: its log lines belong to no call.
        task = asyncio.create_task(self._drain_until_stopped(), name="catalog-drainer", context=Context())
        try:
            yield
        finally:
            self._stopping = True
            self._overlay.stir()
            await asyncio.wait([task], timeout=GRACE)
            task.cancel()
            await asyncio.wait([task])
            if left := len(self._overlay):
                _log.info("pending_changes_left", products=left)

    async def drain(self, batch: Sequence[Due]) -> None:
        """Write what has to be written of `batch`, and clear it.

        Raises whatever the database does; nothing is written then. A failure of the log is left to the next attempt.
        """
        unwritten = [due for due in batch if due.note is None]
        notes = {due.product_id: due.note for due in batch if due.note is not None}
        if unwritten:
            results = await self._write([due.state for due in unwritten])
            for result in results:
                if result.change is not None:
                    self._changed(result.change)
            for due, result in zip(unwritten, results, strict=True):
                if not result.note.in_place:
                    _log.debug("pending_change_overtaken", product=due.product_id, sequence=due.sequence)
                if not due.sequence:
                    self._overlay.adopted(due.product_id)
                elif self._overlay.wrote(due.product_id, due.sequence, due.state, result.note):
                    notes[due.product_id] = result.note
        clears = [self._clear(due, notes[due.product_id]) for due in batch if due.product_id in notes]
        await asyncio.gather(*clears)

    async def _clear(self, due: Due, note: Written) -> None:
        try:
            sequence = await self._log.clear(due.product_id, after=due.sequence, note=dump_note(note))
        except Superseded as error:
            if error.latest is None:
                self._overlay.vanished(due.product_id, due.sequence)
            else:
                self._overlay.take(error.latest)
        except Unavailable:
            self._not_before[due.product_id] = self._overlay.clock() + BACKOFF.longest * self._rng.uniform(0.5, 1.0)
        else:
            if not note.in_place:
                _log.warning("pending_change_dropped", product=due.product_id, revision=note.revision)
            self._overlay.cleared(due.product_id, due.sequence, sequence, note)

    async def _drain_until_stopped(self) -> None:
        while True:
            batch, pause = self._due()
            if batch:
                pause = await self._attempt(batch)
            elif self._stopping:
                return
            if batch:
                await asyncio.sleep(pause)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._overlay.moved()
                await asyncio.sleep(_BREATH)

    def _due(self) -> tuple[Sequence[Due], float]:
        """What is to be drained now; if there is nothing, also the seconds until there may be."""
        now = self._overlay.clock()
        orphans = [Due(product_id, 0, state) for product_id, state in self._overlay.orphans.items()]
        due: list[Due] = []
        pause = _IDLE
        active = dict(self._overlay.active())
        for product_id in self._not_before.keys() - active.keys() - self._overlay.orphans.keys():
            del self._not_before[product_id]
        for product_id, entry in active.items():
            if entry.state is None or (self._stopping and not entry.own):
                continue
            patience = 0.0 if self._stopping else LINGER if entry.own else self._foreign
            wait = max(entry.seen + patience, self._not_before.get(product_id, now)) - now
            if wait > 0:
                pause = min(pause, wait)
            else:
                due.append(Due(product_id, entry.sequence, entry.state, entry.note))
        orphans = [one for one in orphans if self._not_before.get(one.product_id, now) <= now]
        return [*orphans, *sorted(due, key=lambda one: one.sequence)][:BATCH], pause

    async def _attempt(self, batch: Sequence[Due]) -> float:
        """Drain a batch, and return how many seconds to wait after it."""
        try:
            await self.drain(batch)
        except Unavailable as error:
            return self._failed(error)
        except Exception as error:
            if len(batch) > 1:  # one of them is refused: alone, it holds up no other
                for one in batch:
                    await self._attempt([one])
                return 0.0
            product = batch[0].product_id
            _log.error("pending_change_refused", product=product, exc_info=error)
            self._not_before[product] = self._overlay.clock() + REFUSED
            return 0.0
        if self._failures:
            _log.info("drainer_resumed")
        self._failures = 0
        return 0.0

    def _failed(self, error: DomainError) -> float:
        if not self._failures:
            _log.warning("drainer_paused", pending=len(self._overlay), error=type(error).__name__, message=str(error))
        self._failures += 1
        return BACKOFF.delay(self._failures, self._rng)
