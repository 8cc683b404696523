"""The server that is broken: a process of its own, which registers itself and keeps a journal of the calls it has seen.

Both methods do the same, and clients are told different things of them: `/faults.Server/Repeatable` and
`/faults.Server/Once`. A request is `ID SECONDS`, answered with the instance's id after that time. The journal is
written without a buffer, so it survives `kill -9`: what is not in it, no handler has seen. It tells, too, when the
process stood still.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

import grpc_registry
from campaigns.standstill import Span, noted
from grpc_registry import Instance
from tests.servers import ServerProcess, free_port
from tests.servers.process import exchange

SERVICE = "faults"
REPEATABLE, ONCE = "/faults.Server/Repeatable", "/faults.Server/Once"

_STOPS_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Journal:
    """What one process has seen: the calls that began in it, those that it has answered, and when it stood still."""

    begun: frozenset[int]
    answered: frozenset[int]
    standstills: Sequence[Span] = ()


class Server(ServerProcess):
    """An instance. Each start is a new one, under an id of its own, at the same address."""

    def __init__(self, directory: Path, name: str, registry: str) -> None:
        super().__init__(directory / name)
        self.name = name
        self.starts = 0
        self._port = free_port()
        self._registry = registry

    @property
    def id(self) -> str:
        """The id of the instance that was started last."""
        return f"{self.name}-{self.starts}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def command(self) -> Sequence[str]:
        root = str(Path(__file__).parents[1])
        return [sys.executable, "-c", _MAIN, root, self._registry, self.address, self.id, str(self._journal(self.id))]

    def ready(self) -> bool:
        return bool(exchange(self._port, b""))  # a gRPC server begins with its settings

    def spawn(self) -> None:
        self.starts += 1
        super().spawn()

    def terminate(self) -> int:
        """End it as an operator does, and return its exit code once it has gone. Raises `TimeoutExpired`."""
        process = self._process
        if process is None:
            raise RuntimeError(f"{self!r} is not running")
        process.send_signal(signal.SIGTERM)
        code = process.wait(_STOPS_WITHIN)
        self._process = None
        return code

    def journals(self) -> dict[str, Journal]:
        """What each instance of this server has seen, by its id."""
        return {id: _read(self._journal(id)) for id in (f"{self.name}-{n}" for n in range(1, self.starts + 1))}

    def _journal(self, instance_id: str) -> Path:
        return self.directory / f"{instance_id}.journal"


def _read(path: Path) -> Journal:
    lines = path.read_text().split()
    begun, answered = ([int(line[1:]) for line in lines if line[0] == sign] for sign in "+-")
    spans = [line[1:].split("~") for line in lines if line[0] == "~"]
    return Journal(frozenset(begun), frozenset(answered), [(float(begin), float(end)) for begin, end in spans])


_MAIN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from campaigns.server import serve
asyncio.run(serve(*sys.argv[2:]))
"""


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, instance_id: str, journal: int) -> None:
        self._id = instance_id.encode()
        self._journal = journal
        self._method: Any = grpc.unary_unary_rpc_method_handler(self._work)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._method if handler_call_details.method in (REPEATABLE, ONCE) else None

    async def _work(self, request: bytes, context: Any) -> bytes:
        number, _, seconds = request.partition(b" ")
        os.write(self._journal, b"+%s\n" % number)
        await asyncio.sleep(float(seconds))
        os.write(self._journal, b"-%s\n" % number)
        return self._id


async def serve(registry_url: str, address: str, instance_id: str, journal: str) -> None:
    """Serve until told to stop, exactly as the README has it."""
    written = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_Handler(instance_id, written)])
    server.add_insecure_port(address)

    def stood_still(span: Span) -> None:
        os.write(written, b"~%.6f~%.6f\n" % span)

    with noted(stood_still):
        async with (
            grpc_registry.connect(registry_url) as registry,
            grpc_registry.serving(server, registry, Instance(SERVICE, address, id=instance_id)) as lifecycle,
        ):
            await lifecycle.wait()
