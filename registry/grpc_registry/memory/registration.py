"""An instance in a memory space, put again after every loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from grpc_registry.errors import RegistryClosed, RegistryUnavailable
from grpc_registry.instance import Instance, State
from grpc_registry.memory.spaces import Entry, Lease, MemorySpace
from grpc_registry.waiting import Changes


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
        self._instance = edited(self._instance, weight, state)
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


def edited(instance: Instance, weight: int | None, state: State | None) -> Instance:
    """`instance` with another weight or state, where one is given."""
    return replace(
        instance,
        weight=instance.weight if weight is None else weight,
        state=instance.state if state is None else state,
    )
