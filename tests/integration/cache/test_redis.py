"""The cache's values in a Valkey that fails: reads miss, all else says so, and both work again as soon as they can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shop_services.cache.redis import CONNECTIONS, RedisValues
from shop_services.runtime.errors import ResourceExhausted, Unavailable
from tests.elapsed import measured
from tests.servers import Valkey, free_port

BOUND = 4.0
"""Seconds: longer than this machine may stand still, since a call that is answered later has failed."""
IMPATIENCE = 0.3
"""Seconds: the bound where nobody answers, and whatever succeeds later is asked for until it does."""
KINDS = ("Connection", "Timeout")
SLACK = 3.0
"""Seconds by which a busy machine may be late. Without a bound nothing would ever end here, and a crowd takes 6 s."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of the test's own, which it may kill and freeze."""
    valkey = Valkey(tmp_path / "valkey")
    try:
        yield valkey.start()
    finally:
        valkey.kill()


@pytest.fixture
async def values(server: Valkey) -> AsyncIterator[RedisValues]:
    """Values there, with one already kept."""
    opened = RedisValues(server.url, ["n"], bound=BOUND)
    await opened.set("n", "k", b"1", None)
    yield opened
    await opened.close()


@pytest.fixture
async def impatient(server: Valkey, values: RedisValues) -> AsyncIterator[RedisValues]:
    """Another front of these values, which waits for less long, and is connected."""
    opened = RedisValues(server.url, ["n"], bound=IMPATIENCE)
    assert await until_answered(opened) == b"1"
    yield opened
    await opened.close()


async def fail_in_time(values: RedisValues, bound: float = BOUND) -> None:
    """Within the bound reads miss, which is counted, and every other kind of call is `Unavailable`."""
    before = values.counts()["n"]
    calls = [
        values.set("n", "k", b"2", None),
        values.set_many("n", [("k", b"2")], 10**9),
        values.compare_and_set("n", "k", b"2", None, 1),
        values.delete("n", "k"),
        values.delete_many("n", ["k"]),
        values.clear("n"),
    ]
    async with measured() as elapsed:
        one, many, *others = await asyncio.gather(
            values.get("n", "k"), values.get_many("n", ["k", "l"]), *calls, return_exceptions=True
        )
        assert elapsed.seconds < bound + SLACK
    assert (one, many) == (None, [None, None])
    assert values.counts()["n"] == replace(before, misses=before.misses + 3)
    for outcome in others:
        assert isinstance(outcome, Unavailable)
        assert str(outcome) in {f"the Redis behind the cache is not available ({name}Error)" for name in KINDS}


async def until_answered(values: RedisValues, key: str = "k") -> bytes | None:
    """The value of `key`, asked for until there is an answer."""
    async with asyncio.timeout(30):
        while True:
            entry = await values.get("n", key)
            if "not available" not in repr(values):
                return entry.value if entry else None
            await asyncio.sleep(0.01)


async def test_a_killed_server_is_unavailable_until_it_is_back(values: RedisValues, server: Valkey) -> None:
    """Its values are gone with it, which is a miss; scripts that it has forgotten are sent again."""
    server.kill()
    await fail_in_time(values)
    assert repr(values) == "<RedisValues at 127.0.0.1, not available>"
    server.start()
    assert await until_answered(values) is None
    assert repr(values) == "<RedisValues at 127.0.0.1>"
    version = await values.set("n", "k", b"2", None)
    assert (await values.compare_and_set("n", "k", b"3", None, version)).swapped


async def test_an_idle_front_survives_a_restart(values: RedisValues, server: Valkey) -> None:
    """Connections that broke while nobody used them are noticed before a call is sent on one."""
    await asyncio.gather(*(values.get("n", "k") for _ in range(10)))
    server.kill()
    await asyncio.to_thread(server.start)
    for _ in range(10):
        assert await values.get("n", "k") is None
        assert repr(values) == "<RedisValues at 127.0.0.1>"  # a miss, and no failure


