"""`grpc_registry.contract.Registry` over a memory space."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from types import TracebackType
from typing import Self

from grpc_registry.config import ConfigResolution, ConfigSnapshot, check_config
from grpc_registry.contract import ALL_SERVICES, Listing
from grpc_registry.errors import (
    InvalidInstance,
    RegistryClosed,
    RegistryUnavailable,
    UnknownConfig,
    UnknownInstance,
)
from grpc_registry.etcd.formats import Format, format_of
from grpc_registry.feed import Feed
from grpc_registry.fold import snapshot_of
from grpc_registry.instance import Instance, Resolution, Snapshot, State, check_instance, check_name
from grpc_registry.memory.registration import MemoryRegistration, edited
from grpc_registry.memory.spaces import Entry, Key, Lease, MemorySpace
from grpc_registry.service_config import POLICIES


class MemoryRegistry:
    """A registry in a `MemorySpace`."""

    def __init__(self, space: MemorySpace, *, ttl: int = 10) -> None:
        self.space = space
        self._lease = Lease(ttl)
        self._registrations: dict[Key, MemoryRegistration] = {}
        self._feeds: dict[str, Feed[Snapshot]] = {}
        self._config_feeds: dict[str, Feed[ConfigSnapshot]] = {}
        self._closed = False
        space.registries.append(self)

    def register(self, instance: Instance) -> MemoryRegistration:
        self._check_open()
        check_instance(instance)
        key = instance.service, instance.id
        if key in self._registrations:
            raise InvalidInstance(f"{instance.service}/{instance.id} is registered by this registry already")
        registration = MemoryRegistration(
            self.space, self._lease, instance, on_closed=lambda: self._registrations.pop(key, None)
        )
        self._registrations[key] = registration
        self.space.changed()
        return registration

    def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        return self._feed(check_name(service, "service")).read()

    def watch_all(self) -> AsyncGenerator[Resolution, None]:
        return self._feed(ALL_SERVICES).read()

    def in_format(self, form: Format | str) -> Self:
        self._check_open()
        format_of(form)
        return self

    async def list(self, service: str | None = None) -> list[Listing]:
        self._check_answers()
        wanted = ALL_SERVICES if service is None else check_name(service, "service")
        return [Listing(entry.instance, entry.lease.ttl) for entry in self._entries(wanted)]

    async def edit(
        self, service: str, instance_id: str, *, weight: int | None = None, state: State | None = None
    ) -> Instance:
        self._check_answers()
        entry = self.space.entries.get((service, instance_id))
        if entry is None:
            raise UnknownInstance(f"no instance {instance_id!r} of {service!r} is registered")
        instance = edited(entry.instance, weight, state)
        self.space.entries[service, instance_id] = Entry(instance, entry.lease)
        self.space.changed()
        return instance

    async def remove(self, service: str, instance_id: str) -> None:
        self._check_answers()
        if (service, instance_id) in self.space.entries:
            self.space.delete(service, instance_id)

    def watch_config(self, service: str) -> AsyncGenerator[ConfigResolution, None]:
        self._check_open()
        if service not in self._config_feeds:
            self._config_feeds[check_name(service, "service")] = Feed(service)
            self.publish()
        return self._config_feeds[service].read()

    async def get_config(self, service: str) -> str | None:
        self._check_answers()
        return self.space.configs.get(check_name(service, "service"))

    async def set_config(self, service: str, text: str, *, policies: Collection[str] = POLICIES) -> None:
        check_name(service, "service")
        check_config(text, policies)
        self._check_answers()
        self.space.put_config(service, text)

    async def remove_config(self, service: str) -> None:
        if await self.get_config(service) is None:
            raise UnknownConfig(f"{service!r} has no service config")
        self.space.delete_config(service)

    async def close(self) -> None:
        if self._closed:
            return
        for registration in tuple(self._registrations.values()):
            await registration.close()
        self._leave()

    def crash(self) -> None:
        """End as by `kill -9`: what it registered stays until its TTL is over and `MemorySpace.expire` is called."""
        self._lease.expires = self.space.clock() + self._lease.ttl
        self._leave()

    def settle(self) -> None:
        """Let every registration put its entry right."""
        for registration in self._registrations.values():
            registration.settle()

    def publish(self, *, anew: bool = False) -> None:
        """Tell every reader what there is, or that it cannot be known."""
        if self.space.away:
            for away in self._all_feeds():
                away.unreachable(self.space.away)
            return
        revision = self.space.revision
        for service, feed in self._feeds.items():
            found = snapshot_of(service, revision, (entry.instance for entry in self._entries(service)))
            feed.listed(found) if anew else feed.folded(found)
        for service, config_feed in self._config_feeds.items():
            config = ConfigSnapshot(service, revision, self.space.configs.get(service))
            config_feed.listed(config) if anew else config_feed.folded(config)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _feed(self, service: str) -> Feed[Snapshot]:
        self._check_open()
        if service not in self._feeds:
            self._feeds[service] = Feed(service)
            self.publish()
        return self._feeds[service]

    def _all_feeds(self) -> Iterable[Feed[Snapshot] | Feed[ConfigSnapshot]]:
        return [*self._feeds.values(), *self._config_feeds.values()]

    def _entries(self, service: str) -> Sequence[Entry]:
        keys = sorted(key for key in self.space.entries if service in (key[0], ALL_SERVICES))
        return [self.space.entries[key] for key in keys]

    def _leave(self) -> None:
        self._closed = True
        self.space.registries.remove(self)
        for feed in self._all_feeds():
            feed.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosed("the registry is closed")

    def _check_answers(self) -> None:
        self._check_open()
        if self.space.away:
            raise RegistryUnavailable(self.space.away)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "unreachable" if self.space.away else "reachable"
        return f"<{type(self).__name__} {state}, {len(self._registrations)} registered>"
