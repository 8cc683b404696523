"""Pauses between tries, and what must go on for ever."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from random import Random

import pytest

from grpc_registry import RegistryUnavailable
from grpc_registry.backoff import Backoff, keep_doing


def test_pauses_double_up_to_the_cap_and_begin_anew_after_a_reset() -> None:
    """Each pause lies between half of its step and the step; steps double until the cap."""
    backoff = Backoff(Random(1), first=0.1, cap=0.5)
    pauses = [backoff.next() for _ in range(5)]
    assert all(step / 2 <= pause <= step for pause, step in zip(pauses, (0.1, 0.2, 0.4, 0.5, 0.5), strict=True))
    backoff.reset()
    assert backoff.next() <= 0.1


def test_pauses_repeat_with_the_seed_and_differ_without() -> None:
    """A seeded run repeats exactly; two processes with different seeds do not pause alike."""
    assert Backoff(Random(1)).next() == Backoff(Random(1)).next()
    assert Backoff(Random(1)).next() != Backoff(Random(2)).next()


async def test_nothing_ends_what_must_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """A failure, expected or not, is followed by another try; only the unexpected one leaves a traceback in the log."""
    steps = iter([RegistryUnavailable("away"), KeyError("a bug"), None])
    over = asyncio.Event()

    async def step() -> None:
        if (error := next(steps, None)) is not None:
            raise error
        over.set()

    task = asyncio.create_task(keep_doing(step, Backoff(Random(1), first=0.001, cap=0.001)))
    await asyncio.wait_for(over.wait(), 30)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "unexpected failure: trying again"
    ]
