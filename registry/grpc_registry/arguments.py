"""Numbers that a caller gave, checked when they are given: later they would fail far from where they are wrong."""

from __future__ import annotations

import math

LEAST_TTL, MOST_TTL = 2, 9_000_000_000  # etcd grants no less as it comes; no more by its MaxLeaseTTL


def check_seconds(value: object, what: str, *, or_none: bool = False) -> float:
    """Return `value` if it is a finite number above 0 (`or_none`: or 0).

    Raises:
        TypeError, ValueError: it is not; the message names `what`.
    """
    allowed = f"{what} {value!r}: a number of seconds, {'0 or more' if or_none else 'more than 0'}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(allowed)
    if not math.isfinite(value) or value < 0 or (value == 0 and not or_none):
        raise ValueError(allowed)
    return value


def check_ttl(value: object) -> int:
    """Return `value` if it is a TTL that etcd can grant.

    Raises:
        TypeError, ValueError: it is not.
    """
    allowed = f"ttl {value!r}: whole seconds, from {LEAST_TTL} to {MOST_TTL:,}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(allowed)
    if not LEAST_TTL <= value <= MOST_TTL:
        raise ValueError(allowed)
    return value
