from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from grpc_balancer.requests import KEPT_AT_MOST, Requests


async def several(number: int) -> AsyncIterator[int]:
    for value in range(number):
        yield value


def encoded(value: int) -> bytes:
    return str(value).encode()


@pytest.mark.parametrize("source", [several(3), range(3), iter(range(3))])
async def test_any_iterable_is_read_in_order(source: AsyncIterator[int] | Iterator[int]) -> None:
    """Asynchronous and plain iterables are serialized one by one, to the end."""
    requests = Requests(source, encoded, "/m")
    assert [message async for message in requests.from_start()] == [b"0", b"1", b"2"]
    assert requests.exhausted


async def test_another_attempt_reads_from_the_start() -> None:
    """What one attempt took of the first messages, the next one gets again, then the rest."""
    requests = Requests(several(6), encoded, "/m")
    first = requests.from_start()
    assert [await anext(first) for _ in range(2)] == [b"0", b"1"]
    assert requests.replayable
    assert [message async for message in requests.from_start()] == [encoded(value) for value in range(6)]


async def test_only_the_first_messages_are_kept() -> None:
    """Once more were taken than are kept there is no going back."""
    requests = Requests(several(10), encoded, "/m")
    reading = requests.from_start()
    for _ in range(KEPT_AT_MOST):
        await anext(reading)
    assert requests.replayable
    await anext(reading)
    assert not requests.replayable


async def test_an_attempt_that_still_waits_does_not_rob_the_next() -> None:
    """A message that arrives for an attempt that is over reaches the one that is not."""
    arrived = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 0
        await arrived.wait()
        yield 1

    requests = Requests(slow(), encoded, "/m")
    over = requests.from_start()
    await anext(over)
    waiting = asyncio.ensure_future(anext(over))
    await asyncio.sleep(0)
    rest = asyncio.ensure_future(_all(requests.from_start()))
    await asyncio.sleep(0)
    arrived.set()
    async with asyncio.timeout(1):
        assert await rest == [b"0", b"1"]
        assert await waiting == b"1"


async def _all(messages: AsyncIterator[bytes]) -> list[bytes]:
    return [message async for message in messages]


async def test_a_failing_source_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """grpc.aio says only that the call was cancelled, so the log has the caller's exception."""

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    reading = Requests(broken(), None, "/test.Echo/StreamUnary").from_start()
    await anext(reading)
    with pytest.raises(ZeroDivisionError), caplog.at_level(logging.WARNING):
        await anext(reading)
    assert "/test.Echo/StreamUnary" in caplog.text
