"""A start in another mode than `behind`, while what was acknowledged in that mode is written or not."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from shop_services.messaging.bus import BusUnavailable
from shop_services.messaging.compacted_memory import MemoryLog
from shop_services.product import left_behind
from shop_services.product.left_behind import refuse_pending
from shop_services.runtime.app import StartError


async def test_what_is_not_written_refuses_the_start() -> None:
    """The error says how much that is and what to do; when it is written, or there never was anything, all is well."""
    log = MemoryLog()
    await refuse_pending(log)
    sequences = {f"p{number}": await log.put(f"p{number}", b"pending", after=0) for number in range(300)}
    await log.clear("p0", after=sequences.pop("p0"))
    with pytest.raises(StartError, match=r"^CATALOG_CACHE: 299 products .* run an instance with CATALOG_CACHE=behind"):
        await refuse_pending(log)
    for product_id, sequence in sequences.items():
        await log.clear(product_id, after=sequence)
    await refuse_pending(log)


@pytest.mark.parametrize("trouble", ["silent", "refusing"])
async def test_a_log_that_does_not_answer_is_no_reason(monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    """The modes that do not need it start without it, and say what they do not know."""
    monkeypatch.setattr(left_behind, "PATIENCE", 0.05)
    log = MemoryLog()
    await log.put("p1", b"pending", after=0)

    async def away(_when: object, _key: object) -> None:
        if trouble == "refusing":
            raise BusUnavailable("away")
        await asyncio.Event().wait()

    log.interfere = away
    with capture_logs() as logs:
        await refuse_pending(log)
    assert [entry["event"] for entry in logs] == ["pending_changes_unknown"]
