"""Envelopes carry the request and the trace that they were written in to whoever handles them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from opentelemetry import context as tracing
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from shop.events.v1.events_pb2 import OrderEnded
from shop_services.messaging.envelopes import envelope, handling
from shop_services.runtime.context import RequestContext, current, entered

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def span() -> Iterator[SpanContext]:
    """A traced caller."""
    made = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    token = tracing.attach(trace.set_span_in_context(NonRecordingSpan(made)))
    yield made
    tracing.detach(token)


def test_an_envelope_holds_what_it_was_made_of() -> None:
    """Id, type, time, order and body are those given."""
    body = OrderEnded(user_id="user-1")
    made = envelope("order.ended", "order-1", 7, id="m-1", time=NOW, body=body)
    assert (made.id, made.type, made.order_id, made.order_version) == ("m-1", "order.ended", "order-1", 7)
    assert made.time.ToDatetime(UTC) == NOW
    unpacked = OrderEnded()
    assert made.body.Unpack(unpacked)
    assert unpacked == body
    assert not envelope("order.reserve", "order-1", 1, id="m-2", time=NOW).HasField("body")


def test_a_naive_time_is_refused() -> None:
    """A time without a zone is a mistake."""
    with pytest.raises(ValueError, match="time zone"):
        envelope("order.reserve", "order-1", 1, id="m", time=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake


def test_the_request_is_entered_again_by_who_handles() -> None:
    """Inside of `handling` the request id is the writer's; outside of it is what it was."""
    with entered(RequestContext("request-1", "/shop.order.v1.OrderService/CreateOrder")):
        made = envelope("order.reserve", "order-1", 1, id="m", time=NOW)
    assert current() is None
    with handling(made):
        serving = current()
        assert serving == RequestContext("request-1", "order.reserve")
    assert current() is None


def test_a_message_without_a_request_gets_a_new_one() -> None:
    """Two attempts at a message that nobody asked for have two request ids."""
    made = envelope("order.reserve", "order-1", 1, id="m", time=NOW)
    ids = set()
    for _ in range(2):
        with handling(made):
            serving = current()
            assert serving is not None
            ids.add(serving.request_id)
    assert len(ids) == 2


def test_the_trace_goes_on_where_it_is_handled(span: SpanContext) -> None:
    """The span that wrote the message is the parent of what its handler does."""
    made = envelope("order.reserve", "order-1", 1, id="m", time=NOW)
    assert made.trace["traceparent"].split("-")[1:3] == [f"{span.trace_id:032x}", f"{span.span_id:016x}"]
    token = tracing.attach(tracing.Context())
    try:
        with handling(made):
            parent = trace.get_current_span().get_span_context()
            assert (parent.trace_id, parent.span_id) == (span.trace_id, span.span_id)
        assert not trace.get_current_span().get_span_context().is_valid
    finally:
        tracing.detach(token)


def test_a_failing_handler_leaves_the_context_as_it_was() -> None:
    """An exception leaves nothing behind."""
    made = envelope("order.reserve", "order-1", 1, id="m", time=NOW)
    with pytest.raises(ZeroDivisionError), handling(made):
        raise ZeroDivisionError
    assert current() is None
