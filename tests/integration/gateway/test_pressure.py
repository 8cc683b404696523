"""A gateway's process under pressure, with the bounds that it has in earnest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.integration.gateway.serving import DEADLINE
from tests.servers import Etcd, free_port
from tests.servers.service import ServiceProcess


@dataclass(frozen=True, slots=True)
class Gateway:
    """A process that serves on `port`, and a client of it."""

    port: int
    client: httpx.AsyncClient

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def gateway(etcd: Etcd, directory: Path, **variables: str) -> AsyncIterator[Gateway]:
    """A gateway, without any service behind it."""
    port = free_port()
    environment = {
        "REGISTRY_URL": f"{etcd.url}/{directory.name}",
        "SHOP_PORT": str(port),
        "SHOP_DATA": str(directory / "data"),
        "SHOP_PROPAGATION": "0",
        **variables,
    }
    process = ServiceProcess("gateway", directory, environment)
    await asyncio.to_thread(process.start)
    try:
        # It keeps its connections, however slow the machine is: for a new one an address may have too many.
        keep = httpx.Limits(max_connections=100, keepalive_expiry=None)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE, limits=keep) as client:
            yield Gateway(port, client)
    finally:
        await asyncio.to_thread(process.kill)


async def cut_off(reader: asyncio.StreamReader) -> bytes:
    """The first line of an answer, after which the connection ends: by a reset, if a drop was sent after its end."""
    line = await reader.readline()
    with suppress(ConnectionError):
        await reader.read()
    return line


async def test_slow_heads_keep_nobody_waiting(shared_etcd: Etcd, tmp_path: Path) -> None:
    """Hundreds that send their head drop by drop are cut off after ten seconds; others are served all the while."""
    async with gateway(shared_etcd, tmp_path) as served:
        began = time.monotonic()
        slow = [await served.connect() for _ in range(300)]
        for _, writer in slow:
            writer.write(b"GET /v1/products HTTP/1.1\r\nHost: x\r\nX-Slow: ")

        async def drip() -> None:
            while True:
                await asyncio.sleep(1)
                for _, writer in slow:
                    writer.write(b"a")

        dripping = asyncio.create_task(drip())
        answers = [asyncio.create_task(cut_off(reader)) for reader, _ in slow]
        async with asyncio.timeout(DEADLINE):
            while not all(answer.done() for answer in answers):
                assert (await served.client.get("/healthz")).status_code == 200
        assert time.monotonic() - began >= 9
        dripping.cancel()
        await asyncio.wait((dripping,))
        for answer, (_, writer) in zip(answers, slow, strict=True):
            assert answer.exception() is None
            assert answer.result().startswith(b"HTTP/1.1 408 ")
            writer.close()


async def test_what_is_too_large_is_refused(shared_etcd: Etcd, tmp_path: Path) -> None:
    """A head beyond its bound is 431, a body beyond that of the settings 413, declared or not."""
    async with gateway(shared_etcd, tmp_path, SHOP_GATEWAY_MAX_BODY="1000") as served:
        large = await served.client.get("/v1/products", headers={"X-Large": "a" * 40_000})
        assert (large.status_code, large.json()["code"]) == (431, 8)
        declared = await served.client.post("/v1/users:login", content=b"a" * 1001)
        assert (declared.status_code, declared.json()["code"]) == (413, 8)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"a" * 100

        streamed = await served.client.post("/v1/users:login", content=pieces())
        assert (streamed.status_code, streamed.json()["code"]) == (413, 8)


async def test_one_address_cannot_have_all_connections(shared_etcd: Etcd, tmp_path: Path) -> None:
    """Beyond its number, new ones are told 429; those that it has go on."""
    async with gateway(shared_etcd, tmp_path) as served:
        assert (await served.client.get("/healthz")).status_code == 200
        mine = [await served.connect() for _ in range(520)]
        told = [asyncio.create_task(reader.read(12)) for reader, _ in mine]
        async with asyncio.timeout(DEADLINE):
            done, _ = await asyncio.wait(told[511:])
        assert [answer.result() for answer in done] == [b"HTTP/1.1 429"] * 9
        assert not any(answer.done() for answer in told[:511])
        assert (await served.client.get("/healthz")).status_code == 200
        for _, writer in mine:
            writer.transport.abort()
        await asyncio.wait(told)
        for answer in told:
            answer.exception()


async def test_rates_are_limited_and_told(shared_etcd: Etcd, tmp_path: Path) -> None:
    """Who asks too often is told when to come back, sooner where passwords are tried; the metrics count it."""
    async with gateway(shared_etcd, tmp_path, SHOP_GATEWAY_RATE="1", SHOP_GATEWAY_BURST="100") as served:
        login = {"login": "ada", "password": "wrong"}
        tried = [await served.client.post("/v1/users:login", json=login) for _ in range(40)]
        limited = [answer for answer in tried if answer.status_code == 429]
        assert limited
        assert all(answer.headers["retry-after"] == "1" for answer in limited)
        assert all(answer.json()["code"] == 8 for answer in limited)
        assert (await served.client.get("/v1/products")).status_code == 503  # nobody is behind it, but it is asked
        asked = await asyncio.gather(*(served.client.get("/v1/nothing") for _ in range(300)))
        assert {answer.status_code for answer in asked} == {404, 429}
        metrics = (await served.client.get("/metrics")).text
        assert "shop_gateway_concurrency_limit " in metrics
        [line] = [line for line in metrics.splitlines() if line.startswith("shop_gateway_rate_limited_total ")]
        refused = len(limited) + sum(1 for answer in asked if answer.status_code == 429)
        assert float(line.split()[1]) == refused
