"""How calls are spread over the owners of their keys, and what becomes of them when an owner cannot be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from grpc_registry import Instance
from shop_services.cache import shards
from shop_services.cache.domain import Entry, Namespace
from shop_services.cache.memory import MemoryValues
from shop_services.cache.peers import Late
from shop_services.cache.shards import Shards
from shop_services.runtime.errors import ResourceExhausted, Unavailable

SPACE = "n"
SECONDS = 10


class FakeShare:
    """Keys belong to the instance that they begin with; those of `ME` here."""

    def __init__(self) -> None:
        self.moved: dict[str, str] = {}

    def owner(self, namespace: str, key: str) -> Instance | None:
        name = self.moved.get(key[0], key[0])
        return None if name == "m" else Instance("cache", "10.0.0.1:1", id=name)


class FakePeers(MemoryValues):
    """All the others in one; calls for an instance fail as they are told."""

    def __init__(self) -> None:
        super().__init__([Namespace(SPACE, "lru", 100, 10_000)], lambda: 0)
        self.failing: dict[str, Callable[[], Exception]] = {}
        self.calls: list[str] = []
        self.together = asyncio.Barrier(1)  # whom a call waits for

    async def _meet(self, keys: Sequence[str]) -> None:
        (name,) = {key[0] for key in keys}
        self.calls.append(name)
        await self.together.wait()
        if name in self.failing:
            raise self.failing[name]()

    async def get(self, namespace: str, key: str) -> Entry | None:
        await self._meet([key])
        return await super().get(namespace, key)

    async def get_many(self, namespace: str, keys: Sequence[str]) -> list[Entry | None]:
        await self._meet(keys)
        return await super().get_many(namespace, keys)

    async def set(self, namespace: str, key: str, value: bytes, ttl: int | None) -> int:
        await self._meet([key])
        return await super().set(namespace, key, value, ttl)

    async def set_many(self, namespace: str, items: Sequence[tuple[str, bytes]], ttl: int | None) -> list[int]:
        await self._meet([key for key, _ in items])
        return await super().set_many(namespace, items, ttl)

    async def delete_many(self, namespace: str, keys: Sequence[str]) -> int:
        await self._meet(keys)
        return await super().delete_many(namespace, keys)


class World:
    def __init__(self) -> None:
        self.share = FakeShare()
        self.peers = FakePeers()
        self.local = MemoryValues([Namespace(SPACE, "lru", 100, 10_000)], lambda: 0)
        self.shards = Shards(self.share, self.local, self.peers, None)  # type: ignore[arg-type]  # fakes

    async def keep(self, *keys: str) -> None:
        await self.shards.set_many(SPACE, [(key, key.encode()) for key in keys], None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(shards, "_PAUSE_SECONDS", 0)
    return World()


def values(entries: Sequence[Entry | None]) -> list[str | None]:
    return [None if entry is None else entry.value.decode() for entry in entries]


async def test_each_owner_is_asked_once_for_all_its_keys(world: World) -> None:
    """And this instance's own keys are asked of nobody."""
    keys = ["m1", "a1", "b1", "m2", "a2", "b2"]
    await world.keep(*keys)
    assert sorted(world.peers.calls) == ["a", "b"]
    assert values(await world.shards.get_many(SPACE, [*keys, "a3"])) == [*keys, None]
    assert sorted(world.peers.calls) == ["a", "a", "b", "b"]
    assert values(await world.local.get_many(SPACE, keys)) == ["m1", None, None, "m2", None, None]
    assert await world.shards.delete_many(SPACE, [*keys, "a3"]) == len(keys)


async def test_owners_are_asked_in_parallel(world: World) -> None:
    """Each waits here for the other to be asked too, whether values are set, read or deleted."""
    world.peers.together = asyncio.Barrier(2)
    keys = ["a1", "b1", "m1"]
    async with asyncio.timeout(SECONDS):
        await world.keep(*keys)
        assert values(await world.shards.get_many(SPACE, keys)) == keys
        assert await world.shards.delete_many(SPACE, keys) == len(keys)


async def test_what_cannot_be_asked_is_missed(world: World) -> None:
    """Reads never fail for an owner that is away; the other keys are found."""
    await world.keep("m1", "a1", "b1")
    world.peers.failing["a"] = lambda: Unavailable("gone")
    assert await world.shards.get(SPACE, "a1") is None
    assert values(await world.shards.get_many(SPACE, ["a1", "b1", "m1"])) == [None, "b1", "m1"]


async def test_what_cannot_be_written_fails(world: World) -> None:
    """A write whose owner is away raises `Unavailable` after some tries, each at whoever the owner is by then."""
    world.peers.failing["a"] = lambda: Unavailable("gone")
    for work in (
        world.shards.set(SPACE, "a1", b"", None),
        world.shards.set_many(SPACE, [("a1", b""), ("b1", b"")], None),
        world.shards.delete_many(SPACE, ["b1", "a1"]),
    ):
        world.peers.calls.clear()
        with pytest.raises(Unavailable, match="gone"):
            await work
        assert world.peers.calls.count("a") == 3
        assert world.peers.calls.count("b") <= 1


async def test_a_compare_and_set_is_tried_once(world: World) -> None:
    """A second try would meet the first one's success."""
    tries = 0

    async def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise Unavailable("gone")

    world.peers.compare_and_set = fail  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable):
        await world.shards.compare_and_set(SPACE, "a1", b"", None, 0)
    assert tries == 1


async def test_a_ring_that_changes_meanwhile_is_obeyed(world: World) -> None:
    """Keys whose owner dies go to the next one, be it this instance."""

    def die() -> Exception:
        world.share.moved["a"] = "m"
        return Unavailable("gone")

    world.peers.failing["a"] = die
    await world.shards.set(SPACE, "a1", b"1", None)
    assert values(await world.local.get_many(SPACE, ["a1"])) == ["1"]
    world.share.moved.clear()
    await world.shards.set_many(SPACE, [("a2", b"2"), ("b2", b"2"), ("m2", b"2")], None)
    assert values(await world.local.get_many(SPACE, ["a2", "b2", "m2"])) == ["2", None, "2"]
    world.share.moved.clear()
    assert values(await world.shards.get_many(SPACE, ["a1", "a2", "b2"])) == ["1", "2", "2"]


async def test_who_is_late_is_not_asked_again(world: World) -> None:
    """Another try would take as long; reads are missed, writes fail."""
    world.peers.failing["a"] = lambda: Late("slow")
    assert values(await world.shards.get_many(SPACE, ["a1", "m1"])) == [None, None]
    assert await world.shards.get(SPACE, "a1") is None
    with pytest.raises(Late):
        await world.shards.set(SPACE, "a1", b"", None)
    with pytest.raises(Late):
        await world.shards.set_many(SPACE, [("a1", b"")], None)
    assert world.peers.calls == ["a"] * 4


async def test_what_an_owner_refuses_is_refused(world: World) -> None:
    """It is the caller's to hear, in reads too."""
    world.peers.failing["a"] = lambda: ResourceExhausted("message", "too much")
    with pytest.raises(ResourceExhausted, match="too much"):
        await world.shards.get_many(SPACE, ["a1", "m1"])
