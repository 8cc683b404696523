"""The keys that stand beside an instance's own, for the clients of other frameworks. Pure.

The own key decides: it is what is read, edited, watched and fought for, and whatever is written or removed there is
written or removed beside it in the same transaction, on the same lease. What stands at a companion is never looked at.

Other formats have no word for `draining`. An instance that drains is not to be picked, and what their clients do not
find they do not pick: so it has no companions as long as it drains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.formats import Format
from grpc_registry.instance import Instance, State


@dataclass(frozen=True, slots=True)
class Companions:
    """What instances are written as, beside our own format."""

    formats: tuple[Format, ...] = ()

    def of(self, instance: Instance, lease: int) -> dict[bytes, bytes]:
        """What must stand beside `instance`: value by key. Raises `InvalidInstance` if a format cannot say it."""
        if instance.state is State.DRAINING:
            return {}
        keys = (form.key(instance.service, instance.id, lease) for form in self.formats)
        return dict(zip(keys, (form.value(instance) for form in self.formats), strict=True))

    def outdated(self, instance: Instance, told: Instance | None) -> bool:
        """Whether there are companions, and what they were last told (None: not known) is not `instance`."""
        return bool(self.formats) and instance != told

    def check(self, instance: Instance, others: Iterable[Instance]) -> None:
        """Raises `InvalidInstance` if `instance` cannot be had in a format, beside `others` on the same lease."""
        if not self.formats:
            return
        for form in self.formats:
            form.value(instance)
        keys = self.keys(instance.service, instance.id, {0})
        for other in others:
            if keys & self.keys(other.service, other.id, {0}):
                raise InvalidInstance(
                    f"{instance.service}/{instance.id} has the key of {other.service}/{other.id} in another format: "
                    "go-zero knows one instance of a service a lease, so register it by a registry of its own"
                )

    def keys(self, service: str, instance_id: str, leases: Iterable[int]) -> set[bytes]:
        """All that may stand beside an instance that was registered under `leases`."""
        return {form.key(service, instance_id, lease) for form in self.formats for lease in leases}
