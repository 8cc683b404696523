"""The gateway as a process: how it starts, is found, drains and ends."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.gateway.serving import DEADLINE
from tests.servers import Etcd


@dataclass(slots=True)
class Running:
    """A process of `python -m shop_services.gateway`."""

    process: asyncio.subprocess.Process
    etcd: Etcd
    prefix: str

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line of its log with this event."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            while line := await self.process.stderr.readline():
                try:
                    entry: dict[str, Any] = json.loads(line)
                except ValueError:
                    pytest.fail(line.decode())
                if entry["event"] == event:
                    return entry
        pytest.fail(f"ended without {event!r}")

    async def registered(self) -> list[dict[str, Any]]:
        """What etcd holds of the service `gateway`."""
        prefix = f"{self.prefix}/gateway/"
        text = await asyncio.to_thread(self.etcd.ctl, "get", "--prefix", prefix, "--print-value-only")
        return [json.loads(line) for line in text.split()]

    async def ended(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@asynccontextmanager
async def gateway(etcd: Etcd, **variables: str) -> AsyncIterator[Running]:
    """A gateway on an etcd, without any other service; killed in the end if it still runs."""
    prefix = f"t{secrets.token_hex(4)}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    environment = {"REGISTRY_URL": f"{etcd.url}/{prefix}", "SHOP_PORT": "0", "SHOP_PROPAGATION": "0.5", **variables}
    with tempfile.TemporaryDirectory() as data:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shop_services.gateway"),
            env={**kept, "SHOP_DATA": data, **environment},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield Running(process, etcd, prefix)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


DRAINING = "8"
"""Seconds that a gateway says that it drains before it stops: time to look, and to start `etcdctl` for that."""


async def test_it_is_registered_drains_and_ends(shared_etcd: Etcd) -> None:
    """It is found under a lease as an instance that speaks HTTP.

    After SIGTERM it says so in the registry and on /readyz, answers what was begun, takes its key away and exits with
    0.
    """
    # A body is waited for as long as a call: for longer than it drains, and than this machine may stand still.
    patient = {"SHOP_GATEWAY_TIMEOUT": "60", "SHOP_LEASE_TTL": "60"}
    async with gateway(shared_etcd, SHOP_PROPAGATION=DRAINING, **patient) as running:
        address = (await running.logged("listening"))["address"]
        async with asyncio.timeout(DEADLINE):
            while not (entries := await running.registered()):
                pass
        (entry,) = entries
        assert entry["Addr"] == address
        assert entry["Metadata"]["protocol"] == "http"
        assert entry["Metadata"]["state"] == "serving"

        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=DEADLINE) as client:
            assert (await client.get("/healthz")).status_code == 200
            ready = (await client.get("/readyz")).json()
            assert ready == {"ready": False, "missing": ["cache", "order", "product", "user"], "draining": False}

            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /v1/stock:commit HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n")  # begun
            await writer.drain()
            await client.get("/healthz")  # so the one before has been read

            running.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE):
                while not (await client.get("/readyz")).json()["draining"]:
                    pass
            states = []
            async with asyncio.timeout(DEADLINE):
                while entries := await running.registered():
                    states += [entry["Metadata"]["state"] for entry in entries]
            assert states[-1] == "draining"
            assert running.process.returncode is None  # it waits for the request that was begun
            writer.write(b'{"orderId":""}')
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 503 ")  # there is no product service to ask
        assert await running.ended() == 0
    assert await running.registered() == []


async def test_a_second_signal_ends_it_at_once(shared_etcd: Etcd) -> None:
    """A request that never ends does not keep it."""
    async with gateway(shared_etcd, SHOP_GRACE="600") as running:
        host, _, port = (await running.logged("listening"))["address"].partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/stock:commit HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n")
        await writer.drain()
        running.process.send_signal(signal.SIGTERM)
        await running.logged("draining")
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        writer.close()


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SHOP_GATEWAY_TIMEOUT", "0", "SHOP_GATEWAY_TIMEOUT: must be seconds, more than 0 and at most 60"),
        ("SHOP_GATEWAY_MAX_BODY", "4M", "SHOP_GATEWAY_MAX_BODY: '4M' is not a whole number"),
        ("REGISTRY_URL", "http://x", "REGISTRY_URL: must be a URL that begins with etcd://"),
    ],
)
async def test_a_wrong_setting_is_refused(shared_etcd: Etcd, variable: str, value: str, complaint: str) -> None:
    """It exits with 2 and one line that names the variable."""
    async with gateway(shared_etcd, **{variable: value}) as running:
        _, error = await running.process.communicate()
        assert await running.ended() == 2
    assert error.decode().startswith(f"gateway: {complaint}")
    assert error.count(b"\n") == 1


async def test_a_port_in_use_is_refused(shared_etcd: Etcd) -> None:
    """It exits with 2 and says which address it could not bind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with gateway(shared_etcd, SHOP_PORT=str(port)) as running:
            _, error = await running.process.communicate()
            assert await running.ended() == 2
    assert error.decode() == f"gateway: SHOP_PORT: cannot bind 127.0.0.1:{port}: Address already in use\n"
