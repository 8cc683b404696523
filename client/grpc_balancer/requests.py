"""A stream of requests that a second attempt can read from its beginning.

grpc.aio takes the first message from the caller's iterator before it knows whether there is a connection, so a call
that moves to another endpoint needs that message again. The first messages are kept, a few. Once more than those were
taken, an endpoint has certainly had the first one, and the call stays where it is.

The attempts of a hedged call read at the same time, up to there; the one that goes further is the only one left.
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

    def from_start(self, goes_alone: Callable[[], object] = lambda: None) -> AsyncIterator[bytes]:
        """All messages from the first one on. Only while `replayable`.

        `goes_alone` is called when this reading goes beyond the messages that are kept: no other one can follow.
        """
        return _Reading(self, goes_alone)

    def close(self) -> None:
        """Nobody reads any more."""

    async def message(self, number: int, goes_alone: Callable[[], object]) -> bytes:
        """Message number 0, 1, 2 …, each attempt asking in this order; raises `StopAsyncIteration` after the last."""
        async with self._turn:
            if number < len(self._kept):
                return self._kept[number]
            if self.exhausted:
                raise StopAsyncIteration
            if number == KEPT_AT_MOST:
                self._let_go(goes_alone)
            message = await self._take()
            if self.replayable:
                self._kept.append(message)
            return message

    def _let_go(self, goes_alone: Callable[[], object]) -> None:
        if self.replayable:
            self.replayable = False
            self._kept.clear()
            goes_alone()

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


class SharedRequests(Requests):
    """Read by several attempts at once, any of which may be cancelled while it waits for the caller's next message.

    That must not reach the caller's iterator, whose end it would be for all of them. So a task of our own waits for the
    message until it is not kept any more, which is when one attempt is left.
    """

    _taking: asyncio.Task[None] | None = None
    _failure: Exception | None = None

    async def message(self, number: int, goes_alone: Callable[[], object]) -> bytes:
        while self.replayable and number >= len(self._kept):
            if self.exhausted:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure  # for all of them: to whoever asks later the source would seem to be at its end
            if self._taking is None or self._taking.done():
                self._taking = asyncio.get_running_loop().create_task(self._keep_one())
            await asyncio.shield(self._taking)
        if self.replayable:
            message = self._kept[number]
            if number == KEPT_AT_MOST:
                self._let_go(goes_alone)
            return message
        if number <= KEPT_AT_MOST:
            raise asyncio.CancelledError  # this attempt has lost, and will hear of it in a moment
        return await super().message(number, goes_alone)

    async def _keep_one(self) -> None:
        try:
            self._kept.append(await self._take())
        except StopAsyncIteration:
            pass  # `exhausted` says so
        except Exception as error:
            self._failure = error

    def close(self) -> None:
        if self._taking is not None:
            self._taking.cancel()


class _Reading:
    """One attempt's position in the requests."""

    def __init__(self, requests: Requests, goes_alone: Callable[[], object]) -> None:
        self._requests = requests
        self._goes_alone = goes_alone
        self._next = 0

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> bytes:
        message = await self._requests.message(self._next, self._goes_alone)
        self._next += 1
        return message
