from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from grpc_balancer.requests import KEPT_AT_MOST, Requests, SharedRequests


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
    async with asyncio.timeout(30):
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


# Read by several at once


async def paced(number: int, turns: asyncio.Semaphore, ended: list[str]) -> AsyncIterator[int]:
    try:
        for value in range(number):
            await turns.acquire()
            yield value
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


async def test_readers_share_each_message() -> None:
    """Several attempts that read at the same time all get every message, each of which is taken once."""
    requests = SharedRequests(iter(range(KEPT_AT_MOST)), encoded, "/m")
    read = await asyncio.gather(*(_all(requests.from_start()) for _ in range(3)))
    assert read == [[encoded(value) for value in range(KEPT_AT_MOST)]] * 3
    assert requests.exhausted


async def test_a_reader_that_is_cancelled_does_not_end_the_source() -> None:
    """The caller's iterator goes on for the others, in whatever moment one of them is cancelled."""
    turns, ended = asyncio.Semaphore(0), list[str]()
    requests = SharedRequests(paced(3, turns, ended), encoded, "/m")
    lost, won = (asyncio.ensure_future(_all(requests.from_start())) for _ in range(2))
    await asyncio.sleep(0)
    lost.cancel()
    await asyncio.sleep(0)
    for _ in range(3):
        turns.release()
    assert await won == [b"0", b"1", b"2"]
    assert lost.cancelled()
    assert ended == []


async def test_one_reader_goes_on_alone() -> None:
    """Who takes more than is kept is told that it is the only one from then on, once; the others get no more."""
    alone: list[str] = []
    requests = SharedRequests(range(10), encoded, "/m")
    first = requests.from_start(lambda: alone.append("first"))
    other = requests.from_start(lambda: alone.append("other"))
    await anext(other)
    assert await _all(first) == [encoded(value) for value in range(10)]
    assert alone == ["first"]
    with pytest.raises(asyncio.CancelledError):
        await anext(other)


async def test_closing_ends_the_wait_for_the_source() -> None:
    """What nobody will read is not waited for any longer."""
    ended = list[str]()
    requests = SharedRequests(paced(1, asyncio.Semaphore(0), ended), encoded, "/m")
    reader = asyncio.ensure_future(anext(requests.from_start()))
    await asyncio.sleep(0.01)
    requests.close()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert ended == ["cancelled"]


async def test_a_source_that_fails_fails_all_readers(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception reaches each attempt, a later one too, for which it is not the end, and is logged once."""

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    requests = SharedRequests(broken(), encoded, "/m")
    read = await asyncio.gather(*(_all(requests.from_start()) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in read] == [ZeroDivisionError] * 2
    late = requests.from_start()
    assert await anext(late) == b"1"
    with pytest.raises(ZeroDivisionError):
        await anext(late)
    assert caplog.text.count("the requests of /m raised an exception") == 1
