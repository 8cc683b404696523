"""Metrics as OpenTelemetry's SDK reads them: names, labels and exact numbers, over real connections."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, NumberDataPoint

from grpc_balancer import Channel
from grpc_balancer.otel import LATENCY, Metrics
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, State
from grpc_registry.service_config import OutlierDetection
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import UNARY_UNARY, Echo, EchoProcess, EchoServer, kill_and_let_grpc_know, snapshot
from tests.integration.client.scripted import Fail, ScriptedServer

METHOD = {"grpc.method": "test.Echo/UnaryUnary", "grpc.target": "mesh:///echo"}
OTHER = {"grpc.method": "other", "grpc.target": "mesh:///echo"}
TARGET = {"grpc.target": "mesh:///echo"}

OBSERVED = {
    "grpc_balancer.picks",
    "grpc_balancer.outstanding",
    "grpc_balancer.endpoints",
    "grpc_balancer.waiting",
    "grpc_balancer.staleness",
}
"""What stands while a channel is open, and not after."""


class Reader:
    """A provider, and what it has been told so far."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self._reader])

    def metrics(self) -> dict[str, Metric]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics if metric.data.data_points}

    def read(self, name: str) -> dict[str, float]:
        """The values of a metric by its labels, but for the target; of a histogram the numbers of what was recorded."""
        metric = self.metrics().get(name)
        values: dict[str, float] = {}
        for point in [] if metric is None else metric.data.data_points:
            labels = dict(point.attributes or {})
            assert labels.pop("grpc.target") == "mesh:///echo"
            key = " ".join(str(value) for _, value in sorted(labels.items()))
            values[key] = point.value if isinstance(point, NumberDataPoint) else point.count
        return values

    def total(self, name: str) -> float:
        """The sum of what was recorded in a histogram."""
        points = self.metrics()[name].data.data_points
        return sum(point.sum for point in points if isinstance(point, HistogramDataPoint))

    def labels(self, name: str) -> list[dict[str, Any]]:
        return [dict(point.attributes or {}) for point in self.metrics()[name].data.data_points]


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.provider.shutdown()


@pytest.fixture
async def scripted() -> AsyncIterator[list[ScriptedServer]]:
    """Three servers, s0 to s2, that answer until they are told to fail."""
    started = [await ScriptedServer(f"s{number}").start() for number in range(3)]
    yield started
    for server in started:
        await server.stop()


def registered(channel: Channel) -> Any:
    """A method as stubs of grpcio-tools name it since 1.63."""
    return channel.unary_unary(UNARY_UNARY, _registered_method=True)


async def connected(channel: Channel, resolver: ManualResolver, *servers: Any) -> None:
    """Connect to the servers, to the first of them the longest."""
    channel.get_state(try_to_connect=True)
    for number in range(1, len(servers) + 1):
        resolver.push(snapshot(number, *(server.instance() for server in servers[:number])))
        async with asyncio.timeout(30):
            await all_connected(channel, number)


def retrying(attempts: int, backoff: str) -> dict[str, Any]:
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": backoff,
        "maxBackoff": backoff,
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}


async def test_calls_are_counted(reader: Reader, servers: list[EchoServer], resolver: ManualResolver) -> None:
    """Nine calls in turn are nine attempts, nine calls and three picks of each of three instances."""
    async with Channel("echo", resolver, policy="round_robin", metrics=Metrics(reader.provider)) as channel:
        await connected(channel, resolver, *servers)
        call = registered(channel)
        for _ in range(9):
            await call(b"name")
        assert reader.labels("grpc.client.attempt.started") == [METHOD]
        assert reader.read("grpc.client.attempt.started") == {"test.Echo/UnaryUnary": 9}
        assert reader.labels("grpc.client.attempt.duration") == [{**METHOD, "grpc.status": "OK"}]
        assert reader.read("grpc.client.attempt.duration") == {"test.Echo/UnaryUnary OK": 9}
        assert reader.labels("grpc.client.call.duration") == [{**METHOD, "grpc.status": "OK"}]
        assert reader.read("grpc.client.call.duration") == {"test.Echo/UnaryUnary OK": 9}
        assert reader.read("grpc_balancer.picks") == dict.fromkeys(
            ("s0 round_robin", "s1 round_robin", "s2 round_robin"), 3
        )
        # gRFC A96: what did not happen is not reported as 0.
        assert not [
            name for name in reader.metrics() if name.startswith("grpc.client.call.") and "duration" not in name
        ]


