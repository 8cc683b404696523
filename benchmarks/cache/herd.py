"""Many ask for one thing at the same moment, and no cache has it: how often is the source asked?

The source counts how often it is asked, and takes a while to answer, as a busy database does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from shop_services.caching.backend import BytesSerializer
from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy
from shop_services.caching.reading import ReadThrough
from shop_services.caching.redis import RedisCache

ASKING = 1_000
SOURCE_SECONDS = 0.02
_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Herd:
    """What one process saw of a herd: how often it asked the source, and the seconds until all had the answer."""

    loads: int
    seconds: float


class Text:
    """Text as bytes: a `Codec`."""

    def dumps(self, value: str) -> bytes:
        return value.encode()

    def loads(self, data: bytes) -> str:
        return data.decode()


async def herd(reading: ReadThrough[str], key: str) -> Herd:
    """Let them all read `key` at the same moment. Raises `RuntimeError` if one got another answer than the source's."""
    loads = 0

    async def load() -> Copy[str]:
        nonlocal loads
        loads += 1
        await asyncio.sleep(SOURCE_SECONDS)
        return Copy(f"the value of {key}", as_of=1)

    start = time.perf_counter()
    copies = await asyncio.gather(*(reading.get(key, load) for _ in range(ASKING)))
    seconds = time.perf_counter() - start
    if any(copy.value != f"the value of {key}" for copy in copies):
        raise RuntimeError(f"{key}: somebody got something else")
    return Herd(loads, seconds)


@contextlib.asynccontextmanager
async def reader(url: str | None, seed: int) -> AsyncIterator[ReadThrough[str]]:
    """Reads through a cache in this process and, if there is a `url`, one that processes share."""
    async with AsyncExitStack() as stack:
        shared = None
        if url is not None:
            shared = RedisCache(url, namespace="herd", serializer=BytesSerializer(), timeout=1.0)
            stack.push_async_callback(shared.close)
        yield await stack.enter_async_context(
            ReadThrough(
                "herd",
                local=Bounded("lru", max_entries=10_000),
                shared=shared,
                codec=Text(),
                is_current=lambda key, as_of: True,
                ttl=3600.0,
                negative_ttl=3600.0,
                rng=Random(seed),
            )
        )


class Herds:
    """Processes that read through one shared cache, each of which has a herd when told."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    async def all_ask(self, key: str) -> list[Herd]:
        """A herd in every process at the same moment. Raises `RuntimeError` if one of them ended, `TimeoutError`."""
        async with asyncio.timeout(_DEADLINE):
            for process in self._processes:
                if process.stdin is not None:
                    process.stdin.write(f"{key}\n".encode())
            return [Herd(**json.loads(await _line(process))) for process in self._processes]


@contextlib.asynccontextmanager
async def herds(url: str, number: int) -> AsyncIterator[Herds]:
    """So many processes that share the cache at `url`."""
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_process(url, seed)) for seed in range(number)]
        async with asyncio.timeout(_DEADLINE):
            for process in processes:
                await _line(process)
        yield Herds(processes)


@contextlib.asynccontextmanager
async def _process(url: str, seed: int) -> AsyncIterator[Process]:
    arguments = [str(Path(__file__).parents[2]), url, str(seed)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _MAIN, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


_MAIN = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from benchmarks.cache.herd import serve
asyncio.run(serve(sys.argv[2], int(sys.argv[3])))
"""


async def serve(url: str, seed: int) -> None:
    """Have a herd for each line of the standard input, which is its key, until that ends; say what it saw."""
    async with reader(url, seed) as reading:
        await herd(reading, f"warm-up-{seed}")  # connections are open, and modules imported
        await _say("ready")
        while key := (await asyncio.to_thread(sys.stdin.readline)).strip():
            await _say(json.dumps(asdict(await herd(reading, key))))


async def _say(line: str) -> None:
    def write() -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    await asyncio.to_thread(write)


async def _line(process: Process) -> bytes:
    if process.stdout is None or not (line := await process.stdout.readline()):
        raise RuntimeError("a process of the herds ended")
    return line
