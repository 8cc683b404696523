"""What is known of a service's endpoints, and who may be picked: state changes only, no I/O and no waiting.

`apply` takes what the resolver says and returns which endpoints to open and which to retire; `connectivity_changed`
takes what the connections say, `failed` what calls say. Whoever calls them does the opening and closing. Endpoints are
told apart by instance id and address: one that stays keeps its connection, its load and its statistics whatever else
changes around it, and one that comes back finds its statistics again.

**Who may be picked.** Listed as serving, and connected (READY), as in gRPC's round_robin: a call that is picked finds a
connection, instead of finding out whether there is one. A draining endpoint finishes what it has. Of those, the ones
that are ejected (`outlier`) or suspect (`hosts`) are left out, as long as enough remain.

**The outage contract.** A stale snapshot is used for ever. If more than half of the serving endpoints vanish from the
registry within a short time without having drained, and no others take their place, that may tell of a wiped registry,
or of one that cannot hear its services, rather than of dead instances (`departures`). So connectivity decides: an
endpoint that is missing becomes *doubted*, and one that was let go of moments before is opened again as such. It stays
until the registry lists it again (all is well), or its connection is lost or cannot be made (it is gone), or its
address is listed under another id, or its id with another address (it was restarted).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from grpc import ChannelConnectivity

from grpc_balancer.departures import Departures, Key
from grpc_balancer.explanation import Considered
from grpc_balancer.hosts import Suspects
from grpc_balancer.load import Load
from grpc_balancer.outlier import Detector, Record, panics
from grpc_balancer.outlook import Outlook, describe
from grpc_balancer.pickers.contract import CallInfo, PickerFactory
from grpc_balancer.rules import Rules
from grpc_balancer.selection import Selection
from grpc_balancer.subset import nearest
from grpc_registry import Instance, Resolution, Snapshot, State, Unresolved
from grpc_registry.service_config import OutlierDetection


class Member(Protocol):
    """What the balancer needs of an endpoint: `Endpoint`, or a `testing.FakeEndpoint`."""

    instance: Instance
    weight: int
    """The effective weight, which the balancer sets whenever it makes a picker."""
    load: Load
    record: Record

    @property
    def connectivity(self) -> ChannelConnectivity:
        """The last state seen; TRANSIENT_FAILURE from a failed connection until a successful one."""

    @property
    def error(self) -> str:
        """Why the last connection failed, for a person; empty if unknown."""


E = TypeVar("E", bound=Member)
_NO_DETECTION = OutlierDetection(consecutive_failures=0)

_REMEMBERED_AT_MOST = 1_000
"""Endpoints that left, whose statistics are kept for their return."""


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
        rules: Rules | None = None,
    ) -> None:
        self.service = service
        self.rules = rules or Rules()
        self._make_endpoint = make_endpoint
        self._clock = clock
        self._resolution: Resolution | None = None
        self._stale_since = 0.0
        self._listed: Mapping[Key, Instance] = {}
        self._endpoints: dict[Key, E] = {}
        self._departed: dict[Key, Load] = {}
        self._doubted: set[Key] = set()
        self._departures = Departures(clock)
        self._failed: set[Key] = set()  # as of the last choice of a subset
        self._ready: dict[Key, E] = {}  # in the order in which they became READY
        self._suspects = Suspects()
        self._selection: Selection[E] = Selection(policy, rng, self.rules)
        self._detector: Detector[Key] = Detector(self.rules.outlier_detection or _NO_DETECTION, rng)
        self._next_sweep = clock() + self._detector.settings.interval
        self._picker: Any = None  # a Picker, whose candidates are all E
        self._changed = False

    @property
    def endpoints(self) -> tuple[E, ...]:
        return tuple(self._endpoints.values())

    def reconfigure(self, policy: PickerFactory, outlier_detection: OutlierDetection | None) -> None:
        """Go on with another policy, or other rules for ejection. Nothing that is known of an endpoint is lost."""
        self._selection.policy = policy
        settings = outlier_detection or _NO_DETECTION
        if settings != self._detector.settings:
            self._detector.settings = settings
            self._next_sweep = self._clock() + settings.interval
        self._changed = True

    def tell_outliers(self, to: Callable[[str, str], object]) -> None:
        """From now on call `to` for each outlier, as `outlier.Detector.on_outlier` has it."""
        self._detector.on_outlier = to

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
        self._listed = {_key(instance): instance for instance in resolution.instances}
        self._doubted.difference_update(self._listed)
        self._departures.forget(self._listed)
        doubted = self._not_believed(relisted=resolution.relisted)
        self._doubted.update(doubted)
        for key, endpoint in self._endpoints.items():
            endpoint.instance = self._listed.get(key, endpoint.instance)
        return self._reconcile(doubted)

    def connectivity_changed(self, endpoint: E) -> Changes[E]:
        """Take that `endpoint.connectivity` has changed, or may have."""
        key = _key(endpoint.instance)
        if self._endpoints.get(key) is not endpoint:
            return Changes()
        self._changed = True
        if endpoint.connectivity is ChannelConnectivity.READY:
            if key not in self._ready:
                self._selection.became_ready(endpoint, self._clock())
                self._ready[key] = endpoint
        else:
            lost = self._ready.pop(key, None) is not None
            if endpoint.connectivity is ChannelConnectivity.TRANSIENT_FAILURE:
                self._selection.lost(endpoint)  # else its server may just have asked for another connection
            self._suspects.forget(endpoint)  # its next connection proves that it is there
            if lost:
                self._detector.lost_connection(endpoint.record)
            if key in self._doubted and (lost or endpoint.connectivity is ChannelConnectivity.TRANSIENT_FAILURE):
                self._departures.forget([key])
                return Changes(retire=(self._remove(key),))
        if self.rules.max_endpoints is None or (key in self._failed) is (not self._may_connect(key)):
            return Changes()
        return self._reconcile()

    def _not_believed(self, *, relisted: bool) -> Mapping[Key, Instance]:
        """Those that are missing in the registry now, or since lately, and nevertheless are given a chance."""
        missing = [key for key in self._endpoints if key not in self._listed and key not in self._doubted]
        if not missing:
            return {}
        successors = self._names()
        present = {key for key in self._endpoints if self._is_serving(key) and self._may_connect(key)}
        leaving = [key for key in missing if key in present and successors.isdisjoint(key)]
        # After a break others than we knew may be there already. Without one they take the place of those who left.
        listed = 0 if relisted else sum(one.state is State.SERVING for one in self._listed.values())
        return self._departures.add({key: self._endpoints[key].instance for key in leaving}, present, listed)

    def _reconcile(self, doubted: Mapping[Key, Instance] = MappingProxyType({})) -> Changes[E]:
        """Give an endpoint to each instance that is to have one, and to no other."""
        self._changed = True
        chosen, successors = self._chosen(), self._names()
        retired = [key for key in self._endpoints if key not in chosen and not self._survives(key, successors)]
        wanted = {key: instance for key, instance in doubted.items() if successors.isdisjoint(key)}
        wanted |= {key: self._listed[key] for key in chosen}
        opened = [key for key in wanted if key not in self._endpoints]
        for key in opened:
            self._endpoints[key] = endpoint = self._make_endpoint(wanted[key])
            endpoint.record = self._detector.enter(key)
            if (departed := self._departed.pop(key, None)) is not None:
                endpoint.load.adopt(departed)
        self._doubted.intersection_update(self._endpoints)  # who has a successor gets no other chance
        return Changes(tuple(self._endpoints[key] for key in opened), tuple(self._remove(key) for key in retired))

    def _chosen(self) -> Collection[Key]:
        """Those listed that are to have an endpoint: all, or with a bound this client's own few."""
        if self.rules.max_endpoints is None:
            return self._listed
        serving = [instance for instance in self._listed.values() if instance.state is State.SERVING]
        self._failed = failed = {key for key in self._endpoints if not self._may_connect(key)}
        near = nearest(serving, self.rules.subset_key, self.rules.max_endpoints, zone=self.rules.zone, failed=failed)
        finishing = [key for key in self._endpoints if key in self._listed and not self._is_serving(key)]
        return dict.fromkeys([*map(_key, near), *finishing])

    def _names(self) -> set[str]:
        """The ids and the addresses that are listed."""
        return {name for key in self._listed for name in key}

    def _may_connect(self, key: Key) -> bool:
        return self._endpoints[key].connectivity is not ChannelConnectivity.TRANSIENT_FAILURE

    def _survives(self, key: Key, successors: set[str]) -> bool:
        return key in self._doubted and self._may_connect(key) and successors.isdisjoint(key)

    def _remove(self, key: Key) -> E:
        self._doubted.discard(key)
        self._ready.pop(key, None)
        self._selection.lost(self._endpoints[key])
        self._detector.leave(key)
        endpoint = self._endpoints.pop(key)
        self._suspects.forget(endpoint)
        self._departed[key] = endpoint.load
        if len(self._departed) > _REMEMBERED_AT_MOST:
            del self._departed[next(iter(self._departed))]
        return endpoint

    def _is_serving(self, key: Key) -> bool:
        return self._endpoints[key].instance.state is State.SERVING

    # What calls and probes tell

    def failed(self, endpoint: E) -> bool:
        """An attempt at `endpoint` failed, in a way for which it may be to blame. Whether it was ejected for that."""
        ejected = self._detector.failed(endpoint.record, self._clock())
        self._changed |= ejected
        return ejected

    def tick(self) -> list[E]:
        """Do what is due by now, some times a second: end and begin ejections, warm up. Returns whose ejection did."""
        now = self._clock()
        self._changed |= self._selection.is_warming
        if now < self._next_sweep:
            return []
        self._next_sweep = now + self._detector.settings.interval
        before = {key for key, endpoint in self._endpoints.items() if endpoint.record.ejected}
        self._changed |= self._detector.sweep(now)
        return [one for key, one in self._endpoints.items() if one.record.ejected is not (key in before)]

    def machine_lost(self, endpoint: E) -> list[E]:
        """The machine of `endpoint` seems to be gone: the others there, not to be picked until they have answered."""
        suspects = self._suspects.add(endpoint, self._ready.values())
        self._changed |= bool(suspects)
        return suspects

    def is_suspect(self, endpoint: E) -> bool:
        """Whether it is still to be asked; not if it has lost its connection, since the next one is proof enough."""
        return endpoint in self._suspects

    def answered(self, endpoint: E) -> None:
        """A suspect has answered."""
        self._changed |= self._suspects.forget(endpoint)

    # Picks

    def pick(self, call: CallInfo) -> E | None:
        """An endpoint for `call`, or None if there is none to pick now; then `outlook` says what may be hoped for."""
        if self._changed:
            self._renew_picker()
        if self._picker is None:
            return None
        endpoint: E | None = self._picker.pick(call)
        if endpoint is None:
            raise TypeError(f"{self._picker!r} picked None, which is none of its candidates")
        return endpoint

    def pick_another(self, call: CallInfo, tried: Collection[E], full: Collection[E] = ()) -> E | None:
        """As `pick`, but none of those; rather one that is ejected or suspect than none, if all others were tried."""
        if self._changed:
            self._renew_picker()
        excluded = {*tried, *full} if full else tried
        endpoint: E | None = None
        if self._picker is not None:
            endpoint = self._selection.pick_excluding(call, excluded)
        if endpoint is None and all(one in tried for one in self._selection.candidates):
            left = [one for one in self._serving() if one not in excluded]
            endpoint = self._selection.picker_of(left).pick(call) if left else None
        return endpoint

    def owner(self, call: CallInfo) -> E | None:
        """As `Selection.owner`, among those that may be picked now."""
        if self._changed:
            self._renew_picker()
        return self._selection.owner(call)

    @property
    def eligible(self) -> tuple[Instance, ...]:
        """The instances that may be picked now."""
        if self._changed:
            self._renew_picker()
        return self._selection.instances

    def _renew_picker(self) -> None:
        """Make a new picker if there is anything new for it; a picker half through its cycle is worth keeping."""
        # Of those that are listed: a doubted endpoint adds to what is available, never to what should be.
        registered = [
            instance
            for key, instance in self._listed.items()
            if key in self._endpoints and instance.state is State.SERVING
        ]
        self._picker = self._selection.picker(self._eligible(), registered, self._clock())
        self._changed = False  # not before that: a policy of somebody's own may fail, and is to be asked again

    def _serving(self) -> list[E]:
        return [endpoint for key, endpoint in self._ready.items() if self._is_serving(key)]

    def _eligible(self) -> list[E]:
        serving = self._serving()
        left = [one for one in serving if not one.record.ejected and one not in self._suspects]
        return serving if panics(len(left), len(serving)) else left

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

    def explain(self, call: CallInfo, full: Collection[E] = (), tried: Collection[E] = ()) -> list[Considered]:
        """Every instance that is known, and why it may be picked or not; `full` are at their limit."""
        if self._changed:
            self._renew_picker()
        scores, candidates = self._selection.scores(call), set(self._selection.candidates)
        rows = [
            Considered.of(one, "; ".join(self._objections(one, one in candidates, full, tried)), scores.get(one))
            for one in self._endpoints.values()
        ]
        return rows + [Considered.unopened(one) for key, one in self._listed.items() if key not in self._endpoints]

    def _objections(self, endpoint: E, candidate: bool, full: Collection[E], tried: Collection[E]) -> Iterator[str]:
        if endpoint in tried:
            yield "this call has tried it"
        if endpoint in full:
            yield "at its limit of outstanding calls"
        if candidate:
            return
        if endpoint.instance.state is not State.SERVING:
            yield endpoint.instance.state.value
        if endpoint.connectivity is not ChannelConnectivity.READY:
            state = endpoint.connectivity.name.lower().replace("_", " ")
            yield f"{state}: {endpoint.error}" if endpoint.error else state
        if endpoint.record.ejected:
            yield f"ejected for {max(0.0, self._detector.ends(endpoint.record) - self._clock()):.0f} s more"
        if endpoint in self._suspects:
            yield f"its host {endpoint.instance.host} seems to be gone"

    @property
    def stale_for(self) -> float:
        """Seconds for which the registry was not heard of; 0 if what is known is current."""
        stale = isinstance(self._resolution, Snapshot) and self._resolution.stale
        return self._clock() - self._stale_since if stale else 0.0

    def describe(self) -> str:
        """Why there is no endpoint to pick, for a person: the service, its endpoints, the age of what is known."""
        return describe(self.service, self._resolution, self.endpoints, self.stale_for)

    def __repr__(self) -> str:
        doubted = f", {len(self._doubted)} doubted" if self._doubted else ""
        ejected = sum(endpoint.record.ejected for endpoint in self._endpoints.values())
        out = f", {ejected} ejected" if ejected else ""
        ready = len(self._serving())
        return f"<Balancer {self.service!r}: {ready} of {len(self._endpoints)} ready{doubted}{out}>"


def _key(instance: Instance) -> Key:
    return instance.id, instance.address