async def test_names_units_and_boundaries_are_those_of_the_grfcs(
    reader: Reader, scripted: list[ScriptedServer], resolver: ManualResolver
) -> None:
    """Each metric has its unit, and latencies have A66's boundaries without a view that says so."""
    scripted[0].fails()
    config = retrying(2, "0.01s")
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, policy="pick_first", service_config=config, metrics=metrics) as channel:
        await connected(channel, resolver, *scripted)
        await registered(channel)(b"x")
        found = reader.metrics()
    assert {name: metric.unit for name, metric in found.items()} == {
        "grpc.client.attempt.started": "{attempt}",
        "grpc.client.attempt.duration": "s",
        "grpc.client.call.duration": "s",
        "grpc.client.call.retries": "{retry}",
        "grpc.client.call.retry_delay": "s",
        "grpc_balancer.picks": "{pick}",
        "grpc_balancer.outstanding": "{call}",
        "grpc_balancer.endpoints": "{endpoint}",
        "grpc_balancer.waiting": "{call}",
        "grpc_balancer.staleness": "s",
    }
    for name in ("grpc.client.attempt.duration", "grpc.client.call.duration", "grpc.client.call.retry_delay"):
        (point, *_) = found[name].data.data_points
        assert isinstance(point, HistogramDataPoint)
        assert tuple(point.explicit_bounds) == LATENCY
    (point,) = found["grpc.client.call.retries"].data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert tuple(point.explicit_bounds) == (1, 2, 3, 4, 5)


async def test_a_retry_is_two_attempts_of_one_call(
    reader: Reader, scripted: list[ScriptedServer], resolver: ManualResolver
) -> None:
    """The retry, and the pause before it, are told of with the call; each attempt has its own status."""
    scripted[0].fails()
    config = retrying(3, "0.1s")
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, policy="pick_first", service_config=config, metrics=metrics) as channel:
        await connected(channel, resolver, *scripted)
        began = time.monotonic()
        assert await registered(channel)(b"x") == b"x s1"
        took = time.monotonic() - began
        method = "test.Echo/UnaryUnary"
        assert reader.read("grpc.client.attempt.started") == {method: 2}
        assert reader.read("grpc.client.attempt.duration") == {f"{method} UNAVAILABLE": 1, f"{method} OK": 1}
        assert reader.read("grpc.client.call.duration") == {f"{method} OK": 1}
        assert reader.labels("grpc.client.call.retries") == [METHOD]
        assert reader.total("grpc.client.call.retries") == 1
        assert 0.08 <= reader.total("grpc.client.call.retry_delay") <= took
        assert reader.total("grpc.client.call.duration") >= reader.total("grpc.client.call.retry_delay")
        assert reader.read("grpc_balancer.picks") == {"s0 pick_first": 1, "s1 pick_first": 1}


async def test_hedges_are_told_of(reader: Reader, scripted: list[ScriptedServer], resolver: ManualResolver) -> None:
    """A hedge that wins is one hedge of one call, and the loser an attempt that was cancelled."""
    scripted[0].fails(Fail(StatusCode.OK, after=30))
    policy = {"maxAttempts": 2, "hedgingDelay": "0.05s", "nonFatalStatusCodes": []}
    config = {"methodConfig": [{"name": [{}], "hedgingPolicy": policy}]}
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, policy="pick_first", service_config=config, metrics=metrics) as channel:
        await connected(channel, resolver, *scripted)
        assert await registered(channel)(b"x") == b"x s1"
        await scripted[0].until_cancelled(1)
        method = "test.Echo/UnaryUnary"
        assert reader.read("grpc.client.attempt.started") == {method: 2}
        assert reader.read("grpc.client.attempt.duration") == {f"{method} CANCELLED": 1, f"{method} OK": 1}
        assert reader.read("grpc.client.call.duration") == {f"{method} OK": 1}
        assert reader.labels("grpc.client.call.hedges") == [METHOD]
        assert reader.total("grpc.client.call.hedges") == 1
        assert "grpc.client.call.retries" not in reader.metrics()


async def test_a_call_that_finds_no_endpoint(reader: Reader, resolver: ManualResolver) -> None:
    """It is an attempt and a call that failed, without a pick."""
    resolver.push(snapshot(1))
    async with Channel("echo", resolver, metrics=Metrics(reader.provider)) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await registered(channel)(b"x")
        method = "test.Echo/UnaryUnary"
        assert reader.read("grpc.client.attempt.started") == {method: 1}
        assert reader.read("grpc.client.attempt.duration") == {f"{method} UNAVAILABLE": 1}
        assert reader.read("grpc.client.call.duration") == {f"{method} UNAVAILABLE": 1}
        assert reader.read("grpc_balancer.picks") == {}


