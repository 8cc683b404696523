"""How far a watch has come."""

from __future__ import annotations

from typing import Any

import pytest

from grpc_registry import RegistryUnavailable
from grpc_registry.etcd import v3
from grpc_registry.etcd.failures import Compacted, StaleToken
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.watch import Cursor, Deleted, Event


def response(revision: int, *events: Event, **fields: Any) -> Any:
    message = v3.WatchResponse(header={"revision": revision}, **fields)
    for event in events:
        if isinstance(event, Deleted):
            message.events.add(type=v3.EVENT_DELETE, kv={"key": event.key, "mod_revision": event.mod_revision})
        else:
            message.events.add(kv={"key": event.key, "value": event.value, "mod_revision": event.mod_revision})
    return message


def put(key: bytes, revision: int) -> KeyValue:
    return KeyValue(key, b"v", revision, lease=0)


def test_events_come_once_and_in_order() -> None:
    """What was given already (as after a change of member) is not given again."""
    cursor = Cursor(5)
    assert cursor.take(response(7, created=True)) == ()
    assert cursor.take(response(6, put(b"a", 5), Deleted(b"b", 6))) == (put(b"a", 5), Deleted(b"b", 6))
    assert cursor.take(response(7, put(b"a", 5), put(b"c", 7))) == (put(b"c", 7),)
    assert cursor.next_revision == 8


def test_a_header_says_nothing_about_how_far_we_have_read() -> None:
    """Neither the created response nor a progress report moves the place of the watch: events may be on their way."""
    cursor = Cursor(5)
    cursor.take(response(100, created=True))
    cursor.take(response(200))
    assert cursor.take(response(200, put(b"a", 5))) == (put(b"a", 5),)


def test_fragments_belong_together() -> None:
    """The events of a response in fragments are given when it is whole."""
    cursor = Cursor(5)
    assert cursor.take(response(5, put(b"a", 5), fragment=True)) == ()
    assert cursor.take(response(5, put(b"b", 5), fragment=True)) == ()
    assert cursor.take(response(5, put(b"c", 5))) == (put(b"a", 5), put(b"b", 5), put(b"c", 5))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"canceled": True, "compact_revision": 9}, Compacted),
        ({"canceled": True, "created": True, "cancel_reason": "etcdserver: permission denied"}, StaleToken),
        ({"canceled": True, "cancel_reason": "etcdserver: invalid auth token"}, StaleToken),
        ({"canceled": True, "cancel_reason": "etcdserver: no leader"}, RegistryUnavailable),
        ({"canceled": True}, RegistryUnavailable),
    ],
)
def test_the_end_of_a_watch_is_noticed_on_an_open_stream(fields: dict[str, Any], error: type[Exception]) -> None:
    """etcd leaves the stream open when it ends a watch, so every response is asked whether it does."""
    with pytest.raises(error):
        Cursor(5).take(response(9, **fields))


def test_a_store_that_went_back_is_noticed() -> None:
    """A store whose revision is before the one we listed was wiped or restored; one that stands still is fine."""
    assert Cursor(5).take(response(4, created=True)) == ()
    with pytest.raises(Compacted, match="went back to revision 3"):
        Cursor(5).take(response(3, created=True))
