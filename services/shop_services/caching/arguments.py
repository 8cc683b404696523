"""What every cache demands of keys, namespaces, times to live and values, checked the same way in all of them."""

from __future__ import annotations

import re
from typing import Final

from shop_services.caching.errors import InvalidKey, InvalidTtl, ValueTooLarge

MAX_KEY_BYTES: Final = 1024
"""Bytes of a key as UTF-8, without the namespace."""

MAX_NAMESPACE_BYTES: Final = 128

SERVICE_NAMESPACE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a namespace of the cache service may be called, as in cache.proto."""

MAX_TTL: Final = 365 * 86_400.0
"""Seconds: a year. Longer is most likely a moment, or milliseconds, by mistake; None has no end."""

MAX_VALUE_BYTES: Final = 1024 * 1024
"""Bytes of a value in a cache that is reached over the network."""


def check_key(key: object) -> str:
    """The key itself. Raises `InvalidKey`."""
    if not isinstance(key, str):
        raise InvalidKey(f"key {key!r}: a str, not {type(key).__name__}")
    if not (key.isascii() and 0 < len(key) <= MAX_KEY_BYTES):
        _check_text("key", key, MAX_KEY_BYTES)
    return key


def check_namespace(namespace: object) -> str:
    """The namespace itself: a text without the colon that ends it before a key. Raises `InvalidKey`."""
    if not isinstance(namespace, str) or ":" in namespace:
        raise InvalidKey(f"namespace {namespace!r}: a str without a colon")
    _check_text("namespace", namespace, MAX_NAMESPACE_BYTES)
    return namespace


def check_ttl(ttl: object) -> float | None:
    """A time to live in seconds; None: without end. Raises `InvalidTtl`."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= MAX_TTL:
        raise InvalidTtl(f"ttl {ttl!r}: seconds, more than 0 and at most {MAX_TTL:,.0f} (365 days), or None for no end")
    return ttl


def check_size(key: str, size: int, limit: int, of: str = "a value") -> None:
    """Raises `ValueTooLarge` if a value of `size` bytes is over `limit`; `of` says what has that limit."""
    if size > limit:
        raise ValueTooLarge(f"the value of {shortened(key)}: {size:,} bytes; {of} has at most {limit:,}")


def whole_number(key: str, value: object) -> int:
    """The number that a value is, or that it writes out. Raises `TypeError` if it is no whole number."""
    if isinstance(value, int | str | bytes) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise TypeError(f"the value of {shortened(key)}: no whole number")


def shortened(key: str) -> str:
    """A key as an error names it."""
    return repr(key) if len(key) <= 64 else f"{key[:61]!r}…"


def _check_text(what: str, text: str, limit: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"{what} {shortened(text)}: holds half a character, which UTF-8 cannot carry") from None
    if not 0 < size <= limit:
        raise InvalidKey(f"{what} {shortened(text)}: {size:,} bytes as UTF-8; at least 1 and at most {limit:,}")
