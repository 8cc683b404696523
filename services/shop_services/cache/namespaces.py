"""The namespaces of the cache, as SHOP_CACHE_NAMESPACES declares them.

They are declared, not made up by callers: each has memory of its own, which nobody should be able to use up by
inventing names, and a slip in a name is an error where it would otherwise be a cache that never hits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import get_args

from shop_services.cache.domain import Namespace, size
from shop_services.caching.arguments import MAX_TTL, SERVICE_NAMESPACE
from shop_services.caching.bounded import Policy
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.settings import SettingError

VARIABLE = "SHOP_CACHE_NAMESPACES"
MAX_NAMESPACES = 100

_TOLD = 20
"""How many names an error lists."""


class Namespaces(Mapping[str, Namespace]):
    """The namespaces that there are, by name and in the order of their names."""

    def __init__(self, declared: Mapping[str, Namespace]) -> None:
        self._by_name = dict(sorted(declared.items()))

    @classmethod
    def parse(cls, text: str, *, max_entries: int, max_bytes: int) -> Namespaces:
        """Read `NAME=POLICY[,entries=N][,bytes=N][,ttl=SECONDS];…`.

        A namespace without limits has `max_entries` and `max_bytes`, one without a TTL has none.

        Raises:
            SettingError: the text is not that; it names the place.
        """
        declared: dict[str, Namespace] = {}
        for part in text.strip().removesuffix(";").split(";"):
            space = _namespace(part.strip(), Namespace("", max_entries=max_entries, max_bytes=max_bytes))
            if space.name in declared:
                raise SettingError(VARIABLE, f"the namespace {space.name!r} is there twice")
            declared[space.name] = space
        if len(declared) > MAX_NAMESPACES:
            raise SettingError(VARIABLE, f"{len(declared)} namespaces; at most {MAX_NAMESPACES}")
        return cls(declared)

    def __getitem__(self, name: str) -> Namespace:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<Namespaces {', '.join(self)}>"

    def find(self, name: str) -> Namespace:
        """The namespace called `name`.

        Raises:
            InvalidArgument: there is none; it names some that there are.
        """
        try:
            return self._by_name[name]
        except KeyError:
            more = f" and {len(self) - _TOLD} more" if len(self) > _TOLD else ""
            why = f"there is no namespace {name!r}; there are {', '.join(list(self)[:_TOLD])}{more}"
            raise InvalidArgument.of("namespace", why) from None

    def kept_elsewhere(self) -> Namespaces:
        """These without policies and limits: another store has its own."""
        free = (replace(space, policy=None, max_entries=0, max_bytes=0) for space in self.values())
        return Namespaces({space.name: space for space in free})


def check_fits(space: Namespace, key: str, value: bytes, field: str) -> None:
    """Raise `InvalidArgument` for `field` if the namespace could not keep the entry even if it were empty."""
    if space.max_bytes and (needed := size(key, value)) > space.max_bytes:
        why = f"takes {needed:,} bytes with its key; the namespace {space.name!r} keeps at most {space.max_bytes:,}"
        raise InvalidArgument.of(field, why)


def _namespace(part: str, defaults: Namespace) -> Namespace:
    name, equals, rules = part.partition("=")
    name = name.strip()
    if not equals or not SERVICE_NAMESPACE.fullmatch(name):
        allowed = "NAME=POLICY, with a name of 1 to 64 letters, digits, '.', '_' or '-'"
        raise SettingError(VARIABLE, f"{part!r} is not {allowed}")
    policy, *options = (rule.strip() for rule in rules.split(","))
    given: dict[str, int] = {}
    for option in options:
        key, _, value = (text.strip() for text in option.partition("="))
        if key not in _OPTIONS:
            raise SettingError(VARIABLE, f"{name}: {option!r} is not one of entries=N, bytes=N, ttl=SECONDS")
        field, parse = _OPTIONS[key]
        if field in given:
            raise SettingError(VARIABLE, f"{name}: {key} is there twice")
        given[field] = parse(f"{name}: {key}", value)
    for known in get_args(Policy):
        if policy == known:
            return replace(defaults, name=name, policy=known, **given)
    raise SettingError(VARIABLE, f"{name}: {policy!r} is not a policy; those are {', '.join(get_args(Policy))}")


def _count(place: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 15 and int(text) >= 1):
        raise SettingError(VARIABLE, f"{place} {text!r} is not a whole number of at least 1")
    return int(text)


def _nanoseconds(place: str, text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1e-9 <= seconds <= MAX_TTL:
        raise SettingError(VARIABLE, f"{place} {text!r} is not seconds, more than 0 and at most {MAX_TTL:,.0f}")
    return round(seconds * 1e9)


_OPTIONS: Mapping[str, tuple[str, Callable[[str, str], int]]] = {
    "entries": ("max_entries", _count),
    "bytes": ("max_bytes", _count),
    "ttl": ("ttl", _nanoseconds),
}
