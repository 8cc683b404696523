from __future__ import annotations

import asyncio

from grpc_balancer.testing import FakeEndpoint, ManualResolver
from grpc_registry import Resolver
from tests.unit.client.candidates import instance, snapshot


async def test_readers_get_the_latest_then_each_change() -> None:
    """A reader that comes late begins with the latest, and a slow one misses what lies between."""
    resolver = ManualResolver()
    as_contract: Resolver = resolver
    resolver.push(snapshot(1))
    reader = as_contract.watch("product")
    assert await anext(reader) == snapshot(1)
    resolver.push(snapshot(2))
    resolver.push(snapshot(3))
    assert await anext(reader) == snapshot(3)
    assert resolver.readers("product") == 1
    await reader.aclose()
    assert resolver.readers("product") == 0


async def test_readers_wait_for_the_first_word_on_their_service() -> None:
    """Nothing comes before something was pushed, nor what was pushed of another service."""
    resolver = ManualResolver()
    reader = resolver.watch("order")
    first = asyncio.ensure_future(anext(reader))
    resolver.push(snapshot(1))
    await asyncio.sleep(0)
    assert not first.done()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await reader.aclose()


def test_a_fake_endpoint_shows_itself() -> None:
    """Its repr is its id and state."""
    endpoint = FakeEndpoint(instance("a", weight=7))
    assert (endpoint.weight, endpoint.load.count) == (7, 0)
    assert repr(endpoint) == "<FakeEndpoint a IDLE>"
