"""`kill -9` of one server process after another, under load: what retries and hedging make of the calls in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import Echo, EchoProcess, snapshot
from tests.integration.client.load import Load

RETRYING: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": "test.Echo"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


HEDGING: dict[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": "test.Echo"}],
            "hedgingPolicy": {"maxAttempts": 4, "hedgingDelay": "1s", "nonFatalStatusCodes": ["UNAVAILABLE"]},
        }
    ]
}


@contextlib.asynccontextmanager
async def calling(channel: Channel, callers: int) -> AsyncIterator[Load]:
    """Callers whose calls take 20 ms each, so that there is nearly always one in flight at each server."""
    load, echo, stop = Load(), Echo(channel), asyncio.Event()

    async def call() -> bytes:
        return await echo.unary_unary(b"sleep 0.02", timeout=10)

    async def caller() -> None:
        while not stop.is_set():
            await load.record(call())

    tasks = [asyncio.create_task(caller()) for _ in range(callers)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def kill_each_in_turn(channel: Channel, processes: list[EchoProcess], load: Load, calls: int) -> None:
    """Kill each process under load and start it again, with so many answers before, between and after."""
    for process in processes:
        await load.more(calls)
        process.kill()
        await load.more(calls)
        await asyncio.to_thread(process.start)
        async with asyncio.timeout(30):
            await all_connected(channel)
    await load.more(calls)


@pytest.mark.parametrize("config", [RETRYING, HEDGING], ids=["retried", "hedged"])
@pytest.mark.parametrize("callers", [1, 24])
async def test_no_call_of_a_retried_or_hedged_method_fails(
    processes: list[EchoProcess], resolver: ManualResolver, callers: int, config: dict[str, Any]
) -> None:
    """One call after another, or many at once: with a policy for UNAVAILABLE none fails, whoever is killed."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver, service_config=config) as channel:
        await all_connected(channel)
        async with calling(channel, callers) as load:
            await kill_each_in_turn(channel, processes, load, calls=10 * callers)
        assert load.errors == []


async def test_two_of_three_may_be_killed_at_once(processes: list[EchoProcess], resolver: ManualResolver) -> None:
    """A call that fails on its second endpoint too goes on to the third."""
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver, policy="round_robin", service_config=RETRYING) as channel:
        await all_connected(channel)
        async with calling(channel, 24) as load:
            await load.more(100)
            processes[0].kill()
            processes[1].kill()
            await load.more(300)
        assert load.errors == []


async def test_calls_of_other_methods_fail_only_in_flight(
    processes: list[EchoProcess], resolver: ManualResolver
) -> None:
    """Without a retry policy each kill fails with UNAVAILABLE what was in flight at that server, and nothing else."""
    callers = 24
    resolver.push(snapshot(1, *(process.instance() for process in processes)))
    async with Channel("echo", resolver) as channel:
        await all_connected(channel)
        async with calling(channel, callers) as load:
            await kill_each_in_turn(channel, processes, load, calls=10 * callers)
        assert 0 < len(load.errors) <= 3 * callers
        assert {error.code() for error in load.errors} == {StatusCode.UNAVAILABLE}
        assert not any("no endpoint" in str(error.details()) for error in load.errors)
