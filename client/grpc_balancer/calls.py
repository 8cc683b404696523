"""The returned call: one RPC, whatever number of attempts at endpoints it takes.

grpc.aio starts a call when it is made, not when it is awaited, and so do we, without a task of our own:

- If an endpoint is connected (nearly always), the multicallable picks it and starts grpc.aio's own call on its channel,
  at once and synchronously. What is returned wraps that call, and awaiting it awaits that call directly.
- If none is, the call is an entry in the dispatcher, and a change that brings an endpoint starts it in the same way.
- A call under a hedging policy is a race of several attempts. Who waits for the call waits until one of them is it.
- If an attempt is followed by another (`attempts` says when), then before anybody who waits has noticed its end. Who
  waits finds that the attempt is not the current one any more, and goes on with the current one, or waits for it.

So a call that is never awaited, has only a done callback, is awaited twice or by two tasks, or is cancelled at any
moment behaves as grpc.aio's does, and an undisturbed call costs two small objects and one callback more.

The request is serialized when the call is made, once for all attempts. A serializer that fails raises there; grpc.aio
1.85 logs the failure and sends an empty message instead. A deserializer that fails is INTERNAL; there it returns None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import grpc.aio
from grpc import StatusCode
from grpc.aio import AioRpcError

from grpc_balancer.attempt import Attempt
from grpc_balancer.attempts import Attempts
from grpc_balancer.endpoint import Endpoint
from grpc_balancer.failure import LOCALLY_CANCELLED, answer_of, local_error
from grpc_balancer.headers import until_settled

Request = TypeVar("Request")
Response = TypeVar("Response")


class BalancedCall(Attempts, Generic[Request, Response]):
    """What the four kinds have in common: the wait for an attempt, the end, and who wants to know of them.

    It has all of `grpc.aio.Call`, which the four get as a base class with their kind's own.
    """

    def _end(self) -> None:
        self._done = True
        if self._course is not None:
            self._course.ended(answer_of(self._native.code()) if self._error is None else self._error.code())
        if self._waiters is not None:
            self._wake()
        if self._callbacks is not None:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                try:
                    callback(self)
                except Exception as error:  # as asyncio does: neither other callbacks nor other calls are to suffer
                    message = f"a done callback of {self.method} failed"
                    self._dispatcher.loop.call_exception_handler({"message": message, "exception": error})

    # Waiting for an attempt

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self) -> None:
        """Return when an attempt starts, or the call ends without one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters = [*(self._waiters or ()), waiter]
        await waiter

    async def _current(self) -> Any:
        """The current attempt's call. Whoever is cancelled while waiting for it cancels the RPC.

        Raises:
            AioRpcError, CancelledError: the call ended without an attempt.
        """
        while self._native is None:
            if self._error is not None:
                if self._error.code() is StatusCode.CANCELLED:
                    raise asyncio.CancelledError
                # A caller that tries again and again at once must not keep the event loop from all else.
                await asyncio.sleep(0)
                # A new one each time, lest tracebacks pile up on it.
                raise local_error(self._error.code(), self._error.details() or "")
            try:
                await self._change()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._native

    def _moved_on(self, native: Any) -> bool:
        """Whether an error came from an attempt that is not the current one, and concerns nobody any more."""
        task = asyncio.current_task()
        return native is not self._native and not (task is not None and task.cancelling())

    # grpc.aio.Call

    def cancel(self) -> bool:
        if self._done:
            return False
        if self._native is not None:
            return bool(self._native.cancel())
        self._dispatcher.forget(self)
        self.fail(StatusCode.CANCELLED, LOCALLY_CANCELLED)
        return True

    def cancelled(self) -> bool:
        if self._native is not None:
            return bool(self._native.cancelled())
        return self._error is not None and self._error.code() is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        if self._race is not None and not self._race.over:
            self._race.commit_to_headers()
        while True:
            metadata: grpc.aio.Metadata = await self._ask("initial_metadata")
            native = self._native
            if metadata or self._done or self._retry is None or not self.may_be_repeated():
                break
            await until_settled(native)
            if native is self._native:
                break  # else that attempt was refused, and another follows
        self._committed = True
        return metadata

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        metadata: grpc.aio.Metadata = await self._ask("trailing_metadata")
        return metadata

    async def code(self) -> StatusCode:
        code: StatusCode = await self._ask("code")
        return code

    async def details(self) -> str:
        details: str = await self._ask("details")
        return details

    async def debug_error_string(self) -> str:
        text: str = await self._ask("debug_error_string")
        return text

    async def _ask(self, what: str) -> Any:
        """What grpc.aio's call answers, or our error does, whose methods have the same names."""
        while True:
            native = self._native
            if native is not None:
                answer = await getattr(native, what)()
                if native is self._native:
                    return answer
            elif self._error is not None:
                return getattr(self._error, what)()
            else:
                await self._change()

    async def wait_for_connection(self) -> None:
        while True:
            racing = None if self._race is None else self._race.connecting
            native = racing or await self._current()
            try:
                await native.wait_for_connection()
            except (AioRpcError, asyncio.CancelledError):
                if not self._moved_on(native):
                    raise
            else:
                if racing is not None or native is self._native:
                    return

    def _decoded(self, message: bytes) -> Response:
        if self._deserialize is None:
            return message  # type: ignore[return-value]  # without a deserializer responses are bytes
        try:
            response: Response = self._deserialize(message)
        except Exception as error:
            details = f"the response of {self.method} cannot be deserialized: {error!r}"
            raise local_error(StatusCode.INTERNAL, details) from error
        return response

    def __repr__(self) -> str:
        if self._native is not None:
            state = repr(self._native)
        elif self._race is not None and not self._race.over:
            state = repr(self._race)
        else:
            state = "waiting for an endpoint" if self._error is None else repr(self._error)
        return f"<{type(self).__name__} {self.method}: {state}>"


