"""The examples of registry/README.md, run as they are written there."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest

import grpc_registry
from grpc_registry import Instance, Registry, Snapshot
from tests.servers import Etcd

README = Path(__file__).parents[3] / "registry" / "README.md"


@pytest.fixture
def examples(tmp_path: Path) -> list[Path]:
    """The Python blocks of the README as files, in its order."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    paths = [tmp_path / f"example{number}.py" for number in range(len(blocks))]
    for path, block in zip(paths, blocks, strict=True):
        path.write_text(block)
    return paths


async def test_the_first_two_minutes(examples: list[Path], etcd: Etcd) -> None:
    """The client of the README sees the server of the README come, drain and leave."""
    serve, look, *_ = examples
    looking = await asyncio.create_subprocess_exec(sys.executable, look, etcd.url, stdout=PIPE)
    assert looking.stdout is not None

    async def seen() -> str:
        assert looking.stdout is not None
        return (await asyncio.wait_for(looking.stdout.readline(), 60)).decode().strip()

    try:
        assert await seen() == "fresh []"
        serving = await asyncio.create_subprocess_exec(sys.executable, serve, etcd.url)
        try:
            assert re.fullmatch(r"fresh \['127\.0\.0\.1:\d+'\]", await seen())
            serving.send_signal(signal.SIGTERM)
            assert await seen() == "fresh []"
            assert await asyncio.wait_for(serving.wait(), 60) == 0
        finally:
            if serving.returncode is None:
                serving.kill()
    finally:
        looking.kill()
        await looking.communicate()


async def test_more_than_one_core(examples: list[Path], etcd: Etcd) -> None:
    """The workers of the README are four instances with ports of their own on one host; SIGTERM drains all of them."""
    async with grpc_registry.connect(etcd.url) as registry, asyncio.timeout(120):
        process = await asyncio.create_subprocess_exec(sys.executable, examples[3], etcd.url, start_new_session=True)
        try:
            workers = await instances(registry, 4)
            assert {worker.host for worker in workers} == {socket.gethostname()}
            assert len({worker.address for worker in workers}) == 4
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            await instances(registry, 0)
        finally:
            if process.returncode is None:
                process.kill()


async def instances(registry: Registry, number: int) -> tuple[Instance, ...]:
    """The instances of the demo, as soon as there are so many."""
    async with aclosing(registry.watch("demo")) as seen:
        async for known in seen:
            if isinstance(known, Snapshot) and len(known.instances) == number:
                return known.instances
    raise AssertionError


async def test_a_blocking_server(examples: list[Path], etcd: Etcd) -> None:
    """The blocking server of the README is found while it serves, and drained on SIGTERM."""
    async with grpc_registry.connect(etcd.url) as registry, asyncio.timeout(120):
        process = await asyncio.create_subprocess_exec(sys.executable, examples[2], etcd.url)
        try:
            [instance] = await instances(registry, 1)
            async with grpc.aio.insecure_channel(instance.address) as channel:
                await channel.channel_ready()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            await instances(registry, 0)
        finally:
            if process.returncode is None:
                process.kill()


async def test_testing_without_etcd(examples: list[Path]) -> None:
    """The example of an outage in memory prints what its comments say."""
    process = await asyncio.create_subprocess_exec(sys.executable, examples[4], stdout=PIPE)
    output, _ = await process.communicate()
    first, second, third = output.decode().splitlines()
    assert "id='a'" in first
    assert "stale=False" in first
    assert "id='a'" in second
    assert "stale=True" in second
    assert "instances=(), stale=False, relisted=True" in third
