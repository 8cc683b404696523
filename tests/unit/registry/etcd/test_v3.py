"""The messages, byte for byte, and their independence."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pool

from grpc_registry.etcd import v3


def test_a_transaction_has_the_bytes_of_etcds_own_messages() -> None:
    """A comparison with revision 0 is on the wire, as a member of etcd's `oneof` is, and not left out as a default."""
    transaction = v3.TxnRequest(
        compare=[v3.Compare(key=b"k", target=v3.TARGET_MOD_REVISION, mod_revision=0)],
        success=[v3.RequestOp(request_put=v3.PutRequest(key=b"k", value=b"v", lease=7))],
    )
    compare = b"\x10\x02" + b"\x1a\x01k" + b"\x30\x00"  # target = 2, key = 3, mod_revision = 6
    put = b"\x0a\x01k" + b"\x12\x01v" + b"\x18\x07"  # key = 1, value = 2, lease = 3
    assert transaction.SerializeToString() == b"\x0a\x07" + compare + b"\x12\x0a" + b"\x12\x08" + put


def test_a_response_with_fields_that_we_do_not_know_is_read() -> None:
    """Fields of etcd's that are left out of our subset do no harm."""
    header = b"\x08\x01" + b"\x10\x02" + b"\x18\x2a" + b"\x20\x03"  # cluster, member, revision = 42, term
    event = b"\x08\x01" + b"\x12\x05" + b"\x0a\x01k" + b"\x18\x2a"  # DELETE of k at 42
    response = v3.WatchResponse.FromString(
        b"\x0a" + bytes([len(header)]) + header + b"\x10\x05" + b"\x5a" + bytes([len(event)]) + event
    )
    assert response.header.revision == 42
    assert [(e.type, e.kv.key, e.kv.mod_revision) for e in response.events] == [(v3.EVENT_DELETE, b"k", 42)]


def test_nothing_is_registered_where_others_register() -> None:
    """The default descriptor pool stays as it was, so another etcd client in the process can have its own messages."""
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName(v3.WatchRequest.DESCRIPTOR.full_name)
