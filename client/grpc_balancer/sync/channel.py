"""`grpc_balancer.sync.Channel`: a blocking grpc channel to a service, by name, over all of its instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from grpc import ChannelConnectivity

from grpc_balancer.explanation import Explanation
from grpc_balancer.sync.connectivity import Subscriptions
from grpc_balancer.sync.multicallables import Beginning, StreamStream, StreamUnary, UnaryStream, UnaryUnary
from grpc_balancer.sync.options import Options
from grpc_balancer.sync.session import MakeResolver, Session, try_out
from grpc_registry import Instance

Serializer = Callable[[Any], bytes] | None
Deserializer = Callable[[bytes], Any] | None


class Channel(grpc.Channel):
    """Balances the calls of blocking stubs over the instances of `service`, as `grpc_balancer.Channel` does.

    It is a `grpc.Channel`, for any number of threads. It starts with its first use (a call, a `with`, a subscription):
    until then it may be made at import, and the process may fork. All channels of a process live in one event loop in a
    thread of their own, which ends with the last of them.

    Args:
        service: the logical name, like `product`.
        registry: its URL, like `etcd://127.0.0.1:2379`, of which one connection is shared by the channels that name it;
            or a function without arguments that makes a resolver, called in the loop. If what it makes is an
            asynchronous context manager, as what `grpc_registry.connect` returns, it is entered, and left on closing.
        options: the keyword arguments of `grpc_balancer.Channel`.

    Raises:
        ValueError: the service's name, the URL or an option is none.
        TypeError: the registry is neither, or there is no such option.
    """

    def __init__(self, service: str, registry: str | MakeResolver, **options: Unpack[Options]) -> None:
        if "options" in options:
            options["options"] = tuple(options["options"])  # is read twice, which an iterator would not stand
        try_out(service, registry, options)
        self._session = Session(service, registry, options)
        self._subscriptions = Subscriptions(self._session)
        self._secure = options.get("credentials") is not None
        self._intercepted = bool(options.get("interceptors"))

    def __enter__(self) -> Self:
        self._session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, grace: float | None = None) -> None:
        """Refuse new calls, let present ones go on for `grace` seconds, cancel those left, close every connection.

        Raises:
            ValueError: `grace` is negative.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self._subscriptions.end()
        self._session.close(grace)

    def subscribe(self, callback: Callable[[ChannelConnectivity], None], try_to_connect: bool | None = False) -> None:
        """Call `callback` with the state now and after each change. Any use of a channel makes it connect."""
        self._subscriptions.add(callback)

    def unsubscribe(self, callback: Callable[[ChannelConnectivity], None]) -> None:
        """Call it no more."""
        self._subscriptions.remove(callback)

    def explain(self, method: str = "", metadata: Iterable[tuple[str, str | bytes]] | None = None) -> Explanation:
        """How a pick for a call of `method` would stand now, as `grpc_balancer.Channel.explain` tells it."""
        tenancy = self._session.open()
        sent = None if metadata is None else tuple(metadata)

        async def ask() -> Explanation:
            return tenancy.channel.explain(method, sent)

        return tenancy.thread.run(ask)

    def owner(self, metadata: Iterable[tuple[str, str | bytes]]) -> Instance | None:
        """The instance that a call with this metadata belongs to now, as `grpc_balancer.Channel.owner` has it.

        It asks the loop's thread, which costs some 100 µs. Raises `LookupError`: the policy goes by no key.
        """
        tenancy = self._session.open()
        sent = tuple(metadata)

        async def ask() -> Instance | None:
            return tenancy.channel.owner(sent)

        return tenancy.thread.run(ask)

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary[Any, Any]:
        arguments = (method, request_serializer, response_deserializer, bool(_registered_method))
        return UnaryUnary(self._beginning("unary_unary", *arguments))

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream[Any, Any]:
        arguments = (method, request_serializer, response_deserializer, bool(_registered_method))
        return UnaryStream(self._beginning("unary_stream", *arguments))

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary[Any, Any]:
        arguments = (method, request_serializer, response_deserializer, bool(_registered_method))
        return StreamUnary(self._beginning("stream_unary", *arguments))

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer = None,
        response_deserializer: Deserializer = None,
        _registered_method: bool | None = False,
    ) -> StreamStream[Any, Any]:
        arguments = (method, request_serializer, response_deserializer, bool(_registered_method))
        return StreamStream(self._beginning("stream_stream", *arguments))

    def _beginning(
        self, kind: str, method: str, serialize: Serializer, deserialize: Deserializer, registered: bool
    ) -> Beginning:
        return Beginning(
            self._session,
            kind,
            method,
            serialize,
            deserialize,
            registered=registered,
            serialize_inside=self._intercepted,
            secure=self._secure,
        )

    def __repr__(self) -> str:
        return f"<grpc_balancer.sync.{type(self).__name__} {self._session!r}>"
