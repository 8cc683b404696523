"""`Channel`: a grpc.aio channel to a service, by name, over all of its instances."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from grpc import ChannelConnectivity
from grpc.aio import UsageError

from grpc_balancer import interception
from grpc_balancer.attempts import Metadata
from grpc_balancer.dispatcher import Dispatcher
from grpc_balancer.endpoint import connector
from grpc_balancer.explanation import Explanation
from grpc_balancer.listener import ListenerFactory
from grpc_balancer.live_config import LiveConfig
from grpc_balancer.multicallables import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from grpc_balancer.options import with_defaults
from grpc_balancer.pickers import policies
from grpc_balancer.rules import OutstandingLimit, Rules
from grpc_balancer.secrets import Secrets
from grpc_balancer.view import View
from grpc_registry import Instance, Resolver
from grpc_registry.instance import check_name
from grpc_registry.service_config import Balancing, OutlierDetection, ServiceConfig, parse, parse_balancing
from grpc_registry.tls import TlsFiles

Request = TypeVar("Request")
Response = TypeVar("Response")
Serializer = Callable[[Request], bytes] | None
Deserializer = Callable[[bytes], Response] | None

DRAIN_SECONDS = 600.0
"""How long calls may go on at an endpoint that left the registry (Envoy's `--drain-time-s`)."""

SLOW_START_SECONDS = 10.0
"""For how long an endpoint that joins others gets a growing share of calls. (Envoy has no default for it.)"""

OUTLIER_DETECTION = OutlierDetection()
"""Five failures in a row eject an endpoint, as in Envoy and Finagle; the algorithms that compare rates are off."""

Policy = str | Mapping[str, Any]


class Channel(grpc.aio.Channel):
    """Balances the calls of unmodified stubs over the instances of `service` that `resolver` knows of.

    It is a `grpc.aio.Channel`, and made where one is: in the event loop that uses it. It resolves and connects from the
    first call, or from `async with`, whichever is first; close it, or leave the `async with`.

    Args:
        service: the logical name, like `product`.
        resolver: anything with `watch(service)`: a connected `grpc_registry` registry, or a `testing.ManualResolver`.
        policy: how an endpoint is chosen: `least_outstanding`, `round_robin`, `weighted_round_robin`, `peak_ewma`,
            `ring_hash`, `random`, `pick_first`, or a name given to `register_policy`; with settings as in a service
            config, `{"ring_hash": {"requestHashHeader": "x-user"}}`. Without, what `service_config` says, else the
            first.
        service_config: the standard gRPC service config, as JSON text or as a mapping: per method a timeout, whether to
            wait for ready, and when to retry or hedge; see `grpc_registry.service_config`. It holds as long as the
            registry has none for the service.
        watch_config: follow the service config in the registry, which outranks `policy` and `service_config`.
        outlier_detection: when an endpoint whose calls fail is ejected, unless the service config says it; None: never.
        slow_start: seconds for which an endpoint that joins others gets a growing share of the calls; 0: none.
        zone: where this process runs. Calls stay in the zone while it has enough endpoints. Empty: it does not matter.
        max_endpoints: to how many instances there are connections at most; each client has its own, stable choice.
        subset_key: what tells this client from others for that choice; without, chance does.
        limit: how many calls an endpoint may have in progress, and how many may wait for one; None: any number.
        on_pick: called at each pick with its `Explanation`. That costs some 10 µs an endpoint: for looking closely.
        metrics: what counts the calls: `grpc_balancer.otel.Metrics`, or a `listener.ListenerFactory` of one's own.
        credentials: TLS to every endpoint; without, the connections are plain text. With `TlsFiles`, files that are
            replaced are in force within seconds: connections move, calls in progress go on.
        options: gRPC channel options for the endpoints' connections, over this library's defaults (`options.DEFAULTS`).
        interceptors: grpc.aio client interceptors; they see each call once, however many endpoints it tries.
        compression: the default for every call.
        drain_seconds: how long calls may go on at an endpoint that left the registry before they end with UNAVAILABLE.
        rng, clock: where chance and time (in seconds, never going back) come from, for tests that repeat exactly.

    Raises:
        ValueError: the service's name, the policy or an option is none; `InvalidServiceConfig` for the service config.
        TypeError: the resolver is none, or another argument is of another type than it should be.
        RuntimeError: there is no running event loop.
    """

    def __init__(
        self,
        service: str,
        resolver: Resolver,
        *,
        policy: Policy | None = None,
        service_config: Mapping[str, Any] | str | None = None,
        watch_config: bool = True,
        outlier_detection: OutlierDetection | None = OUTLIER_DETECTION,
        slow_start: float = SLOW_START_SECONDS,
        zone: str = "",
        max_endpoints: int | None = None,
        subset_key: str | None = None,
        limit: OutstandingLimit | None = None,
        on_pick: Callable[[Explanation], object] | None = None,
        metrics: ListenerFactory | None = None,
        credentials: grpc.ChannelCredentials | TlsFiles | None = None,
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
        if not isinstance(drain_seconds, int | float) or not drain_seconds >= 0:
            raise ValueError(f"drain_seconds {drain_seconds!r}: a number of seconds, at least 0")
        for name, given, kind in (
            ("compression", compression, grpc.Compression),
            ("outlier_detection", outlier_detection, OutlierDetection),
            ("limit", limit, OutstandingLimit),
        ):
            if given is not None and not isinstance(given, kind):
                raise TypeError(f"{name} {given!r}: {kind.__name__}, or None")
        if on_pick is not None and not callable(on_pick):
            raise TypeError(f"on_pick {on_pick!r}: a function of an Explanation, or None")
        rng = rng or random.Random()
        config = ServiceConfig() if service_config is None else parse(service_config, policies())
        live = LiveConfig(service, config, None if policy is None else _balancing(policy), outlier_detection)
        secrets = Secrets(credentials)
        rules = Rules(
            slow_start=slow_start,
            zone=zone,
            max_endpoints=max_endpoints,
            subset_key=f"{rng.getrandbits(64):016x}" if subset_key is None else subset_key,
        )
        self._dispatcher = Dispatcher(
            service,
            resolver,
            connector(with_defaults(options), secrets, compression, clock),
            live,
            rules,
            follows_config=watch_config,
            limit=limit,
            on_pick=on_pick,
            secure=credentials is not None,
            renews=secrets.may_change,
            drain_seconds=drain_seconds,
            rng=rng,
            clock=clock,
        )
        if metrics is not None:
            self._dispatcher.listen(metrics(View(self._dispatcher)))
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

    def explain(self, method: str = "", metadata: Metadata | None = None) -> Explanation:
        """How a pick for a call of `method` would stand now: who is a candidate, with which score, who is not, and why.

        Print it: it is a table. Nothing is picked by it, and no policy is moved on.
        """
        return self._dispatcher.explain(_Question(method, metadata))

    def owner(self, metadata: Metadata) -> Instance | None:
        """The instance that a call with this metadata belongs to now, by its key: for grouping a batch, say.

        It costs a few µs and changes nothing; the channel must have been started. While the owner is overloaded, a
        `ring_hash` with a bound on load gives its calls to others. None: the metadata has no key, or no instance can be
        called yet.

        Raises:
            LookupError: the policy goes by no key. Of those that there are only `ring_hash` does, and not across zones.
        """
        endpoint = self._dispatcher.balancer.owner(_Question("", metadata))
        return None if endpoint is None else endpoint.instance

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Those that the policy chooses from now: serving, connected, not ejected. The same object if nothing changed.

        Between two looks it may have changed and changed back.
        """
        return self._dispatcher.balancer.eligible

    def __repr__(self) -> str:
        return f"<Channel {self._dispatcher.policy} {self._dispatcher!r}>"


@dataclass(frozen=True, slots=True)
class _Question:
    """A call that nobody makes."""

    method: str
    metadata: Metadata | None


def _balancing(policy: Policy) -> Balancing:
    if isinstance(policy, str):
        return Balancing(policy)
    return parse_balancing(policy, policies())