async def test_what_a_dead_server_never_saw_is_a_transparent_retry(
    reader: Reader, processes: list[EchoProcess], resolver: ManualResolver
) -> None:
    """A server that dies between the pick and the sending costs a transparent retry, and no retry."""
    async with Channel("echo", resolver, policy="pick_first", metrics=Metrics(reader.provider)) as channel:
        await connected(channel, resolver, *processes)
        call = registered(channel)(b"name")
        kill_and_let_grpc_know(channel, processes[0])
        assert await call == b"p1"
        method = "test.Echo/UnaryUnary"
        assert reader.read("grpc.client.attempt.started") == {method: 2}
        assert reader.read("grpc.client.attempt.duration") == {f"{method} UNAVAILABLE": 1, f"{method} OK": 1}
        assert reader.total("grpc.client.call.transparent_retries") == 1
        assert reader.labels("grpc.client.call.transparent_retries") == [METHOD]
        assert "grpc.client.call.retries" not in reader.metrics()


async def test_methods_that_no_stub_registered_are_other(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """As A66 has it, names that may be without number are left out, unless a filter lets them in."""
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, metrics=metrics) as channel:
        await connected(channel, resolver, *servers)
        await Echo(channel).unary_unary(b"name")
        assert reader.labels("grpc.client.attempt.started") == [OTHER]
    named = Metrics(reader.provider, generic_method_attribute_filter=lambda method: method.startswith("test.Echo/"))
    async with Channel("echo", resolver, metrics=named) as channel:
        await connected(channel, resolver, *servers)
        await Echo(channel).unary_unary(b"name")
        assert reader.read("grpc.client.attempt.started") == {"other": 1, "test.Echo/UnaryUnary": 1}


async def test_streams_are_counted_also_if_they_are_let_go_of(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """A stream that was read to its end is OK, one that its owner dropped CANCELLED, and both have ended."""
    async with Channel("echo", resolver, policy="pick_first", metrics=Metrics(reader.provider)) as channel:
        await connected(channel, resolver, *servers)
        echo = Echo(channel)
        assert [one async for one in echo.unary_stream(b"repeat 3")] == [b"repeat 3"] * 3
        dropped = echo.unary_stream(b"sleep 30")
        await servers[0].until(lambda: servers[0].running == 1)
        del dropped
        gc.collect()
        async with asyncio.timeout(30):
            while reader.read("grpc.client.attempt.duration") != {"other CANCELLED": 1, "other OK": 1}:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.01)
        assert reader.read("grpc.client.attempt.started") == {"other": 2}
        assert reader.read("grpc.client.call.duration") == {"other CANCELLED": 1, "other OK": 1}


async def test_ejections_are_told_of(reader: Reader, scripted: list[ScriptedServer], resolver: ManualResolver) -> None:
    """An ejection is counted by what found the outlier; one beyond the maximum by why it was spared."""
    for server in scripted[:2]:
        server.fails(times=5)
    strict = OutlierDetection(max_ejection_percent=10)
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, policy="round_robin", outlier_detection=strict, metrics=metrics) as channel:
        await connected(channel, resolver, *scripted)
        call = registered(channel)
        for _ in range(30):
            await call(b"x").code()
        method = {"grpc.lb.outlier_detection.detection_method": "consecutive_failures"}
        enforced, spared = (f"grpc.lb.outlier_detection.ejections_{what}" for what in ("enforced", "unenforced"))
        assert reader.labels(enforced) == [{**TARGET, **method}]
        assert reader.read(enforced) == {"consecutive_failures": 1}
        reason = {"grpc.lb.outlier_detection.unenforced_reason": "max_ejection_overflow"}
        assert reader.labels(spared) == [{**TARGET, **method, **reason}]
        assert reader.read(spared) == {"consecutive_failures max_ejection_overflow": 1}
        assert {reader.metrics()[name].unit for name in (enforced, spared)} == {"{ejection}"}
        states = reader.read("grpc_balancer.endpoints")
        assert (states["ejected"], states["ready"]) == (1, 2)


async def test_what_is_there_is_observed(reader: Reader, servers: list[EchoServer], resolver: ManualResolver) -> None:
    """Outstanding and waiting calls, endpoints by state and staleness are as they stand when a reader asks."""
    now = 1000.0
    drained = servers[2].instance(state=State.DRAINING)
    async with Channel("echo", resolver, clock=lambda: now, metrics=Metrics(reader.provider)) as channel:
        call = registered(channel)
        waiting = call(b"wait")
        assert reader.read("grpc_balancer.waiting") == {"": 1}
        resolver.push(snapshot(1, servers[0].instance()))
        await servers[0].until(lambda: servers[0].running == 1)
        present = servers[0].instance(), servers[1].instance(), drained
        resolver.push(snapshot(2, *present))
        await all_connected(channel, 2)
        assert reader.read("grpc_balancer.waiting") == {"": 0}
        assert reader.read("grpc_balancer.outstanding") == {"s0": 1, "s1": 0, "s2": 0}
        assert {state: number for state, number in reader.read("grpc_balancer.endpoints").items() if number} == {
            "ready": 2,
            "draining": 1,
        }
        assert reader.read("grpc_balancer.staleness") == {"": 0}
        resolver.push(snapshot(3, *present, stale=True))
        async with asyncio.timeout(30):
            while "stale" not in channel._dispatcher.balancer.describe():
                await channel._dispatcher.change()
        now += 90
        assert reader.read("grpc_balancer.staleness") == {"": 90}
        servers[0].gate.set()
        await waiting


