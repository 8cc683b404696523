"""`shop serve --workers`, with a service that needs nothing, and a registry that is away."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from shop_services.launch import workers
from shop_services.launch.ports import LOOPBACK, Ports
from tests.servers import free_port


async def test_a_port_taken_after_it_was_drawn_is_drawn_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers whose port was free when it was drawn, and is taken when they bind it, start on others."""
    drawn: list[int] = []
    taken = socket.create_server((LOOPBACK, 0))

    def draw(self: Ports, preferred: int | None = None) -> int:
        drawn.append(free_port() if drawn else taken.getsockname()[1])
        return drawn[-1]

    monkeypatch.setattr(Ports, "next", draw)
    lines: list[str] = []
    environment = {**os.environ, "REGISTRY_URL": "etcd://127.0.0.1:1", "SHOP_DATA": str(tmp_path), "SHOP_GRACE": "0"}
    serving = asyncio.create_task(
        workers.serve_workers("cache", environment, 2, say=lines.append, complain=lines.append)
    )
    async with asyncio.timeout(60):
        while len(drawn) < 4 or not all([await answers(port) for port in drawn[2:]]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(serving, 30) == 0
    taken.close()
    assert any("somebody else has taken its port" in line for line in lines)
    assert lines.count("starting again, on other ports") == 1


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
