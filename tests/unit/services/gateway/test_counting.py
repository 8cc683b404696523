from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from shop_services.gateway.access import Access
from shop_services.gateway.counting import BOUNDS, RequestCounts


@pytest.fixture
def counts() -> RequestCounts:
    return RequestCounts()


def sample(counts: RequestCounts, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(counts)
    return registry.get_sample_value(name, labels)


def test_requests_are_counted_by_rpc_and_status(counts: RequestCounts) -> None:
    """Each end is one more of its RPC and status, and one less in flight."""
    for rpc, status in (("/a", 200), ("/a", 200), ("/a", 404), ("", 200)):
        counts.began()
        counts.ended(rpc, status, 0.1)
    counts.began()
    assert sample(counts, "shop_gateway_requests_total", rpc="/a", status="200") == 2
    assert sample(counts, "shop_gateway_requests_total", rpc="/a", status="404") == 1
    assert sample(counts, "shop_gateway_requests_total", rpc="", status="200") == 1
    assert sample(counts, "shop_gateway_requests_in_flight") == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (10.0, "10.0"), (11.0, "+Inf")]
)
def test_a_duration_falls_into_the_first_bucket_that_holds_it(
    counts: RequestCounts, seconds: float, bucket: str
) -> None:
    """A bucket has all that took no longer than its bound, so those below it have none and all from it on have one."""
    counts.began()
    counts.ended("/a", 200, seconds)
    name = "shop_gateway_request_duration_seconds"
    bounds = [*map(str, BOUNDS), "+Inf"]
    held = [sample(counts, f"{name}_bucket", rpc="/a", le=bound) for bound in bounds]
    at = bounds.index(bucket)
    assert held == [0.0] * at + [1.0] * (len(bounds) - at)
    assert sample(counts, f"{name}_count", rpc="/a") == 1
    assert sample(counts, f"{name}_sum", rpc="/a") == seconds


async def test_what_ends_a_request_is_counted(counts: RequestCounts) -> None:
    """`Access` counts an answer and a defect as 500; none stays in flight."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["rpc"] = scope["path"]
        if scope["path"] == "/defect":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def nothing(message: Message) -> None:
        return

    async def never() -> Message:
        raise AssertionError

    moments: Iterator[float] = iter([1.0, 1.5, 2.0, 2.25])
    served = Access(app, counts, now=lambda: next(moments))
    for path in ("/good", "/defect"):
        scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("127.0.0.1", 1)}
        await served(scope, never, nothing)
    assert sample(counts, "shop_gateway_requests_total", rpc="/good", status="204") == 1
    assert sample(counts, "shop_gateway_requests_total", rpc="/defect", status="500") == 1
    assert sample(counts, "shop_gateway_request_duration_seconds_sum", rpc="/good") == 0.5
    assert sample(counts, "shop_gateway_requests_in_flight") == 0
