"""How often the source is asked, and who shares the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import partial

import pytest

from shop_services.caching.copies import Copy
from shop_services.runtime.errors import Unavailable
from tests.unit.services.caching.sources import Faulty, Follower, Source, reading
from tests.unit.services.caching.virtual_time import in_virtual_time, now, timed


@in_virtual_time
async def test_a_thousand_misses_at_a_time_are_one_load() -> None:
    """All who miss one key at one moment get the answer to one question."""
    source = Source()
    source.change("a")
    async with reading(Follower(source), Faulty()) as texts:
        copies = await asyncio.gather(*(texts.get("a", partial(source.load, "a")) for _ in range(1000)))
        assert {copy.value for copy in copies} == {"a of 1"}
        assert source.loads == [["a"]]
        assert (texts.counts().loads, texts.counts().waits) == (1, 999)


@in_virtual_time
async def test_processes_that_miss_at_a_time_load_once_in_all() -> None:
    """Of four processes with a thousand readers one asks the source, and the others find what it stored."""
    source, shared = Source(seconds=0.1), Faulty()
    source.change("a")
    processes = [reading(Follower(source), shared, seed=seed) for seed in range(4)]
    reads = [texts.get("a", partial(source.load, "a")) for texts in processes for _ in range(250)]
    copies, seconds = await timed(asyncio.gather(*reads))
    assert {copy.value for copy in copies} == {"a of 1"}
    assert source.loads == [["a"]]
    assert seconds < 0.14
    await asyncio.gather(*(texts.__aexit__() for texts in processes))


@in_virtual_time
async def test_processes_wait_no_longer_than_their_patience_for_a_slow_one() -> None:
    """If the load of the one takes too long, each of the others loads once itself."""
    source, shared = Source(seconds=5.0), Faulty()
    processes = [reading(Follower(source), shared, seed=seed) for seed in range(4)]
    reads = [texts.get("a", partial(source.load, "a")) for texts in processes for _ in range(250)]
    _, seconds = await timed(asyncio.gather(*reads))
    assert len(source.loads) == 4
    assert seconds <= 0.3 + 5.0 + 0.001
    await asyncio.gather(*(texts.__aexit__() for texts in processes))


@in_virtual_time
async def test_the_lock_of_a_dead_process_ends_by_itself() -> None:
    """One reader waits for it as long as its patience; the next one finds no lock any more."""
    source, shared = Source(), Faulty()
    dead = reading(Follower(source), shared)
    shared.deaf = True  # it cannot take the lock away any more
    lost = asyncio.create_task(dead.get("b", partial(source.load, "b")))
    await asyncio.sleep(0.01)
    await dead.__aexit__()
    with pytest.raises(Unavailable, match="texts: reading has ended"):
        await lost
    shared.deaf = False
    async with reading(Follower(source), shared) as texts:
        assert await shared.exists("lock:b")
        _, seconds = await timed(texts.get("b", partial(source.load, "b")))
        assert seconds <= 0.3 + source.seconds
        await texts.forget("b")
        _, seconds = await timed(texts.get("b", partial(source.load, "b")))
        assert seconds < 0.003 + source.seconds


@in_virtual_time
async def test_a_lock_that_has_ended_is_not_taken_from_its_next_owner() -> None:
    """Whoever is slower than its lock leaves that of another process alone."""
    slow, quick, shared = Source(seconds=0.5), Source(seconds=0.25), Faulty()
    async with (
        reading(Follower(slow), shared, seed=1) as first,
        reading(Follower(quick), shared, seed=2) as second,
        reading(Follower(quick), shared, seed=3) as third,
    ):
        one = asyncio.create_task(first.get("a", partial(slow.load, "a")))
        await asyncio.sleep(0.35)  # its lock ended at 0.3
        two = asyncio.create_task(second.get("a", partial(quick.load, "a")))
        await one
        await asyncio.sleep(0.002)
        assert await shared.exists("lock:a")
        await shared.delete("a")
        await third.get("a", partial(quick.load, "a"))
        await two
        assert len(quick.loads) == 1


@in_virtual_time
async def test_a_reader_who_leaves_takes_nothing_from_the_others() -> None:
    """The one who began the flight may be cancelled, and so may all: the load ends, and its copy is kept."""
    source = Source()
    async with reading(Follower(source), Faulty()) as texts:
        first, second = (asyncio.create_task(texts.get("a", partial(source.load, "a"))) for _ in range(2))
        await asyncio.sleep(0.005)
        first.cancel()
        assert (await second).value is None
        alone = asyncio.create_task(texts.get("b", partial(source.load, "b")))
        await asyncio.sleep(0.005)
        alone.cancel()
        await asyncio.sleep(1.0)
        assert (await timed(texts.get("b", partial(source.load, "b"))))[1] == 0
    assert source.loads == [["a"], ["b"]]


@in_virtual_time
async def test_an_error_of_the_source_is_for_all_who_wait_and_for_nobody_later() -> None:
    """Ten readers get the error of one load; the next reader asks anew, at once."""
    source, shared = Source(), Faulty()
    async with reading(Follower(source), shared) as texts, reading(Follower(source), shared, seed=2) as other:
        source.error = ConnectionError("the source is away")
        reads = [texts.get("a", partial(source.load, "a")) for _ in range(10)]
        errors = await asyncio.gather(*reads, return_exceptions=True)
        assert {str(error) for error in errors} == {"the source is away"}
        assert len(source.loads) == 1
        source.error = None
        await asyncio.sleep(0.01)
        _, seconds = await timed(other.get("a", partial(source.load, "a")))
        assert seconds < 0.003 + source.seconds  # the lock is free
        assert texts.counts().load_errors == 1


@in_virtual_time
async def test_an_error_without_anybody_to_hear_it_is_no_warning() -> None:
    """A load that fails after its readers left ends quietly (asyncio would warn of an exception never retrieved)."""
    source = Source()
    source.error = ConnectionError("the source is away")
    async with reading(Follower(source), None) as texts:
        reader = asyncio.create_task(texts.get("a", partial(source.load, "a")))
        await asyncio.sleep(0.005)
        reader.cancel()
        await asyncio.sleep(0.1)
        assert texts.counts().load_errors == 1


@in_virtual_time
async def test_nobody_gets_an_answer_to_a_question_older_than_what_they_know() -> None:
    """Those who came before a change share the first load; a thousand who come after it share a second one."""
    source, shared = Source(seconds=0.1), Faulty()
    follower = Follower(source)
    source.change("a")
    async with reading(follower, shared) as texts:
        before = [asyncio.create_task(texts.get("a", partial(source.load, "a"))) for _ in range(10)]
        await asyncio.sleep(0.07)  # the source was read at 0.05
        source.change("a")
        follower.catch_up()
        after = [asyncio.create_task(texts.get("a", partial(source.load, "a"))) for _ in range(1000)]
        assert {copy.value for copy in await asyncio.gather(*after)} == {"a of 2"}
        assert {(await read).value for read in before} <= {"a of 1", "a of 2"}
        assert len(source.loads) == 2


@in_virtual_time
async def test_nobody_joins_a_flight_from_before_a_put_or_a_forget() -> None:
    """The flight's readers get what it brings, and it is kept nowhere, though nothing else tells what is current."""
    source, shared = Source(seconds=0.1), Faulty()
    source.change("a")
    async with reading(Follower(source), shared) as texts, reading(Follower(source), shared) as other:
        early = asyncio.create_task(texts.get("a", partial(source.load, "a")))
        await asyncio.sleep(0.07)
        source.change("a")
        await texts.forget("a")
        late = asyncio.create_task(texts.get("a", partial(source.load, "a")))
        assert ((await early).value, (await late).value) == ("a of 1", "a of 2")
        early = asyncio.create_task(texts.get("b", partial(source.load, "b")))
        await asyncio.sleep(0.07)
        source.change("b")
        await texts.put("b", source.copy("b"))
        await early
        await asyncio.sleep(0.1)
        for key, value in (("a", "a of 2"), ("b", "b of 3")):
            for process in (texts, other):
                assert (await process.get(key, partial(source.load, key))).value == value


