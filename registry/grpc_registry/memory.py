"""The same contract without a server: for tests, and for programs that are one process.

A `MemorySpace` is what etcd is elsewhere: registries connected to one space see each other. It can be made to go away,
come back, lose its leases or all of its data, so that a test puts a client through an outage in no time:

    space = grpc_registry.memory.space("shop")          # what memory://shop connects to
    space.put(Instance("product", "10.0.0.1:50051"))    # an instance of some other process
    space.go_away()                                     # snapshots become stale, registrations wait
    space.come_back()

Nothing expires by itself: `expire` drops the instances of crashed owners whose time is over by the injected clock.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType
from typing import Self

from grpc_registry.contract import ALL_SERVICES, Listing
from grpc_registry.errors import InvalidInstance, RegistryClosed, RegistryUnavailable, UnknownInstance
from grpc_registry.feed import Feed
from grpc_registry.fold import snapshot_of
from grpc_registry.instance import Instance, Resolution, State, check_name
from grpc_registry.waiting import Changes

_Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class Lease:
    """What holds an entry; with a `ttl` of 0 for ever. It `expires` only once its owner has crashed."""

    ttl: int = 0
    expires: float = inf


@dataclass(frozen=True, slots=True)
class Entry:
    """An instance and its lease."""

    instance: Instance
    lease: Lease


class MemorySpace:
    """What several registries share. `clock` tells the time in seconds; only `crash` and `expire` ask."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.away = ""
        """Why the space cannot be reached; empty while it can."""
        self.revision = 1
        self.entries: dict[_Key, Entry] = {}
        self.registries: list[MemoryRegistry] = []

    def put(self, instance: Instance) -> None:
        """Register or change an instance as some other process would; it stays until it is deleted."""
        self.entries[instance.service, instance.id] = Entry(instance, Lease())
        self.changed()

    def delete(self, service: str, instance_id: str) -> None:
        """Remove an instance as by hand; an owner that runs puts it again. Raises `KeyError` if it is not there."""
        del self.entries[service, instance_id]
        self.changed()

    def go_away(self, reason: str = "the space went away") -> None:
        """Stop to answer: snapshots become stale, writes are kept for later."""
        self.away = reason
        self.changed()

    def come_back(self) -> None:
        """Answer again: everything is read anew, and written that could not be."""
        self.away = ""
        self.changed(anew=True)

    def lose_leases(self) -> None:
        """End every lease and delete what it held; owners that run register again."""
        self._keep(lambda entry: not entry.lease.ttl)
        self.changed()

    def expire(self) -> None:
        """Delete the instances of crashed owners whose TTL is over."""
        now = self.clock()
        self._keep(lambda entry: entry.lease.expires > now)
        self.changed()

    def wipe(self) -> None:
        """Lose everything, as a disk that was replaced; owners that run register again."""
        self.entries.clear()
        self.revision = 0
        self.changed(anew=True)

    def changed(self, *, anew: bool = False) -> None:
        """Let owners put right what is theirs, then readers see the result; `anew` as after a break."""
        self.revision += 1
        if not self.away:
            for registry in self.registries:
                registry.settle()
        for registry in self.registries:
            registry.publish(anew=anew)

    def _keep(self, worth: Callable[[Entry], bool]) -> None:
        self.entries = {key: entry for key, entry in self.entries.items() if worth(entry)}


_spaces: dict[str, MemorySpace] = {}


def space(name: str = "") -> MemorySpace:
    """The space that `memory://name` connects to in this process; made when it is first asked for."""
    return _spaces.setdefault(name, MemorySpace())


class MemoryRegistration:
    """Keeps `Registration`'s promises over a space."""

    def __init__(self, space: MemorySpace, lease: Lease, instance: Instance, on_closed: Callable[[], object]) -> None:
        self._space = space
        self._lease = lease
        self._instance = instance
        self._on_closed = on_closed
        self._unwritten = True
        self._closed = False
        self._changes = Changes()

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def registered(self) -> bool:
        return not self._closed and not self._unwritten

    async def wait_registered(self) -> None:
        await self._changes.until(lambda: self.registered or self._closed)
        self._check_open()

    async def update(self, *, weight: int | None = None, state: State | None = None) -> None:
        self._check_open()
        self._instance = _edited(self._instance, weight, state)
        self._unwritten = True
        self._space.changed()
        if self._unwritten:
            raise RegistryUnavailable(f"{self._space.away}: the change will be written when it is back")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._changes.tell()
        self._on_closed()
        key = self._instance.service, self._instance.id
        entry = self._space.entries.get(key)
        if entry is not None and entry.lease is self._lease and not self._space.away:
            self._space.delete(*key)

    def settle(self) -> None:
        """Write the entry if it is missing or was changed here, adopt what others changed in it."""
        key = self._instance.service, self._instance.id
        entry = self._space.entries.get(key)
        if entry is not None and not self._unwritten:
            found = entry.instance
            self._instance = replace(self._instance, weight=found.weight, state=found.state, metadata=found.metadata)
        self._space.entries[key] = Entry(self._instance, self._lease)
        self._unwritten = False
        self._changes.tell()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "registered" if self.registered else "waiting for the registry"
        return f"<{type(self).__name__} {self._instance.service}/{self._instance.id} {state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosed(f"{self._instance.service}/{self._instance.id}: the registration is closed")


class MemoryRegistry:
    """A registry in a `MemorySpace`."""

    def __init__(self, space: MemorySpace, *, ttl: int = 10) -> None:
        self.space = space
        self._lease = Lease(ttl)
        self._registrations: dict[_Key, MemoryRegistration] = {}
        self._feeds: dict[str, Feed] = {}
        self._closed = False
        space.registries.append(self)

    def register(self, instance: Instance) -> MemoryRegistration:
        self._check_open()
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
        instance = _edited(entry.instance, weight, state)
        self.space.entries[service, instance_id] = Entry(instance, entry.lease)
        self.space.changed()
        return instance

    async def remove(self, service: str, instance_id: str) -> None:
        self._check_answers()
        if (service, instance_id) in self.space.entries:
            self.space.delete(service, instance_id)

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
        for service, feed in self._feeds.items():
            if self.space.away:
                feed.unreachable(self.space.away)
                continue
            found = snapshot_of(service, self.space.revision, (entry.instance for entry in self._entries(service)))
            feed.listed(found) if anew else feed.folded(found)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _feed(self, service: str) -> Feed:
        self._check_open()
        if service not in self._feeds:
            self._feeds[service] = Feed(service)
            self.publish()
        return self._feeds[service]

    def _entries(self, service: str) -> Sequence[Entry]:
        keys = sorted(key for key in self.space.entries if service in (key[0], ALL_SERVICES))
        return [self.space.entries[key] for key in keys]

    def _leave(self) -> None:
        self._closed = True
        self.space.registries.remove(self)
        for feed in self._feeds.values():
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


def _edited(instance: Instance, weight: int | None, state: State | None) -> Instance:
    return replace(
        instance,
        weight=instance.weight if weight is None else weight,
        state=instance.state if state is None else state,
    )
