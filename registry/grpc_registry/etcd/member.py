"""One member of the etcd cluster: a channel of its own, and the RPCs over it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from grpc_registry.errors import RegistryUnavailable
from grpc_registry.etcd.failures import translated
from grpc_registry.etcd.v3 import Rpc
from grpc_registry.url import Tls

Metadata = tuple[tuple[str, str], ...]

_OPTIONS: list[tuple[str, Any]] = [
    # A frozen peer is noticed within 14 s. All three are needed: without http2.ping_timeout it took 69 s.
    ("grpc.keepalive_time_ms", 10_000),  # etcd closes connections that ping more often than every 5 s
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),  # an idle watch must not end the pings
    # etcd's return is noticed within 2.4 s, well below the usual TTL of 10 s. gRPC's own default is 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # which is also the least time that a connection attempt is given
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),  # no other channel of the process can share our connection or its backoff
    ("grpc.max_receive_message_length", 64 << 20),  # etcd sends up to its own limit and answers lists in pages
    ("grpc.enable_retries", 0),  # retries are the connection's business: it knows the other members
]


class Member:
    """The channel to `address` is made at the first call, on the loop that runs then."""

    def __init__(self, address: str, tls: Tls | None) -> None:
        self.address = address
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[Rpc, Any] = {}

    async def call(self, rpc: Rpc, request: Any, metadata: Metadata, timeout: float) -> Any:
        """The answer to `request`; of an RPC that streams, the first one.

        Raises the exceptions of `failures`, `RegistryUnavailable` among them.
        """
        if rpc.streams:
            stream = self.open(rpc, metadata, timeout)
            try:
                await stream.send(request)
                return await stream.receive()
            finally:
                stream.close()
        try:
            return await self._method(rpc)(request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translated(error, self.address) from None

    def open(self, rpc: Rpc, metadata: Metadata, timeout: float | None = None) -> Stream:
        """Open a stream; without `timeout` it lasts until it is closed or breaks."""
        return Stream(self._method(rpc)(metadata=metadata, timeout=timeout), self.address)

    async def close(self) -> None:
        """Close the channel. What waits on it must have been stopped before: gRPC would cancel it."""
        if self._channel is not None:
            await self._channel.close()

    def _method(self, rpc: Rpc) -> Any:
        if rpc not in self._methods:
            channel = self._connected()
            make = channel.stream_stream if rpc.streams else channel.unary_unary
            self._methods[rpc] = make(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        return self._methods[rpc]

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            if self._tls is None:
                self._channel = grpc.aio.insecure_channel(self.address, _OPTIONS)
            else:
                name = self._tls.server_name
                options = [*_OPTIONS, ("grpc.ssl_target_name_override", name)] if name else _OPTIONS
                credentials = grpc.ssl_channel_credentials(self._tls.ca, self._tls.key, self._tls.cert)
                self._channel = grpc.aio.secure_channel(self.address, credentials, options)
        return self._channel


class Stream:
    """A bidirectional stream to one member."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    async def send(self, message: Any) -> None:
        """Send a message. Raises like `receive`."""
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._address) from None
        except asyncio.InvalidStateError:  # grpc.aio's word for: the call ended before the first message left
            raise RegistryUnavailable(f"etcd at {self._address}: the stream ended") from None

    async def receive(self) -> Any:
        """The next message. Raises the exceptions of `failures`; the end of the stream is `RegistryUnavailable`."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._address) from None
        if message is grpc.aio.EOF:
            raise RegistryUnavailable(f"etcd at {self._address}: the stream ended")
        return message

    def close(self) -> None:
        """Cancel the stream, whatever its state."""
        self._call.cancel()
