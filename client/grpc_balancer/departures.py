"""Instances that left the registry without a word of farewell: a few have died, but many at once need not have.

Who stops in order drains first. Who dies is deleted when its lease ends, and loses its connection as well. But leases
end too if the processes, or etcd, cannot hear each other, and a store can lose its keys: then whole services vanish
that are in the best of health. So if more than half of a service goes within a short time, and one by one is how leases
end, the registry is not believed: connectivity decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from grpc_registry import Instance

Key = tuple[str, str]

AT_ONCE_SECONDS = 30.0
"""Departures within this time count as one: leases of processes that were cut off together end within a TTL of each
other (10 s by default)."""


class Departures:
    """Those who left lately, serving and connected as far as we knew; the longest ago first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left: dict[Key, tuple[float, Instance]] = {}

    def add(self, leaving: Mapping[Key, Instance], present: Collection[Key]) -> Mapping[Key, Instance]:
        """These leave now; `present` are all who were there until now, they among them.

        Returns whom not to give up: all who left lately if that is more than half, else nobody.
        """
        now = self._clock()
        self._left = {key: left for key, left in self._left.items() if now - left[0] < AT_ONCE_SECONDS}
        self._left.update((key, (now, instance)) for key, instance in leaving.items())
        if not leaving or 2 * len(self._left) <= len(self._left.keys() | present):
            return {}
        return {key: instance for key, (_, instance) in self._left.items()}

    def forget(self, keys: Iterable[Key]) -> None:
        """They are back, or known to be dead."""
        for key in keys:
            self._left.pop(key, None)
