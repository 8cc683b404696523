"""A stream of requests from an iterator that may block, as generators that read a queue or a file do.

So it is read in a thread of its own, one a call, as grpc does. It is read a few requests ahead of what is sent.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from grpc import StatusCode

from grpc_balancer.sync.errors import CallError
from grpc_balancer.sync.rpc import Rpc

AHEAD = 4
"""How many requests are taken from the iterator before they can be sent."""

_log = logging.getLogger(__name__)


class ThreadedRequests(AsyncIterator[Any]):
    """Reads `source` in a thread, serialized by `serialize`, for the loop to iterate. It ends with the call `rpc`."""

    def __init__(self, source: Iterable[Any], serialize: Callable[[Any], Any] | None, rpc: Rpc) -> None:
        self._source = iter(source)
        self._serialize = serialize
        self._rpc = rpc
        self._may_take = threading.Semaphore(AHEAD)
        self._taken: deque[Any] = deque()
        self._exhausted = False
        self._news: asyncio.Future[None] | None = None

    # In the loop

    async def __anext__(self) -> Any:
        while not self._taken:
            if self._exhausted:
                raise StopAsyncIteration
            self._news = self._rpc.thread.loop.create_future()
            await self._news
        self._may_take.release()
        return self._taken.popleft()

    def _deliver(self, request: Any) -> None:
        self._taken.append(request)
        self._tell()

    def _finish(self) -> None:
        self._exhausted = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # In any thread

    def _stop(self) -> None:
        """The call has ended: let go on who waits on either side."""
        self._may_take.release()
        self._rpc.thread.post(self._finish)

    # In the thread

    def begin(self) -> None:
        """Start to read."""
        self._rpc.on_end = self._stop
        threading.Thread(target=self._read, name="grpc_balancer requests", daemon=True).start()

    def _read(self) -> None:
        try:
            while self._read_one():
                pass
        finally:
            del self._source  # its owner may wait for it to be let go of, and we are in a cycle with the call

    def _read_one(self) -> bool:
        """Whether to go on."""
        self._may_take.acquire()
        if self._rpc.ended.is_set:
            return False
        try:
            request = next(self._source)
        except StopIteration:
            self._rpc.thread.post(self._finish)
            return False
        except BaseException as error:  # a SystemExit ends but this thread, and the call would wait for ever
            self._fail(StatusCode.UNKNOWN, "Exception iterating requests!", error)
            return False
        try:
            request = request if self._serialize is None else self._serialize(request)
        except Exception as error:
            self._fail(StatusCode.INTERNAL, "Exception serializing request!", error)
            return False
        return self._rpc.thread.post(self._deliver, request)

    def _fail(self, code: StatusCode, details: str, error: BaseException) -> None:
        # grpc's own codes and words, with what went wrong behind them.
        _log.warning("%s", details, exc_info=error)
        failure = CallError(code, f"{details} {error!r}")
        failure.__cause__ = error
        if self._rpc.end(failure):
            self._rpc.thread.post(self._rpc.stop)
