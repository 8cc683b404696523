"""Settings are complete, or refused with the variable's name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shop_services.cache.redis import RedisValues
from shop_services.caching.redis import RedisCache
from shop_services.runtime.settings import SettingError, Settings, unknown_variables

ALL = "0.0.0.0"  # noqa: S104 - nothing is bound here


def test_an_empty_environment_is_the_embedded_default() -> None:
    """Unset and empty variables take their defaults."""
    settings = Settings.from_environment({"DATABASE_URL": "", "SHOP_PORT": "  "})
    assert (settings.host, settings.port, settings.weight, settings.data) == ("127.0.0.1", 0, 100, Path(".shop"))
    assert settings.registry_url == "etcd://127.0.0.1:2379"
    assert settings.nats_url == "nats://127.0.0.1:4222"
    assert settings.database("user") == "sqlite:///.shop/user.db"


def test_each_variable_reaches_its_setting() -> None:
    """Every variable is read, and parsed to its type."""
    settings = Settings.from_environment(
        {
            "REGISTRY_URL": "etcds://u:p@a:1,b:2",
            "DATABASE_URL": "postgresql://shop:pw@db/shop",
            "NATS_URL": "nats://u:p@n:4222,m:4222",
            "SHOP_STREAM_REPLICAS": "3",
            "SHOP_CONCURRENCY": "5",
            "SHOP_ORDER_TIMEOUT": "60",
            "SHOP_ORDER_STUCK": "0.5",
            "SHOP_SMTP_URL": "smtp://mail:pw@m:587?starttls",
            "SHOP_MAIL_FROM": "orders@m.example",
            "CACHE_URL": "redis://c:6379",
            "SHOP_CACHE_NAMESPACES": "default=lfu,entries=7",
            "SHOP_CACHE_MAX_ENTRIES": "9",
            "SHOP_CACHE_MAX_BYTES": "2000000",
            "SHOP_CACHE_TIMEOUT": "0.25",
            "CATALOG_CACHE": "behind",
            "SHOP_CATALOG_TTL": "60",
            "SHOP_CATALOG_STALENESS": "0.5",
            "SHOP_CATALOG_ENTRIES": "500",
            "SHOP_METRICS_PORT": "9100",
            "SHOP_HOST": ALL,
            "SHOP_PORT": "50051",
            "SHOP_ADVERTISE": "10.0.0.7",
            "SHOP_WEIGHT": "200",
            "SHOP_ZONE": "a",
            "SHOP_VERSION": "1.4.0",
            "SHOP_DATA": "/data",
            "SHOP_DATABASE_POOL": "3",
            "SHOP_LOG_LEVEL": "debug",
            "SHOP_PROPAGATION": "0.5",
            "SHOP_GRACE": "7",
        }
    )
    assert settings.registry_url == "etcds://u:p@a:1,b:2"
    assert settings.database("user") == "postgresql://shop:pw@db/shop"
    assert (settings.nats_url, settings.cache_url) == ("nats://u:p@n:4222,m:4222", "redis://c:6379")
    assert (settings.cache_namespaces, settings.cache_timeout) == ("default=lfu,entries=7", 0.25)
    assert (settings.cache_max_entries, settings.cache_max_bytes) == (9, 2_000_000)
    assert (settings.catalog_cache, settings.catalog_entries) == ("behind", 500)
    assert (settings.catalog_ttl, settings.catalog_staleness, settings.metrics_port) == (60.0, 0.5, 9100)
    assert (settings.stream_replicas, settings.concurrency) == (3, 5)
    assert (settings.order_timeout, settings.order_stuck) == (60.0, 0.5)
    assert (settings.smtp_url, settings.mail_from) == ("smtp://mail:pw@m:587?starttls", "orders@m.example")
    assert (settings.bind, settings.address(50051)) == (f"{ALL}:50051", "10.0.0.7:50051")
    assert (settings.weight, settings.zone, settings.version, settings.data) == (200, "a", "1.4.0", Path("/data"))
    assert (settings.database_pool, settings.log_level) == (3, "debug")
    assert (settings.propagation, settings.grace) == (0.5, 7.0)


def test_writing_behind_needs_a_log_that_outlives_the_process() -> None:
    """In a shop of several processes; one that is all in one process has nothing else to use."""
    with pytest.raises(SettingError, match=r"^NATS_URL: must be nats:// .* CATALOG_CACHE is behind"):
        Settings(nats_url="memory://shop", catalog_cache="behind")
    Settings(nats_url="memory://shop", catalog_cache="aside")
    Settings(nats_url="memory://shop", catalog_cache="behind", registry_url="memory://")


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_each_url_of_a_cache_that_is_taken_can_be_used(scheme: str) -> None:
    """By the shared cache of readers, and by the cache service."""
    url = Settings(cache_url=f"{scheme}://user:pw@127.0.0.1:1/2").cache_url
    RedisCache(url, namespace="n")
    RedisValues(url, ["n"])


def test_a_server_bound_to_all_addresses_is_found_by_its_hosts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0.0.0 is nothing that anyone can dial."""
    monkeypatch.setattr("socket.gethostname", lambda: "box-1")
    assert Settings(host=ALL).address(1) == "box-1:1"
    assert Settings(host="::").address(1) == "box-1:1"
    assert Settings(host="127.0.0.1").address(1) == "127.0.0.1:1"


