"""The cache's limits come from settings, and its clock goes on evenly."""

from __future__ import annotations

import time

import pytest

from shop_services.cache.wiring import steady_clock
from shop_services.runtime.settings import SettingError, Settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SHOP_CACHE_MAX_ENTRIES", "0"),
        ("SHOP_CACHE_MAX_ENTRIES", "many"),
        ("SHOP_CACHE_MAX_BYTES", "1049599"),  # less than one value of 1 MiB and its key
        ("SHOP_CACHE_MAX_BYTES", "1e9"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(variable: str, value: str) -> None:
    """The process does not start, and says which variable is to blame."""
    with pytest.raises(SettingError, match=f"^{variable}: "):
        Settings.from_environment({variable: value})


def test_limits_are_read() -> None:
    """Both variables arrive as numbers."""
    settings = Settings.from_environment({"SHOP_CACHE_MAX_ENTRIES": "7", "SHOP_CACHE_MAX_BYTES": "1049600"})
    assert (settings.cache_max_entries, settings.cache_max_bytes) == (7, 1_049_600)


def test_the_clock_ignores_that_the_system_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at the system's time, and goes on with the monotonic one."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 10)
    clock = steady_clock()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 15)
    assert clock() == 1_000_005
