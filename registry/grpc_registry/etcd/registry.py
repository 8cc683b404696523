"""The parts put together: `grpc_registry.contract.Registry` over etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from random import Random
from types import TracebackType
from typing import Self

from grpc_registry.config import ConfigResolution, check_config
from grpc_registry.contract import ALL_SERVICES, Listing
from grpc_registry.errors import InvalidInstance, RegistryClosed, UnknownConfig
from grpc_registry.etcd import kv
from grpc_registry.etcd.companions import Companions
from grpc_registry.etcd.config import ConfigReader, get_config
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.directory import edit_instance, list_instances, remove_instance
from grpc_registry.etcd.foreign import FormatResolver
from grpc_registry.etcd.formats import Format, format_of
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyRange
from grpc_registry.etcd.reader import Reader
from grpc_registry.etcd.registration import EtcdRegistration
from grpc_registry.etcd.resolver import RELIST_SECONDS, Resolver
from grpc_registry.etcd.session import Session
from grpc_registry.instance import Instance, Resolution, State, check_instance, check_name
from grpc_registry.service_config import POLICIES
from grpc_registry.url import EtcdUrl


class EtcdRegistry:
    """A registry in an etcd cluster. Made by `grpc_registry.connect`, which documents the parameters."""

    def __init__(
        self,
        url: EtcdUrl,
        *,
        ttl: int,
        timeout: float,
        close_timeout: float,
        rng: Random,
        also: tuple[Format, ...] = (),
        relist_seconds: float = RELIST_SECONDS,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._rng = rng
        self._keyspace = Keyspace(url.prefix)
        self._connection = Connection(url, rng)
        self._session = Session(self._connection, ttl, rng)
        self._reader = Reader(self._keyspace)
        self._resolver = Resolver(self._connection, self._reader, rng, relist_seconds=relist_seconds)
        self._relist_seconds = relist_seconds
        self._configs = Resolver(self._connection, ConfigReader(), rng, relist_seconds=relist_seconds)
        self._foreign: dict[Format, FormatResolver] = {}
        self._companions = Companions(also)
        self._registrations: dict[bytes, EtcdRegistration] = {}
        self._closed = False

    def register(self, instance: Instance) -> EtcdRegistration:
        self._check_open()
        check_instance(instance)
        key = self._keyspace.instance(instance.service, instance.id)
        if key in self._registrations:
            raise InvalidInstance(f"{instance.service}/{instance.id} is registered by this registry already")
        self._companions.check(instance, (registration.instance for registration in self._registrations.values()))
        registration = self._registrations[key] = EtcdRegistration(
            self._connection,
            self._session,
            key,
            instance,
            self._companions,
            self._rng,
            timeout=self._timeout,
            close_timeout=self._close_timeout,
            on_closed=lambda: self._registrations.pop(key, None),
        )
        return registration

    def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        self._check_open()
        return self._resolver.read(service, self._keyspace.service(check_name(service, "service")))

    def watch_all(self) -> AsyncGenerator[Resolution, None]:
        self._check_open()
        return self._resolver.read(ALL_SERVICES, self._keyspace.everything())

    async def list(self, service: str | None = None) -> list[Listing]:
        self._check_open()
        if service is None:
            keys = self._keyspace.everything()
        else:
            keys = self._keyspace.service(check_name(service, "service"))
        return await self._connection.patiently(
            lambda: list_instances(self._connection, self._reader, keys), self._timeout
        )

    async def edit(
        self, service: str, instance_id: str, *, weight: int | None = None, state: State | None = None
    ) -> Instance:
        self._check_open()
        return await self._connection.patiently(
            lambda: edit_instance(self._connection, self._keyspace, service, instance_id, weight=weight, state=state),
            self._timeout,
        )

    async def remove(self, service: str, instance_id: str) -> None:
        self._check_open()
        await self._connection.patiently(
            lambda: remove_instance(self._connection, self._keyspace, self._companions, service, instance_id),
            self._timeout,
        )

    def in_format(self, form: Format | str) -> FormatResolver:
        self._check_open()
        form = format_of(form)
        if form not in self._foreign:
            resolver = Resolver(self._connection, Reader(form), self._rng, relist_seconds=self._relist_seconds)
            self._foreign[form] = FormatResolver(form, resolver, self)
        return self._foreign[form]

    def watch_config(self, service: str) -> AsyncGenerator[ConfigResolution, None]:
        self._check_open()
        return self._configs.read(service, KeyRange(self._keyspace.config(service)))

    async def get_config(self, service: str) -> str | None:
        self._check_open()
        key = self._keyspace.config(service)
        return await self._connection.patiently(lambda: get_config(self._connection, key), self._timeout)

    async def set_config(self, service: str, text: str, *, policies: Collection[str] = POLICIES) -> None:
        key = self._keyspace.config(service)
        value = check_config(text, policies)
        self._check_open()
        await self._connection.patiently(lambda: kv.put(self._connection, key, value), self._timeout)

    async def remove_config(self, service: str) -> None:
        if await self.get_config(service) is None:
            raise UnknownConfig(f"{service!r} has no service config")
        key = self._keyspace.config(service)
        await self._connection.patiently(lambda: kv.delete(self._connection, key), self._timeout)

    async def close(self) -> None:
        """Registrations first, which need the rest; the channels last, since gRPC cancels what still uses them."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.gather(*(registration.close() for registration in list(self._registrations.values())))
        finally:
            await self._session.close()
            await self._resolver.close()
            await self._configs.close()
            await asyncio.gather(*(foreign.close() for foreign in self._foreign.values()))
            await self._connection.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosed("the registry is closed")

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._connection.state
        return f"<{type(self).__name__} {self._url} {state}, {len(self._registrations)} registered>"
