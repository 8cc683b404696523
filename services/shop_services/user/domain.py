"""What a user is. Pure: no protobuf, no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypedDict

from shop_services.runtime.identity.caller import Role

KIND = "user"
"""What errors and etags call a user."""


@dataclass(frozen=True, slots=True)
class User:
    """One account, without its password. `version` grows by one with each change."""

    id: str
    email: str
    username: str
    display_name: str
    profile: Mapping[str, Any]
    role: Role
    version: int
    create_time: datetime
    update_time: datetime

    def changed(self, changes: Changes, now: datetime) -> User:
        """The account after `changes`."""
        return replace(self, **changes, version=self.version + 1, update_time=now)


class Changes(TypedDict, total=False):
    """New values of the fields that a user may change; what is absent stays."""

    email: str
    username: str
    display_name: str
    profile: Mapping[str, Any]
    role: Role


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to be opened."""

    email: str
    username: str
    password: str = field(repr=False)
    display_name: str
    profile: Mapping[str, Any]


def uniqueness_key(name: str) -> str:
    """What two e-mail addresses or usernames that differ only in case have in common."""
    return name.casefold()
