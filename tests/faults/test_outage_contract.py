"""The outage contract, clause by clause, against real etcds.

What is promised, whatever happens to etcd:

(a) Calls between healthy services go on, none fails.
(b) While nobody can know what is registered, the last snapshot is kept, and marked stale.
(c) When it is over, everybody is registered, what changed meanwhile is known, and it stays so.
(d) A mass deletion is confirmed by connectivity before endpoints are dropped.
(e) A process that lost its lease registers again.

And where it is shown. `outlived[x]` is `test_an_outage_is_outlived` here, with x; the other files are `faults/` (of
this folder), `registry/` (integration/registry) and `client/` (integration/client).

    fault                        (a) (b) (c) (e)                    (d), and more
    ---------------------------  ---------------------------------  -------------------------------------------------
    killed                       outlived[killed]                   registry/test_outage.py (who crashed meanwhile);
                                                                    faults/test_etcd_outage.py (a whole shop)
    SIGSTOP                      outlived[frozen]                   registry/test_outage.py
    data wiped                   outlived[wiped]                    test_a_registry_that_stays_empty…,
                                                                    test_the_dead_are_dropped…, client/test_registry.py
    compacted under a watcher    test_a_compaction…                 registry/test_outage.py
    slow, but within deadlines   outlived[slow] (nothing is lost)
    too slow                     outlived[too slow]
    one way, to etcd, shut       outlived[requests lost]            test_services_that_etcd_cannot_hear…
    one way, from etcd, shut     outlived[answers lost]
    three nodes, one killed      outlived[member killed]            registry/test_cluster.py
    three nodes, leader killed   outlived[leader killed]
    three nodes, leader SIGSTOP  outlived[leader frozen]            registry/test_cluster.py (a member in use)
    three nodes, no leader left  outlived[two of three killed],     registry/test_cluster.py
                                 outlived[two of three frozen]
    three nodes, wiped           outlived[all three wiped]
    lease revoked, key deleted                                      registry/test_lease.py, contract/registry
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import grpc
import pytest

import grpc_registry
from grpc_balancer import Channel
from grpc_registry.etcd.naming import encode
from tests.elapsed import measured
from tests.faults.outages import (
    BACK_WITHIN,
    NAMES,
    NOTICED_WITHIN,
    SHORT_TTL,
    STARTED_WITHIN,
    Fault,
    Site,
    all_answer,
    calls,
    echo_servers,
    outlive,
    owner,
)
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import EchoServer
from tests.integration.client.load import Load
from tests.integration.client.proxy import Proxy
from tests.servers import Etcd
from tests.watching import ids, until

SLOW, TOO_SLOW = 0.4, 3.0
"""Seconds each way. An answer within 2 s is an answer."""


async def kill_all(site: Site) -> None:
    await site.kill(*site.members)


async def wipe_all(site: Site) -> None:
    await site.kill(*site.members)
    for member in site.members:
        member.wipe()


async def kill_two(site: Site) -> None:
    await site.kill(*site.members[:2])


async def kill_one(site: Site) -> None:
    await site.kill(site.members[0])


async def kill_leader(site: Site) -> None:
    await site.kill(await site.leader())


async def start(site: Site) -> None:
    await site.start()


async def freeze_all(site: Site) -> None:
    for member in site.members:
        member.pause()


async def freeze_two(site: Site) -> None:
    for member in site.members[:2]:
        member.pause()


async def freeze_leader(site: Site) -> None:
    (await site.leader()).pause()


async def thaw(site: Site) -> None:
    for member in site.members:
        member.resume()


def be_slow(delay: float) -> Callable[[Site], Awaitable[None]]:
    async def act(site: Site) -> None:
        for proxy in site.proxies:
            proxy.there.delay = proxy.back.delay = delay

    return act


async def lose_requests(site: Site) -> None:
    for proxy in site.proxies:
        proxy.there.freeze()


async def lose_answers(site: Site) -> None:
    for proxy in site.proxies:
        proxy.back.freeze()


async def lose_nothing(site: Site) -> None:
    for proxy in site.proxies:
        proxy.thaw()


FAULTS = {
    "killed": Fault(kill_all, start),
    "frozen": Fault(freeze_all, thaw),
    "wiped": Fault(wipe_all, start),
    "slow": Fault(be_slow(SLOW), be_slow(0.0), proxied=True, away=False),
    "too slow": Fault(be_slow(TOO_SLOW), be_slow(0.0), proxied=True),
    "requests lost": Fault(lose_requests, lose_nothing, proxied=True, heard=True),
    "answers lost": Fault(lose_answers, lose_nothing, proxied=True),
    "member killed": Fault(kill_one, start, members=3, away=False),
    "leader killed": Fault(kill_leader, start, members=3, away=False),
    "leader frozen": Fault(freeze_leader, thaw, members=3, away=False),
    "two of three killed": Fault(kill_two, start, members=3),
    "two of three frozen": Fault(freeze_two, thaw, members=3),
    "all three wiped": Fault(wipe_all, start, members=3),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """What became of each outage. They are all gone through at once: most of the time they wait for pings."""

    async def go_through() -> list[BaseException | None]:
        outages = (outlive(fault, tmp_path_factory.mktemp("outage")) for fault in FAULTS.values())
        return await asyncio.gather(*outages, return_exceptions=True)

    return dict(zip(FAULTS, asyncio.run(go_through()), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_is_outlived(outcomes: dict[str, BaseException | None], fault: str) -> None:
    """No call fails, the snapshot is marked stale if it may be, and all are registered again when it is over."""
    if (broken := outcomes[fault]) is not None:
        raise broken


async def test_a_compaction_under_a_stale_watcher_hides_nothing(etcd: Etcd) -> None:
    """What changed and was compacted while a client was cut off is known when it is back; no call fails meanwhile."""
    proxy = await Proxy(etcd.port).start()
    async with (
        echo_servers(*NAMES, "new") as servers,
        owner(etcd.url, servers[0], SHORT_TTL) as (_, leaving),
        owner(etcd.url, servers[1], SHORT_TTL),
        owner(etcd.url, servers[2], SHORT_TTL),
        grpc_registry.connect(f"etcd://127.0.0.1:{proxy.port}") as reader,
        Channel("echo", reader) as channel,
        aclosing(reader.watch("echo")) as watch,
    ):
        await all_connected(channel)
        async with calls(channel) as load:
            await proxy.stop()
            async with measured() as elapsed:
                cut_off = await until(watch, lambda known: known.stale, seconds=NOTICED_WITHIN)
                assert elapsed.seconds < 5  # a connection that ends is noticed at once, a ping takes 14 s
            assert ids(cut_off) == NAMES
            await leaving.close()
            async with owner(etcd.url, servers[3], SHORT_TTL):
                for number in range(20):
                    await asyncio.to_thread(etcd.ctl, "put", "unrelated", str(number))
                revision = (await asyncio.to_thread(etcd.ctl, "get", "unrelated", "-w", "fields")).split(
                    '"Revision" : '
                )[1]
                await asyncio.to_thread(etcd.ctl, "compact", revision.split()[0])
                await all_answer(load, *NAMES)  # the one that left still runs, and nobody has told the client
                await proxy.start()
                back = await until(watch, lambda known: not known.stale, seconds=BACK_WITHIN)
                assert ids(back) == ["new", "s1", "s2"]
                assert back.relisted
                await until_repr(channel, "3 of 3 ready")
                await all_answer(load, "new", "s1", "s2")
        assert load.errors == []
    await proxy.stop()


async def put_by_hand(etcd: Etcd, server: EchoServer) -> None:
    """Register `server`, with nobody who would do so again."""
    await asyncio.to_thread(etcd.ctl, "put", f"mesh/echo/{server.name}", encode(server.instance()).decode())


async def wiped(etcd: Etcd) -> None:
    await asyncio.to_thread(etcd.kill)
    etcd.wipe()
    await asyncio.to_thread(etcd.start)


async def until_repr(channel: Channel, text: str) -> None:
    """Return once `text` is in the channel's repr."""
    async with asyncio.timeout(STARTED_WITHIN):
        while text not in repr(channel):
            await channel._dispatcher.change()


