"""The cache's clock goes on evenly, and what its settings cannot mean is refused."""

from __future__ import annotations

import time

import pytest

from grpc_registry import connect
from shop_services.cache.wiring import steady_clock, wire
from shop_services.runtime.settings import SettingError, Settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SHOP_CACHE_NAMESPACES", "default"),
        ("CACHE_URL", "redis://u:swordfish@h:port"),
        ("CACHE_URL", "redis://u:swordfish@h:6379/?socket_timeout=swordfish"),
    ],
)
async def test_a_wrong_setting_is_refused_by_name(variable: str, value: str) -> None:
    """The process does not start, says which variable is to blame, and shows no password."""
    settings = Settings.from_environment({variable: value, "REGISTRY_URL": "memory://"})
    async with connect("memory://") as registry:
        with pytest.raises(SettingError, match=f"^{variable}: ") as refused:
            await wire(settings, registry).__aenter__()
    assert "swordfish" not in str(refused.value)


def test_the_clock_ignores_that_the_system_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at the system's time, and goes on with the monotonic one."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 10)
    clock = steady_clock()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 15)
    assert clock() == 1_000_005
