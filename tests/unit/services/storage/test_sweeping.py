"""Sweeping goes on whatever happens, without a pause while there is much to delete."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from shop_services.storage.sweeping import SWEEP_BATCH, sweeping


class Sweeps:
    """Ends as it is told, one sweep after the other; `done` is set in the last, and later ones find nothing."""

    def __init__(self, *ends: int | Exception) -> None:
        self.ends = list(ends)
        self.done = asyncio.Event()

    async def __call__(self) -> int:
        end = self.ends.pop(0) if self.ends else 0
        if not self.ends:
            self.done.set()
        if isinstance(end, Exception):
            raise end
        return end


async def test_a_whole_batch_is_followed_by_the_next_sweep() -> None:
    """Only a sweep that found less ends the round."""
    sweep = Sweeps(SWEEP_BATCH, SWEEP_BATCH, SWEEP_BATCH - 1)
    async with sweeping("things", sweep):
        await asyncio.wait_for(sweep.done.wait(), 5)
        await asyncio.sleep(0)
    assert sweep.ends == []
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "sweep things"]


async def test_no_failure_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of is logged, and the next round comes."""
    monkeypatch.setattr("shop_services.storage.sweeping._EVERY", 0.01)
    sweep = Sweeps(OSError("disk"), SWEEP_BATCH, 0)
    with capture_logs() as entries:
        async with sweeping("things", sweep):
            await asyncio.wait_for(sweep.done.wait(), 5)
    assert [(entry["event"], entry["table"], entry["error"]) for entry in entries] == [
        ("sweep_failed", "things", "OSError")
    ]
