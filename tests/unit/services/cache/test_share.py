"""Which keys are an instance's, and what it has lost, decided without any I/O."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_registry import Instance, Registration, Resolution, Snapshot, State, Unresolved
from shop_services.cache.domain import Entry
from shop_services.cache.neighbours import Neighbours
from shop_services.cache.share import Share
from shop_services.caching.ring import Ring

KEYS = [f"key/{number}" for number in range(60)]
ME = "me"


def instance(name: str, *, weight: int = 100, state: State = State.SERVING) -> Instance:
    return Instance("cache", f"10.0.0.1:{10_000 + sum(name.encode())}", id=name, weight=weight, state=state)


class Told:
    """A resolver that says what it is told."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Resolution] = asyncio.Queue(100)

    async def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        while True:
            yield await self.said.get()


class Connected:
    instances: tuple[Instance, ...] = ()


class Registering:
    """A registration, of which only this is asked."""

    def __init__(self) -> None:
        self.registered = False


class World:
    """A share, and all that it depends on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.version = 0
        self.connected = Connected()
        self.neighbours = Neighbours(Told(), ME)
        self.share = Share(
            ME, self.neighbours, self.connected, lambda: self.version, patience=2, clock=lambda: self.now
        )

    def be(self, *others: str, me: bool = True) -> None:
        """Let the registry list this one, or not, and let these others be connected."""
        self.neighbours.me = instance(ME) if me else None
        self.connected.instances = tuple(map(instance, others))
        self.share.look()

    def entry(self, key: str) -> Entry:
        """What is set now."""
        self.version += 1
        return Entry(key, b"", self.version)

    def lost(self, *entries: Entry) -> set[str]:
        """The keys of those that are lost."""
        return {entry.key for entry in entries if self.share.has_lost("n", entry)}


@pytest.fixture
def world() -> World:
    return World()


def owned(name: str, *of: str) -> set[str]:
    """The keys of an instance in the ring of these."""
    ring = Ring([instance(each) for each in of])
    return {key for key in KEYS if getattr(ring.owner("n", key), "id", None) == name}


def owners(share: Share) -> dict[str, str]:
    return {key: ME if (owner := share.owner("n", key)) is None else owner.id for key in KEYS}


def test_alone_or_unregistered_it_answers_for_all(world: World) -> None:
    """As long as nobody is known there is nobody to pass anything on to."""
    assert set(owners(world.share).values()) == {ME}
    world.be()
    assert set(owners(world.share).values()) == {ME}


def test_the_ring_is_of_it_and_of_those_it_is_connected_to(world: World) -> None:
    """Its owners are those that a channel would find; while it is not listed, or drains, nothing is its own."""
    world.be("a", "b")
    assert {key for key, owner in owners(world.share).items() if owner == ME} == owned(ME, ME, "a", "b")
    world.be("a", "b", me=False)
    assert ME not in owners(world.share).values()


def test_what_goes_to_a_newcomer_is_lost_and_stays_so(world: World) -> None:
    """It does not come back when the newcomer leaves; what stayed is kept throughout."""
    world.be("a")
    entries = [world.entry(key) for key in KEYS]
    world.be("a", "b")
    mine = owned(ME, ME, "a", "b")
    assert world.lost(*entries) == {entry.key for entry in entries} - mine
    world.be("a")
    assert world.lost(*entries) == {entry.key for entry in entries} - mine


def test_what_is_set_after_a_change_is_not_held_against_what_was(world: World) -> None:
    """Neither what it took over, nor what it was told to keep for others; but that is lost with the next change."""
    world.be("a", "b")
    world.be("a")
    entries = [world.entry(key) for key in KEYS]
    assert world.lost(*entries) == set()
    world.be("a", "b")
    assert world.lost(*entries) == set(KEYS) - owned(ME, ME, "a", "b")
    world.share.settled(world.share.past)
    guests = [world.entry(key) for key in owned("b", ME, "a", "b")]
    assert world.lost(*guests) == set()
    world.be("a")
    assert world.lost(*guests) == {entry.key for entry in guests}


def test_going_and_coming_back_between_two_calls_is_seen(world: World) -> None:
    """What the registry says is taken in at once: an instance that was away has lost all."""
    world.be("a")
    entries = [world.entry(key) for key in KEYS]
    for me in (None, instance(ME)):
        world.neighbours.me = me
        world.neighbours.changed()
    assert world.lost(*entries) == set(KEYS)
    assert world.share.changed.is_set()


def test_who_stood_still_has_lost_all(world: World) -> None:
    """More than its patience between two looks means that others may have had its share; less does not."""
    world.be("a")
    mine = [world.entry(key) for key in owned(ME, ME, "a")]
    world.now += 2
    world.share.look()
    assert world.lost(*mine) == set()
    world.now += 2.1
    world.share.look()
    assert world.lost(*mine) == {entry.key for entry in mine}
    assert {key for key, owner in owners(world.share).items() if owner == ME} == owned(ME, ME, "a")
    assert world.lost(*(world.entry(key) for key in owned(ME, ME, "a"))) == set()


def test_who_is_registered_again_has_lost_all(world: World) -> None:
    """Who was cut off from the registry lists itself as ever, but others may have been told that it was gone."""
    registration = Registering()
    world.neighbours.registering(cast("Registration", registration))
    registration.registered = True
    world.be("a")
    mine = [world.entry(key) for key in owned(ME, ME, "a")]
    registration.registered = False
    world.share.look()
    assert world.lost(*mine) == set()
    mine += [world.entry(key) for key in owned(ME, ME, "a")]
    registration.registered = True
    world.share.look()
    assert world.lost(*mine) == {entry.key for entry in mine}
    assert world.lost(*(world.entry(key) for key in owned(ME, ME, "a"))) == set()


def test_who_hears_late_that_it_is_registered_has_lost_nothing(world: World) -> None:
    """Callers may hear of an instance's first registration before it does itself; what they set then stays."""
    registration = Registering()
    world.neighbours.registering(cast("Registration", registration))
    world.be("a")
    mine = [world.entry(key) for key in owned(ME, ME, "a")]
    registration.registered = True
    world.share.look()
    assert world.lost(*mine) == set()


