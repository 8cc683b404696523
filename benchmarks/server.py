"""The servers that benchmarks call: processes of their own, so that their CPU is not the client's.

One process serves one or more ports; each is a server of its own as clients see it. Requests and responses are raw
bytes, so that as little as possible is measured but the calls themselves:

- `/bench.Server/Echo` answers with the request.
- `/bench.Server/Name` answers with the port's name.
- `/bench.Server/Work`: the request is a factor in decimal digits. Answers with the name after `seconds` times the
  factor, which `slots` calls at a time can pass while others wait. If it `fails`, at once with UNAVAILABLE.
- `/bench.Server/TimeLeft` answers with the seconds until the call's deadline.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from grpc_registry import Instance
from tests.servers import ServerProcess, free_port

SERVICE = "bench"

_ECHO, _NAME, _WORK, _TIME_LEFT = (f"/bench.Server/{method}" for method in ("Echo", "Name", "Work", "TimeLeft"))

Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class BlockingStub:
    """The methods that are called by threads."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.echo: Callable[..., bytes] = channel.unary_unary(_ECHO)
        self.name: Callable[..., bytes] = channel.unary_unary(_NAME)


class Stub:
    """The methods, over a channel; made as generated stubs are."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.echo: Method = channel.unary_unary(_ECHO)
        self.name: Method = channel.unary_unary(_NAME)
        self.work: Method = channel.unary_unary(_WORK)
        self.time_left: Method = channel.unary_unary(_TIME_LEFT)


@dataclass(frozen=True)
class Port:
    """One server: where it listens, and how it works."""

    name: str
    slots: int = 1_000
    seconds: float = 0.0
    fails: bool = False
    port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def instance(self) -> Instance:
        return Instance(SERVICE, self.address, id=self.name)


class Servers(ServerProcess):
    """A process that serves these ports."""

    def __init__(self, directory: Path, ports: Sequence[Port]) -> None:
        super().__init__(directory)
        self.ports = tuple(ports)

    def command(self) -> Sequence[str]:
        root = str(Path(__file__).parents[1])
        return [sys.executable, "-c", _MAIN, root, json.dumps([asdict(port) for port in self.ports])]

    def ready(self) -> bool:
        return all(_listens(port.port) for port in self.ports)


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


_MAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from benchmarks.server import main
main(sys.argv[2])
"""


class _Handler(grpc.GenericRpcHandler):
    """The methods of one port."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._slots = asyncio.Semaphore(port.slots)
        methods: dict[str, Callable[[bytes, Any], Awaitable[bytes]]] = {
            _ECHO: self._echo,
            _NAME: self._name,
            _WORK: self._work,
            _TIME_LEFT: self._time_left,
        }
        self._methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._methods.get(handler_call_details.method)

    async def _echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def _name(self, request: bytes, context: Any) -> bytes:
        return self._port.name.encode()

    async def _work(self, request: bytes, context: Any) -> bytes:
        if self._port.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it fails at once")
        async with self._slots:
            await asyncio.sleep(float(request) * self._port.seconds)
        return self._port.name.encode()

    async def _time_left(self, request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()


async def _serve(ports: Sequence[Port]) -> None:
    servers = []
    for port in ports:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers([_Handler(port)])
        server.add_insecure_port(port.address)
        await server.start()
        servers.append(server)
    await asyncio.gather(*(server.wait_for_termination() for server in servers))


def main(ports: str) -> None:
    """Serve until killed. `ports` is the JSON of a list of `Port`s."""
    asyncio.run(_serve([Port(**port) for port in json.loads(ports)]))
