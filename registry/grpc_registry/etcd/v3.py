"""The messages and RPCs of etcd's v3 API that a registry needs, wire-compatible with etcd's own.

They are built from the text below when this module is imported, and not by protoc, for three reasons: generated code
refuses a protobuf runtime older than its generator, while a library must take what its users have; a descriptor pool of
our own cannot clash with another etcd client that registered `rpc.proto`; and there is nothing to build, so an editable
install, a wheel and a checkout are the same. The price is that message types are dynamic: they are `Any` to the type
checker, and no message leaves this package (`kv`, `lease` and `watch` turn them into values with types).

The text is proto2 on purpose: it gives every field presence, which is what the members of etcd's `oneof`s have, and
otherwise both syntaxes are the same bytes. Enumerations are written as the integers that they are on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "grpc_registry.etcd.v3"

_MESSAGES = """
message KeyValue { bytes key = 1; int64 mod_revision = 3; bytes value = 5; int64 lease = 6; }
message Event { int32 type = 1; KeyValue kv = 2; }
message ResponseHeader { int64 revision = 3; }

message RangeRequest { bytes key = 1; bytes range_end = 2; int64 limit = 3; int64 revision = 4; }
message RangeResponse { ResponseHeader header = 1; repeated KeyValue kvs = 2; bool more = 3; }
message PutRequest { bytes key = 1; bytes value = 2; int64 lease = 3; }
message PutResponse { ResponseHeader header = 1; }
message DeleteRangeRequest { bytes key = 1; bytes range_end = 2; }
message DeleteRangeResponse { ResponseHeader header = 1; int64 deleted = 2; }

message Compare { int32 result = 1; int32 target = 2; bytes key = 3; int64 mod_revision = 6; int64 lease = 8; }
message RequestOp { PutRequest request_put = 2; DeleteRangeRequest request_delete_range = 3; }
message TxnRequest { repeated Compare compare = 1; repeated RequestOp success = 2; }
message TxnResponse { ResponseHeader header = 1; bool succeeded = 2; }

message LeaseGrantRequest { int64 TTL = 1; }
message LeaseGrantResponse { int64 ID = 2; int64 TTL = 3; }
message LeaseRevokeRequest { int64 ID = 1; }
message LeaseRevokeResponse { ResponseHeader header = 1; }
message LeaseKeepAliveRequest { int64 ID = 1; }
message LeaseKeepAliveResponse { int64 ID = 2; int64 TTL = 3; }
message LeaseTimeToLiveRequest { int64 ID = 1; }
message LeaseTimeToLiveResponse { int64 ID = 2; int64 TTL = 3; int64 grantedTTL = 4; }

message WatchCreateRequest { bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool fragment = 8; }
message WatchRequest { WatchCreateRequest create_request = 1; }
message WatchResponse {
  ResponseHeader header = 1; bool created = 3; bool canceled = 4; int64 compact_revision = 5;
  string cancel_reason = 6; bool fragment = 7; repeated Event events = 11;
}

message AuthenticateRequest { string name = 1; string password = 2; }
message AuthenticateResponse { string token = 2; }
"""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}


def _fields(text: str) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    for repeated, kind, name, number in re.findall(r"(repeated )?(\w+) (\w+) = (\d+);", text):
        field = _Field(name=name, number=int(number))
        field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        yield field


def _build(text: str) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="grpc_registry/etcd/v3.proto", package=_PACKAGE, syntax="proto2")
    for name, body in re.findall(r"message (\w+) \{([^}]*)\}", text):
        file.message_type.add(name=name).field.extend(_fields(body))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptors = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in descriptors.items()}


_CLASSES = _build(_MESSAGES)

RangeRequest = _CLASSES["RangeRequest"]
PutRequest = _CLASSES["PutRequest"]
DeleteRangeRequest = _CLASSES["DeleteRangeRequest"]
Compare = _CLASSES["Compare"]
RequestOp = _CLASSES["RequestOp"]
TxnRequest = _CLASSES["TxnRequest"]
LeaseGrantRequest = _CLASSES["LeaseGrantRequest"]
LeaseRevokeRequest = _CLASSES["LeaseRevokeRequest"]
LeaseKeepAliveRequest = _CLASSES["LeaseKeepAliveRequest"]
LeaseTimeToLiveRequest = _CLASSES["LeaseTimeToLiveRequest"]
WatchCreateRequest = _CLASSES["WatchCreateRequest"]
WatchRequest = _CLASSES["WatchRequest"]
WatchResponse = _CLASSES["WatchResponse"]
AuthenticateRequest = _CLASSES["AuthenticateRequest"]

# Compare.target, Compare.result and Event.type, as etcd numbers them; EQUAL and PUT are 0 as well.
TARGET_MOD_REVISION = 2
TARGET_LEASE = 4
EVENT_DELETE = 1


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of etcd. All that stream are bidirectional."""

    path: str
    request: Any
    response: Any
    streams: bool = False


def _rpc(service: str, method: str, *, message: str = "", streams: bool = False) -> Rpc:
    message = message or method
    request, response = _CLASSES[f"{message}Request"], _CLASSES[f"{message}Response"]
    return Rpc(f"/etcdserverpb.{service}/{method}", request, response, streams)


RANGE = _rpc("KV", "Range")
TXN = _rpc("KV", "Txn")
LEASE_GRANT = _rpc("Lease", "LeaseGrant")
LEASE_REVOKE = _rpc("Lease", "LeaseRevoke")
LEASE_KEEP_ALIVE = _rpc("Lease", "LeaseKeepAlive", streams=True)
LEASE_TIME_TO_LIVE = _rpc("Lease", "LeaseTimeToLive")
WATCH = _rpc("Watch", "Watch", streams=True)
AUTHENTICATE = _rpc("Auth", "Authenticate")