class UnaryResponse(BalancedCall[Request, Response]):
    """A call that is awaited for its one response."""

    _decoded_once: tuple[Response] | None = None

    def answer_of(self, native: Any) -> Coroutine[Any, Any, Any]:
        return _response_of(native)

    def __await__(self) -> Generator[Any, None, Response]:
        while True:
            native = self._native
            if native is None:
                yield from self._current().__await__()
                continue
            try:
                message = yield from native.__await__()
            except (AioRpcError, asyncio.CancelledError):
                if self._moved_on(native):
                    continue
                self.cancel()  # for a cancelled task, whose cancellation may have met an attempt that is over
                raise
            except BaseException:
                native.cancel()  # grpc.aio could not send it (for metadata that is none, say) and gave it no status
                raise
            if self._decoded_once is None:
                self._decoded_once = (message if self._deserialize is None else self._decoded(message),)
            return self._decoded_once[0]


async def _response_of(native: Any) -> Any:
    return await native


class UnaryUnaryCall(UnaryResponse[Request, Response], grpc.aio.UnaryUnaryCall[Request, Response]):
    """One request, one response."""

    def start(self, endpoint: Endpoint, timeout: float | None) -> None:
        special = self._race is not None or self._retrying is not None or self._course is not None
        if special or (timeout is not None and timeout <= 0):
            super().start(endpoint, timeout)
            return
        # The same, written out for a first attempt with nothing special: most are, and each step of it costs.
        line = endpoint.line
        attempt = Attempt(self._dispatcher, endpoint, line, self)
        try:
            made = line.multicallables.get(self._route) or line.multicallable(self._route)
            if timeout is None and self.metadata is None and self._credentials is None and self._compression is None:
                native = made(self._request)
            else:
                native = made(
                    self._request,
                    timeout=timeout,
                    metadata=self.metadata,
                    credentials=self._credentials,
                    compression=self._compression,
                )
            self._native = native
        except Exception as error:
            self._could_not_start(attempt, error)
            return
        native.add_done_callback(attempt.on_done)
        if self._waiters is not None:
            self._wake()

    def attempt_ended(self, attempt: Attempt, native: Any, code: StatusCode | None) -> None:
        heard = self._callbacks is not None or self._waiters is not None or self._course is not None
        if heard or code is not StatusCode.OK or self._race is not None or self._dispatcher.throttle is not None:
            super().attempt_ended(attempt, native, code)
        else:  # likewise
            self._done = True
