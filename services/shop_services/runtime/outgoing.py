"""Calls made while serving a call carry its request id, and may take no longer than it has left.

They are made in this service's own name, whoever calls it: no token of a caller is passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from grpc_balancer import FAST_KEEPALIVE, Channel
from grpc_registry import Resolver
from shop_services.runtime.context import REQUEST_ID, current
from shop_services.runtime.identity.authority import AUTHORIZATION, Authority, Credentials
from shop_services.runtime.retrying import service_config
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import tls_files

DEFAULT_TIMEOUT = 5.0
"""Seconds that a call with one response may take where nothing else says so. A stream may then take for ever."""


class OutgoingChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` around another, for stubs that are used inside of servicers.

    Each call gets the request id of the call being served as `x-request-id`, and the smaller of its own `timeout` and
    what is left of the caller's. One that says nothing of who calls gets `credentials`. It closes the channel inside
    when it is closed.
    """

    def __init__(
        self,
        inner: grpc.aio.Channel,
        default_timeout: float | None = DEFAULT_TIMEOUT,
        *,
        credentials: Credentials = tuple,
    ) -> None:
        self._inner = inner
        self._default = default_timeout
        self._credentials = credentials

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.unary_unary(method, *args, **kwargs), self._default)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.stream_unary(method, *args, **kwargs), self._default)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.unary_stream(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._outgoing(self._inner.stream_stream(method, *args, **kwargs), None)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)

    def _outgoing(self, call: Callable[..., Any], default: float | None) -> Callable[..., Any]:
        credentials = self._credentials

        def start(*request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
            sent = _metadata(metadata, credentials())
            return call(*request, timeout=_timeout(timeout, default), metadata=sent, **rest)

        return start


def service_channel(service: str, registry: Resolver, settings: Settings, authority: Authority) -> OutgoingChannel:
    """A channel to all instances of another service of the shop, for a `wiring.py` to open and close.

    Calls are made in the name of `authority`'s service. Those that the protos declare repeatable are retried, see
    `retrying`. Instances in the zone of the settings are preferred. Raises `SettingError` if there is no key to sign
    with.
    """
    channel = balanced_channel(service, registry, settings, authority.name)
    return OutgoingChannel(channel, credentials=authority.credentials_for(service))


def balanced_channel(service: str, registry: Resolver, settings: Settings, name: str) -> Channel:
    """The same for who calls in others' names, or sees to the rest: it neither names anybody nor limits time.

    `name` is whose certificate is shown, where there is TLS: a service's, `gateway` or `operator`.
    """
    return Channel(
        service,
        registry,
        service_config=service_config(),
        zone=settings.zone,
        options=FAST_KEEPALIVE,
        credentials=tls_files(settings, name, service),
    )


def _timeout(given: float | None, default: float | None) -> float | None:
    serving = current()
    left = serving.remaining() if serving else None
    limits = [limit for limit in (given, left) if limit is not None]
    return min(limits) if limits else default


def _metadata(given: Any, credentials: Sequence[tuple[str, str]]) -> Any:
    serving = current()
    keys = {key for key, _ in given} if given else ()
    more = () if AUTHORIZATION in keys else credentials
    if serving is not None and REQUEST_ID not in keys:
        more = (*more, (REQUEST_ID, serving.request_id))
    return (*(given or ()), *more) if more else given
