"""Raw HTTP/2 and gRPC frames to a real server: right ones, wrong ones, and as many as a server must not take.

The server is the product service, a process of its own: calls with one answer and streams of both kinds, some that
need no token and some with a good one. Whatever it is sent, it must live on, answer the good calls beside, take a time
in proportion to what it was sent, log no defect, and hold no file, task or memory any more when all have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.frames import http2
from fuzzing.frames.attacks import ATTACKS, spoils
from fuzzing.frames.good import ask
from fuzzing.frames.requests import TOKEN, Calls
from fuzzing.wire.conversation import Conversation, Ending
from fuzzing.wire.hunt import Hunter, Search
from fuzzing.wire.rounds import Ring
from fuzzing.wire.server import WatchedServer
from shop_services.runtime.operator import operator_token
from shop_services.runtime.settings import Settings

_ENDINGS = (Ending.CLOSE, Ending.CLOSE, Ending.CLOSE, Ending.RESET, Ending.RESET, Ending.HALF, Ending.STAY, Ending.DEAF)
_TOKEN_SECONDS = 86_400.0


@asynccontextmanager
async def product_server(directory: Path) -> AsyncIterator[Ring]:
    """The product service, alone, without a registry."""
    settings = Settings(data=directory / "data", access_ttl=_TOKEN_SECONDS)
    token = operator_token(settings)
    environment = {
        "REGISTRY_URL": "memory://fuzz",
        "NATS_URL": "memory://fuzz",
        "CATALOG_CACHE": "off",
        "SHOP_DATA": str(settings.data),
        "SHOP_PORT": "0",
    }
    server = WatchedServer("product", directory, environment)
    try:
        await asyncio.to_thread(server.start)
        yield Ring([server], lambda: ask(server.port, token), http2.told, marks={TOKEN: token.encode()})
    finally:
        server.kill()


class Frames:
    """Makes conversations from random numbers."""

    def __init__(self) -> None:
        self._calls = Calls()

    def __call__(self, rng: Random) -> Conversation:
        """One of any kind; one in four is spoilt."""
        attack = spoils if rng.random() < 0.25 else rng.choice(list(ATTACKS.values()))
        pieces = attack(rng, self._calls)
        return Conversation(attack.__name__, tuple(filter(None, pieces)), rng.choice(_ENDINGS))


async def search(seed: int, seconds: float, directory: Path, tell: Callable[[str], None]) -> Search:
    """Fuzz the server for so many seconds."""
    return await Hunter(product_server, Frames(), directory).search(seed, seconds, tell)


async def replay(inputs: Sequence[dict[str, Any]], directory: Path) -> list[str]:
    """What is wrong when these conversations are had again, as `Finding` keeps them; nothing if all is well."""
    broken = await Hunter(product_server, Frames(), directory).again([Conversation.of(one) for one in inputs])
    return [f"{broken.kind}: {broken.what}"] if broken is not None else []
