"""A process that reads through a real cache, told on its standard input what to read.

`python -m tests.integration.caching.reader URL NAMESPACE TIMEOUT` answers each line of JSON, a `Herd`, with one: an
`Outcome`. Its source is a function that takes its time and counts how often it was called.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

import structlog

from shop_services.caching.backend import BytesSerializer
from shop_services.caching.bounded import Bounded
from shop_services.caching.copies import Copy
from shop_services.caching.reading import ReadThrough
from shop_services.caching.redis import RedisCache
from tests.unit.services.caching.sources import Texts


@dataclass(frozen=True)
class Herd:
    """So many readers ask for each of these keys, all at a time; a load takes `seconds`."""

    keys: Sequence[str]
    readers: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """`loads`: the keys that were loaded, one by one. `slowest`: seconds of the read that took longest."""

    loads: list[str]
    values: list[str | None]
    slowest: float
    errors: int
    shared_hits: int


class Reader:
    """What the process does; tests that need no second process use it directly."""

    def __init__(self, url: str, namespace: str, timeout: float) -> None:
        self.shared = RedisCache(url, namespace=namespace, serializer=BytesSerializer(), timeout=timeout)
        self.loads: list[str] = []
        self.texts: ReadThrough[str] = ReadThrough(
            "texts",
            local=Bounded("lru", max_entries=10_000),
            shared=self.shared,
            codec=Texts(),
            is_current=lambda key, as_of: True,
            ttl=60.0,
            negative_ttl=60.0,
            timeout=timeout,
            rng=Random(),
        )

    async def stampede(self, herd: Herd) -> Outcome:
        """Let the herd read."""
        self.loads.clear()
        before = self.texts.counts().shared
        reads = [self._read(key, herd.seconds) for key in herd.keys for _ in range(herd.readers)]
        outcomes = await asyncio.gather(*reads)
        after = self.texts.counts().shared
        return Outcome(
            loads=list(self.loads),
            values=list({value: None for value, _ in outcomes}),
            slowest=max(seconds for _, seconds in outcomes),
            errors=after.errors - before.errors,
            shared_hits=after.hits - before.hits,
        )

    async def close(self) -> None:
        await self.texts.__aexit__()
        await self.shared.close()

    async def _read(self, key: str, seconds: float) -> tuple[str | None, float]:
        async def load() -> Copy[str]:
            self.loads.append(key)
            await asyncio.sleep(seconds)
            return Copy(f"the text of {key}", 1)

        began = time.monotonic()
        copy = await self.texts.get(key, load)
        return copy.value, time.monotonic() - began


async def main(url: str, namespace: str, timeout: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the output is for outcomes
    reader = Reader(url, namespace, float(timeout))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        outcome = await reader.stampede(Herd(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()
    await reader.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
