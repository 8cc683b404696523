"""What is known of a service's endpoints, and who may be picked: state changes only, no I/O and no waiting.

`apply` takes what the resolver says and returns which endpoints to open and which to retire; `connectivity_changed`
takes what the connections say. Whoever calls them does the opening and closing. Endpoints are told apart by instance
id and address: one that stays keeps its connection, its load and its statistics whatever else changes around it.

**Who may be picked.** Listed as serving, and connected (READY), as in gRPC's round_robin: a call that is picked finds a
connection, instead of finding out whether there is one. A draining endpoint finishes what it has.

**The outage contract.** A stale snapshot is used for ever. A snapshot that was read anew after a break (`relisted`),
and in which more than half of the serving endpoints are missing at once, may tell of a wiped or half-restored registry
rather than of dead instances, so connectivity decides: an endpoint that is missing in it becomes *doubted*. It stays
as it is until the registry lists it again (all is well), or its connection is lost or cannot be made (it is gone), or
its address is listed under another id (it was restarted). A doubted endpoint that keeps its connection is alive and
serves; later snapshots without it do not count against it, since a wiped registry refills one event at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from grpc import ChannelConnectivity

from grpc_balancer.outlook import Outlook, describe
from grpc_balancer.pickers.contract import CallInfo, Candidate, PickerFactory
from grpc_registry import Instance, Resolution, Snapshot, State, Unresolved


class Member(Candidate, Protocol):
    """What the balancer needs of an endpoint: `Endpoint`, or a `testing.FakeEndpoint`."""

    instance: Instance

    @property
    def connectivity(self) -> ChannelConnectivity:
        """The last state seen; TRANSIENT_FAILURE from a failed connection until a successful one."""

    @property
    def error(self) -> str:
        """Why the last connection failed, for a person; empty if unknown."""


E = TypeVar("E", bound=Member)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Changes(Generic[E]):
    """What to do about a change: open these, and let those finish their calls and close."""

    open: tuple[E, ...] = ()
    retire: tuple[E, ...] = ()


class Balancer(Generic[E]):
    """Owns the endpoints of one service. Not thread-safe; every method returns at once."""

    def __init__(
        self,
        service: str,
        policy: PickerFactory,
        make_endpoint: Callable[[Instance], E],
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        self.service = service
        self._policy = policy
        self._make_endpoint = make_endpoint
        self._rng = rng
        self._clock = clock
        self._resolution: Resolution | None = None
        self._stale_since = 0.0
        self._endpoints: dict[Key, E] = {}
        self._doubted: set[Key] = set()
        self._ready: dict[Key, E] = {}  # in the order in which they became READY
        self._picker: Any = None  # a Picker, whose candidates are all E
        self._picker_made_for: tuple[tuple[E, Instance], ...] = ()
        self._changed = False

    @property
    def endpoints(self) -> tuple[E, ...]:
        return tuple(self._endpoints.values())

    # Changes of the set

    def apply(self, resolution: Resolution) -> Changes[E]:
        """Take what the resolver says of the service now."""
        if isinstance(resolution, Unresolved):
            if not isinstance(self._resolution, Snapshot):  # else: what was known stays known
                self._resolution = resolution
            return Changes()
        if resolution.stale and not (isinstance(self._resolution, Snapshot) and self._resolution.stale):
            self._stale_since = self._clock()
        self._resolution = resolution
        self._changed = True
        listed = {_key(instance): instance for instance in resolution.instances}
        missing = [key for key in self._endpoints if key not in listed]
        self._doubted.difference_update(listed)
        if resolution.relisted and self._is_mass_deletion(missing):
            self._doubted.update(missing)
        taken = {instance.address for instance in resolution.instances}
        retired = [key for key in missing if not self._survives(key, taken)]
        opened = [key for key in listed if key not in self._endpoints]
        for key, instance in listed.items():
            if key in self._endpoints:
                self._endpoints[key].instance = instance
            else:
                self._endpoints[key] = self._make_endpoint(instance)
        return Changes(tuple(self._endpoints[key] for key in opened), tuple(self._remove(key) for key in retired))

    def connectivity_changed(self, endpoint: E) -> Changes[E]:
        """Take that `endpoint.connectivity` has changed, or may have."""
        key = _key(endpoint.instance)
        if self._endpoints.get(key) is not endpoint:
            return Changes()
        self._changed = True
        if endpoint.connectivity is ChannelConnectivity.READY:
            self._ready.setdefault(key, endpoint)
            return Changes()
        lost = self._ready.pop(key, None) is not None
        if key in self._doubted and (lost or endpoint.connectivity is ChannelConnectivity.TRANSIENT_FAILURE):
            return Changes(retire=(self._remove(key),))
        return Changes()

    def _is_mass_deletion(self, missing: Collection[Key]) -> bool:
        serving = {key for key in self._endpoints if self._is_serving(key) and key not in self._doubted}
        return 2 * len(serving.intersection(missing)) > len(serving)

    def _survives(self, key: Key, taken: Collection[str]) -> bool:
        endpoint = self._endpoints[key]
        connects = endpoint.connectivity is not ChannelConnectivity.TRANSIENT_FAILURE
        return key in self._doubted and connects and endpoint.instance.address not in taken

    def _remove(self, key: Key) -> E:
        self._doubted.discard(key)
        self._ready.pop(key, None)
        return self._endpoints.pop(key)

    def _is_serving(self, key: Key) -> bool:
        return self._endpoints[key].instance.state is State.SERVING

    # Picks

    def pick(self, call: CallInfo) -> E | None:
        """An endpoint for `call`, or None if there is none to pick now; then `outlook` says what may be hoped for."""
        if self._changed:
            self._renew_picker()
        if self._picker is None:
            return None
        endpoint: E = self._picker.pick(call)
        return endpoint

    def pick_another(self, call: CallInfo, tried: Collection[E]) -> E | None:
        """As `pick`, but none of `tried`. Costs time in proportion to the number of endpoints: for failed attempts."""
        left = [endpoint for endpoint in self._eligible() if endpoint not in tried]
        if not left:
            return None
        picker: Any = self._policy(left, self._rng)
        endpoint: E = picker.pick(call)
        return endpoint

    def _renew_picker(self) -> None:
        """Make a new picker if there is anything new for it; a picker half through its cycle is worth keeping."""
        self._changed = False
        eligible = self._eligible()
        made_for = tuple((endpoint, endpoint.instance) for endpoint in eligible)
        if made_for != self._picker_made_for:
            self._picker = self._policy(eligible, self._rng) if eligible else None
            self._picker_made_for = made_for

    def _eligible(self) -> tuple[E, ...]:
        return tuple(endpoint for key, endpoint in self._ready.items() if self._is_serving(key))

    # What is known

    def outlook(self, tried: Collection[E] = ()) -> Outlook:
        """What a call that found no endpoint outside `tried` may hope for."""
        if self._resolution is None:
            return Outlook.PENDING
        if isinstance(self._resolution, Unresolved):
            return Outlook.NONE
        hope = Outlook.NONE
        for key, endpoint in self._endpoints.items():
            if self._is_serving(key) and endpoint not in tried:
                if endpoint.connectivity is ChannelConnectivity.READY:
                    return Outlook.READY
                if endpoint.connectivity is not ChannelConnectivity.TRANSIENT_FAILURE:
                    hope = Outlook.PENDING
        return hope

    def describe(self) -> str:
        """Why there is no endpoint to pick, for a person: the service, its endpoints, the age of what is known."""
        stale_for = self._clock() - self._stale_since
        return describe(self.service, self._resolution, self.endpoints, stale_for)

    def __repr__(self) -> str:
        doubted = f", {len(self._doubted)} doubted" if self._doubted else ""
        return f"<Balancer {self.service!r}: {len(self._eligible())} of {len(self._endpoints)} ready{doubted}>"


def _key(instance: Instance) -> Key:
    return instance.id, instance.address
