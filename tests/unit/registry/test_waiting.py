"""Waiting for changes and for the first of several."""

from __future__ import annotations

import asyncio

import pytest

from grpc_registry.waiting import Changes, first_of


async def test_a_waiter_looks_again_at_each_change() -> None:
    """Waiting ends when the condition is true, not when something changed."""
    changes, ready = Changes(), False
    waiter = asyncio.create_task(changes.until(lambda: ready))
    for _ in range(3):
        await asyncio.sleep(0)
        changes.tell()
    assert not waiter.done()
    ready = True
    changes.tell()
    await asyncio.wait_for(waiter, 30)


async def test_the_first_to_end_ends_the_others() -> None:
    """When one returns, the others have been cancelled and have ended."""
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await first_of(slow(), asyncio.sleep(0.001))
    assert ended.is_set()


async def test_the_failure_of_the_first_is_raised() -> None:
    """What the first to end raised is raised, and nothing is left running."""

    async def fails() -> None:
        raise KeyError("first")

    before = asyncio.all_tasks()
    with pytest.raises(KeyError, match="first"):
        await first_of(asyncio.Event().wait(), fails())  # type: ignore[arg-type]
    assert asyncio.all_tasks() == before
