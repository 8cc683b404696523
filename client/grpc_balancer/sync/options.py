"""What `grpc_balancer.Channel` takes by keyword, for type checkers; a test compares it with that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import grpc
import grpc.aio

from grpc_balancer.explanation import Explanation
from grpc_balancer.listener import ListenerFactory
from grpc_balancer.rules import OutstandingLimit
from grpc_registry.service_config import OutlierDetection
from grpc_registry.tls import TlsFiles


class Options(TypedDict, total=False):
    """The keyword arguments of `grpc_balancer.Channel`, which explains them.

    What is called (`on_pick`, `metrics`, asynchronous `interceptors`) is called in the loop: it must not block.
    """

    policy: str | Mapping[str, Any] | None
    service_config: Mapping[str, Any] | str | None
    watch_config: bool
    outlier_detection: OutlierDetection | None
    slow_start: float
    zone: str
    max_endpoints: int | None
    subset_key: str | None
    limit: OutstandingLimit | None
    on_pick: Callable[[Explanation], object] | None
    metrics: ListenerFactory | None
    credentials: grpc.ChannelCredentials | TlsFiles | None
    options: Iterable[Sequence[Any]]
    interceptors: Sequence[grpc.aio.ClientInterceptor]
    compression: grpc.Compression | None
    drain_seconds: float
    rng: random.Random | None
    clock: Callable[[], float]
