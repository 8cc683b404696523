"""Reading what is in the store."""

from __future__ import annotations

import logging

import pytest

from grpc_registry import Instance
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.reader import Reader
from grpc_registry.etcd.watch import Deleted, Event
from grpc_registry.fold import Put, Removed

GOOD = KeyValue(b"mesh/s/a", b'{"Addr":"h:1"}', 1, 0)
BAD = KeyValue(b"mesh/s/b", b"{", 2, 0)
ODD = KeyValue(b"mesh/s/c", b'{"Addr":"h:3","Metadata":{"weight":-1}}', 3, 0)


def test_one_bad_value_hides_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neighbours of a garbled value are found; the garbled one is logged once, and again when it is another."""
    reader = Reader(Keyspace("mesh"))
    for _ in range(3):
        assert [instance.id for instance in reader.instances([BAD, GOOD, ODD])] == ["a", "c"]
    reader.instances([KeyValue(BAD.key, BAD.value, 9, 0)])
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in messages] == [
        "registry key 'mesh/s/b' skipped",
        "registry key 'mesh/s/c' read with defaults",
        "registry key 'mesh/s/b' skipped",
    ]


def test_events_are_changes() -> None:
    """A readable put is an instance, a deletion or an unreadable put removes one, and other keys are nobody."""
    reader = Reader(Keyspace("mesh"))
    events: list[Event] = [
        GOOD,
        BAD,
        Deleted(b"mesh/s/a", 4),
        Deleted(b"mesh/s", 5),
        KeyValue(b"mesh/s/a/b", b"", 6, 0),
    ]
    assert reader.changes(events) == [Put(Instance("s", "h:1", id="a")), Removed("s", "b"), Removed("s", "a")]
