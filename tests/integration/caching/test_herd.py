"""Many readers at a time of one key, in one process and in four, over a real Valkey that is well, frozen and dead."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.caching.reader import Herd, Outcome, Reader
from tests.servers import Valkey

ROOT = Path(__file__).parents[3]
PROCESSES = 4
LOAD = 3.0
"""Seconds that a load takes under which the cache is killed: it is found to be under way before it is over."""
BUSY = 10.0
"""Seconds that a busy machine may add to a bound. Whoever waited for the cache without one would wait for ever."""
PATIENT = 30.0
"""Seconds that readers wait for a cache that is well, though the machine may stand still."""

Stampede = Callable[[Herd], Coroutine[None, None, list[Outcome]]]


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, which it may freeze and kill."""
    server = Valkey(tmp_path / "valkey")
    try:
        yield server.start()
    finally:
        server.kill()


@asynccontextmanager
async def processes(url: str, timeout: float) -> AsyncIterator[Stampede]:
    """Four processes that read through one cache; what is yielded lets a herd loose in all of them at a time."""
    command = [sys.executable, "-m", "tests.integration.caching.reader", url, secrets.token_hex(4), str(timeout)]
    readers = [
        await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE) for _ in range(PROCESSES)
    ]

    async def one(reader: Process, herd: Herd) -> Outcome:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(json.dumps(asdict(herd)).encode() + b"\n")
        return Outcome(**json.loads(await asyncio.wait_for(reader.stdout.readline(), 60)))

    async def stampede(herd: Herd) -> list[Outcome]:
        return list(await asyncio.gather(*(one(reader, herd) for reader in readers)))

    try:
        await stampede(Herd(["begin"], 1, 0.0))  # all have started
        yield stampede
    finally:
        for reader in readers:
            if reader.stdin is not None:
                reader.stdin.close()
        for reader in readers:
            try:
                await asyncio.wait_for(reader.wait(), 10)
            except TimeoutError:
                reader.kill()
                await reader.wait()


async def test_a_thousand_readers_in_one_process_load_once(redis_url: str) -> None:
    """All get the value that one load brought."""
    reader = Reader(redis_url, secrets.token_hex(4), timeout=PATIENT)
    outcome = await reader.stampede(Herd(["a"], 1000, 0.05))
    await reader.close()
    assert outcome.loads == ["a"]
    assert outcome.values == ["the text of a"]
    assert outcome.errors == 0


async def test_readers_in_four_processes_load_once_a_process_at_most_and_usually_once_in_all(redis_url: str) -> None:
    """In each of ten herds of a thousand no process loads twice, and in most of them one does for all."""
    async with processes(redis_url, timeout=PATIENT) as stampede:
        alone = 0
        for number in range(10):
            outcomes = await stampede(Herd([f"k{number}"], 250, 0.05))
            loads = [outcome.loads for outcome in outcomes]
            assert all(len(keys) <= 1 for keys in loads)
            assert all(outcome.values == [f"the text of k{number}"] for outcome in outcomes)
            alone += sum(map(len, loads)) == 1
        assert alone > 5


async def test_readers_go_on_while_the_cache_is_frozen_and_find_it_again(own_valkey: Valkey) -> None:
    """Frozen under a herd: each read is answered in time, each process loads once; later all share again."""
    async with processes(own_valkey.url, timeout=0.2) as stampede:
        own_valkey.pause()
        for number in range(3):
            for outcome in await stampede(Herd([f"frozen{number}"], 250, 0.05)):
                assert outcome.loads == [f"frozen{number}"]
                assert outcome.slowest < 3 * 0.2 + 0.05 + BUSY
        own_valkey.resume()
        await shares_again(stampede)


async def test_readers_go_on_while_the_cache_is_killed_and_find_the_next_one(own_valkey: Valkey) -> None:
    """Killed under a herd: each read is answered in time; when the server is back, empty, all share again."""
    async with processes(own_valkey.url, timeout=0.2) as stampede:
        keys = [f"k{number}" for number in range(20)]
        before = await commands(own_valkey)
        herd = asyncio.create_task(stampede(Herd(keys, 20, LOAD)))
        async with asyncio.timeout(60):
            while await commands(own_valkey) < before + len(keys):  # noqa: ASYNC110 - until it is locked who loads
                await asyncio.sleep(0.01)
        own_valkey.kill()
        during = await herd
        after = await stampede(Herd(["dead"], 250, 0.05))
        for outcome in (*during, *after):
            assert len(outcome.loads) == len(set(outcome.loads))
            assert outcome.slowest < 3 * 0.2 + LOAD + BUSY
        assert all(outcome.loads == ["dead"] for outcome in after)
        own_valkey.start()
        await shares_again(stampede)


async def commands(valkey: Valkey) -> int:
    """How often it was told to keep something."""
    async with Redis.from_url(valkey.url) as redis:
        told = await redis.info("commandstats")
    return int(told.get("cmdstat_set", {"calls": 0})["calls"])  # none if all gave up connecting in time


async def shares_again(stampede: Stampede) -> None:
    """Return when a herd in four processes is one load. Raises `TimeoutError`."""
    async with asyncio.timeout(60):
        number = 0
        while True:
            number += 1
            outcomes = await stampede(Herd([f"again{number}"], 10, 0.05))
            if sum(len(outcome.loads) for outcome in outcomes) == 1:
                return
