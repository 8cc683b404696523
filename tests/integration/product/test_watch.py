"""WatchProducts over real servers, processes and databases."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from shop.product.v1 import product_pb2 as pb
from shop_services.product.feed import TAIL
from shop_services.product.position import REVISION
from shop_services.runtime.operator import OPERATOR
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.server import make_server
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import credentials_of
from tests.identity import as_operator
from tests.integration.product.shop import TIMEOUT, Call, Shop, Start, ended, take

CREATED = pb.PRODUCT_CHANGE_TYPE_CREATED
UPDATED = pb.PRODUCT_CHANGE_TYPE_UPDATED
DELETED = pb.PRODUCT_CHANGE_TYPE_DELETED


async def test_a_watcher_sees_each_change_with_the_product_as_it_was(shop: Shop) -> None:
    """Created and updated show the product after the change, deleted as it last was; earlier changes do not come."""
    await shop.create("BEFORE")
    call = await shop.watch()
    created = await shop.create("PEN-1")
    updated = await shop.update(created.id, name="Biro")
    await shop.delete(created.id)
    changes = await take(call, 3)
    assert [(change.type, change.product) for change in changes] == [
        (CREATED, created),
        (UPDATED, updated),
        (DELETED, updated),
    ]
    assert [change.revision for change in changes] == [2, 3, 4]


async def test_what_changes_nothing_is_no_change(shop: Shop) -> None:
    """Failed calls, repetitions and updates to the same values are not streamed, and leave no gap in the revisions."""
    call = await shop.watch()
    product = await shop.create("PEN-1", request_id="r1")
    await shop.create("PEN-1", request_id="r1")
    await shop.update(product.id, name=product.name)
    for failing in (shop.create("PEN-1"), shop.update(product.id, name="x", etag="old"), shop.delete("nothing")):
        with pytest.raises(grpc.aio.AioRpcError):
            await failing
    await shop.delete(product.id)
    assert [(change.revision, change.type) for change in await take(call, 2)] == [(1, CREATED), (2, DELETED)]


async def test_changes_of_another_instance_are_seen(start: Start) -> None:
    """Two instances know nothing of each other but the database, and show the same changes."""
    one, two = await start(), await start()
    calls = [await one.watch(), await two.watch()]
    await one.create("A")
    await two.create("B")
    for call in calls:
        assert [change.product.sku for change in await take(call, 2)] == ["A", "B"]


async def test_a_category_shows_its_own_changes(shop: Shop) -> None:
    """A change is shown to those who watch the category that the product is in after it; when deleted, was in."""
    books = await shop.watch(category="books")
    pens = await shop.watch(category="pens")
    one = await shop.create("A", category="books")
    await shop.update(one.id, category="pens")
    await shop.delete(one.id)
    await shop.create("B", category="books")
    assert [(change.type, change.revision) for change in await take(books, 2)] == [(CREATED, 1), (CREATED, 4)]
    assert [(change.type, change.revision) for change in await take(pens, 2)] == [(UPDATED, 2), (DELETED, 3)]


async def test_a_broken_stream_goes_on_where_it_ended(start: Start) -> None:
    """After a break, at another instance, the changes after the given revision come, those made meanwhile included."""
    one, two = await start(), await start()
    call = await one.watch()
    for i in range(5):
        await one.create(f"P-{i}")
    seen = await take(call, 3)
    call.cancel()
    await two.create("P-5")
    call = await two.watch(after=seen[-1].revision)
    assert [change.product.sku for change in await take(call, 3)] == ["P-3", "P-4", "P-5"]


async def test_a_stream_that_broke_before_any_change_can_go_on(shop: Shop) -> None:
    """The revision where a stream begins is in its initial metadata, so that nothing need be missed after it."""
    await shop.create("A")
    call = await shop.watch()
    begun = dict(await call.initial_metadata())
    call.cancel()
    await shop.create("B")
    call = await shop.watch(after=int(begun[REVISION]))
    assert [change.product.sku for change in await take(call, 1)] == ["B"]


async def test_changes_that_are_no_longer_kept_are_out_of_range(start: Start) -> None:
    """A revision just within what is kept is served; one before it, and one of the future, are OUT_OF_RANGE."""
    shop = await start(keep=5)
    product = await shop.create("A")
    for i in range(9):
        await shop.update(product.id, name=f"Name {i}")
    assert [change.revision for change in await take(await shop.watch(after=5), 5)] == [6, 7, 8, 9, 10]
    for after, message in ((4, "no longer kept"), (11, "no revision 11")):
        call = shop.products.WatchProducts(pb.WatchProductsRequest(after_revision=after), timeout=TIMEOUT)
        failed = await ended(call)
        assert failed.code is grpc.StatusCode.OUT_OF_RANGE
        assert message in failed.message


async def test_draining_ends_streams_cleanly(start: Start) -> None:
    """A server that drains ends its streams with UNAVAILABLE at once, and they go on at another one."""
    one, two = await start(), await start()
    call = await one.watch()
    await two.create("A")
    (change,) = await take(call, 1)
    assert one.app is not None
    await one.app.drain()
    assert (await ended(call)).code is grpc.StatusCode.UNAVAILABLE
    await two.create("B")
    again = await two.watch(after=change.revision)
    assert [change.product.sku for change in await take(again, 1)] == ["B"]


async def test_nobody_looks_when_the_last_watcher_has_left(shop: Shop) -> None:
    """The task that looks for changes runs while a client watches, and ends when it leaves."""

    def looking() -> list[asyncio.Task[object]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "catalog-changes"]

    assert looking() == []
    call = await shop.watch()
    (task,) = looking()
    call.cancel()
    await asyncio.wait_for(task, TIMEOUT)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_reader_that_is_too_slow_is_told_so(start: Start) -> None:
    """Who does not read for so long that changes are dropped gets those before them, and then OUT_OF_RANGE: no gap."""
    shop = await start(keep=20)
    async with _narrow_channel(shop) as channel:
        slow = Shop(channel)
        product = await slow.create("A")
        call = await slow.watch()
        for i in range(2 * TAIL):
            await slow.update(product.id, description=f"{i} {'x' * 2000}")
        revisions: list[int] = []
        failed = None
        while failed is None:
            try:
                revisions += [change.revision for change in await take(call, 1)]
            except grpc.aio.AioRpcError as error:
                failed = error.code()
    assert failed is grpc.StatusCode.OUT_OF_RANGE
    assert revisions == list(range(2, 2 + len(revisions)))


@asynccontextmanager
async def _narrow_channel(shop: Shop) -> AsyncIterator[grpc.aio.Channel]:
    """A channel through which only a few unread messages fit: its windows do not grow."""
    assert shop.app is not None
    assert shop.app.authority is not None
    server = make_server(shop.app)
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield OutgoingChannel(channel, None, credentials=credentials_of(OPERATOR, shop.app.authority))
    finally:
        await server.grpc.stop(None)


@asynccontextmanager
async def _process(database_url: str, data: Path) -> AsyncIterator[tuple[Shop, asyncio.subprocess.Process]]:
    """An instance in a process of its own, which would wait ten minutes for calls in progress when it drains."""
    settings = {"REGISTRY_URL": "memory://", "DATABASE_URL": database_url, "SHOP_PROPAGATION": "0", "SHOP_GRACE": "600"}
    settings["SHOP_DATA"] = str(data)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shop_services.product", env=os.environ | settings, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            async for line in process.stderr:
                if line.startswith(b"{") and (entry := json.loads(line))["event"] == "listening":
                    break
            else:
                raise AssertionError("the process ended before it listened")
        reading = asyncio.create_task(process.stderr.read())
        async with grpc.aio.insecure_channel(entry["address"]) as channel:
            yield Shop(as_operator(channel, Settings(data=data))), process
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        log, status = await asyncio.wait_for(asyncio.gather(reading, process.wait()), 30)
        assert status == 0, log.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_process_that_is_stopped_ends_its_streams_first(database_url: str, tmp_path: Path) -> None:
    """SIGTERM ends open streams with UNAVAILABLE, and the process ends well, though it would wait for them long."""
    async with _process(database_url, tmp_path) as (shop, process):
        call = await shop.watch()
        await shop.create("A")
        await take(call, 1)
        process.send_signal(signal.SIGTERM)
        assert (await ended(call)).code is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def _write(shop: Shop, name: str, count: int, made: Callable[[str, str], None]) -> None:
    draw = random.Random(name)
    mine: list[str] = []
    for i in range(count):
        kind = draw.choice("CCUUD") if mine else "C"
        if kind == "C":
            product = await shop.create(f"{name}-{i}")
            mine.append(product.id)
        elif kind == "U":
            product = await shop.update(draw.choice(mine), name=f"{name} {i}")
        else:
            product = pb.Product(id=mine.pop(draw.randrange(len(mine))))
            await shop.delete(product.id)
        made({"C": "CREATED", "U": "UPDATED", "D": "DELETED"}[kind], product.id)


async def test_every_change_of_every_process_comes_once_in_order(
    start: Start, database_url: str, tmp_path: Path
) -> None:
    """While four writers write through two processes, each watcher of each process sees every change once, in order.

    The revisions have no gap, the changes of a product come in the order in which its writer made them, and each is
    based on the state that the change before it left.
    """
    count = 30
    here = await start()
    async with _process(database_url, tmp_path) as (there, _):
        calls = [await here.watch(), await there.watch(), await here.watch(), await there.watch()]
        made: list[list[tuple[str, str]]] = [[], [], [], []]

        def note(writer: int) -> Callable[[str, str], None]:
            return lambda kind, product_id: made[writer].append((kind, product_id))

        writing = [_write((here, there)[writer % 2], f"w{writer}", count, note(writer)) for writer in range(4)]
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(take(call, 4 * count)) for call in calls]
            for work in writing:
                group.create_task(work)
        first, *others = [task.result() for task in watching]
        assert all(stream == first for stream in others)
        assert [change.revision for change in first] == list(range(1, 4 * count + 1))
        for writer in range(4):
            own = {product_id for _, product_id in made[writer]}
            seen = [
                (pb.ProductChangeType.Name(change.type).removeprefix("PRODUCT_CHANGE_TYPE_"), change.product.id)
                for change in first
                if change.product.id in own
            ]
            assert seen == made[writer]
        await _stop(calls)


async def _stop(calls: list[Call]) -> None:
    for call in calls:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
