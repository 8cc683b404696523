"""The outermost interceptor of a server: gives the call its context, and logs one line when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import grpc
import structlog

from shop_services.runtime.context import REQUEST_ID, RequestContext, accept_request_id, enter
from shop_services.runtime.interceptor import CallInterceptor, Context, ServedCall

_log = structlog.get_logger("shop.access")

_DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS)
_ROUNDED = 0.99
"""How much of the time that it was told a caller may really have: gRPC rounds it up on the wire, to three digits at
least (1.003 s is sent as 1.01 s), so the caller's deadline, and with it its cancellation, comes before the server's."""

_CODES: dict[object, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class Access(CallInterceptor):
    """Sets the request context; returns the request id as trailing metadata; logs method, code, duration and peer."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._now = now

    @asynccontextmanager
    async def around(self, call: ServedCall) -> AsyncIterator[None]:
        started = self._now()
        context = call.context
        remaining: float | None = context.time_remaining()  # the stubs leave out that it may be None
        request_id = accept_request_id(_sent(context))
        enter(RequestContext(request_id, call.method, None if remaining is None else started + remaining))
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        code = grpc.StatusCode.UNKNOWN
        try:
            yield
            code = _code(context)
        except asyncio.CancelledError:
            # grpc.aio cancels the servicer both when the caller leaves and when its deadline has passed.
            late = remaining is not None and self._now() - started >= remaining * _ROUNDED
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = _code(context)
            raise
        finally:
            log = _log.error if code in _DEFECTS else _log.info
            log("rpc", code=code.name, duration_ms=round((self._now() - started) * 1000, 3), peer=context.peer())


def _sent(context: Context) -> str | bytes | None:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID:
            return value
    return None


def _code(context: Context) -> grpc.StatusCode:
    # grpc.aio keeps what it was given, a StatusCode or its number, and None (or 0) if it was given nothing.
    code: object = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)