async def test_an_instance_that_is_gone_is_not_told_of(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """Of instances, which come and go without end, only those are told of to which there is a connection."""
    async with Channel("echo", resolver, policy="round_robin", metrics=Metrics(reader.provider)) as channel:
        await connected(channel, resolver, *servers)
        for _ in range(3):
            await Echo(channel).unary_unary(b"name")
        resolver.push(snapshot(9, servers[0].instance(), servers[1].instance()))
        await all_connected(channel, 2)
        async with asyncio.timeout(30):
            while channel._dispatcher.retiring:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0.01)
        assert reader.read("grpc_balancer.picks") == {"s0 round_robin": 1, "s1 round_robin": 1}
        assert reader.read("grpc_balancer.outstanding") == {"s0": 0, "s1": 0}


async def test_channels_to_one_service_are_one_target(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """Two channels, each with a `Metrics` of its own, are summed up; the one that is closed is left out."""
    resolver.push(snapshot(1, *(server.instance() for server in servers)))
    one = Channel("echo", resolver, policy="round_robin", metrics=Metrics(reader.provider))
    two = Channel("echo", resolver, policy="round_robin", metrics=Metrics(reader.provider))
    async with one:
        async with two:
            await all_connected(one)
            await all_connected(two)
            assert reader.read("grpc_balancer.endpoints")["ready"] == 6
            for _ in range(3):
                await registered(one)(b"name")
                await registered(two)(b"name")
            assert reader.read("grpc.client.attempt.started") == {"test.Echo/UnaryUnary": 6}
            assert sum(reader.read("grpc_balancer.picks").values()) == 6
        assert reader.read("grpc_balancer.endpoints")["ready"] == 3
        assert sum(reader.read("grpc_balancer.picks").values()) == 6


async def test_nothing_is_observed_of_a_closed_channel(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """What a channel was is not reported for ever once it is closed; what it counted stays."""
    metrics = Metrics(reader.provider)
    async with Channel("echo", resolver, metrics=metrics) as channel:
        await connected(channel, resolver, *servers)
        await registered(channel)(b"name")
        assert set(reader.metrics()) >= OBSERVED
    assert not OBSERVED & set(reader.metrics())
    assert reader.read("grpc.client.call.duration") == {"test.Echo/UnaryUnary OK": 1}
    with pytest.raises(grpc.aio.UsageError):
        registered(channel)(b"name")
    assert reader.read("grpc.client.attempt.started") == {"test.Echo/UnaryUnary": 1}


async def test_a_channel_that_nobody_closed_is_not_kept(reader: Reader, resolver: ManualResolver) -> None:
    """Metrics hold no channel that its owner has let go of."""
    channel = Channel("echo", resolver, metrics=Metrics(reader.provider))
    assert set(reader.metrics()) >= {"grpc_balancer.endpoints"}
    del channel
    gc.collect()
    assert not OBSERVED & set(reader.metrics())


async def test_calls_that_closing_cancels_are_counted(
    reader: Reader, servers: list[EchoServer], resolver: ManualResolver
) -> None:
    """A call in progress and one that waits end as CANCELLED when the channel is closed."""
    resolver.push(snapshot(1, servers[0].instance()))
    channel = Channel("echo", resolver, metrics=Metrics(reader.provider))
    running = registered(channel)(b"sleep 30")
    await servers[0].until(lambda: servers[0].running == 1)
    resolver.push(snapshot(2, Instance("echo", servers[0].address, id="s0", state=State.DRAINING)))
    await all_connected(channel, 0)
    waiting = registered(channel)(b"x", wait_for_ready=True)
    await channel.close()
    assert waiting.cancelled()
    assert await running.code() is StatusCode.CANCELLED
    assert reader.read("grpc.client.attempt.duration") == {"test.Echo/UnaryUnary CANCELLED": 2}
    assert reader.read("grpc.client.call.duration") == {"test.Echo/UnaryUnary CANCELLED": 2}


def test_without_opentelemetry_all_but_metrics_works() -> None:
    """The package does not need OpenTelemetry, and whoever asks for metrics without it learns what to install."""
    program = """
import sys
sys.modules["opentelemetry"] = None
import grpc_balancer, grpc_balancer.sync, grpc_balancer.testing
try:
    import grpc_balancer.otel
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "grpc_balancer.otel needs opentelemetry-api: pip install 'grpc-balancer[otel]'\n"
