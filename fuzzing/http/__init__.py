"""Raw HTTP/1.1 to a real gateway, with a real product service behind it.

Whatever the gateway is sent, it must live on, answer the good requests beside, never answer 500, take a time in
proportion to what it was sent, log no defect, and hold no file, task or memory any more when all have left; and so must
the service behind it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.http.attacks import ATTACKS, TOKEN, spoils
from fuzzing.wire.conversation import Conversation, Ending
from fuzzing.wire.hunt import Hunter, Search
from fuzzing.wire.rounds import Ring
from fuzzing.wire.server import WatchedServer
from shop_services.runtime.operator import operator_token
from shop_services.runtime.settings import Settings
from tests.servers import Etcd

_ENDINGS = (Ending.CLOSE, Ending.CLOSE, Ending.CLOSE, Ending.RESET, Ending.HALF, Ending.STAY, Ending.DEAF)
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_TOKEN_SECONDS = 86_400.0
_START_SECONDS = 60.0
_GOOD_SECONDS = 30
"""What a good request says that it may take. Who does not say is given 2 s, and a busy machine may need more."""
_PAUSE = 0.2


@asynccontextmanager
async def front_door(directory: Path) -> AsyncIterator[Ring]:
    """A gateway, the product service, and the etcd through which the one finds the other."""
    settings = Settings(data=directory / "data", access_ttl=_TOKEN_SECONDS)
    token = operator_token(settings).encode()
    async with AsyncExitStack() as stack:
        etcd = Etcd(directory / "etcd")
        stack.callback(etcd.kill)
        await asyncio.to_thread(etcd.start)
        environment = {
            "REGISTRY_URL": etcd.url,
            "NATS_URL": "memory://fuzz",
            "CATALOG_CACHE": "off",
            "SHOP_DATA": str(settings.data),
            "SHOP_PORT": "0",
            "SHOP_GATEWAY_RATE": "0",  # all requests come from one address
            "SHOP_GATEWAY_TIMEOUT": "2",
        }
        servers = [WatchedServer(name, directory / name, environment) for name in ("gateway", "product")]
        for server in servers:
            stack.callback(server.kill)
            await asyncio.to_thread(server.start)
        gateway = servers[0]
        async with asyncio.timeout(_START_SECONDS):
            while await _status(gateway.port, token) != 200:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(_PAUSE)
        yield Ring(servers, lambda: _ask(gateway.port, token), told, frozenset({"500"}), {TOKEN: token})


def told(data: bytes) -> str:
    """The status of the first answer, in a word; 500 if any has that."""
    statuses = _STATUS.findall(data)
    return "500" if b"500" in statuses else statuses[0].decode() if statuses else "nothing"


async def _ask(port: int, token: bytes) -> None:
    """Ask for a page of products, again as long as the gateway says that it is busy. Raises `OSError`."""
    while (status := await _status(port, token)) != 200:
        if status not in (429, 503):
            raise OSError(f"a good request was answered with {status or 'nothing'}")
        await asyncio.sleep(_PAUSE)


async def _status(port: int, token: bytes) -> int:
    """The status of the answer to a good request on a connection of its own; 0: none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"GET /v1/products?pageSize=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            + b"grpc-timeout: %dS\r\nAuthorization: Bearer " % _GOOD_SECONDS
            + token
            + b"\r\n\r\n"
        )
        answer = await reader.read()
    finally:
        writer.close()
    return int(match[1]) if (match := _STATUS.match(answer)) else 0


def make(rng: Random) -> Conversation:
    """A conversation of any kind; one in four is spoilt."""
    attack = spoils if rng.random() < 0.25 else rng.choice(list(ATTACKS.values()))
    return Conversation(attack.__name__, tuple(filter(None, attack(rng))), rng.choice(_ENDINGS))


async def search(seed: int, seconds: float, directory: Path, tell: Callable[[str], None]) -> Search:
    """Fuzz the gateway for so many seconds."""
    return await Hunter(front_door, make, directory).search(seed, seconds, tell)


async def replay(inputs: Sequence[dict[str, Any]], directory: Path) -> list[str]:
    """What is wrong when these conversations are had again, as `Finding` keeps them; nothing if all is well."""
    broken = await Hunter(front_door, make, directory).again([Conversation.of(one) for one in inputs])
    return [f"{broken.kind}: {broken.what}"] if broken is not None else []
