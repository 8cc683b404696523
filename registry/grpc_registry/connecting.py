"""From a URL to a registry."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from grpc_registry import memory
from grpc_registry.arguments import check_seconds, check_ttl
from grpc_registry.contract import Registry
from grpc_registry.etcd.formats import Format, format_of
from grpc_registry.etcd.registry import EtcdRegistry
from grpc_registry.url import DEFAULT_PREFIX, MemoryUrl, parse_url


def connect(
    url: str,
    *,
    prefix: str = DEFAULT_PREFIX,
    ttl: int = 10,
    timeout: float = 5.0,
    close_timeout: float = 3.0,
    also: Iterable[Format | str] = (),
    rng: Random | None = None,
) -> Registry:
    """The registry at `url`: use it as `async with connect(url) as registry:`.

    Nothing is connected yet, and the registry need not be up: what needs it waits, or says so.

    Args:
        url: `etcd://[user:password@]host:port[,host:port…][/prefix]`; `etcds://` for TLS, with file paths in
            `?ca=…&cert=…&key=…` and a name to expect in `server_name=…`, each optional; or `memory://[name]`.
        prefix: where instances are kept, `{prefix}/{service}/{id}`. A prefix in the URL replaces it.
        ttl: seconds that an instance stays registered after its process died without a word (go-zero takes 10 as well,
            kratos 15), a whole number from 2 to 9,000,000,000. etcd grants at least one and a half elections, 2 s as it
            comes. Less makes a crash known sooner,
            and a pause of the process more likely to unregister an instance that is well. A restarted etcd gives each
            lease its full time again: who must be known dead within 5 s of its return needs 4 or less.
        timeout: seconds within which `list`, `edit` and `update` must succeed, else `RegistryUnavailable`.
        close_timeout: seconds that closing may wait for the registry to take the removal.
        also: formats that instances are registered in as well, in the same transaction and on the same lease:
            `"kratos"`, `"go-zero"`, or one with settings, such as `Kratos(namespace="/shop")`. An instance that drains
            is taken out of them, since they have no word for it. Of no meaning for `memory://`.
        rng: for jitter; a seeded one makes a test repeat exactly.

    Raises:
        InvalidUrl: the message names the wrong part, and never the password.
        ValueError: a number out of its range; a format that there is not, or whose keys would be among our own or
            another's.
        TypeError: an argument of another kind; the message says what is needed.
    """
    parsed = parse_url(url, prefix=prefix)
    check_ttl(ttl)
    check_seconds(timeout, "timeout")
    check_seconds(close_timeout, "close_timeout", or_none=True)
    if isinstance(also, str) or not isinstance(also, Iterable):
        raise TypeError(f"also {also!r}: a list of formats, such as ['kratos']")
    formats = tuple(map(format_of, also))
    if isinstance(parsed, MemoryUrl):
        return memory.MemoryRegistry(memory.space(parsed.name), ttl=ttl)
    for form in formats:
        if form.prefix("service").startswith(f"{parsed.prefix}/".encode()):
            raise ValueError(f"{form}: its keys would be among our own, below {parsed.prefix}/")
    if len({form.key("service", "id", 1) for form in formats}) < len(formats):
        raise ValueError("two formats have the same keys: give one of them another namespace or name")
    return EtcdRegistry(
        parsed, also=formats, ttl=ttl, timeout=timeout, close_timeout=close_timeout, rng=rng or Random()
    )
