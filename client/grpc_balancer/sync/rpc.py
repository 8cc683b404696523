"""One RPC between two threads: the caller's, which starts it and waits, and the loop's, in which it runs.

It ends once, by whoever comes first: the loop with what the server said, the caller by cancelling, the channel by
closing. Who waits, sleeps on a latch; nobody polls, but the main thread, which looks for signals.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from grpc import StatusCode
from grpc.aio import AioRpcError, UsageError

from grpc_balancer import deadlines
from grpc_balancer.failure import LOCALLY_CANCELLED, answer_of
from grpc_balancer.sync.errors import CallError, Metadata, metadata_of
from grpc_balancer.sync.latch import Latch
from grpc_balancer.sync.loop import LoopThread

K = TypeVar("K")

CLOSED = "Channel closed!"
"""grpc's own words for it."""

LATE_SECONDS = 0.5
"""How long after its deadline a call is ended here, should the loop be stuck; if it is not, it says why it is late."""


class Rpc:
    """A call with one response; see `StreamingRpc` for the others."""

    def __init__(self, thread: LoopThread, live: set[Rpc], timeout: float | None) -> None:
        timeout = deadlines.within(timeout)
        self.deadline = None if timeout is None else monotonic() + timeout
        self.thread = thread
        self.ended = Latch()
        self.error: CallError | None = None
        """Once it has ended: why it failed."""
        self.response: Any = None
        self.cancelled = False
        """Whether it ended by `cancel`."""
        self.on_end: Callable[[], object] | None = None
        """Called at the end, in whatever thread that comes from."""
        self._ending = threading.Lock()
        self._callbacks: list[tuple[Callable[..., object], tuple[Any, ...]]] | None = None
        self._has_initial: Latch | None = None
        self._initial: Metadata = ()
        self._native: Any = None
        self._task: asyncio.Task[None] | None = None
        self._live = live
        live.add(self)

    # In any thread

    def time_remaining(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - monotonic())

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the end, at most `timeout` seconds; whether it has ended."""
        self.thread.check_usable()
        left = self.time_remaining()
        last = None if left is None else left + LATE_SECONDS
        if timeout is not None and (last is None or timeout < last):
            return self.ended.wait(timeout)
        if not self.ended.wait(last):
            self.expire()
        return True

    def expire(self) -> None:
        """End what is over by our clock, though the loop has not said so."""
        if self.end(_late()):
            self.thread.post(self.stop)

    def cancel(self, details: str = LOCALLY_CANCELLED) -> bool:
        """End it as CANCELLED. Whether that was in time."""
        if not self.thread.is_of_this_process():
            return False
        if not self.end(CallError(StatusCode.CANCELLED, details), cancelled=True):
            return False
        self.thread.post(self.stop)
        return True

    def end(self, error: CallError | None, response: Any = None, *, cancelled: bool = False) -> bool:
        """The end, unless it has ended already; whether this was it."""
        with self._ending:
            if self.ended.is_set:
                return False
            self.error, self.response, self.cancelled = error, response, cancelled
            self.ended.set()
            callbacks, has_initial = self._callbacks, self._has_initial
            self._callbacks = None
        self._live.discard(self)
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()
        if has_initial is not None and not has_initial.is_set:
            has_initial.set()
        for callback, arguments in callbacks or ():
            self.thread.callbacks.put(callback, *arguments)
        return True

    def add_callback(self, callback: Callable[..., object], *arguments: Any) -> bool:
        """Call it after the end, in the callbacks' thread. False, and nothing, if it has ended."""
        with self._ending:
            if self.ended.is_set:
                return False
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append((callback, arguments))
            return True

    def initial_metadata(self) -> Metadata:
        """Block until the server has sent it, or the call has ended."""
        if not self.ended.is_set:
            self.thread.check_usable()
            with self._ending:
                asked, self._has_initial = self._has_initial, self._has_initial or Latch()
            if asked is None:
                self.thread.post(self._fetch_initial)
            if not self.ended.is_set:
                left = self.time_remaining()
                if not self._has_initial.wait(None if left is None else left + LATE_SECONDS):
                    self.expire()
        if not self.ended.is_set:
            return self._initial
        return self._at_the_end("initial_metadata") if self.error is None else self.error.initial_metadata()

    def trailing_metadata(self) -> Metadata:
        """Block until the end."""
        self.wait()
        return self._at_the_end("trailing_metadata") if self.error is None else self.error.trailing_metadata()

    def _at_the_end(self, what: str) -> Metadata:
        return metadata_of(answer_of(getattr(self._native, what)()))

    # In the loop

    def start(self, find: Callable[[K], Any], method: K, request: Any, arguments: dict[str, Any]) -> None:
        """Make the call, with the multicallable that `find` finds for `method`, and follow it."""
        timeout = self.time_remaining()
        if timeout == 0.0:
            self.end(_late())
        if self.ended.is_set:
            return  # or cancelled before it began
        try:
            self._native = find(method)(request, timeout=timeout, **arguments)
        except UsageError as error:
            self.end(CallError(StatusCode.CANCELLED, CLOSED if "closed" in str(error) else str(error)))
        except Exception as error:
            self.end(_not_started(error))
        else:
            self._task = self.thread.own(self._follow())

    def stop(self) -> None:
        """Cancel what goes on here for a call that has ended."""
        if self._native is not None:
            self._native.cancel()
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        try:
            response = await self._receive()
        except AioRpcError as error:
            self.end(CallError.of(error))
        except asyncio.CancelledError:
            self.end(CallError(StatusCode.CANCELLED, CLOSED))  # by whom else, if not by `cancel`?
        except Exception as error:
            self.end(_not_started(error))
        else:
            self.end(None, response)

    async def _receive(self) -> Any:
        return await self._native

    def _fetch_initial(self) -> None:
        if self._native is not None and not self.ended.is_set:
            self.thread.own(self._wait_for_initial())

    async def _wait_for_initial(self) -> None:
        try:
            self._initial = metadata_of(await self._native.initial_metadata())
        except (AioRpcError, asyncio.CancelledError):
            return  # the end, which comes at the same moment, lets those go on who wait
        with self._ending:
            if not self.ended.is_set and self._has_initial is not None:
                self._has_initial.set()


def _late() -> CallError:
    return CallError(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def _not_started(error: Exception) -> CallError:
    failure = CallError(StatusCode.INTERNAL, f"the call could not be made: {error!r}")
    failure.__cause__ = error
    return failure
