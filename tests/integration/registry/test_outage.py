"""The outage contract against an etcd that is killed, frozen, wiped and compacted."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

import pytest

import grpc_registry
from grpc_registry import Instance, State
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.integration.registry.conftest import Connect, crash
from tests.servers import Etcd, free_port
from tests.watching import ids, until


async def test_what_changed_during_a_long_outage_is_known_soon(own: Connect, etcd: Etcd) -> None:
    """After a kill -9 that outlasted every lease, who started meanwhile and who went on is there within 5 s of etcd's
    return, and who crashed is gone as soon as its lease, which etcd revives with its full time, has ended."""
    async with (
        own(ttl=2) as survivor,
        own(ttl=2) as victim,
        own(ttl=2) as newcomer,
        own() as reader,
        aclosing(reader.watch("product")) as watch,
    ):
        stays = survivor.register(Instance("product", "10.0.0.1:1", id="stays"))
        victim.register(Instance("product", "10.0.0.1:2", id="victim"))
        await until(watch, lambda snapshot: ids(snapshot) == ["stays", "victim"])
        lease = survivor._session.lease  # type: ignore[attr-defined]
        await asyncio.to_thread(etcd.kill)
        async with measured() as elapsed:
            assert ids(await until(watch, lambda snapshot: snapshot.stale)) == ["stays", "victim"]
            assert elapsed.seconds < 2  # 0.1 s as a rule; a ping, which finds out too, takes 14 s
        await crash(victim)
        starts = newcomer.register(Instance("product", "10.0.0.1:3", id="starts"))
        async with asyncio.timeout(30):
            await survivor._session.until_lost(lease)  # type: ignore[attr-defined]
        assert not stays.registered
        await asyncio.to_thread(etcd.start)
        async with measured() as elapsed:
            known = await until(watch, lambda snapshot: {"stays", "starts"} <= {*ids(snapshot)})
            assert not known.stale
            await asyncio.gather(stays.wait_registered(), starts.wait_registered())
            if ids(known) != ["starts", "stays"]:  # or the victim's lease has ended already
                await until(watch, lambda snapshot: ids(snapshot) == ["starts", "stays"])
            assert elapsed.seconds < 5


async def test_an_outage_is_two_lines_in_the_log(own: Connect, etcd: Etcd, caplog: pytest.LogCaptureFixture) -> None:
    """A process with registrations and watches that retry all the time says once that etcd is away and once that it is
    back."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "grpc_registry.backoff")
    async with own(ttl=60) as registry:
        registrations = [registry.register(Instance("product", f"10.0.0.1:{port}")) for port in (1, 2, 3)]
        await asyncio.gather(*(registration.wait_registered() for registration in registrations))
        async with aclosing(registry.watch_all()) as watch:
            await until(watch, lambda snapshot: len(snapshot.instances) == 3)
            caplog.clear()
            await asyncio.to_thread(etcd.kill)
            await until(watch, lambda snapshot: snapshot.stale)
            async with asyncio.timeout(30):
                while len([message for message in caplog.messages if "trying again" in message]) < 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(etcd.start)
            await until(watch, lambda snapshot: not snapshot.stale)
    told = [record for record in caplog.records if record.name.startswith("grpc_registry")]
    assert [record.levelname for record in told if record.levelno > logging.DEBUG] == ["WARNING", "INFO"]


async def test_a_frozen_etcd_is_noticed(own: Connect, etcd: Etcd) -> None:
    """A frozen etcd answers nothing and closes nothing: keepalive pings find out, and its thaw is noticed too."""
    async with own() as reader, aclosing(reader.watch("product")) as watch:
        await until(watch, lambda snapshot: ids(snapshot) == [])
        await asyncio.sleep(0.5)  # let the connection become idle, so that nothing but a ping can find out
        etcd.pause()
        async with measured() as elapsed:
            await until(watch, lambda snapshot: snapshot.stale, seconds=40)
            assert elapsed.seconds < 14 + 2 + 1  # the ping, one attempt at a list, and some slack
        etcd.resume()
        await until(watch, lambda snapshot: not snapshot.stale)


