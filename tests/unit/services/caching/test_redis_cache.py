"""The Redis cache without a server: what it is made of, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from shop_services.caching.errors import CacheUnavailable, InvalidKey
from shop_services.caching.redis import RedisCache
from tests.servers import free_port


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@10.0.0.1:7000/2?socket_timeout=9&password=hidden", "redis://10.0.0.1:7000/2"),
        ("valkey://10.0.0.1", "valkey://10.0.0.1"),
        ("rediss://:secret@cache.internal/1", "rediss://cache.internal/1"),
        ("unix:///run/valkey.sock?db=1", "unix:///run/valkey.sock"),
    ],
)
def test_it_shows_where_it_goes_and_no_secret(url: str, shown: str) -> None:
    """A log may have it."""
    assert repr(RedisCache(url, namespace="n")) == f"<RedisCache n at {shown}>"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", ""])
def test_another_kind_of_url_is_refused(url: str) -> None:
    """When the cache is made, not when it is used."""
    with pytest.raises(ValueError, match="redis://"):
        RedisCache(url, namespace="n")


@pytest.mark.parametrize("options", [{"namespace": None}, {"namespace": ""}, {"namespace": "n", "timeout": 0}])
def test_it_needs_a_namespace_and_a_timeout(options: dict[str, Any]) -> None:
    """Without the one it would clear the whole server, without the other it would wait for ever."""
    with pytest.raises(ValueError, match=r"namespace|timeout 0") as raised:
        RedisCache("redis://127.0.0.1", **options)
    assert isinstance(raised.value, InvalidKey) == ("timeout" not in options)


async def test_no_server_is_unavailable() -> None:
    """The error says where, and no secret."""
    port = free_port()
    async with RedisCache(f"redis://:secret@127.0.0.1:{port}/0", namespace="n", timeout=30) as cache:
        with pytest.raises(CacheUnavailable, match=f"redis://127.0.0.1:{port}/0") as raised:
            await cache.get("k")
    assert "secret" not in str(raised.value)