def test_the_same_again_is_no_change(world: World) -> None:
    """New objects for the same instances lose nothing."""
    world.be("a", "b")
    world.share.settled(world.share.past)
    world.be("b", "a")
    assert world.share.past == ()


def test_weights_count(world: World) -> None:
    """A change of weight is a change of the ring."""
    world.be("a")
    world.share.settled(world.share.past)
    before = owners(world.share)
    world.connected.instances = (instance("a", weight=1000),)
    assert owners(world.share) != before
    assert world.share.past


def test_what_was_looked_through_is_settled(world: World) -> None:
    """Only what was there when it began: a change meanwhile needs another look."""
    world.be("a", "b")
    seen = world.share.past
    entries = [world.entry(key) for key in KEYS]
    world.be("a")
    world.share.settled(seen)
    assert world.share.past
    assert world.lost(*entries) == set(KEYS) - owned(ME, ME, "a", "b")


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans()), min_size=1, max_size=30))
def test_an_entry_survives_only_what_left_it_its_own(rings: list[tuple[set[str], bool]]) -> None:
    """Whatever happens, and however much of it before anything is looked through, the rule is the same or stricter."""
    world = World()
    world.be("a")
    entries = [world.entry(key) for key in KEYS]
    kept = owned(ME, ME, "a")
    changed = False
    for others, me in rings:
        world.be(*sorted(others), me=me)
        now = owned(ME, *others, *([ME] if me else []))
        changed |= (others, me) != ({"a"}, True)
        kept &= now
    surviving = set(KEYS) - world.lost(*entries)
    assert surviving <= kept if changed else surviving == set(KEYS)
    if changed and len(rings) <= 5:
        assert surviving == kept
    assert len(world.share.past) <= 8


async def test_neighbours_are_all_but_this_one() -> None:
    """The channel's resolver hears of the others alone; of this one only whether it is listed as serving."""
    resolver = Told()
    neighbours = Neighbours(resolver, ME)
    heard: list[Instance | None] = []
    neighbours.changed = lambda: heard.append(neighbours.me)
    a, b = instance("a"), instance("b", state=State.DRAINING)
    await neighbours.meet(Connected(), 0.01)
    watch = neighbours.watch("cache")
    for resolution in (
        Unresolved("cache", "why"),
        Snapshot("cache", 1, (a, b)),
        Snapshot("cache", 2, (a, b, instance(ME)), stale=True),
        Snapshot("cache", 3, (a, instance(ME, state=State.DRAINING)), relisted=True),
    ):
        resolver.said.put_nowait(resolution)
    async with asyncio.timeout(5):
        assert [await anext(watch) for _ in range(4)] == [
            Unresolved("cache", "why"),
            Snapshot("cache", 1, (a, b)),
            Snapshot("cache", 2, (a, b), stale=True),
            Snapshot("cache", 3, (a,), relisted=True),
        ]
        connected = Connected()
        meeting = asyncio.create_task(neighbours.meet(connected, 60))
        await asyncio.sleep(0.02)
        assert not meeting.done()
        connected.instances = (a,)
        await meeting
    assert heard == [None, instance(ME), None]
    assert neighbours.others == (a,)
    await watch.aclose()
