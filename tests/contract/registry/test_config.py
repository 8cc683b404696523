"""Service configs in the registry, over memory and over etcd."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from grpc_registry import (
    ConfigResolution,
    ConfigSnapshot,
    InvalidInstance,
    Registry,
    RegistryClosed,
    RegistryUnavailable,
    UnknownConfig,
    Unresolved,
)
from grpc_registry.service_config import InvalidServiceConfig
from tests.contract.registry.conftest import World
from tests.elapsed import measured
from tests.watching import until

ONE = '{"loadBalancingConfig": [{"round_robin": {}}]}'
OTHER = '{ "methodConfig": [{"name": [{}], "timeout": "1.5s"}] }\n'
WRONG = '{"methodConfig": [{"name": [{}], "timeout": 1.5}]}'


async def test_what_is_set_is_there_as_it_was_given(registry: Registry, other: Registry) -> None:
    """The text is kept to the letter, replaced by the next one, and gone when it is removed."""
    assert await registry.get_config("product") is None
    for text in (OTHER, ONE):
        await registry.set_config("product", text)
        assert await other.get_config("product") == text
    assert await other.get_config("order") is None
    await other.remove_config("product")
    assert await registry.get_config("product") is None


async def test_removing_what_is_not_there_is_an_error(registry: Registry) -> None:
    """Whoever removes a config of a service that has none is told so."""
    with pytest.raises(UnknownConfig, match="'product' has no service config"):
        await registry.remove_config("product")


async def test_an_invalid_config_is_refused_and_the_old_one_stays(registry: Registry) -> None:
    """Nothing is written, and the error begins with the JSON path of what is wrong."""
    await registry.set_config("product", ONE)
    with pytest.raises(InvalidServiceConfig, match=r"^methodConfig\[0\]\.timeout: must be a duration"):
        await registry.set_config("product", WRONG)
    with pytest.raises(InvalidServiceConfig, match="cannot be written as UTF-8"):
        await registry.set_config("product", '{"comment": "\ud800"}')
    assert await registry.get_config("product") == ONE


async def test_a_policy_of_ones_own_must_be_named(registry: Registry) -> None:
    """A policy that not every client has counts only if the caller says that all of this service's have it."""
    text = '{"loadBalancingConfig": [{"nearest": {"metres": 5}}]}'
    with pytest.raises(InvalidServiceConfig, match="loadBalancingConfig: must be a list with a known policy"):
        await registry.set_config("product", text)
    await registry.set_config("product", text, policies=["nearest"])
    assert await registry.get_config("product") == text


async def test_every_change_arrives(registry: Registry, other: Registry) -> None:
    """A watch begins with what there is, no config included, and shows each change at a growing revision."""
    async with aclosing(other.watch_config("product")) as watch:
        seen = [await asyncio.wait_for(anext(watch), 30)]
        for text in (ONE, OTHER):
            await registry.set_config("product", text)
            seen.append(await asyncio.wait_for(anext(watch), 30))
        await registry.remove_config("product")
        seen.append(await asyncio.wait_for(anext(watch), 30))
    revisions = [snapshot.revision for snapshot in seen if isinstance(snapshot, ConfigSnapshot)]
    texts = (None, ONE, OTHER, None)
    assert seen == [ConfigSnapshot("product", *pair) for pair in zip(revisions, texts, strict=True)]
    assert revisions == sorted(set(revisions))


async def test_what_nobody_checked_is_shown_as_it_is(world: World, registry: Registry) -> None:
    """A config that was written by hand reaches clients valid or not: it is they who keep the last good one."""
    async with aclosing(registry.watch_config("product")) as watch:
        await anext(watch)
        await world.put_config_by_hand("product", WRONG)
        assert (await until(watch, lambda _: True)).text == WRONG
    assert await registry.get_config("product") == WRONG


async def test_configs_of_services_do_not_mix(registry: Registry) -> None:
    """A watch shows its service alone, also where another's name begins with its name, and no instances."""
    await registry.set_config("product2", OTHER)
    await registry.set_config("product", ONE)
    assert await registry.list() == []
    async with aclosing(registry.watch_config("product")) as watch:
        assert (await until(watch, lambda _: True)).text == ONE
        await registry.set_config("product2", ONE)
        await registry.remove_config("product")
        assert (await until(watch, lambda _: True)).text is None


