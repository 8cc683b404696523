"""The keys that tokens are signed with, each one somebody's: a service's, or `identity`, which vouches for people.

A key is known by its owner and its id, which tells when it was made. Many keys of an owner are good at a time, so that
one follows another without a moment in which a good token is refused: whoever signs waits with a new one until all know
it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

IDENTITY = "identity"
"""The owner of the keys that sign people's tokens."""

KNOWN_AFTER = 15.0
"""Seconds after which a new key signs: by then all that check tokens can read it, also where files are copied."""

SETTLED_AFTER = 60.0
"""Seconds after which a new key is surely the one that signs: it is known, everybody has looked, and clocks differ."""

_OWNER = re.compile(r"[a-z][a-z0-9-]{0,62}")
_KEY_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, order=True)
class KeyName:
    """Whose key it is and its id: when it was made, in UTC, and six random hex digits."""

    owner: str
    id: str

    @classmethod
    def of(cls, owner: object, key_id: object) -> KeyName | None:
        """The name made of two parts that came from outside; None if they cannot be one. It is safe in a path."""
        if not (isinstance(owner, str) and isinstance(key_id, str)):
            return None
        if not (_OWNER.fullmatch(owner) and _KEY_ID.fullmatch(key_id)):
            return None
        name = cls(owner, key_id)
        try:
            _ = name.created
        except ValueError:  # no calendar has that time
            return None
        return name

    @classmethod
    def new(cls, owner: str, now: float, random_hex: Callable[[int], str] = secrets.token_hex) -> KeyName:
        """A name for a key of `owner` made at `now`, in seconds since 1970. Raises `ValueError` for an odd owner."""
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"{owner!r} cannot own keys: lower-case letters, digits and '-', a letter first")
        return cls(owner, f"{datetime.fromtimestamp(now, UTC).strftime(_TIME)}-{random_hex(3)}")

    @property
    def created(self) -> float:
        """When the key was made, in seconds since 1970."""
        return datetime.strptime(self.id.partition("-")[0], _TIME).replace(tzinfo=UTC).timestamp()

    def __str__(self) -> str:
        return f"{self.owner}.{self.id}"


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """A key to check signatures with."""

    name: KeyName
    key: Ed25519PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKey:
    """A key to sign with."""

    name: KeyName
    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def new(cls, name: KeyName) -> PrivateKey:
        """A key that nobody had before."""
        return cls(name, Ed25519PrivateKey.generate())

    @property
    def public(self) -> PublicKey:
        """Its other half."""
        return PublicKey(self.name, self.key.public_key())


class MissingKey(Exception):
    """There is no key of this owner to sign with. The message names what is missing, for the operator."""


class Keys(Protocol):
    """Where the keys are."""

    def public(self, name: KeyName) -> PublicKey | None:
        """The public key of that name, the same object as long as it is trusted; None if no such key is."""

    def published(self, owner: str) -> Sequence[PublicKey]:
        """All public keys of `owner` that are trusted, oldest first."""

    def signing(self, owner: str) -> PrivateKey:
        """The key of `owner` to sign with now. Raises `MissingKey`."""


def to_sign_with(names: Iterable[KeyName], now: float) -> KeyName:
    """The newest that everybody knows by now, else the oldest. There must be one."""
    in_order = sorted(names, key=lambda name: name.id)
    known = [name for name in in_order if name.created <= now - KNOWN_AFTER]
    return known[-1] if known else in_order[0]


def spent(names: Iterable[KeyName], ttl: float, now: float) -> list[KeyName]:
    """The keys of an owner of which no good token can be left, if none is good for more than `ttl` seconds."""
    in_order = sorted(names, key=lambda name: name.id)
    return [name for name, after in pairwise(in_order) if after.created + SETTLED_AFTER + ttl < now]


class MemoryKeys:
    """Keys of one process and nobody else. An owner's first key is made when it is asked for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[KeyName, tuple[PrivateKey, PublicKey]] = {}

    def __repr__(self) -> str:
        return f"<MemoryKeys {len(self._keys)}>"

    def public(self, name: KeyName) -> PublicKey | None:
        """See `Keys.public`."""
        pair = self._keys.get(name)
        return pair[1] if pair else None

    def published(self, owner: str) -> list[PublicKey]:
        """See `Keys.published`."""
        return [self._keys[name][1] for name in sorted(self._of(owner))]

    def signing(self, owner: str) -> PrivateKey:
        """See `Keys.signing`."""
        if not self._of(owner):
            self.add(owner)
        return self._keys[to_sign_with(self._of(owner), self._clock())][0]

    def add(self, owner: str) -> KeyName:
        """Make a key of `owner`."""
        key = PrivateKey.new(KeyName.new(owner, self._clock()))
        self._keys[key.name] = key, key.public
        return key.name

    def remove(self, name: KeyName) -> None:
        """Trust a key no longer."""
        del self._keys[name]

    def _of(self, owner: str) -> list[KeyName]:
        return [name for name in self._keys if name.owner == owner]
