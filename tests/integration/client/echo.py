"""A real gRPC server for the tests of the client, in this process or, with `EchoProcess`, in one that can be killed.

It serves `/test.Echo/{UnaryUnary,UnaryStream,StreamUnary,StreamStream}` in raw bytes. A request is a command: `name`
(answered with the server's name), `peer` (with the client's address and port), `left` (with the seconds until the
call's deadline), `fail CODE details`, `sleep SECONDS`, `wait` (until the server's `gate` is set), `repeat N` (N
responses), `metadata KEY`; any other comes back as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
from grpc import ChannelConnectivity

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import Instance, Snapshot, State
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

UNARY_UNARY = "/test.Echo/UnaryUnary"
UNARY_STREAM = "/test.Echo/UnaryStream"
STREAM_UNARY = "/test.Echo/StreamUnary"
STREAM_STREAM = "/test.Echo/StreamStream"


class Echo:
    """A stub, made as generated ones are."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.unary_unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(UNARY_UNARY)
        self.unary_stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(UNARY_STREAM)
        self.stream_unary: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(STREAM_UNARY)
        self.stream_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_STREAM)


class EchoServer(grpc.GenericRpcHandler):
    """One server on the loopback; `calls` counts by method, `cancelled` the handlers that were cancelled."""

    def __init__(self, name: str = "echo", port: int = 0, options: Sequence[tuple[str, Any]] = ()) -> None:
        self.name = name
        self.port = port
        self.calls: Counter[str] = Counter()
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.delay = 0.0
        self.gate = asyncio.Event()
        self._options = [*options, ("grpc.so_reuseport", 0)]
        self._changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def instance(self, *, weight: int = 100, state: State = State.SERVING) -> Instance:
        return Instance("echo", self.address, id=self.name, weight=weight, state=state)

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> EchoServer:
        self._server = grpc.aio.server(options=self._options)
        self._server.add_generic_rpc_handlers([self])
        if credentials is None:
            self.port = self._server.add_insecure_port(self.address)
        else:
            self.port = self._server.add_secure_port(self.address, credentials)
        await self._server.start()
        return self

    async def stop(self, grace: float | None = None) -> None:
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition`, which is about this server's counters, is true. Fails after 30 s."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(condition)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case "/test.Echo/UnaryUnary":
                return grpc.unary_unary_rpc_method_handler(self._unary_unary)
            case "/test.Echo/UnaryStream":
                return grpc.unary_stream_rpc_method_handler(self._unary_stream)
            case "/test.Echo/StreamUnary":
                return grpc.stream_unary_rpc_method_handler(self._stream_unary)
            case "/test.Echo/StreamStream":
                return grpc.stream_stream_rpc_method_handler(self._stream_stream)
        return None

    @contextlib.asynccontextmanager
    async def _counted(self, method: str) -> AsyncIterator[None]:
        self.calls[method] += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self._tell()
        try:
            await asyncio.sleep(self.delay)
            yield
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _unary_unary(self, request: bytes, context: Any) -> bytes:
        async with self._counted("unary_unary"):
            return await self._answer(request, context)

    async def _unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async with self._counted("unary_stream"):
            word, _, number = request.partition(b" ")
            repeat = int(number) if word == b"repeat" else 1
            for _ in range(repeat):
                yield await self._answer(request, context)

    async def _stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async with self._counted("stream_unary"):
            answers = [await self._answer(request, context) async for request in requests]
            return b",".join(answers)

    async def _stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async with self._counted("stream_stream"):
            async for request in requests:
                yield await self._answer(request, context)

    async def _answer(self, request: bytes, context: Any) -> bytes:
        word, _, rest = request.partition(b" ")
        if word == b"name":
            return self.name.encode()
        if word == b"peer":
            return str(context.peer()).encode()
        if word == b"left":
            return str(context.time_remaining()).encode()
        if word == b"wait":
            await self.gate.wait()
        if word == b"sleep":
            await asyncio.sleep(float(rest))
        if word == b"metadata":
            await context.send_initial_metadata((("initial", "yes"),))
            context.set_trailing_metadata((("trailing", "yes"),))
            sent = dict(context.invocation_metadata())
            return str(sent.get(rest.decode())).encode()
        if word == b"fail":
            code, _, details = rest.partition(b" ")
            await context.abort(grpc.StatusCode[code.decode()], details.decode(), (("trailing", "failed"),))
        return request


class EchoProcess(ServerProcess):
    """The same server as a process of its own, which keeps its port when it is started again."""

    def __init__(self, directory: Path, name: str = "echo") -> None:
        super().__init__(directory / name)
        self.name = name
        self.port = free_port()
        self.server_options: Sequence[tuple[str, Any]] = ()
        self.registry = ""
        """The URL of a registry in which to register as `name`; none if empty."""
        self.ttl = 3
        """Seconds that it stays there after it was killed."""

    def command(self) -> Sequence[str]:
        root, options = str(Path(__file__).parents[3]), json.dumps(self.server_options)
        return [sys.executable, "-c", _MAIN, root, self.name, str(self.port), options, self.registry, str(self.ttl)]

    def ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def instance(self) -> Instance:
        return Instance("echo", f"127.0.0.1:{self.port}", id=self.name)


_MAIN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from tests.integration.client.echo import serve
asyncio.run(serve(sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
"""


async def serve(name: str, port: int, options: str, registry: str, ttl: str) -> None:
    """Serve until killed; `options` are the server's, in JSON."""
    server = await EchoServer(name, port, [(key, value) for key, value in json.loads(options)]).start()
    async with contextlib.AsyncExitStack() as stack:
        if registry:
            connected = await stack.enter_async_context(grpc_registry.connect(registry, ttl=int(ttl)))
            connected.register(server.instance())
        await asyncio.Event().wait()


def kill_and_let_grpc_know(channel: Channel, *processes: EchoProcess) -> None:
    """Kill the processes, and wait for gRPC's threads, which run while the event loop is blocked here, to notice.

    A call that was made before has its endpoint and thinks that it is connected, but has not been sent yet: that comes
    with the loop's next turn. Fails after 30 s.
    """
    for process in processes:
        process.kill()
    killed = {process.instance().address for process in processes}
    lines = [one.line for one in channel._dispatcher.balancer.endpoints if one.instance.address in killed]
    late = time.monotonic() + 30
    while any(line.channel.get_state() is ChannelConnectivity.READY for line in lines):
        assert time.monotonic() < late
        time.sleep(0.01)


def snapshot(revision: int, *instances: Instance, stale: bool = False, relisted: bool = False) -> Snapshot:
    return Snapshot("echo", revision, instances, stale=stale, relisted=relisted)
