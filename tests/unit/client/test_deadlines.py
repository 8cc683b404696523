"""What a task or thread that serves a call knows of its deadline."""

from __future__ import annotations

import asyncio
import time

import pytest

from grpc_balancer import deadlines


def test_outside_of_a_call() -> None:
    """Where no call is served there is no deadline."""
    assert deadlines.remaining() is None


def test_remaining_counts_down_to_nothing() -> None:
    """What is left is never less than nothing."""
    for deadline, low, high in ((time.monotonic() + 60, 50, 60), (time.monotonic() - 1, 0, 0)):
        token = deadlines.serving_deadline.set(deadline)
        left = deadlines.remaining()
        deadlines.serving_deadline.reset(token)
        assert left is not None
        assert low <= left <= high


async def test_a_task_inherits_unless_it_is_told_not_to() -> None:
    """A task that is started while serving has the deadline, one that is started under `ignored` has none."""

    async def look() -> float | None:
        await asyncio.sleep(0)
        return deadlines.remaining()

    deadlines.serving_deadline.set(time.monotonic() + 60)
    inheriting = asyncio.create_task(look())
    with deadlines.ignored():
        free = asyncio.create_task(look())
        assert deadlines.remaining() is None
    assert deadlines.remaining() is not None
    assert await inheriting is not None
    assert await free is None


def test_ignored_puts_back_after_an_error() -> None:
    """The deadline is there again, however the block ends."""
    token = deadlines.serving_deadline.set(time.monotonic() + 60)
    with pytest.raises(KeyError), deadlines.ignored():
        raise KeyError
    assert deadlines.remaining() is not None
    deadlines.serving_deadline.reset(token)
