"""Metrics by OpenTelemetry, under gRPC's own names.

It needs the SDK: pip install 'grpc-balancer[otel]' opentelemetry-sdk
From a checkout: pip install ./registry './client[otel]' opentelemetry-sdk
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas

import grpc_registry
from grpc_balancer import Channel

try:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from grpc_balancer.otel import Metrics
except ImportError as missing:
    sys.exit(f"{missing}\n{__doc__}")


async def main(url: str = "memory://") -> None:
    reader = InMemoryMetricReader()  # an exporter, in a program of your own
    metrics = Metrics(MeterProvider(metric_readers=[reader]))
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "one", "two"),
        Channel("demo", registry, metrics=metrics) as channel,
    ):
        await connected(channel, 2)
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(100):
            await ask(stub)
        show(reader)


def show(reader: InMemoryMetricReader) -> None:
    """Print every number that there is."""
    data: Any = reader.get_metrics_data()
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            labels = ", ".join(f"{name}={value}" for name, value in point.attributes.items())
            if hasattr(point, "sum"):
                print(f"{metric.name} {{{labels}}} {point.count} times, {point.sum:.3f} {metric.unit} in all")
            elif point.value:
                print(f"{metric.name} {{{labels}}} {point.value}")


asyncio.run(main(*sys.argv[1:]))
