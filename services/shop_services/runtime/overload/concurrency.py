"""The outermost interceptor of a server: calls beyond what it can do are refused before anything is done for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2 as rpc

from grpc_balancer.retry import PUSHBACK
from shop_services.runtime.errors import DOMAIN
from shop_services.runtime.interceptor import OF_GRPC, CallInterceptor, Context, Handler, ServedCall
from shop_services.runtime.overload.limit import ConcurrencyLimit
from shop_services.runtime.overload.telling import Telling
from shop_services.runtime.status import DETAILS_KEY, make_status

STREAMS = 1000
"""Streams that are in progress at once, which wait most of the time, and so have no part in the limit of calls."""

_LEAST_PUSHBACK, _MOST_PUSHBACK = 100, 300  # milliseconds, drawn: those that were refused together do not return so

REASON = "OVERLOADED"
_MESSAGE = "the server has too much to do"
_CODE = grpc.StatusCode.UNAVAILABLE  # so that a client asks another instance, after the pushback, if it may ask again
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED


class Concurrency(CallInterceptor):
    """Refuses calls while `limit` is full, with UNAVAILABLE, reason OVERLOADED, and a pushback.

    Keep it outside of all others: a refused call's message is not read, nor are its tokens, and it has no log line.
    Health and reflection are never refused, and streams are only bounded.
    """

    def __init__(
        self, limit: ConcurrencyLimit | None = None, *, streams: int = STREAMS, rng: Random | None = None
    ) -> None:
        super().__init__()
        self.limit = limit or ConcurrencyLimit()
        self.streams = 0
        self._most_streams = streams
        self._rng = rng or Random()
        self._telling = Telling("overloaded")
        self._unary: set[str] = set()  # as many as there are methods
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(
            self._refuse
        )  # of all kinds the one that reads nothing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        if method in self._unary and self.limit.full:
            self.limit.refused += 1
            return self._refusal
        handler = await super().intercept_service(continuation, handler_call_details)
        if handler is not None and not method.startswith(OF_GRPC):  # who sheds load is not ill
            if not (handler.request_streaming or handler.response_streaming):
                self._unary.add(method)
            elif self.streams >= self._most_streams:
                self.limit.refused += 1
                return self._refusal
        return handler

    @asynccontextmanager
    async def around(self, call: ServedCall) -> AsyncIterator[None]:
        if call.method not in self._unary:
            self.streams += 1
            try:
                yield
            finally:
                self.streams -= 1
            return
        slot = self.limit.begin()
        if slot is None:  # it was not full when the call came, but was when its message did
            await self._refuse(None, call.context)
            return
        kind: str | None = None
        try:
            yield
            kind = call.method
        except asyncio.CancelledError:
            kind = call.method  # the caller waited for so long, and no longer: that is a time too
            raise
        except grpc.aio.AbortError:
            kind = call.method if call.context.code() is _LATE else None
            raise
        finally:
            slot.end(kind)

    def close(self) -> None:
        """Tell of the refusals that were not told yet."""
        self._telling.close()

    async def _refuse(self, _requests: object, context: Context) -> None:
        self._telling.refused(limit=self.limit.limit, in_progress=self.limit.in_progress, streams=self.streams)
        wait = self._rng.randint(_LEAST_PUSHBACK, _MOST_PUSHBACK)
        await context.abort(_CODE, _MESSAGE, _trailers(wait))


@cache  # of few, since a refusal is to cost little
def _trailers(milliseconds: int) -> tuple[tuple[str, str | bytes], ...]:
    retry = rpc.RetryInfo(retry_delay=duration_pb2.Duration(nanos=milliseconds * 1_000_000))
    status = make_status(_CODE, _MESSAGE, (retry, rpc.ErrorInfo(reason=REASON, domain=DOMAIN)), "")
    return ((PUSHBACK, str(milliseconds)), (DETAILS_KEY, status.SerializeToString()))