async def end(servers: Sequence[EchoServer], load: Load, channel: Channel, text: str) -> None:
    """Stop `servers`, and return once `text` is in the channel's repr.

    gRPC's core cancels, or cuts off, a call that reaches a server just as that begins to stop: one at each may fail so,
    as there is no retry policy here that would repeat it. That is forgotten, and nothing else.
    """
    before = len(load.errors)
    for server in servers:
        await server.stop(1)
    await until_repr(channel, text)
    await load.more(1)  # one call comes after the other: what has met a server as it stopped is over by now
    cut_off = load.errors[before:]
    assert len(cut_off) <= len(servers), cut_off
    assert {error.code() for error in cut_off} <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}, cut_off
    del load.errors[before:]


async def test_a_registry_that_stays_empty_takes_no_living_endpoint_away(etcd: Etcd) -> None:
    """After a wipe nobody is registered any more: who has a connection serves on, and who loses it is dropped."""
    async with (
        echo_servers(*NAMES) as servers,
        grpc_registry.connect(etcd.url) as reader,
        Channel("echo", reader) as channel,
        aclosing(reader.watch("echo")) as watch,
    ):
        for server in servers:
            await put_by_hand(etcd, server)
        await all_connected(channel)
        await until(watch, lambda known: ids(known) == NAMES)
        async with calls(channel) as load:
            await wiped(etcd)
            empty = await until(watch, lambda known: ids(known) == [] and not known.stale)
            assert empty.relisted
            await all_answer(load, *NAMES)
            await put_by_hand(etcd, servers[0])  # as a wiped registry fills: one by one
            await until(watch, lambda known: ids(known) == ["s0"])
            await all_answer(load, *NAMES)
            await end(servers[1:2], load, channel, "2 of 2 ready")
            await all_answer(load, "s0", "s2")
        assert load.errors == []


