"""Reads of the catalog over gRPC, from product services that are processes, with caches and without any.

They share the database, and take turns with the same part of the trace. The client is this process, with one channel.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import grpc

from benchmarks.cache.reads import in_turn, play
from benchmarks.orders.shop import ShopProcess
from shop.product.v1.product_pb2 import GetProductRequest
from shop.product.v1.product_pb2_grpc import ProductServiceStub
from shop_services.launch.commands import service_command

READERS = 32
_SECONDS = 30.0


@contextlib.contextmanager
def products(directory: Path, environments: Mapping[str, Mapping[str, str]]) -> Iterator[Mapping[str, ShopProcess]]:
    """A product service for each of these, by name, that listens. Raises `NotReady`."""
    processes = {
        name: ShopProcess(directory / name.replace(" ", "-"), service_command("product"), environment)
        for name, environment in environments.items()
    }
    with ExitStack() as stack:
        for process in processes.values():
            stack.callback(process.kill)
            process.spawn()
        for process in processes.values():
            process.wait_ready()
        yield processes


async def compare(
    processes: Mapping[str, ShopProcess], ids: Sequence[str], *, rounds: int, warm: int
) -> dict[str, list[float]]:
    """Reads a second of each process, in each of `rounds` parts of `ids` after the first `warm` of them."""
    rates: dict[str, list[float]] = {name: [] for name in processes}
    async with AsyncExitStack() as stack:
        readers = {name: await stack.enter_async_context(_reader(process)) for name, process in processes.items()}
        for reader in readers.values():
            await play(reader.read, ids[:warm], READERS)
        part = (len(ids) - warm) // rounds
        for index in range(rounds):
            start = warm + index * part
            for name, reader in in_turn(readers, index):
                rates[name].append(part / await play(reader.read, ids[start : start + part], READERS))
    return rates


class _Reader:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ProductServiceStub(channel)

    async def read(self, product_id: str) -> None:
        await self._stub.GetProduct(GetProductRequest(product_id=product_id), timeout=_SECONDS)


@contextlib.asynccontextmanager
async def _reader(process: ShopProcess) -> AsyncIterator[_Reader]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        yield _Reader(channel)
