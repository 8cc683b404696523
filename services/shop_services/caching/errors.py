"""What goes wrong with a cache: the caller's mistake, or the cache itself, which a reader must survive."""

from __future__ import annotations


class CacheError(ValueError):
    """An argument that no cache accepts. The message says which, what it was, what is allowed. Nothing was changed."""


class InvalidKey(CacheError):
    """A key, or a namespace before keys, that is empty, too long or no text."""


class InvalidTtl(CacheError):
    """A time to live of zero, less, too much, or no number."""


class ValueTooLarge(CacheError):
    """A value that is larger than one may be, or than the whole cache."""


class CacheUnavailable(Exception):
    """A shared cache is away, refused the call, or did not answer in time. A write may have happened all the same."""


class KeyExists(ValueError):
    """`add` found a value. Nothing was changed."""
