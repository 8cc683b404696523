"""What all calls have in common: a request before, a client who may leave meanwhile, and an answer as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import grpc
from google.rpc import code_pb2
from starlette.types import Receive

from shop_services.gateway.binding import Binder
from shop_services.gateway.body import ClientGone, client_gone, read_body
from shop_services.gateway.errors import Refusal, failed_call, no_answer, wrong_field
from shop_services.gateway.exchange import Limits, Request
from shop_services.gateway.metadata import answer_headers
from shop_services.gateway.protojson import FieldError, Unprintable, dumps, field_printer, message_printer
from shop_services.gateway.rules import Rule
from shop_services.runtime.context import current, new_request_id

T = TypeVar("T")

_UNWATCHED = 0.1
"""Seconds that a call goes on before anybody looks whether its client is still there.

Most calls are over by then, and the look costs each of them a task: some percent of what serving a request does.
"""


async def request_message(binder: Binder, request: Request, limits: Limits) -> tuple[Any, float]:
    """The message that `request` stands for, and the seconds that its body took, which its deadline covers too.

    Raises:
        Refusal: it stands for none.
        ClientGone: the client left before all of it was here.
    """
    head = request.head
    body, spent = b"", 0.0
    if head.has_body:
        started = monotonic()
        timeout = limits.call_timeout(head.timeout)
        body = await read_body(head, request.receive, limit=limits.body, timeout=timeout, json=not binder.raw)
        spent = monotonic() - started
    try:
        return binder.bind(request.captured, request.query, body, head.content_type), spent
    except FieldError as error:
        raise wrong_field(error) from None


async def unless_gone(call: Any, work: Awaitable[T], receive: Receive, rpc: str) -> T:
    """What comes of `work`, which waits for `call` of `rpc`; that is cancelled when the client leaves.

    Raises:
        Refusal: the call failed.
        ClientGone: the client left.
    """
    watch: asyncio.Future[None] | None = None

    def begin() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(client_gone(receive))
        watch.add_done_callback(lambda _: call.cancel())

    timer = asyncio.get_running_loop().call_later(_UNWATCHED, begin)
    try:
        return await work
    except grpc.aio.AioRpcError as error:
        raise refusal_of(error, rpc) from None
    except asyncio.CancelledError:
        if watch is not None and watch.done():
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()


def refusal_of(error: grpc.aio.AioRpcError, rpc: str) -> Refusal:
    """What a failed call of `rpc` is for the client, with what its service sent beside the error."""
    serving = current()
    if (refusal := no_answer(error, rpc, serving.request_id if serving else new_request_id())) is not None:
        return refusal
    return failed_call(error, answer_headers(error.initial_metadata() or (), error.trailing_metadata() or ()))


def json_encoder(rule: Rule) -> Callable[[Any], bytes]:
    """What makes JSON of a response. It raises `Refusal` for one that has no JSON, which is the service's fault."""
    if rule.response_body is None:
        printer = message_printer(rule.rpc.output_type)
    else:
        name, print_field = rule.response_body.name, field_printer(rule.response_body) or (lambda value: value)

        def printer(message: Any) -> Any:
            return print_field(getattr(message, name))

    def encode(message: Any) -> bytes:
        try:
            return dumps(printer(message))
        except Unprintable as error:
            raise Refusal.of(code_pb2.INTERNAL, f"the response has no JSON: {error}") from None

    return encode
