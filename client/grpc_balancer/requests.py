"""A stream of requests that a second attempt can read from its beginning.

grpc.aio takes the first message from the caller's iterator before it knows whether there is a connection, so a call
that moves to another endpoint needs that message again. The first messages are kept, a few. Once more than those were
taken, an endpoint has certainly had the first one, and the call stays where it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

_log = logging.getLogger(__name__)

KEPT_AT_MOST = 4


class Requests:
    """The caller's iterator, serialized, read by one attempt after another."""

    def __init__(
        self, source: AsyncIterable[Any] | Iterable[Any], serialize: Callable[[Any], bytes] | None, method: str
    ) -> None:
        self.exhausted = False
        self._source: AsyncIterator[Any] | Iterator[Any] = (
            aiter(source) if isinstance(source, AsyncIterable) else iter(source)
        )
        self._serialize = serialize
        self._method = method
        self.replayable = True
        """Whether another attempt can still read from the start."""
        self._kept: list[bytes] = []
        # An attempt that failed may still wait for the caller's next message; another must not ask for one meanwhile.
        self._turn = asyncio.Lock()

    def from_start(self) -> AsyncIterator[bytes]:
        """All messages from the first one on. Only while `replayable`."""
        return _Reading(self)

    async def message(self, number: int) -> bytes:
        """Message number 0, 1, 2 …, each attempt asking in this order; raises `StopAsyncIteration` after the last."""
        async with self._turn:
            if number < len(self._kept):
                return self._kept[number]
            if self.exhausted:
                raise StopAsyncIteration
            if len(self._kept) == KEPT_AT_MOST:
                self.replayable = False
                self._kept.clear()
            message = await self._take()
            if self.replayable:
                self._kept.append(message)
            return message

    async def _take(self) -> bytes:
        try:
            request = await anext(self._source) if isinstance(self._source, AsyncIterator) else next(self._source)
            message: bytes = request if self._serialize is None else self._serialize(request)
            return message
        except (StopAsyncIteration, StopIteration):
            self.exhausted = True
            raise StopAsyncIteration from None
        except Exception:
            # grpc.aio cancels the RPC then, and all that it says of it is that it was cancelled.
            _log.warning("the requests of %s raised an exception; the call is cancelled", self._method, exc_info=True)
            raise


class _Reading:
    """One attempt's position in the requests."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._next = 0

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> bytes:
        message = await self._requests.message(self._next)
        self._next += 1
        return message
