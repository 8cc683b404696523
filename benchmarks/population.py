"""A process that registers many instances, and changes them when told to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc_registry
from grpc_registry import Instance, Registration


class Population:
    """The process, from here."""

    def __init__(self, orders: asyncio.StreamWriter) -> None:
        self._orders = orders

    async def change_one(self) -> None:
        """Let it change the weight of one instance of the first service; returns without waiting for that."""
        self._orders.write(b"change\n")
        await self._orders.drain()


@asynccontextmanager
async def population(url: str, services: int, instances: int) -> AsyncIterator[Population]:
    """Register `instances` in each of `services`, named `service-0`, `service-1` …, until the end.

    Raises:
        RuntimeError: the process ended before all were registered.
        TimeoutError: that took more than two minutes.
    """
    arguments = [str(Path(__file__).parents[1]), url, str(services), str(instances)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _MAIN, *arguments, stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(120):
            if process.stdout is None or process.stdin is None or await process.stdout.readline() != b"registered\n":
                raise RuntimeError("the instances could not be registered")
        yield Population(process.stdin)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


_MAIN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from benchmarks.population import populate
asyncio.run(populate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


async def populate(url: str, services: int, instances: int) -> None:
    """Register them all, say so, and change one for each line of the standard input, until that ends."""
    async with grpc_registry.connect(url, timeout=60) as registry:
        registrations: list[Registration] = []
        for service in range(services):
            batch = [registry.register(_instance(service, number)) for number in range(instances)]
            await asyncio.gather(*(registration.wait_registered() for registration in batch))
            registrations += batch
        await asyncio.to_thread(sys.stdout.write, "registered\n")
        await asyncio.to_thread(sys.stdout.flush)
        changes = 0
        while await asyncio.to_thread(sys.stdin.readline):
            changes += 1
            await registrations[changes % instances].update(weight=100 + changes)


def _instance(service: int, number: int) -> Instance:
    address = f"10.{service}.{number >> 8}.{number & 255}:50051"
    return Instance(f"service-{service}", address, zone="abc"[number % 3], version="1.4.0", host=f"h{number}")
