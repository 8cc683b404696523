"""Whole processes: a server that is told to stop, one that is killed, and `meshctl`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from itertools import groupby

import pytest

from tests.elapsed import measured
from tests.integration.registry.conftest import CALM, Connect, lease_of
from tests.servers import Etcd
from tests.watching import ids, until

SERVER = (
    CALM
    + """
import asyncio, sys
import grpc, grpc_registry

async def main(url, ttl="30", patience="3", propagation="0.2"):
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    instance = grpc_registry.Instance("product", f"127.0.0.1:{port}", id="a")
    async with grpc_registry.connect(url, ttl=int(ttl), close_timeout=float(patience)) as registry:
        watch = registry.watch("product")
        await anext(watch)
        async with grpc_registry.serving(server, registry, instance, propagation_delay=float(propagation)) as lifecycle:
            await lifecycle.registrations[0].wait_registered()
            print("ready", flush=True)
            await lifecycle.wait()
        print("stopped", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
)

MESHCTL = ("-c", f"{CALM}import sys; from grpc_registry.cli import main; sys.exit(main())")

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts Python programs as a developer would who wants to hear of every warning; none outlives the test."""
    started = []

    async def run(*arguments: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", "-W", "error", *arguments, stdout=PIPE, stderr=PIPE
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    text = await asyncio.wait_for(process.stdout.readline(), 60)
    assert text, "the process has ended"
    return text.decode().strip()


async def history(server: Etcd, key: str) -> list[str]:
    """The states that the instance at `key` has been in, one after another; "gone" while there was none.

    From what etcd remembers: a watch may leave out what did not last.
    """
    shown = json.loads(await asyncio.to_thread(server.ctl, "get", key, "-w", "json"))
    states = []
    for revision in range(1, shown["header"]["revision"] + 1):
        value = await asyncio.to_thread(server.ctl, "get", key, f"--rev={revision}", "--print-value-only")
        states.append(json.loads(value)["Metadata"]["state"] if value else "gone")
    return [state for state, _ in groupby(states)]


async def test_a_server_that_is_told_to_stop(own: Connect, etcd: Etcd, start: Start) -> None:
    """SIGTERM drains: the instance is draining, then gone; the process ends with 0 and nothing to complain about."""
    server = await start("-c", SERVER, etcd.url)
    assert await line(server) == "ready"
    async with own() as reader, aclosing(reader.watch("product")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        lease = await lease_of(etcd, "mesh/product/a")
        server.send_signal(signal.SIGTERM)
        await until(watch, lambda snapshot: ids(snapshot) == [])
    assert await history(etcd, "mesh/product/a") == ["gone", "serving", "draining", "gone"]
    output, errors = await asyncio.wait_for(server.communicate(), 60)
    assert (server.returncode, output, errors) == (0, b"stopped\n", b"")
    assert f"{lease:x}" not in await asyncio.to_thread(etcd.ctl, "lease", "list")


async def test_a_server_that_is_told_to_stop_while_etcd_is_away(etcd: Etcd, start: Start) -> None:
    """The drain goes on without the registry, in bounded time, and ends with 0."""
    server = await start("-c", SERVER, etcd.url)
    assert await line(server) == "ready"
    await asyncio.to_thread(etcd.kill)
    server.send_signal(signal.SIGTERM)
    output, _ = await asyncio.wait_for(server.communicate(), 60)
    assert (server.returncode, output) == (0, b"stopped\n")


async def test_a_second_signal_does_not_wait_for_etcd(etcd: Etcd, start: Start) -> None:
    """Told twice, the process ends at once, even though etcd is away: it would take its two minutes otherwise."""
    loud = "import logging, sys; logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s')\n"
    server = await start("-c", loud + SERVER, etcd.url, "30", "60", "60")
    while await line(server) != "ready":
        continue
    await asyncio.to_thread(etcd.kill)
    server.send_signal(signal.SIGTERM)
    while await line(server) != "draining":  # or both signals could be one
        continue
    server.send_signal(signal.SIGTERM)
    await asyncio.wait_for(server.communicate(), 30)
    assert server.returncode == 0


async def test_a_server_that_is_killed(own: Connect, etcd: Etcd, start: Start) -> None:
    """After kill -9 the instance is gone within its TTL and what etcd needs to look."""
    server = await start("-c", SERVER, etcd.url, "2")
    assert await line(server) == "ready"
    async with own() as reader, aclosing(reader.watch("product")) as watch, measured() as elapsed:
        await until(watch, lambda snapshot: ids(snapshot) == ["a"])
        began = elapsed.seconds
        server.kill()
        await until(watch, lambda snapshot: ids(snapshot) == [])
        assert elapsed.seconds - began < 4


async def test_meshctl_lists_edits_and_watches(etcd: Etcd, start: Start) -> None:
    """The commands of the design work against etcd as a shell runs them."""
    server = await start("-c", SERVER, etcd.url, "30", "3", "60")
    assert await line(server) == "ready"
    meshctl = (*MESHCTL, "--registry", etcd.url)
    watching = await start(*meshctl, "watch", "-o", "json")
    first = json.loads(await line(watching))
    assert (first["event"], first["service"], first["id"]) == ("added", "product", "a")
    for arguments, expected in (
        (("weight", "product", "a", "7"), {"event": "changed", "weight": 7, "state": "serving"}),
        (("drain", "product", "a"), {"event": "changed", "weight": 7, "state": "draining"}),
        (("undrain", "product", "a"), {"event": "changed", "weight": 7, "state": "serving"}),
    ):
        output, errors = await (await start(*meshctl, *arguments)).communicate()
        assert (output, errors) == (f"product/a: weight 7, {expected['state']}\n".encode(), b"")
        assert expected.items() <= json.loads(await line(watching)).items()
    listing = await start(*meshctl, "ls", "-o", "json")
    output, _ = await listing.communicate()
    [row] = json.loads(output)
    assert (row["weight"], row["lease_ttl"]) == (7, 30)
    server.send_signal(signal.SIGTERM)
    assert json.loads(await line(watching))["state"] == "draining"
    server.send_signal(signal.SIGTERM)  # not by itself: who looks late does not see what is over
    assert json.loads(await line(watching))["event"] == "removed"
    watching.send_signal(signal.SIGINT)
    _, errors = await watching.communicate()
    assert (watching.returncode, errors) == (130, b"")


async def test_meshctl_says_in_one_line_that_etcd_is_away(start: Start) -> None:
    """No traceback, no log: one line on stderr, and status 1."""
    process = await start(*MESHCTL, "--registry", "etcd://127.0.0.1:1", "ls")
    output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    assert re.fullmatch(rb"meshctl: etcd at 127\.0\.0\.1:1: .*Connection refused.*\n", errors)


async def test_meshctl_does_not_mind_a_reader_that_has_enough(etcd: Etcd) -> None:
    """When the other end of the pipe is closed (`| head -1`), it ends with 0 and without a complaint."""
    await asyncio.to_thread(etcd.ctl, "put", "mesh/product/0", '{"Addr":"10.0.0.1:1"}')
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *MESHCTL, "--registry", etcd.url, "watch", stdout=writing, stderr=PIPE
    )
    os.close(writing)
    with os.fdopen(reading) as reader:
        first = await asyncio.wait_for(asyncio.to_thread(reader.readline), 60)
    assert first == "added   service=product  id=0  address=10.0.0.1:1  weight=100  state=serving\n"
    await asyncio.to_thread(etcd.ctl, "put", "mesh/product/1", '{"Addr":"10.0.0.1:1"}')
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, errors) == (0, b"")
