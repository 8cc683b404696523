"""Folding events into snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from grpc_registry import Instance, Snapshot
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.naming import encode
from grpc_registry.etcd.reader import Reader
from grpc_registry.etcd.watch import Deleted, Event
from grpc_registry.fold import Change, Put, Removed, fold, snapshot_of

KEYS = Keyspace("mesh")


def test_changes_apply_in_order() -> None:
    """An instance that is put, changed and removed leaves what the last change of each id says, ordered by id."""
    a, b = Instance("s", "h:1", id="a"), Instance("s", "h:2", id="b")
    heavy = Instance("s", "h:1", id="a", weight=200)
    start = snapshot_of("s", 1, [b])
    changes: list[Change] = [Put(a), Removed("s", "b"), Put(heavy), Put(b), Removed("s", "unknown")]
    assert fold(start, changes, 6) == Snapshot("s", 6, (heavy, b))


@dataclass
class Store:
    """A model of etcd: one key space, a revision, and the history of events."""

    revision: int = 1
    entries: dict[bytes, KeyValue] = field(default_factory=dict)
    history: list[Event] = field(default_factory=list)

    def put(self, key: bytes, value: bytes) -> None:
        self.revision += 1
        self.entries[key] = KeyValue(key, value, self.revision, lease=0)
        self.history.append(self.entries[key])

    def delete(self, key: bytes) -> None:
        if self.entries.pop(key, None) is not None:
            self.revision += 1
            self.history.append(Deleted(key, self.revision))

    def list(self) -> Snapshot:
        return snapshot_of("s", self.revision, Reader(KEYS).instances(self.entries.values()))


keys = st.sampled_from([*(KEYS.instance("s", i) for i in "abc"), b"mesh/s/", b"mesh/s/a/b", b"mesh/s/\xff"])
values = st.one_of(
    st.builds(
        lambda port, weight: encode(Instance("s", f"h:{port}", id="x", weight=weight)),
        st.integers(1, 9),
        st.integers(1, 3),
    ),
    st.sampled_from([b"", b"{", b"[]", b'{"Addr":5}', b'{"Addr":"h:1","Metadata":"text"}', b'{"Addr":"h:1"}']),
)
steps = st.lists(st.tuples(keys, st.one_of(st.none(), values)), max_size=30)


def run(store: Store, operations: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in operations:
        if value is None:
            store.delete(key)
        else:
            store.put(key, value)


@given(before=steps, after=steps, batch=st.integers(1, 5))
def test_folding_equals_a_fresh_list(
    before: list[tuple[bytes, bytes | None]], after: list[tuple[bytes, bytes | None]], batch: int
) -> None:
    """Whatever happens to good and garbled keys, the folded snapshot is the one that a list gives."""
    store = Store()
    run(store, before)
    snapshot, seen = store.list(), len(store.history)
    run(store, after)
    reader, events = Reader(KEYS), store.history[seen:]
    for start in range(0, len(events), batch):
        part = events[start : start + batch]
        snapshot = fold(snapshot, reader.changes(part), part[-1].mod_revision)
    assert snapshot == store.list()
