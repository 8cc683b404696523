"""The outermost layer of the application: every request gets an id and a line in the log, every defect an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import structlog
from google.rpc import code_pb2, error_details_pb2
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shop_services.gateway.body import ClientGone
from shop_services.gateway.counting import RequestCounts
from shop_services.gateway.errors import CLIENT_CLOSED, Refusal
from shop_services.gateway.exchange import BrokenOff
from shop_services.runtime.context import REQUEST_ID, RequestContext, accept_request_id, enter

_log = structlog.get_logger("shop.access")
_HEADER = REQUEST_ID.encode()
_PROBES = ("/healthz", "/readyz")


class Access:
    """Wraps an ASGI application.

    The request id is the client's `X-Request-Id`, or a new one; it goes to the services, into the log and back. The
    line has the path without its query, which may hold what no log should, and neither headers nor bodies. An exception
    that nobody expected is logged with its traceback and answered as INTERNAL without a word about its cause.
    """

    def __init__(self, app: ASGIApp, counts: RequestCounts, now: Callable[[], float] = monotonic) -> None:
        self._app = app
        self._counts = counts
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._now()
        request_id = accept_request_id(_sent(scope))
        enter(RequestContext(request_id, f"{scope['method']} {scope['path']}"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, request_id.encode())]
            await send(message)

        self._counts.began()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            status = CLIENT_CLOSED
        except BrokenOff as reason:  # the server closes the connection of an answer that has no end
            _log.info("broken_off", reason=str(reason))
        except asyncio.CancelledError:  # the server stops, and waits no longer
            status = status or 503
            raise
        except Exception:
            _log.exception("unhandled_exception")
            if status:
                raise  # the answer has begun: all that is left is to break the connection, which the server does
            await _send_defect(request_id, send_with_id)
        finally:
            seconds = self._now() - started
            self._counts.ended(scope.get("rpc", ""), status, seconds)
            _write(scope, status, seconds)


def _write(scope: Scope, status: int, seconds: float) -> None:
    log = _log.debug if scope["path"] in _PROBES else _log.error if status == 500 else _log.info
    client = scope.get("client")
    log(
        "http",
        status=status,
        rpc=scope.get("rpc", ""),
        duration_ms=round(seconds * 1000, 3),
        peer=f"{client[0]}:{client[1]}" if client else "",
    )


def _sent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            text: str = value.decode("latin-1")
            return text
    return None


async def _send_defect(request_id: str, send: Callable[[Message], Any]) -> None:
    message = f"internal error; request id {request_id}"
    refusal = Refusal.of(code_pb2.INTERNAL, message, error_details_pb2.RequestInfo(request_id=request_id))
    await refusal.send(send)
