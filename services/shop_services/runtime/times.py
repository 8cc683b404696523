"""Times are aware, in UTC, and come from a clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

Clock = Callable[[], datetime]
"""Gives the time now, in UTC."""


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


def to_timestamp(time: datetime) -> Timestamp:
    """`time` as a protobuf Timestamp.

    Raises:
        ValueError: it has no time zone.
    """
    if time.tzinfo is None:
        raise ValueError("a time without a time zone")
    result = Timestamp()
    result.FromDatetime(time)
    return result
