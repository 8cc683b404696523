"""A real server that fails as it is told, one call after another, and remembers what it was sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc import StatusCode

from grpc_balancer import Channel
from grpc_registry import Instance
from tests.integration.client.echo import STREAM_STREAM, STREAM_UNARY, UNARY_STREAM, UNARY_UNARY

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fail:
    """How one call fails: after some seconds, after `headers`, if any, and after so many `messages` of a stream.

    With the code OK it does not fail, but is answered as late as that. With a `gate` it waits for that, too.
    """

    code: StatusCode = StatusCode.UNAVAILABLE
    trailing: Metadata = ()
    headers: Metadata | None = None
    messages: int = 0
    after: float = 0.0
    gate: asyncio.Event | None = None


class ScriptedServer(grpc.GenericRpcHandler):
    """Serves the methods of `echo`. Calls fail as `script` says, one each; then they are answered.

    The answer is the server's name, after all that was received.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: deque[Fail] = deque()
        self.seen: list[dict[str, Any]] = []
        """The metadata of each call."""
        self.times: list[float] = []
        self.left: list[float] = []
        """Seconds that each call had left."""
        self.cancelled = 0
        """Calls that were cancelled while they were to take some seconds."""
        self.port = 0
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._arrived = asyncio.Condition()

    async def start(self) -> ScriptedServer:
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(None)

    def instance(self) -> Instance:
        return Instance("echo", f"127.0.0.1:{self.port}", id=self.name)

    def fails(self, *how: Fail, times: int = 1) -> None:
        """Let the next calls fail: like that, so many times over."""
        self.script.extend((how or (Fail(),)) * times)

    def previous_attempts(self) -> list[str | None]:
        """What each call said of the attempts before it."""
        return [metadata.get("grpc-previous-rpc-attempts") for metadata in self.seen]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition`, which is about this server's calls, is true. Fails after 30 s."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(condition)

    async def until_cancelled(self, times: int) -> None:
        """Return once that many calls were cancelled."""
        await self.until(lambda: self.cancelled == times)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case method if method == UNARY_UNARY:
                return grpc.unary_unary_rpc_method_handler(self._unary_unary)
            case method if method == UNARY_STREAM:
                return grpc.unary_stream_rpc_method_handler(self._unary_stream)
            case method if method == STREAM_UNARY:
                return grpc.stream_unary_rpc_method_handler(self._stream_unary)
            case method if method == STREAM_STREAM:
                return grpc.stream_stream_rpc_method_handler(self._stream_stream)
        return None

    async def _take(self, context: Any) -> Fail | None:
        self.seen.append(dict(context.invocation_metadata()))
        self.times.append(asyncio.get_running_loop().time())
        self.left.append(context.time_remaining())
        async with self._arrived:
            self._arrived.notify_all()
        return self.script.popleft() if self.script else None

    async def _respond(self, received: Sequence[bytes], fail: Fail | None, context: Any) -> AsyncIterator[bytes]:
        answer = b" ".join((*received, self.name.encode()))
        if fail is None:
            yield answer
            return
        if fail.headers is not None:
            await context.send_initial_metadata(fail.headers)
        try:
            await asyncio.sleep(fail.after)
            if fail.gate is not None:
                await fail.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            async with self._arrived:
                self._arrived.notify_all()
            raise
        if fail.code is StatusCode.OK:
            yield answer
            return
        for _ in range(fail.messages):
            yield answer
        await context.abort(fail.code, f"{self.name} was told to fail", fail.trailing)

    async def _unary_unary(self, request: bytes, context: Any) -> bytes:
        fail = await self._take(context)
        return await anext(self._respond([request], fail, context))

    async def _unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        fail = await self._take(context)
        async for response in self._respond([request], fail, context):
            yield response

    async def _stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        fail = await self._take(context)
        received = [request async for request in requests]
        return await anext(self._respond(received, fail, context))

    async def _stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        fail = await self._take(context)
        received = [await anext(aiter(requests))]
        async for response in self._respond(received, fail, context):
            yield response


def is_idle(channel: Channel) -> bool:
    """Whether no call is counted anywhere, nor waits for anything."""
    loads = [endpoint.load.count for endpoint in channel._dispatcher.balancer.endpoints]
    return not any(loads) and "waiting" not in repr(channel) and "backing off" not in repr(channel)


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once it is true. Fails after 30 s."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.005)


async def result(call: Any) -> Any:
    """What awaiting a call gives, as a coroutine, of which a task can be made."""
    return await call


def attempts(servers: list[ScriptedServer]) -> list[int]:
    """How many calls each has seen."""
    return [len(server.seen) for server in servers]