@in_virtual_time
async def test_what_a_refresh_brings_is_not_kept_after_a_forget() -> None:
    """A forget during an early refresh, at whichever moment of it, leaves no copy from before it."""
    for moment in range(0, 120, 5):
        source, shared = Source(seconds=0.1), Faulty()
        source.change("a")
        async with reading(Follower(source), shared, ttl=1.0) as texts:
            await texts.get("a", partial(source.load, "a"))
            while not texts.counts().refreshes:
                await asyncio.sleep(0.01)
                await texts.get("a", partial(source.load, "a"))
            await asyncio.sleep(moment / 1000)
            source.change("a")
            await texts.forget("a")
            assert (await texts.get("a", partial(source.load, "a"))).value == "a of 2"
            await asyncio.sleep(0.2)
            assert (await texts.get("a", partial(source.load, "a"))).value == "a of 2"


@in_virtual_time
async def test_what_a_refresh_finds_is_not_kept_after_a_forget() -> None:
    """A copy that another process refreshed is not taken over if its key was forgotten during the look for it."""
    source, shared = Source(), Faulty()
    source.change("a")
    async with reading(Follower(source), shared, ttl=1.0) as texts, reading(Follower(source), shared) as other:
        await texts.get("a", partial(source.load, "a"))
        await asyncio.sleep(0.5)
        await other.put("a", source.copy("a"))
        shared.seconds = 0.01
        while not texts.counts().refreshes:
            await asyncio.sleep(0.01)
            await texts.get("a", partial(source.load, "a"))
        await asyncio.sleep(0.005)
        source.change("a")
        await texts.forget("a")
        assert (await texts.get("a", partial(source.load, "a"))).value == "a of 2"


