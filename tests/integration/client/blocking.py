"""The echo server, and a channel to it, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from grpc_balancer.testing import ManualResolver
from grpc_registry import Snapshot
from tests.integration.client.echo import STREAM_STREAM, STREAM_UNARY, UNARY_STREAM, UNARY_UNARY, EchoServer

T = TypeVar("T")

SECONDS = 40
"""How long anything here may take."""


class BlockingEcho:
    """A stub, made as generated ones are."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.unary_unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY_UNARY)
        self.unary_stream: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(UNARY_STREAM)
        self.stream_unary: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(STREAM_UNARY)
        self.stream_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_STREAM)


class LoopElsewhere:
    """An event loop in a thread, for servers while the test blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


class ServerElsewhere:
    """An `EchoServer` in a loop of its own."""

    def __init__(self, name: str = "echo") -> None:
        self.inside = EchoServer(name)
        self._loop = LoopElsewhere()
        self._loop.run(self.inside.start())

    def until(self, condition: Callable[[EchoServer], bool]) -> None:
        """Return once `condition` of the server is true. Fails after 30 s."""
        self._loop.run(self.inside.until(lambda: condition(self.inside)))

    def open_gate(self) -> None:
        """Answer those that wait for that."""

        async def work() -> None:
            self.inside.gate.set()

        self._loop.run(work())

    def stop(self) -> None:
        self._loop.run(self.inside.stop())

    def end(self) -> None:
        self.stop()
        self._loop.end()


@contextmanager
def server_elsewhere(name: str = "echo") -> Iterator[ServerElsewhere]:
    server = ServerElsewhere(name)
    try:
        yield server
    finally:
        server.end()


def resolving(*servers: ServerElsewhere) -> Callable[[], ManualResolver]:
    """Makes a resolver that knows these."""

    def make() -> ManualResolver:
        resolver = ManualResolver()
        resolver.push(Snapshot("echo", 1, tuple(server.inside.instance() for server in servers)))
        return resolver

    return make