async def test_services_that_etcd_cannot_hear_are_called_as_before(etcd: Etcd) -> None:
    """Their leases end one by one, and a client that hears and is heard sees them all deleted: their connections prove
    that they live."""
    proxy = await Proxy(etcd.port).start()
    url = f"etcd://127.0.0.1:{proxy.port}"
    async with (
        echo_servers(*NAMES) as servers,
        owner(url, servers[0], SHORT_TTL),
        owner(url, servers[1], SHORT_TTL),
        owner(url, servers[2], SHORT_TTL),
        grpc_registry.connect(etcd.url) as reader,
        Channel("echo", reader) as channel,
        aclosing(reader.watch("echo")) as watch,
    ):
        await all_connected(channel)
        await until(watch, lambda known: ids(known) == NAMES)
        async with calls(channel) as load:
            proxy.there.freeze()
            gone = await until(watch, lambda known: ids(known) == [])
            assert not gone.stale
            await all_answer(load, *NAMES)
            proxy.thaw()
            await until(watch, lambda known: ids(known) == NAMES)
            await until_repr(channel, "3 of 3 ready>")
            await all_answer(load, *NAMES)
        assert load.errors == []
    await proxy.stop()


async def test_the_dead_are_dropped_when_the_registry_has_lost_them(etcd: Etcd) -> None:
    """Who died during an outage, and is not registered after it, is not waited for: the living serve alone."""
    async with (
        echo_servers(*NAMES) as servers,
        grpc_registry.connect(etcd.url) as reader,
        Channel("echo", reader) as channel,
        aclosing(reader.watch("echo")) as watch,
    ):
        for server in servers:
            await put_by_hand(etcd, server)
        await all_connected(channel)
        async with calls(channel) as load:
            await asyncio.to_thread(etcd.kill)
            await until(watch, lambda known: known.stale)
            await end(servers[1:], load, channel, "1 of 3 ready")
            etcd.wipe()
            await asyncio.to_thread(etcd.start)
            await until(watch, lambda known: ids(known) == [] and not known.stale)
            await until_repr(channel, "1 of 1 ready")
            await all_answer(load, "s0")
        assert load.errors == []