async def test_readers_of_one_config_are_independent(registry: Registry) -> None:
    """A slow reader misses what lies between, never the latest; a late one sees the present at once."""
    async with aclosing(registry.watch_config("product")) as slow, aclosing(registry.watch_config("product")) as quick:
        await anext(slow)
        await until(quick, lambda snapshot: snapshot.text is None)
        for text in (OTHER, ONE):
            await registry.set_config("product", text)
            await until(quick, lambda snapshot, text=text: snapshot.text == text)  # type: ignore[misc]
        async with aclosing(registry.watch_config("product")) as late, measured() as elapsed:
            latest = await asyncio.wait_for(anext(late), 30)
            assert elapsed.seconds < 1
            assert isinstance(latest, ConfigSnapshot)
            assert latest.text == ONE
        assert (await until(slow, lambda _: True)).text == ONE


async def test_setting_the_same_again_wakes_nobody(registry: Registry) -> None:
    """A config that is written again unchanged is no change to those who follow it."""
    await registry.set_config("product", ONE)
    async with aclosing(registry.watch_config("product")) as watch:
        await until(watch, lambda snapshot: snapshot.text == ONE)
        await registry.set_config("product", ONE)
        await registry.set_config("product", OTHER)
        assert (await until(watch, lambda _: True)).text == OTHER


async def test_closing_the_registry_ends_the_watches(world: World) -> None:
    """A reader's loop ends without an error; afterwards everything says that the registry is closed."""
    seen: list[ConfigResolution] = []
    started = asyncio.Event()

    async def read(registry: Registry) -> None:
        async for resolution in registry.watch_config("product"):
            seen.append(resolution)
            started.set()

    async with world.connect() as registry:
        reader = asyncio.create_task(read(registry))
        await asyncio.wait_for(started.wait(), 30)
    await asyncio.wait_for(reader, 30)
    assert len(seen) == 1
    with pytest.raises(RegistryClosed):
        registry.watch_config("product")
    with pytest.raises(RegistryClosed):
        await registry.get_config("product")
    with pytest.raises(RegistryClosed):
        await registry.set_config("product", ONE)


async def test_a_name_that_cannot_be_a_service_is_refused(registry: Registry) -> None:
    """A slash in the name would reach other keys; it is refused before anything is asked."""
    with pytest.raises(InvalidInstance, match="service 'a/b'"):
        registry.watch_config("a/b")
    for operation in (registry.get_config("a/b"), registry.set_config("a/b", ONE), registry.remove_config("a/b")):
        with pytest.raises(InvalidInstance, match="service 'a/b'"):
            await operation


async def test_the_last_config_is_kept_through_an_outage(fragile_world: World) -> None:
    """While the registry is away its last word stays, stale, for old and new readers; then it is right again."""
    async with fragile_world.connect() as operator, fragile_world.connect() as reader:
        await operator.set_config("product", ONE)
        async with aclosing(reader.watch_config("product")) as watch:
            await until(watch, lambda snapshot: snapshot.text == ONE)
            await fragile_world.go_away()
            assert (await until(watch, lambda snapshot: snapshot.stale)).text == ONE
            async with aclosing(reader.watch_config("product")) as late, measured() as elapsed:
                assert (await until(late, lambda snapshot: snapshot.stale)).text == ONE
                assert elapsed.seconds < 1
            await fragile_world.come_back()
            back = await until(watch, lambda snapshot: not snapshot.stale)
            assert (back.text, back.relisted) == (ONE, True)
            await operator.set_config("product", OTHER)
            assert (await until(watch, lambda snapshot: snapshot.text == OTHER)).relisted is False


async def test_what_was_never_known_is_unresolved(fragile_world: World) -> None:
    """A first watch during an outage says that it knows nothing and why; operators are told within their deadline."""
    await fragile_world.go_away()
    async with fragile_world.connect(patience=1) as registry, aclosing(registry.watch_config("product")) as watch:
        first = await asyncio.wait_for(anext(watch), 30)
        assert isinstance(first, Unresolved)
        assert (first.service, bool(first.reason)) == ("product", True)
        async with asyncio.timeout(15):
            for operation in (
                registry.get_config("product"),
                registry.set_config("product", ONE),
                registry.remove_config("product"),
            ):
                with pytest.raises(RegistryUnavailable):
                    await operation
        await fragile_world.come_back()
        assert (await until(watch, lambda _: True)).text is None
