"""gRPC services made up by tests, with a rule on who may call each RPC, and no generated code."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import descriptor_pool, wrappers_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodOptions
from google.protobuf.message import Message

from shop.access.v1 import access_pb2
from shop.access.v1.access_pb2 import Access

ANYONE = Access(anyone=True)


def add_service(
    name: str, rules: Mapping[str, Access | None], request: type[Message] = wrappers_pb2.StringValue
) -> ServiceDescriptor:
    """Make the service `package.Service` known, with an RPC for each of `rules`; None: without a rule."""
    package, _, short = name.rpartition(".")
    file = FileDescriptorProto(name=f"{name}.proto", package=package, syntax="proto3")
    file.dependency.extend(sorted({request.DESCRIPTOR.file.name, access_pb2.DESCRIPTOR.name}))
    service = file.service.add(name=short)
    for rpc, rule in rules.items():
        options = MethodOptions()
        if rule is not None:
            options.Extensions[access_pb2.access].CopyFrom(rule)
        message = f".{request.DESCRIPTOR.full_name}"
        service.method.add(name=rpc, input_type=message, output_type=message, options=options)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(name)
