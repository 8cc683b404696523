"""Calls made while serving a call carry its request id, and may take no longer than it has left."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

from grpc_balancer import FAST_KEEPALIVE, Channel
from grpc_registry import Resolver
from shop_services.runtime.context import REQUEST_ID, current
from shop_services.runtime.retrying import service_config

DEFAULT_TIMEOUT = 5.0
"""Seconds that a call with one response may take where nothing else says so. A stream may then take for ever."""


class OutgoingChannel(grpc.aio.Channel):
    """A `grpc.aio.Channel` around another, for stubs that are used inside of servicers.

    Each call gets the request id of the call being served as `x-request-id`, and the smaller of its own `timeout` and
    what is left of the caller's. It closes the channel inside when it is closed.
    """

    def __init__(self, inner: grpc.aio.Channel, default_timeout: float = DEFAULT_TIMEOUT) -> None:
        self._inner = inner
        self._default = default_timeout

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _outgoing(self._inner.unary_unary(method, *args, **kwargs), self._default)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _outgoing(self._inner.stream_unary(method, *args, **kwargs), self._default)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _outgoing(self._inner.unary_stream(method, *args, **kwargs), None)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _outgoing(self._inner.stream_stream(method, *args, **kwargs), None)

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


def service_channel(service: str, registry: Resolver, zone: str = "") -> OutgoingChannel:
    """A channel to all instances of another service of the shop, for a `wiring.py` to open and close.

    Calls that the protos declare repeatable are retried, see `retrying`. With a zone its instances are preferred.
    """
    return OutgoingChannel(balanced_channel(service, registry, zone))


def balanced_channel(service: str, registry: Resolver, zone: str = "") -> Channel:
    """The same for who serves no call meanwhile, or sees to the rest: it neither names requests nor limits time."""
    return Channel(service, registry, service_config=service_config(), zone=zone, options=FAST_KEEPALIVE)


def _outgoing(call: Callable[..., Any], default: float | None) -> Callable[..., Any]:
    def start(*request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
        return call(*request, timeout=_timeout(timeout, default), metadata=_metadata(metadata), **rest)

    return start


def _timeout(given: float | None, default: float | None) -> float | None:
    serving = current()
    left = serving.remaining() if serving else None
    limits = [limit for limit in (given, left) if limit is not None]
    return min(limits) if limits else default


def _metadata(given: Any) -> Any:
    serving = current()
    if serving is None or any(key == REQUEST_ID for key, _ in given or ()):
        return given
    return (*(given or ()), (REQUEST_ID, serving.request_id))
