"""Instances that left the registry without a word of farewell: a few have died, but many at once need not have.

Who stops in order drains first. Who dies is deleted when its lease ends, and loses its connection as well. But leases
end too if the processes and etcd cannot hear each other, and a store can lose its keys: then whole services vanish that
are in the best of health. So if more than half of a service goes within a short time (one by one: so leases end) and
nobody comes in their place, the registry is not believed: connectivity decides.
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
        self._gone: dict[Key, tuple[float, Instance]] = {}

    def add(self, leaving: Mapping[Key, Instance], present: Collection[Key], listed: int) -> Mapping[Key, Instance]:
        """These leave now; `present` are all who were there until now, they among them; so many are `listed` now.

        Returns whom not to give up: all who went lately if that is a mass deletion, else nobody.
        """
        now = self._clock()
        self._gone = {key: gone for key, gone in self._gone.items() if now - gone[0] < AT_ONCE_SECONDS}
        self._gone.update((key, (now, instance)) for key, instance in leaving.items())
        before = len(self._gone.keys() | present)
        if not leaving or 2 * len(self._gone) <= before or 2 * listed >= before:
            return {}
        return {key: instance for key, (_, instance) in self._gone.items()}

    def forget(self, keys: Iterable[Key]) -> None:
        """They are back, or known to be dead."""
        for key in keys:
            self._gone.pop(key, None)