@in_virtual_time
async def test_reads_of_many_keys_and_of_one_join_each_other() -> None:
    """A key that is on its way is loaded by neither a second time."""
    source = Source(seconds=0.1)
    async with reading(Follower(source), Faulty()) as texts:
        await asyncio.gather(
            texts.get("a", partial(source.load, "a")),
            texts.get_many(["a", "b", "c"], source.load_many),
            texts.get_many(["b", "c", "d", "a"], source.load_many),
            texts.get("d", partial(source.load, "d")),
        )
    assert sorted(source.loads) == [["a"], ["b", "c"], ["d"]]


@in_virtual_time
async def test_a_load_that_takes_too_long_is_given_up() -> None:
    """After `load_timeout` all who wait get `Unavailable`, by name; a timeout of the source is its own."""
    source = Source(seconds=100.0)
    async with reading(Follower(source), Faulty(), load_timeout=2.0) as texts:
        began = now()
        for outcome in await asyncio.gather(
            *(texts.get("a", partial(source.load, "a")) for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(outcome, Unavailable)
            assert str(outcome) == "texts: the source took more than 2 s"
        assert now() - began < 2.01
        source.seconds, source.error = 0.01, TimeoutError("its own")
        with pytest.raises(TimeoutError, match="its own"):
            await texts.get("a", partial(source.load, "a"))


@in_virtual_time
async def test_a_load_that_leaves_out_a_key_is_an_error() -> None:
    """The error names the key; nobody waits for ever for it."""

    async def load(keys: Sequence[str]) -> Mapping[str, Copy[str]]:
        return {"a": Copy("text", 1)}

    async with reading(Follower(Source()), Faulty()) as texts:
        with pytest.raises(LookupError, match="texts: a load of 2 keys did not answer for 'b'"):
            await texts.get_many(["a", "b"], load)


@in_virtual_time
async def test_leaving_ends_all_tasks_and_leaves_nobody_waiting() -> None:
    """Readers, and what goes on in the background, end when the block is left."""
    source, shared = Source(seconds=100.0), Faulty()
    texts = reading(Follower(source), shared)
    async with texts:
        readers = [asyncio.create_task(texts.get(key, partial(source.load, key))) for key in "abc"]
        await asyncio.sleep(0.1)
        readers.append(asyncio.create_task(texts.get("d", partial(source.load, "d"))))
        await asyncio.sleep(0)  # this flight's task has not even begun
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(outcome, Unavailable)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert repr(texts) == "<ReadThrough texts: 0 in flight, 0 being refreshed>"
    assert not await shared.exists("lock:a")


@in_virtual_time
async def test_nothing_begins_after_leaving() -> None:
    """A copy that is there is still read, even one that is due for a refresh; the source is not asked any more."""
    source = Source()
    source.change("a")
    async with reading(Follower(source), None, refresh_ahead=0.5) as texts:
        await texts.get("a", partial(source.load, "a"))
    await asyncio.sleep(50.0)
    assert (await texts.get("a", partial(source.load, "a"))).value == "a of 1"
    for late in (texts.get("b", partial(source.load, "b")), texts.get_many(["a", "b"], source.load_many)):
        with pytest.raises(Unavailable, match="texts: reading has ended"):
            await late
    assert source.loads == [["a"]]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_a_load_inherits_nothing_of_who_came_first() -> None:
    """Deadlines and request ids live in context variables: a load, which is for all who wait, sees none."""
    served: ContextVar[str] = ContextVar("served", default="nobody")
    seen = []

    async def load() -> Copy[str]:
        seen.append(served.get())
        return Copy("text", 1)

    async with reading(Follower(Source()), None) as texts:
        served.set("the first caller")
        await texts.get("a", load)
    assert seen == ["nobody"]
