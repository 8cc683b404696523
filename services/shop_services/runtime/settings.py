"""Settings come from the environment, and this is the only file that reads it.

A `Settings` is validated when it is made, so that a process with a wrong variable ends at once, and says which it was.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from grpc_registry.instance import new_instance_id

LOG_LEVELS = ("debug", "info", "warning", "error")

CATALOG_CACHES = ("aside", "through", "behind", "off")

_TLS_DEFAULTS = {"registry_url": "etcds://127.0.0.1:2379", "nats_url": "tls://127.0.0.1:4222"}
_DATABASE_SCHEMES = ("sqlite", "sqlite+aiosqlite", "postgresql", "postgres", "postgresql+asyncpg")
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_MAIL_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound

T = TypeVar("T")


class SettingError(ValueError):
    """A setting cannot be used. The message names the variable and what is allowed, and shows nothing of a URL."""

    def __init__(self, variable: str, allowed: str) -> None:
        super().__init__(f"{variable}: {allowed}")
        self.variable = variable


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process is told from outside. Times are in seconds; URLs are left out of `repr`, as they hold passwords.

    Raises:
        SettingError: a value is not allowed.
    """

    registry_url: str = field(default="etcd://127.0.0.1:2379", repr=False)
    """REGISTRY_URL: `etcd://` (TLS: `etcds://`) with one or several endpoints, or `memory://`."""
    database_url: str = field(default="", repr=False)
    """DATABASE_URL: `sqlite:///FILE` or `postgresql://…`. Empty: a SQLite file for each service in `data`."""
    nats_url: str = field(default="nats://127.0.0.1:4222", repr=False)
    """NATS_URL: `nats://` (TLS: `tls://`) with one or several servers of a cluster, `[user:password@]host:port,…`, or
    `memory://` for a bus inside of one process."""
    stream_replicas: int = 1
    """SHOP_STREAM_REPLICAS: how many servers of the NATS cluster keep each message."""
    cache_url: str = field(default="", repr=False)
    """CACHE_URL: `redis://…` (TLS: `rediss://`), the same with `valkey`, or `unix://…`: a Redis or Valkey. Empty: the
    memory of the cache service's instances."""
    host: str = "127.0.0.1"
    """SHOP_HOST: the address to bind."""
    port: int = 0
    """SHOP_PORT: the port to bind; 0 lets the system choose a free one."""
    advertise: str = ""
    """SHOP_ADVERTISE: the host that others dial. Default: the bound one, or this machine's name if all are bound."""
    weight: int = 100
    """SHOP_WEIGHT: this instance's share of calls, relative to the others of its service."""
    zone: str = ""
    """SHOP_ZONE: where this instance runs."""
    version: str = ""
    """SHOP_VERSION: the build, as shown in the registry."""
    data: Path = Path(".shop")
    """SHOP_DATA: the directory of embedded databases."""
    concurrency: int = 0
    """SHOP_CONCURRENCY: how many messages a worker handles at a time; 0 is the default of its topic."""
    order_timeout: float = 900.0
    """SHOP_ORDER_TIMEOUT: how old an order that is not paid may become before it fails."""
    order_stuck: float = 30.0
    """SHOP_ORDER_STUCK: how long an order may make no progress before its message is sent again; doubled each time."""
    smtp_url: str = field(default="smtp://127.0.0.1:1025", repr=False)
    """SHOP_SMTP_URL: `smtp://[user:password@]host:port`, with `?starttls` where it must encrypt; TLS: `smtps://`."""
    mail_from: str = "shop@shop.example"
    """SHOP_MAIL_FROM: the address that e-mails come from."""
    database_pool: int = 8
    """SHOP_DATABASE_POOL: connections that a process keeps to its database at most."""
    cache_namespaces: str = "default=lru;sessions=lru;catalog=lru"
    """SHOP_CACHE_NAMESPACES: `NAME=POLICY[,entries=N][,bytes=N][,ttl=SECONDS];…`, see `cache.namespaces`."""
    cache_max_entries: int = 100_000
    """SHOP_CACHE_MAX_ENTRIES: values that a namespace keeps on an instance at most, if it does not say itself."""
    cache_max_bytes: int = 256 * 1024 * 1024
    """SHOP_CACHE_MAX_BYTES: bytes that their keys and values take at most, likewise."""
    cache_timeout: float = 0.1
    """SHOP_CACHE_TIMEOUT: how long a reader waits for a shared cache before it asks the source instead."""
    catalog_cache: str = "aside"
    """CATALOG_CACHE: how the catalog is cached: `aside`, `through`, `behind` or `off`. `behind` needs a NATS server,
    but for a shop inside of one process, whose registry is `memory://` too."""
    catalog_ttl: float = 300.0
    """SHOP_CATALOG_TTL: how long a cached product or list of products is kept."""
    catalog_staleness: float = 1.0
    """SHOP_CATALOG_STALENESS: the most by which what is read of the catalog may be out of date."""
    catalog_entries: int = 10_000
    """SHOP_CATALOG_ENTRIES: products that a process keeps in its own memory at most, and as many pages of lists."""
    metrics_port: int = 0
    """SHOP_METRICS_PORT: where the process answers `GET /metrics` in Prometheus' format; 0: nowhere. Processes that are
    started together take the ports after it."""
    log_level: str = "info"
    """SHOP_LOG_LEVEL."""
    keys_dir: Path | None = None
    """SHOP_KEYS_DIR: the directory of the keys that tokens are signed and checked with. Default: `keys` in `data`, made
    when it is first needed."""
    tls_dir: Path | None = None
    """SHOP_TLS_DIR: the directory of `ca.pem` and of each service's `NAME.pem` and `NAME.key`; with it, everything that
    goes over the network is encrypted, and both sides show certificates: URLs that say otherwise are refused (but for
    e-mail, which has its own rules). Default: no TLS."""
    access_ttl: float = 600.0
    """SHOP_ACCESS_TTL: how long an access token is good."""
    refresh_ttl: float = 2_592_000.0
    """SHOP_REFRESH_TTL: how long a refresh token is good, and so a login that is not used."""
    lease_ttl: int = 3
    """SHOP_LEASE_TTL: seconds after which a dead instance leaves the registry. Less than the library's default of 10:
    an etcd that restarts gives every lease its full time again, and what died meanwhile is to be known 5 s later."""
    propagation: float = 1.0
    """SHOP_PROPAGATION: how long clients are given to see `draining`, or NOT_SERVING while the registry is away,
    before the server stops taking calls."""
    grace: float = 20.0
    """SHOP_GRACE: how long calls in progress may take to finish after that."""
    instance_id: str = field(default_factory=new_instance_id)
    """What this process is called in the registry and in logs. No variable sets it: processes may share theirs."""

    gateway_timeout: float = 10.0
    """SHOP_GATEWAY_TIMEOUT: how long a call from the gateway may take if its client does not say."""
    gateway_max_body: int = 4 * 1024 * 1024
    """SHOP_GATEWAY_MAX_BODY: the bytes that the body of a request to the gateway may have; but for the cache's, it has
    256 KiB at most."""
    gateway_rate: float = 100.0
    """SHOP_GATEWAY_RATE: requests a second that one address, and one token, may send to a gateway; 0: any number."""
    gateway_burst: int = 200
    """SHOP_GATEWAY_BURST: how many it may send at once after a pause."""
    trusted_proxies: str = ""
    """SHOP_TRUSTED_PROXIES: addresses and networks, separated by commas, whose X-Forwarded-For is believed."""

    def __post_init__(self) -> None:
        _url("REGISTRY_URL", self.registry_url, ("etcd", "etcds", "memory"))
        _url("DATABASE_URL", self.database_url, _DATABASE_SCHEMES, optional=True)
        _url("NATS_URL", self.nats_url, ("nats", "tls", "memory"))
        _require("NATS_URL", _names_servers(self.nats_url), "a URL with hosts and ports, separated by commas")
        _require("SHOP_STREAM_REPLICAS", self.stream_replicas in (1, 3, 5), "1, 3 or 5")
        _require("SHOP_CONCURRENCY", 0 <= self.concurrency <= 1000, "a whole number from 1 to 1,000; 0 is the default")
        _require("SHOP_ORDER_TIMEOUT", 0 < self.order_timeout <= 604_800, "seconds, more than 0 and at most 604,800")
        _require("SHOP_ORDER_STUCK", 0 < self.order_stuck <= 3600, "seconds, more than 0 and at most 3,600")
        _url("SHOP_SMTP_URL", self.smtp_url, ("smtp", "smtps"))
        _require("SHOP_SMTP_URL", _names_mail_server(self.smtp_url), "[user:password@]host:port after smtp://")
        _require("SHOP_MAIL_FROM", _MAIL_ADDRESS.fullmatch(self.mail_from) is not None, "an e-mail address")
        _url("CACHE_URL", self.cache_url, ("redis", "rediss", "valkey", "valkeys", "unix"), optional=True)
        _require("SHOP_HOST", _is_host(self.host), "an IP address or a host name")
        _require("SHOP_PORT", 0 <= self.port <= 65535, "a port from 0 to 65535; 0 chooses a free one")
        _require("SHOP_ADVERTISE", not self.advertise or _is_host(self.advertise), "a host, without a port")
        _require("SHOP_WEIGHT", 1 <= self.weight <= 1_000_000, "a whole number from 1 to 1,000,000")
        _require("SHOP_DATA", "?" not in str(self.data), "a directory without a question mark in its path")
        _require("SHOP_DATABASE_POOL", 1 <= self.database_pool <= 100, "a whole number from 1 to 100")
        _require("SHOP_CACHE_MAX_ENTRIES", self.cache_max_entries >= 1, "a whole number of at least 1")
        _require(
            "SHOP_CACHE_MAX_BYTES", self.cache_max_bytes >= 1_049_600, "at least 1,049,600: a value of 1 MiB, its key"
        )
        _require("SHOP_CACHE_TIMEOUT", 0 < self.cache_timeout <= 10, "seconds, more than 0 and at most 10")
        _require("CATALOG_CACHE", self.catalog_cache in CATALOG_CACHES, f"one of {', '.join(CATALOG_CACHES)}")
        _require(
            "NATS_URL",
            self.catalog_cache != "behind" or not _in_memory(self.nats_url) or _in_memory(self.registry_url),
            "nats:// or tls:// if CATALOG_CACHE is behind: memory:// would lose acknowledged changes with the process",
        )
        _require("SHOP_CATALOG_TTL", 1 <= self.catalog_ttl <= 86_400, "seconds, from 1 to 86,400")
        _require("SHOP_CATALOG_STALENESS", 0.1 <= self.catalog_staleness <= 60, "seconds, from 0.1 to 60")
        _require("SHOP_CATALOG_ENTRIES", self.catalog_entries >= 1, "a whole number of at least 1")
        _require("SHOP_METRICS_PORT", 0 <= self.metrics_port <= 65535, "a port from 1 to 65535; 0 is none")
        _require("SHOP_ACCESS_TTL", 1 <= self.access_ttl <= 86_400, "seconds, from 1 to 86,400")
        _require("SHOP_REFRESH_TTL", 1 <= self.refresh_ttl <= 31_536_000, "seconds, from 1 to 31,536,000")
        if self.tls_dir is not None:
            _encrypts("REGISTRY_URL", self.registry_url, ("etcds", "memory"))
            _encrypts("NATS_URL", self.nats_url, ("tls", "memory"))
            _encrypts("CACHE_URL", self.cache_url, ("rediss", "valkeys", "unix"))
        _require("SHOP_LOG_LEVEL", self.log_level in LOG_LEVELS, f"one of {', '.join(LOG_LEVELS)}")
        _require("SHOP_LEASE_TTL", 2 <= self.lease_ttl <= 3600, "whole seconds, from 2 to 3,600")
        _require("SHOP_PROPAGATION", 0 <= self.propagation <= 60, "seconds, from 0 to 60")
        _require("SHOP_GRACE", 0 <= self.grace <= 600, "seconds, from 0 to 600")
        _require("SHOP_GATEWAY_TIMEOUT", 0 < self.gateway_timeout <= 60, "seconds, more than 0 and at most 60")
        _require("SHOP_GATEWAY_MAX_BODY", 0 < self.gateway_max_body <= 2**30, "bytes, from 1 to 1,073,741,824")
        _require("SHOP_GATEWAY_RATE", 0 <= self.gateway_rate <= 1_000_000, "from 0 (any number) to 1,000,000 a second")
        _require("SHOP_GATEWAY_BURST", 1 <= self.gateway_burst <= 1_000_000, "a whole number from 1 to 1,000,000")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, *, port: int = 0) -> Settings:
        """The settings of this process. A variable that is unset or empty takes its default; `port` is SHOP_PORT's.

        Raises:
            SettingError: a value is not allowed.
        """
        source = os.environ if environment is None else environment
        given: dict[str, object] = {"port": port}
        if source.get("SHOP_TLS_DIR", "").strip():
            given |= _TLS_DEFAULTS
        for name, (variable, parse) in _VARIABLES.items():
            if text := source.get(variable, "").strip():
                given[name] = parse(variable, text)
        return cls(**given)  # type: ignore[arg-type]  # each parser returns the type of its field

    @property
    def bind(self) -> str:
        """The address to bind, as gRPC wants it."""
        return f"{_bracketed(self.host)}:{self.port}"

    def address(self, port: int) -> str:
        """The address that others dial when `port` is the one bound."""
        host = self.advertise or (socket.gethostname() if self.host in _WILDCARDS else self.host)
        return f"{_bracketed(host)}:{port}"

    @property
    def keys(self) -> Path:
        """The directory of keys."""
        return self.keys_dir or self.data / "keys"

    def database(self, service: str) -> str:
        """The URL of the database that `service` uses."""
        return self.database_url or f"sqlite:///{self.data / service}.db"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for a person on each variable that begins with SHOP_ and sets nothing: a slip, most likely."""
    known = {variable.removeprefix("SHOP_"): variable for variable, _ in _VARIABLES.values()}
    lines = []
    for variable in sorted(environment.keys() - known.values()):
        if variable.startswith("SHOP_"):
            nearest = difflib.get_close_matches(variable.removeprefix("SHOP_"), known, n=1)
            meant = f"; did you mean {known[nearest[0]]}?" if nearest else ""
            lines.append(f"{variable} is not a setting, and ignored{meant}")
    return lines


def environment() -> dict[str, str]:
    """All variables of this process, to pass on to the processes that it starts."""
    return dict(os.environ)


def _text(_variable: str, text: str) -> str:
    return text


def _number(variable: str, text: str) -> int:
    return _parsed(variable, text, int, "a whole number")


def _seconds(variable: str, text: str) -> float:
    return _parsed(variable, text, float, "a number of seconds")


def _rate(variable: str, text: str) -> float:
    return _parsed(variable, text, float, "a number")


def _path(_variable: str, text: str) -> Path:
    return Path(text).expanduser()


_VARIABLES: Mapping[str, tuple[str, Callable[[str, str], object]]] = {
    "registry_url": ("REGISTRY_URL", _text),
    "database_url": ("DATABASE_URL", _text),
    "nats_url": ("NATS_URL", _text),
    "cache_url": ("CACHE_URL", _text),
    "host": ("SHOP_HOST", _text),
    "port": ("SHOP_PORT", _number),
    "advertise": ("SHOP_ADVERTISE", _text),
    "weight": ("SHOP_WEIGHT", _number),
    "zone": ("SHOP_ZONE", _text),
    "version": ("SHOP_VERSION", _text),
    "data": ("SHOP_DATA", _path),
    "database_pool": ("SHOP_DATABASE_POOL", _number),
    "stream_replicas": ("SHOP_STREAM_REPLICAS", _number),
    "concurrency": ("SHOP_CONCURRENCY", _number),
    "order_timeout": ("SHOP_ORDER_TIMEOUT", _seconds),
    "order_stuck": ("SHOP_ORDER_STUCK", _seconds),
    "smtp_url": ("SHOP_SMTP_URL", _text),
    "mail_from": ("SHOP_MAIL_FROM", _text),
    "cache_namespaces": ("SHOP_CACHE_NAMESPACES", _text),
    "cache_timeout": ("SHOP_CACHE_TIMEOUT", _seconds),
    "catalog_cache": ("CATALOG_CACHE", _text),
    "catalog_ttl": ("SHOP_CATALOG_TTL", _seconds),
    "catalog_staleness": ("SHOP_CATALOG_STALENESS", _seconds),
    "catalog_entries": ("SHOP_CATALOG_ENTRIES", _number),
    "metrics_port": ("SHOP_METRICS_PORT", _number),
    "cache_max_entries": ("SHOP_CACHE_MAX_ENTRIES", _number),
    "cache_max_bytes": ("SHOP_CACHE_MAX_BYTES", _number),
    "keys_dir": ("SHOP_KEYS_DIR", _path),
    "tls_dir": ("SHOP_TLS_DIR", _path),
    "access_ttl": ("SHOP_ACCESS_TTL", _seconds),
    "refresh_ttl": ("SHOP_REFRESH_TTL", _seconds),
    "gateway_rate": ("SHOP_GATEWAY_RATE", _rate),
    "gateway_burst": ("SHOP_GATEWAY_BURST", _number),
    "trusted_proxies": ("SHOP_TRUSTED_PROXIES", _text),
    "log_level": ("SHOP_LOG_LEVEL", _text),
    "lease_ttl": ("SHOP_LEASE_TTL", _number),
    "propagation": ("SHOP_PROPAGATION", _seconds),
    "grace": ("SHOP_GRACE", _seconds),
    "gateway_timeout": ("SHOP_GATEWAY_TIMEOUT", _seconds),
    "gateway_max_body": ("SHOP_GATEWAY_MAX_BODY", _number),
}


def _parsed(variable: str, text: str, parse: Callable[[str], T], allowed: str) -> T:
    try:
        return parse(text)
    except ValueError:
        raise SettingError(variable, f"{text!r} is not {allowed}") from None


def _require(variable: str, holds: bool, allowed: str) -> None:
    if not holds:
        raise SettingError(variable, f"must be {allowed}")


def _url(variable: str, url: str, schemes: tuple[str, ...], *, optional: bool = False) -> None:
    if optional and not url:
        return
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        begins = "://" in url and urlsplit(url).scheme in schemes
    except ValueError:  # of a bracket that nothing closes; its message would show the URL
        begins = False
    _require(variable, begins, f"a URL that begins with {allowed}")


def _encrypts(variable: str, url: str, schemes: tuple[str, ...]) -> None:
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    _require(variable, not url or urlsplit(url).scheme in schemes, f"{allowed} where SHOP_TLS_DIR is set")


def _in_memory(url: str) -> bool:
    return urlsplit(url).scheme == "memory"


def _names_servers(url: str) -> bool:
    """Whether each part of a URL with several servers names one. `memory://` has none."""
    scheme, _, servers = url.partition("://")
    return _in_memory(url) or all(_is_server(f"{scheme}://{server}") for server in servers.split(","))


def _names_mail_server(url: str) -> bool:
    parts = urlsplit(url)
    return parts.path in ("", "/") and parts.query in ("", "starttls") and _is_server(url)


def _is_server(url: str) -> bool:
    """Whether a URL names a host, and a port if any."""
    try:
        parts = urlsplit(url)
        return parts.port != 0 and _is_host(parts.hostname or "")
    except ValueError:  # of a port that is none
        return False


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
