"""Calls made all the while, and what became of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc.aio

from tests.integration.client.echo import Echo


class Load:
    """Answers by the server's name, and the errors."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.errors: list[grpc.aio.AioRpcError] = []
        self._news = asyncio.Condition()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition`, which is about this load, is true. Fails after 30 s."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)

    async def more(self, number: int) -> None:
        """Return after that many more answers."""
        enough = self.answers.total() + number
        await self.until(lambda: self.answers.total() >= enough)

    async def record(self, call: Coroutine[Any, Any, bytes]) -> None:
        try:
            name = await call
        except grpc.aio.AioRpcError as error:
            self.errors.append(error)
            await asyncio.sleep(0.01)
        else:
            self.answers[name.decode()] += 1
        async with self._news:
            self._news.notify_all()


def status_lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether grpc.aio lost the status, as it may do for a stream that the server ends while requests are being sent.

    https://github.com/grpc/grpc/issues/36066, open in 1.85.
    """
    return error.details() == "Internal error from Core"


@contextlib.asynccontextmanager
async def under_load(channel: grpc.aio.Channel, callers: int = 8) -> AsyncIterator[Load]:
    """Callers that ask for the server's name over and over: by turns in one request, and in a stream."""
    load, echo, stop = Load(), Echo(channel), asyncio.Event()

    async def unary() -> bytes:
        return await echo.unary_unary(b"name", timeout=20)

    async def streamed() -> bytes:
        names = [name async for name in echo.stream_stream(iter([b"name"] * 3), timeout=20)]
        return names[0]

    async def caller(number: int) -> None:
        while not stop.is_set():
            await load.record(streamed() if number % 4 == 3 else unary())

    tasks = [asyncio.create_task(caller(number)) for number in range(callers)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*tasks)