def test_an_ipv6_address_is_bracketed() -> None:
    """gRPC and the registry want `[::1]:port`."""
    settings = Settings(host="::1", port=9)
    assert (settings.bind, settings.address(9)) == ("[::1]:9", "[::1]:9")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REGISTRY_URL", "127.0.0.1:2379"),
        ("REGISTRY_URL", "http://127.0.0.1:2379"),
        ("DATABASE_URL", "mysql://root:swordfish@db/shop"),
        ("DATABASE_URL", "postgresql://root:swordfish@[db/shop"),
        ("NATS_URL", "http://n"),
        ("NATS_URL", "nats://"),
        ("NATS_URL", "nats://u:swordfish@n:4222,"),
        ("NATS_URL", "nats://u:swordfish@n:x"),
        ("SHOP_STREAM_REPLICAS", "2"),
        ("SHOP_CONCURRENCY", "-1"),
        ("SHOP_ORDER_TIMEOUT", "0"),
        ("SHOP_ORDER_STUCK", "nan"),
        ("SHOP_SMTP_URL", "http://u:swordfish@m"),
        ("SHOP_SMTP_URL", "smtp://u:swordfish@"),
        ("SHOP_SMTP_URL", "smtp://u:swordfish@m/inbox"),
        ("SHOP_SMTP_URL", "smtp://u:swordfish@m?tls=yes"),
        ("SHOP_MAIL_FROM", "nobody"),
        ("CACHE_URL", "memcached://user:swordfish@c"),
        ("SHOP_CACHE_MAX_ENTRIES", "0"),
        ("SHOP_CACHE_MAX_ENTRIES", "many"),
        ("SHOP_CACHE_MAX_BYTES", "1049599"),  # less than one value of 1 MiB and its key
        ("SHOP_CACHE_MAX_BYTES", "1e9"),
        ("SHOP_CACHE_TIMEOUT", "0"),
        ("SHOP_CACHE_TIMEOUT", "10.1"),
        ("CATALOG_CACHE", "sideways"),
        ("SHOP_CATALOG_TTL", "0.9"),
        ("SHOP_CATALOG_TTL", "86401"),
        ("SHOP_CATALOG_STALENESS", "0.05"),
        ("SHOP_CATALOG_STALENESS", "nan"),
        ("SHOP_CATALOG_ENTRIES", "0"),
        ("SHOP_METRICS_PORT", "65536"),
        ("SHOP_METRICS_PORT", "-1"),
        ("SHOP_HOST", "no host"),
        ("SHOP_PORT", "65536"),
        ("SHOP_PORT", "-1"),
        ("SHOP_PORT", "http"),
        ("SHOP_ADVERTISE", "10.0.0.1/x"),
        ("SHOP_ADVERTISE", "10.0.0.1:50051"),
        ("SHOP_ADVERTISE", ":"),
        ("SHOP_WEIGHT", "0"),
        ("SHOP_WEIGHT", "1.5"),
        ("SHOP_DATA", "what?"),
        ("SHOP_DATABASE_POOL", "0"),
        ("SHOP_LOG_LEVEL", "loud"),
        ("SHOP_PROPAGATION", "-1"),
        ("SHOP_PROPAGATION", "nan"),
        ("SHOP_GRACE", "601"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variables_name(variable: str, value: str) -> None:
    """The message is one line that begins with the variable, and shows no password."""
    with pytest.raises(SettingError) as caught:
        Settings.from_environment({variable: value})
    message = str(caught.value)
    assert message.startswith(f"{variable}: ")
    assert caught.value.variable == variable
    assert "\n" not in message
    assert "swordfish" not in message


def test_a_repr_holds_no_url() -> None:
    """Settings may be printed: URLs, which hold passwords, are left out."""
    settings = Settings(
        registry_url="etcd://u:swordfish@a:1",
        database_url="postgresql://u:swordfish@db/x",
        nats_url="nats://u:swordfish@n:4222",
        smtp_url="smtps://u:swordfish@m",
    )
    assert "swordfish" not in repr(settings)


def test_the_process_environment_is_the_default_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the variables of the process count."""
    for name in [name for name in os.environ if name.startswith("SHOP_") or name.endswith("_URL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHOP_WEIGHT", "7")
    assert Settings.from_environment().weight == 7


def test_variables_that_set_nothing_are_found() -> None:
    """What begins with SHOP_ and is no setting is told, with the nearest one if any is near; all else is not ours."""
    slips = ("SHOP_ADVERTISED", "SHOP_COLOUR", "SHOP_REGISTRY_URL")
    assert unknown_variables(dict.fromkeys((*slips, "SHOP_DATA", "SHOPPING", "REGISTRY_URLS"), "x")) == [
        "SHOP_ADVERTISED is not a setting, and ignored; did you mean SHOP_ADVERTISE?",
        "SHOP_COLOUR is not a setting, and ignored",
        "SHOP_REGISTRY_URL is not a setting, and ignored; did you mean REGISTRY_URL?",
    ]