async def test_a_frozen_server_is_unavailable_until_it_goes_on(
    values: RedisValues, impatient: RedisValues, server: Valkey
) -> None:
    """Connected, but silent: calls do not wait for longer than their bound, and later answers go to nobody else."""
    server.pause()
    await fail_in_time(impatient, IMPATIENCE)
    await fail_in_time(impatient, IMPATIENCE)
    server.resume()
    await until_answered(impatient)  # perhaps None: what it heard while it was frozen it may yet do, in any order
    await values.set_many("n", [(f"k{number}", str(number).encode()) for number in range(100)], None)
    found = await asyncio.gather(*(until_answered(impatient, f"k{number}") for number in range(100)))
    assert found == [str(number).encode() for number in range(100)]


async def test_a_crowd_at_a_frozen_server_waits_no_longer(impatient: RedisValues, server: Valkey) -> None:
    """Many more calls than connections: those that wait for one have the same bound as those that have one."""
    server.pause()
    async with measured() as elapsed:
        assert set(await asyncio.gather(*(impatient.get("n", "k") for _ in range(20 * CONNECTIONS)))) == {None}
        assert elapsed.seconds < IMPATIENCE + SLACK
    server.resume()
    assert await until_answered(impatient) == b"1"


async def test_callers_who_leave_do_not_mix_up_answers(redis_url: str) -> None:
    """Calls that are cancelled at any moment leave no answer of theirs to the next call."""
    values = RedisValues(redis_url, ["n"], bound=30)
    await values.set_many("n", [(f"k{number}", str(number).encode()) for number in range(50)], None)
    for round_ in range(40):
        calls = [asyncio.ensure_future(values.get("n", f"k{number}")) for number in range(50)]
        for _ in range(round_):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, asyncio.CancelledError):
                continue
            assert not isinstance(outcome, BaseException)
            assert outcome is not None
            assert outcome.value == str(number).encode()
    await values.close()


async def test_what_is_not_there_when_the_service_starts_is_awaited(tmp_path: Path) -> None:
    """A front may start before its server."""
    server = Valkey(tmp_path / "late")
    server.port = free_port()
    values = RedisValues(server.url.replace("redis://", "valkey://"), ["n"], bound=BOUND)
    try:
        await fail_in_time(values)
        server.start()
        assert await until_answered(values) is None
    finally:
        await values.close()
        server.kill()


async def test_versions_grow_although_the_clock_is_behind_the_last_one(values: RedisValues, server: Valkey) -> None:
    """The last version given is remembered beside the values, so that a clock that is set back gives none twice."""
    ahead = (int(time.time()) + 3600) * 1_000_000
    async with Redis.from_url(server.url) as client:
        await client.set("shop:cache-version", ahead)
    assert await values.set_many("n", [("k", b"1"), ("l", b"2")], None) == [ahead + 1, ahead + 2]
    assert (await values.compare_and_set("n", "k", b"3", None, ahead + 1)).version == ahead + 3


async def test_what_others_keep_under_our_names_is_a_miss(values: RedisValues, server: Valkey) -> None:
    """A text that is no entry is not found, and gives way to one."""
    async with Redis.from_url(server.url) as client:
        await client.set("shop:cache:n:k", "short")
    assert await values.get("n", "k") is None
    assert (await values.compare_and_set("n", "k", b"1", None, 0)).swapped


async def test_a_server_without_room_says_so(values: RedisValues, server: Valkey) -> None:
    """With `maxmemory` reached and no policy to make room a set is refused by name; reading goes on."""
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", "1")
        for attempt in (
            values.set("n", "l", b"2", None),
            values.compare_and_set("n", "l", b"2", None, 0),
            values.set_many("n", [("l", b"2")], None),
        ):
            with pytest.raises(ResourceExhausted, match="the Redis behind the cache has no room"):
                await attempt
    assert await until_answered(values) == b"1"


async def test_an_answer_that_would_not_fit_is_not_gathered(values: RedisValues) -> None:
    """A gigabyte of values does not leave the server to be refused here: there is no time for it within the bound."""
    value = b"x" * 1024 * 1024
    for number in range(5):
        await values.set("n", f"k{number}", value, None)
    assert len(await values.get_many("n", [f"k{number}" for number in range(4)])) == 4
    for keys in ([f"k{number}" for number in range(5)], [f"k{number % 5}" for number in range(1000)]):
        with pytest.raises(ResourceExhausted, match="ask for fewer keys at once"):
            await values.get_many("n", keys)
