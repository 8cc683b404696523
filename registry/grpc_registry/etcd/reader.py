"""From what is in the store to instances and changes; what cannot be read is said once and passed over."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.formats import Format
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.watch import Event
from grpc_registry.fold import Change, Put, Removed, fold, snapshot_of
from grpc_registry.instance import Instance, Snapshot

logger = logging.getLogger(__name__)

_REMEMBERED = 1000


class Reader:
    """Reads keys of one keyspace, or of another format.

    A key's problem is logged when it is new, not with every list that finds it again.
    """

    def __init__(self, keyspace: Keyspace | Format) -> None:
        self._keyspace = keyspace
        self._said: OrderedDict[bytes, int] = OrderedDict()  # the revision that was complained about; the oldest first

    def listed(self, service: str, revision: int, found: Iterable[KeyValue]) -> Snapshot:
        """The snapshot of `service` at `revision`, from all that was found at its keys."""
        return snapshot_of(service, revision, self.instances(found))

    def folded(self, known: Snapshot, events: Sequence[Event]) -> Snapshot:
        """The snapshot after `events`, of which there is at least one."""
        return fold(known, self.changes(events), events[-1].mod_revision)

    def instances(self, found: Iterable[KeyValue]) -> list[Instance]:
        """The instances among `found`, in its order."""
        return [instance for kv in found if (instance := self.instance(kv)) is not None]

    def instance(self, kv: KeyValue) -> Instance | None:
        """The instance at a key, or None if it cannot be read."""
        try:
            service, instance_id = self._keyspace.parse(kv.key)
            decoded = self._keyspace.decode(service, instance_id, kv.value)
        except InvalidInstance as error:
            self._say(kv, "skipped: %s", str(error))
            return None
        if decoded.problems:
            self._say(kv, "read with defaults: %s", "; ".join(decoded.problems))
        return decoded.instance

    def changes(self, events: Iterable[Event]) -> list[Change]:
        """What `events` mean. An instance overwritten by something unreadable is removed, as a list has it."""
        return [change for event in events if (change := self._change(event)) is not None]

    def _change(self, event: Event) -> Change | None:
        if isinstance(event, KeyValue) and (instance := self.instance(event)) is not None:
            return Put(instance)
        try:
            return Removed(*self._keyspace.parse(event.key))
        except InvalidInstance:
            return None  # never was an instance

    def _say(self, kv: KeyValue, template: str, problem: str) -> None:
        if self._said.get(kv.key) == kv.mod_revision:
            return
        self._said[kv.key] = kv.mod_revision
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        logger.warning("registry key %r " + template, kv.key.decode(errors="replace"), problem)
