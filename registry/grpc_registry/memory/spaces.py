"""What stands in for etcd: instances under leases, service configs, and all that a test may do to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from grpc_registry.instance import Instance

Key = tuple[str, str]


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


class Connected(Protocol):
    """What a space knows of a registry that is connected to it."""

    def settle(self) -> None:
        """Put right in the space what is its own."""

    def publish(self, *, anew: bool = False) -> None:
        """Tell its readers what there is; `anew` as after a break."""


class MemorySpace:
    """What several registries share. `clock` tells the time in seconds; only `crash` and `expire` ask."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.away = ""
        """Why the space cannot be reached; empty while it can."""
        self.revision = 1
        self.entries: dict[Key, Entry] = {}
        self.configs: dict[str, str] = {}
        self.registries: list[Connected] = []

    def put(self, instance: Instance) -> None:
        """Register or change an instance as some other process would; it stays until it is deleted."""
        self.entries[instance.service, instance.id] = Entry(instance, Lease())
        self.changed()

    def delete(self, service: str, instance_id: str) -> None:
        """Remove an instance as by hand; an owner that runs puts it again. Raises `KeyError` if it is not there."""
        del self.entries[service, instance_id]
        self.changed()

    def put_config(self, service: str, text: str) -> None:
        """Write a service config as by hand, valid or not."""
        self.configs[service] = text
        self.changed()

    def delete_config(self, service: str) -> None:
        """Remove a service config. Raises `KeyError` if there is none."""
        del self.configs[service]
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
        self.configs.clear()
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
