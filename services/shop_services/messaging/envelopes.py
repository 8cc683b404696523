"""The envelope that each message travels in: made where it is written, entered again where it is handled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from google.protobuf.message import Message
from opentelemetry import context as tracing
from opentelemetry import propagate

from shop.events.v1.events_pb2 import Envelope
from shop_services.runtime.context import REQUEST_ID, RequestContext, accept_request_id, current, entered
from shop_services.runtime.times import to_timestamp


def envelope(
    type: str,
    order_id: str,
    order_version: int,
    *,
    id: str,
    time: datetime,
    body: Message | None = None,
) -> Envelope:
    """A message of `type` about an order, which belongs to the request and the trace that it is made in.

    Raises:
        ValueError: `time` has no time zone.
    """
    made = Envelope(id=id, type=type, time=to_timestamp(time), order_id=order_id, order_version=order_version)
    if (serving := current()) is not None:
        made.trace[REQUEST_ID] = serving.request_id
    propagate.inject(made.trace)
    if body is not None:
        made.body.Pack(body)
    return made


@contextmanager
def handling(message: Envelope) -> Iterator[None]:
    """Inside of the block, logs and outgoing calls belong to the request and the trace that wrote `message`.

    A message without a request id gets a new one, so that the lines of one attempt can be told from those of another.
    """
    request = RequestContext(accept_request_id(message.trace.get(REQUEST_ID)), method=message.type)
    token = tracing.attach(propagate.extract(dict(message.trace)))
    try:
        with entered(request):
            yield
    finally:
        tracing.detach(token)
