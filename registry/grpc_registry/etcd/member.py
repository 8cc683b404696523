"""One member of the etcd cluster: a channel of its own, and the RPCs over it.

With TLS, a channel is made of the certificates of one moment. When the files hold others, the member moves to a new
channel; so an expired certificate, or a changed authority, is never met by a process that runs for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import grpc

from grpc_registry.errors import RegistryUnavailable
from grpc_registry.etcd.failures import translated
from grpc_registry.etcd.v3 import Rpc
from grpc_registry.tls import TlsFollower, TlsMaterial

logger = logging.getLogger(__name__)

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


RENEW_SECONDS = 2.0  # between two looks at the certificates; also for a connection with new ones to come about

_LAST_CALLS_SECONDS = 10.0  # that a channel which is given up grants its calls; all have deadlines below that


class Line:
    """A channel, and all that goes over it; with TLS made of one `material`."""

    def __init__(self, address: str, material: TlsMaterial | None, options: list[tuple[str, Any]]) -> None:
        self.material = material
        self.streams: set[Stream] = set()
        self._methods: dict[Rpc, Any] = {}
        if material is None:
            self._channel = grpc.aio.insecure_channel(address, options)
        else:
            self._channel = grpc.aio.secure_channel(address, material.channel_credentials(), options)

    def method(self, rpc: Rpc) -> Any:
        """The multicallable of `rpc`."""
        if rpc not in self._methods:
            make = self._channel.stream_stream if rpc.streams else self._channel.unary_unary
            self._methods[rpc] = make(rpc.path, rpc.request.SerializeToString, rpc.response.FromString)
        return self._methods[rpc]

    async def connects(self, seconds: float) -> bool:
        """Whether there is a connection within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
                return True
        return False

    async def retire(self) -> None:
        """End the streams, whose readers open others elsewhere, let calls finish, and close; unless it is cancelled."""
        for stream in list(self.streams):
            stream.retire()
        await self._channel.close(_LAST_CALLS_SECONDS)

    async def close(self) -> None:
        """Close the channel. What waits on it must have been stopped before: gRPC would cancel it."""
        await self._channel.close()


class Member:
    """The channel to `address` is made at the first call, on the loop that runs then."""

    def __init__(self, address: str, tls: TlsFollower | None) -> None:
        self.address = address
        self._tls = tls
        self._options = _OPTIONS if tls is None else [*_OPTIONS, *tls.files.channel_options()]
        self._line: Line | None = None

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
            return await self._connected().method(rpc)(request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translated(error, self.address) from None

    def open(self, rpc: Rpc, metadata: Metadata, timeout: float | None = None) -> Stream:
        """Open a stream; without `timeout` it lasts until it is closed or breaks."""
        return Stream(self._connected(), rpc, metadata, timeout, self.address)

    async def renew(self) -> None:
        """Move all to a new connection if the files hold other certificates than the present one was made with.

        Only once the new one is connected: while a rotation is under way etcd may not trust a new certificate yet, and
        a connection that works, with a lease and watches on it, is not given up for one that does not.
        """
        present = self._line
        if self._tls is None or present is None or self._tls.current() is present.material:
            return
        given_up = successor = self._dial()
        try:
            if await successor.connects(RENEW_SECONDS):
                self._line, given_up = successor, present
                logger.info("etcd at %s: connected anew, with new certificates", self.address)
                await present.retire()
            else:
                logger.debug("etcd at %s: not reached with new certificates, going on with the old", self.address)
        finally:
            await given_up.close()

    async def close(self) -> None:
        """Close the channel. What waits on it must have been stopped before: gRPC would cancel it."""
        if self._line is not None:
            await self._line.close()

    def _connected(self) -> Line:
        if self._line is None:
            self._line = self._dial()
        return self._line

    def _dial(self) -> Line:
        return Line(self.address, self._tls.current() if self._tls is not None else None, self._options)


class Stream:
    """A bidirectional stream to one member."""

    def __init__(self, line: Line, rpc: Rpc, metadata: Metadata, timeout: float | None, address: str) -> None:
        self._call = line.method(rpc)(metadata=metadata, timeout=timeout)
        self._line = line
        self._address = address
        self._retired = False
        line.streams.add(self)

    async def send(self, message: Any) -> None:
        """Send a message. Raises like `receive`."""
        with self._translating():
            await self._call.write(message)

    async def receive(self) -> Any:
        """The next message. Raises the exceptions of `failures`; the end of the stream is `RegistryUnavailable`."""
        with self._translating():
            message = await self._call.read()
        if message is grpc.aio.EOF:
            raise self._ended()
        return message

    def retire(self) -> None:
        """End the stream with an error for its reader, who will want another."""
        self._retired = True
        self._call.cancel()

    def close(self) -> None:
        """Cancel the stream, whatever its state."""
        self._line.streams.discard(self)
        self._call.cancel()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise translated(error, self._address) from None
        except asyncio.InvalidStateError:  # grpc.aio's word for: the call ended before the first message left
            raise self._ended() from None
        except asyncio.CancelledError:
            if not self._retired or _being_cancelled():
                raise
            raise self._ended() from None  # it was the call that was cancelled, by `retire`, and not the reader

    def _ended(self) -> RegistryUnavailable:
        return RegistryUnavailable(f"etcd at {self._address}: the stream ended")


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
