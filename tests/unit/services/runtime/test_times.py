"""Times have a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shop_services.runtime.times import to_timestamp, utc_now


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    """Two o'clock in Berlin's winter is one o'clock."""
    there = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=1)))
    assert to_timestamp(there).ToDatetime(UTC) == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_a_naive_time_is_refused() -> None:
    """Nobody knows when it is."""
    with pytest.raises(ValueError, match="without a time zone"):
        to_timestamp(datetime(2026, 1, 1))  # noqa: DTZ001


def test_now_is_in_utc() -> None:
    """The system's clock is read with its zone."""
    assert utc_now().tzinfo is UTC
