"""`Channel`: a grpc.aio channel to a service, by name, over all of its instances."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from grpc import ChannelConnectivity
from grpc.aio import UsageError

from grpc_balancer import interception
from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import connector
from grpc_balancer.multicallables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from grpc_balancer.options import with_defaults
from grpc_balancer.pickers import policies, policy_named
from grpc_registry import Resolver
from grpc_registry.instance import check_name
from grpc_registry.service_config import ServiceConfig, parse

Request = TypeVar("Request")
Response = TypeVar("Response")
Serializer = Callable[[Request], bytes] | None
Deserializer = Callable[[bytes], Response] | None

_log = logging.getLogger(__name__)

DEFAULT_POLICY = "least_outstanding"

DRAIN_SECONDS = 600.0
"""How long calls may go on at an endpoint that left the registry (Envoy's `--drain-time-s`)."""


class Channel(grpc.aio.Channel):
    """Balances the calls of unmodified stubs over the instances of `service` that `resolver` knows of.

    It is a `grpc.aio.Channel`, and made where one is: in the event loop that uses it. It resolves and connects from the
    first call, or from `async with`, whichever is first; close it, or leave the `async with`.

    Args:
        service: the logical name, like `product`.
        resolver: anything with `watch(service)`: a connected `grpc_registry` registry, or a `testing.ManualResolver`.
        policy: how an endpoint is chosen: `least_outstanding`, `round_robin`, `weighted_round_robin`, `random`,
            `pick_first`, or a name given to `register_policy`. Without, what the service config says, else the first.
        service_config: the standard gRPC service config, as JSON text or as a mapping: per method a timeout, whether to
            wait for ready, and when to retry; see `service_config` and `retry`.
        credentials: TLS to every endpoint; without, the connections are plain text.
        options: gRPC channel options for the endpoints' connections, over this library's defaults (`options.DEFAULTS`).
        interceptors: grpc.aio client interceptors; they see each call once, however many endpoints it tries.
        compression: the default for every call.
        drain_seconds: how long calls may go on at an endpoint that left the registry before they end with UNAVAILABLE.
        rng, clock: where chance and time (in seconds, never going back) come from, for tests that repeat exactly.

    Raises:
        ValueError: the service's name, the policy or an option is none; `InvalidServiceConfig` for the service config.
        TypeError: the resolver is none.
        RuntimeError: there is no running event loop.
    """

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        *,
        policy: str | None = None,
        service_config: Mapping[str, Any] | str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Iterable[Sequence[Any]] = (),
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        compression: grpc.Compression | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_name(service, "service")
        if not callable(getattr(resolver, "watch", None)):
            raise TypeError(f"resolver {resolver!r}: an object with watch(service), such as a connected registry")
        if not drain_seconds >= 0:
            raise ValueError(f"drain_seconds {drain_seconds!r}: a number of seconds, at least 0")
        config = ServiceConfig() if service_config is None else parse(service_config, policies())
        _warn_of_what_is_not_done(service, config)
        said = DEFAULT_POLICY if config.balancing is None else config.balancing.policy
        self._policy = said if policy is None else policy
        self._dispatcher = Dispatcher(
            service,
            resolver,
            policy_named(self._policy),
            connector(with_defaults(options), credentials, compression),
            config,
            secure=credentials is not None,
            drain_seconds=drain_seconds,
            rng=rng or random.Random(),
            clock=clock,
        )
        self._front = interception.front_channel(interceptors) if interceptors else None

    async def __aenter__(self) -> Self:
        self._dispatcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, let present ones go on for `grace` seconds, cancel those left, close every connection.

        Raises:
            ValueError: `grace` is negative.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        if self._front is None:
            await self._dispatcher.close(grace)
        else:
            await asyncio.gather(self._front.close(grace), self._dispatcher.close(grace))

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        """READY if a call would find an endpoint now; else CONNECTING if that may change by itself; IDLE before use."""
        if try_to_connect:
            self._dispatcher.start()
        return self._dispatcher.state

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """Return once `get_state()` is something else."""
        while self._dispatcher.state is last_observed_state:
            await self._dispatcher.change()

    async def channel_ready(self) -> None:
        """Return once a call would find an endpoint. Raises `grpc.aio.UsageError` if the channel is closed."""
        while (state := self.get_state(try_to_connect=True)) is not ChannelConnectivity.READY:
            if state is ChannelConnectivity.SHUTDOWN:
                raise UsageError("Channel is closed.")
            await self.wait_for_state_change(state)

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer[Request] = None,
        response_deserializer: Deserializer[Response] = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]:
        route = ("unary_unary", method, bool(_registered_method))
        made = UnaryUnaryMultiCallable(self._dispatcher, route, request_serializer, response_deserializer)
        return made if self._front is None else interception.InterceptedUnaryUnary(made, self._front)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer[Request] = None,
        response_deserializer: Deserializer[Response] = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Request, Response]:
        route = ("unary_stream", method, bool(_registered_method))
        made = UnaryStreamMultiCallable(self._dispatcher, route, request_serializer, response_deserializer)
        return made if self._front is None else interception.InterceptedUnaryStream(made, self._front)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer[Request] = None,
        response_deserializer: Deserializer[Response] = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Request, Response]:
        route = ("stream_unary", method, bool(_registered_method))
        made = StreamUnaryMultiCallable(self._dispatcher, route, request_serializer, response_deserializer)
        return made if self._front is None else interception.InterceptedStreamUnary(made, self._front)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer[Request] = None,
        response_deserializer: Deserializer[Response] = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Request, Response]:
        route = ("stream_stream", method, bool(_registered_method))
        made = StreamStreamMultiCallable(self._dispatcher, route, request_serializer, response_deserializer)
        return made if self._front is None else interception.InterceptedStreamStream(made, self._front)

    def __repr__(self) -> str:
        return f"<Channel {self._policy} {self._dispatcher!r}>"


def _warn_of_what_is_not_done(service: str, config: ServiceConfig) -> None:
    """A config must not be obeyed by half in silence."""
    hedged = sorted(path or "all methods" for path, method in config.methods.items() if method.hedging)
    if hedged:
        _log.warning("the service config of %r has a hedgingPolicy, which is not executed yet: %s", service, hedged)
    if config.health_service is not None:
        _log.warning("the service config of %r has a healthCheckConfig, which is not executed yet", service)
