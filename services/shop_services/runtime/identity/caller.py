"""Who calls, known to whatever runs for the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Role(StrEnum):
    """What a person may be in the shop. Their values are those of the claim `role` in access tokens."""

    CUSTOMER = "customer"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody in particular: no token came with the call."""

    def __str__(self) -> str:
        return "anonymous"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account, whose id `id` is; or the operator, who has none."""

    id: str
    role: Role

    def __str__(self) -> str:
        return f"{self.role}:{self.id}"


@dataclass(frozen=True, slots=True)
class Service:
    """Another service of the shop, that calls for itself."""

    name: str

    def __str__(self) -> str:
        return f"service:{self.name}"


Caller: TypeAlias = Anonymous | Person | Service

ANONYMOUS = Anonymous()

_caller: ContextVar[Caller] = ContextVar("shop_caller", default=ANONYMOUS)


def caller() -> Caller:
    """Who made the call that this task serves; `Anonymous` outside of one."""
    return _caller.get()


def customer_id() -> str | None:
    """The id of the customer who calls, and may have to do with their own things alone; None: not limited to them."""
    who = _caller.get()
    return who.id if isinstance(who, Person) and who.role is Role.CUSTOMER else None


def called_by(who: Caller) -> None:
    """Make `who` the caller of this task. A call is a task of its own, so nothing needs to be put back."""
    _caller.set(who)


@contextmanager
def calling(who: Caller) -> Iterator[None]:
    """Make `who` the caller inside of the block, for what serves one call after another."""
    token = _caller.set(who)
    try:
        yield
    finally:
        _caller.reset(token)
