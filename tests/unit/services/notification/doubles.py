"""Users and a mail server in memory, which fail when they are told to; and a database whose process may die."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.message import EmailMessage
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.notification.domain import Recipient
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database

T = TypeVar("T")


class Crash(BaseException):
    """The process died here."""


class KnownUsers:
    """`Users` in memory. `away`: they cannot be asked."""

    def __init__(self) -> None:
        self.known = {"u1": Recipient("ann@example.com", "Ann")}
        self.away = False

    async def find(self, user_id: str) -> Recipient | None:
        if self.away:
            raise Unavailable("no users")
        return self.known.get(user_id)


class KeptPost:
    """`Post` in memory: keeps what it takes. The next calls raise `fails`, or take the e-mail and raise `silent`."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, bytes]] = []
        self.fails: list[BaseException] = []
        self.silent: list[BaseException] = []

    async def send(self, message: EmailMessage, recipient: str) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.taken.append((recipient, message["Message-ID"], message.as_bytes()))
        if self.silent:
            raise self.silent.pop(0)


class MortalDatabase(Database):
    """A database whose process dies in the transactions that `deaths` counts to: before the commit, or after it."""

    deaths: list[tuple[int, bool]]

    async def atomically(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        due, committed = self.deaths[0] if self.deaths else (-1, False)
        if due == 0:
            self.deaths.pop(0)
            if not committed:
                raise Crash
        elif due > 0:
            self.deaths[0] = (due - 1, committed)
        result = await super().atomically(work)
        if due == 0:
            raise Crash
        return result
