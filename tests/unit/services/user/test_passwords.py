"""Passwords are hashed well, elsewhere, and not without end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher

from shop_services.runtime.errors import ResourceExhausted
from shop_services.user.passwords import Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Gated(PasswordHasher):
    """A hasher that waits to be let go, and notes in which threads it ran and what it compared."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.open = threading.Event()
        self.open.set()
        self.threads: set[int] = set()
        self.at_once = 0
        self.most = 0
        self.compared: list[str] = []
        self.lock = threading.Lock()

    def verify(self, hash: Any, password: Any) -> Any:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            self.threads.add(threading.get_ident())
            self.compared.append(str(hash))
        self.open.wait(60)
        with self.lock:
            self.at_once -= 1
        return super().verify(hash, password)


async def test_a_password_matches_its_hash_alone() -> None:
    """The hash is argon2id, salted, and says nothing to another password."""
    async with Passwords(CHEAP) as passwords:
        first, second = await passwords.hash("correct horse"), await passwords.hash("correct horse")
        assert first.startswith("$argon2id$")
        assert first != second
        assert await passwords.verify(first, "correct horse")
        assert not await passwords.verify(first, "correct horsf")
        assert not await passwords.verify("no hash", "correct horse")


async def test_an_accent_may_be_typed_in_two_ways() -> None:
    """A composed letter and a letter with a combining accent are the same password."""
    async with Passwords(CHEAP) as passwords:
        assert await passwords.verify(await passwords.hash("caf\u00e9 noir"), "cafe\u0301 noir")


async def test_a_hash_with_other_parameters_is_outdated() -> None:
    """It is to be made anew when its password is next known."""
    async with Passwords(CHEAP) as old, Passwords(PasswordHasher(2, 16, 1)) as new:
        password_hash = await old.hash("correct horse")
        assert not old.outdated(password_hash)
        assert new.outdated(password_hash)
        assert await new.verify(password_hash, "correct horse")


async def test_nobodys_password_costs_the_same_work() -> None:
    """For an account that does not exist a hash of the same parameters is compared."""
    hasher = Gated()
    async with Passwords(hasher) as passwords:
        await passwords.verify_nobodys("anything")
    (compared,) = hasher.compared
    assert not hasher.check_needs_rehash(compared)


async def test_the_event_loop_is_free_while_hashes_are_computed() -> None:
    """They run in other threads, as many at once as there are threads, and the rest wait."""
    hasher = Gated()
    async with Passwords(hasher, threads=2) as passwords:
        password_hash = await passwords.hash("correct horse")
        hasher.open.clear()
        calls = [asyncio.create_task(passwords.verify(password_hash, "correct horse")) for _ in range(6)]
        await asyncio.sleep(0)  # the loop turns while they wait
        assert not any(call.done() for call in calls)
        hasher.open.set()
        assert all(await asyncio.wait_for(asyncio.gather(*calls), 60))
    assert threading.get_ident() not in hasher.threads
    assert hasher.most <= 2


async def test_when_too_many_wait_the_next_is_refused() -> None:
    """At once, naming what is exhausted; and it goes on when the others are done."""
    hasher = Gated()
    async with Passwords(hasher, threads=1, waiting=2) as passwords:
        password_hash = await passwords.hash("correct horse")
        hasher.open.clear()
        calls = [asyncio.create_task(passwords.verify(password_hash, "correct horse")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted) as caught:
            await passwords.verify(password_hash, "correct horse")
        assert caught.value.subject == "passwords"
        hasher.open.set()
        await asyncio.gather(*calls)
        assert await passwords.verify(password_hash, "correct horse")
