"""Instances that other frameworks registered, by the machinery that finds our own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from grpc_registry.config import ConfigResolution
from grpc_registry.contract import ConfigSource
from grpc_registry.etcd.formats import Format
from grpc_registry.etcd.kv import KeyRange
from grpc_registry.etcd.resolver import Resolver
from grpc_registry.instance import Resolution, Snapshot, check_name


class FormatResolver:
    """Finds the instances that are registered in another format, over the connection of a registry.

    Service configs are ours wherever the instances are: so `source` is asked for them.
    """

    def __init__(self, form: Format, resolver: Resolver[Snapshot], source: ConfigSource) -> None:
        self._form = form
        self._resolver = resolver
        self._source = source

    def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        """As `grpc_registry.Resolver.watch`."""
        keys = KeyRange.under(self._form.prefix(check_name(service, "service")))
        return self._resolver.read(service, keys)

    def watch_config(self, service: str) -> AsyncGenerator[ConfigResolution, None]:
        """As `grpc_registry.ConfigSource.watch_config`."""
        return self._source.watch_config(service)

    async def close(self) -> None:
        """End every watch."""
        await self._resolver.close()
