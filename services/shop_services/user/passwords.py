"""Hashing of passwords with argon2id: slow by design, so it runs in few threads, and few calls may wait for them."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shop_services.runtime.errors import ResourceExhausted

THREADS = 2
"""Hashes computed at once. With RFC 9106's second choice, which argon2-cffi uses, each takes 64 MiB and about 50 ms."""
WAITING = 100
"""Calls that may wait for a thread; the next is refused. 100 wait for about three seconds."""

T = TypeVar("T")


class Passwords:
    """Makes and checks hashes off the event loop. An async context manager, which owns the threads."""

    def __init__(self, hasher: PasswordHasher | None = None, *, threads: int = THREADS, waiting: int = WAITING) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._running = 0
        self._most = threads + waiting
        self._nobodys = ""

    async def __aenter__(self) -> Self:
        self._nobodys = await self.hash(secrets.token_urlsafe())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    async def hash(self, password: str) -> str:
        """A new hash of `password`, its parameters and salt included.

        Raises:
            ResourceExhausted: too many calls are waiting.
        """
        return await self._run(lambda: self._hasher.hash(_normalized(password)))

    async def verify(self, password_hash: str, password: str) -> bool:
        """Whether `password` is the one that was hashed. Raises `ResourceExhausted` as `hash` does."""
        return await self._run(lambda: self._matches(password_hash, password))

    async def verify_nobodys(self, password: str) -> None:
        """Take as long as `verify` does, for an account that does not exist."""
        await self.verify(self._nobodys, password)

    def outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, _normalized(password))
        except (VerificationError, InvalidHashError):
            return False

    def check_room(self) -> None:
        """Raise `ResourceExhausted` if a call that comes now would be refused, for who has something to do before."""
        if self._running >= self._most:
            raise ResourceExhausted("passwords", "too many passwords are being checked; try again in a moment")

    async def _run(self, work: Callable[[], T]) -> T:
        self.check_room()
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._running -= 1


def _normalized(password: str) -> str:
    # Keyboards differ in how they compose an accented letter; NIST SP 800-63B 5.1.1.2 asks for NFKC or NFKD.
    return unicodedata.normalize("NFKC", password)
