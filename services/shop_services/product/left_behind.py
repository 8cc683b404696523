"""What stands between a catalog in mode `behind` and an instance in another mode: changes that are not written yet.

An instance in another mode would neither show them nor know of them when it changes the same products. So it does not
start while there are any. It is one look: that nobody goes on in mode `behind` beside it is for the operator to see to.
"""

from __future__ import annotations

import asyncio
from math import inf

import structlog

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted import CompactedLog, StartOver
from shop_services.runtime.app import StartError

PATIENCE = 1.0
"""Seconds that a start waits for the log, which it does not need to serve."""

_log = structlog.get_logger(__name__)


async def refuse_pending(log: CompactedLog) -> None:
    """Look whether all that was acknowledged is written. A log that does not answer within a second is let be.

    Raises:
        StartError: it is not.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            pending = 0 if await log.is_empty() else await _pending(log)
    except (TimeoutError, BusUnavailable, StartOver):
        _log.warning("pending_changes_unknown", hint="if CATALOG_CACHE was behind before, some may not be written")
        return
    if pending:
        raise StartError(
            f"CATALOG_CACHE: {pending:,} products have acknowledged changes that are not written yet: run an instance "
            "with CATALOG_CACHE=behind until its gauge shop_catalog_pending is 0, then change the mode"
        )


async def _pending(log: CompactedLog) -> int:
    follower = log.follow()
    pending: set[str] = set()
    as_of = -inf
    while as_of == -inf:
        news = await follower.read()
        as_of = news.as_of
        for record in news.records:
            (pending.discard if record.cleared else pending.add)(record.key)
    return len(pending)