async def test_a_wiped_store_is_filled_again(own: Connect, etcd: Etcd) -> None:
    """Owners notice that the store lost their lease and register again, with their edits, and watchers that it went
    back."""
    async with own() as registry, own() as reader, aclosing(reader.watch("product")) as watch:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await registration.update(weight=7)
        await until(watch, lambda snapshot: [instance.weight for instance in snapshot.instances] == [7])
        await asyncio.to_thread(etcd.kill)
        await until(watch, lambda snapshot: snapshot.stale)
        etcd.wipe()
        await asyncio.to_thread(etcd.start)
        back = await until(
            watch,
            lambda snapshot: not snapshot.stale and [instance.weight for instance in snapshot.instances] == [7],
        )
        assert back.instances == (registration.instance,)


async def test_a_wiped_store_that_grew_past_our_place_is_read_anew(own: Connect, etcd: Etcd) -> None:
    """A store that is another, and already further than we had read, is not taken for the one we knew."""
    async with own() as reader, aclosing(reader.watch("product")) as watch:
        await asyncio.to_thread(etcd.ctl, "put", "mesh/product/old", '{"Addr":"10.0.0.1:1"}')
        known = await until(watch, lambda snapshot: ids(snapshot) == ["old"])
        await asyncio.to_thread(etcd.kill)
        await until(watch, lambda snapshot: snapshot.stale)
        etcd.wipe()
        await asyncio.to_thread(etcd.start)
        await asyncio.to_thread(etcd.ctl, "put", "mesh/product/new", '{"Addr":"10.0.0.1:2"}')
        for number in range(known.revision):
            await asyncio.to_thread(etcd.ctl, "put", "unrelated", str(number))
        fresh = await until(watch, lambda snapshot: ids(snapshot) == ["new"])
        assert fresh.relisted


async def test_a_compacted_store_is_read_anew(etcd: Etcd) -> None:
    """Changes that were made and compacted while a watcher was cut off are found by its next list."""
    cable = Proxy(etcd.port)
    cable.port = free_port()  # which it keeps
    await cable.start()
    try:
        url = f"etcd://127.0.0.1:{cable.port}"
        async with grpc_registry.connect(url) as reader, aclosing(reader.watch("product")) as watch:
            await asyncio.to_thread(etcd.ctl, "put", "mesh/product/a", '{"Addr":"10.0.0.1:1"}')
            known = await until(watch, lambda snapshot: ids(snapshot) == ["a"])
            await cable.stop()
            await until(watch, lambda snapshot: snapshot.stale)
            await asyncio.to_thread(etcd.ctl, "put", "mesh/product/b", '{"Addr":"10.0.0.1:2"}')
            await asyncio.to_thread(etcd.ctl, "del", "mesh/product/a")
            await asyncio.to_thread(etcd.ctl, "compact", str(known.revision + 2))
            await cable.start()
            await until(watch, lambda snapshot: ids(snapshot) == ["b"])
    finally:
        await cable.stop()


async def test_a_drain_by_an_operator_survives_a_lost_lease(own: Connect, etcd: Etcd) -> None:
    """What was edited before an outage is still so when the owner has registered again under another lease."""
    async with own(ttl=2) as registry, own() as operator, aclosing(operator.watch("product")) as watch:
        registration = registry.register(Instance("product", "10.0.0.1:1", id="a"))
        await registration.wait_registered()
        await operator.edit("product", "a", state=State.DRAINING)
        await registration.update(weight=7)  # when this is written, the owner has seen the edit
        await until(watch, lambda snapshot: [one.weight for one in snapshot.instances] == [7])
        await asyncio.to_thread(etcd.kill)
        etcd.wipe()
        await asyncio.to_thread(etcd.start)
        back = await until(watch, lambda snapshot: ids(snapshot) == ["a"] and not snapshot.stale)
        assert back.instances[0].state is State.DRAINING


async def test_leaving_waits_a_little_for_an_etcd_that_comes_back(own: Connect, etcd: Etcd) -> None:
    """An instance that stops during an outage is removed if etcd returns within the time that closing may take."""
    async with own() as reader:
        async with own(close_timeout=40) as registry:
            await registry.register(Instance("product", "10.0.0.1:1", id="a")).wait_registered()
            await asyncio.to_thread(etcd.kill)
            returning = asyncio.create_task(asyncio.to_thread(etcd.start))
        await returning
        assert await reader.list() == []
