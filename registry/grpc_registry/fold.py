"""A snapshot and what changed since make the next snapshot. Pure: no clock, no I/O, no state.

The promise that everything else leans on: folding the changes after revision R into the snapshot of R gives what a
fresh list would give (a property test holds it to that).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from grpc_registry.instance import Instance, Snapshot


@dataclass(frozen=True, slots=True)
class Put:
    """The instance appeared, or is now as given here."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Removed:
    """The instance went away, or what is registered under its id cannot be read any more."""

    service: str
    id: str


Change = Put | Removed


def snapshot_of(service: str, revision: int, instances: Iterable[Instance]) -> Snapshot:
    """A snapshot with its instances ordered by service and id, so that equal knowledge makes equal snapshots."""
    ordered = sorted(instances, key=lambda instance: (instance.service, instance.id))
    return Snapshot(service, revision, tuple(ordered))


def fold(snapshot: Snapshot, changes: Iterable[Change], revision: int) -> Snapshot:
    """The snapshot at `revision`, after `changes` in the order in which they happened."""
    known = {(instance.service, instance.id): instance for instance in snapshot.instances}
    for change in changes:
        match change:
            case Put(instance):
                known[instance.service, instance.id] = instance
            case Removed(service, instance_id):
                known.pop((service, instance_id), None)
    return replace(snapshot_of(snapshot.service, revision, known.values()), stale=snapshot.stale)
